#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a program of this folder under jitbroker-run, with a daemon of its own: as root both are users of their
# own. It ends as the program does, or with 1 if the daemon did not end well.
#   under.sh BUILD [--as-root | --beside | --killed] PROGRAM [WORD...]
#     --as-root   the program stays root
#     --beside    the program is not under it: it gets the launcher as its words
#     --killed    the daemon is killed again and again meanwhile, and started anew by jitbrokerd --supervise
set -eu

build=$1
how=under
case $2 in
--as-root | --beside | --killed) how=${2#--} && shift ;;
esac
program=$2
shift 2
# Whose they are on no machine.
broker_uid=64914
worker_uid=64915

if [ "$how" = killed ] && [ "$(id -u)" -ne 0 ]; then
    echo "skipped: arenas of the daemon's own user can't change after a restart: it takes root, to be another"
    exit 77
fi

folder=$(mktemp -d /tmp/jitbroker-test-XXXXXX)
daemon=
killer=
# shellcheck disable=SC2317 # it is called by the trap
finish() {
    [ -z "$killer" ] || kill -TERM "$killer" 2>/dev/null || true
    [ -z "$daemon" ] || kill -TERM "$daemon" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# To where other users can run it, laid out as it was built.
chmod 755 "$folder"
mkdir "$folder/daemon" "$folder/tools" "$folder/preload" "$folder/run"
cp "$build/daemon/jitbrokerd" "$folder/daemon"
cp "$build/tools/jitbroker-run" "$folder/tools"
cp "$build/preload/libjitpreload.so" "$folder/preload"
cp "$build"/client/libjitclient.so.* "$program" "$folder"
export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export JITBROKER_SOCKET="$folder/run/socket"
printf '[class default]\narena_max=1G\nbytes_max=4G\n' >"$folder/conf"

as() {
    uid=$1
    shift
    if [ "$(id -u)" -eq 0 ]; then
        exec setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
    fi
    exec "$@"
}
[ "$(id -u)" -ne 0 ] || chown "$broker_uid:$broker_uid" "$folder/run"
: >"$folder/log"
supervise=
[ "$how" != killed ] || supervise=--supervise
# shellcheck disable=SC2086 # it is one word, or none
as "$broker_uid" "$folder/daemon/jitbrokerd" $supervise --socket "$JITBROKER_SOCKET" --config "$folder/conf" \
    2>"$folder/log" &
daemon=$!
until grep -q "started:" "$folder/log"; do
    kill -0 "$daemon" 2>/dev/null || {
        cat "$folder/log" >&2
        exit 1
    }
    sleep 0.01
done

# Each daemon as soon as it serves, and a moment later.
kill_daemons() {
    kills=0
    while :; do
        sleep 0.05
        [ "$(grep -c "started:" "$folder/log")" -gt "$kills" ] || continue
        pid=$(cat "/proc/$daemon/task/$daemon/children")
        kill -KILL "${pid% }" || continue
        kills=$((kills + 1))
        echo "$kills" >"$folder/kills"
    done
}
if [ "$how" = killed ]; then
    kill_daemons &
    killer=$!
fi

launcher="$folder/tools/jitbroker-run"
program="$folder/$(basename "$program")"
worker=$worker_uid
[ "$how" != as-root ] || worker=0
status=0
if [ "$how" = beside ]; then
    (as "$worker" "$program" "$launcher" -- "$@") || status=$?
else
    (as "$worker" "$launcher" -- "$program" "$@") || status=$?
fi

if [ "$how" = killed ]; then
    kill -TERM "$killer"
    wait "$killer" || true
    killer=
    kills=$(cat "$folder/kills") # or it never was, which is a failure
    echo "the daemon was killed $kills times"
fi

kill -TERM "$daemon"
ended=0
wait "$daemon" || ended=$?
daemon=
if [ "$ended" -ne 0 ]; then
    echo "the daemon ended with status $ended:" >&2
    cat "$folder/log" >&2
    exit 1
fi
exit "$status"
