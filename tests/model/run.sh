#!/bin/sh
# SPDX-License-Identifier: MIT
# Verifies the model of the ring's sleeping and waking, all states of it, and that each of its known
# mistakes is found.
#   tests/model/run.sh          small sizes: a minute, 1 GB
#   tests/model/run.sh large    ... and larger ones: three minutes, 2 GB
set -eu
model=$(cd "$(dirname "$0")" && pwd)/ring.pml
size=${1:-small}

command -v spin >/dev/null || {
    echo "skipped: spin is not installed"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
status=0

fail() {
    echo "FAIL: $*"
    status=1
}

# build "CFLAGS" "DEFINES": ./pan, which looks at all states there are.
build() {
    # shellcheck disable=SC2086 # lists of words
    spin -a $2 "$model" >spin.log 2>&1 || {
        cat spin.log
        exit 1
    }
    # shellcheck disable=SC2086
    "${CC:-cc}" -O2 -w -DCOLLAPSE -DMEMLIM=8192 $1 -o pan pan.c
}

states() {
    echo "$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log) states"
}

# It came to its end, and has looked at everything up to there.
is_complete() {
    grep -q 'errors: 0$' log && ! grep -q -e 'Search not completed' -e 'search depth too small' log
}

safe() {
    build "-DSAFETY -DNOCLAIM" "$1"
    ./pan -m1000000 >log 2>&1 || true
    if is_complete; then
        echo "in order, no lost wakeup: $1: $(states)"
    else
        fail "$1"
        grep -v "^Depth=" log
    fi
}

live() {
    build "-DNFAIR=4" "$1"
    for property in all_return all_done; do
        ./pan -a -f -N $property -m1000000 >log 2>&1 || true
        if is_complete; then
            echo "$property, under weak fairness: $1: $(states)"
        else
            fail "$property: $1"
            grep -v "^Depth=" log
        fi
    done
}

wrong() {
    build "-DSAFETY -DNOCLAIM" "$1"
    ./pan -m1000000 >log 2>&1 || true
    if grep -q "^pan:1: $2" log; then
        echo "found wrong, as it is: $1: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' log)"
    else
        fail "$1 is not found to be wrong"
        grep -v "^Depth=" log
    fi
}

safe "-DTHREADS=1 -DOWN=4"
safe "-DTHREADS=2 -DOWN=2 -DOTHERS=1 -DSIGNALS=0"
safe "-DTHREADS=2 -DOWN=1 -DOTHERS=1"
safe "-DTHREADS=2 -DOWN=1 -DOTHERS=1 -DCHAINS_PER_TAKE=3"
live "-DTHREADS=1 -DOWN=4"
live "-DTHREADS=2 -DOWN=1 -DOTHERS=1 -DSIGNALS=0"
if [ "$size" = large ]; then
    safe "-DTHREADS=2 -DOWN=2 -DOTHERS=1"
    safe "-DTHREADS=2 -DOWN=2 -DOTHERS=2 -DSIGNALS=0"
    safe "-DTHREADS=2 -DOWN=2 -DOTHERS=1 -DSIGNALS=0 -DCHAINS_PER_TAKE=3"
    live "-DTHREADS=2 -DOWN=2 -DOTHERS=1 -DSIGNALS=0"
fi
for mistake in DAEMON_LOOKS_FIRST CLIENT_LOOKS_FIRST DAEMON_PUBLISHES_LAST CLIENT_PUBLISHES_LAST \
    BELL_IS_FORGOTTEN HEAD_IS_FUTEX WORD_IS_FLAG NO_CHAIN CHAIN_IF_SERVED; do
    wrong "-DSIGNALS=0 -D$mistake" "invalid end state"
done
wrong "-DSIGNALS=0 -DCHAIN_ALWAYS -DCHAINS_PER_TAKE=3" "assertion violated"
exit $status
