#!/bin/sh
# SPDX-License-Identifier: MIT
# exports.sh SHARED STATIC HEADER: the libraries export the functions of the header,
# under the map's version, and nothing else; and the shared one calls nothing that its users must not meet.
set -eu
shared=$1
static=$2
header=$3

declared=$(sed -n 's/^JITC_API .*\b\(jitc_[a-z_]*\)(.*/\1/p' "$header" | sort)
[ "$(echo "$declared" | wc -l)" -gt 20 ] || { echo "the header was not understood"; exit 1; }

in_shared=$(nm -D --defined-only "$shared" | awk '$2 != "A" { print $3 }' | sort)
versioned=$(echo "$declared" | sed 's/$/@@JITCLIENT_0/')
if [ "$in_shared" != "$versioned" ]; then
    echo "$shared exports:"
    echo "$in_shared"
    exit 1
fi
# Signal handlers may call the library, and this may allocate.
if nm -D --undefined-only "$shared" | grep -F __tls_get_addr; then
    echo "$shared has a thread-local variable that is not initial-exec"
    exit 1
fi
in_static=$(nm -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort)
if [ "$in_static" != "$declared" ]; then
    echo "$static exports:"
    echo "$in_static"
    exit 1
fi
