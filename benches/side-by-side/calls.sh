# calls.sh: how many system calls one `run` takes, with all its processes. Called by run.sh.
source "$HERE/common.sh"

[[ -n $(peers strace) ]] || { echo "no strace here: system calls are not counted"; exit 77; }

# calls COMMAND...: the number of them.
calls() {
  local command=$*
  strace -f -c -o "$DIR/calls" ${command//\{n\}/-c} </dev/null >/dev/null
  awk '$NF == "total" { print $4 }' "$DIR/calls"
}

echo
echo "system calls of one run"
ours=$(calls "$(runtime ours) run --bundle $BUNDLE/plain $NAME-ours{n}")
add() {
  echo "  ours $ours, $1 $2"
  "$BENCH_PROGRAMS/summary" "$RESULTS" "system calls of run" "$1" calls "$ours" "$2" ${3:+"$3"}
}
for peer in $(peers crun runc); do
  add "$peer" "$(calls "$(runtime "$peer") run --bundle $BUNDLE/plain $NAME-$peer{n}")"
done
if [[ -n $(peers bwrap) ]]; then add bwrap "$(calls "$(bubblewrap)")" 1.0; fi
add floor "$(calls "$(floor)")"
