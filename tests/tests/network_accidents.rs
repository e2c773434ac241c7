//! Accidents on a server where instances run: whatever others do to its network, no instance is open for a moment, and
//! the next command or the supervisor itself puts things back and says so.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, NFT, Need};
use metactl_tests::{Host, eventually, on_host};

const NEEDS: &[Need] = &[GIT, NFT];
const SOON: Duration = Duration::from_secs(15);
const ADDRESS: &str = "10.20.0.5";

const ROUTED: &str = "\
[firewall.out.accept]
database = 10.20.0.20:3306
[sandbox.net]
ip = 10.20.0.5 2001:db8::5
";

fn start(host: &Host) -> Node {
    let lan = host.lan();
    lan.server_address("2001:db8::1/64");
    let database = lan.node("database", &["10.20.0.20/24", "2001:db8::20/64"]);
    database.listen(3306);
    database.listen(80);
    Node::server().listen(8080);
    let client = lan.node("client", &["10.20.0.9/24", "2001:db8::9/64"]);
    host.hello("hello", ROUTED);
    client.get_when_up(&format!("http://{ADDRESS}/"), SOON);
    client
}

/// What the application says of a connection, asked from inside: from outside it may not be reached.
fn connect(host: &Host, to: &str) -> String {
    let (address, port) = to.split_once(' ').unwrap();
    let ask = format!(
        "print IO::Socket::IP->new(PeerHost => '{address}', PeerPort => {port}, Timeout => 3) ? 'connected' : $!"
    );
    host.run(&[
        "hello",
        "exec",
        "--",
        "perl",
        "-MIO::Socket::IP",
        "-e",
        &ask,
    ])
    .ok()
    .stdout
}

#[track_caller]
fn is_closed(host: &Host, when: &str) {
    for to in [
        "10.20.0.20 80",
        "10.20.0.1 8080",
        "2001:db8::20 80",
        "2001:db8::1 8080",
    ] {
        let answer = connect(host, to);
        assert!(answer.contains("refused"), "{when}: {to}: {answer}");
    }
}

fn is_well(host: &Host, client: &Node) -> bool {
    let reached = |url: &str| client.get(url).is_ok_and(|page| page.status == 200);
    connect(host, "10.20.0.20 3306") == "connected"
        && reached(&format!("http://{ADDRESS}/"))
        && reached("http://[2001:db8::5]:80/")
        && host
            .command("nft", &["list", "table", "inet", "metactl"])
            .code
            == 0
}

fn log(host: &Host) -> String {
    fs::read_to_string(host.log("hello", "supervisor")).unwrap()
}

/// The name of the outer device.
fn outer(host: &Host) -> String {
    let links = host
        .command("ip", &["-o", "link", "show", "group", "28003"])
        .ok()
        .stdout;
    let name = links.split(": ").nth(1).unwrap();
    name.split('@').next().unwrap().to_owned()
}

#[test]
fn the_next_command_mends_and_says_what_it_was() {
    on_host(NEEDS, |host| {
        let client = start(host);
        let outer = outer(host);
        let accidents = [
            ("nft flush ruleset".to_owned(), "table inet metactl of the server was gone"),
            (format!("ip link set {outer} down"), "ip link set"),
            (format!("ip route del {ADDRESS}; ip -6 route del 2001:db8::5"), "ip route add"),
            ("for v in 1 0; do echo $v > /proc/sys/net/ipv4/ip_forward; done".to_owned(), "forwarding"),
            (
                "ip link set eth0 down; ip link set eth0 name wan; ip link set wan up; \
                 ip -6 address add 2001:db8::1/64 dev wan nodad; ip route replace default via 10.20.0.254"
                    .to_owned(),
                "the uplink eth0 is called wan now",
            ),
            (
                "ip link set wan down; ip link set wan name eth0; ip link set eth0 up; \
                 ip -6 address add 2001:db8::1/64 dev eth0 nodad; ip route replace default via 10.20.0.254"
                    .to_owned(),
                "the uplink wan is called eth0 now",
            ),
        ];
        for (accident, says) in accidents {
            host.command("sh", &["-c", &accident]).ok();
            is_closed(host, &accident);
            host.run(&["hello", "start"]).ok();
            eventually(&format!("all to be well after {accident}"), SOON, || {
                (is_well(host, &client) && log(host).contains(says)).then_some(())
            });
            is_closed(host, &accident);
        }
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn the_supervisor_mends_by_itself_slow() {
    on_host(NEEDS, |host| {
        let client = start(host);
        let outer = outer(host);
        let accident = format!(
            "nft flush ruleset; ip link set {outer} down; echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding; \
             ip neighbour del proxy {ADDRESS} dev eth0"
        );
        host.command("sh", &["-c", &accident]).ok();
        is_closed(host, "all at once");
        eventually("all to be well again", Duration::from_secs(50), || {
            is_well(host, &client).then_some(())
        });
        is_closed(host, "mended");
        host.run(&["hello", "stop"]).ok();
    });
}
