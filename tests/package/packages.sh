#!/bin/sh
# SPDX-License-Identifier: MIT
# packages.sh BUILD SANITIZE: makes the Debian packages under a strict umask, and looks into them:
# nothing that is installed is missing, nobody is kept from reading it, the symbols file is what the
# library exports, and lintian has no errors.
set -eu
build=$(cd "$1" && pwd)
sanitize=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
skip() { echo "skipped: $*"; exit 77; }
[ -z "$sanitize" ] || skip "a library with sanitizers is not one to install"
for tool in cpack dpkg-deb dpkg-shlibdeps dpkg-gensymbols; do
    command -v $tool >/dev/null || skip "no $tool (dpkg-dev)"
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

mkdir "$root/debs" "$root/content" "$root/control" "$root/installed"
(cd "$build" && umask 077 && cpack -G DEB -B "$root/debs") >"$root/log" 2>&1 || { cat "$root/log"; exit 1; }
[ "$(cd "$root/debs" && echo *.deb | sed 's/_[^ ]*//g')" = \
  "jitbroker-tools jitbrokerd libjitclient-dev libjitclient0" ] || fail "packages: $(ls "$root/debs")"

for deb in "$root"/debs/*.deb; do
    name=$(basename "$deb" | sed 's/_.*//')
    dpkg-deb -c "$deb" >"$root/list"
    awk '{ print $1, $2, $6 }' "$root/list" | while read -r mode owner path; do
        case $mode$path in
        drwxr-xr-x* | l* | -rw-r--r--* | -rwxr-xr-x*bin/*) ;;
        *) echo "$mode $path" ;;
        esac
        [ "$owner" = root/root ] || echo "$owner $path"
    done >"$root/odd"
    [ ! -s "$root/odd" ] || fail "$name: $(cat "$root/odd")"
    dpkg-deb -x "$deb" "$root/content"
    dpkg-deb -e "$deb" "$root/control/$name"
    for script in preinst postinst prerm postrm; do
        [ ! -e "$root/control/$name/$script" ] || sh -n "$root/control/$name/$script" || fail "$name: $script"
    done
    for file in copyright changelog.gz changelog.Debian.gz; do
        [ -s "$root/content/usr/share/doc/$name/$file" ] || fail "$name has no $file"
    done
    grep -q "^Copyright: .*jitbroker authors" "$root/content/usr/share/doc/$name/copyright" ||
        fail "$name: whose copyright?"
done

# What cmake installs is in a package: pages compressed, documents by package, and the policy's
# example where it counts.
DESTDIR=$root/installed cmake --install "$build" >/dev/null
(cd "$root/installed" && find . ! -type d) | sed -e 's|/man/.*|&.gz|' -e 's|/doc/jitbroker/|/doc/*/|' \
    -e 's|usr/share/doc/\*/examples/jitbrokerd.conf|etc/jitbroker/jitbrokerd.conf|' | sort >"$root/expected"
(cd "$root/content" && find . ! -type d) |
    grep -v '/doc/[^/]*/\(copyright\|changelog.gz\|changelog.Debian.gz\)$' |
    sed 's|/doc/[^/]*/|/doc/*/|' | sort >"$root/actual"
diff "$root/expected" "$root/actual" || fail "what is installed is not what the packages have"
[ "$(cat "$root/control/jitbrokerd/conffiles")" = /etc/jitbroker/jitbrokerd.conf ] || fail "conffiles"
cmp -s "$source/daemon/jitbrokerd.conf" "$root/content/etc/jitbroker/jitbrokerd.conf" || fail "not the policy"
for socket in "$source"/systemd/*.socket; do
    for script in postinst prerm postrm; do
        grep -q "[ ]$(basename "$socket")\b" "$root/control/jitbrokerd/$script" ||
            fail "$script knows no $(basename "$socket")"
    done
done

# Each function of the library, with the version since which it is there: who adds one adds a line.
mkdir "$root/content/debian"
printf 'Source: jitbroker\n\nPackage: libjitclient0\nArchitecture: any\n' >"$root/content/debian/control"
(cd "$root/content" && dpkg-gensymbols -c4 -q -plibjitclient0 -v"$(dpkg-deb -f ../debs/libjitclient0_*.deb Version)" \
    -P. -O/dev/null -I"$source/cmake/debian/symbols") || fail "cmake/debian/symbols is not what the library exports"

# Argued: nobody uploads this to Debian (initial-upload-closes-no-bugs), and cpack calls ldconfig
# whether or not there is a trigger (maintscript-calls-ldconfig).
if command -v lintian >/dev/null; then
    chmod -R a+rX "$root/debs"
    lintian --allow-root --fail-on error,warning \
        --suppress-tags initial-upload-closes-no-bugs,maintscript-calls-ldconfig "$root"/debs/*.deb || fail "lintian"
else
    echo "not tried: lintian (not installed)"
fi
[ $failures -eq 0 ]
