#!/bin/bash
# demo.sh: builds metactl and shows it at work on a throw-away host. Everything shown is real: the
# program that is installed by 'make install', its output, and what the sandbox did.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

TARGET=10.77.9.9:443    # Nothing is there; the sandbox must not even ask.

# line NAME DETAIL [TIME]
line() { printf '  %-9s%-48s%10s\n' "$1" "$2" "${3:-}"; }

# get ADDRESS PATH: sets CODE and BODY of a page, with nothing but bash.
get() {
  local request="GET $2 HTTP/1.0\r\n\r\n" status text
  CODE='' BODY=''
  exec 3<>"/dev/tcp/$1/80" || return 1
  printf "$request" >&3
  read -r -t 10 _ CODE _ <&3 || return 1
  while read -r -t 10 text <&3; do [[ ${text%$'\r'} ]] || break; done
  BODY=$(timeout 10 cat <&3)
  exec 3>&-
}

# field NAME: the first string or number of that name in the status of the instance
field() {
  metactl hello status --json |
    sed -n "/\"$1\"/,/[]}]/{s/.*\"$1\": *\\[*//;s/[\", ]//g;/^[^]}[]/{p;q}}"
}

# What happens on the throw-away host.
inside() {
  local start took address uid before root=$METACTL_ROOT
  PATH=$1:$PATH
  before=$root/before
  # The way to the rest of the world of a real server; here it leads nowhere.
  ip link add uplink0 type veth peer name world0
  # An address of IPv6 would come a second later, and look like something left behind.
  ip link set uplink0 addrgenmode none
  ip link set world0 addrgenmode none
  ip addr add 10.99.0.2/24 dev uplink0
  ip link set uplink0 up
  ip link set world0 up
  ip route add default via 10.99.0.1
  mkdir -p "$root/etc/metactl/nodes" "$root/hello"

  # The application comes from a git repository, as it would from yours.
  cp -r "$REPO/examples/hello/." "$root/hello"
  export HOME=$root GIT_CONFIG_GLOBAL=/dev/null
  git -C "$root/hello" init --quiet --initial-branch main
  git -C "$root/hello" add --all
  git -C "$root/hello" -c user.name=demo -c user.email=demo@example.org commit --quiet -m 'hello 1.0'
  git -C "$root/hello" tag 1.0
  printf '[build]\nrepo = %s\ntag = 1.0\n' "$root/hello" >"$root/etc/metactl/nodes/hello.conf"
  METACTL_ROOT=$root/run/metactl "$REPO/scripts/leftovers.sh" snapshot "$before"

  start=$(now)
  metactl --quiet hello deploy
  took=$(took "$start")
  address=$(field addresses) uid=$(field uid)
  [[ $address ]] || die "the instance has no address" "$(metactl hello status)"
  line deploy "hello 1.0 from git · $address · uid $uid" "$took"

  start=$(now)
  until get "$address" / 2>/dev/null; do
    (($(now) - start < 10000000)) || die "http://$address/ does not answer" "$(metactl hello logs)"
    sleep 0.01
  done
  line GET "http://$address/ → $CODE \"${BODY//[$'\r\n']/}\"" "$(took "$start")"
  [[ $CODE == 200 ]] || die "the page is not there"

  start=$(now)
  get "$address" "/connect?to=$TARGET"
  case ${BODY,,} in
    *refused*) line connect "$TARGET → refused, counted" "$(took "$start")" ;;
    *) die "the sandbox did not refuse $TARGET: $BODY" ;;
  esac
  echo
  echo "  ${FAINT}\$ metactl hello firewall${PLAIN}"
  metactl --color "$([[ $LIVE ]] && echo always || echo auto)" hello firewall | sed "s|$root||; s/^/  /"
  grep -q "allow: .*$TARGET" <<<"$(metactl hello firewall)" || die "the refusal was not counted"
  echo

  start=$(now)
  metactl --quiet hello stop
  line stop "hello" "$(took "$start")"
  METACTL_ROOT=$root/run/metactl "$REPO/scripts/leftovers.sh" compare "$before" | sed 's/^/  /'
}

if [[ ${1:-} == inside ]]; then
  inside "$2"
  exit
fi

echo "metactl: a demonstration, on a host made of namespaces. This machine's own network, mounts and"
echo "directories are not touched; besides packages, only the target directory is written to."
step build "metactl, optimized (some minutes the first time)" "$REPO/scripts/build.sh"
"$REPO/scripts/throwaway-host.sh" "$REPO/scripts/demo.sh" inside "$(target_dir)/metactl" ||
  die "the demonstration failed; see above" "a container without privileges cannot make namespaces"
programs=$(target_dir)/metactl
echo "Next: sudo ${programs#"$REPO/"}/metactl run examples/hello"
echo "      make check, README.md, docs/guide.md"
