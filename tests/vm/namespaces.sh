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
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}

skip() {
    echo "SKIP systemd on cgroup v1: $*" >&2
    [ -z "${METACTL_SKIPS:-}" ] || echo "systemd on cgroup v1: $*" >> "$METACTL_SKIPS"
    exit 77
}
newest() { ls -t "$target/release/$1" "$target/debug/$1" 2> /dev/null | head -n 1 || true; }
metactl=${METACTL_BIN:-$(newest metactl)}
runtime=${METACTL_RUNTIME_BIN:-$(newest metactl-runtime)}
for binary in "$metactl" "$runtime"; do
    [ -x "$binary" ] || { echo "metactl and metactl-runtime are not built (cargo build)" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || skip "needs root"
[ -x /lib/systemd/systemd ] || skip "systemd is not installed (apt-get install systemd)"
controllers=
for name in cpu cpuacct cpuset memory devices freezer blkio pids; do
    if mountpoint -q "/sys/fs/cgroup/$name"; then controllers="$controllers $name"; fi
done
case " $controllers " in *" memory "*) ;; *) skip "the memory controller of this machine is not in cgroup v1" ;; esac

# What systemd makes is below a directory of ours in every hierarchy.
trees=$controllers
for tree in systemd unified; do
    if mountpoint -q "/sys/fs/cgroup/$tree"; then trees="$trees $tree"; fi
done
name=metactl-systemd-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/metactl-systemd.XXXXXX")
cleanup() {
    local tree _
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for tree in $trees; do
            [ ! -d "/sys/fs/cgroup/$tree/$name" ] ||
                find "/sys/fs/cgroup/$tree/$name" -depth -type d -exec rmdir {} \; 2> /dev/null || true
        done
        compgen -G "/sys/fs/cgroup/*/$name" > /dev/null || break
        sleep 0.2
    done
    rm -rf "$work"
}
trap cleanup EXIT

mkdir "$work/job" "$work/memory" "$work/root"
cp "$here"/*.sh "$work/job/"
cp "$metactl" "$work/job/metactl"
cp "$runtime" "$work/job/metactl-runtime"
cp -R "$top/examples/hello" "$work/job/hello"
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
mount --make-rprivate /
mount -t tmpfs memory "$work/memory"
mkdir "$work/memory/upper" "$work/memory/work"
mount -t overlay root -o "lowerdir=/,upperdir=$work/memory/upper,workdir=$work/memory/work" "$work/root"
cd "$work/root"
mkdir -p job
mount --bind "$work/job" job
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
for dir in run tmp; do mount -t tmpfs "$dir" "$dir"; done
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
for controller in $controllers; do
    mkdir "sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
done
mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
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

for tree in $trees; do
    mkdir "/sys/fs/cgroup/$tree/$name"
    if [ "$tree" = cpuset ]; then
        for file in mems cpus; do
            cat "/sys/fs/cgroup/cpuset/cpuset.$file" > "/sys/fs/cgroup/cpuset/$name/cpuset.$file"
        done
        echo 1 > "/sys/fs/cgroup/cpuset/$name/cgroup.clone_children"
    fi
done
(
    for tree in $trees; do echo "$BASHPID" > "/sys/fs/cgroup/$tree/$name/cgroup.procs"; done
    # unshare --fork ignores SIGTERM; when it is killed, everything in there is.
    exec timeout --kill-after=1 "${METACTL_VM_TIMEOUT:-400}" unshare --mount --pid --cgroup --net --uts --ipc --fork --kill-child \
        bash "$work/boot.sh" "$work" "$controllers" "${METACTL_VM_GUEST:+guest.sh}" < /dev/null > "$work/console" 2>&1
) || true
[ ! -e "$work/job/said" ] || sed 's/^/v1| /' "$work/job/said"
code=$(cat "$work/job/code" 2> /dev/null || true)
if [ -z "$code" ]; then
    echo "systemd in namespaces: no result; its console ends with" >&2
    tail -n 30 "$work/console" >&2
    exit 1
fi
[ "$code" = 0 ] && echo "systemd on cgroup v1: passed" || echo "systemd on cgroup v1: FAILED" >&2
exit "$code"
