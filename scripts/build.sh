#!/bin/bash
# build.sh: the release build. Both programs end up side by side in <target>/metactl/, where metactl
# finds its runtime; the last line printed is that directory.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$REPO"

target=$(target_dir)
[[ -n $target ]] || die "cargo does not say where it builds" "cargo metadata --no-deps"
host=$(rustc -vV | sed -n 's/^host: //p')

as_person cargo build --release --locked -p metactl --bin metactl
# Static, so that starting a sandbox loads no shared library. With --target the flag stays away from
# procedural macros, which cannot be static.
as_person env RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
  cargo build --release --locked -p metactl-runtime --bin metactl-runtime --target "$host"

as_person mkdir -p "$target/metactl"
# install replaces the file instead of writing into one that may be running.
as_person install -m 755 "$target/release/metactl" "$target/$host/release/metactl-runtime" "$target/metactl/"
echo "$target/metactl"
