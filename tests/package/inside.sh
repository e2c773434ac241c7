#!/bin/bash
# In a clean root, as its only process: the life of the Debian package.
set -euo pipefail
fail() { echo "packages: $*" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

# What dpkg, what it triggers and groupadd (copies of the files before its change) write themselves is no trace of ours.
files() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/lib/dpkg -o \
    -path /var/cache/man -o -path /var/log/dpkg.log -o -path /mnt -o -path /etc/group- -o -path /etc/gshadow- \) -prune -o -print | sort
}
files >/tmp/before

dpkg -i /metactl.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "it cannot be installed"; }
getent group metactl >/dev/null || fail "there is no group metactl"
grep -q metactl <<<"$(metactl version)" || fail "metactl version"
metactl-runtime --version >/dev/null || fail "metactl-runtime --version"
man -w metactl >/dev/null && man -w metactl.conf >/dev/null || fail "the manual pages are not found"
[[ -s /usr/share/bash-completion/completions/metactl ]] || fail "no completion for bash"
[[ -z $(find /usr/share/doc/metactl /usr/bin/metactl* ! -user root) ]] || fail "files of somebody else"

# An application, in the sandbox that a person would get.
mkdir /tmp/app
printf '[daemon.one]\nplatform = exec\ncommand = ./one.sh\n[firewall.out]\npolicy = accept\n[sandbox.net]\nmode = none\n' >/tmp/app/.metactl
printf '#!/bin/sh\necho "inside as $(id -u)"\n' >/tmp/app/one.sh
chmod 755 /tmp/app/one.sh
metactl run /tmp/app >/tmp/out 2>&1 || { cat /tmp/out; fail "metactl run"; }
grep -q 'inside as [1-9]' /tmp/out || { cat /tmp/out; fail "it did not run"; }

# An upgrade leaves configuration alone; so does removing it.
mkdir -p /etc/metactl/nodes /var/lib/metactl/shop/data /var/lib/metactl/shop/releases /var/log/metactl/shop
echo '# mine' >/etc/metactl/nodes/shop.conf
echo precious >/var/lib/metactl/shop/data/orders
dpkg -i /metactl.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "it cannot be installed again"; }
dpkg -r metactl >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "it cannot be removed"; }
[[ ! -e /usr/bin/metactl ]] || fail "metactl is still there"
[[ -s /etc/metactl/nodes/shop.conf ]] || fail "removing it took the configuration away"

dpkg -P metactl >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "it cannot be purged"; }
grep -q '/var/lib/metactl/shop/data' /tmp/dpkg.log || fail "nobody is told that data stay"
[[ $(cat /var/lib/metactl/shop/data/orders) == precious ]] || fail "purging it took data of an application away"
[[ $(ls -A /var/lib/metactl/shop) == data ]] || fail "purging it left more than data: $(ls -A /var/lib/metactl/shop)"
rm -r /var/lib/metactl

files >/tmp/after
diff /tmp/before /tmp/after >/tmp/left || { cat /tmp/left; fail "the package left something behind"; }
