#!/bin/sh
# check.sh LIBRARY            fails if the ABI lost or changed anything since libsendq.abi was written;
#                             new functions are fine
# check.sh LIBRARY --update   writes libsendq.abi anew: with each release, and when a configuration or
#                             statistics struct has grown at its end. Any other change that this is
#                             needed for needs a new SONAME as well.
#
# Which functions there are is read from the library, their types from the header: debug information
# of the library itself is that of the Rust inside, which may change at will. Each function becomes a
# variable of its type in a model, and abidiff compares the models.
set -eu
library=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

soname=$(readelf -dW "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
{
    echo '#include <sendq/sendq.h>'
    nm -D --defined-only --with-symbol-versions "$library" |
        sed -n 's/.* T \(sendq_[a-z0-9_]*\)@@.*/__typeof__(\&\1) model_of_\1;/p'
} >"$work/model.c"
(cd "$work" && "${CC:-cc}" -g -fPIC -fno-eliminate-unused-debug-types -shared -I "$here/../../include" \
    -Wl,-soname,"$soname" model.c -o model.so)

if [ "${2-}" = --update ]; then
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed \
        --out-file "$here/libsendq.abi" "$work/model.so"
else
    abidiff --no-added-syms "$here/libsendq.abi" "$work/model.so"
fi
