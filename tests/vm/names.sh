# Sourced by namespaces.sh: names in the DNS of a real name server, and what others break in the network of the server,
# under systemd: no process of metactl stays, and a timer's service puts things right.

zone=apps.example.org
own=shop.server1.$zone
shared=shop.$zone
named_dir=/tmp/named
# ask NAME [TYPE]: what the name server says, in one line
ask_dns() { dig +short +time=2 +tries=1 @10.20.0.53 "$@" | sort | tr '\n' ' '; }
answers() { same "$1" "$(ask_dns "${@:2}")"; }
no_answer() { answers "" "$@"; }
name_server() {
    nsenter --net="$named_net" named -g -n 1 -c $named_dir/named.conf > $named_dir/log 2>&1 &
    named_pid=$!
    check "a name server" soon answers "10.20.0.53 " ns.$zone
}
no_name_server() { kill -KILL "$named_pid"; wait "$named_pid" 2> /dev/null; }
mend() { systemctl start metactl-mend.service; }
mended_until() { mend && "$@"; }
timer() { same "$1" "$(systemctl show --property=ActiveState --value metactl-mend.timer)"; }
page() { curl -sS --retry 5 --retry-connrefused --max-time 20 "http://10.20.0.5/"; }
restarts() { systemctl show --property=NRestarts --value metactl-shop-web.service; }
outer() { ip -o route get 10.20.0.5 | sed -n 's/.* dev \([^ ]*\).*/\1/p'; }
# No process of metactl is there, but for what answers for names, and what is inside of sandboxes.
no_process() {
    local pid
    for pid in $(pgrep -f '/metactl(-runtime)? '); do
        grep -q 'NSpid:.*[0-9]\s[0-9]' "/proc/$pid/status" && continue
        tr '\0' ' ' < "/proc/$pid/cmdline" | grep -v ' resolve ' && return 1
    done
    return 0
}

names_and_mending() {
    local pid line
    hostname server1
    # What the other checks left running has a network to look after too.
    metactl hello stop > /dev/null 2>&1 || true
    state_of_machine > /tmp/before-names
    mkdir -p $named_dir /job/shop
    # A network with a name server in it.
    unshare --net sleep 600 &
    lan=$!
    named_net=/proc/$lan/ns/net
    sleep 0.2
    ip link add up0 type veth peer name eth0 netns $lan
    ip address add 10.20.0.1/24 dev up0
    ip link set up0 up
    nsenter --net=$named_net ip address add 10.20.0.53/24 dev eth0
    nsenter --net=$named_net ip link set eth0 up
    ip route add default via 10.20.0.53
    tsig-keygen metactl-server1 > $named_dir/metactl.key
    chmod 600 $named_dir/metactl.key
    {
        echo "options { directory \"$named_dir\"; pid-file none; session-keyfile none; recursion no;"
        echo "listen-on { 10.20.0.53; }; listen-on-v6 { none; }; dnssec-validation no; notify no; };"
        echo "controls { };"
        echo "include \"$named_dir/metactl.key\";"
        for name in $zone 20.10.in-addr.arpa; do
            echo "zone \"$name\" { type primary; file \"$name.zone\"; allow-update { key metactl-server1; }; };"
            printf '$TTL 60\n@ SOA ns.%s. root.%s. 1 60 60 600 0\n@ NS ns.%s.\n' $zone $zone $zone > "$named_dir/$name.zone"
        done
        echo "ns A 10.20.0.53" >> "$named_dir/$zone.zone"
    } > $named_dir/named.conf
    name_server
    printf '[dns]\nzone = %s\nserver = 10.20.0.53\nkey.file = %s\n' $zone $named_dir/metactl.key > /etc/metactl/metactl.conf

    # Each connection has a process of its own: the ports 80 for pages and 7 for lines that come back.
    printf '[daemon.web]\nplatform = exec\ncommand = perl shop.pl\nport = 80\n' > /job/shop/.metactl
    cat > /job/shop/shop.pl <<'PERL'
use IO::Socket::INET; use strict; $| = 1; $SIG{CHLD} = "IGNORE";
exit 3 if -e "/data/broken";
my %sockets = map { $_ => IO::Socket::INET->new(LocalPort => $_, Listen => 16, ReuseAddr => 1) } 7, 80;
for my $port (7, 80) {
    next if $port == 7 && fork;
    while (my $client = $sockets{$port}->accept) {
        next if fork;
        if ($port == 80) { 1 while (<$client> // "\n") =~ /\S/; print $client "HTTP/1.0 200 OK\r\n\r\nthe shop\n" }
        else { $client->autoflush; while (my $line = <$client>) { print $client $line } }
        exit;
    }
}
PERL
    (cd /job/shop && git init -q && git add -A && git commit -q -m First && git tag 1.0)
    printf '[build]\nrepo = /job/shop\n[sandbox.net]\nip = 10.20.0.5\n[firewall.in]\npolicy = accept\n' > /etc/metactl/nodes/shop.conf

    echo "      names"
    check "deploy" metactl shop deploy 1.0
    check "its own name" soon answers "10.20.0.5 " $own
    check "that of the application" soon answers "10.20.0.5 " $shared
    check "that of its address" soon answers "$own. " -x 10.20.0.5
    check "status has them" soon says "named $shared $own" metactl shop status
    check "they are registered" says '"state": "registered"' metactl shop status --json
    check "the units are in order" same "" "$(systemd-analyze verify /etc/systemd/system/metactl-mend.* 2>&1)"
    check "the timer runs" timer active
    check "doctor has nothing to say of it" not shows "metactl-mend" metactl doctor network
    check "somebody stops it" systemctl stop metactl-mend.timer
    check "doctor says so, and what mends it" shows "mend:  systemctl start metactl-mend.timer" metactl doctor network
    check "that starts it" systemctl start metactl-mend.timer
    # Again when the timer's own run was under way, which began before.
    fails_and_is_told() {
        cp /etc/metactl/metactl.conf /tmp/metactl.conf
        echo "[nonsense" > /etc/metactl/metactl.conf
        systemctl start metactl-mend.service
        mv /tmp/metactl.conf /etc/metactl/metactl.conf
        shows "metactl-mend.service failed the last time (exit-code)" metactl doctor network
    }
    check "doctor says that it failed" soon fails_and_is_told
    check "it works again" mend
    check "and that is seen" not shows "metactl-mend" metactl doctor network
    check "no process stays" soon no_process
    check "stop" metactl shop stop
    check "all are gone" no_answer $own
    check "that of the application too" no_answer $shared
    check "and that of the address" no_answer -x 10.20.0.5
    check "a look with nothing to look at" mend
    check "the timer has ended" timer inactive
    check "started by systemd alone" systemctl start metactl-shop-web.service
    check "named again" soon answers "10.20.0.5 " $shared
    check "the timer runs again" timer active
    touch /var/lib/metactl/shop/data/broken
    check "killed, and it cannot come back" systemctl kill --signal=KILL metactl-shop-web.service
    check "who is not healthy has not the name of all" soon no_answer $shared
    check "but its own" answers "10.20.0.5 " $own
    rm /var/lib/metactl/shop/data/broken
    check "healthy again" soon answers "10.20.0.5 " $shared

    echo "      a dead name server"
    no_name_server
    check "stop" shows "still in the DNS" metactl shop stop
    check "start" metactl shop start
    check "it runs all the same" says "the shop" page
    check "status says why" soon shows "does not answer" metactl shop status
    name_server
    check "registered by the timer's service" soon mended_until says '"state": "registered"' metactl shop status --json
    check "and named" answers "10.20.0.5 " $shared
    check "no trouble is left" not says "DNS" metactl shop status
    no_name_server
    check "stop" metactl shop stop
    check "what is left is told" shows "still in the DNS" metactl shop status
    name_server
    check "the names are still there" answers "10.20.0.5 " $own
    check "removed by the timer's service" soon mended_until no_answer $own
    check "start" metactl shop start
    check "named" soon answers "10.20.0.5 " $shared

    echo "      what others break"
    pid=$(metactl shop pid)
    exec 7<> /dev/tcp/10.20.0.5/7
    echoes() { echo "$1" >&7 && read -r -t 10 line <&7 && same "$1" "$line"; }
    check "a connection" echoes before
    nft flush ruleset
    ip link set "$(outer)" down
    sysctl -q -w net.ipv4.ip_forward=0
    check "the timer's service" mend
    check "it says what was missing" says "was missing" journalctl --quiet -t metactl-mend --output=cat
    check "the table is back" says "chain" nft list table inet metactl
    check "the setting too" is 1 /proc/sys/net/ipv4/conf/up0/forwarding
    check "page" says "the shop" page
    check "the connection goes on" echoes after
    exec 7>&-
    check "the same process" same "$pid" "$(metactl shop pid)"
    check "nothing was started again" same 0 "$(restarts)"
    nsenter --net=/run/metactl/shop/netns nft flush ruleset
    check "by hand" shows "the firewall inside the sandbox was gone" metactl shop mend
    nft flush table inet metactl
    check "doctor says how to mend that" shows "mend:  metactl mend" metactl doctor network
    check "an empty table is mended, too" shows "had lost rules" metactl mend
    check "nothing more to do" says "nothing was missing" metactl shop mend
    ip link del "$(outer)"
    check "what cannot be mended is told" fails_with 2 metactl mend
    check "restart" metactl shop restart
    check "page" says "the shop" page

    check "delete" metactl shop delete --data --yes
    check "no name is left" no_answer $own
    check "nor a unit" same "" "$(find /etc/systemd/system -name 'metactl*shop*')"
    no_name_server
    ip link del up0
    kill $lan
    wait $lan 2> /dev/null
    rm -r /etc/metactl/metactl.conf $named_dir
    cp /tmp/before-names /tmp/before
    check "nothing left behind" same_machine
}

missing=
for program in named tsig-keygen dig nft; do
    command -v $program > /dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "SKIP names in the DNS and mending under systemd: there is no$missing"
else
    names_and_mending
fi
