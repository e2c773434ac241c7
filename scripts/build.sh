#!/bin/bash
# build.sh [runtime]: the release build. Both programs end up side by side in <target>/metactl/, where
# metactl finds its runtime; the last line printed is that directory. With `runtime` only the
# runtime is built.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$REPO"

target=$(target_dir)
[[ -n $target ]] || die "cargo does not say where it builds" "cargo metadata --no-deps"
host=$(rustc -vV | sed -n 's/^host: //p')
as_person mkdir -p "$target/metactl"
# install replaces the file instead of writing into one that may be running.
put() { as_person install -m 755 "$1" "$target/metactl/"; }

if [[ ${1:-all} == all ]]; then
  as_person cargo build --release --locked -p metactl --bin metactl
  put "$target/release/metactl"
fi

# Static, so that starting a sandbox loads no shared library. With --target the flags stay away from
# procedural macros, which cannot be static. The profile `runtime` is in Cargo.toml.
flags="${RUSTFLAGS:-} -C target-feature=+crt-static"
# At fixed addresses: of every start a fifth went into moving the program to where nobody expects it
# (docs/runtime.md, "Speed").
flags+=" -C relocation-model=static"
# What is touched at a start decides how much memory a launch takes: what it calls lies together
# (scripts/hot/update.sh). For that every instance of a generic function needs a name of its own.
flags+=" -C symbol-mangling-version=v0"
built=$target/$host/runtime/metactl-runtime
if [[ $host == x86_64-*-linux-gnu ]]; then
  flags+=" -C link-arg=-Wl,-T,$REPO/scripts/hot/runtime.ld -C link-arg=-Wl,-Map=$target/metactl/runtime.map"
  # cargo does not know of the linker script.
  if [[ scripts/hot/runtime.ld -nt $built ]]; then as_person touch runtime/src/main.rs; fi
fi
as_person env RUSTFLAGS="$flags" \
  cargo build --profile runtime --locked -p metactl-runtime --bin metactl-runtime --target "$host"
as_person strip -o "$built.stripped" "$built"
as_person install -m 755 "$built.stripped" "$target/metactl/metactl-runtime"
echo "$target/metactl"
