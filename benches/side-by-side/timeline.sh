# timeline.sh: where the time of a `run` goes, ours beside the floor. Called by run.sh when it is asked for
# (PARTS=timeline): perf(1) writes down every system call, which makes all of it about a fifth longer.
source "$HERE/common.sh"

[[ -n $(peers perf) ]] || { echo "no perf here: no timeline"; exit 77; }

compare() {
  local bundle=$1 filter=$2 number line floor
  line="$(runtime ours) run --bundle $BUNDLE/$bundle $NAME-ours{n}"
  for number in {1..60}; do
    echo "${line//\{n\}/-t$number}"
    floor=$(floor "$filter")
    echo "${floor//\{n\}/-t$number}"
  done >"$DIR/launches"
  perf record -q -a -m 8192 -o "$DIR/perf.data" -e raw_syscalls:sys_enter,raw_syscalls:sys_exit \
    -e sched:sched_process_exec,sched:sched_process_exit bash "$DIR/launches"
  echo
  echo "where the time of a run goes, cgroup $VIEW$3: ours, floor"
  perf script -i "$DIR/perf.data" -F comm,tid,time,event,trace --ns 2>"$DIR/perf.log" |
    "$BENCH_PROGRAMS/timeline" "${METACTL_RUNTIME##*/}" floor2
}
compare plain "" ""
compare seccomp "$BUNDLE/filter.bpf" ", seccomp"
