# exits.sh: a container whose process ends at once, 10,000 times: none may hang, none may fail, and
# nothing may be left. EXITS is another number. Called by run.sh.
source "$HERE/common.sh"

count=${EXITS:-10000}
echo
echo "$count containers whose process ends at once, 4 at a time"
echo "  $("$BENCH_PROGRAMS/many" --count "$count" --jobs 4 --limit 20 \
  $(runtime ours) run --bundle "$BUNDLE/plain" "$NAME-exit{i}"), none hung or failed"
left=$(find "$DIR/state/ours" /sys/fs/cgroup -mindepth 1 -name "$NAME-exit*" | wc -l)
((left == 0)) || { echo "  but $left directories are left" >&2; exit 1; }
