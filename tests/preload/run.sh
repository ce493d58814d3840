#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the model for a while, with another seed each time, and tells at the end by which it failed.
#   tests/preload/run.sh SECONDS [BUILD [STEPS]]    build/release, 4000
set -eu
here=$(dirname "$0")
case ${1-} in
'' | *[!0-9]*)
    echo "usage: $0 SECONDS [BUILD [STEPS]]" >&2
    exit 2
    ;;
esac
build=${2-$here/../../build/release}
steps=${3-4000}
end=$(($(date +%s) + $1))
runs=0
failed=
while [ "$(date +%s)" -lt "$end" ]; do
    seed=$(date +%s%N)
    runs=$((runs + 1))
    "$here/under.sh" "$build" "$build/tests/preload/model" "$seed" "$steps" || failed="$failed $seed"
done
echo "$runs runs of $steps steps"
[ -z "$failed" ] || {
    echo "failed, by these seeds:$failed"
    echo "what matters of one: $here/shrink.py SEED $steps $here/under.sh $build $build/tests/preload/model"
    exit 1
}
