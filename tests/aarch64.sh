#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds all for AArch64 with Debian's cross compiler, warnings for errors, and runs the unit tests under qemu-user.
#   tests/aarch64.sh [DIRECTORY]    the libraries and the build go there (default: build/aarch64)
# The libraries are Debian's, unpacked there; nothing of them is installed. Of the tests those are left out that
# ask for what qemu-user does not do, each with its reason below. It takes some minutes and, the first time, the network.
set -eu
cd "$(dirname "$0")/.."
into=$(mkdir -p "${1:-build/aarch64}" && cd "${1:-build/aarch64}" && pwd)
root=$into/root
libraries="libc6-dev libuv1-dev libprotobuf-c-dev check libsystemd-dev libseccomp-dev libinih-dev libcapstone-dev
nettle-dev libpcap-dev libgcc-12-dev"

for program in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$program" >/dev/null || {
        echo "aarch64.sh: $program is missing: apt-get install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user" >&2
        exit 2
    }
done

if [ ! -e "$into/unpacked" ]; then
    mkdir -p "$into/apt/lists/partial" "$into/apt/archives/partial" "$root"
    : >"$into/apt/status"
    arm() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Install-Recommends=0 \
            -o Dir::State="$into/apt" -o Dir::State::status="$into/apt/status" -o Dir::Cache="$into/apt" "$@"
    }
    arm update
    # shellcheck disable=SC2086 # a list of words
    arm install -y --download-only $libraries >/dev/null
    for package in "$into"/apt/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    # What they link to absolutely is in here as well.
    find "$root" -type l -lname '/*' | while read -r link; do
        ln -sfn "$root$(readlink "$link")" "$link"
    done
    touch "$into/unpacked"
fi

export PKG_CONFIG_LIBDIR="$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig"
export PKG_CONFIG_SYSROOT_DIR="$root"
cmake -G Ninja -S . -B "$into/build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DJITBROKER_WERROR=ON \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_SYSROOT="$root" \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
    -DCMAKE_FIND_ROOT_PATH="$root" -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER >/dev/null
cmake --build "$into/build" -- --quiet

why_not() {
    case $1 in
    test_arena) echo "MADV_REMOVE is answered and not done" ;;
    test_arena_huge) echo "no huge pages are told" ;;
    test_record) echo "descriptors beyond what was asked for are not closed" ;;
    test_ring_sleep) echo "no ptrace" ;;
    test_sandbox_filter) echo "no seccomp" ;;
    esac
}

ran=0
failed=""
for test in "$into"/build/tests/unit/test_*; do
    name=${test##*/}
    reason=$(why_not "$name")
    if [ -n "$reason" ]; then
        echo "left out: $name: under qemu-user $reason"
        continue
    fi
    status=0
    qemu-aarch64 -L "$root" "$test" >"$into/$name.out" 2>&1 || status=$?
    case $status in
    0) ran=$((ran + 1)) ;;
    77) echo "$name: $(tail -n 1 "$into/$name.out")" ;;
    *) failed="$failed $into/$name.out" ;;
    esac
done
echo "$ran programs of tests passed on AArch64"
if [ -n "$failed" ]; then
    echo "failed, see$failed" >&2
    exit 1
fi
