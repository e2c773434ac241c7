#!/bin/bash
# systemd.sh [INSTANCES]: metactl under real systemd: `list` and `status` with so many instances (500), and the start of
# one beside the same command in a plain unit: until the program begins, until systemctl returns, and what stays of
# metactl. Prints medians, and ratios where there is something to compare with.
#
# Needs root, git, perl, nftables, iproute2, systemd as a program: tests/vm/namespaces.sh boots it in namespaces, in
# memory. METACTL and METACTL_RUNTIME name programs that are built already.
set -euo pipefail
if [[ ! -e /job/first.sh ]]; then
  source "$(dirname "$0")/../../scripts/lib.sh"
  [[ $EUID -eq 0 ]] || DIE_CODE=77 die "systemd needs root" "sudo $0 $*"
  if [[ -z ${METACTL:-} ]]; then
    step build "metactl and its runtime, as they are installed" "$REPO/scripts/build.sh"
    METACTL=$(target_dir)/metactl/metactl METACTL_RUNTIME=$(target_dir)/metactl/metactl-runtime
  fi
  own=$(mktemp)
  trap 'rm -f "$own"' EXIT
  { echo "INSTANCES=${1:-500}"; cat "$0"; } >"$own"
  METACTL_BIN=$METACTL METACTL_RUNTIME_BIN=$METACTL_RUNTIME METACTL_VM_GUEST=$own \
    METACTL_VM_TIMEOUT=3000 "$REPO/tests/vm/namespaces.sh"
  exit
fi

# From here on inside, as a unit of that systemd.
export HOME=/root LC_ALL=C.UTF-8
cd /job
nodes=/etc/metactl/nodes
mkdir -p "$nodes" repo
# It says when its program begins.
begun='perl -MTime::HiRes=time -e "open(F, q(>), q(FILE)); print F int(time*1e6); close F; sleep 100000"'
printf '[daemon.app]\nplatform = exec\ncommand = %s\n' "${begun/FILE//data/begun}" >repo/.metactl
(cd repo && git init -q && git add . && git commit -qm 1.0 && git tag 1.0)
name() { printf 'app%03d' "$1"; }
for ((n = 1; n <= INSTANCES; n++)); do
  printf '[build]\nrepo = /job/repo\ntag = 1.0\n' >"$nodes/$(name $n).conf"
done

# median COUNT COMMAND...: of so many runs, in microseconds.
median() {
  local count=$1 start end
  shift
  for ((n = 0; n < count; n++)); do
    start=$EPOCHREALTIME
    "$@" >/dev/null || true
    end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./}))
  done | middle
}
middle() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
tenths() { awk -v us="$1" 'BEGIN { printf "%.1f", us / 1000 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

echo "Linux $(uname -r), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $(systemctl --version | head -n 1)"
echo
echo "1. one start, beside the same command in a plain unit"
metactl app001 deploy -q
cat >/etc/systemd/system/plain.service <<UNIT
[Service]
Type=exec
ExecStart=/usr/bin/${begun/FILE//job/plain}
UNIT
systemctl daemon-reload
ours=metactl-app001-app.service
data=/var/lib/metactl/app001/data/begun
# begins FILE UNIT: microseconds until its program has begun, and until systemctl returns.
begins() {
  local start end
  rm -f "$1"
  start=${EPOCHREALTIME/./}
  systemctl start "$2"
  end=${EPOCHREALTIME/./}
  while [[ ! -s $1 ]]; do sleep 0.002; done
  echo $(($(<"$1") - start)) >>"$2.begun"
  echo $((end - start)) >>"$2.returned"
  systemctl stop "$2"
}
metactl app001 stop -q
# The network of an instance is made once, not for each start.
systemctl start metactl-net@app001.service
for ((round = 0; round < 25; round++)); do
  begins /job/plain plain.service
  begins "$data" $ours
done
printf '  %-28s %10s %10s %10s %7s\n' "" plain metactl more ratio
for what in begun returned; do
  plain=$(middle <plain.service.$what) by_us=$(middle <$ours.$what)
  words="until its program begins"
  [[ $what == begun ]] || words="until systemctl returns"
  printf '  %-28s %7s ms %7s ms %7s ms %7s\n' "$words" "$(tenths "$plain")" "$(tenths "$by_us")" \
    "$(tenths $((by_us - plain)))" "$(ratio "$by_us" "$plain")"
done
printf '  metactl app001 start, all of it: '
for ((round = 0; round < 11; round++)); do
  start=${EPOCHREALTIME/./}
  metactl app001 start -q
  echo $((${EPOCHREALTIME/./} - start))
  metactl app001 stop -q
done | middle | { read -r us; echo "$(tenths "$us") ms"; }
metactl app001 start -q
# Whatever runs a program of metactl, but for the small init of the sandbox, which is a process of the instance.
stays=0 memory=0
for exe in /proc/[0-9]*/exe; do
  [[ $(readlink "$exe" || true) == */metactl* ]] || continue
  proc=${exe%/exe}
  if grep -q 'NSpid:.*[0-9]\s[0-9]' "$proc/status"; then
    echo "  the init of the sandbox: $(awk '/^Pss:/ { print $2 }' "$proc/smaps_rollup") KiB"
  else
    stays=$((stays + 1)) memory=$((memory + $(awk '/^Pss:/ { print $2 }' "$proc/smaps_rollup")))
    echo "  stays: $(tr '\0' ' ' <"$proc/cmdline" | cut -d' ' -f1-2), one for all instances"
  fi
done
echo "  processes of metactl that stay: $stays, $memory KiB"

echo
start=$EPOCHSECONDS
seq -f 'app%03g' 2 "$INSTANCES" | xargs -P 4 -I{} metactl {} deploy -q >deployed 2>&1 || { tail -n 3 deployed; exit 1; }
echo "2. $INSTANCES instances run (deployed in $((EPOCHSECONDS - start)) s), $(systemctl list-units --all --no-legend 'metactl-*' | wc -l) units"
for what in list "app001 status" "$(name "$INSTANCES") status"; do
  us=$(median 15 metactl $what)
  printf '  metactl %-18s %8s ms\n' "$what" "$(tenths "$us")"
  [[ $what != list ]] || listed=$us
done
us=$(median 5 systemctl show --property=ActiveState,MainPID,NRestarts 'metactl-*.service')
printf '  %-26s %8s ms, of which list takes %s\n' "systemctl show, services" "$(tenths "$us")" "$(ratio "$listed" "$us")"
us=$(median 5 systemctl list-units --all --no-legend 'metactl-*')
printf '  %-26s %8s ms, of which list takes %s\n' "systemctl list-units" "$(tenths "$us")" "$(ratio "$listed" "$us")"
[[ $(metactl list | grep -c running) == "$INSTANCES" ]] || { echo "not all of them run"; exit 1; }
