#!/bin/bash
# run.sh [ROUNDS]: metactl-runtime side by side with its peers, on the same config.json. Prints
# medians and ratios, and at the end one table with the targets; below 1 means faster or smaller.
#
# Needs root, crun, iproute2, iptables, gcc; compares with runc and bubblewrap, and counts system
# calls, where runc, bwrap and strace are there; what the network adds also with podman's bridge. Works in namespaces of its own: this machine's
# mounts, network and processes stay as they are. Its cgroups are called metactl-bench-*, and are
# gone afterwards.
#
# PARTS chooses among: launch verbs many memory calls exits app network throughput (see the files); timeline
# comes only when it is asked for.
# METACTL_RUNTIME and BENCH_PROGRAMS (a directory) name programs that are built already. On a
# machine that is busy, PRIORITY="chrt --rr 1" keeps the others out of the figures (not of those on
# cgroup v1, where a group has to be given real time first).
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"
HERE=$REPO/benches/side-by-side
ROUNDS=${1:-100}
PRIORITY=${PRIORITY:-nice -n -10}

[[ $EUID -eq 0 ]] || DIE_CODE=77 die "comparing runtimes needs root" "sudo $0 $*"
for tool in crun ip iptables gcc unshare; do
  command -v "$tool" >/dev/null || DIE_CODE=69 die "$tool is missing" "apt install crun iproute2 iptables gcc"
done

if [[ -z ${METACTL_RUNTIME:-} ]]; then
  step runtime "metactl-runtime, as it is installed" "$REPO/scripts/build.sh" runtime
  METACTL_RUNTIME=$(target_dir)/metactl/metactl-runtime
fi
if [[ -z ${BENCH_PROGRAMS:-} ]]; then
  host=$(rustc -vV | sed -n 's/^host: //p')
  step programs "the measuring programs, static" \
    as_person env -C "$REPO" RUSTFLAGS="-C target-feature=+crt-static" cargo build --release \
    --locked --target "$host" -p metactl-benches --bins
  BENCH_PROGRAMS=$(target_dir)/$host/release
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-bench.XXXXXX")
chmod 755 "$dir"
name=metactl-bench-${dir##*.}

# Whatever happens inside, the cgroups are this machine's: they are taken away from out here.
tidy() {
  local found
  for try in 1 2 3 4 5; do
    found=$(find /sys/fs/cgroup -depth -type d -path "*/$name*" 2>/dev/null || true)
    [[ -n $found ]] || break
    xargs -r rmdir <<<"$found" 2>/dev/null || sleep 0.1
  done
  # Only when nobody else has something in it.
  rmdir /sys/fs/cgroup/metactl /sys/fs/cgroup/*/metactl 2>/dev/null || true
  rm -rf "$dir"
}
trap tidy EXIT

for program in noop pause; do
  gcc -static -nostdlib -O2 -s -o "$dir/$program" "$HERE/$program.c"
done
# It decides by its name.
gcc -static -O2 -s -o "$dir/floor2" "$HERE/floor.c"
cp "$dir/floor2" "$dir/floor1"
"$BENCH_PROGRAMS/launch-bundle" "$dir/bundle" "$dir/noop" "$dir/pause"

export DIR=$dir NAME=$name ROUNDS METACTL_RUNTIME BENCH_PROGRAMS HERE
export BUNDLE=$dir/bundle RESULTS=$dir/results
touch "$RESULTS"

echo "$(crun --version | head -n 1), Linux $(uname -r), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"

failed=()
# part SCRIPT [VIEW]: in namespaces of its own; VIEW is the version of cgroups that it shall see.
part() {
  local code=0
  VIEW=${2:-} unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc \
    $PRIORITY bash "$HERE/$1.sh" || code=$?
  # 77: not on this machine, and it has said why.
  ((code == 0 || code == 77)) || failed+=("$1")
}

for chosen in ${PARTS:-launch verbs many memory calls exits app network throughput}; do
  case $chosen in
    launch)
      part launch v2
      part launch v1
      ;;
    verbs | many | memory | calls | exits | timeline) part "$chosen" v2 ;;
    *) part "$chosen" ;;
  esac
done

if [[ -s $RESULTS ]]; then
  echo
  echo "All of it: medians; the ratio of times is the median of the ratios of each round."
  "$BENCH_PROGRAMS/summary" "$RESULTS"
fi
((${#failed[@]} == 0)) || die "these parts failed: ${failed[*]}"
