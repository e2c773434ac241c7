# many.sh: 100 runs, 8 at a time. Called by run.sh.
source "$HERE/common.sh"

contenders=()
for peer in ours $(peers crun runc); do
  contenders+=("$peer=$BENCH_PROGRAMS/many --count 100 --jobs 8 $(runtime "$peer")
    run --bundle $BUNDLE/plain $NAME-$peer{n}-{i}")
done
# What the kernel takes for the same launches, with as many of them waiting for its locks.
contenders+=("floor=$BENCH_PROGRAMS/many --count 100 --jobs 8 $(floor "" | sed 's/{n}/{n}-{i}/')")
# Each is a hundred launches.
ROUNDS=$(((ROUNDS + 3) / 4))
side_by_side "100 runs, 8 at a time" --target crun=0.50 "${contenders[@]}"
