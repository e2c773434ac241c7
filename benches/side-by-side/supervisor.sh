#!/bin/bash
# supervisor.sh [INSTANCES] [ALL]: many instances under metactl's own supervisor, beside supervisord with as many
# programs: 200 started, listed and stopped, and the memory of the supervisor for each; `list` and `status` with 500;
# one start beside the same command started plainly; and a deployment of what runs already. Prints medians, time of
# the processors beside time of the clock where others may be at work, and ratios; below 1 is faster or smaller.
#
# Needs root, git, nftables, iproute2; supervisord (apt: supervisor) where it is there. Works in namespaces and
# cgroups of its own. METACTL and METACTL_RUNTIME name programs that are built already; AT_A_TIME (24) says how many
# commands run side by side.
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"

if [[ ${1:-} != inside ]]; then
  [[ $EUID -eq 0 ]] || DIE_CODE=77 die "sandboxes need root" "sudo $0 $*"
  for tool in git nft ip unshare; do
    command -v "$tool" >/dev/null || DIE_CODE=69 die "$tool is missing" "apt install git nftables iproute2"
  done
  if [[ -z ${METACTL:-} ]]; then
    step build "metactl and its runtime, as they are installed" "$REPO/scripts/build.sh"
    METACTL=$(target_dir)/metactl/metactl METACTL_RUNTIME=$(target_dir)/metactl/metactl-runtime
  fi
  dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-bench.XXXXXX")
  chmod 755 "$dir"
  cgroups=
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [[ -f $hierarchy/cgroup.procs && ! -L $hierarchy ]] || continue
    own=$hierarchy/${dir##*/}
    mkdir "$own"
    if [[ ${hierarchy##*/} == cpuset ]]; then
      for file in cpuset.cpus cpuset.mems; do cat "$hierarchy/$file" >"$own/$file"; done
      echo 1 >"$own/cgroup.clone_children"
    fi
    cgroups+="$own "
    # Below the one of version 2 there are no others.
    if [[ -f $hierarchy/cgroup.controllers && $hierarchy == /sys/fs/cgroup ]]; then break; fi
  done
  printf '127.0.0.1 localhost\n' >"$dir/hosts"
  # Whatever happens inside, the cgroups are this machine's: they are taken away from out here.
  tidy() {
    for try in 1 2 3 4 5; do
      for own in $cgroups; do find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
      sleep 0.2
    done
    rm -rf "$dir"
  }
  trap tidy EXIT
  export METACTL METACTL_RUNTIME METACTL_TEST_HOST=$dir METACTL_TEST_CGROUPS=${cgroups% }
  # A child of its own: this shell has to stay outside of the cgroups that it removes.
  bash -c 'exec sh "$0" outer bash "$@"' "$REPO/tests/src/private-host.sh" "$0" inside "${1:-200}" "${2:-500}"
  exit
fi

instances=$2 all=$3 at_a_time=${AT_A_TIME:-24}
export METACTL_ROOT=$METACTL_TEST_HOST/root LC_ALL=C.UTF-8
dir=$METACTL_TEST_HOST/root/bench
mkdir -p "$dir" "$METACTL_ROOT/etc/metactl/nodes"
metactl() { "$METACTL" "$@"; }

# ms COMMAND...: how long it takes.
ms() {
  local start=$EPOCHREALTIME
  "$@" >/dev/null
  local end=$EPOCHREALTIME
  echo $(((${end/./} - ${start/./}) / 1000))
}
# median COUNT COMMAND...: of so many runs, in microseconds.
median() {
  local count=$1 start end
  shift
  for ((n = 0; n < count; n++)); do
    start=$EPOCHREALTIME
    "$@" >/dev/null || true
    end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./}))
  done | sort -n | sed -n "$((count / 2 + 1))p"
}
# processor COUNT COMMAND...: the median of the processors' time of so many runs, in milliseconds.
processor() {
  local count=$1 TIMEFORMAT='%U %S'
  shift
  for ((n = 0; n < count; n++)); do
    { time "$@" >/dev/null 2>&1 || true; } 2>&1
  done | awk '{ print ($1 + $2) * 1000 }' | sort -n | sed -n "$((count / 2 + 1))p"
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
tenths() { awk -v us="$1" 'BEGIN { printf "%.1f", us / 1000 }'; }
# pss PID: proportional memory of a process, in KiB.
pss() { awk '/^Pss:/ { print $2 }' "/proc/$1/smaps_rollup"; }

# One application for all; it says when its program begins.
repo=$dir/repo
mkdir "$repo"
cat >"$repo/.metactl" <<'END'
[daemon.app]
platform = exec
command = sh -c "date +%s%N >/data/begun; exec sleep 100000"
END
git -C "$repo" init -q
git -C "$repo" add .
git -C "$repo" -c user.name=bench -c user.email=bench@example.org commit -qm 1.0
git -C "$repo" tag 1.0
name() { printf 'app%03d' "$1"; }
for ((n = 1; n <= all; n++)); do
  printf '[build]\nrepo = %s\ntag = 1.0\n' "$repo" >"$METACTL_ROOT/etc/metactl/nodes/$(name $n).conf"
done
echo "Linux $(uname -r), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
start=$(now)
seq -f 'app%03g' 1 "$all" | xargs -P "$at_a_time" -I{} "$METACTL" {} deploy -q >"$dir/deployed" 2>&1 || die "deploying" "$(tail -3 "$dir/deployed")"
echo "$all instances deployed and running after $(took "$start")"
supervisor=$(pgrep -f "^$METACTL supervise")

echo
echo "1. $all instances run"
for what in list "app001 status" "$(name "$all") status"; do
  printf '  metactl %-16s %6s ms, %s ms of the processors\n' "$what" "$(tenths "$(median 21 metactl $what)")" \
    "$(processor 11 metactl $what)"
done
memory=$(pss "$supervisor")
printf '  memory of the supervisor: %d KiB, %s KiB for each instance\n' "$memory" "$(ratio "$memory" "$all")"

echo
echo "2. $instances instances started, listed and stopped"
names=$(seq -f 'app%03g' 1 "$all")
stop_all=$(ms xargs -P "$at_a_time" -I{} "$METACTL" {} stop -q <<<"$names")
printf '  %d stopped, %d at a time: %d ms\n' "$all" "$at_a_time" "$stop_all"
names=$(seq -f 'app%03g' 1 "$instances")
for ((n = instances + 1; n <= all; n++)); do rm -f "$METACTL_ROOT/var/lib/metactl/$(name $n)/enabled"; done
# As an init starts it: everything that is enabled.
rm -f "$METACTL_ROOT"/var/lib/metactl/*/data/begun
begin=$(now)
"$METACTL" supervise --all >"$dir/all.log" 2>&1 &
supervisor=$!
count() { find "$METACTL_ROOT"/var/lib/metactl/*/data -name begun | wc -l; }
while (($(count) < instances)); do sleep 0.02; done
started=$(($(now) - begin))
sleep 2
listed=$(median 11 metactl list)
memory=$(pss "$supervisor")
begin=$(now)
kill -TERM "$supervisor"
wait "$supervisor" || die "supervise --all ended with $?" "$(tail -3 "$dir/all.log")"
stopped=$(($(now) - begin))

if command -v supervisord >/dev/null; then
  {
    printf '[unix_http_server]\nfile=%s/sock\n[supervisord]\nlogfile=%s/log\npidfile=%s/pid\nnodaemon=true\nminfds=8192\n' "$dir" "$dir" "$dir"
    printf '[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n'
    printf '[supervisorctl]\nserverurl=unix://%s/sock\n' "$dir"
    for ((n = 1; n <= instances; n++)); do
      mkdir -p "$dir/data/$n"
      printf '[program:%s]\ncommand=sh -c "date +%%%%s%%%%N >%s/data/%d/begun; exec sleep 100000"\nstartsecs=0\nredirect_stderr=true\nstdout_logfile=%s/%d.log\n' "$(name $n)" "$dir" "$n" "$dir" "$n"
    done
  } >"$dir/supervisord.conf"
  peer() { supervisorctl -c "$dir/supervisord.conf" "$@"; }
  begin=$(now)
  supervisord -c "$dir/supervisord.conf" >"$dir/supervisord.out" 2>&1 &
  other=$!
  while (($(find "$dir/data" -name begun | wc -l) < instances)); do sleep 0.02; done
  other_started=$(($(now) - begin))
  sleep 2
  other_listed=$(median 11 peer status)
  other_memory=$(pss "$other")
  begin=$(now)
  kill -TERM "$other"
  wait "$other" || true
  other_stopped=$(($(now) - begin))
  printf '  %-28s %10s %12s %7s\n' "" metactl supervisord ratio
  row() { printf '  %-28s %10s %12s %7s\n' "$1" "$(tenths "$2") ms" "$(tenths "$3") ms" "$(ratio "$2" "$3")"; }
  row "started, each" $((started / instances)) $((other_started / instances))
  row "listed" "$listed" "$other_listed"
  row "stopped, each" $((stopped / instances)) $((other_stopped / instances))
  printf '  %-28s %10s %12s %7s\n' "memory for each" "$(ratio "$memory" "$instances") KiB" "$(ratio "$other_memory" "$instances") KiB" "$(ratio "$memory" "$other_memory")"
else
  echo "  supervisord is not here: apt install supervisor"
  printf '  started, each: %s ms; listed: %s ms; stopped, each: %s ms; memory for each: %s KiB\n' \
    "$(tenths $((started / instances)))" "$(tenths "$listed")" "$(tenths $((stopped / instances)))" "$(ratio "$memory" "$instances")"
fi

echo
echo "3. one start, until the program begins"
begun=$METACTL_ROOT/var/lib/metactl/app001/data/begun
# begins FILE COMMAND...: microseconds from now until the program has said that it begins.
begins() {
  local file=$1 start
  shift
  start=$(date +%s%N)
  "$@"
  while [[ ! -s $file ]]; do sleep 0.002; done
  echo $((($(<"$file") - start) / 1000))
}
plain() { sh -c "date +%s%N >$dir/plain; exec sleep 100000" >/dev/null 2>&1 & }
for ((round = 0; round < 15; round++)); do
  rm -f "$dir/plain" "$begun"
  begins "$dir/plain" plain >>"$dir/plainly"
  begins "$begun" metactl app001 start -q >>"$dir/started"
  metactl app001 stop -q
done
middle() { sort -n "$1" | sed -n 8p; }
printf '  plainly %s ms, by metactl %s ms: %s ms more\n' "$(tenths "$(middle "$dir/plainly")")" \
  "$(tenths "$(middle "$dir/started")")" "$(tenths $(($(middle "$dir/started") - $(middle "$dir/plainly"))))"

echo
echo "4. a deployment of what runs already: it is fetched, and nothing is changed"
metactl app001 start -q
deployed=$(median 5 metactl app001 deploy -q)
restarted=$(median 5 metactl app001 restart -q)
printf '  deploy %s ms, restart %s ms\n' "$(tenths "$deployed")" "$(tenths "$restarted")"
metactl app001 stop -q
