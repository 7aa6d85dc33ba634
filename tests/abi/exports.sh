#!/bin/sh
# exports.sh LIBRARY SONAME VERSION HEADER
#
# The library exports what the header declares, each function under VERSION, and nothing else; it
# has that SONAME, needs the C library only, and can be mapped without being written to.
set -eu
library=$1 soname=$2 version=$3 header=$4
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

same() { # WHAT EXPECTED ACTUAL
    diff -u --label "$1: expected" --label "$1: actual" "$2" "$3" || failed=1
}

# The preprocessor knows what is a comment: this does not repeat how the version script was made. What is inline
# is not exported.
"${CC:-cc}" -E -P "$header" | sed '/^static inline/,/^}/d' | grep -o '\<sendq_[a-z0-9_]*(' | sed "s/(\$/@@$version/" |
    LC_ALL=C sort >"$work/declared"
nm -D --defined-only --with-symbol-versions "$library" | awk '$2 != "A" { print $3 }' |
    LC_ALL=C sort >"$work/exported"
test -s "$work/declared"
same functions "$work/declared" "$work/exported"

readelf -dW "$library" >"$work/dynamic"
echo "$soname" >"$work/soname"
sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' "$work/dynamic" | diff "$work/soname" - || failed=1

if sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" |
    grep -Ev '^(libc|libm|libgcc_s|ld-linux.*)\.so\.[0-9]+$'; then
    echo "needs more than the C library"
    failed=1
fi
if grep -q TEXTREL "$work/dynamic"; then
    echo "has text relocations"
    failed=1
fi
exit $failed
