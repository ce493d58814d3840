#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What container.sh runs inside between container-inside.sh, which installs the packages, and durability-inside.sh:
# PostgreSQL and node as Debian has them, in the units that are among the examples. Their compilers work, no
# process of theirs has memory that can be written and run, and they go on working when the daemon is another.
# Exits 0 if all of it holds, and leaves neither of them, nor a daemon.
set -u

# shellcheck source=tests/systemd/report-inside.sh
. ./report-inside.sh

examples=/usr/share/doc/jitbroker-tools/examples
policy=/etc/jitbroker/conf.d
units=/etc/systemd/system
postgres=postgresql@15-main.service
node='node-app.service'
rounds_more=3 # of whatever goes on
scratch=/jitbroker-test/unmodified
install -d -m 755 $scratch
install -d -o postgres $scratch/psql

# serve EXAMPLE NAME: the class that its comment has is the policy from here on, beside others
serve() {
    sed -n '/^#   \[class/,/^# [^ ]/s/^#   //p' "$examples/$1" >"$policy/$2.conf"
    systemctl reload-or-restart $daemon
}
# unbrokered EXAMPLE: the same unit with the same hardening, and without jitbroker-run
unbrokered() { sed 's|^\(ExecStart=\).*/jitbroker-run \(--[a-z]* [a-z]* \)*|\1|' "$examples/$1"; }
sessions_of() { jitbrokerctl sessions 2>&1 | grep " $1\$"; }
# is_confined WHAT PID
is_confined() {
    is "$1: no new privileges, seccomp filter" \
        "$(awk '$1 == "NoNewPrivs:" || $1 == "Seccomp:" { printf "%s ", $2 }' "/proc/$2/status")" "1 2 "
    is "$1: mappings that can be run, of these also written" "$(awk '$2 ~ /^..x/ { run = 1 } $2 ~ /^.wx/ { both++ }
        END { print run ? "some" : "none", both + 0 }' "/proc/$2/maps")" "some 0"
    is "$1: mounts that it can write and execute" "$(writable_and_executable "$2" | tr '\n' ' ')" ""
}
# has_code WHAT PID: of the broker's memory, by which it runs
has_code() {
    if grep -q '^[^ ]* r-x.*memfd:' "/proc/$2/maps"; then ok "$1: it maps code of the broker's"
    else fail "$1: it maps no code of the broker's"; fi
}
restart() { systemctl restart $daemon; }
crash() { kill -KILL "$(property $daemon MainPID)"; }

mkdir -p $policy
rm -f $policy/*.conf
for unit in jitbrokerd.socket $daemon; do systemctl reset-failed $unit 2>/dev/null; done
systemctl start jitbrokerd.socket

# -- PostgreSQL ---------------------------------------------------------------------------------------------------
pg_createcluster 15 main >pg.log 2>&1 || fail "pg_createcluster: $(cat pg.log)"
mkdir -p "$units/$postgres.d"
# psql ARGUMENT...: as postgres, bare answers
ask() { (cd / && runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -d postgres "$@" 2>&1); }
compiled='SET jit = on; SET jit_above_cost = 0'
optimized='SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0'
parallel='SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0'
query='SELECT sum(a * 3 + b) FROM numbers WHERE a % 7 = b % 7'
expected=$((30000 * 30001 / 2 * 3 + 30000 * 30001 / 2)) # a and b are both 1 to 30000
start_postgres() {
    systemctl daemon-reload
    systemctl reset-failed $postgres 2>/dev/null
    systemctl restart $postgres && return
    fail "PostgreSQL does not start: $(tail -n 5 /var/log/postgresql/postgresql-15-main.log)"
    say_journal $postgres
    exit 1
}

unbrokered $postgres.d/jitbroker.conf >"$units/$postgres.d/jitbroker.conf"
! grep -q '^ExecStart=.*jitbroker-run' "$units/$postgres.d/jitbroker.conf" || fail "this is not without jitbroker-run"
start_postgres
ask -c 'CREATE TABLE numbers AS SELECT a, a AS b FROM generate_series(1, 30000) a; ANALYZE numbers'
is "without jitbroker-run, PostgreSQL's answer where nothing is compiled" "$(ask -c "SET jit = off; $query")" $expected
answer=$(ask -c "$compiled; $query")
if [ "$answer" != $expected ]; then ok "without jitbroker-run, what is compiled fails: $(echo "$answer" | head -n 1)"
else fail "without jitbroker-run, what is compiled is answered"; fi

cp "$examples/$postgres.d/jitbroker.conf" "$units/$postgres.d/"
systemctl daemon-reload
systemctl restart $postgres 2>/dev/null
is "PostgreSQL that the policy does not serve" "$(property $postgres ExecMainStatus)" 125
echo "note: it says: $(tail -n 1 /var/log/postgresql/postgresql-15-main.log)"
serve $postgres.d/jitbroker.conf postgresql
start_postgres
is "what systemd-analyze says of $postgres" "$(systemd-analyze verify --man=no $postgres 2>&1)" ""
echo "note: $(systemd-analyze security --no-pager $postgres 2>/dev/null | grep -o 'Overall.*')"
is_confined "PostgreSQL" "$(property $postgres MainPID)"
echo "note: $(pg_lsclusters -h)"

# Four connections that ask until they are told to stop, each twice a round: by what, and the answer. One round is
# ahead of the answers.
connections="1 2 3 4"
rounds_of() { grep -c "^sum=$expected\$" "$scratch/psql/$1"; }
has_rounds() { [ "$(rounds_of "$1")" -ge "$2" ]; }
ask_on() {
    echo "$compiled; $parallel; SELECT 'pid=' || pg_backend_pid();"
    asked=0
    # What can't write is not ended by SIGPIPE, which a service ignores.
    while [ ! -e $scratch/stop ] && echo "EXPLAIN (ANALYZE) $query; SELECT 'sum=' || ($query);"; do
        until_true 60 has_rounds "$1" $asked || break
        asked=$((asked + 1))
    done
}
for n in $connections; do
    : >"$scratch/psql/$n"
    ask_on "$n" | ask >>"$scratch/psql/$n" &
done
# connections_go_on WHAT
connections_go_on() {
    for n in $connections; do
        before=$(rounds_of "$n")
        until_true 60 has_rounds "$n" $((before + rounds_more)) || {
            fail "$1: connection $n does not go on: $(tail -n 5 "$scratch/psql/$n")"
            return
        }
    done
    ok "$1: 4 connections go on, each with $(rounds_of 1) answers or so"
}
connections_go_on "PostgreSQL"
for n in $connections; do
    backend=$(sed -n 's/^pid=//p' "$scratch/psql/$n")
    is_confined "backend $n" "$backend"
    has_code "backend $n" "$backend"
    if sessions_of $postgres | grep -q " $backend "; then ok "backend $n is a session of $postgres"
    else fail "backend $n, $backend, is none of $(jitbrokerctl sessions 2>&1)"; fi
done

# -- node ------------------------------------------------------------------------------------------------------------
install -D -m 644 unmodified-app.js /srv/node-app/main.js
mkdir -p $units/$node.d
printf '[Service]\nRestart=no\nStandardOutput=append:%s/node\nStandardError=journal\n' $scratch \
    >$units/$node.d/test.conf
unbrokered $node >$units/$node
! grep -q '^ExecStart=.*jitbroker-run' $units/$node || fail "this is not without jitbroker-run"
node_rounds() { grep -c '"round"' $scratch/node; }
has_ended() { [ "$(property "$1" ActiveState)" = failed ]; }
start_node() {
    systemctl daemon-reload
    systemctl reset-failed $node 2>/dev/null
    systemctl start $node
}
start_node
until_true 30 has_ended $node
node_says() { echo "note: it says: $(journalctl -q --no-pager -o cat _SYSTEMD_UNIT=$node | grep "$1" | tail -n 1)"; }
is "without jitbroker-run, node" "$(property $node ActiveState), $(node_rounds) rounds" "failed, 0 rounds"
node_says '[Ff]atal'

cp "$examples/$node" $units/
start_node
until_true 30 has_ended $node
is "node that the policy does not serve" "$(property $node ExecMainStatus)" 125
node_says jitbroker-run
serve $node node-app
start_node
is "what systemd-analyze says of $node" "$(systemd-analyze verify --man=no $node 2>&1)" ""
echo "note: $(systemd-analyze security --no-pager $node 2>/dev/null | grep -o 'Overall.*')"
node_has_rounds() { [ "$(node_rounds)" -ge "$1" ]; }
node_goes_on() {
    if until_true 60 node_has_rounds $(($(node_rounds) + 10)); then ok "$1: node goes on with new code"
    else
        fail "$1: node does not go on: $(tail -n 1 $scratch/node)"
        say_journal $node
        : >$scratch/stop
        exit 1
    fi
}
node_goes_on "node"
node_pid=$(property $node MainPID)
is_confined "node" "$node_pid"
has_code "node" "$node_pid"
is "sessions of $node" "$(sessions_of $node | awk '{ printf "%s ", $3 }')" "$node_pid "

# -- The daemon is another, while both work ---------------------------------------------------------------------------
postgres_pid=$(property $postgres MainPID)
# The sessions of what goes on all the time: parallel workers come and go.
lasting="$node_pid $(sed -n 's/^pid=//p' $scratch/psql/* | tr '\n' ' ')"
lasting_sessions() {
    jitbrokerctl sessions | awk -v pids=" $lasting " 'index(pids, " " $3 " ") { printf "%s:%s ", $1, $3 }'
}
sessions_before=$(lasting_sessions)
for change in restart crash; do
    pid=$(property $daemon MainPID)
    $change
    until_true 10 is_new_and_active "$pid" || fail "$change: the daemon is not back"
    is "$change: sessions" "$(lasting_sessions)" "$sessions_before"
    connections_go_on "$change"
    node_goes_on "$change"
done
is "the programs' processes after that" "$(property $postgres MainPID) $(property $node MainPID)" \
    "$postgres_pid $node_pid"

# -- All that they did was right, and compiled ------------------------------------------------------------------------
systemctl stop $node
is "node's rounds that were wrong or not optimized" "$(grep -vc '"right":true,"optimized":true}$' $scratch/node)" 0
is "node, stopped" "$(property $node Result)" success
: >$scratch/stop
wait
for n in $connections; do
    rounds=$(rounds_of "$n")
    plans=$(sed -n '/^JIT:/,/^  Timing:/s/^  Timing: .*Emission [0-9.]* ms, .*/compiled/p' "$scratch/psql/$n" | wc -l)
    is "connection $n: answers, plans that were compiled" "$rounds $plans" "$rounds $rounds"
    is "connection $n: other answers, errors" "$(grep '^sum=' "$scratch/psql/$n" | grep -vc "=$expected\$") $(
        grep -c 'ERROR\|FATAL\|closed' "$scratch/psql/$n")" "0 0"
done
echo "note: a plan: $(sed -n '/^JIT:/,/Timing/p' $scratch/psql/1 | tail -n 4 | tr '\n' ' ')"
is_alone() { [ "$(sessions_of $postgres | awk '{ print $3 }')" = "$postgres_pid" ]; }
if until_true 10 is_alone; then ok "the server's own session is left"
else fail "sessions when all connections are closed: $(sessions_of $postgres)"; fi
systemctl reload $postgres || fail "PostgreSQL does not reload"
is "PostgreSQL's answer after a reload" "$(ask -c "$compiled; $optimized; $query")" $expected
systemctl stop $postgres
is "PostgreSQL, stopped" "$(property $postgres Result)" success
[ ! -e /run/postgresql/15-main.pid ] || fail "it leaves its pid file"
is "jitbroker-run's messages since it is served" \
    "$(grep 'jitbroker-run' /var/log/postgresql/postgresql-15-main.log | grep -v 'refused by policy')" ""

pg_dropcluster 15 main
rm -rf "$units/$postgres.d" "$units/$node.d" /srv/node-app
rm -f $units/$node $policy/postgresql.conf $policy/node-app.conf
systemctl daemon-reload
systemctl stop jitbrokerd.socket $daemon 2>/dev/null

echo "failures: $failures"
[ $failures -eq 0 ]
