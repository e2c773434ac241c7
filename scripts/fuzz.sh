#!/bin/bash
# fuzz.sh [SECONDS] [TARGET...]: fuzzes what comes from strangers, guided by coverage, each target for a minute or
# as long as told.
#
#   config       config.json of a bundle, up to the plan (runtime/fuzz)
#   layers       layers of configuration, up to the model of an application (bundles/fuzz)
#   destination  lines of accept lists (bundles/fuzz)
#   dns          what name servers answer and applications ask (netns/fuzz)
#
# Begins with the seeds beside the target and what earlier runs found (target/fuzz-corpus). A crash, a hang of
# 10 seconds or more than 1 GB of memory fails, and leaves the input in target/fuzz-artifacts. To see one again:
#
#   target/fuzz/x86_64-unknown-linux-gnu/release/config FILE
#   target/fuzz/x86_64-unknown-linux-gnu/release/layers FILE
#   target/fuzz/x86_64-unknown-linux-gnu/release/dns FILE
#
# fuzz.sh --seeds: takes the configurations that the tests of the runtime use as seeds.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$REPO"
artifacts=$REPO/target/fuzz-artifacts
mkdir -p "$artifacts"

# libFuzzer is C++.
command -v c++ >/dev/null || die "a C++ compiler is missing" "apt-get install g++"

# Coverage as libFuzzer counts it. The flags are those of LLVM, so stable Rust takes them; with --target they do not
# concern build scripts.
flags=(-Cpasses=sancov-module)
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$flag")
done
triple=$(rustc -vV | sed -n 's/^host: //p')

# target NAME: its directory in `dir`, its program, built, in `fuzzer`, what was found before in `corpus`.
target() {
  case $1 in
    config) dir=runtime/fuzz ;;
    layers | destination) dir=bundles/fuzz ;;
    dns) dir=netns/fuzz ;;
    *) die "no such target: $1" "config, layers, destination or dns" ;;
  esac
  # An environment variable and not a configuration file: the flags are for this build only.
  RUSTFLAGS="${flags[*]} -Ccodegen-units=16" \
    cargo build --manifest-path "$dir/Cargo.toml" --locked --release --quiet --target "$triple" \
    --target-dir target/fuzz
  fuzzer=target/fuzz/$triple/release/$1
  # The corpus of config.json was the first, and keeps its place.
  corpus=$REPO/target/fuzz-corpus
  [[ $1 == config ]] || corpus+=-$1
  mkdir -p "$corpus"
  seeds=$dir/seeds
  [[ ! -d $seeds-$1 ]] || seeds+=-$1
}

if [[ ${1:-} == --seeds ]]; then
  target config
  made=$(mktemp -d "${TMPDIR:-/tmp}/metactl-seeds.XXXXXX")
  trap 'rm -rf "$made"' EXIT
  METACTL_FUZZ_SEEDS=$made cargo test --package metactl-runtime --no-fail-fast -- --skip slow || true
  # Only those that reach something new.
  "$fuzzer" -merge=1 runtime/fuzz/seeds "$made" >/dev/null 2>&1 || die "the seeds cannot be merged"
  ls runtime/fuzz/seeds | wc -l
  exit 0
fi

seconds=${1:-60}
shift || true
(($# > 0)) || set -- config layers destination dns
# Two at a time, on the two cores that a small machine has; each tells what it has to tell in one piece.
output=$(mktemp -d "${TMPDIR:-/tmp}/metactl-fuzz.XXXXXX")
trap 'rm -rf "$output"' EXIT
failed=()
while (($# > 0)); do
  names=("${@:1:2}")
  shift ${#names[@]}
  pids=()
  for name in "${names[@]}"; do
    target "$name"
    "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 \
      -dict="$dir/$name.dict" -artifact_prefix="$artifacts/" -print_final_stats=1 -verbosity=0 \
      "$corpus" "$seeds" >"$output/$name" 2>&1 &
    pids+=($!)
  done
  for at in "${!names[@]}"; do
    wait "${pids[at]}" || failed+=("${names[at]}")
    echo "${names[at]}:"
    cat "$output/${names[at]}"
  done
done
((${#failed[@]} == 0)) || die "findings: ${failed[*]} (inputs in $artifacts)"
