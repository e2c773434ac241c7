#!/bin/bash
# The packages: the Debian one is installed into a clean root, used, upgraded, removed and purged; the others are
# made and looked into. Exit 0: passed, 77: skipped with the reason, else: failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

skip() {
  echo "SKIP packages: $*" >&2
  [[ -z ${METACTL_SKIPS:-} ]] || echo "packages: $*" >>"$METACTL_SKIPS"
  exit 77
}
fail() { echo "packages: $*" >&2; exit 1; }

[[ $EUID -eq 0 ]] || skip "needs root"
for tool in mmdebstrap dpkg-deb rpmbuild unshare; do
  command -v "$tool" >/dev/null || skip "$tool is missing (apt-get install mmdebstrap dpkg rpm util-linux)"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/metactl-packages.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

echo "packages: making them"
deb=$("$top/scripts/package.sh" deb "$work" | tail -n 1)
rpm=$("$top/scripts/package.sh" rpm "$work" | tail -n 1)
# The static programs need a target of the toolchain that not every machine can fetch.
triple=$(uname -m)-unknown-linux-musl tar=
if grep -qx "$triple" <<<"$(rustup target list --installed 2>/dev/null)" || rustup target add "$triple" 2>/dev/null; then
  tar=$("$top/scripts/package.sh" tar "$work" | tail -n 1)
else
  echo "SKIP packages, the tar file: the Rust target $triple is missing" >&2
  [[ -z ${METACTL_SKIPS:-} ]] || echo "packages: the tar file, for lack of the Rust target $triple" >>"$METACTL_SKIPS"
fi
again=$("$top/scripts/package.sh" deb "$work/again" | tail -n 1)
cmp "$deb" "$again" || fail "two packages of the same files differ"

# Read whole before it is searched: a grep that has found it ends a program that is still writing.
files=$(rpm -qpl "$rpm" 2>/dev/null) scripts=$(rpm -qp --scripts "$rpm" 2>/dev/null)
for file in /usr/bin/metactl /usr/bin/metactl-runtime /usr/share/man/man1/metactl.1; do
  grep -qx "$file" <<<"$files" || fail "$file is not in the rpm"
done
grep -q 'metactl -a "$name" stop' <<<"$scripts" || fail "the rpm stops nothing before it goes"
grep -q 'groupadd --system metactl' <<<"$scripts" || fail "the rpm makes no group metactl"
if [[ -n $tar ]]; then
  mkdir "$work/static"
  tar -xzf "$tar" -C "$work/static" --strip-components=1
  for program in metactl metactl-runtime; do
    headers=$(readelf -lW "$work/static/bin/$program")
    ! grep -q INTERP <<<"$headers" || fail "$program of the tar file is not static"
  done
  "$work/static/bin/metactl" version >/dev/null || fail "the static metactl does not run"
fi

echo "packages: a clean root"
mmdebstrap --quiet --variant=minbase --include=man-db bookworm "$root" >"$work/log" 2>&1 ||
  skip "no clean root can be made here (Debian packages not reachable?): $(tail -n 1 "$work/log")"
cp "$deb" "$root/metactl.deb"
cp "$here/inside.sh" "$root/inside.sh"
# A host of its own around it: no process, mount or address of this machine.
unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc bash -euc '
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  mount -t tmpfs tmpfs "$1/run"
  ip link set lo up
  cd "$1"
  pivot_root . mnt
  umount -l /mnt
  exec /bin/bash /inside.sh' - "$root" || fail "see above"
echo "packages: passed"
