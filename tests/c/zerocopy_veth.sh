#!/bin/sh
# zerocopy_veth.sh PROGRAM  runs it with its peer in a network namespace behind a veth pair. Exits with 77 where that is
#                           not allowed.
set -eu
name=sendq-$$
ip netns add "$name" 2>/dev/null || exit 77
trap 'ip netns del "$name"' EXIT
ip link add "sq$$a" type veth peer name "sq$$b" netns "$name" 2>/dev/null || exit 77
ip addr add 10.213.78.1/30 dev "sq$$a"
ip link set "sq$$a" up
ip -n "$name" addr add 10.213.78.2/30 dev "sq$$b"
ip -n "$name" link set "sq$$b" up
"$1" "/run/netns/$name" 10.213.78.2
