#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What container.sh runs inside first, as root, under a booted systemd: the packages install, and
# the daemon's unit does what it says. Exits 0 if all of it holds.
set -u

# shellcheck source=tests/systemd/report-inside.sh
. ./report-inside.sh

# -- As installed ---------------------------------------------------------------
# dpkg finds all that the packages need in the base system.
if dpkg -i debs-1/*.deb >dpkg.log 2>&1; then ok "the packages install"; else fail "dpkg -i: $(cat dpkg.log)"; fi
is "socket" "$(property jitbrokerd.socket ActiveState) $(systemctl is-enabled jitbrokerd.socket)" "active enabled"
is "daemon before anyone connects" "$(property $daemon ActiveState)" inactive
is "socket's mode" "$(stat -c %a:%U /run/jitbroker/socket)" 666:root
is "its directory's" "$(stat -c %a:%U /run/jitbroker)" 755:root
is "operators' socket" "$(property jitbrokerd-admin.socket ActiveState) $(stat -c %a:%U:%G /run/jitbroker/admin)" \
    "active 660:root:jitbroker-admin"
# What the units say is to be read about them is there.
for page in $(systemctl cat jitbrokerd.service jitbrokerd.socket jitbrokerd-admin.socket jitworker@.service |
    sed -n 's/^Documentation=//p' | tr ' ' '\n' | sed -n 's/^man:\(.*\)(\(.\))$/man\2\/\1.\2/p' | sort -u); do
    gzip -t "/usr/share/man/$page.gz" || fail "no manual page $page"
done
is "completion" "$(bash -c '. /usr/share/bash-completion/completions/jitbrokerctl; complete -p jitbrokerctl' 2>&1 |
    grep -c jitbrokerctl)" 1

workers=$(systemctl cat jitworker@.service | sed -n 's/^ExecStart=\(.*\)\/%i .*/\1/p')
policy=$(jitbrokerd --check-config | sed -n '1s|: .*||p')
arguments=$(dirname "$policy")/worker
config=$(dirname "$policy")/conf.d/test.conf
mkdir -p "$workers" "$arguments" "$(dirname "$config")"
# Here a worker is run to its end, and its status is the job's.
mkdir -p /etc/systemd/system/jitworker@doctor.service.d
printf '[Service]\nType=oneshot\nTimeoutStartSec=30s\n' >/etc/systemd/system/jitworker@doctor.service.d/test.conf
for worker in confined pcapjit; do
    cp -r /etc/systemd/system/jitworker@doctor.service.d /etc/systemd/system/jitworker@$worker.service.d
done
systemctl daemon-reload
install -m 755 "$(command -v jitbrokerctl)" "$workers/doctor"
echo 'WORKER_ARGS=doctor' >"$arguments/doctor"

# work NAME: runs jitworker@NAME to its end and shows what it printed.
work() {
    since=$(date +%s)
    systemctl reset-failed "jitworker@$1.service" 2>/dev/null
    if systemctl start "jitworker@$1.service" 2>/dev/null; then
        ok "worker $1 ends well"
    else
        fail "worker $1: $(property "jitworker@$1.service" ExecMainStatus)"
    fi
    journalctl -q --no-pager -o cat --since "@$since" "_SYSTEMD_UNIT=jitworker@$1.service" |
        tail -n 25 | sed 's/^/    /'
}

# -- The first connection starts it ----------------------------------------------
if runs_code; then fail "the policy serves someone as installed"; else ok "the policy serves nobody as installed"; fi
is "daemon after a connection that was refused" "$(property $daemon ActiveState)" active
systemctl stop $daemon 2>/dev/null
echo '[class default]' >"$config" # everyone
work doctor
is "daemon after the first connection" "$(property $daemon ActiveState)" active
if journalctl -q -u $daemon --no-pager | grep -q 'session_started: session=1 .* ring=yes'; then ok "its session has a ring"
else fail "the unit's confinement leaves its session without a ring"; fi
journalctl --sync
# fields MATCH...: how many records of the journal have these fields
fields() { journalctl -q --no-pager -o cat -u $daemon "$@" | wc -l; }
is "its start as the fields of a record" "$(fields JITBROKER_EVENT=session_started JITBROKER_SESSION=1 \
    JITBROKER_CLASS=default PRIORITY=6 SYSLOG_IDENTIFIER=jitbrokerd)" 1
is "its end" "$(fields JITBROKER_EVENT=session_ended JITBROKER_SESSION=1)" 1
if [ "$(fields JITBROKER_EVENT=session_refused PRIORITY=5)" -gt 0 ]; then ok "so was who was refused"
else fail "no record has the event of who was refused"; fi
pid=$(property $daemon MainPID)
is "its user" "$(stat -c %U "/proc/$pid")" jitbroker
status_of() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
is "its capabilities" "$(status_of CapEff) $(status_of CapBnd)" "0000000000000000 0000000000000000"
is "no new privileges, seccomp filter" "$(status_of NoNewPrivs) $(status_of Seccomp)" "1 2"
if journalctl -q -u $daemon --no-pager | grep -q 'no filter of system calls'; then fail "it has no filter of its own"
else ok "it has a filter of its own as well: $(status_of Seccomp_filters) in all"; fi
is "the unit of another user's process, as it sees it" \
    "$(nsenter -t "$pid" -m setpriv --reuid=jitbroker --clear-groups cat /proc/1/cgroup 2>&1)" \
    "$(cat /proc/1/cgroup)"
if grep -q '^[^ ]* .wx' "/proc/$pid/maps"; then fail "it has memory that is writable and executable"
else ok "it has no memory that is writable and executable"; fi
if grep 'memfd:' "/proc/$pid/maps" | grep -q '^[^ ]* ..x'; then fail "it maps a memfd executable"
else ok "it maps no memfd executable"; fi
[ "$(ls "/proc/$pid/net" 2>/dev/null)" ] && is "network interfaces" \
    "$(awk -F: 'NR > 2 { gsub(/ /, "", $1); printf "%s", $1 }' "/proc/$pid/net/dev")" lo

is "mounts that it can write and execute" "$(writable_and_executable "$pid" | tr '\n' ' ')" ""

# -- The worker's confinement is real ---------------------------------------------
case $(uname -m) in
x86_64) memfd_create=319 mmap=9 mprotect=10 ;;
aarch64) memfd_create=279 mmap=222 mprotect=226 ;;
*) memfd_create= ;;
esac
if [ "$memfd_create" ]; then
    cat >/jitbroker-test/confined.pl <<PERL
my \$name = "x";
my \$open = 0;
sub try { my (\$what, \$result) = @_; my \$why = \$!;
          print \$result == -1 ? "\$what: \$why\n" : "\$what: it can\n"; \$open++ if \$result != -1; }
try("memfd_create", syscall($memfd_create, \$name, 0));
try("mmap write+execute", syscall($mmap, 0, 4096, 7, 0x22, -1, 0));
my \$page = syscall($mmap, 0, 4096, 3, 0x22, -1, 0);
try("mprotect to execute", syscall($mprotect, \$page, 4096, 5));
for my \$directory ("/dev/shm", "/tmp", "/var/tmp", "/run/lock") {
    my \$path = "\$directory/code.\$\$";
    if (!open(my \$file, "+>", \$path)) { print "a file in \$directory: \$!\n"; }
    else {
        unlink \$path;
        syswrite(\$file, "\xc3" x 4096);
        try("mmap of a file in \$directory", syscall($mmap, 0, 4096, 5, 1, fileno(\$file), 0));
    }
}
exit(\$ARGV[0] eq "none" ? \$open != 0 : \$open < 6);
PERL
    if perl /jitbroker-test/confined.pl all >/dev/null; then ok "unconfined, the ways to executable memory are open"
    else fail "the confinement test itself does not work: $(perl /jitbroker-test/confined.pl all)"; fi
    install -m 755 /usr/bin/perl "$workers/confined"
    echo 'WORKER_ARGS=/jitbroker-test/confined.pl none' >"$arguments/confined"
    work confined
fi

# -- Real work, where it was built --------------------------------------------------
if [ -x /jitbroker-test/pcapjit ] && /jitbroker-test/mkcapture /jitbroker-test/capture 100000; then
    install -m 755 /jitbroker-test/pcapjit "$workers/pcapjit"
    echo 'WORKER_ARGS=/jitbroker-test/capture "tcp and port 443 or udp"' >"$arguments/pcapjit"
    work pcapjit
else
    echo "not tried: pcapjit (not built)"
fi

# -- The trail of what is written ----------------------------------------------------
is "directory for an audit file" "$(stat -c %a:%U /var/log/jitbroker)" 700:jitbroker
[ ! -e "$config" ] || cp "$config" /jitbroker-test/config
# records JOURNALCTL_MATCH...: fields of the trail, one record a line
records() { journalctl -q --no-pager -u $daemon -o json "$@" MESSAGE_ID=307c61b7f7fb4558b61762a8d5e318a9; }
printf '[class default]\naudit=journal\n' >"$config"
systemctl restart $daemon
is "records of writes in the journal, before any" "$(records | wc -l)" 0
if runs_code; then ok "a worker is served while the journal has the trail"
else fail "no worker is served while the journal has the trail"; fi
has_records() { [ "$(records JITBROKER_VERDICT=ok | wc -l)" -gt 0 ]; }
if until_true 10 has_records; then ok "the journal has $(records | wc -l) records of its writes"
else fail "the journal has no record of its writes"; fi
digest='"JITBROKER_DIGEST":"sha256:[0-9a-f]\{64\}"'
is "of these with a session, a size and a digest" \
    "$(records | grep '"JITBROKER_SESSION":"1"' | grep '"JITBROKER_SIZE":"[0-9]*"' | grep -c "$digest")" \
    "$(records JITBROKER_VERDICT=ok | wc -l)"
printf '[daemon]\naudit_file=/var/log/jitbroker/audit\n[class default]\naudit=file\n' >"$config"
systemctl restart $daemon
if runs_code; then ok "a worker is served while a file has it"
else fail "no worker is served while a file has it"; say_journal $daemon; fi
systemctl stop $daemon 2>/dev/null
is "the file's mode" "$(stat -c %a:%U /var/log/jitbroker/audit)" 600:jitbroker
if grep -q '"session":1,.*"digest":"sha256:[0-9a-f]*","verdict":"ok"}$' /var/log/jitbroker/audit; then
    ok "it has $(wc -l </var/log/jitbroker/audit) records"
else fail "it has no record of a write"; fi
rm -f "$config"
[ ! -e /jitbroker-test/config ] || mv /jitbroker-test/config "$config"
runs_code || fail "no worker is served without a trail"

# -- Reload -------------------------------------------------------------------------
if [ "$(property $daemon CanReload)" = yes ]; then
    pid=$(property $daemon MainPID)
    if systemctl reload $daemon && sleep 0.5 && is_active; then ok "reloads"; else fail "does not reload"; fi
    is "reloaded daemon's pid" "$(property $daemon MainPID)" "$pid"
fi

# -- Crashes, and more of them than a start limit would take --------------------------
for _ in 1 2 3 4 5 6 7 8; do
    pid=$(property $daemon MainPID)
    [ "$pid" != 0 ] || { fail "no daemon to kill"; break; }
    kill -KILL "$pid"
    until_true 10 is_new_and_active "$pid" || { fail "not restarted after SIGKILL"; say_journal $daemon; break; }
done
is "restarts after 8 crashes" "$(property $daemon NRestarts)" 8
if runs_code; then ok "a worker is served after that"; else fail "no worker is served after that"; fi

# -- Watchdog -------------------------------------------------------------------------
mkdir -p /etc/systemd/system/$daemon.d
printf '[Service]\nWatchdogSec=2s\n' >/etc/systemd/system/$daemon.d/test.conf
systemctl daemon-reload
systemctl restart $daemon
pid=$(property $daemon MainPID)
sleep 5
is "daemon's pid after 5 s under a watchdog of 2 s" "$(property $daemon MainPID)" "$pid"
[ "$pid" = 0 ] || kill -STOP "$pid"
if until_true 20 is_new_and_active "$pid"; then ok "a daemon that hangs is restarted"
else fail "a daemon that hangs is not restarted"; say_journal $daemon; fi
if journalctl -q --no-pager -o cat -u $daemon | grep -q 'Watchdog timeout'; then ok "by the watchdog"
else fail "but not by the watchdog"; fi
if runs_code; then ok "a worker is served after that"; else fail "no worker is served after that"; fi

# -- A broken policy file is said once, not tried forever ------------------------------
[ ! -e "$config" ] || cp "$config" /jitbroker-test/config
echo 'this is no policy' >"$config"
systemctl restart $daemon 2>/dev/null
sleep 1
is "daemon with a broken policy" "$(property $daemon ActiveState), exit $(property $daemon ExecMainStatus)" \
    "failed, exit 78"
rm -f "$config"
[ ! -e /jitbroker-test/config ] || cp /jitbroker-test/config "$config"
systemctl reset-failed $daemon jitbrokerd.socket 2>/dev/null
systemctl start jitbrokerd.socket
if runs_code; then ok "a worker is served once it is mended"; else fail "no worker is served once it is mended"; fi

# -- Stop --------------------------------------------------------------------------------
since=$(date +%s)
systemctl stop $daemon 2>/dev/null
is "stopped daemon" "$(property $daemon ActiveState) $(property $daemon Result) $(property $daemon ExecMainStatus)" \
    "inactive success 0"
is "socket, still" "$(property jitbrokerd.socket ActiveState)" active
if [ $(($(date +%s) - since)) -le 3 ]; then ok "it stops at once"; else fail "it takes long to stop"; fi
if runs_code; then ok "the next connection starts it again"; else fail "it does not start again"; fi
systemctl stop jitbrokerd.socket $daemon
is "stopped with its socket" "$(property $daemon ActiveState) $(property $daemon Result)" "inactive success"
if [ -e /run/jitbroker/socket ]; then fail "the socket's file is left"; else ok "the socket's file is gone"; fi

# -- A user's own broker -------------------------------------------------------------------
# Without logind there is no user@.service: a service that is the user's manager will do.
useradd --create-home tester
uid=$(id -u tester)
install -d -m 700 -o tester "/run/user/$uid"
cat >/etc/systemd/system/user-manager.service <<UNIT
[Service]
Type=notify
User=tester
Environment=XDG_RUNTIME_DIR=/run/user/$uid
ExecStart=/lib/systemd/systemd --user
Delegate=yes
TimeoutStartSec=20s
UNIT
as_user() { runuser -u tester -- env "XDG_RUNTIME_DIR=/run/user/$uid" "$@"; }
systemctl daemon-reload
if systemctl start user-manager.service; then
    as_user systemctl --user start jitbrokerd.socket || fail "the user's socket does not start"
    is "user's daemon before anyone connects" \
        "$(as_user systemctl --user show --value -p ActiveState $daemon)" inactive
    if as_user jitbrokerctl doctor >/jitbroker-test/doctor 2>&1; then ok "the user's broker runs code"
    else fail "the user's broker does not run code"; sed 's/^/    /' /jitbroker-test/doctor; fi
    is "user's daemon after that" "$(as_user systemctl --user show --value -p ActiveState $daemon)" active
    if as_user jitbrokerctl "--admin=/run/user/$uid/jitbroker/admin" status >status.text 2>&1; then
        ok "it tells its user what it does"
    else fail "it does not tell its user what it does: $(cat status.text)"; fi
    pid=$(as_user systemctl --user show --value -p MainPID $daemon)
    is "its user" "$(stat -c %U "/proc/$pid")" tester
    is "no new privileges, seccomp filter" "$(status_of NoNewPrivs) $(status_of Seccomp)" "1 2"
    as_user systemctl --user stop $daemon 2>/dev/null
    is "stopped" "$(as_user systemctl --user show --value -p Result $daemon)" success
else
    fail "no user's manager"
    say_journal user-manager.service
fi

[ $failures -eq 0 ] || say_journal $daemon
echo "failures: $failures"
[ $failures -eq 0 ]
