#!/bin/sh
# SPDX-License-Identifier: MIT
# Half an hour, or as many minutes as are given, of mixed load on a daemon that ends again and again: what it
# costs must not grow.
#   soak.sh [MINUTES [BUILD]]
# As root. BUILD is build/release unless given. Leaves BUILD/soak.csv and BUILD/soak.svg; the latter is what
# docs/soak.svg shows.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
minutes=${1:-30}
build=${2:-$source/build/release}

JITBROKER_DAEMON=$build/daemon/jitbrokerd "$build/tests/durability/soak" $((minutes * 60)) "$build/soak.csv"
python3 "$source/tests/durability/soak_plot.py" "$build/soak.csv" "$build/soak.svg"
