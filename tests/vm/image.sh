#!/bin/bash
# Makes the image of the virtual machine: image.sh DIR
#
# DIR then holds vmlinuz and root.ext4: a minimal Debian of the same release as this machine, its
# cloud kernel, real systemd, unified cgroup v2. Nothing is installed on this machine itself.
set -euo pipefail

dir=${1:?usage: image.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?this machine is not a Debian}")
packages=systemd,systemd-sysv,dbus,udev,kmod,iproute2,nftables,procps,curl,perl-base,git

# The packages come from the sources that this machine's apt already uses for Debian itself.
sources=/etc/apt/sources.list.d/debian.sources
[ -s "$sources" ] || sources=/etc/apt/sources.list

mkdir -p "$dir"
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

echo "image: kernel"
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
(cd "$work" && apt-get -o APT::Sandbox::User=root -q download "${kernel:?no kernel package known: run apt-get update}" > /dev/null)
dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"

echo "image: Debian $suite"
mmdebstrap --quiet --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" "$sources" > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*

# Debian's kernels have veth, nftables and overlay as modules.
mkdir -p "$root/usr/lib/modules"
cp -a "$work"/kernel/lib/modules/. "$root/usr/lib/modules/"
for version in "$root"/usr/lib/modules/*; do chroot "$root" depmod "${version##*/}"; done

echo "image: settings"
echo guest > "$root/etc/hostname"
printf '127.0.0.1 localhost guest\n' > "$root/etc/hosts"
: > "$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
install -m 755 "$here/job.sh" "$root/usr/local/sbin/vm-job"
cat > "$root/etc/systemd/system/vm-job.service" <<'UNIT'
[Unit]
Description=The job of this boot
After=multi-user.target
[Service]
ExecStart=/usr/local/sbin/vm-job
Environment=HOME=/root
KillMode=process
UNIT
cat > "$root/etc/systemd/system/vm.target" <<'UNIT'
[Unit]
Requires=multi-user.target
Wants=vm-job.service
AllowIsolate=yes
UNIT
ln -sf vm.target "$root/etc/systemd/system/default.target"
# What a machine that lives for seconds does not need.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-timesyncd.service getty@tty1.service \
    serial-getty@ttyS0.service systemd-update-utmp.service systemd-pstore.service \
    systemd-udev-trigger.service systemd-random-seed.service dev-hugepages.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount modprobe@drm.service modprobe@fuse.service \
    proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

echo "image: file system"
truncate -s 1536M "$work/root.ext4"
mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1,root_owner=0:0 -d "$root" "$work/root.ext4"
cp "$work"/kernel/boot/vmlinuz-* "$dir/vmlinuz"
mv "$work/root.ext4" "$dir/root.ext4"
