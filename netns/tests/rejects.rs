//! Reject lists, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{MACHINE, MACHINE6, Sandbox, World, entry, names, spec, world};
use metactl_bundles::network::{Entry, Mode, NetworkSpec, Policy, Verdict};
use metactl_netns::policy::{Direction, FirewallStatus, cut, learn, replace, status, unwanted};

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

fn policy(verdict: Verdict, accept: &[&str], reject: &[&str]) -> Policy {
    let entries = |lines: &[&str]| -> Vec<Entry> { lines.iter().map(|line| entry(line)).collect() };
    Policy {
        policy: verdict,
        accept: entries(accept),
        reject: entries(reject),
    }
}

fn with_out(out: Policy) -> NetworkSpec {
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.out = out;
    spec
}

fn start(world: &World, out: Policy) -> Sandbox {
    world.start(with_out(out), &names(&[]))
}

/// A reset, and not after a timeout.
fn assert_reset(sandbox: &Sandbox, to: &str, port: u16) {
    let (result, took) = sandbox.ns.connect(to, port);
    let error = result
        .map(|_| format!("{to} {port} is reached"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to} {port}");
    assert!(took < Duration::from_millis(100), "{to} {port}: {took:?}");
}

fn assert_prohibited(sandbox: &Sandbox, to: &str, port: u16) {
    let error = sandbox.ns.ask_udp(to, port).unwrap_err();
    let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!late, "{to} {port}: not at once: {error}");
}

fn reaches(sandbox: &Sandbox, to: &str, port: u16) {
    let result = sandbox.ns.connect(to, port).0;
    assert!(result.is_ok(), "{to} {port}: {result:?}");
}

fn pings(sandbox: &Sandbox, to: &str) -> bool {
    sandbox.ns.try_sh(&format!("ping -n -c 1 -W 1 {to}")).0
}

#[test]
fn a_list_goes_before_every_policy_and_every_accept_entry() {
    let Some(world) = world("a_list_goes_before_every_policy_and_every_accept_entry") else {
        return;
    };
    for port in [25, 80, 3306, 8005] {
        world.machine.serve_tcp(port);
        world.machine.serve_udp(port);
    }
    world
        .machine
        .sh("ip addr add 10.1.1.7/32 dev lo; ip addr add 10.1.2.7/32 dev lo");
    let lists = [
        "mail = 198.51.100.9:25",
        "mail6 = [2001:db8:1::9]:25",
        "range = 198.51.100.0/28:8000-8010",
        "net = 10.1.2.0/24",
        "ping6 = 2001:db8:1::/64/icmp",
    ];
    for verdict in [Verdict::Accept, Verdict::Reject] {
        let accept = ["all = 0.0.0.0/0", "all6 = ::/0", "exact = 198.51.100.9:25"];
        let app = start(&world, policy(verdict, &accept, &lists));
        for port in [80, 3306] {
            reaches(&app, MACHINE, port);
            reaches(&app, MACHINE6, port);
        }
        reaches(&app, "10.1.1.7", 25);
        reaches(&app, MACHINE6, 8005);
        assert_reset(&app, MACHINE, 25);
        assert_reset(&app, MACHINE6, 25);
        assert_reset(&app, MACHINE, 8005);
        assert_reset(&app, "10.1.2.7", 80);
        assert_prohibited(&app, MACHINE, 25);
        assert_prohibited(&app, MACHINE6, 25);
        assert_prohibited(&app, "10.1.2.7", 80);
        // Answers of what nobody rejects come in, although the policy accepts everything.
        assert_eq!(app.ns.ask_udp(MACHINE, 80).unwrap(), "ping");
        assert_eq!(app.ns.ask_udp(MACHINE6, 80).unwrap(), "ping");
        assert!(pings(&app, MACHINE) && !pings(&app, MACHINE6) && !pings(&app, "10.1.2.7"));
        // Who begins the talk is judged, not who answers.
        assert!(
            world
                .machine
                .sh(&format!("ping -n -c 1 -W 1 {APP6}"))
                .contains(" 0% packet loss")
        );
        app.ns.serve_udp(5353);
        assert_eq!(world.machine.ask_udp(APP, 5353).unwrap(), "ping");

        let status = status(app.ns.fd(), &app.spec).unwrap();
        let counted: Vec<(&str, u64)> = status
            .rejects
            .iter()
            .map(|one| (one.name.as_str(), one.packets))
            .collect();
        let expected = [
            ("mail", 2),
            ("mail6", 2),
            ("range", 1),
            ("net", 3),
            ("ping6", 1),
        ];
        assert_eq!(counted, expected, "{verdict:?}");
        assert_eq!(status.rejects[3].peers, ["10.1.2.0/24"]);
        let refused = |dst: &str, port| {
            let dst: IpAddr = dst.parse().unwrap();
            let mut all = status.refused.iter();
            all.find(|one| one.dst == dst && one.port == port).unwrap()
        };
        for (dst, port, by) in [
            (MACHINE, 25, "mail"),
            (MACHINE6, 25, "mail6"),
            (MACHINE, 8005, "range"),
            ("10.1.2.7", 80, "net"),
            (MACHINE6, 0, "ping6"),
        ] {
            assert_eq!(
                refused(dst, port).rejected_by.as_deref(),
                Some(by),
                "{dst} {port}"
            );
        }
        world.stop(app);
    }
}

#[test]
fn a_policy_that_drops_is_silent_about_its_list_too() {
    let Some(world) = world("a_policy_that_drops_is_silent_about_its_list_too") else {
        return;
    };
    world.machine.serve_tcp(80);
    let out = policy(
        Verdict::Drop,
        &["all = 0.0.0.0/0"],
        &["one = 198.51.100.9:25"],
    );
    let app = start(&world, out);
    reaches(&app, MACHINE, 80);
    let (result, _) = app.ns.connect(MACHINE, 25);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(status(app.ns.fd(), &app.spec).unwrap().rejects[0].packets >= 1);
}

#[test]
fn sources_are_rejected_alike() {
    let Some(world) = world("sources_are_rejected_alike") else {
        return;
    };
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.inbound = policy(
        Verdict::Accept,
        &[],
        &[
            "guest = 198.51.100.9:8080/tcp",
            "six = 2001:db8:1::9/128",
            "named = admin.example.org:9090",
        ],
    );
    let app = world.start(spec, &names(&[("admin.example.org", &[MACHINE])]));
    for port in [8080, 9090, 7070] {
        app.ns.serve_tcp(port);
        app.ns.serve_udp(port);
    }
    let refused = |to: &str, port| {
        let (result, took) = world.machine.connect(to, port);
        assert_eq!(
            result.unwrap_err().kind(),
            ErrorKind::ConnectionRefused,
            "{to} {port}"
        );
        assert!(took < Duration::from_millis(300));
    };
    refused(APP, 8080);
    refused(APP, 9090);
    refused(APP6, 7070);
    assert!(world.machine.connect(APP, 7070).0.is_ok());
    assert!(world.machine.ask_udp(APP, 8080).is_ok());
    assert!(world.machine.ask_udp(APP, 9090).is_err());
    assert!(world.server.connect(APP, 8080).0.is_ok());
    // What the instance begins gets its answers, from whom it may not be called.
    world.machine.serve_tcp(80);
    world.machine.serve_udp(80);
    for to in [MACHINE, MACHINE6] {
        reaches(&app, to, 80);
        assert_eq!(app.ns.ask_udp(to, 80).unwrap(), "ping");
        assert!(pings(&app, to));
    }
    let status = status(app.ns.fd(), &app.spec).unwrap();
    let sources = status
        .rejects
        .iter()
        .map(|one| (one.direction, one.packets > 0));
    assert!(sources.eq([(Direction::In, true); 3]), "{status:?}");
}

#[test]
fn a_list_that_is_exchanged_stops_what_is_new_and_names_what_is_open() {
    let Some(world) = world("a_list_that_is_exchanged_stops_what_is_new_and_names_what_is_open")
    else {
        return;
    };
    world.machine.serve_tcp(80);
    let listener = world
        .machine
        .run(|| TcpListener::bind((MACHINE, 3306)).unwrap());
    let before = with_out(policy(Verdict::Accept, &[], &[]));
    let app = world.start(before.clone(), &names(&[]));
    let mut near = app.ns.run(|| TcpStream::connect((MACHINE, 3306)).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    near.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut talks = move || -> std::io::Result<()> {
        far.write_all(b"x")?;
        near.write_all(b"y")?;
        near.read_exact(&mut [0])
    };
    talks().unwrap();
    let after = with_out(policy(
        Verdict::Accept,
        &[],
        &["db = db.example.org:3306", "net = 10.1.0.0/16"],
    ));
    let known = names(&[("db.example.org", &[MACHINE])]);
    replace(app.ns.fd(), &before, &after, &known).unwrap();
    assert_reset(&app, MACHINE, 3306);
    reaches(&app, MACHINE, 80);
    // What was open goes on, is named, and cut when asked.
    talks().unwrap();
    let named = unwanted(app.ns.fd(), &after).unwrap();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0].peer.to_string(), format!("{MACHINE}:3306"));
    assert_eq!(cut(app.ns.fd(), &after, &named).unwrap(), 1);
    assert!(talks().is_err());
    assert!(unwanted(app.ns.fd(), &after).unwrap().is_empty());
    // One entry less: the address of the name that stays is still rejected, without being told again.
    let fewer = with_out(policy(
        Verdict::Accept,
        &["net = 10.1.0.0/16"],
        &["db = db.example.org:3306"],
    ));
    replace(app.ns.fd(), &after, &fewer, &names(&[])).unwrap();
    assert_reset(&app, MACHINE, 3306);
    replace(app.ns.fd(), &fewer, &before, &names(&[])).unwrap();
    app.ns
        .run(|| TcpStream::connect((MACHINE, 3306)).map(drop))
        .unwrap();
}

/// A line may have several destinations, each with its own ports.
#[test]
fn destinations_of_a_line_are_judged_each_by_its_own_ports() {
    let Some(world) = world("destinations_of_a_line_are_judged_each_by_its_own_ports") else {
        return;
    };
    let listener = world
        .machine
        .run(|| TcpListener::bind((MACHINE, 25)).unwrap());
    let known = names(&[("a.example.org", &["10.1.0.1"])]);
    let mix = ["mix = a.example.org:25/tcp", "mix = 198.51.100.9:443/tcp"];
    let open = with_out(policy(Verdict::Accept, &[], &[]));
    let mut app = world.start(open, &known);
    let near = app.ns.run(|| TcpStream::connect((MACHINE, 25)).unwrap());
    let far = listener.accept().unwrap();
    let local = near.local_addr().unwrap();
    let mut found = |out: Policy| {
        let after = with_out(out);
        replace(app.ns.fd(), &app.spec, &after, &known).unwrap();
        let found = unwanted(app.ns.fd(), &after).unwrap();
        // What the rules say themselves.
        let refused = app.ns.connect(MACHINE, 25).0.map_err(|error| error.kind());
        let refused = refused.is_err_and(|kind| kind == ErrorKind::ConnectionRefused);
        let status = status(app.ns.fd(), &after).unwrap();
        app.spec = after;
        (found.iter().any(|one| one.local == local), refused, status)
    };
    // The rejected port is another one's.
    let (named, refused, _) = found(policy(Verdict::Accept, &[], &mix));
    assert_eq!((named, refused), (false, false));
    // And so is the accepted one; it is no line of the reject list that refuses it.
    let (named, refused, seen) = found(policy(Verdict::Reject, &mix, &mix[..0]));
    assert_eq!((named, refused), (true, true));
    let by = |status: &FirewallStatus| {
        let mut all = status.refused.iter();
        let one = all.find(|one| one.dst.to_string() == MACHINE && one.port == 25);
        one.expect("it was refused").rejected_by.clone()
    };
    assert_eq!(by(&seen), None);
    let (named, refused, seen) = found(policy(Verdict::Reject, &[], &mix));
    assert_eq!((named, refused), (true, true));
    assert_eq!(by(&seen), None);
    drop((near, far));
}

#[test]
fn without_a_list_there_is_no_rule_for_it() {
    let rules = |out: Policy| {
        let rules = metactl_netns::policy::ruleset(&with_out(out), &names(&[])).unwrap();
        rules.to_string()
    };
    for verdict in [Verdict::Accept, Verdict::Reject, Verdict::Drop] {
        let without = rules(policy(verdict, &["a = 10.0.0.1:80"], &[]));
        assert!(
            !without.contains("reject_") && !without.contains("jump"),
            "{without}"
        );
        // Entries of a family that the instance does not have leave nothing behind either.
        let mut only4 = with_out(policy(
            verdict,
            &["a = 10.0.0.1:80"],
            &["b = 2001:db8::1/128"],
        ));
        only4.addresses = vec![APP.parse().unwrap()];
        let text = metactl_netns::policy::ruleset(&only4, &names(&[]))
            .unwrap()
            .to_string();
        assert!(
            !text.contains("reject_") && !text.contains("jump"),
            "{text}"
        );
        assert!(
            rules(policy(verdict, &[], &["b = 2001:db8::1/128"]))
                .contains("@reject_out6_hosts goto refuse_out")
        );
    }
}

#[test]
fn what_is_learned_has_nothing_of_what_is_rejected() {
    let Some(world) = world("what_is_learned_has_nothing_of_what_is_rejected") else {
        return;
    };
    world.machine.serve_tcp(25);
    world.machine.serve_tcp(80);
    for verdict in [Verdict::Reject, Verdict::Accept] {
        let app = start(&world, policy(verdict, &[], &["mail = 198.51.100.9:25"]));
        let (netns, none) = (app.ns.fd(), names(&[]));
        learn::start(netns, &app.spec, &none, Duration::from_secs(30)).unwrap();
        reaches(&app, MACHINE, 80);
        assert_reset(&app, MACHINE, 25);
        let (learned, _) = learn::read(netns).unwrap();
        let ports: Vec<u16> = learned.iter().map(|one| one.port).collect();
        assert_eq!(ports, [80], "{verdict:?}");
        learn::stop(netns, &app.spec, &none).unwrap();
        assert_reset(&app, MACHINE, 25);
        world.stop(app);
    }
}

#[test]
fn a_chain_that_was_emptied_opens_nothing_and_is_mended() {
    let Some(world) = world("a_chain_that_was_emptied_opens_nothing_and_is_mended") else {
        return;
    };
    world.machine.serve_tcp(25);
    world.machine.serve_tcp(80);
    let app = start(
        &world,
        policy(Verdict::Accept, &[], &["mail = 198.51.100.9:25"]),
    );
    let dir = world.server_dir();
    for chain in ["readable_out", "refuse_out", "output"] {
        app.ns.sh(&format!("nft flush chain inet metactl {chain}"));
        assert!(app.ns.connect(MACHINE, 25).0.is_err(), "{chain}");
        let mend =
            || metactl_netns::mend::mend(&app.spec, &names(&[]), app.ns.fd(), &dir, "myapp", None);
        let said = world.server.run(mend).unwrap();
        assert!(
            said.iter().any(|line| line.contains("lost its rules")),
            "{chain}: {said:?}"
        );
        assert_reset(&app, MACHINE, 25);
        reaches(&app, MACHINE, 80);
    }
}
