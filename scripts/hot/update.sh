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
step build "metactl-runtime, with its symbols" "$REPO/scripts/build.sh" runtime
program=$(target_dir)/$(rustc -vV | sed -n 's/^host: //p')/runtime/metactl-runtime
map=$(target_dir)/metactl/runtime.map
step bundles "the bundles that are launched" \
  as_person cargo build --locked -p metactl-benches --bin launch-bundle
gcc -O2 -o "$dir/called" "$here/called.c"
for name in noop pause; do
  gcc -static -nostdlib -O2 -s -o "$dir/$name" "$REPO/benches/side-by-side/$name.c"
done
"$(target_dir)/debug/launch-bundle" "$dir/bundle" "$dir/noop" "$dir/pause"

# All functions, by address.
objdump -t "$program" | awk '$3 == "F" && $4 ~ /^\.text/ { print $1, $NF }' | sort >"$dir/functions"

cat >"$dir/launches.sh" <<'SCRIPT'
set -euo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
mount -t tmpfs state "$1/bundle/state"
call() { timeout 20 "$1/called" "$1/functions" "$1/calls.$3" "$2" --root "$1/bundle/state" "${@:3}"; }
plain() { "$2" --root "$1/bundle/state" "${@:3}"; }
# Whatever happens, no cgroup of these stays on this machine.
trap 'plain "$1" "$2" delete --force "hot-$$" 2>/dev/null || true' EXIT
for bundle in plain seccomp; do
  call "$1" "$2" run --bundle "$1/bundle/$bundle" "hot-$$"
done
# The process that it leaves is traced until `start` lets it go on.
call "$1" "$2" create --bundle "$1/bundle/seccomp" "hot-$$" &
creator=$!
until plain "$1" "$2" state "hot-$$" 2>/dev/null | grep -q '"created"'; do sleep 0.1; done
call "$1" "$2" start "hot-$$"
wait "$creator"
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

# Rust gives every function a section of its own name. The hashes of crates in it change with every compiler and
# every version, so they are left out, and a pattern may match others too: those patterns come later.
patterns() {
  sed -nE -e 's/^(_ZN.*17h)[0-9a-f]{16}E.*$/\1*/p' -e '/^main$/p' \
    -e '/^_R/ { s/\.(llvm\.)?[0-9]+$/*/; s/Cs[0-9A-Za-z]+_/Cs*_/g; p }' | sort
}
# The C library has a file for each function.
library() {
  awk 'NR == FNR { called[$1]; next }
       match($0, /[a-z0-9.-]+\.a\([^)]*\.o\):/) { file = substr($0, RSTART, RLENGTH - 2); next }
       /:\(/ { file = "" }
       file != "" && $NF in called { sub(/\(/, ":", file); print "    *" file "(.text .text.*)"; file = "" }' \
    "$1" "$map" | grep -v compiler_builtins | sort -u
}
cut -d' ' -f2 "$dir/functions" | patterns | uniq -c | awk '{ print $2, $1 }' >"$dir/matches"
# exact FILE: the patterns of the functions in it that match nothing else; loose FILE: the others.
exact() { uniq -c "$1" | awk 'NR == FNR { all[$1] = $2; next } all[$2] == $1 { print "    *(.text." $2 " .text.unlikely." $2 ")" }' "$dir/matches" -; }
loose() { uniq -c "$1" | awk 'NR == FNR { all[$1] = $2; next } all[$2] != $1 { print "    *(.text." $2 " .text.unlikely." $2 ")" }' "$dir/matches" -; }

# The C library has some functions in a form for each kind of processor: those that other machines take stay.
variants() { grep -E 'libc\.a:[a-z0-9-]+-(sse|avx|evex)[a-z0-9-]*\.o' "$here/runtime.ld" || true; }

sort -u "$dir/calls.run" >"$dir/run"
sort -u "$dir/calls.run.children" >"$dir/child"
sort -u "$dir"/calls.* | comm -23 - "$dir/run" >"$dir/others"
comm -23 "$dir/run" "$dir/child" >"$dir/parent"
for part in child parent others; do patterns <"$dir/$part" >"$dir/$part.patterns"; done
{
  echo "/* Written by scripts/hot/update.sh: the functions that a launch calls. */"
  echo "SECTIONS"
  echo "{"
  echo "  .text.hot :"
  echo "  {"
  { library "$dir/run"; variants; } | sort -u
  # The new process has to find its functions in memory once more: they lie beside each other, and beside the library.
  exact "$dir/child.patterns"
  exact "$dir/parent.patterns"
  loose "$dir/child.patterns"
  loose "$dir/parent.patterns"
  exact "$dir/others.patterns"
  echo "  }"
  echo "}"
  echo "INSERT BEFORE .text;"
} >"$here/runtime.ld"
echo "$(grep -c '(\.text' "$here/runtime.ld") patterns, $(wc -l <"$dir/run") functions called by run"
