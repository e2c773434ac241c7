//! The network of an instance: its own address, reachable through the server as a router, and what
//! it may reach itself.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::hello::{ADDRESS, connect, is_refused, perl, reaches, start};
use metactl_tests::lan::{Lan, Node, SERVER};
use metactl_tests::needs::{GIT, NFT, Need, TRACEROUTE};
use metactl_tests::{Host, eventually, on_host};

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT];

/// The local layer of an instance with an address, one named server and one subnet accepted.
const ROUTED: &str = "\
[env]
DB_HOST = mysql.example.org
DB_PORT = 3306
[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
testlan = 10.1.1.0/24
[sandbox.net]
ip = 10.20.0.5
";

/// The hosts around the server.
struct Neighbours {
    client: Node,
    stranger: Node,
}

/// client 10.20.0.9, dbserver 10.20.0.20 (mysql.example.org), testlan 10.1.1.7, stranger 10.20.0.66.
fn neighbours(host: &Host, lan: &Lan) -> Neighbours {
    host.name("10.20.0.20", "mysql.example.org");
    let client = lan.node("client", &["10.20.0.9/24"]);
    let dbserver = lan.node("dbserver", &["10.20.0.20/24"]);
    lan.server_address("10.1.1.1/24");
    let testlan = lan.node("testlan", &["10.1.1.7/24"]);
    testlan.route("default via 10.1.1.1");
    let stranger = lan.node("stranger", &["10.20.0.66/24"]);
    for node in [&dbserver, &testlan, &stranger] {
        node.listen(80);
        node.listen(3306);
    }
    Neighbours { client, stranger }
}

#[test]
fn an_instance_is_reached_through_the_server_as_a_hop() {
    on_host(&[GIT, NFT, TRACEROUTE], |host| {
        let lan = host.lan();
        let client = neighbours(host, &lan).client;
        start(host, ROUTED);
        let page = client.get_when_up(&format!("http://{ADDRESS}/"), SOON);
        assert_eq!(page, "Hello, sandbox\n");
        client.run(&["ping", "-c", "2", "-W", "2", ADDRESS]).ok();
        for method in ["-U", "-I", "-T"] {
            let trace = client
                .run(&["traceroute", "-n", method, "-q", "1", "-w", "2", ADDRESS])
                .ok();
            let hops: Vec<&str> = trace
                .stdout
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(1))
                .collect();
            assert_eq!(hops, [SERVER, ADDRESS], "{trace}");
        }
        host.run(&["hello", "stop"]).ok();
        assert!(client.get(&format!("http://{ADDRESS}/")).is_err());
    });
}

#[test]
fn it_reaches_what_is_accepted_and_nothing_else() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let around = neighbours(host, &lan);
        Node::server().listen(8080);
        start(host, ROUTED);

        reaches("mysql.example.org:3306");
        reaches("10.20.0.20:3306");
        reaches("10.1.1.7:3306");
        reaches("10.1.1.7:80");

        is_refused("10.20.0.20:80");
        is_refused("mysql.example.org:80");
        is_refused("10.20.0.66:80");
        // Neither the server, on whatever address, nor the instance's own neighbours by a detour.
        is_refused(&format!("{SERVER}:8080"));
        is_refused("10.20.0.9:80");
        // localhost is its own: the server's is not there, its own page is.
        is_refused("127.0.0.1:8080");
        reaches("127.0.0.1:80");
        reaches(&format!("{ADDRESS}:80"));

        // Everybody sees its own address, not the server's.
        let ask = "print IO::Socket::INET->new('10.20.0.20:3306')->getline";
        let greeting = host.run(&perl(ask)).ok();
        assert_eq!(
            greeting.stdout,
            format!("this is dbserver, you are {ADDRESS}\n")
        );

        // UDP is not a way around.
        let send = "my $s = IO::Socket::INET->new(PeerAddr => '10.20.0.66:80', Proto => 'udp'); \
                    $s->send('x') or die \"send: $!\\n\"; $s->recv(my $answer, 10) // die \"recv: $!\\n\"; \
                    print \"answered $answer\\n\"";
        let outcome = host.run(&perl(send));
        assert!(
            outcome.code != 0 && outcome.took < Duration::from_secs(3),
            "{outcome}"
        );

        // Refusals are counted, with the line that would allow them.
        let firewall = host.run(&["hello", "firewall"]).ok();
        firewall.says(&[
            "database",
            "mysql.example.org:3306",
            "testlan",
            "10.1.1.0/24",
            "10.20.0.66:80",
        ]);
        host.run(&["hello", "firewall"]).ok().says(&[
            &format!("{SERVER}:8080"),
            "mysql.example.org:80 (10.20.0.20)",
            "allow: metactl hello allow mysql=mysql.example.org:80",
        ]);
        host.run(&["hello", "firewall", "--json"])
            .ok()
            .says(&["\"10.20.0.66\"", "\"10.1.1.0/24\""]);

        // The server did not become a router for others.
        around.client.route("10.1.1.0/24 via 10.20.0.1");
        assert!(around.client.connect("10.1.1.7:80").is_err());
        assert!(
            around.stranger.connect("10.20.0.20:80").is_ok(),
            "the network itself works"
        );
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn the_policy_is_there_before_the_first_instruction() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        let script = "#!/usr/bin/perl\nuse IO::Socket::INET;\n\
            my $s = IO::Socket::INET->new('10.20.0.66:80');\nprint $s ? \"connected\\n\" : \"no: $!\\n\";\n";
        let config = "[daemon.first]\nplatform = exec\ncommand = ./first.pl\n";
        let dir = host.work().join("first");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(".metactl"), config).unwrap();
        fs::write(dir.join("first.pl"), script).unwrap();
        host.command("chmod", &["755", dir.join("first.pl").to_str().unwrap()])
            .ok();
        for _ in 0..10 {
            host.run(&["-q", "run", dir.to_str().unwrap()])
                .ok()
                .says(&["no: Connection refused"]);
        }
    });
}

#[test]
fn the_application_cannot_change_its_network() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, ROUTED);
        for command in [
            &["nft", "flush", "ruleset"][..],
            &["ip", "link", "set", "lo", "down"],
            &["ip", "address", "add", "10.20.0.77/32", "dev", "lo"],
            &["ip", "route", "add", "10.9.0.0/16", "dev", "lo"],
            &["unshare", "--net", "true"],
            &["unshare", "--user", "true"],
        ] {
            let exec = [&["hello", "exec", "--"][..], command].concat();
            let outcome = host.run(&exec);
            assert_ne!(outcome.code, 0, "{outcome}");
        }
        is_refused("10.20.0.66:80");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn nat_shows_the_servers_address_outside() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let around = neighbours(host, &lan);
        let address = host.hello("hello", "[firewall.out.accept]\ndb = 10.20.0.20:3306\n");
        assert!(address.starts_with("10.77."), "{address}");
        let page = format!("http://{address}/");
        Node::server().get_when_up(&page, SOON);
        let ask = "print IO::Socket::INET->new('10.20.0.20:3306')->getline";
        let greeting = host.run(&perl(ask)).ok();
        assert_eq!(
            greeting.stdout,
            format!("this is dbserver, you are {SERVER}\n")
        );
        let refused = Node::server()
            .get(&format!("{page}connect?to=10.20.0.66:80"))
            .unwrap()
            .body;
        assert!(refused.contains("refused"), "{refused}");
        // It is reachable from the server only.
        around.client.route("10.77.0.0/16 via 10.20.0.1");
        assert!(around.client.connect(&format!("{address}:80")).is_err());
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn without_a_network_there_is_only_localhost() {
    on_host(NEEDS, |host| {
        let dir = host.work().join("alone");
        fs::create_dir_all(&dir).unwrap();
        let config = "[daemon.main]\nplatform = exec\ncommand = sh -c \"tail -n +3 /proc/net/dev | cut -d: -f1\"\n\
                      [sandbox.net]\nmode = none\n";
        fs::write(dir.join(".metactl"), config).unwrap();
        let outcome = host.run(&["-q", "run", dir.to_str().unwrap()]).ok();
        assert_eq!(outcome.stdout.trim(), "lo");
    });
}

#[test]
fn inbound_can_be_limited() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let around = neighbours(host, &lan);
        let local = format!(
            "{ROUTED}[firewall.in]\npolicy = reject\n[firewall.in.accept]\nclients = 10.20.0.9\nserver = {SERVER}\n"
        );
        start(host, &local);
        let page = format!("http://{ADDRESS}/");
        around.client.get_when_up(&page, SOON);
        assert!(around.stranger.get(&page).is_err());
        // Answers to its own connections come in all the same.
        reaches("10.20.0.20:3306");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn ipv6_is_routed_and_refused_alike() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let client = lan.node("client", &["10.20.0.9/24", "2001:db8::9/64"]);
        let other = lan.node("other", &["2001:db8::20/64"]);
        client.listen(80);
        other.listen(3306);
        let local = "[firewall.out.accept]\ndb = [2001:db8::20]:3306\n[sandbox.net]\nip = 10.20.0.5 2001:db8::5\n";
        start(host, local);
        client.get_when_up("http://[2001:db8::5]:80/", SOON);
        reaches("[2001:db8::20]:3306");
        is_refused("[2001:db8::9]:80");
        host.run(&["hello", "firewall"]).ok().says(&["2001:db8::9"]);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn names_are_followed_while_it_runs_slow() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, ROUTED);
        is_refused("10.20.0.66:3306");
        host.name("10.20.0.66", "mysql.example.org");
        eventually(
            "the second address of the name to be accepted",
            Duration::from_secs(60),
            || {
                connect("10.20.0.66:3306")
                    .starts_with("connected")
                    .then_some(())
            },
        );
        reaches("10.20.0.20:3306");
        host.run(&["hello", "stop"]).ok();
    });
}
