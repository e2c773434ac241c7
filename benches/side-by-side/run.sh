#!/bin/bash
# run.sh [ROUNDS]: metactl-runtime side by side with crun, on the same config.json. Prints medians,
# peak memory and ratios; below 1 means faster or smaller than crun.
#
# Needs root, crun, iproute2, iptables, gcc. Works in namespaces of its own: this machine's
# mounts, network and processes stay as they are. Its cgroups are called metactl-bench-*, and are
# gone afterwards.
#
# METACTL_RUNTIME and BENCH_PROGRAMS (a directory) name programs that are built already.
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"
HERE=$REPO/benches/side-by-side
ROUNDS=${1:-100}

[[ $EUID -eq 0 ]] || DIE_CODE=77 die "comparing runtimes needs root" "sudo $0 $*"
for tool in crun ip iptables gcc unshare; do
  command -v "$tool" >/dev/null || DIE_CODE=69 die "$tool is missing" "apt install crun iproute2 iptables gcc"
done

if [[ -z ${METACTL_RUNTIME:-} || -z ${BENCH_PROGRAMS:-} ]]; then
  host=$(rustc -vV | sed -n 's/^host: //p')
  step build "metactl-runtime and the measuring programs, static" \
    as_person env -C "$REPO" RUSTFLAGS="-C target-feature=+crt-static" cargo build --release \
    --locked --target "$host" -p metactl-runtime -p metactl-benches --bins
  BENCH_PROGRAMS=$(target_dir)/$host/release
  METACTL_RUNTIME=$BENCH_PROGRAMS/metactl-runtime
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-bench.XXXXXX")
chmod 755 "$dir"
name=metactl-bench-${dir##*.}

# Whatever happens inside, the cgroups are this machine's: they are taken away from out here.
tidy() {
  local found
  for try in 1 2 3 4 5; do
    found=$(find /sys/fs/cgroup -depth -type d -path "*/metactl/$name*" 2>/dev/null || true)
    [[ -n $found ]] || break
    xargs -r rmdir <<<"$found" 2>/dev/null || sleep 0.1
  done
  # Only when nobody else has something in it.
  find /sys/fs/cgroup -maxdepth 2 -type d -name metactl -empty -exec rmdir {} + 2>/dev/null || true
  rmdir /sys/fs/cgroup/metactl /sys/fs/cgroup/*/metactl 2>/dev/null || true
  rm -rf "$dir"
}
trap tidy EXIT

gcc -static -nostdlib -O2 -s -o "$dir/noop" "$HERE/noop.c"
export DIR=$dir NAME=$name ROUNDS METACTL_RUNTIME BENCH_PROGRAMS HERE
for part in ${PARTS:-launch network}; do
  unshare --mount --net --uts --pid --fork --kill-child --mount-proc bash "$HERE/$part.sh"
done
