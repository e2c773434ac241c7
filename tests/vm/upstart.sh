#!/bin/bash
# The checks of upstart-checks.sh: real Upstart as PID 1 in namespaces of its own, over a copy in memory of this machine's
# root. No distribution that is alive packages Upstart: who has built it names it.
#
#   METACTL_UPSTART_INIT=/path/to/init METACTL_UPSTART_INITCTL=/path/to/initctl tests/vm/upstart.sh
#                              exit 0: passed, 77: skipped with the reason, else: failed
#
# METACTL_CRON names a cron(8), which is then run beside it. METACTL_BIN and METACTL_RUNTIME_BIN name the binaries, as for
# run.sh. Nothing of the machine itself changes: its root is the lower layer of an overlay, and its cgroups get a
# directory that goes at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}

skip() {
    echo "SKIP Upstart: $*" >&2
    [ -z "${METACTL_SKIPS:-}" ] || echo "Upstart: $*" >> "$METACTL_SKIPS"
    exit 77
}
newest() { ls -t "$target/release/$1" "$target/debug/$1" 2> /dev/null | head -n 1 || true; }
metactl=${METACTL_BIN:-$(newest metactl)}
runtime=${METACTL_RUNTIME_BIN:-$(newest metactl-runtime)}
for binary in "$metactl" "$runtime"; do
    [ -x "$binary" ] || { echo "metactl and metactl-runtime are not built (cargo build)" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || skip "needs root"
init=${METACTL_UPSTART_INIT:-}
initctl=${METACTL_UPSTART_INITCTL:-}
[ -x "$init" ] && [ -x "$initctl" ] ||
    skip "METACTL_UPSTART_INIT and METACTL_UPSTART_INITCTL do not name a built Upstart"
controllers=
for name in cpu cpuacct cpuset memory devices freezer blkio pids; do
    if mountpoint -q "/sys/fs/cgroup/$name"; then controllers="$controllers $name"; fi
done
case " $controllers " in *" memory "*) ;; *) skip "the memory controller of this machine is not in cgroup v1" ;; esac

# What is made is below a directory of ours in every hierarchy.
trees=$controllers
for tree in systemd unified; do
    if mountpoint -q "/sys/fs/cgroup/$tree"; then trees="$trees $tree"; fi
done
name=metactl-upstart-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/metactl-upstart.XXXXXX")
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
cp "$init" "$work/job/init"
cp "$initctl" "$work/job/initctl"
[ -z "${METACTL_CRON:-}" ] || cp "$METACTL_CRON" "$work/job/cron"
# What runs when Upstart has booted.
cat > "$work/job/first.sh" <<'JOB'
#!/bin/bash
cd /job || exit 1
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. ./lib.sh
git config --global user.name Test
git config --global user.email test@example.org
git config --global init.defaultBranch main
(cd hello && git init -q && git add -A && git commit -q -m 'First version' && git tag 1.0)
mkdir -p /etc/metactl/nodes
state_of_machine > /tmp/before
. ./upstart-checks.sh
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
mkdir -p etc/init var/log/upstart etc/cron.d usr/local/sbin
rm -f etc/init/* etc/cron.d/*
cp job/init usr/local/sbin/init
cp job/initctl usr/local/sbin/initctl
install -m 755 job/metactl job/metactl-runtime usr/local/bin/
[ ! -e job/cron ] || cp job/cron usr/sbin/cron
cat > etc/init/first.conf <<'CONF'
start on startup
task
exec /bin/bash -c 'bash /job/first.sh > /job/said 2>&1; echo $? > /job/code'
CONF
ip link set lo up
pivot_root . mnt
umount -l /mnt
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /usr/local/sbin/init --no-sessions
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
    exec unshare --mount --pid --cgroup --net --uts --ipc --fork --kill-child \
        bash "$work/boot.sh" "$work" "$controllers" < /dev/null > "$work/console" 2>&1
) &
upstart=$!
# Upstart does not end: whoever waits for the result ends it.
for _ in $(seq 3000); do
    [ ! -s "$work/job/code" ] && kill -0 "$upstart" 2> /dev/null || break
    sleep 0.1
done
kill -KILL "$upstart" 2> /dev/null || true
wait "$upstart" 2> /dev/null || true
[ ! -e "$work/job/said" ] || sed 's/^/upstart| /' "$work/job/said"
code=$(cat "$work/job/code" 2> /dev/null || true)
if [ -z "$code" ]; then
    echo "Upstart in namespaces: no result; its console ends with" >&2
    tail -n 30 "$work/console" >&2
    exit 1
fi
[ "$code" = 0 ] && echo "Upstart: passed" || echo "Upstart: FAILED" >&2
exit "$code"
