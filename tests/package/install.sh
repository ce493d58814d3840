#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh BUILD CC CXX SANITIZE: installs to a folder, finds everything where Debian
# has such things, and builds and runs a program against it in each way there is.
set -eu
build=$1
cc=$2
cxx=$3
sanitize=$4
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "$sanitize" ]; then
    echo "skipped: a library with sanitizers is not one to install"
    exit 77
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root cmake --install "$build" >/dev/null

lib=$(cd "$root/usr/lib" && dirname "$(find . -name libjitclient.so | head -n 1)")
for file in usr/sbin/jitbrokerd usr/bin/jitbrokerctl usr/include/jitclient.h \
    "usr/lib/$lib/libjitclient.so" "usr/lib/$lib/libjitclient.so.0" "usr/lib/$lib/libjitclient.a" \
    "usr/lib/$lib/pkgconfig/libjitclient.pc" "usr/lib/$lib/cmake/jitclient/jitclientConfig.cmake" \
    usr/lib/systemd/system/jitbrokerd.service usr/lib/systemd/system/jitbrokerd.socket \
    usr/lib/systemd/system/jitbrokerd-admin.socket \
    usr/lib/systemd/user/jitbrokerd.service usr/lib/sysusers.d/jitbroker.conf \
    usr/lib/tmpfiles.d/jitbroker.conf usr/share/man/man3/libjitclient.3 usr/share/man/man8/jitbrokerd.8 \
    usr/share/man/man5/jitbrokerd.conf.5 usr/share/man/man1/jitbrokerctl.1 \
    usr/bin/jitbroker-run usr/share/man/man1/jitbroker-run.1 \
    usr/share/bash-completion/completions/jitbrokerctl usr/share/bash-completion/completions/jitbroker-run; do
    [ -e "$root/$file" ] || [ -e "$root/lib/${file#usr/lib/}" ] || { echo "not installed: $file"; exit 1; }
done
grep -q "^ExecStart=/usr/sbin/jitbrokerd" "$(find "$root" -path '*/system/jitbrokerd.service')"

# Where the package's own paths lie, as if it were installed at /.
export PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_PATH="$root/usr/lib/$lib/pkgconfig"
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
export LD_LIBRARY_PATH="$root/usr/lib/$lib"
export JITBROKER_DAEMON="$root/usr/sbin/jitbrokerd"
cd "$root"

# The launcher finds its parts from where it is.
if [ -e "$root/usr/lib/$lib/jitbroker/libjitpreload.so" ]; then
    env -u JITBROKER_DAEMON "$root/usr/bin/jitbroker-run" --private-broker env | grep "^LD_PRELOAD=$root/usr/lib/"
fi

run() {
    printf '%s: ' "$1"
    "./$1"
}
flags=$(pkg-config --cflags --libs libjitclient)
# shellcheck disable=SC2046,SC2086 # lists of words
{
    "$cc" -std=c17 -Wall -Wextra -Werror -pedantic -o c_shared "$here/integrator.c" $flags
    run c_shared
    "$cc" -std=c99 -Wall -Wextra -Werror -o c99_shared "$here/integrator.c" $flags
    run c99_shared
    "$cxx" -std=c++11 -Wall -Wextra -Werror -pedantic -x c++ -o cxx_shared "$here/integrator.c" -x none $flags
    run cxx_shared
    # The sysroot is for our paths only: the other libraries are the system's.
    "$cc" -o c_static "$here/integrator.c" -I "$root/usr/include" "$root/usr/lib/$lib/libjitclient.a" \
        $(PKG_CONFIG_SYSROOT_DIR='' pkg-config --libs libprotobuf-c libseccomp) -pthread
    LD_LIBRARY_PATH='' run c_static
}

mkdir cmake-project
cp "$here/integrator.c" cmake-project
cat >cmake-project/CMakeLists.txt <<'EOF'
cmake_minimum_required(VERSION 3.25)
project(integrator C)
find_package(jitclient 0.1 REQUIRED)
add_executable(cmake_shared integrator.c)
target_link_libraries(cmake_shared PRIVATE jitbroker::jitclient)
EOF
cmake -S cmake-project -B . -DCMAKE_PREFIX_PATH="$root/usr" -DCMAKE_C_COMPILER="$cc" >/dev/null
cmake --build . >/dev/null
run cmake_shared
