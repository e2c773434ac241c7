#!/bin/bash
# leftovers.sh snapshot FILE        writes down what is on this machine that metactl could leave behind
# leftovers.sh compare FILE [SECS]  says what is there that was not then; exit code 1 if anything is
#
# It looks at mounts, pinned namespaces, interfaces, routes, proxy neighbours, sysctls, cgroups,
# nftables tables, processes in sandboxes, and files in metactl's directories and among temporary
# ones. What a dying namespace takes along goes a moment later, so compare waits up to SECS (10).
set -euo pipefail
source "$(dirname "$0")/lib.sh"

ROOTS=(/etc/metactl /var/lib/metactl /var/cache/metactl /var/log/metactl /run/metactl)
[[ -z ${METACTL_ROOT:-} ]] || ROOTS+=("$METACTL_ROOT")

mounts() { awk '{ for (i = 7; $i != "-"; i++); print "mount", $5, "(" $(i+1) ")" }' /proc/self/mountinfo; }

interfaces() { sed -n 's/^ *\([^:]*\):.*/interface \1/p' /proc/net/dev; }

routes() {
  command -v ip >/dev/null || return 0
  ip -o -4 route show table all | sed 's/^/route /; s/ *$//'
  ip -o -6 route show table all | grep -v ' expires ' | sed 's/^/route6 /; s/ *$//' || true
  { ip -4 neigh show proxy; ip -6 neigh show proxy; } | sed 's/^/proxy /; s/ *$//'
  ip -o rule show | sed 's/^/rule /; s/ *$//'
}

sysctls() {
  local file
  for file in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/{forwarding,proxy_arp,rp_filter} \
    /proc/sys/net/ipv4/neigh/*/proxy_delay /proc/sys/net/ipv6/conf/*/{forwarding,proxy_ndp,accept_ra}; do
    [[ ! -r $file ]] || echo "sysctl ${file#/proc/sys/} = $(cat "$file" 2>/dev/null)"
  done
}

# The service manager's own come and go.
cgroups() {
  [[ -d /sys/fs/cgroup ]] || return 0
  find /sys/fs/cgroup -mindepth 1 -type d \
    \( -name system.slice -o -name user.slice -o -name init.scope \) -prune -o \
    -type d -printf 'cgroup %p\n' 2>/dev/null || true
}

tables() {
  command -v nft >/dev/null && [[ $EUID -eq 0 ]] || return 0
  nft list tables | sed 's/^table/nftables/'
}

# Those of our programs, and whatever lives in namespaces other than ours.
processes() {
  local dir pid exe kind
  local -A ours
  for kind in net pid mnt; do ours[$kind]=$(readlink "/proc/self/ns/$kind"); done
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    exe=$(readlink "$dir/exe" 2>/dev/null) || continue
    exe=${exe% (deleted)}
    local why=
    case ${exe##*/} in metactl | metactl-runtime | crun | runc | qemu-system-*) why=program ;; esac
    for kind in net pid mnt; do
      [[ $(readlink "$dir/ns/$kind" 2>/dev/null || echo "${ours[$kind]}") == "${ours[$kind]}" ]] || why=sandboxed
    done
    # Told apart by when they were started: numbers are used again.
    [[ -z $why ]] || echo "process $pid $exe since $(sed 's/.*) //' "$dir/stat" 2>/dev/null | cut -d' ' -f20)"
  done
}

files() {
  local root
  # Empty directories and lock files are nobody's leftovers.
  for root in "${ROOTS[@]}"; do
    [[ ! -e $root ]] || find "$root" -maxdepth 5 ! -type d ! -name '*lock' -printf 'file %p\n'
  done
  # The steps that are under way have a log of their own there.
  find "${TMPDIR:-/tmp}" /dev/shm /run/netns -mindepth 1 -maxdepth 1 \
    \( -name 'metactl*' -o -name '.tmp*' -o -path '/run/netns/*' \) ! -name 'metactl-step.*' ! -name 'metactl-leftovers.*' \
    -printf 'file %p\n' 2>/dev/null || true
}

snapshot() { { mounts; interfaces; routes; sysctls; cgroups; tables; processes; files; } | LC_ALL=C sort -u; }

case ${1:-} in
  snapshot)
    snapshot >"${2:?where to}"
    ;;
  compare)
    deadline=$((SECONDS + ${3:-10}))
    while true; do
      added=$(LC_ALL=C comm -13 "${2:?with what}" <(snapshot))
      [[ -n $added && $SECONDS -lt $deadline ]] || break
      sleep 0.2
    done
    if [[ -n $added ]]; then
      echo "${BAD}left behind:${PLAIN}"
      sed 's/^/  /' <<<"$added"
      exit 1
    fi
    echo "left behind: nothing (mounts, interfaces, routes, sysctls, cgroups, nftables, processes, files)"
    ;;
  *) die "usage: leftovers.sh snapshot FILE | compare FILE [SECONDS]" ;;
esac
