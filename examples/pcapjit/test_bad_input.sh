#!/bin/sh
# SPDX-License-Identifier: MIT
# Mistakes of the caller end pcapjit with the right status and say what is wrong.
set -u
pcapjit=$1
mkcapture=$2
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
failures=0

# expect STATUS PATTERN ARGUMENT...: the pattern is looked for in stdout and stderr.
expect() {
    status=$1
    pattern=$2
    shift 2
    "$pcapjit" "$@" >"$directory/output" 2>&1
    found=$?
    if [ "$found" -ne "$status" ] || ! grep -q -e "$pattern" "$directory/output"; then
        echo "FAIL: pcapjit $*: exit status $found, expected $status and '$pattern' in:"
        cat "$directory/output"
        failures=$((failures + 1))
    fi
}

"$mkcapture" "$directory/good.pcap" 100 7 || exit 1
head -c 1000 "$directory/good.pcap" >"$directory/cut.pcap"
echo "not a capture at all, but long enough for a header" >"$directory/text.pcap"

expect 1 "syntax error" "$directory/good.pcap" "tcp port port"
expect 1 "inbound/outbound not supported" "$directory/good.pcap" "inbound"
expect 1 "shift by more than 31 bits" "$directory/good.pcap" "ip[0] << 32 = 0"
expect 1 "division by zero" "$directory/good.pcap" "ip[0] / 0 = 1"
expect 1 "No such file or directory" "$directory/missing.pcap" "tcp"
expect 1 "unknown file format" "$directory/text.pcap" "tcp"
expect 1 "truncated" "$directory/cut.pcap" "tcp"
expect 1 "no broker" --socket "$directory/nobody" "$directory/good.pcap" "tcp"

expect 2 "exactly a FILE and an EXPRESSION"
expect 2 "exactly a FILE and an EXPRESSION" "$directory/good.pcap"
expect 2 "exactly a FILE and an EXPRESSION" "$directory/good.pcap" tcp port 80
expect 2 "unrecognized option" --nonsense "$directory/good.pcap" tcp
expect 2 "requires an argument" --socket
expect 2 "exclude each other" --no-broker --private-broker "$directory/good.pcap" tcp
expect 2 "needs a broker" --no-broker --direct "$directory/good.pcap" tcp
expect 2 "from 1 to 1000" --rounds 0 "$directory/good.pcap" tcp
expect 2 "from 1 to 1000" --rounds 1001 "$directory/good.pcap" tcp
expect 2 "from 1 to 1000" --rounds=-1 "$directory/good.pcap" tcp

expect 0 "^Usage: pcapjit" --help
expect 0 "^pcapjit .*[0-9]" --version

"$mkcapture" "$directory/again.pcap" 100 7
"$mkcapture" "$directory/other.pcap" 100 8
if ! cmp -s "$directory/good.pcap" "$directory/again.pcap" || cmp -s "$directory/good.pcap" "$directory/other.pcap"; then
    echo "FAIL: mkcapture: the seed does not decide what is written"
    failures=$((failures + 1))
fi
[ "$failures" -eq 0 ]
