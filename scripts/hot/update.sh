#!/bin/bash
# update.sh: writes runtime.ld, the linker script that puts the functions which a launch calls beside
# each other. The kernel maps a program's file in pieces of 64 KiB around what is touched: scattered,
# the launch of a container makes 2.3 MiB of code resident, together 0.7 MiB.
#
# Needs root (it launches containers, in namespaces of its own), gcc, binutils, and x86-64. To be run
# when the path of a launch has changed; a list that is out of date costs memory and nothing else.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$REPO"
here=$REPO/scripts/hot
[[ $EUID -eq 0 ]] || DIE_CODE=77 die "tracing launches needs root" "sudo $0"

dir=$(mktemp -d "${TMPDIR:-/tmp}/metactl-hot.XXXXXX")
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"

# The program as it is built, with its symbols.
step build "metactl-runtime with symbols, and the bundles" \
  env CARGO_PROFILE_RUNTIME_STRIP=false LINK_MAP="$dir/map" "$REPO/scripts/build.sh" runtime
program=$(target_dir)/metactl/metactl-runtime
step bundles "the bundles that are launched" \
  as_person cargo build --locked -p metactl-benches --bin launch-bundle
gcc -O2 -o "$dir/called" "$here/called.c"
for name in noop pause; do
  gcc -static -nostdlib -O2 -s -o "$dir/$name" "$REPO/benches/side-by-side/$name.c"
done
"$(target_dir)/debug/launch-bundle" "$dir/bundle" "$dir/noop" "$dir/pause"

# All functions, by address: those that are code.
nm --defined-only "$program" | awk '$2 ~ /^[tTwWi]$/ { print $1, $3 }' | sort >"$dir/all"
# .text and what the script makes of it.
readelf -SW "$program" | sed 's/^ *\[ *[0-9]*\] *//' |
  awk '$1 ~ /^\.text/ { printf "%s %d\n", $3, strtonum("0x" $5) }' >"$dir/sections"
awk 'NR == FNR { from[n++] = strtonum("0x" $1); size[n - 1] = $2; next }
     { a = strtonum("0x" $1); for (i = 0; i < n; i++) if (a >= from[i] && a < from[i] + size[i]) print }' \
  "$dir/sections" "$dir/all" >"$dir/functions"

cat >"$dir/launches.sh" <<'SCRIPT'
set -euo pipefail
mount -t tmpfs state "$1/bundle/state"
call() { timeout 20 "$1/called" "$1/functions" "$1/calls" "$2" --root "$1/bundle/state" "${@:3}"; }
plain() { "$2" --root "$1/bundle/state" "${@:3}"; }
for bundle in plain seccomp; do
  call "$1" "$2" run --bundle "$1/bundle/$bundle" "hot-$$"
done
call "$1" "$2" create --bundle "$1/bundle/seccomp" "hot-$$"
call "$1" "$2" start "hot-$$"
until call "$1" "$2" state "hot-$$" | grep -q '"stopped"'; do sleep 0.1; done
call "$1" "$2" delete "hot-$$"
plain "$1" "$2" run --detach --bundle "$1/bundle/pause" "hot-$$"
call "$1" "$2" exec "hot-$$" /noop
call "$1" "$2" kill "hot-$$" KILL
call "$1" "$2" delete --force "hot-$$"
SCRIPT
mkdir "$dir/bundle/state"
unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc \
  bash "$dir/launches.sh" "$dir" "$program" </dev/null

# Rust gives every function a section of its own name; the hash in it changes with every compiler
# and every change. The C library has a file for each function.
{
  echo "/* Written by scripts/hot/update.sh: the functions that a launch calls. */"
  echo "SECTIONS"
  echo "{"
  echo "  .text.hot :"
  echo "  {"
  sort -u "$dir/calls" | sed -nE \
    -e 's/^(_ZN.*17h)[0-9a-f]{16}E.*$/    *(.text.\1*)/p' \
    -e '/^_R/ { s/\.llvm\..*$/*/; s/Cs[0-9A-Za-z]+_/Cs*_/g; s/^.*$/    *(.text.&)/p }' | sort -u
  awk 'NR == FNR { called[$1]; next }
       match($0, /[a-z]+\.a\([^)]*\.o\):/) { file = substr($0, RSTART, RLENGTH - 2); next }
       /:\(/ { file = "" }
       file != "" && $NF in called { sub(/\(/, ":", file); print "    *" file "(.text .text.*)"; file = "" }' \
    <(sort -u "$dir/calls") "$dir/map" | grep -v compiler_builtins | sort -u
  echo "  }"
  echo "}"
  echo "INSERT BEFORE .text;"
} >"$here/runtime.ld"
echo "$(grep -c '(\.text' "$here/runtime.ld") patterns for $(sort -u "$dir/calls" | wc -l) functions"
