#!/bin/sh
# SPDX-License-Identifier: MIT
# Locked down and without a broker there is no way to run generated code, and pcapjit says so.
set -u
pcapjit=$1
mkcapture=$2
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

"$mkcapture" "$directory/some.pcap" 100 || exit 1
"$pcapjit" --no-broker "$directory/some.pcap" "tcp port 80" >"$directory/output" 2>&1
status=$?
cat "$directory/output"
[ "$status" -eq 1 ] &&
    grep -q "without a broker there is no code to run: mprotect.*(E[A-Z]*)" "$directory/output" &&
    ! grep -q "DOES NOT HOLD" "$directory/output"
