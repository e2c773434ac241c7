#!/bin/bash
# resolver.sh [ROUNDS] [INSTANCES]: names asked for from inside a sandbox. The server's resolver, which opens the firewall for what
# it answers, beside dnsmasq doing the same (`nftset`) without a cache, and beside the name server asked directly; then
# the resolver's memory with many instances (500). Prints medians and ratios.
#
# Needs root, bind9, dnsmasq and nftables. Works in namespaces of its own. METACTL_RUNTIME and BENCH_PROGRAMS
# name programs that are built already.
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"

if [[ ${1:-} != inside ]]; then
  [[ $EUID -eq 0 ]] || DIE_CODE=77 die "network namespaces need root" "sudo $0 $*"
  for tool in named dnsmasq nft ip unshare; do
    command -v "$tool" >/dev/null || DIE_CODE=69 die "$tool is missing" "apt install bind9 dnsmasq-base nftables iproute2"
  done
  if [[ -z ${METACTL_RUNTIME:-} ]]; then
    step runtime "metactl-runtime, as it is installed" "$REPO/scripts/build.sh" runtime
    METACTL_RUNTIME=$(target_dir)/metactl/metactl-runtime
  fi
  if [[ -z ${BENCH_PROGRAMS:-} ]]; then
    step programs "the measuring program" \
      as_person env -C "$REPO" cargo build --release --locked -p metactl-benches --bin dns-load
    BENCH_PROGRAMS=$(target_dir)/release
  fi
  export METACTL_RUNTIME BENCH_PROGRAMS
  # Processes, mounts and networks end with the first process in there.
  exec unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" inside "${1:-20}" "${2:-500}"
fi

rounds=$2 instances=$3
mount -t tmpfs none /run
mkdir -p /run/netns /run/m/server
dir=/run/bench
mkdir -p $dir
ip link set lo up

# A name server on another host.
ip netns add dns
ip link add eth0 type veth peer name eth0 netns dns
ip address add 198.51.100.1/24 dev eth0
ip link set eth0 up
ip -n dns address add 198.51.100.53/24 dev eth0
ip -n dns link set eth0 up
ip -n dns link set lo up
ip -n dns route add default via 198.51.100.1
ip route add default via 198.51.100.53
cat >$dir/named.conf <<END
options { directory "$dir"; recursion no; listen-on-v6 { none; }; pid-file none; session-keyfile none; lock-file none; notify no; };
controls {};
logging { category default { null; }; };
zone "example.org" { type primary; file "zone"; };
END
cat >$dir/zone <<END
\$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 198.51.100.53
www IN A 10.1.0.1
END
ip netns exec dns named -f -n 1 -c $dir/named.conf &

# The sandbox of instance NAME with address ADDRESS.
sandbox() {
  mkdir -p "/run/m/$1"
  cat >"/run/m/$1/network.json" <<END
{"format":1,"instance":"$1","mode":"routed","addresses":["$2"],
 "out":{"policy":"reject","accept":[
  {"name":"star","peer":{"suffix":"example.org"},"ports":[{"first":443,"last":443}]},
  {"name":"dns","peer":{"net":"198.51.100.0/24"},"ports":[{"first":53,"last":53}]}]},
 "in":{"policy":"accept","accept":[]}}
END
  "$METACTL_RUNTIME" network up --spec "/run/m/$1/network.json" --pin "/run/m/$1/netns" \
    --server-dir /run/m/server --user "$1"
}
sandbox app 198.51.100.5

"$METACTL_RUNTIME" --root /run/m/oci resolve --server-dir /run/m/server --nameserver 198.51.100.53 >/dev/null &
resolver=$!

# dnsmasq, on the server, putting answers into a set of the server's.
nft add table inet t
nft 'add set inet t s { type ipv4_addr; flags timeout; timeout 6m; }'
cat >$dir/dnsmasq.conf <<END
no-resolv
no-hosts
no-daemon
user=root
group=root
pid-file=
cache-size=0
port=53
bind-interfaces
listen-address=198.51.100.1
server=198.51.100.53
nftset=/example.org/4#inet#t#s
END
dnsmasq -C $dir/dnsmasq.conf 2>/dev/null &
sleep 1

# Both that the sandbox asks by their own address are accepted by an entry, so that nothing leads them elsewhere.
result=$(nsenter --net=/run/m/app/netns "$BENCH_PROGRAMS/dns-load" "$rounds" www.example.org \
  198.51.100.53:53 169.254.1.1:53 198.51.100.1:53)
nsenter --net=/run/m/app/netns nft list set inet metactl out4 | grep -q 10.1.0.1 || die "the resolver opened nothing"
nft list set inet t s | grep -q 10.1.0.1 || die "dnsmasq put nothing into its set"
echo "names asked for from inside a sandbox, $rounds rounds"
awk '
  NR == 1 { direct = $2; rate = $3 }
  { name[NR] = $1; time[NR] = $2; rates[NR] = $3 }
  END {
    label[1] = "the name server itself"; label[2] = "the resolver"; label[3] = "dnsmasq with nftset, no cache"
    printf "%-32s %10s %8s %12s %8s\n", "", "one, us", "ratio", "a second", "ratio"
    for (n = 1; n <= 3; n++)
      printf "%-32s %10.1f %8.2f %12d %8.2f\n", label[n], time[n], time[n] / direct, rates[n], rates[n] / rate
  }' <<<"$result"

memory() { awk '/^(VmRSS|RssAnon|VmHWM)/ { printf "%s %s kB  ", $1, $2 }' "/proc/$resolver/status"; echo; }
echo
echo "memory of the resolver"
echo "  1 instance:    $(memory)"
for ((n = 2; n <= instances; n++)); do
  sandbox "app$n" "198.51.$((101 + n / 250)).$((n % 250 + 1))"
done
sleep 4
for ((n = 2; n <= instances; n++)); do
  nsenter --net="/run/m/app$n/netns" "$BENCH_PROGRAMS/dns-load" 0 www.example.org 169.254.1.1:53 >/dev/null
done
sleep 2
echo "  $instances instances: $(memory)"
