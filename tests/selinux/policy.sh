#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The SELinux module compiles, links with Debian's policy, and then grants what it is meant to and
# no more. No kernel enforces it here.
#   policy.sh SOURCE
# Debian's policy is looked for in $JITBROKER_SELINUX_POLICY (/usr/share/selinux/default), as the
# package selinux-policy-default has it; it need not be installed:
#   apt-get download selinux-policy-default && dpkg -x selinux-policy-default_*.deb DIR
#   JITBROKER_SELINUX_POLICY=DIR/usr/share/selinux/default ctest --preset release -R selinux
set -eu
export LC_ALL=C

source=$1/selinux
devel=/usr/share/selinux/devel/Makefile
policy=${JITBROKER_SELINUX_POLICY:-/usr/share/selinux/default}

skip() { echo "SKIP: $*"; exit 77; }
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

command -v checkmodule >/dev/null || skip "checkmodule is not installed (checkpolicy)"
command -v semodule_package >/dev/null || skip "semodule_package is not installed (semodule-utils)"
[ -f $devel ] || skip "the reference policy's headers are not installed (selinux-policy-dev)"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# compile DIR: DIR/jitbroker.pp from the sources there
compile() { make -s -C "$1" -f $devel NAME=default jitbroker.pp >"$scratch/output" 2>&1; }

mkdir "$scratch/module"
cp "$source"/jitbroker.* "$scratch/module/"
if compile "$scratch/module" && ! grep -i warning "$scratch/output"; then echo "ok: it compiles"
else fail "it does not compile, or not without a warning:"; cat "$scratch/output"; exit 1; fi

for program in semodule_link semodule_expand sesearch bunzip2; do
    command -v $program >/dev/null || {
        echo "not tried: what it grants ($program is not installed)"
        exit 0
    }
done
[ -f "$policy/base.pp.bz2" ] || {
    echo "not tried: what it grants (no $policy/base.pp.bz2: see the beginning of policy.sh)"
    exit 0
}
bunzip2 -c "$policy/base.pp.bz2" >"$scratch/base.pp"

# link DIR: DIR/policy, as the kernel would load it, from the base and DIR/jitbroker.pp
link() {
    semodule_link -o "$1/linked" "$scratch/base.pp" "$1/jitbroker.pp" >"$scratch/output" 2>&1 &&
        semodule_expand "$1/linked" "$1/policy" >>"$scratch/output" 2>&1
}
if link "$scratch/module"; then echo "ok: it links with $policy"
else fail "it does not link with $policy:"; cat "$scratch/output"; exit 1; fi

# types SOURCE CLASS PERMISSION: the types on which it has that
types() { sesearch -A -s "$1" -c "$2" -p "$3" "$scratch/module/policy" |
    sed -n 's/^allow [a-z_0-9]* \([a-z_0-9]*\):.*/\1/p' | sort -u | tr '\n' ' '; }
# is WHAT ACTUAL EXPECTED
is() { if [ "$2" = "$3" ]; then echo "ok: $1: ${2:-nothing}"; else fail "$1: '$2', not '$3'"; fi; }

for domain in jitworker_t jitbrokerd_t; do
    is "$domain makes memory executable" "$(types $domain process execmem,execstack,execheap)" ""
    is "$domain executes what it has changed" "$(types $domain file execmod)" "textrel_shlib_t "
done
is "jitworker_t executes" "$(types jitworker_t file execute)" \
    "jitbrokerd_tmpfs_t jitworker_exec_t ld_so_t lib_t textrel_shlib_t "
is "jitbrokerd_t executes" "$(types jitbrokerd_t file execute)" \
    "jitbrokerd_exec_t ld_so_t lib_t textrel_shlib_t "
types jitworker_t file write,append | tr ' ' '\n' >"$scratch/writes"
grep -qx jitworker_tmpfs_t "$scratch/writes" || fail "jitworker_t does not write even its own tmpfs"
is "jitworker_t writes and executes" \
    "$(types jitworker_t file execute | tr ' ' '\n' | comm -12 - "$scratch/writes" | grep -v '^$' || true)" ""
is "jitbrokerd_t writes and executes" \
    "$(types jitbrokerd_t file write,append | tr ' ' '\n' >"$scratch/writes"
       types jitbrokerd_t file execute | tr ' ' '\n' | comm -12 - "$scratch/writes" | grep -v '^$' || true)" ""
is "jitworker_t on arenas" \
    "$(sesearch -A -s jitworker_t -t jitbrokerd_tmpfs_t -c file "$scratch/module/policy")" \
    "allow jitworker_domain jitbrokerd_tmpfs_t:file { execute getattr map read };"
is "a memfd of the daemon" "$(sesearch -T -s jitbrokerd_t -t tmpfs_t -c file "$scratch/module/policy")" \
    "type_transition jitbrokerd_t tmpfs_t:file jitbrokerd_tmpfs_t;"
is "a memfd of the worker" "$(sesearch -T -s jitworker_t -t tmpfs_t -c file "$scratch/module/policy")" \
    "type_transition jitworker_t tmpfs_t:file jitworker_tmpfs_t;"

# Each of the promises, broken: the neverallow rules must find it.
while read -r rule; do
    rm -rf "$scratch/broken"
    mkdir "$scratch/broken"
    cp "$source"/jitbroker.* "$scratch/broken/"
    echo "$rule" >>"$scratch/broken/jitbroker.te"
    if ! compile "$scratch/broken"; then fail "it does not compile with: $rule"; cat "$scratch/output"
    elif link "$scratch/broken"; then fail "nothing forbids: $rule"
    elif grep -qi neverallow "$scratch/output"; then echo "ok: forbidden: $rule"
    else fail "forbidden for some other reason: $rule"; cat "$scratch/output"; fi
done <<'RULES'
allow jitworker_t self:process execmem;
allow jitworker_t jitworker_tmpfs_t:file execute;
allow jitworker_t jitworker_tmpfs_t:file execmod;
allow jitworker_t jitbrokerd_tmpfs_t:file write;
allow jitworker_t jitbrokerd_tmpfs_t:file open;
allow jitworker_t jitbrokerd_t:process ptrace;
allow jitbrokerd_t self:process execmem;
allow jitbrokerd_t jitbrokerd_tmpfs_t:file execute;
RULES

[ $failures -eq 0 ]
