# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# What the other scripts that are run inside say, and how they look at units.
failures=0
ok() { echo "ok: $*"; }
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }
# is WHAT ACTUAL EXPECTED
is() { if [ "$2" = "$3" ]; then ok "$1: $2"; else fail "$1: $2, not $3"; fi; }
property() { systemctl show --value -p "$2" "$1"; }
# until SECONDS COMMAND...: true as soon as the command is
until_true() {
    tries=$(($1 * 10))
    shift
    while [ $tries -gt 0 ]; do
        "$@" && return 0
        tries=$((tries - 1))
        sleep 0.1
    done
    return 1
}
say_journal() { journalctl -q --no-pager -o cat -n 15 -u "$1" | sed 's/^/    /'; }

daemon=jitbrokerd.service
main_pid_is_not() { pid=$(property $daemon MainPID); [ "$pid" != 0 ] && [ "$pid" != "$1" ]; }
is_active() { [ "$(property $daemon ActiveState)" = active ]; }
is_new_and_active() { main_pid_is_not "$1" && is_active; }
# A worker is served, and runs code.
runs_code() {
    systemctl reset-failed jitworker@doctor.service 2>/dev/null
    systemctl start jitworker@doctor.service 2>/dev/null
}
# writable_and_executable PID: the mounts it sees that are both.
writable_and_executable() {
    awk '$6 ~ /^rw/ && $6 !~ /noexec/ { print $5 }' "/proc/$1/mountinfo" | sort -u |
        while read -r mount; do
            # Of mounts on top of each other the last one counts.
            awk -v mount="$mount" '$5 == mount { options = $6 } END { print mount, options }' \
                "/proc/$1/mountinfo"
        done | awk '$2 ~ /^rw/ && $2 !~ /noexec/ && $1 !~ /^\/run\/host\// { print $1 }'
}
