# launch.sh: `run` of a program that does nothing, from beginning to end. Called by run.sh, once
# for each version of cgroups.
source "$HERE/common.sh"

# compare BUNDLE TASK FILTER TARGET-CRUN [EXTRA...]
compare() {
  local bundle=$1 task=$2 filter=$3 target=$4 peer contenders=()
  shift 4
  for peer in ours $(peers crun runc); do
    contenders+=("$peer=$(runtime "$peer") run --bundle $BUNDLE/$bundle $NAME-$peer{n}")
  done
  contenders+=("$@" "floor=$(floor "$filter")")
  side_by_side "$task" --target "crun=$target" --target floor=2.0 --target bwrap=1.0 "${contenders[@]}"
}

bwrap=()
if [[ $VIEW == v2 && -n $(peers bwrap) ]]; then bwrap=("bwrap=$(bubblewrap)"); fi

case $VIEW in
  v2) targets=(0.40 0.15) ;;
  v1) targets=(0.30 0.20) ;;
esac
compare plain "run, cgroup $VIEW" "" "${targets[0]}" ${bwrap[@]+"${bwrap[@]}"}
compare seccomp "run, cgroup $VIEW, seccomp" "$BUNDLE/filter.bpf" "${targets[1]}"
