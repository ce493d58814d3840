#!/bin/sh
# SPDX-License-Identifier: MIT
# The whole of it, with a broker of its own: every verdict agrees, every attempt to write code is refused.
set -u
pcapjit=$1
mkcapture=$2
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
failures=0

# check OPTIONS EXPRESSION
check() {
    # shellcheck disable=SC2086 # options are words
    "$pcapjit" --private-broker --rounds=1 $1 "$directory/some.pcap" "$2" >"$directory/output" 2>&1
    status=$?
    if [ "$status" -ne 0 ] || ! grep -qx "mismatches: 0" "$directory/output" ||
        ! grep -q "^attempts: .* code unchanged" "$directory/output" || grep -q "NOT REFUSED" "$directory/output"; then
        echo "FAIL: pcapjit $1 '$2': exit status $status"
        cat "$directory/output"
        failures=$((failures + 1))
    fi
}

"$mkcapture" "$directory/some.pcap" 20000 || exit 1
while read -r expression; do
    check "" "$expression"
done <<'EXPRESSIONS'
tcp port 80
udp portrange 5000-6000
ip6 and icmp6
vlan 10 and tcp[tcpflags] & tcp-syn != 0
host 192.0.2.1 or ip6 net 2001:db8::/32
ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0
ip[6:2] & 0x1fff != 0
ip[4:2] / (ip[8] - 64) > 3
(1 << ip[8]) = 0
ip6 protochain 6
len > 1000 and ether[len - 1] = 0
EXPRESSIONS
check "--no-optimize" "ip[4:2] % ip[1] = 1 or (tcp[20:4] = 0x47455420)"
check "--direct" "tcp port 443"

[ "$failures" -eq 0 ]
