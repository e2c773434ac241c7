//! Questions for names over IPv6: an instance without an IPv4 address asks like any other.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use metactl_tests::lan::{Lan, Node};
use metactl_tests::needs::{DIG, GIT, NAMED, NFT, Need};
use metactl_tests::upstream::NameServer;
use metactl_tests::{Host, on_host};

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT, NAMED, DIG];

const RESOLVER: &str = "fd9b:6be1:3d5a::53";
const ZONE: &str = "db IN AAAA 2001:db8::20\nother IN AAAA 2001:db8::20\na.web IN AAAA 2001:db8::20\n\
                    local.web IN AAAA ::1\nlocal.web IN AAAA fe80::7\nlocal.web IN AAAA 2001:db8::20\n";

/// The name server is asked over IPv4 by the server; instances have no IPv4 address.
fn around(host: &Host, lan: &Lan) -> NameServer {
    lan.server_address("2001:db8::1/64");
    let dns = lan.node("dns", &["10.20.0.53/24", "2001:db8::53/64"]);
    let server = lan.node("dbserver", &["2001:db8::20/64"]);
    server.listen(80);
    server.listen(3306);
    NameServer::start(host, &dns, "10.20.0.53", &[("example.org", ZONE)])
}

fn start(host: &Host, name: &str, address: &str, lists: &str) {
    let local = format!("[firewall.out.accept]\n{lists}[sandbox.net]\nip = {address}\n");
    host.hello(name, &local);
    Node::server().get_when_up(&format!("http://[{address}]:80/"), SOON);
}

/// What comes of a connection of `hello`.
fn connect(to: &str) -> String {
    let url = format!("http://[2001:db8::5]:80/connect?to={to}");
    Node::server().get(&url).unwrap().body
}

fn dig(host: &Host, instance: &str, words: &[&str]) -> String {
    let dig = [instance, "exec", "--", "dig", "+time=3", "+tries=1"];
    host.run(&[&dig[..], words].concat()).stdout
}

#[test]
fn an_instance_without_ipv4_asks_and_its_names_are_followed() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let _dns = around(host, &lan);
        let lists = "db = db.example.org:3306\nweb = *.web.example.org:80\n";
        start(host, "hello", "2001:db8::5", lists);
        let inside = |file: &str| host.run(&["hello", "exec", "--", "cat", file]).ok().stdout;
        assert_eq!(
            inside("/etc/resolv.conf"),
            format!("nameserver {RESOLVER}\n")
        );
        let hosts = inside("/etc/hosts");
        assert!(!hosts.contains("example.org"), "{hosts}");

        assert!(connect("db.example.org:3306").starts_with("connected"));
        let before = connect("[2001:db8::20]:80");
        assert!(before.contains("refused"), "{before}");
        let (a, aaaa) = (
            ["+short", "a.web.example.org", "A"],
            ["+short", "a.web.example.org", "AAAA"],
        );
        assert_eq!(dig(host, "hello", &a), "");
        assert_eq!(dig(host, "hello", &aaaa), "2001:db8::20\n");
        assert!(connect("a.web.example.org:80").starts_with("connected"));
        assert!(connect("[2001:db8::20]:80").starts_with("connected"));
        let short = ["+short", "+tcp", "local.web.example.org", "AAAA"];
        assert_eq!(dig(host, "hello", &short), "2001:db8::20\n");
        let refused = dig(host, "hello", &["other.example.org", "AAAA"]);
        assert!(refused.contains("NXDOMAIN"), "{refused}");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn foreign_name_servers_are_the_own_one_and_nobody_else_is_answered() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        // Hosts of the network before the name server, which is not there any more at the end.
        let stranger = lan.node("stranger", &["2001:db8::66/64"]);
        stranger.route(&format!("{RESOLVER}/128 via 2001:db8::1"));
        let _dns = around(host, &lan);
        start(host, "hello", "2001:db8::5", "db = db.example.org:3306\n");
        for words in [
            &["@2001:db8:f::53"][..],
            &["@2001:db8:f::53", "+tcp"],
            &["@2001:db8::53"],
            &["@2001:db8::53", "+tcp"],
        ] {
            let asked = [words, &["+short", "db.example.org", "AAAA"]].concat();
            assert_eq!(dig(host, "hello", &asked), "2001:db8::20\n", "{words:?}");
            let asked = [words, &["other.example.org", "AAAA"]].concat();
            let answer = dig(host, "hello", &asked);
            assert!(answer.contains("NXDOMAIN"), "{answer}");
        }
        // Other ports of the server's end are a destination like any other.
        let answer = connect(&format!("[{RESOLVER}]:80"));
        assert!(answer.contains("refused"), "{answer}");

        // Who is named with its port is asked directly, for anything; and every instance has names of its own.
        let lists = "dns = [2001:db8::53]:53\n";
        start(host, "direct", "2001:db8::6", lists);
        let asked = ["@2001:db8::53", "+short", "other.example.org", "AAAA"];
        assert_eq!(dig(host, "direct", &asked), "2001:db8::20\n");
        let at = format!("@{RESOLVER}");
        let answer = dig(host, "direct", &[&at, "db.example.org", "AAAA"]);
        assert!(answer.contains("NXDOMAIN"), "{answer}");

        // Not the server, not the network.
        for node in [Node::server(), stranger.clone()] {
            let outcome = node.connect(&format!("[{RESOLVER}]:253"));
            assert!(outcome.is_err(), "{outcome:?}");
        }
        let ask = [
            "dig",
            "+time=1",
            "+tries=1",
            &at,
            "-p",
            "253",
            "db.example.org",
        ];
        let outcome = stranger.run(&ask);
        assert!(
            outcome.stdout.contains("no servers could be reached"),
            "{outcome}"
        );
        // The server talks to instances from its own address, not from the resolver's.
        let route = host
            .command("ip", &["-6", "route", "get", "2001:db8::5"])
            .ok();
        route.says(&["src 2001:db8::1"]);
        host.run(&["direct", "stop"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}
