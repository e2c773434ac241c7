#!/bin/bash
# prerequisites.sh build|demo|check|test: finds out what is missing, and installs it when it may.
#
# Everything comes from Debian's own packages, except the Rust toolchain (rustup's) and
# cargo-nextest (cargo's). Without root nothing is installed: it says what to type.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

what=${1:?build, demo, check or test}

# How to tell that it is there (a command, or an absolute path), and the package that brings it.
BUILD=(
  cc:gcc
  /usr/include/stdio.h:libc6-dev
)
DEMO=(
  "${BUILD[@]}"
  ip:iproute2
  nft:nftables
)
CHECK=(
  "${DEMO[@]}"
  git:git
)
TEST=(
  "${CHECK[@]}"
  dbus-daemon:dbus
  dig:bind9-dnsutils
  firewalld:firewalld
  g++:g++
  ps:procps
  /usr/include/seccomp.h:libseccomp-dev
  busybox:busybox-static
  catatonit:catatonit
  conmon:conmon
  containerd:containerd
  crun:crun
  curl:curl
  iptables:iptables
  javac:openjdk-17-jdk-headless
  jq:jq
  mkfs.ext4:e2fsprogs
  named:bind9
  mmdebstrap:mmdebstrap
  tcpdump:tcpdump
  newuidmap:uidmap
  ping:iputils-ping
  podman:podman
  qemu-system-x86_64:qemu-system-x86
  runc:runc
  rpmbuild:rpm
  readelf:binutils
  strace:strace
  sudo:sudo
  lsof:lsof
  traceroute:traceroute
  ufw:ufw
  xmllint:libxml2-utils
  /usr/bin/gunicorn:gunicorn
  /usr/bin/node:nodejs
  /usr/bin/php:php-cli
  /usr/bin/plackup:libplack-perl
  /usr/bin/puma:puma
  /usr/bin/python3:python3
  /usr/bin/rackup:ruby-rack
  /usr/bin/ruby:ruby
  /usr/lib/podman/aardvark-dns:aardvark-dns
  /usr/lib/podman/netavark:netavark
  /usr/share/doc/ruby-webrick:ruby-webrick
  svnserve:subversion
  gpg:gnupg
  gpgv:gpgv
  ssh-keygen:openssh-client
  /usr/sbin/sshd:openssh-server
  openssl:openssl
  /usr/lib/apache2/modules/mod_dav_svn.so:libapache2-mod-svn
  groff:groff
  man:man-db
  zsh:zsh
  fish:fish
  /usr/share/jetty9/start.jar:jetty9
  /usr/share/java/servlet-api.jar:libservlet-api-java
  /usr/share/tomcat10/bin/bootstrap.jar:tomcat10-common
  mvn:maven
  /usr/share/maven-repo/org/apache/maven/plugins/maven-compiler-plugin:libmaven-compiler-plugin-java
  /usr/share/maven-repo/org/apache/maven/plugins/maven-jar-plugin:libmaven-jar-plugin-java
  /usr/share/maven-repo/org/apache/maven/plugins/maven-resources-plugin:libmaven-resources-plugin-java
  /usr/share/maven-repo/org/apache/maven/plugins/maven-surefire-plugin:libsurefire-java
  /usr/bin/make:make
  /usr/share/doc/python3-venv:python3-venv
)
case $what in
  build) wanted=("${BUILD[@]}") ;;
  demo) wanted=("${DEMO[@]}") ;;
  check) wanted=("${CHECK[@]}") ;;
  test) wanted=("${TEST[@]}") ;;
  *) die "no such set of prerequisites: $what" ;;
esac

present() {
  case $1 in
    /*) [[ -e $1 ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing_packages() {
  local entry
  for entry in "${wanted[@]}"; do
    present "${entry%%:*}" || echo "${entry#*:}"
  done | sort -u
}

# apt, without questions; the lists are fetched only when something is missing.
apt() {
  # A service that a package brings (jetty9 does) must not be started by installing it.
  local policy=/usr/sbin/policy-rc.d made=
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
  fi
  local code=0
  DEBIAN_FRONTEND=noninteractive apt-get "$@" || code=$?
  [[ -z $made ]] || rm -f "$policy"
  return "$code"
}

components() {
  [[ $what == check || $what == test ]] || return 0
  cargo fmt --version >/dev/null 2>&1 || echo rustfmt
  cargo clippy --version >/dev/null 2>&1 || echo clippy
}

problems=()
mapfile -t packages < <(missing_packages)
if ((${#packages[@]} > 0)); then
  if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing what is missing: ${packages[*]}"
    step apt "package lists" apt update -qq || true
    step apt "${packages[*]}" apt install -y -q --no-install-recommends "${packages[@]}" ||
      die "apt-get could not install: ${packages[*]}" "see its messages above"
  else
    problems+=("packages: ${packages[*]}" "    apt-get install --no-install-recommends ${packages[*]}")
  fi
fi

if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
  problems+=("cargo and rustc, from rustup: https://rustup.rs")
else
  mapfile -t parts < <(components)
  if ((${#parts[@]} > 0)); then
    as_person rustup component add "${parts[@]}" >/dev/null 2>&1 ||
      problems+=("parts of the toolchain: ${parts[*]}" "    rustup component add ${parts[*]}")
  fi
fi
if [[ $what == demo && $EUID -ne 0 ]]; then
  problems+=("root, to make namespaces, network interfaces and cgroups" "    sudo make demo")
fi
if ((${#problems[@]} > 0)); then
  DIE_CODE=69 die "for 'make $what' this is missing:" "${problems[@]}"
fi

if [[ $what == check || $what == test ]] && ! cargo nextest --version >/dev/null 2>&1; then
  echo "cargo-nextest runs the tests in parallel, each in a process of its own; it is built once."
  step nextest "cargo install --locked cargo-nextest (some minutes)" \
    as_person cargo install --locked cargo-nextest || echo "  without it: cargo test"
fi
