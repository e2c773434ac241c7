# Shared by the parts that compare runtimes on one bundle; sourced, in namespaces of their own.
set -euo pipefail

# The processes that these leave for a moment are of no interest.
ip link set lo up

# view v1|v2: makes this mount namespace show one version of cgroups, as crun refuses to see both.
view() {
  local unified=/sys/fs/cgroup/unified
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    [[ $1 == v2 ]] || { echo "no cgroup v1 here: left out"; exit 77; }
  elif [[ $1 == v1 ]]; then
    if mountpoint -q "$unified"; then umount "$unified"; fi
  else
    mountpoint -q "$unified" || { echo "no cgroup v2 here: left out"; exit 77; }
    mkdir -p "$DIR/unified"
    mount --bind "$unified" "$DIR/unified"
    umount "$unified"
    mount --bind "$DIR/unified" /sys/fs/cgroup
  fi
}

# runtime NAME: its command line up to the verb.
runtime() {
  case $1 in
    ours) echo "$METACTL_RUNTIME --root $DIR/state/ours" ;;
    *) echo "$1 --root $DIR/state/$1" ;;
  esac
}

# Which of the peers are installed.
peers() {
  local peer
  for peer in "$@"; do
    if command -v "$peer" >/dev/null; then echo "$peer"; fi
  done
}

# floor [FILTER]: the command line of the floor.
floor() {
  local hierarchy hierarchies=()
  if [[ $VIEW == v2 ]]; then
    echo "$DIR/floor2 /sys/fs/cgroup/$NAME-floor{n} $BUNDLE/rootfs /noop ${1:-}"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*; do
    if [[ ! -L $hierarchy ]] && mountpoint -q "$hierarchy"; then hierarchies+=("$hierarchy"); fi
  done
  echo "$DIR/floor1 $NAME-floor{n} $BUNDLE/rootfs /noop ${1:--} ${hierarchies[*]}"
}

# bubblewrap doing as much as it can of the same: it has no fresh sysfs and cgroup mounts and no
# limits; what is masked and read-only is that of this machine.
bubblewrap() {
  local path line="bwrap --unshare-all --as-pid-1 --die-with-parent --new-session --hostname runc"
  line+=" --ro-bind $BUNDLE/rootfs / --proc /proc --dev /dev --tmpfs /dev/shm --mqueue /dev/mqueue"
  line+=" --ro-bind /sys /sys"
  for path in /proc/acpi /sys/firmware; do
    if [[ -d $path ]]; then line+=" --tmpfs $path --remount-ro $path"; fi
  done
  for path in /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug; do
    if [[ -e $path ]]; then line+=" --ro-bind /dev/null $path"; fi
  done
  for path in /proc/bus /proc/fs /proc/irq /proc/sys; do
    if [[ -e $path ]]; then line+=" --ro-bind $path $path"; fi
  done
  for path in CAP_AUDIT_WRITE CAP_KILL CAP_NET_BIND_SERVICE; do line+=" --cap-add $path"; done
  echo "$line --chdir / /noop"
}

# side_by_side TASK [OPTION...] CONTENDER...: measures, and keeps the result.
side_by_side() {
  local task=$1
  shift
  echo
  echo "$task"
  "$BENCH_PROGRAMS/side-by-side" --rounds "$ROUNDS" --record "$RESULTS" --task "$task" "$@"
}

view "$VIEW"
# The states of all runtimes are kept in memory, as on a server (/run).
mkdir -p "$DIR/state"
mount -t tmpfs -o mode=700 state "$DIR/state"
