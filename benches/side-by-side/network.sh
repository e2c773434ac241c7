# network.sh: a program that does nothing, with an address of its own and ten accept entries.
# metactl-runtime does it by itself; crun gets the `ip` and `iptables` command lines that people
# type for the same. Called by run.sh in namespaces of its own.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi

# A server: one device towards the physical network, a default route, forwarding.
ip link set lo up
ip link add eth0 type veth peer name wire
ip address add 198.51.100.1/24 dev eth0
ip link set eth0 up
ip link set wire up
ip route add default via 198.51.100.254
sysctl -qw net.ipv4.ip_forward=1
sysctl -qw net.ipv4.conf.eth0.proxy_arp=1

bundle=$("$BENCH_PROGRAMS/bench-bundle" "$DIR/network" "$DIR/noop" "$NAME-n")

# What the runtimes remember is kept in memory, as on a server (/run).
for place in metactl crun server network/run network/server; do
  mkdir -p "$DIR/$place"
  mount -t tmpfs -o mode=700 state "$DIR/$place"
done

# For each command line one program, as in the notes of people who do this by hand. The pid comes
# from the state that a hook reads; everything is there before the program starts.
entries() { local n; for n in {1..10}; do echo "10.1.$n.$n $((3000 + n))"; done; }
{
  cat <<'SCRIPT'
set -e
read -r state || [ -n "$state" ]
pid=${state#*\"pid\":}; pid=${pid%%[,\}]*}; pid=$(($pid))
ip link add pid$pid type veth peer name veth0 netns $pid
ip link set pid$pid up
ip route add 198.51.100.77/32 dev pid$pid
nsenter -t $pid -n ip link set lo up
nsenter -t $pid -n ip link set veth0 up
nsenter -t $pid -n ip addr add 198.51.100.77/32 dev veth0
nsenter -t $pid -n ip route add default dev veth0
SCRIPT
  entries | while read -r address port; do
    echo "iptables -A FORWARD -i pid\$pid -d $address -p tcp --dport $port -j ACCEPT"
  done
  echo 'iptables -A FORWARD -i pid$pid -j REJECT'
} >"$DIR/network/hook.sh"

# The same, as few programs as can be.
{
  cat <<'SCRIPT'
set -e
read -r state || [ -n "$state" ]
pid=${state#*\"pid\":}; pid=${pid%%[,\}]*}; pid=$(($pid))
ip -batch - <<END
link add pid$pid type veth peer name veth0 netns $pid
link set pid$pid up
route add 198.51.100.77/32 dev pid$pid
END
nsenter -t $pid -n ip -batch - <<END
link set lo up
link set veth0 up
addr add 198.51.100.77/32 dev veth0
route add default dev veth0
END
iptables-restore --noflush <<END
*filter
SCRIPT
  entries | while read -r address port; do
    echo "-A FORWARD -i pid\$pid -d $address -p tcp --dport $port -j ACCEPT"
  done
  printf '%s\n' '-A FORWARD -i pid$pid -j REJECT' COMMIT END
} >"$DIR/network/batch.sh"

# crun leaves the rules behind; taking them away again is not timed.
cat >"$DIR/network/after.sh" <<'SCRIPT'
iptables -F FORWARD
SCRIPT

ours="$METACTL_RUNTIME --root $DIR/metactl run --server-dir $DIR/server"
ours+=" --network $bundle/network.json --bundle $bundle/noop"
crun="crun --root $DIR/crun run --bundle $bundle"

compare() {
  echo
  echo "$1"
  "$BENCH_PROGRAMS/side-by-side" --rounds "$ROUNDS" --gap 60 \
    --peak "$BENCH_PROGRAMS/peak-memory" --after "sh $DIR/network/after.sh" \
    "metactl-runtime run=$ours bench{n}" \
    "crun, ip, iptables=$crun/hook bench{n}" \
    "crun, batches=$crun/batch bench{n}"
}

# With other runtimes, whole.
runtimes() {
  compare "4. an address of its own and ten accept entries, the only instance of the server"
  # On a server with another instance, what all share is there already.
  sed "s/198\.51\.100\.77/198.51.100.78/; s/$NAME-n/$NAME-o/" "$bundle/network.json" >"$DIR/network/other.json"
  "$METACTL_RUNTIME" network up --spec "$DIR/network/other.json" --pin "$DIR/other" \
    --server-dir "$DIR/server" --user other >/dev/null
  compare "5. the same beside another instance"
  "$METACTL_RUNTIME" network down --pin "$DIR/other" --server-dir "$DIR/server" --user other >/dev/null
}

# What the network adds to a start, with ever more entries.
added() {
  echo
  echo "6. what an address and a firewall add to a start"
  sysctl -qw net.ipv4.ip_forward=0
  local podman=()
  if command -v podman >/dev/null; then
    # This machine may not raise hard limits, which podman's defaults ask for.
    mkdir -p "$DIR/podman/root" "$DIR/podman/net" "$DIR/podman/rootfs"
    printf '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n' >"$DIR/podman/containers.conf"
    export CONTAINERS_CONF=$DIR/podman/containers.conf
    cp "$DIR/noop" "$DIR/podman/rootfs/noop"
    local line="podman --root $DIR/podman/root --runroot $DIR/podman/run --tmpdir $DIR/podman/tmp"
    line+=" --network-config-dir $DIR/podman/net --runtime crun --cgroup-manager cgroupfs"
    line+=" --events-backend file run --rm --network {network} --cgroups disabled --rootfs $DIR/podman/rootfs /noop"
    podman=(--podman "$line")
  fi
  # As on a server with other instances; the first one makes what all share, and is measured for itself.
  local measure=("$BENCH_PROGRAMS/address" --rounds "$ROUNDS" --record "$RESULTS" --spec "$bundle/network.json" \
    --bundle "$bundle/noop" --runtime "$METACTL_RUNTIME" --dir "$DIR/network")
  echo "  the first instance of the server:"
  "${measure[@]}" --first 10
  echo "  beside another instance:"
  sed "s/198\.51\.100\.77/198.51.100.78/; s/$NAME-n/$NAME-o/" "$bundle/network.json" >"$DIR/network/other.json"
  "$METACTL_RUNTIME" network up --spec "$DIR/network/other.json" --pin "$DIR/other" \
    --server-dir "$DIR/network/server" --user other >/dev/null
  "${measure[@]}" "${podman[@]}" ${SIZES:-10 1000 10000}
  "$METACTL_RUNTIME" network down --pin "$DIR/other" --server-dir "$DIR/network/server" --user other >/dev/null
}

# NETWORK chooses among both; SIZES are the numbers of entries of the second.
for what in ${NETWORK:-runtimes added}; do "$what"; done
