#!/bin/bash
# The slow tier: metactl where the sandboxes of this machine cannot take it, under real systemd with
# unified cgroup v2, in a virtual machine (qemu, without KVM).
#
#   tests/vm/run.sh            exit 0: passed, 77: skipped with the reason, else: failed
#
# METACTL_VM_GUEST names another script to run in the machine than guest.sh. METACTL_BIN and METACTL_RUNTIME_BIN name the binaries (default: the newest of the target directory's
# release and debug builds). The image is made once (half a minute, needs the network for
# Debian packages) and kept in $METACTL_VM_DIR (default: vm/ in the target directory).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
dir=${METACTL_VM_DIR:-$target/vm}
timeout=${METACTL_VM_TIMEOUT:-420}   # seconds for the whole life of the machine

skip() {
    echo "SKIP vm: $*" >&2
    [ -z "${METACTL_SKIPS:-}" ] || echo "vm: $*" >> "$METACTL_SKIPS"
    exit 77
}

[ "$(id -u)" = 0 ] || skip "needs root"
[ "$(uname -m)" = x86_64 ] || skip "the image is made for x86_64"
for tool in qemu-system-x86_64 mmdebstrap mkfs.ext4; do
    command -v "$tool" > /dev/null || skip "$tool is missing (apt-get install qemu-system-x86 mmdebstrap e2fsprogs)"
done

# newest NAME: the newest build of a binary
newest() { ls -t "$target/metactl/$1" "$target/release/$1" "$target/debug/$1" 2> /dev/null | head -n 1 || true; }
metactl=${METACTL_BIN:-$(newest metactl)}
runtime=${METACTL_RUNTIME_BIN:-$(newest metactl-runtime)}
for binary in "$metactl" "$runtime"; do
    [ -x "$binary" ] || { echo "vm: metactl and metactl-runtime are not built (cargo build)" >&2; exit 1; }
done

# The image depends on these two files alone; another content makes another image.
image=$dir/image-$(cat "$here/image.sh" "$here/job.sh" | sha256sum | cut -c 1-12)
exec 9> "$(mkdir -p "$dir" && echo "$dir/lock")"
flock 9
if [ ! -e "$image/root.ext4" ]; then
    echo "vm: making the image, once"
    rm -rf "$dir"/image-*
    "$here/image.sh" "$image" || skip "the image cannot be made here (Debian packages not reachable?)"
fi
flock -u 9

work=$(mktemp -d "$dir/run.XXXXXX")
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2> /dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/job"
cp "$here"/*.sh "$work/job/"
[ -z "${METACTL_VM_GUEST:-}" ] || cp "$METACTL_VM_GUEST" "$work/job/guest.sh"
cp "$metactl" "$work/job/metactl"
cp "$runtime" "$work/job/metactl-runtime"
cp -R "$top/examples/hello" "$work/job/hello"
tar -C "$work/job" -cf "$work/job.tar" .
truncate -s +1M "$work/job.tar"   # a disk ends at a whole block, with room to spare
touch "$work/out" "$work/exit"

echo "vm: booting"
append="root=/dev/nvme0n1 rw rootfstype=ext4 console=ttyS0 quiet panic=0 reboot=t"
append="$append systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 mitigations=off audit=0 no_timer_check"
timeout "$timeout" qemu-system-x86_64 -nodefaults -no-user-config -display none \
    -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
    -kernel "$image/vmlinuz" -append "$append" \
    -drive "file=$image/root.ext4,if=none,id=root,format=raw,snapshot=on,cache=unsafe" \
    -device nvme,drive=root,serial=root,addr=4 \
    -drive "file=$work/job.tar,if=none,id=job,format=raw,readonly=on" \
    -device nvme,drive=job,serial=job,addr=5 \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -chardev "file,id=out,path=$work/out" -serial chardev:out \
    -chardev "file,id=exit,path=$work/exit" -serial chardev:exit \
    > "$work/qemu" 2>&1 < /dev/null &
qemu=$!
tail -n +1 -s 0.2 --pid="$qemu" -f "$work/out" | sed -u 's/\r$//; s/^/vm| /'
code=0
wait "$qemu" || code=$?
qemu=

result=$(tr -d '\r' < "$work/exit" | sed -n 's/^exit //p')
if [ -z "$result" ]; then
    echo "vm: no result from the guest (qemu's exit code $code); its console ends with" >&2
    cat "$work/qemu" >&2
    tail -n 30 "$work/console" >&2
    exit 1
fi
[ "$result" = 0 ] && echo "vm: passed" || echo "vm: FAILED with exit code $result" >&2
exit "$result"
