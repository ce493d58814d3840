#!/bin/sh
# SPDX-License-Identifier: MIT
# The whole of it with a private broker: what the workers compute, that none may write, that memory is there once.
set -u
split=$1
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

fail() {
    echo "FAIL: $1"
    cat "$output"
    exit 1
}

"$split" --private-broker "2 * (x + 3) - -x" "x * x * x - 9223372036854775807" "1 +" "((((x))))" >"$output" 2>&1 ||
    fail "exit status $?"
for worker in 1 2 3 4; do
    grep -qxF "worker $worker: 2 * (x + 3) - -x = $((2 * (worker + 3) + worker))" "$output" || fail "wrong sum"
    grep -qxF "worker $worker: x * x * x - 9223372036854775807 = $((worker * worker * worker - 9223372036854775807))" \
        "$output" || fail "wrong product"
    grep -qxF "worker $worker: 1 + is no expression" "$output" || fail "nonsense was compiled"
    grep -qxF "worker $worker: ((((x)))) = $worker" "$output" || fail "wrong parentheses"
    grep -q "^worker $worker: alloc: refused by policy; write: refused by policy; mprotect: .* denied$" "$output" ||
        grep -q "^worker $worker: alloc: refused by policy; write: refused by policy; mprotect: .* not permitted$" \
            "$output" || fail "worker $worker may write"
done
grep -qx "compiler: 4 expressions compiled" "$output" || fail "compiled more than once"
grep -qx "memory: .*: it is there once" "$output" || fail "no word of memory"
JITBROKER_DAEMON=/nonexistent "$split" --private-broker >"$output" 2>&1 && fail "no broker, and no error"
exit 0
