# verbs.sh: the verbs that engines call one by one. Called by run.sh.
source "$HERE/common.sh"

# The program has ended when `delete` comes: waiting for that is nobody's merit.
sequence() {
  local line=$(runtime "$1") id=$NAME-$1{n}
  echo "$1=$line create --bundle $BUNDLE/plain $id ; $line start $id ; @ bash $HERE/stopped.sh $id $line ; $line delete $id"
}
contenders=()
for peer in ours $(peers crun runc); do contenders+=("$(sequence "$peer")"); done
side_by_side "create + start + delete" --target crun=0.40 "${contenders[@]}"

# In containers that run all the time, one for each runtime.
contenders=()
for peer in ours $(peers crun runc); do
  line=$(runtime "$peer")
  $line run --detach --bundle "$BUNDLE/pause" "$NAME-pause-$peer" </dev/null >/dev/null
  contenders+=("$peer=$line exec $NAME-pause-$peer /noop")
done
side_by_side "exec" --target crun=0.50 "${contenders[@]}"
for peer in ours $(peers crun runc); do
  $(runtime "$peer") delete --force "$NAME-pause-$peer"
done
