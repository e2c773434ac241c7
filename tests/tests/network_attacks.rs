//! What a broken-in application tries against its network, as the unprivileged user that it is, each attack by its
//! name; and, where that is possible, the same attack from a host without any sandbox, where it succeeds.
//!
//! What a sandbox with every capability could do to the server is in `netns/tests/attacks.rs`.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{CC, GIT, NFT, Need, PYTHON};
use metactl_tests::{Host, on_host};

const ATTACKS: &str = include_str!("../../netns/tests/common/attacks.py");
const SERVER_PL: &str = include_str!("../../examples/hello/server.pl");
const NEEDS: &[Need] = &[GIT, NFT, PYTHON];
const SOON: Duration = Duration::from_secs(15);

const APP: &str = "\
[daemon.main]
platform = exec
command = ./server.pl
port = 80
";

/// One destination with a port, one with a range, one with a list, in both families. All on 10.20.0.20.
const GUARDED: &str = "\
[firewall.out.accept]
database = 10.20.0.20:3306/tcp [2001:db8::20]:3306/tcp
range = 10.20.0.20:5000-5010
list = 10.20.0.20:7000,7002
[sandbox.net]
ip = 10.20.0.5 2001:db8::5
";

/// What an attack has to come to.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// It is no attack: this is accepted.
    Works,
    /// Refused at once: neither success nor a timeout.
    Refused,
    /// Any failure.
    Fails,
    /// Whatever it comes to, the other end sees nothing: questions for names are led to the server's resolver.
    Diverted,
}
use Expect::{Diverted, Fails, Refused, Works};

/// Whether it succeeds on a host without a sandbox.
#[derive(Clone, Copy, PartialEq)]
enum Outside {
    Succeeds,
    /// Nobody knows: it depends on the kernel, or there is no such thing there.
    Unknown,
}
use Outside::{Succeeds, Unknown};

/// Each attack with what has to come of it inside, and outside.
const LIST: &[(&str, Expect, Outside)] = &[
    // What is accepted, so that the rest says something.
    ("connect@10.20.0.20,3306", Works, Succeeds),
    ("connect@2001:db8::20,3306", Works, Succeeds),
    ("connect@10.20.0.20,5000", Works, Succeeds),
    ("connect@10.20.0.20,5010", Works, Succeeds),
    ("connect@10.20.0.20,7002", Works, Succeeds),
    // Ports above and below lists and ranges.
    ("connect@10.20.0.20,3305", Refused, Unknown),
    ("connect@10.20.0.20,3307", Refused, Succeeds),
    ("connect@2001:db8::20,3307", Refused, Succeeds),
    ("connect@10.20.0.20,4999", Refused, Succeeds),
    ("connect@10.20.0.20,5011", Refused, Succeeds),
    ("connect@10.20.0.20,7001", Refused, Succeeds),
    ("connect@10.20.0.20,7003", Refused, Unknown),
    // The other protocol of the same port.
    ("udp@10.20.0.20,3306", Refused, Succeeds),
    // Strangers; IPv4 in the clothes of IPv6; data in the first packet.
    ("connect@10.20.0.66,80", Refused, Succeeds),
    ("connect@2001:db8::66,80", Refused, Succeeds),
    ("mapped@10.20.0.66,80", Refused, Succeeds),
    ("fastopen@10.20.0.66,80", Refused, Unknown),
    ("udp@10.20.0.66,80", Refused, Succeeds),
    ("udp@2001:db8::66,80", Refused, Succeeds),
    // DNS as a tunnel: nothing on port 53 leaves.
    ("udp@10.20.0.66,53", Diverted, Succeeds),
    ("connect@10.20.0.66,53", Diverted, Succeeds),
    ("udp@2001:db8::66,53", Diverted, Succeeds),
    ("connect@2001:db8::66,53", Diverted, Succeeds),
    // ICMP as a tunnel, also to a destination of which a port is accepted.
    ("echo@10.20.0.66", Refused, Unknown),
    ("echo@10.20.0.20", Refused, Unknown),
    ("echo@2001:db8::66", Refused, Unknown),
    // The server: its services, its other addresses, its link-local ones on the way to it.
    ("connect@10.20.0.1,8080", Refused, Succeeds),
    ("connect@10.1.1.1,8080", Refused, Unknown),
    ("connect@2001:db8::1,8080", Refused, Succeeds),
    ("connect@169.254.1.1,8080", Refused, Unknown),
    ("connect@fe80::1%eth0,8080", Refused, Unknown),
    ("udp@10.20.0.1,8080", Refused, Succeeds),
    // Other instances.
    ("connect@10.20.0.6,80", Refused, Succeeds),
    ("connect@2001:db8::6,80", Refused, Succeeds),
    // The metadata of a cloud.
    ("connect@169.254.169.254,80", Refused, Unknown),
    // Broadcast and multicast.
    ("udp@10.20.0.255,80", Refused, Unknown),
    ("udp@255.255.255.255,80", Refused, Unknown),
    ("udp@224.0.0.1,80", Refused, Unknown),
    ("udp@ff02::1%eth0,80", Refused, Unknown),
    ("udp@ff0e::1,80", Refused, Unknown),
    // Other transport protocols: SCTP, DCCP, UDP-Lite, L2TP, MPTCP.
    ("protocol@1,132,10.20.0.66,80", Fails, Unknown),
    ("protocol@6,33,10.20.0.66,80", Fails, Unknown),
    ("protocol@2,136,10.20.0.66,80", Fails, Unknown),
    ("protocol@2,136,2001:db8::66,80", Fails, Unknown),
    ("protocol@2,115,10.20.0.66,80", Fails, Unknown),
    ("protocol@1,262,10.20.0.66,80", Refused, Unknown),
    // Another source: of another instance, of the server, of anybody.
    ("bind@10.20.0.6", Fails, Unknown),
    ("bind@10.20.0.1", Fails, Unknown),
    ("bind@2001:db8::6", Fails, Unknown),
    ("freebind@10.20.0.6,10.20.0.20,5000", Fails, Unknown),
    ("freebind@2001:db8::6,2001:db8::20,5000", Fails, Succeeds),
    ("transparent@10.20.0.6,10.20.0.20,5000", Refused, Succeeds),
    (
        "transparent@2001:db8::6,2001:db8::20,5000",
        Refused,
        Succeeds,
    ),
    ("pktinfo@10.20.0.1,10.20.0.20,5000", Fails, Unknown),
    ("pktinfo@2001:db8::6,2001:db8::20,5000", Fails, Unknown),
    ("add_address@10.20.0.6", Refused, Succeeds),
    ("add_address@2001:db8::6", Refused, Succeeds),
    // Source routing, of a connection that is accepted, by way of who is not (it may send; nothing arrives, see below);
    // options that want a privilege.
    (
        "source_route@srh,2001:db8::66,2001:db8::20,3306",
        Works,
        Unknown,
    ),
    (
        "route_header_udp@srh,2001:db8::66,2001:db8::20,3306",
        Fails,
        Unknown,
    ),
    ("extension@54", Refused, Succeeds),
    ("extension@59", Refused, Succeeds),
    // Raw and packet sockets.
    ("raw@10.20.0.66,1", Refused, Succeeds),
    ("raw@10.20.0.66,6", Refused, Succeeds),
    ("raw@10.20.0.66,255", Refused, Succeeds),
    ("raw@2001:db8::66,58", Refused, Succeeds),
    ("raw@2001:db8::66,255", Refused, Succeeds),
    ("packet@2", Refused, Succeeds),
    ("packet@3", Refused, Succeeds),
    ("packet@10", Refused, Unknown),
    // Connections that nobody saw begin; marks that rules of others may trust.
    ("repair@10.20.0.66,80", Refused, Succeeds),
    ("mark", Refused, Succeeds),
    // Families of sockets that no namespace and no rule holds: vsock, XDP, AF_ALG, KCM, SMC, TIPC, CAN, Bluetooth.
    ("any_socket@40,1", Refused, Unknown),
    ("any_socket@44,3", Refused, Unknown),
    ("any_socket@38,5", Refused, Unknown),
    ("any_socket@41,5", Refused, Unknown),
    ("any_socket@43,1", Refused, Unknown),
    ("any_socket@30,1", Refused, Unknown),
    ("any_socket@29,3,1", Refused, Unknown),
    ("any_socket@31,3", Refused, Unknown),
    // Rules, routes, neighbours, devices, settings.
    ("flush_rules", Refused, Succeeds),
    ("add_route@10.20.0.66", Refused, Succeeds),
    ("add_route@2001:db8::66", Refused, Succeeds),
    ("add_neighbour@169.254.1.1", Refused, Succeeds),
    ("add_neighbour@fe80::1", Refused, Succeeds),
    ("sysctl@ipv4/ip_forward,1", Refused, Succeeds),
    (
        "sysctl@ipv4/conf/all/accept_source_route,1",
        Refused,
        Succeeds,
    ),
    ("sysctl@ipv4/conf/eth0/route_localnet,1", Refused, Succeeds),
    (
        "sysctl@ipv4/ping_group_range,0 4294967294",
        Refused,
        Unknown,
    ),
    ("sysctl@ipv6/conf/eth0/accept_ra,2", Refused, Succeeds),
    ("sysctl@ipv6/conf/eth0/disable_ipv6,1", Refused, Unknown),
    // Namespaces: a user namespace, in which one is root of a network, and that of somebody else.
    ("unshare@268435456", Refused, Succeeds),
    ("unshare@1342177280", Refused, Succeeds),
    ("unshare@1073741824", Refused, Succeeds),
    ("setns@/proc/1/ns/net", Refused, Succeeds),
    ("setns@/proc/self/ns/net", Refused, Succeeds),
    // Sockets of the server that are not files.
    ("abstract@metactl-secret", Refused, Unknown),
    // Last: nothing works after it outside.
    ("device_down", Refused, Succeeds),
];

/// A server with services, a database that is accepted, a stranger that is not, and somebody to compare with.
fn around(host: &Host) -> Node {
    let lan = host.lan();
    lan.server_address("10.1.1.1/24");
    lan.server_address("2001:db8::1/64");
    let database = lan.node("database", &["10.20.0.20/24", "2001:db8::20/64"]);
    let stranger = lan.node("stranger", &["10.20.0.66/24", "2001:db8::66/64"]);
    stranger
        .run(&["ip", "address", "add", "169.254.169.254/32", "dev", "lo"])
        .ok();
    host.command(
        "ip",
        &["route", "add", "169.254.169.254", "via", "10.20.0.66"],
    )
    .ok();
    host.is_settled();
    for port in [3306, 3307, 4999, 5000, 5010, 5011, 7001, 7002] {
        database.listen(port);
    }
    let rules = "table inet t { counter routed { }; counter asked { }; chain c { type filter hook prerouting priority -500; \
                 ip6 saddr 2001:db8::5 meta l4proto tcp counter name routed; \
                 ip saddr 10.20.0.5 meta l4proto { tcp, udp } th dport 53 counter name asked; }; }";
    stranger.run(&["nft", rules]).ok();
    for port in [53, 80] {
        stranger.listen(port);
    }
    Node::server().listen(8080);
    lan.node("outside", &["10.20.0.9/24", "2001:db8::9/64"])
}

fn application(host: &Host, instance: &str, local: &str) {
    let files = [
        (".metactl", APP),
        ("server.pl", SERVER_PL),
        ("attacks.py", ATTACKS),
    ];
    host.application(instance, &files, local);
    host.run(&[instance, "deploy", "1.0"]).ok();
    let address = host.address(instance);
    Node::server().get_when_up(&format!("http://{address}/"), SOON);
}

/// What comes of attacks, by their text.
fn outcomes(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

fn words<'a>(attacks: impl Iterator<Item = &'a str>) -> Vec<String> {
    attacks
        .map(|attack| format!("{}={attack}", attack.replace('=', "-")))
        .collect()
}

/// Tries attacks as the application of the instance.
fn inside<'a>(
    host: &Host,
    instance: &str,
    attacks: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    let words = words(attacks);
    let mut command = vec![
        instance,
        "exec",
        "--",
        "/usr/bin/python3",
        "/app/attacks.py",
    ];
    command.extend(words.iter().map(String::as_str));
    outcomes(&host.run(&command).ok().stdout)
}

#[test]
fn an_application_does_not_get_around_its_firewall() {
    on_host(NEEDS, |host| {
        let outside = around(host);
        let abstract_name = SocketAddr::from_abstract_name("metactl-secret").unwrap();
        let secret = UnixListener::bind_addr(&abstract_name).unwrap();
        application(host, "other", "[sandbox.net]\nip = 10.20.0.6 2001:db8::6\n");
        application(host, "guarded", GUARDED);

        let found = inside(host, "guarded", LIST.iter().map(|(attack, ..)| *attack));
        let mut wrong = Vec::new();
        for (attack, expect, _) in LIST {
            let outcome = found.get(*attack).map_or("not tried", String::as_str);
            let good = match expect {
                Works => outcome == "ok",
                Refused => !["ok", "TIMEOUT", "not tried"].contains(&outcome),
                Fails => !["ok", "not tried"].contains(&outcome),
                Diverted => outcome != "not tried",
            };
            if !good {
                wrong.push(format!("inside: {attack}: {outcome}"));
            }
        }
        nothing_arrived();
        // Afterwards it is as it was.
        let again = inside(
            host,
            "guarded",
            ["connect@10.20.0.20,3306", "connect@10.20.0.66,80"].into_iter(),
        );
        assert_eq!(again["connect@10.20.0.20,3306"], "ok");
        assert_eq!(again["connect@10.20.0.66,80"], "ECONNREFUSED");
        host.run(&["guarded", "firewall"]).ok().says(&[
            "10.20.0.66:80",
            "10.20.0.1:8080",
            "database",
        ]);

        // The same without a sandbox.
        let script = host.work().join("attacks.py");
        fs::write(&script, ATTACKS).unwrap();
        let words = words(LIST.iter().map(|(attack, ..)| *attack));
        let mut command = vec!["/usr/bin/python3", script.to_str().unwrap()];
        command.extend(words.iter().map(String::as_str));
        let found = outcomes(&outside.run(&command).ok().stdout);
        for (attack, _, expect) in LIST {
            let outcome = found.get(*attack).map_or("not tried", String::as_str);
            if *expect == Succeeds && outcome != "ok" {
                wrong.push(format!("outside: {attack}: {outcome}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        drop(secret);
        for instance in ["guarded", "other"] {
            host.run(&[instance, "stop"]).ok();
        }
    });
}

/// The stranger has seen nothing that was routed by its source, and no question for a name.
fn nothing_arrived() {
    for counter in ["routed", "asked"] {
        let arrived = Node::named("stranger")
            .run(&["nft", "list", "counter", "inet", "t", counter])
            .ok();
        assert!(arrived.stdout.contains("packets 0"), "{arrived}");
    }
}

/// An empty list accepts nothing; and who may go everywhere does not get to link-local addresses by way of the server
/// (RFC 3927, 7: a router does not forward them): there a cloud keeps its metadata, with credentials of the server.
#[test]
fn nothing_at_all_and_everything_but_metadata() {
    on_host(NEEDS, |host| {
        around(host);
        application(
            host,
            "closed",
            "[firewall.out.accept]\n[sandbox.net]\nip = 10.20.0.5 2001:db8::5\n",
        );
        let everywhere = [
            "10.20.0.20,3306",
            "2001:db8::20,3306",
            "10.20.0.1,8080",
            "169.254.169.254,80",
        ];
        let attacks: Vec<String> = everywhere
            .iter()
            .map(|to| format!("connect@{to}"))
            .collect();
        let found = inside(host, "closed", attacks.iter().map(String::as_str));
        assert!(
            found.values().all(|outcome| outcome == "ECONNREFUSED"),
            "{found:?}"
        );
        let found = inside(
            host,
            "closed",
            [
                "udp@10.20.0.66,53",
                "connect@10.20.0.66,53",
                "echo@10.20.0.66",
            ]
            .into_iter(),
        );
        assert!(
            !["ok", "TIMEOUT"].contains(&found["echo@10.20.0.66"].as_str()),
            "{found:?}"
        );
        nothing_arrived();
        host.run(&["closed", "stop"]).ok();

        let open = "[firewall.out]\npolicy = accept\n[sandbox.net]\nip = 10.20.0.6\n";
        application(host, "open", open);
        let found = inside(
            host,
            "open",
            ["connect@10.20.0.66,80", "connect@169.254.169.254,80"].into_iter(),
        );
        assert_eq!(found["connect@10.20.0.66,80"], "ok");
        assert_ne!(found["connect@169.254.169.254,80"], "ok");
        assert!(
            Node::server().connect("169.254.169.254:80").is_ok(),
            "the server itself gets there"
        );
        host.run(&["open", "stop"]).ok();

        // Who lists it gets it.
        let listed =
            "[firewall.out.accept]\nmetadata = 169.254.169.254:80\n[sandbox.net]\nip = 10.20.0.7\n";
        application(host, "listed", listed);
        let found = inside(host, "listed", ["connect@169.254.169.254,80"].into_iter());
        assert_eq!(found["connect@169.254.169.254,80"], "ok");
        host.run(&["listed", "stop"]).ok();
    });
}

/// A daemon that says no port and listens nevertheless: on TCP, and it answers datagrams.
const HIDDEN: &str = "#!/usr/bin/python3
import socket, threading
tcp = socket.create_server(('::', 8081), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(('::', 8081))
def answer():
    while True:
        data, peer = udp.recvfrom(2000)
        udp.sendto(data, peer)
threading.Thread(target=answer, daemon=True).start()
while True:
    tcp.accept()[0].close()
";

/// Without a word in `[firewall.in]`: the port that is served, ping, and answers to what it asked itself.
#[test]
fn only_what_is_served_comes_in() {
    on_host(NEEDS, |host| {
        let outside = around(host);
        let config = format!("{APP}[daemon.hidden]\nplatform = exec\ncommand = ./hidden.py\n");
        let files = [
            (".metactl", config.as_str()),
            ("server.pl", SERVER_PL),
            ("hidden.py", HIDDEN),
            ("attacks.py", ATTACKS),
        ];
        let local = "[firewall.out.accept]\nservice = 10.20.0.66:53/udp [2001:db8::66]:53/udp\n\
                     [sandbox.net]\nip = 10.20.0.5 2001:db8::5\n";
        host.application("served", &files, local);
        host.run(&["served", "deploy", "1.0"]).ok();
        let script = host.work().join("attacks.py");
        fs::write(&script, ATTACKS).unwrap();
        let try_outside = |attacks: &[&str]| {
            let words = words(attacks.iter().copied());
            let mut command = vec!["/usr/bin/python3", script.to_str().unwrap()];
            command.extend(words.iter().map(String::as_str));
            outcomes(&outside.run(&command).ok().stdout)
        };
        outside.get_when_up("http://10.20.0.5/", SOON);
        outside.get_when_up("http://[2001:db8::5]:80/", SOON);
        for address in ["10.20.0.5", "2001:db8::5"] {
            outside
                .run(&["ping", "-n", "-c", "1", "-W", "2", address])
                .ok();
        }
        let closed = [
            "connect@10.20.0.5,8081",
            "connect@2001:db8::5,8081",
            "udp@10.20.0.5,8081",
            "udp@2001:db8::5,8081",
        ];
        let found = try_outside(&closed);
        for attack in closed {
            assert!(
                !["ok", "TIMEOUT"].contains(&found[attack].as_str()),
                "{found:?}"
            );
        }
        // Inside it is there.
        let inside_attacks = [
            "connect@127.0.0.1,8081",
            "udp@127.0.0.1,8081",
            "connect@10.20.0.5,8081",
        ];
        let found = inside(host, "served", inside_attacks.into_iter());
        assert!(found.values().all(|outcome| outcome == "ok"), "{found:?}");
        // Answers to its own questions come in.
        let asked = inside(
            host,
            "served",
            ["udp@10.20.0.66,53", "udp@2001:db8::66,53"].into_iter(),
        );
        assert!(asked.values().all(|outcome| outcome == "ok"), "{asked:?}");
        host.run(&["served", "firewall"])
            .ok()
            .says(&["daemon.main", "8081"]);
        // `policy = accept` opens the rest.
        host.local_layer(
            "served",
            &format!(
                "{}\n[firewall.in]\npolicy = accept\n",
                fs::read_to_string(host.root().join("etc/metactl/nodes/served.conf")).unwrap()
            ),
        );
        host.run(&["served", "restart"]).ok();
        outside.get_when_up("http://10.20.0.5/", SOON);
        let found = try_outside(&closed);
        assert!(found.values().all(|outcome| outcome == "ok"), "{found:?}");
        host.run(&["served", "stop"]).ok();
    });
}

/// Without a C library: its first instructions are those of `socket` and `connect`. It tells what came of it.
const FIRST: &str = r#"
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
void _start(void) {
    static const unsigned char to[16] = {2, 0, 0, 80, 10, 20, 0, 66};
    long s = call(41, 2, 1, 0), error = call(42, s, (long)to, 16);
    if (error == 0) call(1, 1, (long)"connected\n", 10);
    else if (error == -111) call(1, 1, (long)"refused\n", 8);
    else call(1, 1, (long)"other\n", 6);
    call(60, 0, 0, 0);
}
"#;

/// A connection opened before the policy: there is no such moment, not even for the first instruction of all.
#[test]
fn the_first_instruction_is_behind_the_policy() {
    on_host(&[GIT, NFT, PYTHON, CC], |host| {
        let outside = around(host);
        let dir = host.work().join("first");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("first.c"), FIRST).unwrap();
        let program = dir.join("first");
        let (source, out) = (dir.join("first.c"), program.to_str().unwrap());
        host.command(
            "cc",
            &[
                "-static",
                "-nostdlib",
                "-O2",
                "-o",
                out,
                source.to_str().unwrap(),
            ],
        )
        .ok();
        fs::write(
            dir.join(".metactl"),
            "[daemon.first]\nplatform = exec\ncommand = ./first\n",
        )
        .unwrap();
        for _ in 0..10 {
            let outcome = host.run(&["-q", "run", dir.to_str().unwrap()]).ok();
            assert_eq!(outcome.stdout, "refused\n", "{outcome}");
        }
        assert_eq!(outside.run(&[out]).ok().stdout, "connected\n");
    });
}
