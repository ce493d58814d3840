#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The units are free of mistakes, and no less hardened than is said of them.
#   units.sh SOURCE_DIR CONFIGURED_DIR DAEMON
# Works on copies whose ExecStart= is the daemon in the build tree.
set -eu

# The exposure, times ten, that is promised. The daemon's 0.5 is: it uses AF_UNIX
# (0.1), has no root directory of its own (0.1), sees peers' uids (PrivateUsers=no,
# 0.2) and processes (ProtectProc=default, 0.2), and the char-rtc that ProtectClock=
# itself allows (0.1), rounded. A user's unit has no figure: the reckoning takes it for
# a service of root's.
daemon_exposure_max=5
worker_exposure_max=2
# The examples also use the network, and PostgreSQL sees users and System V memory.
node_exposure_max=11
postgres_exposure_max=13

source=$(cd "$1" && pwd)
configured=$(cd "$2" && pwd)
daemon=$3

skip() { echo "SKIP: $*"; exit 77; }
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

command -v systemd-analyze >/dev/null || skip "systemd-analyze is not installed"
systemd-analyze --help | grep -q -e --offline || skip "systemd-analyze has no --offline (before 250)"
[ -x "$daemon" ] || skip "the daemon is not built: $daemon"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/user" "$scratch/bin" "$scratch/run"
chmod 700 "$scratch/run"
export XDG_RUNTIME_DIR="$scratch/run"

# The configured units, with the paths that exist here.
printf '#!/bin/sh\n' >"$scratch/bin/worker"
chmod 755 "$scratch/bin/worker"
installed=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$configured/jitbrokerd.service")
workers=$(sed -n 's/^ExecStart=\(.*\)\/%i .*/\1/p' "$configured/jitworker@.service")
for unit in jitbrokerd.service jitworker@.service user/jitbrokerd.service; do
    sed -e "s|$installed|$daemon|g" -e "s|$workers|$scratch/bin|g" \
        "$configured/$unit" >"$scratch/$unit"
    ! grep -q '@[A-Z_]*@' "$scratch/$unit" || fail "$unit has a placeholder left"
done
cp "$source/jitbrokerd.socket" "$source/jitbrokerd-admin.socket" "$scratch/"
cp "$source/user/jitbrokerd.socket" "$source/user/jitbrokerd-admin.socket" "$scratch/user/"

# verify SCOPE UNIT...: no complaint, not even a warning. What it says of other
# units on this machine is none of our business.
verify() {
    scope=$1
    shift
    status=0
    systemd-analyze "$scope" --man=no --recursive-errors=no verify "$@" \
        >"$scratch/output" 2>&1 || status=$?
    if [ $status -ne 0 ] || [ -s "$scratch/output" ]; then
        fail "systemd-analyze $scope verify (status $status):"
        sed 's/^/  /' "$scratch/output"
    else
        echo "ok: verify $scope: nothing to say"
    fi
}
(cd "$scratch" && ln -s jitworker@.service jitworker@worker.service)
verify --system "$scratch/jitbrokerd.socket" "$scratch/jitbrokerd-admin.socket" "$scratch/jitbrokerd.service" \
    "$scratch/jitworker@worker.service"
verify --user "$scratch/user/jitbrokerd.socket" "$scratch/user/jitbrokerd-admin.socket" "$scratch/user/jitbrokerd.service"

# exposure UNIT MAX
exposure() {
    if systemd-analyze security --no-pager --offline=true --threshold="$2" "$1" \
        >"$scratch/output" 2>&1; then
        echo "ok: $(grep -o 'Overall.*' "$scratch/output"), at most $2 tenths"
    else
        fail "${1#"$scratch"/}: exposure above $2 tenths:"
        grep -v '^✓' "$scratch/output" | sed 's/^/  /; s/  *$//'
    fi
}
exposure "$scratch/jitbrokerd.service" $daemon_exposure_max
exposure "$scratch/jitworker@worker.service" $worker_exposure_max

# The examples, where there are any. PostgreSQL's is a drop-in that says all of it, but for how it is stopped.
examples=
if [ -d "$configured/examples" ]; then
    examples="$scratch/node-app.service $scratch/postgresql@15-main.service"
    for example in node-app.service postgresql@15-main.service.d/jitbroker.conf; do
        unit=${example%.d/*}
        sed "s|^ExecStart=/.*/jitbroker-run |ExecStart=$scratch/bin/worker |" "$configured/examples/$example" >"$scratch/$unit"
        grep -q "^ExecStart=$scratch/bin/worker " "$scratch/$unit" || fail "$example does not run jitbroker-run"
        ! grep -q '@[A-Z_]*@' "$scratch/$unit" || fail "$example has a placeholder left"
        # The class of the policy that its comment has.
        sed -n '/^#   \[class/,/^# [^ ]/s/^#   //p' "$scratch/$unit" >"$scratch/class.conf"
        if ! grep -q '^unit=' "$scratch/class.conf" ||
            ! "$daemon" --check-config --config="$scratch/class.conf" >"$scratch/output" 2>&1; then
            fail "$example: the class in its comment: $(cat "$scratch/output")"
        fi
    done
    # shellcheck disable=SC2086 # a list
    verify --system $examples
    exposure "$scratch/node-app.service" $node_exposure_max
    exposure "$scratch/postgresql@15-main.service" $postgres_exposure_max
else
    echo "not tried: the examples (there is no preloaded library here)"
fi

# What no figure shows: without these the broker or a worker's confinement breaks.
for setting in MemoryDenyWriteExecute=yes PrivateUsers=no User=jitbroker; do
    grep -qx "$setting" "$scratch/jitbrokerd.service" || fail "jitbrokerd.service lacks $setting"
done
# Nor this: with less the manager drops sessions that it should keep for the next daemon.
for unit in jitbrokerd.service user/jitbrokerd.service; do
    for setting in NotifyAccess=main Restart=always RestartPreventExitStatus=CONFIG StartLimitIntervalSec=0 \
        "$(sed -n 's/^LimitNOFILE=/FileDescriptorStoreMax=/p' "$scratch/$unit")"; do
        grep -qx "$setting" "$scratch/$unit" || fail "$unit lacks $setting"
    done
    grep -q '^SystemCallFilter=.*\bconnect\b' "$scratch/$unit" ||
        fail "$unit does not allow connect, by which the daemon reaches the manager's store"
done
grep -q '^SystemCallFilter=.*\bmemfd_create\b' "$scratch/jitbrokerd.service" ||
    fail "jitbrokerd.service does not allow memfd_create"
for unit in "$scratch/jitworker@.service" $examples; do
    grep -q '^SystemCallFilter=~.*\bmemfd_create\b' "$unit" || fail "${unit##*/} does not deny memfd_create"
    for setting in MemoryDenyWriteExecute=yes NoNewPrivileges=yes; do
        grep -qx "$setting" "$unit" || fail "${unit##*/} lacks $setting"
    done
done
[ "$(grep '^SystemCallFilter=' "$scratch/jitbrokerd.service")" = \
  "$(grep '^SystemCallFilter=' "$scratch/user/jitbrokerd.service")" ] ||
    fail "the two daemons' system call filters differ"

# What the daemon's own filter allows, the unit's does too: it is the unit's first part, and
# what systemd's groups have. A daemon with a path of its own is not the unit's.
sed -n 's/.*CALL(\([a-z0-9_]*\)).*/\1/p' "$source/../daemon/sandbox.c" | grep -vx call | sort -u >"$scratch/table"
sed '/^# Only until it serves/,$d' "$scratch/jitbrokerd.service" | sed -n 's/^SystemCallFilter=//p' |
    tr ' ' '\n' | sort >"$scratch/first"
for group in @default $(grep '^@' "$scratch/first"); do
    systemd-analyze --no-pager syscall-filter "$group" 2>/dev/null | sed -n 's/^ *\([a-z0-9_]*\)$/\1/p'
done | sort -u >"$scratch/groups"
[ -s "$scratch/table" ] && [ -s "$scratch/groups" ] || fail "no system calls were found to compare"
only_of_path='unlink unlinkat'
missing=$(sort -u "$scratch/first" "$scratch/groups" | comm -23 "$scratch/table" - | tr '\n' ' ')
[ "$missing" = "$only_of_path " ] ||
    fail "jitbrokerd.service lacks calls of daemon/sandbox.c: $missing(not $only_of_path)"
extra=$(grep -v '^@' "$scratch/first" | comm -23 - "$scratch/table" | tr '\n' ' ')
[ -z "$extra" ] || fail "jitbrokerd.service has calls in its first part that daemon/sandbox.c has not: $extra"
echo "ok: the daemon's own filter, and the unit's"

# Users and directories come out as meant.
if command -v systemd-sysusers >/dev/null && command -v systemd-tmpfiles >/dev/null &&
    [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$scratch/root/etc" "$scratch/root/run"
    systemd-sysusers --root="$scratch/root" "$source/jitbroker.sysusers" >"$scratch/output" 2>&1 ||
        fail "systemd-sysusers: $(cat "$scratch/output")"
    grep -q '^jitbroker:.*:/:/usr/sbin/nologin$' "$scratch/root/etc/passwd" ||
        fail "systemd-sysusers made no user jitbroker"
    grep -q '^jitbroker-admin:' "$scratch/root/etc/group" ||
        fail "systemd-sysusers made no group jitbroker-admin"
    systemd-tmpfiles --root="$scratch/root" --create "$source/jitbroker.tmpfiles" \
        >"$scratch/output" 2>&1 || fail "systemd-tmpfiles: $(cat "$scratch/output")"
    [ "$(stat -c '%a %U' "$scratch/root/run/jitbroker")" = "755 root" ] ||
        fail "systemd-tmpfiles made no /run/jitbroker, or not like this"
    echo "ok: sysusers.d and tmpfiles.d"
else
    echo "not tried: sysusers.d and tmpfiles.d (needs root)"
fi

[ $failures -eq 0 ]
