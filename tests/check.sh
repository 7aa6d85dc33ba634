# shellcheck shell=bash
# The steps of ./dev check, which sources this file.
#
# A step is a function. It succeeds, fails, or says with `skip REASON` that it cannot run on this machine. All steps
# run, also after one has failed; a table of them comes last. What a step printed is kept in build/check.

table=() passed=0 failed=0 skipped=0

skip() {
    printf '%s\n' "$*"
    exit 77
}

# run NAME FUNCTION [ARGUMENT...]
run() {
    local name=$1 begin=$SECONDS log result
    shift
    log=build/check/${name//[^A-Za-z0-9]/_}.log
    printf '\n== %s\n' "$name" >&2
    # Not as a condition: there, the shell would go on after a command that fails.
    set +e
    (set -e && "$@") 2>&1 | tee "$log" >&2
    case ${PIPESTATUS[0]} in
    0) result=passed && ((++passed)) ;;
    77) result="skipped: $(tail -n 1 "$log")" && ((++skipped)) ;;
    *) result="FAILED: $log" && ((++failed)) ;;
    esac
    set -e
    table+=("$(printf '%5d s  %-34s %s' $((SECONDS - begin)) "$name" "$result")")
}

sources() { git ls-files -z -- '*.c' '*.cc' '*.h' '*.hpp' ':!include/sendq/sendq.h'; }

# Calls a function with each of the names that come in, as many at once as there are cores.
in_parallel() {
    export -f "${1?}"
    xargs -0 -n 1 -P "$(nproc)" bash -c "$1 \"\$0\""
}

format() {
    cargo fmt --check
    cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
    sources | xargs -0 clang-format --dry-run -Werror
}

lint_rust() { cargo clippy --locked --all-targets -- -D warnings; }

lint_shell() { git ls-files -z -- dev .ci/run '*.sh' | xargs -0 shellcheck; }

tidy() {
    local standard=()
    # What gcc takes by default, and so is not told.
    [[ $1 != *.cc ]] || standard=(--extra-arg-before=-std=c++17)
    clang-tidy --quiet -p build/dev "${standard[@]}" "$1"
}

# With the checks of the clang analyzer (.clang-tidy). The headers are checked where they are included.
lint_c() {
    build dev
    git ls-files -z -- 'tests/*.c' 'tests/*.cc' ':!tests/consumer' ':!tests/tsan' \
        ':!tests/platforms' | in_parallel tidy
}

dependencies() {
    need_cargo_tool deny
    cargo deny check bans licenses sources
}

advisories() {
    need_cargo_tool deny
    cargo deny fetch db || skip "the RustSec advisory database cannot be reached"
    cargo deny check advisories
}

header() { cargo test --locked --quiet --test header; }

abi() {
    build dev sendq
    tests/abi/check.sh build/dev/libsendq.so
}

model() { PROPTEST_CASES=$1 cargo test --locked --quiet --profile model --test model; }

zerocopy() { PROPTEST_CASES=$1 cargo test --locked --quiet --profile model --test zerocopy; }

# The programs, not the compilers and interpreters that other tests run.
memcheck() {
    build dev
    ctest --test-dir build/dev -T memcheck -j "$(nproc)" -L '^(c|cpp|glue|tls)$' -E misuse --output-on-failure
}

sanitize() { cmake --workflow --preset "$1"; }

interleavings() {
    # malloc(3) overwrites what is freed, so that a use of it shows.
    MALLOC_PERTURB_=165 SENDQ_SCHEDULES=$1 RUSTFLAGS='--cfg shuttle' cargo test --locked --profile model \
        --target-dir target/shuttle --test interleavings -- --nocapture
}

# New sequences of operations, for so many seconds. One that fails is kept in tests/fuzz/artifacts.
fuzz() {
    need_cargo_tool fuzz
    mkdir -p build/fuzz
    # The stable compiler has what a nightly one offers without that. Comparisons are not traced: the bytes are
    # seeds, and no operands.
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --no-trace-compares sequences \
        build/fuzz tests/fuzz/corpus/sequences \
        -- -max_len=400 -max_total_time="$1" -seed="$PROPTEST_RNG_SEED"
}

faults() {
    build dev mcbpd mcload fanout_sendq sendq_faults
    python3 tests/fault/mill.py --bin=build/dev/tests --sendq --seeds="$1"
}

soak() {
    build dev mcbpd fanout_sendq
    python3 tests/host/soak.py --bin=build/dev/tests --seconds="$1"
}

figures() {
    build_figures
    python3 tests/bench/figures.py --bin build/release/tests
}

other_platforms() {
    need rustc-web cargo-web rust-web-src gcc-aarch64-linux-gnu g++-aarch64-linux-gnu musl-tools \
        libunwind-14-dev qemu-user
    tests/platforms/others.sh
}

windows() {
    need rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 g++-mingw-w64-x86-64 wine64 googletest \
        libevent-dev libssl-dev
    tests/platforms/windows.sh
}

steps() {
    run "format" format
    run "clippy" lint_rust
    run "shellcheck" lint_shell
    run "dependencies: licences, sources" dependencies
    run "dependencies: advisories" advisories
    run "header drift" header
    run "exported symbols, ABI" abi
    run "core against its model" model 50000
    run "sends without a copy" zerocopy 50000
    run "interleavings of threads" interleavings 5000
    run "AddressSanitizer, UBSan" sanitize asan
    run "ThreadSanitizer" sanitize tsan
    run "valgrind memcheck" memcheck
    run "figures that are counted" figures
    run "servers with faults" faults 101-150
}

# What takes long.
more_steps() {
    run "clang-tidy, clang analyzer" lint_c
    run "core against its model, longer" model 500000
    run "interleavings of threads, longer" interleavings 50000
    run "fuzzing" fuzz 60
    run "servers with faults, more seeds" faults 151-500
    run "servers for long" soak 300
    run "other platforms" other_platforms
    run "Windows" windows
}

run_check() {
    case ${1-} in
    '' | --all) ;;
    *) usage >&2 && exit 2 ;;
    esac
    mkdir -p build/check
    steps
    local which="without --all"
    [[ -z ${1-} ]] || { more_steps && which="with --all"; }
    printf '\n./dev check, %s\n' "$which"
    printf '%s\n' "${table[@]}"
    printf '\n%d passed, %d failed, %d skipped\n' $passed $failed $skipped
    ((failed == 0))
}
