#!/bin/bash
# What is checked inside the virtual machine: the small example, deployed, started and stopped under
# real systemd, with its limits in unified cgroup v2 and the default directories; first with metactl's own
# supervisor, then by units of systemd (systemd.sh), over a reboot of the machine.
cd /job || exit 1
. ./lib.sh
install -m 755 metactl metactl-runtime /usr/local/bin/
# The second boot.
if [ -e /var/lib/vm-rebooted ]; then
    . ./rebooted.sh
    exit "$failed"
fi

check "unified cgroups" grep -q '^0::/' /proc/self/cgroup
check "systemd is PID 1" is systemd /proc/1/comm

git config --global user.name Test
git config --global user.email test@example.org
git config --global init.defaultBranch main
(cd hello && git init -q && git add -A && git commit -q -m 'First version' && git tag 1.0)
mkdir -p /etc/metactl/nodes
cat > /etc/metactl/nodes/hello.conf <<'CONF'
[build]
repo = /job/hello
[sandbox.limits]
memory = 48m
pids = 20
CONF
# Switches on what the first use of the tools loads by itself.
nft list tables; ip route; modprobe -a veth nft_reject_inet nft_ct nft_masq 2> /dev/null
state_of_machine > /tmp/before
export METACTL_SERVICE_MANAGER=standalone

check "deploy" metactl hello deploy 1.0
check "status" says running metactl hello status
cgroup=$(find /sys/fs/cgroup -type d -path '*metactl/hello' -print -quit)
echo "      cgroup: $cgroup"
check "memory limit" is $((48 << 20)) "$cgroup/memory.max"
check "process limit" is 20 "$cgroup/pids.max"
check "a process in it" test -n "$(find "$cgroup" -name cgroup.procs -exec cat {} +)"
address=$(ip -4 route | sed -n 's/^\(10\.77\.[0-9.]*\) dev .*/\1/p' | head -n 1)
echo "      address: $address"
check "page" says "Hello, sandbox" curl -sS --max-time 10 "http://$address/"
check "own user" says "uid 66" curl -sS --max-time 10 "http://$address/whoami"
check "outbound refused" says "refused" curl -sS --max-time 10 "http://$address/connect?to=10.9.9.9:443"
check "refusal counted" says "10.9.9.9:443" metactl hello firewall
check "localhost is its own" says "connected" curl -sS --max-time 10 "http://$address/connect?to=127.0.0.1:80"
check "memory hog is killed" fails_with 137 metactl hello exec -- perl -e 'my $x = "x" x (200 << 20); print length $x'
check "still answers" says "Hello, sandbox" curl -sS --max-time 10 "http://$address/"
forks='for my $n (1 .. 40) { my $pid = fork; if (!defined $pid) { print "limit at $n\n"; exit } if (!$pid) { sleep 3; exit } }'
check "processes are limited" says "limit at" metactl hello exec -- perl -e "$forks"
check "restart" metactl hello restart
check "page after restart" says "Hello, sandbox" curl -sS --retry 5 --retry-connrefused --max-time 20 "http://$address/"
# As an init does that manages cgroups itself: what has children with controllers takes no processes.
cgroup=$(find /sys/fs/cgroup -type d -path '*metactl/hello/*' -print -quit)
echo "      cgroup: $cgroup"
moved_on() {
    mkdir "$cgroup/init" && for pid in $(cat "$cgroup/cgroup.procs"); do echo "$pid"; done |
        while read -r pid; do echo "$pid" > "$cgroup/init/cgroup.procs"; done &&
        echo +memory > "$cgroup/cgroup.subtree_control"
}
check "its processes move into a cgroup below" moved_on
check "exec follows them" says 0::/init metactl hello exec -- cat /proc/self/cgroup
check "stop" metactl hello stop
check "not running" fails_with 3 metactl hello status
check "nothing left behind" same_machine

echo "      foreground"
metactl run /job/hello > /tmp/run.log 2>&1 &
run=$!
for _ in $(seq 50); do
    address=$(ip -4 route | sed -n 's/^\(10\.77\.[0-9.]*\) dev .*/\1/p' | head -n 1)
    [ -n "$address" ] && curl -s --max-time 2 "http://$address/" > /dev/null && break
    sleep 0.2
done
check "page in the foreground" says "Hello, sandbox" curl -sS --max-time 10 "http://$address/"
kill -TERM $run
wait $run
check "nothing left behind" same_machine
[ "$failed" = 0 ] || { echo "-- metactl run"; cat /tmp/run.log; }

unset METACTL_SERVICE_MANAGER
check "delete" metactl hello delete --data --yes
. ./systemd.sh
# rebooted.sh goes on.
echo "$failed" > /var/lib/vm-rebooted
sync
systemctl reboot
sleep 120
exit 1
