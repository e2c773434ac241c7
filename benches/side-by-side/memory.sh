# memory.sh: the most memory that a process of the runtime had during `run`. Called by run.sh.
source "$HERE/common.sh"

# peak COMMAND...: KiB, the median of 15.
peak() {
  local number command=$*
  for number in {1..15}; do
    "$BENCH_PROGRAMS/peak-memory" ${command//\{n\}/-m$number} | cut -d' ' -f1
    sleep 0.01
  done | sort -n | sed -n 8p
}
in_mb() { awk -v kib="$1" 'BEGIN { printf "%.3f", kib * 1024 / 1e6 }'; }

echo
echo "peak memory of run (the measuring program itself: $(in_mb "$(peak "$DIR/noop")") MB)"
for bundle in plain seccomp; do
  task="peak memory of run"
  filter=
  if [[ $bundle == seccomp ]]; then task+=", seccomp" filter=$BUNDLE/filter.bpf; fi
  ours=$(in_mb "$(peak "$(runtime ours) run --bundle $BUNDLE/$bundle $NAME-ours{n}")")
  add() { "$BENCH_PROGRAMS/summary" "$RESULTS" "$task" "$1" MB "$ours" "$2" ${3:+"$3"}; }
  for peer in $(peers crun runc); do
    theirs=$(in_mb "$(peak "$(runtime "$peer") run --bundle $BUNDLE/$bundle $NAME-$peer{n}")")
    if [[ $peer == crun ]]; then add crun "$theirs" 0.8; else add "$peer" "$theirs"; fi
    echo "  $task: ours $ours MB, $peer $theirs MB"
  done
  add floor "$(in_mb "$(peak "$(floor "$filter")")")"
  add "2.5 MB" 2.5 1
done
