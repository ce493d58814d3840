#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what building and testing need, from Debian; does nothing where it is all there.
set -eu

packages="gcc g++ libc6-dev cmake ninja-build pkg-config binutils libuv1-dev libprotobuf-c-dev
protobuf-c-compiler protobuf-compiler check libsystemd-dev libinih-dev libseccomp-dev nettle-dev
libpcap-dev systemd mandoc spin libcapstone-dev selinux-policy-dev checkpolicy semodule-utils setools
dpkg-dev file lintian python3
${*:-}"

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages:$missing" >&2
    echo "run this once as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
