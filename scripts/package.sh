#!/bin/bash
# package.sh deb|rpm|tar DIR: a package of what `make build` has built, put into DIR; the last line printed is
# its path.
#
#   deb  for Debian and its kind, needs dpkg-deb
#   rpm  for Fedora and its kind, needs rpmbuild
#   tar  both programs static, for everything else; needs the Rust target *-linux-musl, and builds metactl for it
#
# DEBFULLNAME and DEBEMAIL name the maintainer, SOURCE_DATE_EPOCH the time (default: that of the last commit).
set -euo pipefail
source "$(dirname "$0")/lib.sh"
kind=${1:?deb, rpm or tar} out=$(mkdir -p "${2:?a directory}" && cd "$2" && pwd)
cd "$REPO"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
summary='Life of applications on a server, each in a sandbox with an address of its own'
maintainer="${DEBFULLNAME:-metactl packagers} <${DEBEMAIL:-packagers@metactl.invalid}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
machine=$(uname -m)
target=$(target_dir)
work=$(mktemp -d "${TMPDIR:-/tmp}/metactl-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
stage=$work/stage

# What every package holds.
stage_files() {
  scripts/install.sh install "$stage$1" >/dev/null
  local doc=$stage$1/share/doc/metactl
  install -d "$doc"
  install -m 644 README.md docs/*.md "$doc/"
  install -d "$stage$1/share/doc/metactl/examples"
  cp -r --no-preserve=mode,ownership examples/. "$doc/examples/"
  find "$doc/examples" -type f -exec grep -lZ '^#!' {} + | xargs -r0 chmod 755
  find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# The C library that the programs ask for, as a package of Debian.
glibc() {
  local symbols; symbols=$(readelf --dyn-syms -W "$stage/usr/bin/metactl" | grep -o 'GLIBC_[0-9.]*' | sort -uV)
  local newest; newest=$(tail -n 1 <<<"$symbols")
  echo "libc6 (>= ${newest#GLIBC_})"
}

deb() {
  command -v dpkg-deb >/dev/null || die "dpkg-deb is missing" "apt-get install dpkg"
  stage_files /usr
  local doc=$stage/usr/share/doc/metactl
  cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: metactl

Files: *
Copyright: the metactl authors
License: Apache-2.0 or Expat
 The texts of both are in LICENSE-APACHE and LICENSE-MIT beside this file.
END
  install -m 644 LICENSE-APACHE LICENSE-MIT "$doc/"
  gzip -9n "$stage"/usr/share/man/man*/*
  install -d "$stage/DEBIAN"
  install -m 755 scripts/package/postinst scripts/package/prerm scripts/package/postrm "$stage/DEBIAN/"
  cat >"$stage/DEBIAN/control" <<END
Package: metactl
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: $(glibc), libgcc-s1, passwd
Recommends: git
Suggests: subversion, tcpdump, strace, lsof
Section: admin
Priority: optional
Description: $summary
 metactl deploys applications from version control and runs each in a sandbox: its own
 processes, files, address and firewall by name. Configuration is inherited from the
 application, the site and the server, and every value knows where it comes from.
 .
 metactl-runtime, which is in this package too, is an OCI runtime.
END
  find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  local file; file=$out/metactl_${version}_$(dpkg --print-architecture).deb
  dpkg-deb --root-owner-group --build "$stage" "$file" >/dev/null
  echo "$file"
}

rpm_() {
  command -v rpmbuild >/dev/null || die "rpmbuild is missing" "apt-get install rpm, dnf install rpm-build"
  stage_files /usr
  local licenses=/usr/share/licenses/metactl
  install -d "$stage$licenses"
  install -m 644 LICENSE-APACHE LICENSE-MIT "$stage$licenses/"
  cat >"$work/metactl.spec" <<END
Name: metactl
Version: $version
Release: 1
Summary: $summary
License: MIT OR Apache-2.0
Recommends: git
Requires(post): shadow-utils
%global debug_package %{nil}
%global _build_id_links none
%global __os_install_post %{nil}
%global source_date_epoch_from_changelog 0
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%description
metactl deploys applications from version control and runs each in a sandbox: its own
processes, files, address and firewall by name.
%install
cp -a $stage/. %{buildroot}/
%post
$(sed 's/%/%%/g' scripts/package/postinst)
%preun
$(sed 's/%/%%/g' scripts/package/prerm)
%files
%license $licenses/LICENSE-APACHE
%license $licenses/LICENSE-MIT
%doc /usr/share/doc/metactl
/usr/bin/metactl
/usr/bin/metactl-runtime
/usr/share/man/*/*
/usr/share/bash-completion/completions/metactl
/usr/share/zsh/site-functions/_metactl
/usr/share/fish/vendor_completions.d/metactl.fish
END
  rpmbuild --quiet -bb --target "$machine" --define "_topdir $work/rpm" --define "_rpmdir $out" \
    --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" "$work/metactl.spec" >&2
  echo "$out/metactl-$version-1.$machine.rpm"
}

tar_() {
  local triple=$machine-unknown-linux-musl name=metactl-$version-linux-$machine
  grep -qx "$triple" <<<"$(as_person rustup target list --installed 2>/dev/null)" ||
    as_person rustup target add "$triple" >&2 || die "the Rust target $triple is missing" "rustup target add $triple"
  as_person cargo build --release --locked -p metactl --bin metactl --target "$triple" >&2
  stage_files "/$name"
  install -m 755 "$target/$triple/release/metactl" "$stage/$name/bin/"
  install -m 644 LICENSE-APACHE LICENSE-MIT "$stage/$name/share/doc/metactl/"
  find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  tar --sort=name --owner=0 --group=0 --numeric-owner -C "$stage" -c "$name" | gzip -9n >"$out/$name.tar.gz"
  echo "$out/$name.tar.gz"
}

case $kind in
  deb) deb ;;
  rpm) rpm_ ;;
  tar) tar_ ;;
  *) die "no such package: $kind" ;;
esac
