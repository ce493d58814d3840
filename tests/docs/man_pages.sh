#!/bin/sh
# SPDX-License-Identifier: MIT
# The documents say what the code does: manual pages are well-formed, and name every option,
# key, bound, function and status there is, and no other.
#   man_pages.sh SOURCE JITBROKERD JITBROKERCTL
set -eu
export LC_ALL=C
source=$1
daemon=$2
ctl=$3
docs=$source/docs

command -v mandoc >/dev/null || {
    echo "skipped: mandoc is not installed"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

fail() {
    echo "$*" >&2
    status=1
}

# same WHAT: $work/code and $work/page, a word or more per line, say the same.
same() {
    [ -s "$work/code" ] || fail "$1: nothing was found to compare"
    diff "$work/code" "$work/page" >"$work/difference" && return
    fail "$1: < is in the code only, > in the document only"
    cat "$work/difference" >&2
}

for page in "$docs"/*.[1-9]; do
    mandoc -Tlint -W warning "$page" >"$work/lint" 2>&1 || true
    grep -v 'referenced manual not found\|outdated mandoc.db' "$work/lint" && fail "$page: see above"
done

# Options: "-s, --socket=PATH" there, ".It Fl s Ar path , Fl -socket" here.
"$daemon" --help | grep -o '^  *-[^ ]*\( --[^ =]*\)*\|^  *--[^ =]*' | grep -o -- '-[-a-zA-Z]*' |
    sort >"$work/code"
grep '^\.It Fl' "$docs/jitbrokerd.8" | grep -o 'Fl [-a-zA-Z]*' | sed 's/Fl /-/' | sort >"$work/page"
same "options of jitbrokerd"

# The operator's tool: its options, and its verbs.
"$ctl" --help | sed '1,/^Options:/d' | grep -o '^ *--[a-z]*\|, --[a-z]*' | grep -o -- '-[-a-z]*' | sort >"$work/code"
grep '^\.It Fl' "$docs/jitbrokerctl.1" | grep -o 'Fl [-a-z]*' | sed 's/Fl /-/' | sort >"$work/page"
same "options of jitbrokerctl"
"$ctl" --help | sed -n '/^Verbs:/,/^Options:/s/^  \([a-z-]*\) .*/\1/p' | sort >"$work/code"
sed -n '/^\.Sh DESCRIPTION/,/^\.Sh JSON/s/^\.It Cm \([a-z-]*\).*/\1/p' "$docs/jitbrokerctl.1" | sort >"$work/page"
same "verbs of jitbrokerctl"

# Events of the log, with their urgency.
sed -n 's/^ *\[LOG_[A-Z_]*\] = {"\([a-z_]*\)", LOG_\([A-Z]*\), .*/\1 \2/p' "$source/daemon/log.c" | sort >"$work/code"
sed -n '/^The events, by/,/^\.El/s/^\.\(It\|Li\) //p' "$docs/jitbrokerd.8" | tr -d ',' | tr ' ' '\n' |
    while read -r word; do
        case $word in
        error | notice) level=$(echo "$word" | tr '[:lower:]' '[:upper:]') ;;
        information) level=INFO ;;
        debugging) level=DEBUG ;;
        *_* | started | stopping | adopted | finding) echo "$word $level" ;;
        esac
    done | sort >"$work/page"
same "events of jitbrokerd"

# System calls that are left to the daemon.
sed -n 's/.*CALL(\([a-z0-9_]*\)).*/\1/p' "$source/daemon/sandbox.c" | grep -vx call | sort -u >"$work/code"
sed -n 's/^\.Ic \([a-z0-9_]*\).*/\1/p' "$docs/jitbrokerd.8" | sort >"$work/page"
same "system calls of jitbrokerd"

# Keys with their sections and defaults, in their order.
sed -n 's/^\(\[.*\]\)$/\1/p; s/^#\[class default\]$/[class NAME]/p; s/^#\([a-z_]*=.*\)$/\1/p' \
    "$source/daemon/jitbrokerd.conf" >"$work/code"
sed -n 's/^\.Ss \(\[.*\]\)$/\1/p; s/^\.It Va \([a-z_]*\) Ns =\( Ns Cm \(.*\)\)\{0,1\}$/\1=\3/p' \
    "$docs/jitbrokerd.conf.5" >"$work/page"
same "keys and defaults of jitbrokerd.conf"

# Bounds: what the page says is taken, and one step more is not.
bytes() {
    case $1 in
    *K) echo $((${1%K} << 10)) ;;
    *G) echo $((${1%G} << 30)) ;;
    *) echo "$1" ;;
    esac
}
# takes SECTION KEY VALUE
takes() {
    case $2 in
    arena) extra=arena_max=64G ;;
    arena_max) extra=arena=64K ;;
    *) extra= ;;
    esac
    printf '%s\n%s=%s\n[class default]\n%s\n' "$1" "$2" "$3" "$extra" >"$work/conf"
    "$daemon" --check-config --config="$work/conf" >"$work/out" 2>&1
}
sed -n 's/^\.Ss \(\[.*\]\)$/\1/p; s/^\.It Va \([a-z_]*\) .*/\1/p; s/^From \([0-9KG]*\) to \([0-9KG]*\)\.$/\1 \2/p' \
    "$docs/jitbrokerd.conf.5" >"$work/bounds"
key=
count=0
while read -r first last; do
    case $first in
    \[*) section=$(echo "$first${last:+ $last}" | sed 's/NAME/default/') ;;
    [a-z]*) key=$first ;;
    *)
        min=$(bytes "$first")
        max=$(bytes "$last")
        step=1
        [ "$first" = "${first%K}" ] || step=65536
        for value in "$first" "$last" "$min" "$max"; do
            takes "$section" "$key" "$value" || fail "$key=$value is refused: $(cat "$work/out")"
        done
        for value in $((min - step)) $((max + step)); do
            takes "$section" "$key" "$value" && fail "$key=$value is taken"
        done
        count=$((count + 1))
        ;;
    esac
done <"$work/bounds"
[ "$count" -eq 12 ] || fail "jitbrokerd.conf.5 has bounds for $count keys, not 12"

# Functions and statuses of the public header.
grep -o '\bjitc_[a-z_]*(' "$source/client/jitclient.h" | tr -d '(' | sort -u >"$work/code"
sed -n 's/^\.F[no] \(jitc_[a-z_]*\).*/\1/p' "$docs"/*.3 | grep -v '_$' | sort -u >"$work/page"
same "functions of jitclient.h"
grep -o '^ *JITC_E_[A-Z_]*' "$source/client/jitclient.h" | tr -d ' ' | sort >"$work/code"
sed -n 's/^\.It Dv \(JITC_E_[A-Z_]*\)$/\1/p' "$docs/libjitclient.3" | sort >"$work/page"
same "statuses of jitclient.h"
grep -hv '^\.Dt' "$docs"/*.[1-9] | grep -o 'JITC_[A-Z_]*' | sort -u | while read -r name; do
    grep -q "\b$name\b" "$source/client/jitclient.h" || echo "$name"
done >"$work/strangers"
[ ! -s "$work/strangers" ] || fail "not in jitclient.h: $(cat "$work/strangers")"

# Codes of the protocol, with their numbers.
sed -n 's/^ *STATUS_\([A-Z_]*\) = \([1-9][0-9]*\),$/\2 \1/p' "$source/proto/status.h" >"$work/code"
sed -n 's/^| \([0-9]*\) | \([A-Z_]*\) | .*/\1 \2/p' "$docs/protocol.md" >"$work/page"
same "codes of protocol.md"

# Tests that are named as proof are there.
# shellcheck disable=SC2016 # Markdown's quotes
grep -o '`test_[a-z_]*: [a-z0-9_]*`' "$source/SECURITY.md" | tr -d '`:' | while read -r file name; do
    grep -qrE "(START_TEST\($name\)|$name)" "$source"/tests --include="$file.*" || echo "$file: $name"
done >"$work/strangers"
[ ! -s "$work/strangers" ] || fail "SECURITY.md names tests that are not there: $(cat "$work/strangers")"

exit $status
