#!/bin/bash
# fuzz.sh [SECONDS]: fuzzes config.json, guided by coverage, for a minute or as long as told.
#
# Begins with runtime/fuzz/seeds and what earlier runs found (target/fuzz-corpus). A crash, a hang of 10 seconds
# or more than 1 GB of memory fails, and leaves the input in target/fuzz-artifacts. To see one again:
#
#   runtime/fuzz/target/x86_64-unknown-linux-gnu/release/config FILE
#
# fuzz.sh --seeds: takes the configurations that the tests of the runtime use as seeds.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$REPO"
corpus=$REPO/target/fuzz-corpus artifacts=$REPO/target/fuzz-artifacts

# libFuzzer is C++.
command -v c++ >/dev/null || die "a C++ compiler is missing" "apt-get install g++"

# Coverage as libFuzzer counts it. The flags are those of LLVM, so stable Rust takes them; with --target they do not
# concern build scripts.
flags=(-Cpasses=sancov-module)
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$flag")
done
triple=$(rustc -vV | sed -n 's/^host: //p')
# An environment variable and not a configuration file: the flags are for this build only.
RUSTFLAGS="${flags[*]} -Ccodegen-units=16" \
  cargo build --manifest-path runtime/fuzz/Cargo.toml --locked --release --quiet --target "$triple" \
  --target-dir runtime/fuzz/target
fuzzer=runtime/fuzz/target/$triple/release/config
mkdir -p "$corpus" "$artifacts"

if [[ ${1:-} == --seeds ]]; then
  made=$(mktemp -d "${TMPDIR:-/tmp}/metactl-seeds.XXXXXX")
  trap 'rm -rf "$made"' EXIT
  METACTL_FUZZ_SEEDS=$made cargo test --package metactl-runtime --no-fail-fast -- --skip slow || true
  # Only those that reach something new.
  "$fuzzer" -merge=1 runtime/fuzz/seeds "$made" >/dev/null 2>&1 || die "the seeds cannot be merged"
  ls runtime/fuzz/seeds | wc -l
  exit 0
fi

"$fuzzer" -max_total_time="${1:-60}" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 \
  -dict=runtime/fuzz/config.dict -artifact_prefix="$artifacts/" -print_final_stats=1 -verbosity=0 \
  "$corpus" runtime/fuzz/seeds
