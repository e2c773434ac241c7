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
subject=Upstart
. "$here/in-namespaces.sh"
need_binaries
init=${METACTL_UPSTART_INIT:-}
initctl=${METACTL_UPSTART_INITCTL:-}
[ -x "$init" ] && [ -x "$initctl" ] ||
    skip "METACTL_UPSTART_INIT and METACTL_UPSTART_INITCTL do not name a built Upstart"
need_controllers
make_place upstart
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
. "$work/job/own-root.sh"
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

make_cgroups
(
    enter_cgroups
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
tell_result Upstart upstart
