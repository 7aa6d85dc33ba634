#!/usr/bin/env bash
# Builds sendq for x86_64-pc-windows-gnu with mingw-w64: a DLL with its import library, a static library and the CMake
# package. Runs its Rust, C and C++ tests and consumers of the package with wine. One line says for each part what was
# done. Which tests are left out stands in tests/CMakeLists.txt and tests/c/CMakeLists.txt, with the reasons.
#
# What wine proves: the code is right for this ABI and the C runtime, and for the errors of Winsock. What it does not
# prove: how a socket of Windows behaves when it is full, because wine's is one of Linux.
#
# The Rust standard library is built from Debian's source package, as in others.sh. Exits with 77 if a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export PROPTEST_CASES=${PROPTEST_CASES:-10000}
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

target=x86_64-pc-windows-gnu
out=$PWD/build/platforms
bin=$PWD/build/windows/bin
wine=/usr/lib/wine/wine64
build_std=-Zbuild-std=std,panic_unwind,test

skip() {
    echo "$1 is missing" >&2
    exit 77
}

for tool in "$CARGO" "$RUSTC" cmake ninja x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-g++-posix "$wine"; do
    command -v "$tool" >/dev/null || skip "$tool"
done
[[ -f $("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]] || skip "rust-web-src"
[[ -f /usr/src/googletest/CMakeLists.txt ]] || skip "googletest"
[[ -d /usr/include/event2 && -d /usr/include/openssl ]] || skip "libevent-dev or libssl-dev"

say() { printf '%-16s %s\n' "$1" "$2"; }

# A Windows of its own, which ends with this script. WINEPATH is where it looks for DLLs.
export WINEPREFIX=$PWD/build/wine WINEDEBUG=-all WINEPATH=$bin
unset DISPLAY
trap '"${wine%64}server64" -k || true' EXIT
"$wine" wineboot --init >&2

cmake --preset windows -DSENDQ_CARGO_FLAGS="$build_std" -DSENDQ_CARGO_TARGET_DIR="$out" >&2
cmake --build --preset windows >&2
say libraries "a DLL with its import library, and a static library"

# Of the DLL: what the header declares and nothing else, and DLLs of Windows only.
x86_64-w64-mingw32-objdump -p "$bin/libsendq.dll" >build/windows/dll
x86_64-w64-mingw32-gcc -E -P include/sendq/sendq.h | sed '/^static inline/,/^}/d' |
    grep -o '\<sendq_[a-z0-9_]*(' | tr -d '(' | LC_ALL=C sort >build/windows/declared
awk '/Name Pointer\] Table/ { on = 1; next } /^$/ { on = 0 } on { print $NF }' build/windows/dll |
    LC_ALL=C sort >build/windows/exported
diff build/windows/declared build/windows/exported >&2
system_dlls='kernel32|ntdll|ws2_32|msvcrt|userenv|dbghelp|bcryptprimitives|api-ms-win'
if grep 'DLL Name' build/windows/dll | grep -viE "$system_dlls" >&2; then
    exit 1
fi
say exports "the $(wc -l <build/windows/exported) functions of the header"

ctest --preset windows -LE 'package|header' >&2
say "C and C++ tests" "run with wine"
ctest --preset windows -L package >&2
say package "found and used by programs in C and C++, DLL and static, run with wine"
ctest --preset windows -L header >&2
say glue "libevent.h and openssl.h compile"

CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine "$CARGO" test --locked --quiet --profile model "$build_std" \
    --target "$target" --target-dir "$out" --lib --tests >&2
say "Rust tests" "run with wine, the model with $PROPTEST_CASES sequences"
