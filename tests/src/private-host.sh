#!/bin/sh
# Makes a private host out of namespaces and runs a command in it:
#
#   private-host.sh outer COMMAND...     on the machine
#   private-host.sh inner COMMAND...     by itself, in the new namespaces, as their first process
#
# METACTL_TEST_HOST     a directory for the host, with a file `hosts`
# METACTL_TEST_CGROUPS  cgroups of the host's own, one in each hierarchy; the private host sees them as the root
set -eu

stage=$1
shift
case $stage in
outer)
    for cgroup in $METACTL_TEST_CGROUPS; do
        echo $$ > "$cgroup/cgroup.procs"
    done
    # Whoever kills this process takes the whole host down.
    exec unshare --mount --net --uts --ipc --pid --cgroup --mount-proc --fork --kill-child \
        sh "$0" inner "$@"
    ;;
inner)
    dir=$METACTL_TEST_HOST
    hostname server1
    ip link set lo up
    mount -t tmpfs -o mode=0755 run /run
    mkdir /run/netns /run/lock
    [ ! -e /etc/hosts ] || mount --bind "$dir/hosts" /etc/hosts
    : > "$dir/resolv.conf"
    [ ! -e /etc/resolv.conf ] || mount --bind "$dir/resolv.conf" /etc/resolv.conf

    unified=$(stat -f -c %T /sys/fs/cgroup)
    hierarchies=$(ls /sys/fs/cgroup)
    mount -t sysfs sysfs /sys
    if [ "$unified" = cgroup2fs ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        # A cgroup with processes of its own cannot give controllers to others.
        mkdir /sys/fs/cgroup/init
        echo 1 > /sys/fs/cgroup/init/cgroup.procs
    else
        mount -t tmpfs -o mode=0755 cgroup /sys/fs/cgroup
        for hierarchy in $hierarchies; do
            mkdir "/sys/fs/cgroup/$hierarchy"
            case $hierarchy in
            unified) mount -t cgroup2 cgroup2 "/sys/fs/cgroup/$hierarchy" ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup "/sys/fs/cgroup/$hierarchy" ;;
            *) mount -t cgroup -o "$hierarchy" cgroup "/sys/fs/cgroup/$hierarchy" ;;
            esac
        done
    fi

    mkdir "$dir/root"
    mount -t tmpfs -o mode=0755 root "$dir/root"
    # Not exec: this shell is process 1, and reaps what daemons leave to it.
    "$@" && exit 0 || exit $?
    ;;
esac
