#!/bin/bash
# The checks of systemd.sh without a virtual machine: real systemd as PID 1 in namespaces of its own, over a copy in
# memory of this machine's root, with the controllers of cgroup v1 (systemd's "hybrid" setup). For machines whose own
# cgroups are v1; where they are v2, run.sh does the same in a virtual machine.
#
#   tests/vm/namespaces.sh     exit 0: passed, 77: skipped with the reason, else: failed
#
# METACTL_BIN and METACTL_RUNTIME_BIN name the binaries, as for run.sh; METACTL_VM_GUEST names another script to run there
# than the checks, METACTL_VM_PARTS some of the checks (systemd.sh names.sh), METACTL_VM_TIMEOUT the seconds for all of it (400). Nothing of the machine itself changes: its root is
# the lower layer of an overlay, and its cgroups get a directory that goes at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
subject='systemd on cgroup v1'
. "$here/in-namespaces.sh"
need_binaries
[ -x /lib/systemd/systemd ] || skip "systemd is not installed (apt-get install systemd)"
need_controllers
make_place systemd
[ -z "${METACTL_VM_GUEST:-}" ] || cp "$METACTL_VM_GUEST" "$work/job/guest.sh"
echo "${METACTL_VM_PARTS:-systemd.sh names.sh}" > "$work/job/parts"
# What runs when systemd has booted.
cat > "$work/job/first.sh" <<'JOB'
#!/bin/bash
cd /job || exit 1
. ./lib.sh
install -m 755 metactl metactl-runtime /usr/local/bin/
git config --global user.name Test
git config --global user.email test@example.org
git config --global init.defaultBranch main
if [ -n "${1:-}" ]; then
    bash "./$1"
    exit
fi
(cd hello && git init -q && git add -A && git commit -q -m 'First version' && git tag 1.0)
mkdir -p /etc/metactl/nodes
state_of_machine > /tmp/before
for part in $(cat parts); do . "./$part"; done
exit "$failed"
JOB
cat > "$work/boot.sh" <<'BOOT'
set -e
work=$1
controllers=$2
. "$work/job/own-root.sh"
cat > etc/systemd/system/first.service <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/bash -c 'bash /job/first.sh GUEST > /job/said 2>&1; echo $? > /job/code; systemctl exit 0'
UNIT
sed -i "s/first.sh GUEST/first.sh $3/" etc/systemd/system/first.service
printf '[Unit]\nRequires=multi-user.target\nWants=first.service\nAllowIsolate=yes\n' > etc/systemd/system/first.target
# Nothing of the machine itself is to run a second time.
mkdir -p etc/systemd/system/multi-user.target.wants
rm -f etc/systemd/system/multi-user.target.wants/* etc/systemd/system/timers.target.wants/* \
    etc/systemd/system/sockets.target.wants/* etc/systemd/system/network-online.target.wants/*
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-timesyncd.service console-getty.service getty.target getty-static.service getty@tty1.service \
    proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
ip link set lo up
pivot_root . mnt
umount -l /mnt
exec env -i container=metactl PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd systemd.unit=first.target systemd.show_status=0 systemd.log_target=journal
BOOT

make_cgroups
(
    enter_cgroups
    # unshare --fork ignores SIGTERM; when it is killed, everything in there is.
    exec timeout --kill-after=1 "${METACTL_VM_TIMEOUT:-400}" unshare --mount --pid --cgroup --net --uts --ipc --fork --kill-child \
        bash "$work/boot.sh" "$work" "$controllers" "${METACTL_VM_GUEST:+guest.sh}" < /dev/null > "$work/console" 2>&1
) || true
tell_result systemd v1
