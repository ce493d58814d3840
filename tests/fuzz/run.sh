#!/bin/sh
# SPDX-License-Identifier: MIT
# Fuzzes for a while, from the corpus of the tree, and tells what came of it.
#   tests/fuzz/run.sh TARGET|all SECONDS           each target for that long, on one core
#   tests/fuzz/run.sh --keep TARGET|all SECONDS    ... then adds to the tree what reaches new code
# New inputs are in build/fuzz/tests/fuzz/found/TARGET, and inputs that broke something in
# build/fuzz/tests/fuzz/findings, unless JITBROKER_FUZZ_BUILD names another folder that is
# configured with -DJITBROKER_FUZZ=ON. Ends with 1 if there was a finding.
set -eu
cd "$(dirname "$0")/../.."

usage() {
    echo "usage: $0 [--keep] request|reply|config|session|connection|admin|ring|scan|heap_restore|adoption|all SECONDS" >&2
    exit 2
}

keep=false
if [ "${1-}" = --keep ]; then
    keep=true
    shift
fi
[ $# -eq 2 ] || usage
case $1 in
request | reply | config | session | connection | admin | ring | scan | heap_restore | adoption) targets=$1 ;;
all) targets="request reply config session connection admin ring scan heap_restore adoption" ;;
*) usage ;;
esac
case $2 in
'' | *[!0-9]* | 0) usage ;; # 0 would be for ever
esac
seconds=$2

build=${JITBROKER_FUZZ_BUILD-}
if [ -z "$build" ]; then
    build=build/fuzz
    cmake --preset fuzz >/dev/null
fi
for target in $targets; do
    cmake --build "$build" --target "fuzz_$target" >/dev/null
done

status=0
folder=$build/tests/fuzz
mkdir -p "$folder/findings"
for target in $targets; do
    corpus=tests/fuzz/corpus/$target
    found=$folder/found/$target
    log=$folder/$target.log
    case $target in
    request | reply) limit=16384 ;; # enough parts to fill the decoder's pool
    scan) limit=256 ;; # a byte takes long: it is looked at plainly again and again
    *) limit=4096 ;;
    esac
    dictionary=
    [ ! -e "tests/fuzz/$target.dict" ] || dictionary=-dict=tests/fuzz/$target.dict
    mkdir -p "$found"
    finding=
    "$folder/fuzz_$target" -max_total_time="$seconds" -max_len=$limit -len_control=10 \
        -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$folder/findings/$target-" ${dictionary:+"$dictionary"} "$found" "$corpus" >"$log" 2>&1 || finding=yes
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions," \
        "$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1) edges"
    if [ -n "$finding" ]; then
        status=1
        echo "$target: a finding:"
        grep -E 'not so|0x[0-9a-f]+, not|ERROR|SUMMARY|Test unit written' "$log" || tail -n 20 "$log"
    elif $keep; then
        "$folder/fuzz_$target" -set_cover_merge=1 -use_counters=0 -max_len=$limit "$corpus" "$found" \
            >>"$log" 2>&1
    fi
done
exit $status
