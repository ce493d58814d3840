#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The project's packages under a real, booted systemd (Debian 12, in systemd-nspawn).
#   container.sh BUILD_DIR
# Needs root. The base system is made once, with the network, and kept in
# $JITBROKER_CONTAINER_CACHE (/var/tmp/jitbroker-container); everything else is
# temporary. What is tried inside: container-inside.sh (the unit does what it says),
# unmodified-inside.sh (PostgreSQL and node as services, by jitbroker-run), then
# durability-inside.sh (workers outlive the daemon), before and after a reboot.
set -eu

suite=bookworm
packages=systemd,systemd-sysv,libprotobuf-c1,libuv1,libsystemd0,libinih1,libnettle8,libseccomp2,libpcap0.8,libcapstone4,libprotobuf-c-dev,libseccomp-dev
programs="postgresql-15 nodejs" # with compilers that know of no broker: unmodified-inside.sh
time_limit_s=900 # of one boot: far more than it takes, unless the machine is busy

build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cache=${JITBROKER_CONTAINER_CACHE:-/var/tmp/jitbroker-container}
mirror=${JITBROKER_CONTAINER_MIRROR:-http://deb.debian.org/debian}

skip() { echo "SKIP: $*"; exit 77; }

[ "$(id -u)" -eq 0 ] || skip "needs root"
command -v systemd-nspawn >/dev/null || skip "systemd-nspawn is not installed (systemd-container)"
cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
[ -n "$cgroups" ] || skip "no cgroup2 is mounted"

# make_base DIRECTORY. The programs by apt, which knows their dependencies; nothing is started, and PostgreSQL's
# cluster is made inside.
make_base() {
    debootstrap --variant=minbase --include=$packages $suite "$1" "$mirror" || return
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
    mkdir -p "$1/etc/postgresql-common"
    echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    # shellcheck disable=SC2086 # a list
    chroot "$1" sh -c 'apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"' apt $programs || return
    rm -rf "$1/usr/sbin/policy-rc.d" "$1/etc/resolv.conf" "$1/var/cache/apt" "$1/var/lib/apt/lists"
}

# The base system; whoever comes second waits for whoever makes it.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$cache/$suite" ] || [ "$(cat "$cache/packages" 2>/dev/null)" != "$packages $programs" ]; then
    command -v debootstrap >/dev/null || skip "debootstrap is not installed, and $cache is empty"
    echo "making a base system in $cache (once)"
    rm -rf "$cache/${suite:?}" "$cache/$suite.partial"
    if ! make_base "$cache/$suite.partial" >"$cache/debootstrap.log" 2>&1; then
        rm -rf "$cache/$suite.partial"
        skip "no base system can be made: $(tail -n 1 "$cache/debootstrap.log")"
    fi
    mv "$cache/$suite.partial" "$cache/$suite"
    echo "$packages $programs" >"$cache/packages"
fi
flock -u 9
exec 9>&-

scratch=$(mktemp -d)
machine=jitbroker-test-$$
cgroup=$cgroups/$machine
container=
clean_up() {
    # timeout(1) passes SIGTERM on to nspawn, which powers off. Whatever happens, nothing
    # in the cgroup outlives this script.
    if [ -n "$container" ]; then
        kill -TERM "$container" 2>/dev/null || :
        wait "$container" 2>/dev/null || :
    fi
    [ ! -e "$cgroup/cgroup.kill" ] || echo 1 >"$cgroup/cgroup.kill"
    # The kernel empties a cgroup a moment after its last process has gone.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "$cgroup" ] || break
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || :
        [ ! -d "$cgroup" ] || sleep 0.2
    done
    # nspawn leaves these where /run is no tmpfs.
    rmdir "/run/systemd/nspawn/propagate/$machine" 2>/dev/null || :
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# This project's packages beside it, in two versions; they are installed inside.
root=$scratch/root
cp -a --reflink=auto "$cache/$suite" "$root"
mkdir -p "$root/jitbroker-test"
(cd "$build" && cpack -G DEB -B "$scratch/debs") >"$scratch/cpack.log" 2>&1 ||
    { cat "$scratch/cpack.log"; exit 1; }
mkdir "$root/jitbroker-test/debs-1" "$root/jitbroker-test/debs-2"
cp "$scratch"/debs/*.deb "$root/jitbroker-test/debs-1"
# The second is the first with another number.
for deb in "$scratch"/debs/*.deb; do
    version=$(dpkg-deb -f "$deb" Version)
    rm -rf "$scratch/content"
    dpkg-deb -R "$deb" "$scratch/content"
    sed -i "s/\b${version%-*}-1\b/${version%-*}-2/" "$scratch/content/DEBIAN/control"
    dpkg-deb -Znone -b "$scratch/content" "$root/jitbroker-test/debs-2" >"$scratch/cpack.log"
done
cp "$here"/*-inside.sh "$here"/unmodified-app.js "$root/jitbroker-test/"
# Programs that are built, but not installed: workers and what makes the input of one.
for program in pcapjit mkcapture steady-worker; do
    find "$build" -type f -name "$program" -perm -u+x \
        -exec cp {} "$root/jitbroker-test/" \;
done
cat >"$root/etc/systemd/system/jitbroker-test.service" <<'UNIT'
[Unit]
Description=The test
Wants=sockets.target
After=sockets.target systemd-user-sessions.service
FailureAction=exit-force

[Service]
Type=oneshot
ExecStart=/bin/sh /jitbroker-test/run.sh
StandardOutput=append:/jitbroker-test/log
StandardError=inherit
TimeoutStartSec=infinity
UNIT
# The first boot ends in a reboot, the second with the status of all.
cat >"$root/jitbroker-test/run.sh" <<'RUN'
cd /jitbroker-test
if [ ! -e status ]; then
    status=0
    sh container-inside.sh || status=1
    sh unmodified-inside.sh || status=1
    sh durability-inside.sh before || status=1
    echo $status >status
    trap '' TERM # or being stopped would be its failure, and end the container
    systemctl --no-block start reboot.target
else
    status=$(cat status)
    sh durability-inside.sh after || status=1
    trap '' TERM # as above
    systemctl --no-block exit $status
fi
RUN
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../jitbroker-test.service "$root/etc/systemd/system/multi-user.target.wants/"
for unit in apt-daily.timer apt-daily-upgrade.timer console-getty.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Neither machined nor a service manager is needed out here, only a cgroup of our own:
# nspawn makes one for its payload next to itself. Its own system call filter would hide
# Landlock from the workers.
mkdir "$cgroup" || skip "no cgroup can be made in $cgroups"
boot() {
    (
        echo 0 >"$cgroup/cgroup.procs"
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
        exec timeout -k 10 $time_limit_s systemd-nspawn --quiet --directory="$root" \
            --machine=$machine --register=no --keep-unit --private-network \
            --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
            --link-journal=no --resolv-conf=off --timezone=off --console=read-only --boot
    ) </dev/null >>"$scratch/console" 2>&1 &
    container=$!
    status=0
    wait "$container" || status=$?
    container=
}
boot
# With --keep-unit nspawn leaves it to its caller to boot again (133). Once, as the test does.
[ $status -ne 133 ] || boot

if [ ! -s "$root/jitbroker-test/log" ]; then
    if grep -q 'systemd .* running in system mode' "$scratch/console"; then
        tail -n 20 "$scratch/console"
        echo "FAIL: the container booted, but the test did not start (status $status)"
        exit 1
    fi
    skip "systemd-nspawn can't boot here: $(tail -n 3 "$scratch/console" | tr '\n' ' ')"
fi
cat "$root/jitbroker-test/log"
[ $status -ne 124 ] && [ $status -ne 137 ] || echo "FAIL: not done in $time_limit_s s"
exit $status
