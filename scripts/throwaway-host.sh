#!/bin/bash
# throwaway-host.sh COMMAND...: runs it on a host of its own, made of namespaces: its own mounts,
# network, processes, host name and cgroups, and METACTL_ROOT for everything that metactl keeps.
# Whatever happens there, this machine stays as it is. (The end-to-end tests use the same host.)
set -euo pipefail
source "$(dirname "$0")/lib.sh"
[[ $EUID -eq 0 ]] || DIE_CODE=77 die "a host made of namespaces needs root" "sudo $0 $*"

dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-host.XXXXXX")
name=${dir##*/}
cgroups=()

# The kernel needs a moment to bury the processes of the host.
remove_cgroup() {
  local try
  for try in {1..100}; do
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ -e $1 ]] || return 0
    sleep 0.02
  done
  echo "cannot remove $1" >&2
}
tidy() {
  local cgroup
  for cgroup in "${cgroups[@]}"; do remove_cgroup "$cgroup"; done
  rm -rf "$dir"
}
trap tidy EXIT

make_cgroup() {
  local hierarchy=$1 own=$1/$name file
  mkdir "$own"
  cgroups+=("$own")
  # Tasks may enter a v1 cpuset only when it has processors and memory.
  for file in cpuset.cpus cpuset.mems; do
    if [[ ${hierarchy##*/} == cpuset ]]; then cat "$hierarchy/$file" >"$own/$file"; fi
  done
  if [[ ${hierarchy##*/} == cpuset ]]; then echo 1 >"$own/cgroup.clone_children"; fi
}
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    # A controller that this machine keeps to itself is not to be had.
    echo "+$controller" 2>/dev/null >/sys/fs/cgroup/cgroup.subtree_control || true
  done
  make_cgroup /sys/fs/cgroup
else
  for hierarchy in /sys/fs/cgroup/*; do
    [[ -L $hierarchy || ! -e $hierarchy/cgroup.procs ]] || make_cgroup "$hierarchy"
  done
fi

chmod 755 "$dir"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$dir/hosts"
export METACTL_TEST_HOST=$dir METACTL_TEST_CGROUPS="${cgroups[*]}" METACTL_ROOT=$dir/root
code=0
sh "$REPO/tests/src/private-host.sh" outer "$@" || code=$?
exit "$code"
