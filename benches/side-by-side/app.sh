# app.sh: an application as metactl itself describes it, without a network, under both runtimes.
# Called by run.sh in namespaces of its own.
set -euo pipefail

bundle=$("$BENCH_PROGRAMS/bench-bundle" "$DIR/app" "$DIR/noop" "$NAME")
ours="$METACTL_RUNTIME --root $DIR/metactl run --bundle"
crun="crun --root $DIR/crun run --bundle"

compare() {
  local title=$1 variant=$2
  echo
  echo "$title"
  "$BENCH_PROGRAMS/side-by-side" --rounds "$ROUNDS" --peak "$BENCH_PROGRAMS/peak-memory" \
    "metactl-runtime run=$ours $bundle/$variant bench{n}" \
    "crun run=$crun $bundle/$variant bench{n}"
}

echo
echo "peak memory includes $("$BENCH_PROGRAMS/peak-memory" "$DIR/noop" | cut -d" " -f1) KiB of the measuring program itself"

# crun refuses a host that has both versions: it may see v1 alone, and then v2 alone.
kind=v2
if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
  kind=v1
  unified=
  if mountpoint -q /sys/fs/cgroup/unified; then
    unified=$DIR/unified
    mkdir -p "$unified"
    mount --bind /sys/fs/cgroup/unified "$unified"
    umount /sys/fs/cgroup/unified
  fi
fi
compare "1. no network namespace, limits of memory and processes, seccomp (cgroup $kind)" no-network
compare "2. the same with an empty network namespace" noop

if [[ $kind == v1 && -n $unified ]]; then
  mount --bind "$unified" /sys/fs/cgroup
  compare "3. no network namespace, no limits, seccomp (cgroup v2 without controllers)" no-limits
fi
