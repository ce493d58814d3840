#!/bin/sh
# SPDX-License-Identifier: MIT
# Draws what a step of the churn costs against the live spans, from what `jitbench --json` printed.
#   plot.sh FILE.json [FILE.svg]      (cost.svg beside this script)
# The points of bench/cost.svg are those of
#   jitbench --json --only=churn. --live=1000,3000,10000,30000,100000,300000,1000000
set -eu
export LC_ALL=C

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: plot.sh FILE.json [FILE.svg]" >&2
    exit 2
fi
json=$1
svg=${2:-$(dirname "$0")/cost.svg}
[ -r "$json" ] || {
    echo "plot.sh: $json can't be read" >&2
    exit 1
}
command -v gnuplot >/dev/null || {
    echo "plot.sh: gnuplot is missing: apt-get install gnuplot-nox" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# points ROW: "LIVE MICROSECONDS" for each count that was measured.
points() {
    sed -n "s/^{\"row\":\"churn\\.$1\",\"live\":\([0-9]*\),.*\"value\":\([0-9.e+-]*\),.*/\1 \2/p" "$json" |
        sort -n >"$work/$1"
    [ -s "$work/$1" ]
}

plots=""
# add ROW TITLE COLOUR POINT
add() {
    if points "$1"; then
        plots="$plots${plots:+, }'$work/$1' using 1:2 with linespoints lw 2 pt $4 ps 0.7 lc rgb '$3' title '$2'"
    else
        echo "plot.sh: $json has no churn.$1; drawn without it" >&2
    fi
}
add asmjit 'asmjit JitAllocator, dual mapping, in process' '#c0392b' 5
add through 'jitbroker, write-through' '#1f618d' 7
add direct 'jitbroker, direct' '#1e8449' 9
[ -n "$plots" ] || {
    echo "plot.sh: nothing to draw" >&2
    exit 1
}

gnuplot <<END
set terminal svg size 760,440 font 'sans-serif,13' background rgb 'white'
set output '$work/svg'
set title 'Release one span at random, allocate 8 to 1031 bytes, write up to 256'
set xlabel 'live spans'
set ylabel 'microseconds a step (median)'
set logscale xy
set autoscale xfix
set format x '10^{%L}'
set grid xtics ytics lc rgb '#dddddd'
set key below Left reverse
plot $plots
END
cp "$work/svg" "$svg"
echo "$svg"
