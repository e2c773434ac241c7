#!/bin/bash
# configuration.sh [ROUNDS]: the configuration of 1,000 instances of four layers each, read, merged, interpolated and
# checked, side by side with Python's configparser reading and merging the same files; and a bundle made, side by side
# with cp. Needs python3, no root. The first is told twice: as CPU of one thread, which a busy machine does not falsify, and
# as the time that passes with all processors, which is what whoever waits for a command gets; each with the model of
# every instance made, as whoever deploys one does it, and without, as commands do it that look at all instances.
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
  "$BENCH_PROGRAMS/many-layers" all "$dir" "$count" >>"$dir/all"
  "$BENCH_PROGRAMS/many-layers" read-layers "$dir" "$count" >>"$dir/layers"
  "$BENCH_PROGRAMS/many-layers" all-layers "$dir" "$count" >>"$dir/all-layers"
  python3 "$here/configparser-layers.py" "$dir/list" >>"$dir/theirs"
  "$BENCH_PROGRAMS/many-layers" floor "$dir" "$count" >>"$dir/floor"
done

# Medians, and the median of the ratios of each round.
paste -d' ' "$dir/ours" "$dir/theirs" "$dir/floor" "$dir/all" "$dir/layers" "$dir/all-layers" | awk -v count="$count" -v wanted="$wanted" '
  function median(values, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j - 1] > values[j]; j--) {
      t = values[j]; values[j] = values[j - 1]; values[j - 1] = t
    }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
  }
  {
    ours[NR] = $1; memory[NR] = $2; theirs[NR] = $3; waited[NR] = $4; ratio[NR] = $3 / $1
    files[NR] = $5; lines[NR] = $6; most[NR] = $3 / $5
    passed[NR] = $7; spent[NR] = $8; processors = $9; faster[NR] = $4 / $7
    layers[NR] = $10; layersratio[NR] = $3 / $10; layerspassed[NR] = $12; layersspent[NR] = $13; layersfaster[NR] = $4 / $12
  }
  END {
    printf "%d instances of four layers, microseconds for one\n", count
    printf "  (metactl reads metactl.conf and site.conf once for each thread, looks at each folder once, and understands a text\n"
    printf "  of the app or site layer once that several instances have; all four layers are merged and checked for every\n"
    printf "  instance; configparser reads all files every time)\n"
    printf "  one thread, CPU\n"
    printf "    metactl, layers              %8.1f   ratio %.1f\n", median(layers, NR), median(layersratio, NR)
    printf "    metactl, and the model       %8.1f   ratio %.1f   peak memory %d KiB\n", median(ours, NR), median(ratio, NR), median(memory, NR)
    printf "    configparser, reading merged %8.1f\n", median(theirs, NR)
    printf "    the floor: only opened, read and closed %8.1f   ratio %.1f\n", median(files, NR), median(most, NR)
    printf "               and split into lines         %8.1f\n", median(lines, NR)
    printf "  all %d processors, the time that passes (wanted: a ratio of at least %d)\n", processors, wanted
    printf "    metactl, layers              %8.1f   ratio %.1f   CPU %.1f\n", median(layerspassed, NR), median(layersfaster, NR), median(layersspent, NR)
    printf "    metactl, and the model       %8.1f   ratio %.1f   CPU %.1f\n", median(passed, NR), median(faster, NR), median(spent, NR)
    printf "    configparser (one thread)    %8.1f\n", median(waited, NR)
  }'

"$BENCH_PROGRAMS/many-layers" bundle "$dir/bundle" "$rounds" | awk '{
  printf "a bundle\n"
  printf "  looked up, composed, written and on disk %6.2f ms\n", $1
  printf "  cp -a of the same files                  %6.2f ms\n", $2
  printf "  ratio                                    %6.2f\n", $3
}'
