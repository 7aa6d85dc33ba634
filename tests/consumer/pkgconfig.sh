#!/bin/sh
# pkgconfig.sh LIBDIR shared|static COMPILER SOURCE PROGRAM
#
# Compiles SOURCE with what pkg-config says about the sendq below LIBDIR, and runs it.
set -eu
libdir=$1 linkage=$2 compiler=$3 source=$4 program=$5
export PKG_CONFIG_PATH="$libdir/pkgconfig"
static=
if [ "$linkage" = static ]; then
    static=-static
fi
# Unquoted: both are words for the command line.
# shellcheck disable=SC2046,SC2086
"$compiler" $static "$source" -o "$program" $(pkg-config ${static:+--static} --cflags --libs sendq)
LD_LIBRARY_PATH="$libdir" "$program"
