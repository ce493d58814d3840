#!/bin/sh
# SPDX-License-Identifier: MIT
# That jitbench runs to its end, prints every row that it lists, refuses what makes no sense, and
# leaves nothing behind. Nothing is said about how fast anything is.
#   smoke.sh JITBENCH
set -eu
export LC_ALL=C
jitbench=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$*" >&2
    exit 1
}

"$jitbench" --quick --rounds=200 --live=1000 --json >"$work/json" || fail "it ended with status $?"
"$jitbench" --list | sort >"$work/listed"
sed -n 's/^{"row":"\([a-z0-9.-]*\)",.*"verdict":.*}$/\1/p' "$work/json" | sort -u >"$work/printed"
# Density is measured from 10,000 live spans on.
grep -v '^density\.' "$work/listed" >"$work/expected"
diff "$work/expected" "$work/printed" || fail "< is listed and was not printed, > the other way round"
grep -q '"row":"churn.through","live":1000,.*"value":[0-9]' "$work/json" || fail "no churn was measured"
[ "$(grep -cv '^{.*}$' "$work/json")" -eq 0 ] || fail "a line is no object"

# The plot, or what is missing for it.
plot=$(dirname "$0")/plot.sh
if command -v gnuplot >/dev/null; then
    "$plot" "$work/json" "$work/svg" >/dev/null 2>&1 || fail "plot.sh: status $?"
    grep -q '</svg>' "$work/svg" || fail "plot.sh draws no SVG"
else
    "$plot" "$work/json" "$work/svg" 2>&1 | grep -q 'apt-get install gnuplot' || fail "plot.sh says nothing"
fi

# For people, on one processor.
"$jitbench" --quick --rounds=100 --one-cpu --only=through.cycle >"$work/text" || fail "--one-cpu: status $?"
grep -q 'polling needs two processors' "$work/text" || fail "--one-cpu does not say what can't be had"

for option in --rounds=99 --rounds=x --rounds= --bytes=0 --bytes=65537 --live= --live=0 --live=10,,20 \
    --live=3000001 --set=x=1 --nonsense word; do
    status=0
    "$jitbench" $option >/dev/null 2>"$work/error" || status=$?
    [ $status -eq 2 ] || fail "$option: status $status, not 2"
    [ -s "$work/error" ] || fail "$option: nothing is said"
done
"$jitbench" --only=nonsense >/dev/null 2>&1 && fail "--only=nonsense is taken"

# Interrupted, it takes its daemon and its folder along.
TMPDIR=$work "$jitbench" --only=idle >/dev/null 2>&1 &
pid=$!
tries=0
until [ -n "$(find "$work" -name socket)" ]; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || fail "no daemon was started"
    sleep 0.1
done
kill -TERM $pid
wait $pid && fail "SIGTERM did not end it"
[ -z "$(find "$work" -name 'jitbench-*')" ] || fail "its folder is left behind"
