#!/bin/bash
# configuration.sh [ROUNDS]: the configuration of 1,000 instances of four layers each, read, merged, interpolated and
# checked, side by side with Python's configparser reading and merging the same files; and a bundle made, side by side
# with cp. Needs python3, no root. Times are CPU for the first, so that a busy machine does not falsify them.
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"
here=$REPO/benches/side-by-side
rounds=${1:-11}
count=1000
wanted=20

command -v python3 >/dev/null || DIE_CODE=69 die "python3 is missing" "apt-get install python3"
if [[ -z ${BENCH_PROGRAMS:-} ]]; then
  step programs "the measuring programs" \
    as_person cargo build --release --locked -p metactl-benches --bin many-layers
  BENCH_PROGRAMS=$(target_dir)/release
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT

umask 022
"$BENCH_PROGRAMS/many-layers" make "$dir" "$count" >"$dir/list"
for ((round = 0; round < rounds; round++)); do
  # In turn, so that what changes on the machine meets both.
  "$BENCH_PROGRAMS/many-layers" read "$dir" "$count" >>"$dir/ours"
  python3 "$here/configparser-layers.py" "$dir/list" >>"$dir/theirs"
  "$BENCH_PROGRAMS/many-layers" floor "$dir" "$count" >>"$dir/floor"
done

# Medians, and the median of the ratios of each round.
paste -d' ' "$dir/ours" "$dir/theirs" "$dir/floor" | awk -v count="$count" -v wanted="$wanted" '
  function median(values, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j - 1] > values[j]; j--) {
      t = values[j]; values[j] = values[j - 1]; values[j - 1] = t
    }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
  }
  {
    ours[NR] = $1; memory[NR] = $2; theirs[NR] = $3; ratio[NR] = $3 / $1
    files[NR] = $4; lines[NR] = $5; most[NR] = $3 / $4
  }
  END {
    printf "%d instances of four layers, CPU of one, in one thread\n", count
    printf "  (metactl reads metactl.conf and site.conf once, and looks at each folder once, but parses, merges\n"
    printf "  and checks all four layers for every instance; configparser reads all files every time)\n"
    printf "  metactl, everything          %8.1f us   peak memory %d KiB\n", median(ours, NR), median(memory, NR)
    printf "  configparser, reading merged %8.1f us\n", median(theirs, NR)
    printf "  ratio                        %8.1f      wanted: at least %d\n", median(ratio, NR), wanted
    printf "  the floor: only opened, read and closed %8.1f us   ratio %.1f\n", median(files, NR), median(most, NR)
    printf "             and split into lines         %8.1f us\n", median(lines, NR)
  }'

"$BENCH_PROGRAMS/many-layers" bundle "$dir/bundle" "$rounds" | awk '{
  printf "a bundle\n"
  printf "  looked up, composed, written and on disk %6.2f ms\n", $1
  printf "  cp -a of the same files                  %6.2f ms\n", $2
  printf "  ratio                                    %6.2f\n", $3
}'
