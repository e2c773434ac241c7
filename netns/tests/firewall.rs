//! The firewall of a sandbox, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{MACHINE, MACHINE6, SERVER, SERVER6, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::{Mode, Verdict};
use metactl_netns::policy::{Direction, FirewallStatus, Refused, replace, status};

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

fn start(world: &World, lines: &[&str], list: &[(&str, &[&str])]) -> Sandbox {
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.out = reject(lines);
    world.start(spec, &names(list))
}

fn read(sandbox: &Sandbox) -> FirewallStatus {
    status(sandbox.ns.fd(), &sandbox.spec).unwrap()
}

fn packets(status: &FirewallStatus, name: &str) -> u64 {
    status
        .entries
        .iter()
        .find(|entry| entry.name == name)
        .unwrap()
        .packets
}

fn refused<'a>(status: &'a FirewallStatus, dst: &str, port: u16) -> Option<&'a Refused> {
    status
        .refused
        .iter()
        .find(|one| one.dst.to_string() == dst && one.port == port)
}

/// Refused at once, not after a timeout.
fn assert_refused(sandbox: &Sandbox, to: &str, port: u16) {
    let (result, took) = sandbox.ns.connect(to, port);
    assert_eq!(
        result.unwrap_err().kind(),
        ErrorKind::ConnectionRefused,
        "{to} {port}"
    );
    assert!(took < Duration::from_millis(100), "{to} {port}: {took:?}");
}

#[test]
fn only_what_is_listed_is_reached() {
    let Some(world) = world("only_what_is_listed_is_reached") else {
        return;
    };
    let app = start(
        &world,
        &[
            "database = db.example.org:3306",
            "testlan = 10.1.1.0/24",
            "six = [2001:db8:1::9]:3306/tcp",
        ],
        &[("db.example.org", &[MACHINE])],
    );
    for port in [3306, 25] {
        world.machine.serve_tcp(port);
        world.server.serve_tcp(port);
    }
    world.machine.sh("ip addr add 10.1.1.7/32 dev lo");
    assert_eq!(app.ns.connect(MACHINE, 3306).0.unwrap(), APP);
    assert_eq!(app.ns.connect(MACHINE6, 3306).0.unwrap(), APP6);
    assert_eq!(app.ns.connect("10.1.1.7", 25).0.unwrap(), APP);
    for to in [MACHINE, MACHINE6] {
        assert_refused(&app, to, 25);
    }
    // The server itself is a destination like any other.
    for to in [SERVER, SERVER6, "10.1.2.7"] {
        assert_refused(&app, to, 3306);
    }
    assert_refused(&app, SERVER, 3306);
    // Its own services are reached from outside nevertheless, and from inside.
    app.ns.serve_tcp(8080);
    assert_eq!(world.machine.connect(APP, 8080).0.unwrap(), MACHINE);
    assert_eq!(world.machine.connect(APP6, 8080).0.unwrap(), MACHINE6);
    for to in ["127.0.0.1", "::1", APP, APP6] {
        assert!(app.ns.connect(to, 8080).0.is_ok(), "{to}");
    }

    let status = read(&app);
    assert_eq!(packets(&status, "database"), 1);
    assert_eq!(packets(&status, "testlan"), 1);
    assert_eq!(packets(&status, "six"), 1);
    let peers: Vec<_> = status
        .entries
        .iter()
        .map(|entry| entry.peers.join(" "))
        .collect();
    assert_eq!(peers, [MACHINE, "10.1.1.0/24", MACHINE6]);
    let server = refused(&status, SERVER, 3306).unwrap();
    assert_eq!(
        (server.count, server.proto.as_str(), server.direction),
        (2, "tcp", Direction::Out)
    );
    assert!(server.seconds_ago < 10);
    assert_eq!(refused(&status, MACHINE6, 25).unwrap().count, 1);
    assert_eq!(status.refused.len(), 5, "{:?}", status.refused);
}

#[test]
fn names_are_followed_without_disturbing_anything() {
    let Some(world) = world("names_are_followed_without_disturbing_anything") else {
        return;
    };
    let lines = [
        "db = db.example.org:3306",
        "any = any.example.org",
        "wide = wide.example.org:1000-9000/tcp",
    ];
    let app = start(&world, &lines, &[]);
    world.machine.serve_tcp(3306);
    world.machine.serve_tcp(8000);
    world
        .machine
        .sh("ip addr add 10.9.9.9/32 dev lo; ip addr add 10.9.9.8/32 dev lo");
    assert_refused(&app, MACHINE, 3306);
    let found = names(&[
        ("db.example.org", &[MACHINE, MACHINE6]),
        ("wide.example.org", &["10.9.9.9"]),
    ]);
    let add = |names| replace(app.ns.fd(), &app.spec, &app.spec, names).unwrap();
    let peers = || -> Vec<Vec<String>> {
        let entries = read(&app).entries.into_iter();
        entries.map(|entry| entry.peers).collect()
    };
    let db = vec![MACHINE.to_owned(), MACHINE6.to_owned()];
    let wide = vec!["10.9.9.9".to_owned()];
    add(&found);
    assert_eq!(peers(), [db.clone(), vec![], wide.clone()]);
    assert_eq!(app.ns.connect(MACHINE, 3306).0.unwrap(), APP);
    assert_eq!(app.ns.connect(MACHINE6, 3306).0.unwrap(), APP6);
    assert_eq!(app.ns.connect("10.9.9.9", 8000).0.unwrap(), APP);
    // Once more the same, and one more address.
    let more = names(&[
        ("db.example.org", &[MACHINE]),
        ("any.example.org", &["10.9.9.8"]),
    ]);
    for _ in 0..2 {
        add(&more);
        assert_eq!(
            peers(),
            [db.clone(), vec!["10.9.9.8".to_owned()], wide.clone()]
        );
    }
    assert!(app.ns.connect("10.9.9.8", 8000).0.is_ok());
    let status = read(&app);
    assert_eq!(
        (
            packets(&status, "db"),
            packets(&status, "any"),
            packets(&status, "wide")
        ),
        (2, 1, 1)
    );
    // A sandbox whose firewall is gone is not reported as one that refused nothing.
    app.ns.sh("nft flush ruleset");
    let error = metactl_netns::policy::status(app.ns.fd(), &app.spec).unwrap_err();
    assert!(error.to_string().contains("firewall"), "{error}");
}

#[test]
fn udp_answers_go_out_and_nothing_else() {
    let Some(world) = world("udp_answers_go_out_and_nothing_else") else {
        return;
    };
    let app = start(&world, &["dns = 198.51.100.9:53/udp"], &[]);
    app.ns.serve_udp(5353);
    for port in [53, 54] {
        world.machine.serve_udp(port);
    }
    for to in [APP, APP6] {
        assert_eq!(world.machine.ask_udp(to, 5353).unwrap(), "ping");
        assert_eq!(world.server.ask_udp(to, 5353).unwrap(), "ping");
    }
    assert_eq!(app.ns.ask_udp(MACHINE, 53).unwrap(), "ping");
    for to in [MACHINE, MACHINE6] {
        let error = app.ns.ask_udp(to, 54).unwrap_err();
        assert!(
            !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{to}: not at once: {error}"
        );
    }
    let status = read(&app);
    assert_eq!(packets(&status, "dns"), 1);
    assert_eq!(refused(&status, MACHINE, 54).unwrap().proto, "udp");
    assert!(refused(&status, MACHINE6, 54).is_some());
}

#[test]
fn inbound_lists_work_alike() {
    let Some(world) = world("inbound_lists_work_alike") else {
        return;
    };
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.out = reject(&["dns = 198.51.100.9:53/udp", "web = 198.51.100.9:80"]);
    spec.inbound = reject(&[
        "lan = 198.51.100.0/28:8080",
        "six = 2001:db8:1::/64",
        "named = admin.example.org:9090/udp",
    ]);
    let app = world.start(spec, &names(&[("admin.example.org", &[MACHINE])]));
    for port in [8080, 9090] {
        app.ns.serve_tcp(port);
        app.ns.serve_udp(port);
    }
    world.machine.serve_udp(53);
    world.machine.serve_tcp(80);
    assert!(world.machine.connect(APP, 8080).0.is_ok());
    assert!(world.machine.connect(APP6, 9090).0.is_ok());
    let (result, took) = world.machine.connect(APP, 9090);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(took < Duration::from_millis(300));
    assert_eq!(world.machine.ask_udp(APP, 9090).unwrap(), "ping");
    assert!(world.server.ask_udp(APP, 9090).is_err());
    // Answers come in although nothing else does.
    assert_eq!(app.ns.ask_udp(MACHINE, 53).unwrap(), "ping");
    assert_eq!(app.ns.connect(MACHINE, 80).0.unwrap(), APP);
    assert!(app.ns.connect(MACHINE, 81).0.is_err());
    let status = read(&app);
    assert_eq!(
        (
            packets(&status, "lan"),
            packets(&status, "six"),
            packets(&status, "named")
        ),
        (1, 1, 1)
    );
    let inbound = status
        .refused
        .iter()
        .find(|one| one.direction == Direction::In && one.proto == "tcp")
        .unwrap();
    assert_eq!(
        (
            inbound.dst.to_string().as_str(),
            inbound.port,
            inbound.count
        ),
        (MACHINE, 9090, 1)
    );
}

#[test]
fn drop_is_silent_but_counted() {
    let Some(world) = world("drop_is_silent_but_counted") else {
        return;
    };
    let mut spec = spec("myapp", Mode::Routed, &[APP]);
    spec.out = reject(&[]);
    spec.out.policy = Verdict::Drop;
    let app = world.start(spec, &names(&[]));
    let (result, _) = app.ns.connect(MACHINE, 80);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(refused(&read(&app), MACHINE, 80).unwrap().count >= 1);
}

#[test]
fn a_foreign_source_address_does_not_leave() {
    let Some(world) = world("a_foreign_source_address_does_not_leave") else {
        return;
    };
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    world.machine.sh("ip route add 10.6.6.6/32 via 198.51.100.1; ip -6 route add 2001:db8:6::6/128 via 2001:db8:1::1");
    app.ns
        .sh("ip addr add 10.6.6.6/32 dev lo; ip -6 addr add 2001:db8:6::6/128 dev lo");
    let spoof = |from: &str, to: &str| {
        app.ns
            .try_sh(&format!("ping -n -c 1 -W 1 -I {from} {to}"))
            .0
    };
    if !spoof(APP, MACHINE) {
        panic!("ping does not work at all");
    }
    assert!(!spoof("10.6.6.6", MACHINE));
    assert!(!spoof("2001:db8:6::6", MACHINE6));
    let dropped = app.ns.sh("nft list chain inet metactl output");
    assert!(
        dropped.contains("saddr != 198.51.100.5 counter packets 1"),
        "{dropped}"
    );
    // Even without that the server does not pass it on.
    app.ns.sh("nft flush ruleset");
    world.machine.sh(
        "nft add table inet t; nft 'add chain inet t i { type filter hook input priority 0; }'",
    );
    world.machine.sh("nft add rule inet t i ip saddr 10.6.6.6 counter; nft add rule inet t i ip6 saddr 2001:db8:6::6 counter");
    assert!(spoof(APP, MACHINE) && spoof(APP6, MACHINE6));
    assert!(!spoof("10.6.6.6", MACHINE));
    assert!(!spoof("2001:db8:6::6", MACHINE6));
    let arrived = world.machine.sh("nft list table inet t");
    assert_eq!(arrived.matches("packets 0").count(), 2, "{arrived}");
}

#[test]
fn path_mtu_is_learned_behind_the_firewall() {
    let Some(world) = world("path_mtu_is_learned_behind_the_firewall") else {
        return;
    };
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.out = reject(&["web = 198.51.100.9", "six = 2001:db8:1::9/128"]);
    spec.inbound = reject(&[]);
    let app = world.start(spec, &names(&[]));
    // The wire gets narrow after the start.
    world.server.sh("ip link set eth0 mtu 1400");
    for (option, to) in [("-4", MACHINE), ("-6", MACHINE6)] {
        let (_, text) = app.ns.try_sh(&format!(
            "ping {option} -n -c 2 -i 0.2 -W 1 -M do -s 1440 {to}"
        ));
        assert!(
            text.contains("mtu = 1400") || text.contains("mtu: 1400") || text.contains("mtu=1400"),
            "{text}"
        );
    }
}

#[test]
fn the_text_of_a_ruleset_is_what_nft_lists() {
    let Some(world) = world("the_text_of_a_ruleset_is_what_nft_lists") else {
        return;
    };
    let mut spec = spec("myapp", Mode::Routed, &[APP, "198.51.100.6", APP6]);
    spec.out = reject(&[
        "db = 198.51.100.9:3306/tcp",
        "lan = 10.0.0.0/8:80-90",
        "deep = 10.1.0.0/16",
        "h = 10.3.3.3",
        "dns = 10.4.0.0/24:53",
        "named = db.example.org:3306",
        "wide = wide.example.org:1000-9000",
    ]);
    spec.inbound = reject(&["web = 0.0.0.0/0:80", "ping = 10.0.0.0/8/icmp"]);
    spec.out.reject = reject(&["bad = 10.0.0.9:80-90", "worse = bad.example.org"]).accept;
    spec.inbound.reject = reject(&["guests = 10.9.0.0/16"]).accept;
    let app = world.start(spec, &names(&[]));
    let listed = app.ns.sh("nft list ruleset");
    let ours = app.plan.ruleset().unwrap().to_string();
    let chains = |text: &str| -> Vec<String> {
        let rules = text.lines().skip_while(|line| !line.contains("chain "));
        let plain = rules.map(|line| match line.split_once(" packets ") {
            // A counter that has counted: ` packets 1 bytes 76 drop`.
            Some((before, after)) => format!("{before} {}", after.rsplit(' ').next().unwrap()),
            None => line
                .replace("priority filter", "priority 0")
                .replace("priority raw", "priority -300"),
        });
        // Without /etc/protocols nft shows numbers.
        let named = |line: String| {
            line.replace("l4proto 6", "l4proto tcp")
                .replace("!= 6 ", "!= tcp ")
                .replace("!= 17 ", "!= udp ")
        };
        plain
            .map(|line| named(line).trim().to_string())
            .filter(|line| !line.is_empty())
            .collect()
    };
    assert_eq!(chains(&ours), chains(&listed));
}
