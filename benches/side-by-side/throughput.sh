# throughput.sh: what a policy costs a TCP connection and a request, by its number of accept entries: beside the same
# network without a policy, and beside the seed's chain of `iptables` rules, one for each entry, on the server. The
# destination is the last entry of each list.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

mount -t tmpfs -o mode=700 run /run
mkdir /run/netns
work=$DIR/throughput
mkdir -p "$work"

# A server with one device towards the physical network, and a machine there.
ip link set lo up
ip netns add machine
ip link add eth0 type veth peer name eth0 netns machine
ip address add 198.51.100.1/24 dev eth0
ip -6 address add 2001:db8:1::1/64 dev eth0 nodad
ip link set eth0 up
ip -n machine link set lo up
ip -n machine address add 198.51.100.9/24 dev eth0
ip -n machine -6 address add 2001:db8:1::9/64 dev eth0 nodad
ip -n machine link set eth0 up
ip route add default via 198.51.100.9
ip -6 route add default via 2001:db8:1::9

# destinations N: one a line, address and port; they all differ.
destinations() {
  local n
  for ((n = 1; n < $1; n++)); do
    echo "10.$((n / 65536)).$((n / 256 % 256)).$((n % 256)) $((1024 + n % 50000))"
  done
}

# network NAME ADDRESS POLICY [ENTRIES]: pins a namespace. Its device is in NAME.device.
network() {
  local name=$1 number=$2 policy=$3 entries=${4:-0} address=198.51.100.$2
  {
    echo "{\"format\": 1, \"instance\": \"$name\", \"mode\": \"routed\", \"addresses\": [\"$address\", \"2001:db8:1::$number\"],"
    echo "\"in\": {\"policy\": \"accept\", \"accept\": []}, \"out\": {\"policy\": \"$policy\", \"accept\": ["
    if ((entries > 0)); then
      destinations "$entries" | while read -r net port; do
        case $name in
          prefixes*) net=${net%.*}.$((${net##*.} / 4 * 4))/30 ;;
          *) net+=/32 ;;
        esac
        echo "{\"name\": \"e\", \"peer\": {\"net\": \"$net\"}, \"ports\": [{\"first\": $port, \"last\": $port}], \"protocol\": \"tcp\"},"
      done
      for net in 198.51.100.9/32 2001:db8:1::9/128; do
        echo "{\"name\": \"last\", \"peer\": {\"net\": \"$net\"}, \"ports\": [{\"first\": 7001, \"last\": 7002}], \"protocol\": \"tcp\"}"
        [[ $net == 2001* ]] || echo ,
      done
    fi
    echo ']}}'
  } >"$work/$name.json"
  "$METACTL_RUNTIME" network up --spec "$work/$name.json" --pin "$work/$name" --server-dir "$work/server" \
    --user "$name" >/dev/null
  ip -o route get "$address" | sed -n 's/.* dev \([^ ]*\).*/\1/p' >"$work/$name.device"
}

# The seed's rules for one device. In a chain of its own, so that the other contenders do not go through it.
chain() {
  local name=$1 device
  device=$(cat "$work/$name.device")
  {
    echo '*filter'
    echo ":$name -"
    destinations "$2" | while read -r address port; do
      echo "-A $name -d $address -p tcp --dport $port -j ACCEPT"
    done
    echo "-A $name -d 198.51.100.9 -p tcp --dport 7001:7002 -j ACCEPT"
    echo "-A $name -j REJECT"
    echo "-A FORWARD -i $device -j $name"
    echo COMMIT
  } | iptables-restore --noflush
}

network open 10 accept
network twin 11 accept
contenders=("no policy=$work/open" "no policy, once more=$work/twin")
number=20
for entries in 10 1000 10000; do
  network "policy$entries" $((number++)) reject "$entries"
  contenders+=("metactl, $entries entries=$work/policy$entries")
done
network prefixes1000 $((number++)) reject 1000
contenders+=("metactl, 1000 prefixes=$work/prefixes1000")
for entries in 10 1000 10000; do
  network "chain$entries" $((number++)) accept
  chain "chain$entries" "$entries"
  contenders+=("iptables, $entries rules=$work/chain$entries")
done

rounds=$((ROUNDS > 20 ? 20 : ROUNDS))
echo
echo "TCP through a policy, ratios to no policy (1 is as fast, less is slower)"
"$BENCH_PROGRAMS/traffic" --rounds "$rounds" --serve /run/netns/machine --to 198.51.100.9:7001 "${contenders[@]}"
# The chain is about IPv4 only: nothing is held back here.
echo
echo "the same by IPv6"
"$BENCH_PROGRAMS/traffic" --rounds "$rounds" --serve /run/netns/machine --to "[2001:db8:1::9]:7001" "${contenders[@]:0:6}"

for pin in "$work"/*.device; do
  name=$(basename "$pin" .device)
  "$METACTL_RUNTIME" network down --pin "$work/$name" --server-dir "$work/server" --user "$name" >/dev/null
done
