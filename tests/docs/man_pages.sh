#!/bin/sh
# SPDX-License-Identifier: MIT
# The documents say what the code does: manual pages are well-formed, lead to pages that are there,
# and name every option, verb, exit status, key and bound there is, and no other.
# What the pages of section 3 say is compared by test_client_pages.py.
#   man_pages.sh SOURCE JITBROKERD JITBROKERCTL JITBROKER-RUN
set -eu
export LC_ALL=C
source=$1
daemon=$2
control=$3
launcher=$4
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

# Pages and sections that are referred to.
for page in "$docs"/*.[1-9]; do
    sed -n 's/^\.Xr \([^ ]*\) \([0-9]\).*/\1 \2/p' "$page" | while read -r name section; do
        case $name in
        jit* | libjit*)
            [ -e "$docs/$name.$section" ] || grep -q "^\.Nm $name\b" "$docs"/*."$section" ||
                echo "$page refers to $name($section)"
            ;;
        esac
    done
    sed -n 's/^\.Sx \(.*[^ .,]\).*/\1/p' "$page" | while read -r title; do
        grep -qxF -e ".Sh $title" -e ".Ss $title" "$page" || grep -A 2 "^\.Sx $title" "$page" | grep -q '^\.Xr' ||
            echo "$page has no section $title"
    done
done >"$work/strangers"
[ ! -s "$work/strangers" ] || fail "$(cat "$work/strangers")"
for page in "$docs"/*.[1-9]; do
    name=${page##*/}
    [ "$name" = jitbroker.7 ] || grep -q "^\.Xr ${name%.*} ${name##*.}" "$docs/jitbroker.7" ||
        fail "jitbroker.7 does not lead to $name"
done

# Long and short options, exit statuses, and the names of verbs: what --help says, and the page.
# compare_program PROGRAM PAGE
compare_program() {
    "$1" --help >"$work/help"
    name=${1##*/}
    grep -o '\(^\|[ (]\)--*[a-zA-Z][-a-z]*' "$work/help" | tr -d ' (' | sort -u >"$work/code"
    grep '^\.It .*\bFl ' "$2" | grep -o 'Fl [-a-zA-Z]*' | sed 's/Fl /-/' | sort -u >"$work/page"
    same "options of $name"
    sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/p' "$2" | grep -o 'Fl -*[a-zA-Z][-a-z]*\( | [a-zA-Z]$\)*' |
        sed 's/Fl //; s/ | / /g' | tr ' ' '\n' | sed 's/^/-/' | sort -u >"$work/page"
    comm -13 "$work/code" "$work/page" | while read -r option; do echo "$2: $option in the synopsis only"; done >"$work/strangers"
    [ ! -s "$work/strangers" ] || fail "$(cat "$work/strangers")"
    if grep -q '^Verbs:' "$work/help"; then
        sed -n '/^Verbs:/,/^$/s/^  \([a-z][a-z-]*\).*/\1/p' "$work/help" | sort -u >"$work/code"
        sed -n '/^\.Sh EXIT STATUS/q; s/^\.It Cm \([a-z][a-z-]*\).*/\1/p' "$2" | sort -u >"$work/page"
        same "verbs of $name"
    fi
    if grep -q '^Exit status:' "$work/help"; then
        sed -n '/^Exit status:/,/^$/p' "$work/help" | grep -o '\b[0-9][0-9]*\b' | sort -u >"$work/code"
        sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EXAMPLES/s/^\.It \([0-9]*\)$/\1/p' "$2" | sort -u >"$work/page"
        same "exit statuses of $name"
    fi
}
compare_program "$daemon" "$docs/jitbrokerd.8"
compare_program "$control" "$docs/jitbrokerctl.1"
compare_program "$launcher" "$docs/jitbroker-run.1"

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

# Defaults of a class, as the daemon explains them.
printf '[class default]\n' >"$work/conf"
"$daemon" --explain --uid=0 --config="$work/conf" | sed -n 's/^  \([a-z_]*=.*\)  default$/\1/p' >"$work/code"
sed -n '/^\.Ss \[class NAME\]/,/^\.Ss [^[]/s/^\.It Va \([a-z_]*\) Ns =\( Ns Cm \(.*\)\)\{0,1\}$/\1=\3/p' \
    "$docs/jitbrokerd.conf.5" >"$work/page"
same "defaults of a class"

# Numbers in sentences, each where the code has it.
# constant FILE NAME: its number
constant() {
    sed -n "s/^#define $2 \(UINT64_C(\)*\([0-9]*\).*/\2/p" "$source/$1"
}
# states PAGE SENTENCE NUMBER: the page has that sentence, with the number for its %s
states() {
    [ "$3" ] || fail "$1: the code has no number for '$2'"
    # shellcheck disable=SC2059 # a format it is
    tr '\n' ' ' <"$docs/$1" | grep -qF -- "$(printf "$2" "$3")" || fail "$1 does not say '$(printf "$2" "$3")'"
}
# word NUMBER: as a page has it
word() { if [ "$1" = 8 ]; then echo eight; else echo "$1"; fi; }
# unit_ms KEY: a time of the unit's, in milliseconds
unit_ms() {
    sed -n "s/^$1=\([0-9]*\)ms\$/\1/p; s/^$1=\([0-9]*\)s\$/\1000/p" "$source/systemd/jitbrokerd.service.in"
}
supervisor=daemon/supervisor.c
states jitbrokerd.8 "then says nothing for %s seconds" $(($(constant $supervisor SILENCE_US) / 1000000))
states jitbrokerd.8 "does not end within %s seconds" $(($(constant $supervisor PATIENCE_MS) / 1000))
states jitbrokerd.8 "the one after that comes %s ms later" "$(constant $supervisor DELAY_MIN_MS)"
states jitbrokerd.8 "(the hard limit), less %s, and" $(($(constant $supervisor MESSAGE_FDS_MAX) + 16))
states jitbrokerd.8 "of all lines about clients %s in a second" "$(constant daemon/log.h LOG_BURST)"
states jitbrokerd.8 "(the first %s of a connection)" "$(word "$(constant daemon/connection.c LOGGED_REFUSALS_MAX)")"
states jitbrokerd.8 "Up to %s sockets are taken" "$(word "$(constant daemon/server.h SERVER_LISTENERS_MAX)")"
states jitbrokerd.8 "E%s of them are answered at once" "$(word "$(constant daemon/admin.h ADMIN_CONNECTIONS_MAX)" | sed 's/^e//')"
states jitbrokerd.8 "made in steps of %s \\\\(mcs" $(($(constant daemon/admin.h ADMIN_STEP_NS) / 1000))
states jitbrokerd.8 "the watchdog finds after %s seconds" $(($(unit_ms WatchdogSec) / 1000))
[ "$(unit_ms RestartSec)" = 100 ] || fail "jitbrokerd.8 says 'ten times a second', and the unit $(unit_ms RestartSec) ms"
states jitbrokerctl.1 "a sample of one in %s)" "$(constant daemon/latency.h LATENCY_SAMPLE)"
states jitbrokerctl.1 "says nothing there for %s seconds" "$(constant tools/ask.h ASK_PATIENCE_S)"
states jitbrokerctl.1 "if none answers for %s seconds" "$(constant tools/ask.h ASK_PATIENCE_S)"
states jitbrokerctl.1 "to 3600; %s if not given" "$(sed -n 's/.*\.interval_ms = \([0-9]*\)000}.*/\1/p' "$source/tools/jitbrokerctl.c")"
states jitc_connect.3 "0 is %s,000." "$(constant client/client.c TIMEOUT_DEFAULT_MS | sed 's/000$//')"

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
