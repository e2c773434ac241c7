//! Another policy while the sandbox runs, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{MACHINE, MACHINE6, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::{Mode, NetworkSpec, Verdict};
use metactl_netns::Resolved;
use metactl_netns::policy::{Direction, cut, learn, replace, status, unwanted};

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

fn described(lines: &[&str]) -> NetworkSpec {
    let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
    spec.out = reject(lines);
    spec
}

fn start(world: &World, lines: &[&str]) -> Sandbox {
    world.start(described(lines), &Resolved::new())
}

/// Changes the policy of a sandbox; it is described by `lines` from now on.
fn change(app: &mut Sandbox, lines: &[&str], names: &Resolved) {
    let after = described(lines);
    replace(app.ns.fd(), &app.spec, &after, names).unwrap();
    app.spec = after;
}

fn packets(app: &Sandbox, name: &str) -> u64 {
    let status = status(app.ns.fd(), &app.spec).unwrap();
    let mut entries = status.entries.into_iter();
    entries.find(|entry| entry.name == name).unwrap().packets
}

#[track_caller]
fn reaches(app: &Sandbox, to: &str, port: u16) {
    assert_eq!(
        app.ns.connect(to, port).0.map(drop).map_err(|e| e.kind()),
        Ok(()),
        "{to} {port}"
    );
}

#[track_caller]
fn is_refused(app: &Sandbox, to: &str, port: u16) {
    let result = app.ns.connect(to, port).0.map_err(|error| error.kind());
    assert_eq!(result, Err(ErrorKind::ConnectionRefused), "{to} {port}");
}

/// A connection that stays open: the sandbox's end and the machine's.
fn open(world: &World, app: &Sandbox, port: u16) -> (TcpStream, TcpStream) {
    let listener = world
        .machine
        .run(|| TcpListener::bind((MACHINE, port)).unwrap());
    let near = app.ns.run(|| TcpStream::connect((MACHINE, port)).unwrap());
    let far = listener.accept().unwrap().0;
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
    }
    (near, far)
}

fn talks((near, far): &mut (TcpStream, TcpStream)) -> std::io::Result<()> {
    let mut one = [0];
    near.write_all(b"x")?;
    far.read_exact(&mut one)?;
    far.write_all(b"y")?;
    near.read_exact(&mut one)
}

#[test]
fn no_moment_is_open_or_closed_while_policies_change() {
    let Some(world) = world("no_moment_is_open_or_closed_while_policies_change") else {
        return;
    };
    world
        .machine
        .sh("ip addr add 10.1.1.7/32 dev lo; ip addr add 10.5.0.7/32 dev lo");
    world.machine.serve_tcp(80);
    // The destination of the first is in a hash set, that of the second in one with intervals; around them all
    // changes: entries, their order, sets, and a prefix that pushes another one into a second set.
    let policies: [&[&str]; 4] = [
        &["exact = 198.51.100.9:80/tcp", "wide = 10.1.1.0/24"],
        &[
            "more = 10.7.0.0/16",
            "wide = 10.1.1.0/24",
            "exact = 198.51.100.9:80/tcp",
            "six = [2001:db8:1::9]:80",
        ],
        &[
            "wide = 10.1.1.0/24",
            "inner = 10.1.1.64/26",
            "exact = 198.51.100.9:80/tcp",
            "host = 10.8.8.8",
        ],
        &[
            "other = 10.1.1.0/24",
            "named = 198.51.100.9:80-90/tcp",
            "exact = 198.51.100.9:80/tcp",
        ],
    ];
    let mut app = start(&world, policies[3]);
    let mut kept = open(&world, &app, 81);
    // The last policy alone accepts port 81.
    assert!(talks(&mut kept).is_ok());
    let (over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ns = &app.ns;
    let mut live = app.spec.clone();
    std::thread::scope(|scope| {
        for to in [MACHINE, "10.1.1.7"] {
            let (over, connected) = (&over, &connected);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (result, took) = ns.connect(to, 80);
                    result.unwrap_or_else(|error| panic!("{to}: {error}"));
                    assert!(
                        took < Duration::from_millis(900),
                        "{to}: lost a packet, {took:?}"
                    );
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert!(ns.connect("10.5.0.7", 80).0.is_err());
            }
        });
        for turn in 0..100 {
            let after = described(policies[turn % policies.len()]);
            replace(ns.fd(), &live, &after, &Resolved::new()).unwrap();
            live = after;
            std::thread::sleep(Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
    });
    app.spec = live;
    let count = connected.load(Ordering::Relaxed);
    assert!(count > 100, "only {count} connections");
    talks(&mut kept).unwrap();
    // Nothing of a hundred policies is left but the last one.
    let sets = app.ns.sh("nft list sets inet");
    assert!(sets.matches("set out4").count() <= 2, "{sets}");
}

#[test]
fn counters_and_names_stay_with_their_entries() {
    let Some(world) = world("counters_and_names_stay_with_their_entries") else {
        return;
    };
    world
        .machine
        .sh("ip addr add 10.1.1.7/32 dev lo; ip addr add 10.9.9.9/32 dev lo");
    world.machine.serve_tcp(80);
    let lines = [
        "exact = 198.51.100.9:80",
        "lan = 10.1.1.0/24",
        "db = db.example.org:80",
    ];
    let known = names(&[("db.example.org", &["10.9.9.9"])]);
    let mut app = world.start(described(&lines), &known);
    for to in [
        MACHINE, "10.1.1.7", "10.1.1.7", "10.9.9.9", "10.9.9.9", "10.9.9.9",
    ] {
        reaches(&app, to, 80);
    }
    is_refused(&app, MACHINE6, 80);
    let counts = |app: &Sandbox| ["exact", "lan", "db"].map(|name| packets(app, name));
    assert_eq!(counts(&app), [1, 2, 3]);
    // The interval set is made anew for the new entry; the name is known to nobody at the moment.
    let more = ["new = 10.2.0.0/16", lines[2], lines[1], lines[0]];
    change(&mut app, &more, &Resolved::new());
    assert_eq!(counts(&app), [1, 2, 3]);
    reaches(&app, "10.9.9.9", 80);
    let status = status(app.ns.fd(), &app.spec).unwrap();
    assert_eq!(status.refused.len(), 1, "what was refused is remembered");
    // Another meaning of the entry is another entry: its addresses go, and come again by name.
    let other = ["db = other.example.org:80", lines[1], lines[0]];
    change(&mut app, &other, &Resolved::new());
    assert_eq!(counts(&app), [1, 2, 0]);
    is_refused(&app, "10.9.9.9", 80);
    // Flushed by somebody: the next change puts it right.
    app.ns.sh("nft flush ruleset");
    change(&mut app, &lines, &known);
    reaches(&app, "10.9.9.9", 80);
    is_refused(&app, MACHINE, 81);
}

/// Elements of names come and go by themselves, also between being read and being removed.
#[test]
fn what_is_over_by_itself_holds_no_change_up() {
    let Some(world) = world("what_is_over_by_itself_holds_no_change_up") else {
        return;
    };
    let wide = described(&["db = db.example.org:90", "web = web.example.org:80"]);
    let tight = described(&["db = db.example.org:90"]);
    let none = Resolved::new();
    let app = world.start(wide.clone(), &none);
    for turn in 0..10 {
        // One is over with every fraction of a millisecond.
        let element = |n: u32| {
            let (high, low, left) = (n / 250, n % 250, 2 + n / 8);
            format!("10.9.{high}.{low} . tcp . 80 timeout {left}ms comment \"web\"")
        };
        let elements: Vec<String> = (0..1600).map(element).collect();
        let file = world.dir.path().join("elements");
        let text = elements.join(", ");
        std::fs::write(
            &file,
            format!("add element inet metactl out4 {{ {text} }}\n"),
        )
        .unwrap();
        app.ns.sh(&format!("nft -f {}", file.display()));
        let changed = replace(app.ns.fd(), &wide, &tight, &none);
        assert!(changed.is_ok(), "turn {turn}: {changed:?}");
        let left = app.ns.sh("nft list set inet metactl out4");
        assert!(!left.contains("10.9."), "{left}");
        replace(app.ns.fd(), &tight, &wide, &none).unwrap();
    }
}

#[test]
fn a_destination_that_leaves_its_line_is_over() {
    let Some(world) = world("a_destination_that_leaves_its_line_is_over") else {
        return;
    };
    world
        .machine
        .sh("ip addr add 10.1.1.7/32 dev lo; ip addr add 10.9.9.9/32 dev lo");
    world.machine.serve_tcp(80);
    let lines = ["ok = a.example.org:80", "ok = b.example.org:80"];
    let (a, b): (&[&str], &[&str]) = (&["10.1.1.7"], &["10.9.9.9"]);
    let known = names(&[("a.example.org", a), ("b.example.org", b)]);
    let mut app = world.start(described(&lines), &known);
    reaches(&app, "10.1.1.7", 80);
    reaches(&app, "10.9.9.9", 80);
    change(&mut app, &lines[..1], &names(&[("a.example.org", a)]));
    reaches(&app, "10.1.1.7", 80);
    is_refused(&app, "10.9.9.9", 80);
    // One more is none less.
    change(&mut app, &lines, &names(&[("b.example.org", b)]));
    reaches(&app, "10.1.1.7", 80);
    reaches(&app, "10.9.9.9", 80);
}

#[test]
fn what_a_tighter_policy_refuses_is_named_and_cut() {
    let Some(world) = world("what_a_tighter_policy_refuses_is_named_and_cut") else {
        return;
    };
    let mut app = start(
        &world,
        &[
            "db = 198.51.100.9:3306",
            "web = 198.51.100.9:80",
            "dns = 198.51.100.9:53/udp",
        ],
    );
    app.spec.inbound.policy = Verdict::Accept;
    let (mut db, mut web) = (open(&world, &app, 3306), open(&world, &app, 80));
    world.machine.serve_udp(53);
    assert!(app.ns.ask_udp(MACHINE, 53).is_ok());
    let udp = app.ns.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((MACHINE, 53)).unwrap();
        socket.send(b"x").unwrap();
        socket
    });
    app.ns.serve_tcp(8080);
    let mut inbound = world
        .machine
        .run(|| TcpStream::connect((APP, 8080)).unwrap());
    assert!(unwanted(app.ns.fd(), &app.spec).unwrap().is_empty());

    change(&mut app, &["web = 198.51.100.9:80"], &Resolved::new());
    // Open connections are kept, and named.
    talks(&mut db).unwrap();
    talks(&mut web).unwrap();
    is_refused(&app, MACHINE, 3306);
    let found = unwanted(app.ns.fd(), &app.spec).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.proto, one.peer.port(), one.direction))
        .collect();
    assert_eq!(
        told,
        [("tcp", 3306, Direction::Out), ("udp", 53, Direction::Out)]
    );
    assert_eq!(found[0].local, db.0.local_addr().unwrap());

    assert_eq!(cut(app.ns.fd(), &app.spec, &found).unwrap(), 2);
    let error = talks(&mut db).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "not at once: {error}");
    talks(&mut web).unwrap();
    assert!(udp.send(b"x").is_err() || udp.send(b"x").is_err());
    let mut text = String::new();
    inbound.read_to_string(&mut text).unwrap();
    assert_eq!(text, MACHINE);
    assert!(unwanted(app.ns.fd(), &app.spec).unwrap().is_empty());
}

#[test]
fn learning_accepts_records_and_ends_by_itself() {
    let Some(world) = world("learning_accepts_records_and_ends_by_itself") else {
        return;
    };
    world.machine.serve_tcp(25);
    world.machine.serve_tcp(80);
    world.machine.serve_udp(123);
    let mut app = start(&world, &["web = 198.51.100.9:80"]);
    is_refused(&app, MACHINE, 25);
    let none = Resolved::new();
    let begun = Instant::now();
    learn::start(app.ns.fd(), &app.spec, &none, Duration::from_secs(3)).unwrap();
    reaches(&app, MACHINE, 25);
    reaches(&app, MACHINE6, 25);
    reaches(&app, MACHINE, 80);
    assert_eq!(app.ns.ask_udp(MACHINE, 123).unwrap(), "ping");
    app.ns.sh(&format!("ping -c 1 -W 1 {MACHINE}"));
    let (learned, left) = learn::read(app.ns.fd()).unwrap();
    let told: Vec<String> = learned
        .iter()
        .map(|one| format!("{} {} {}", one.dst, one.proto, one.port))
        .collect();
    assert_eq!(
        told,
        [
            format!("{MACHINE} icmp 0"),
            format!("{MACHINE} tcp 25"),
            format!("{MACHINE} udp 123"),
            format!("{MACHINE6} tcp 25"),
        ]
    );
    assert!(left.unwrap() <= Duration::from_secs(3));
    // A change of the policy meanwhile is no end of it, and no new beginning.
    change(
        &mut app,
        &["web = 198.51.100.9:80", "lan = 10.1.1.0/24"],
        &none,
    );
    reaches(&app, MACHINE, 25);
    assert!(status(app.ns.fd(), &app.spec).unwrap().learning.is_some());
    while app.ns.connect(MACHINE, 25).0.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never ends");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        begun.elapsed() > Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
    is_refused(&app, MACHINE, 25);
    is_refused(&app, MACHINE6, 25);
    reaches(&app, MACHINE, 80);
    assert_eq!(status(app.ns.fd(), &app.spec).unwrap().learning, None);
    // What was learned is there for whoever comes later, until it is taken away.
    assert_eq!(learn::read(app.ns.fd()).unwrap().0.len(), 4);
    learn::stop(app.ns.fd(), &app.spec, &none).unwrap();
    assert_eq!(learn::read(app.ns.fd()).unwrap(), (Vec::new(), None));
    assert!(!app.ns.sh("nft list ruleset").contains("learn"));
    is_refused(&app, MACHINE, 25);
}

#[test]
fn who_comes_in_is_learned_where_the_policy_restricts_it() {
    let Some(world) = world("who_comes_in_is_learned_where_the_policy_restricts_it") else {
        return;
    };
    let mut wanted = spec("myapp", Mode::Routed, &[APP, APP6]);
    wanted.out = reject(&[]);
    wanted.inbound = reject(&["known = 198.51.100.9:80"]);
    let app = world.start(wanted, &Resolved::new());
    app.ns.serve_tcp(80);
    app.ns.serve_tcp(8080);
    app.ns.serve_udp(4000);
    let enters = |to: &str, port| world.machine.connect(to, port).0.is_ok();
    assert!(enters(APP, 80) && !enters(APP, 8080) && !enters(APP6, 8080));
    let none = Resolved::new();
    learn::start(app.ns.fd(), &app.spec, &none, Duration::from_secs(3)).unwrap();
    assert!(enters(APP, 80) && enters(APP, 8080) && enters(APP6, 8080));
    assert_eq!(world.machine.ask_udp(APP, 4000).unwrap(), "ping");
    world.machine.sh(&format!("ping -c 1 -W 1 {APP}"));
    // What leaves is learned at the same time.
    world.machine.serve_tcp(25);
    reaches(&app, MACHINE, 25);
    let (learned, _) = learn::read(app.ns.fd()).unwrap();
    let told: Vec<String> = learned
        .iter()
        .map(|one| format!("{:?} {} {} {}", one.direction, one.dst, one.proto, one.port))
        .collect();
    assert_eq!(
        told,
        [
            format!("Out {MACHINE} tcp 25"),
            format!("In {MACHINE} icmp 0"),
            format!("In {MACHINE} tcp 8080"),
            format!("In {MACHINE} udp 4000"),
            format!("In {MACHINE6} tcp 8080"),
        ]
    );
    std::thread::sleep(Duration::from_millis(3200));
    assert!(enters(APP, 80) && !enters(APP, 8080) && !enters(APP6, 8080));
    learn::stop(app.ns.fd(), &app.spec, &none).unwrap();
    assert!(!app.ns.sh("nft list ruleset").contains("learn"));
}

#[test]
fn an_open_policy_can_be_learned_from() {
    let Some(world) = world("an_open_policy_can_be_learned_from") else {
        return;
    };
    world.machine.serve_tcp(25);
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &Resolved::new());
    learn::start(
        app.ns.fd(),
        &app.spec,
        &Resolved::new(),
        Duration::from_secs(60),
    )
    .unwrap();
    reaches(&app, MACHINE, 25);
    reaches(&app, MACHINE, 25);
    let (learned, _) = learn::read(app.ns.fd()).unwrap();
    let told: Vec<_> = learned.iter().map(|one| (one.port, one.count)).collect();
    assert_eq!(told, [(25, 2)]);
    learn::stop(app.ns.fd(), &app.spec, &Resolved::new()).unwrap();
    reaches(&app, MACHINE, 25);
    assert!(learn::read(app.ns.fd()).unwrap().0.is_empty());
}
