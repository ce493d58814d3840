#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What container.sh runs inside after container-inside.sh: whatever ends the daemon, the same workers
# run on, have every span and every byte, and can change them when it is back.
#   durability-inside.sh before    up to the reboot, which is its caller's
#   durability-inside.sh after     the reboot
# Exits 0 if all of it holds. The workers are steady-worker, which says what it counts.
set -u

# shellcheck source=tests/systemd/report-inside.sh
. ./report-inside.sh

workers_dir=$(systemctl cat jitworker@.service | sed -n 's/^ExecStart=\(.*\)\/%i .*/\1/p')
policy=/etc/jitbroker/conf.d/test.conf
broken=/etc/jitbroker/conf.d/zz-broken.conf
workers="steady steady-socket" # on the ring, and by the socket alone
disconnected=101 # JITC_E_DISCONNECTED

unit_of() { echo "jitworker@$1.service"; }
# count WORKER NAME: what it last wrote of itself
count() { sed -n "s/.*\b$2=\([0-9]*\).*/\1/p" "count.$1" 2>/dev/null | head -n 1; }
stored() { property $daemon NFileDescriptorStore; }
is_above() { # WORKER NAME NUMBER
    value=$(count "$1" "$2")
    [ "${value:-0}" -gt "$3" ]
}
# The processor time of process 1, in milliseconds.
manager_ms() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / hz }' /proc/1/stat; }
# From being executed to being ready, all sessions adopted, in microseconds.
ready_us() { echo $(($(property $daemon ActiveEnterTimestampMonotonic) - $(property $daemon ExecMainStartTimestampMonotonic))); }
# The longest time in which each worker's code did not run, since the last new_epoch, and a thread of its that
# only sleeps: what the machine is to blame for. In microseconds.
note_pauses() {
    for worker in $workers; do echo "$(count "$worker" longest_call_us) $(count "$worker" longest_idle_us)"; done >>pauses
}
# longest_pause_ms code|idle
longest_pause_ms() {
    awk -v what="$1" '{ us = what == "idle" ? $2 : $1; if (us > most) most = us } END { printf "%.1f", most / 1000 }' pauses
}
sessions_are() { [ "$(jitbrokerctl sessions 2>&1 | grep -c '^[0-9]')" = "$1" ]; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# set_up NAME ARGUMENTS: a worker of that name
set_up() {
    ln -f steady-worker "$workers_dir/$1" 2>/dev/null || install -m 755 steady-worker "$workers_dir/$1"
    mkdir -p /etc/jitbroker/worker "/etc/systemd/system/jitworker@$1.service.d"
    echo "WORKER_ARGS=$2" >"/etc/jitbroker/worker/$1"
    # Its counts in a file that the manager opens: it may write no other.
    printf '[Service]\nStandardOutput=file:%s/count.%s\nStandardError=journal\nLimitNOFILE=20000\n' "$PWD" "$1" \
        >"/etc/systemd/system/jitworker@$1.service.d/count.conf"
}
begin() {
    for worker in "$@"; do
        rm -f "count.$worker"
        systemctl start "$(unit_of "$worker")"
        eval "pid_of_$(echo "$worker" | tr - _)=$(property "$(unit_of "$worker")" MainPID)"
    done
    for worker in "$@"; do
        until_true 30 is_above "$worker" checks 2 || {
            fail "$worker does not get going"
            say_journal "$(unit_of "$worker")"
            return 1
        }
    done
}
new_epoch() {
    for worker in $workers; do
        now=$(count "$worker" epoch)
        kill -USR1 "$(property "$(unit_of "$worker")" MainPID)" && until_true 10 is_above "$worker" epoch "$now"
    done
}
# runs_on WORKER CALLS: it is the same process, has run its code since, and rightly.
runs_on() {
    eval "pid=\$pid_of_$(echo "$1" | tr - _)"
    [ "$(property "$(unit_of "$1")" MainPID)" = "$pid" ] && is_above "$1" calls "$2" &&
        [ "$(count "$1" wrong)" = 0 ] && [ "$(count "$1" mismatched)" = 0 ]
}
# unharmed WHAT: the workers run on, have lost nothing, and change their spans: two rounds of changes and checks
# since; and what is stored is theirs.
unharmed() {
    for worker in $workers; do
        checks=$(count "$worker" checks)
        calls=$(count "$worker" calls)
        if until_true 30 is_above "$worker" checks $((checks + 2)) && until_true 5 runs_on "$worker" "$calls" &&
            [ "$(count "$worker" failed)" = 0 ]; then
            ok "$1: $worker is unharmed; its longest pause $(count "$worker" longest_call_us) us" \
                "(of a thread that sleeps $(count "$worker" longest_idle_us) us)," \
                "its longest wait for the broker $(count "$worker" longest_operation_us) us"
        else
            fail "$1: $worker: $(cat "count.$worker")"
            say_journal "$(unit_of "$worker")"
            say_journal $daemon
        fi
    done
    note_pauses
    is "$1: descriptors stored" "$(stored)" "$expected"
    until_true 5 sessions_are 2 || fail "$1: sessions: $(jitbrokerctl sessions 2>&1)"
}
# served WHAT
served() { if runs_code; then ok "$1: a new worker is served"; else fail "$1: no new worker is served"; fi; }
ends() { [ "$(stored)" = "$1" ]; }

if [ "$1" = after ]; then
    [ -e ready ] || { echo "not tried: what is there after a reboot"; exit 1; }
    # -- After the reboot: what was enabled is there, and the worker that starts with it is served ----------
    is "socket after the reboot" "$(property jitbrokerd.socket ActiveState)" active
    until_true 30 is_above steady checks 2 || fail "no worker is served: $(cat count.steady)"
    is "wrong results, others' bytes, failures after the reboot" \
        "$(count steady wrong) $(count steady mismatched) $(count steady failed)" "0 0 0"
    systemctl stop "$(unit_of steady)"
    until_true 10 ends 0 || fail "stored after it has gone: $(stored)"
    echo "failures: $failures"
    [ $failures -eq 0 ]
    exit
fi

# -- Two workers, and what is stored for them -------------------------------------------------------------
rm -f "$policy"
printf '[class by-socket]\nunit=jitworker@steady-socket.service\nring=no\n[class default]\n' >"$policy"
set_up steady ""
set_up steady-socket ""
set_up crowd "crowd 1000"
systemctl daemon-reload
systemctl reset-failed
systemctl start jitbrokerd.socket
# shellcheck disable=SC2086 # a list of words
begin $workers || exit 1
expected=$(stored)
if [ "$expected" -gt 0 ]; then ok "$expected descriptors are stored for two workers"
else fail "nothing is stored for two workers"; fi
is "each as one" "$expected" 2
: >pauses
new_epoch
sleep 5
note_pauses
echo "note: in 5 s in which nothing happens the longest pause of code is $(longest_pause_ms code) ms, of a thread" \
    "that only sleeps $(longest_pause_ms idle) ms"
: >pauses

# -- What operators see -------------------------------------------------------------------------------------
# nobody OPTION COMMAND...: as a user who is not root, with the groups that the option says
nobody() { setpriv --reuid=nobody --regid=nogroup "$@" 2>&1; }
for worker in $workers; do
    jitbrokerctl sessions | grep -q "jitworker@$worker\\.service" || fail "root sees no $worker: $(jitbrokerctl sessions 2>&1)"
done
jitbrokerctl status >status.text 2>&1 || fail "jitbrokerctl status: $(cat status.text)"
is "what it says of restarts" "$(sed -n 's/^restarts: *//p' status.text)" "sessions outlive the daemon, by its manager's store"
is "sessions that a member of the group sees" \
    "$(nobody --groups=jitbroker-admin jitbrokerctl sessions | grep -c '^[0-9]')" 2
nobody --groups=jitbroker-admin jitbrokerctl reload >refusal
is "a member's reload" "$?" 3
nobody --clear-groups jitbrokerctl status >refusal
is "the question of who is no member" "$?" 3
jitbrokerctl reload >refusal 2>&1 || fail "root may not reload: $(cat refusal)"
pid=$(property $daemon MainPID)
systemctl restart $daemon
is_new_and_active "$pid" || fail "not restarted"
unharmed "systemctl restart"
if [ $failures -ne 0 ]; then
    say_journal $daemon
    echo "not tried: what else can end a daemon, since a restart of it does harm"
    exit 1
fi

# -- Restarts, kills ------------------------------------------------------------------------------------
new_epoch
for _ in 1 2 3 4; do
    pid=$(property $daemon MainPID)
    systemctl restart $daemon
    is_new_and_active "$pid" || fail "not restarted"
    served "restart"
done
unharmed "four restarts more"

# As an upgrade of systemd does it.
systemctl daemon-reload
systemctl daemon-reexec
unharmed "a manager that reloads, and executes itself anew"
pid=$(property $daemon MainPID)
systemctl restart $daemon
is_new_and_active "$pid" || fail "not restarted"
unharmed "a restart after that"

: >waits
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    new_epoch
    pid=$(property $daemon MainPID)
    kill -KILL "$pid"
    until_true 20 is_new_and_active "$pid" || { fail "not restarted after SIGKILL"; break; }
    for worker in $workers; do
        checks=$(count "$worker" checks)
        until_true 20 is_above "$worker" checks $((checks + 1)) || fail "$worker is not answered after SIGKILL"
        count "$worker" longest_operation_us >>waits
    done
    note_pauses
done
unharmed "twenty SIGKILLs"
echo "note: from being executed to being ready, with two sessions: $(ready_us) us"
sort -n waits | awk '{ us[NR] = $1 } END { printf "note: from SIGKILL to the next answer: p50 %.1f ms, p99 %.1f ms (%d, RestartSec=100ms)\n",
    us[int((NR + 1) / 2)] / 1000, us[int(NR * 0.99 + 0.5)] / 1000, NR }'

new_epoch
pid=$(property $daemon MainPID)
kill -TERM "$pid"
until_true 20 is_new_and_active "$pid" || fail "not restarted after a stray SIGTERM"
unharmed "a stray SIGTERM"

# -- A daemon that hangs -----------------------------------------------------------------------------------
mkdir -p /etc/systemd/system/$daemon.d
printf '[Service]\nWatchdogSec=2s\n' >/etc/systemd/system/$daemon.d/test.conf
systemctl daemon-reload
systemctl restart $daemon
new_epoch
pid=$(property $daemon MainPID)
calls=$(count steady calls)
kill -STOP "$pid"
sleep 0.5
if is_above steady calls "$calls"; then ok "code runs on while the daemon hangs"
else fail "no code runs while the daemon hangs"; fi
until_true 20 is_new_and_active "$pid" || fail "a daemon that hangs is not restarted"
unharmed "a watchdog's kill"
rm -r /etc/systemd/system/$daemon.d
systemctl daemon-reload

# -- A binary that is none, for a while ------------------------------------------------------------------------
new_epoch
program=$(command -v jitbrokerd)
mv "$program" "$program.good"
echo "no program" >"$program"
chmod 755 "$program"
calls=$(count steady calls)
kill -KILL "$(property $daemon MainPID)"
sleep 1.5
is "descriptors stored while there is no daemon" "$(stored)" "$expected"
if is_above steady calls "$calls"; then ok "code runs on while there is no daemon"
else fail "no code runs while there is no daemon"; fi
mv "$program.good" "$program"
until_true 20 is_active || fail "not started again"
unharmed "a daemon that could not be executed"

# -- A broken policy at a restart ----------------------------------------------------------------------------------
new_epoch
echo 'this is no policy' >"$broken"
systemctl restart $daemon 2>/dev/null
is "daemon with a broken policy and sessions" "$(property $daemon ActiveState)" active
if runs_code; then fail "a new worker is served by a broken policy"; else ok "new workers are refused by a broken policy"; fi
unharmed "a broken policy at a restart"
rm "$broken"
systemctl reload $daemon
sleep 0.5
served "the policy mended"

# -- Another version of the packages --------------------------------------------------------------------------------
new_epoch
pid=$(property $daemon MainPID)
if dpkg -i debs-2/*.deb >dpkg.log 2>&1; then ok "the packages are upgraded"; else fail "upgrade: $(cat dpkg.log)"; fi
is "version" "$(dpkg-query -W -f '${Version}' jitbrokerd | sed 's/.*-//')" 2
if is_new_and_active "$pid"; then ok "the new daemon runs"; else fail "the old daemon runs"; fi
unharmed "an upgrade of the packages"
served "upgraded"

# -- A thousand sessions -----------------------------------------------------------------------------------------------
new_epoch
crowd_is_there() { [ "$(count crowd operations)" = 1000 ]; }
before_ms=$(manager_ms)
begun_ms=$(now_ms)
systemctl start "$(unit_of crowd)"
if until_true 60 crowd_is_there; then
    echo "note: $(stored) descriptors stored for 1,002 sessions; the manager took" \
        "$(($(manager_ms) - before_ms)) us each, $(($(now_ms) - begun_ms)) ms in all"
    before_ms=$(manager_ms)
    begun_ms=$(now_ms)
    systemctl daemon-reload
    echo "note: its daemon-reload then takes $(($(now_ms) - begun_ms)) ms," \
        "$(($(manager_ms) - before_ms)) ms of a processor"
    before_ms=$(manager_ms)
    begun_ms=$(now_ms)
    systemctl restart $daemon
    echo "note: a restart of the daemon $(($(now_ms) - begun_ms)) ms, of which from being executed to being ready" \
        "$(($(ready_us) / 1000)) ms; the manager took $(($(manager_ms) - before_ms)) ms of a processor"
    is "sessions, listed" "$(jitbrokerctl sessions 2>&1 | grep -c '^[0-9]')" 1002
    kill -USR1 "$(property "$(unit_of crowd)" MainPID)"
    until_true 60 is_above crowd checks 0 || fail "the crowd is not answered: $(cat count.crowd)"
    is "of 1,000 idle sessions: wrong results, others' bytes, failures" \
        "$(count crowd wrong) $(count crowd mismatched) $(count crowd failed)" "0 0 0"
else
    fail "no crowd: $(cat count.crowd)"
    say_journal "$(unit_of crowd)"
fi
systemctl stop "$(unit_of crowd)"
until_true 30 ends "$expected" || fail "stored after the crowd has gone: $(stored), not $expected"
unharmed "a thousand sessions more"
echo "note: the longest pause of code in all that: $(longest_pause_ms code) ms, of a thread that only sleeps" \
    "$(longest_pause_ms idle) ms"
echo "note: $(systemd-analyze security --no-pager $daemon 2>/dev/null | grep -o 'Overall.*')"

# -- Stopped, and started: what jitbrokerd(8) says of that. No restart: nobody comes back ------------------------------------
systemctl stop $daemon 2>/dev/null
until_true 10 ends 0 || fail "stored when the service is stopped: $(stored)"
for worker in $workers; do
    until_true 10 is_above "$worker" failed 0 || fail "$worker is not told of the stop"
    is "why $worker's operations fail then" "$(count "$worker" last_failure)" "$disconnected"
done
systemctl start $daemon
is "sessions of a service that was stopped and started" "$(jitbrokerctl sessions 2>&1 | grep -c '^[0-9]')" 0
for worker in $workers; do
    failures_before=$(count "$worker" failed)
    until_true 10 is_above "$worker" failed "$failures_before" || fail "$worker's operations are done again: $(cat "count.$worker")"
    is "why they fail when it is started again" "$(count "$worker" last_failure)" "$disconnected"
    calls=$(count "$worker" calls)
    if until_true 5 runs_on "$worker" "$calls"; then ok "$worker runs its code on, when it is stopped and started"
    else fail "$worker when it is stopped and started: $(cat "count.$worker")"; fi
done
served "stopped and started"
for worker in $workers; do systemctl stop "$(unit_of "$worker")"; done
# shellcheck disable=SC2086 # a list of words
begin $workers && ok "workers that were started anew go on as before"
unharmed "a stop, and workers that were started anew"

# -- Stop: sessions end, what is mapped runs on. Removal and purge -----------------------------------------------------------
dpkg --remove jitbrokerd >dpkg.log 2>&1 || fail "remove: $(cat dpkg.log)"
is "service and socket when the package is removed" \
    "$(property $daemon ActiveState) $(property jitbrokerd.socket ActiveState)" "inactive inactive"
until_true 10 is_above steady failed 0 || fail "the worker is not told that the daemon is gone"
for worker in $workers; do
    calls=$(count "$worker" calls)
    if until_true 5 runs_on "$worker" "$calls"; then
        ok "$worker runs its code when the package is removed"
    else fail "$worker when the package is removed: $(cat "count.$worker")"; fi
done
[ -e /etc/jitbroker/jitbrokerd.conf ] || fail "removed, and not purged, its policy is gone"
rm -r /etc/jitbroker/worker
if dpkg --purge jitbrokerd jitbroker-tools libjitclient-dev libjitclient0 >dpkg.log 2>&1; then ok "the packages are purged"
else fail "purge: $(cat dpkg.log)"; fi
left=$(find /etc /run/jitbroker /var/log/jitbroker /usr/sbin /usr/bin /usr/lib /usr/share /var/lib/systemd -name '*jitb*' \
    ! -name 'jitbroker-test*' ! -path "*jitworker@*" 2>/dev/null | tr '\n' ' ')
is "what a purge leaves" "$left" ""
is "the user jitbroker after a purge" "$(getent passwd jitbroker | cut -d: -f6,7)" "/:/usr/sbin/nologin"
is "warnings of dpkg" "$(grep -c 'not empty\|warning' dpkg.log)" 0
for worker in $workers; do
    runs_on "$worker" 0 || fail "$worker after the purge: $(cat "count.$worker")"
    systemctl stop "$(unit_of "$worker")"
done

# -- Installed again, and ready for a reboot ---------------------------------------------------------------------------------
dpkg -i debs-2/*.deb >dpkg.log 2>&1 || fail "reinstall: $(cat dpkg.log)"
is "socket" "$(property jitbrokerd.socket ActiveState) $(systemctl is-enabled jitbrokerd.socket)" "active enabled"
mkdir -p /etc/jitbroker/conf.d
echo '[class default]' >"$policy"
set_up steady ""
begin steady && ok "installed again, a worker is served"
ln -sf "$(systemctl cat jitworker@.service | sed -n '1s/^# //p')" "/etc/systemd/system/multi-user.target.wants/$(unit_of steady)"
systemctl stop "$(unit_of steady)"
until_true 10 ends 0 || fail "stored when no worker is there: $(stored)"
rm -f count.steady
: >ready

[ $failures -eq 0 ] || say_journal $daemon
echo "failures: $failures"
[ $failures -eq 0 ]
