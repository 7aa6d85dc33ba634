#!/usr/bin/env bash
# Builds sendq for other platforms, and runs its tests where they can run here. One line says for each what was done.
#
#   x86_64-unknown-linux-musl    built with musl-gcc; the Rust and C tests run natively
#   aarch64-unknown-linux-gnu    cross-compiled; the Rust and C tests run under qemu-user
#   aarch64-apple-darwin         checked by the compiler: there is no linker, no SDK and no such machine here
#   x86_64-unknown-freebsd       the same
#
# What the run under qemu-user proves: the code is right for this ABI (structs, system calls, alignment), for what LLVM
# makes of the atomics there, and for threads that qemu runs in parallel. What it does not prove: that each
# acquire and release is there. qemu makes an x86 instruction of each Arm one, and x86 does not reorder what an Arm
# processor may, except a store with a later load. An ordering that is missing shows here only if a compiler used
# it. Interleavings are explored by models, and data races by ThreadSanitizer.
#
# No Rust standard library for these targets is at hand: cargo builds it (-Zbuild-std) from Debian's source package.
# So this needs Debian's compiler, too, which has the same version. Exits with 77 if a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export PROPTEST_CASES=${PROPTEST_CASES:-1000}
# Optimized, for qemu's sake, but soon compiled.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

out=$PWD/build/platforms
compiled_only=(aarch64-apple-darwin x86_64-unknown-freebsd)
unwind=(/usr/lib/llvm-*/lib/libunwind.a)

skip() {
    echo "$1 is missing" >&2
    exit 77
}

for tool in "$CARGO" "$RUSTC" cmake ninja musl-gcc aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$tool" >/dev/null || skip "$tool"
done
[[ -f $("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]] || skip "rust-web-src"
[[ -f ${unwind[0]} ]] || skip "libunwind.a of LLVM"

# Rust looks for its unwinder in libgcc_s on musl, where Debian has none. LLVM's is made for glibc, of which it
# needs one function that musl does not have.
prepare_musl() {
    mkdir -p "$out/unwind"
    cp "${unwind[0]}" "$out/unwind/libgcc_s.a"
    musl-gcc -O2 -c -x c -o "$out/unwind/fprintf_chk.o" - <<'C'
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *file, int level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vfprintf(file, format, arguments);
    va_end(arguments);
    return (void)level, written;
}
C
    ar r "$out/unwind/libgcc_s.a" "$out/unwind/fprintf_chk.o" 2>/dev/null
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-Ctarget-feature=-crt-static -Lnative=$out/unwind"
}

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"

# C tests that cannot run under qemu-user.
under_qemu=(
    c_memory # the resident memory is qemu's, too, which keeps 2 MiB for 256 MiB that were mapped and unmapped
)

# The Rust tests of a target, and then its C tests, without those named last. Not those of tests/producer, a search through one thread's orders
# that takes long under qemu, and of the header, which is the same text everywhere.
run_tests() {
    local target=$1 preset=$2 libraries=$3 without
    without=$(IFS='|' && echo "${*:4}")
    "$CARGO" test --locked --quiet --release -Zbuild-std=std,panic_unwind,test \
        --target "$target" --target-dir "$out" --lib --test flush --test records --test model >&2
    cmake --preset "$preset" -DSENDQ_CARGO_FLAGS=-Zbuild-std=std,panic_unwind,test \
        -DSENDQ_CARGO_TARGET_DIR="$out" -DCMAKE_C_STANDARD_LIBRARIES="$libraries" >&2
    cmake --build --preset "$preset" >&2
    ctest --preset "$preset" -E "^(${without:-none})\$" >&2
    printf '%-27s compiled, Rust and C tests run%s\n' "$target" "${without:+, but not $without}"
}

prepare_musl
run_tests x86_64-unknown-linux-musl musl "-L$out/unwind -lgcc_s"
run_tests aarch64-unknown-linux-gnu aarch64 "" "${under_qemu[@]}"
"$CARGO" check --locked --quiet --release --lib --tests -Zbuild-std=std,panic_unwind,test --target-dir "$out" \
    "${compiled_only[@]/#/--target=}"
printf '%-27s compiled\n' "${compiled_only[@]}"
