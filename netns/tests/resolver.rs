//! The times of addresses that names lead to: with real sets, real connections and a name server of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod resolving;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{MACHINE, Sandbox, World, entry, names, reject, spec, world};
use metactl_bundles::network::{Entry, Mode, NetworkSpec, Peer};
use metactl_netns::policy::{replace, status};
use metactl_netns::resolver::{NamesAsked, Resolver, Settings, Wanted, running};
use resolving::{
    ANY, APP, DNS, Here, Zone, answer, ask, eventually, exchange, peers, question, resolver,
    resolver_that, serve,
};

fn start(world: &World, lines: &[&str], list: &[(&str, &[&str])]) -> Sandbox {
    let mut spec = spec("myapp", Mode::Routed, &[APP]);
    spec.out = reject(lines);
    // Answers come in all the same.
    spec.inbound = reject(&[]);
    star(&mut spec.out.accept);
    world.start(spec, &names(list))
}

/// Entries whose names begin with a star stand for all names below.
fn star(entries: &mut [Entry]) {
    for entry in entries {
        if let Peer::Host(name) = &entry.peer
            && let Some(suffix) = name.strip_prefix("*.")
        {
            entry.peer = Peer::Suffix(suffix.to_owned());
        }
    }
}

/// Everything is accepted but these.
fn rejecting(lines: &[&str]) -> NetworkSpec {
    let mut spec = spec("myapp", Mode::Routed, &[APP]);
    spec.out.reject = lines.iter().map(|line| entry(line)).collect();
    star(&mut spec.out.reject);
    spec
}

#[test]
fn addresses_go_after_their_time_unless_something_is_connected() {
    let Some(world) = world("addresses_go_after_their_time_unless_something_is_connected") else {
        return;
    };
    world
        .machine
        .sh("ip addr add 10.1.0.1/32 dev lo; ip addr add 10.1.0.3/32 dev lo");
    world.machine.serve_udp(4000);
    let listener = world
        .machine
        .run(|| std::net::TcpListener::bind("0.0.0.0:7000").unwrap());
    let zone: Zone = Arc::new(Mutex::new(BTreeMap::from([(
        "a.star.example",
        vec![
            Ipv4Addr::new(10, 1, 0, 1),
            Ipv4Addr::new(198, 51, 100, 9),
            Ipv4Addr::new(10, 1, 0, 3),
        ],
    )])));
    serve(&world, &zone);
    let app = start(&world, &["star = *.star.example"], &[]);
    let resolver = resolver(&world, &app, Duration::from_secs(4));
    // Nothing before it is asked for.
    assert_eq!(peers(&app), Vec::<String>::new());
    assert_eq!(ask(&app, "a.star.example").len(), 3);
    assert_eq!(peers(&app), ["10.1.0.1", "10.1.0.3", MACHINE]);
    // One has a TCP connection, one an exchange of datagrams, one nothing.
    let stream = app.ns.run(|| TcpStream::connect("10.1.0.1:7000").unwrap());
    let (served, _) = listener.accept().unwrap();
    let exchange = app.ns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let talk = || {
        exchange.send_to(b"x", (MACHINE, 4000)).unwrap();
        exchange
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        exchange.recv(&mut [0; 8]).unwrap()
    };
    assert_eq!(talk(), 1);
    eventually(
        "the end of the unused address",
        Duration::from_secs(9),
        || !peers(&app).contains(&"10.1.0.3".to_owned()),
    );
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(peers(&app), ["10.1.0.1", MACHINE]);
    assert_eq!(talk(), 1);
    // Further connections to the same place, too.
    assert!(app.ns.run(|| TcpStream::connect("10.1.0.1:7000")).is_ok());
    drop((stream, served));
    eventually(
        "the end of what was connected",
        Duration::from_secs(15),
        || !peers(&app).contains(&"10.1.0.1".to_owned()),
    );
    resolver.end(&world, app);
}

#[test]
fn names_of_entries_are_followed_without_being_asked_for() {
    follows(
        "names_of_entries_are_followed_without_being_asked_for",
        false,
    );
}

#[test]
fn older_kernels_follow_them_too() {
    follows("older_kernels_follow_them_too", true);
}

fn follows(test: &str, replace: bool) {
    let Some(world) = world(test) else {
        return;
    };
    let zone: Zone = Arc::new(Mutex::new(BTreeMap::from([(
        "db.example",
        vec![Ipv4Addr::new(10, 1, 0, 1)],
    )])));
    serve(&world, &zone);
    let lines = [
        "db = db.example:1-1000",
        "same = db.example:80/tcp",
        "fixed = 10.1.0.9",
    ];
    // At the start it was another one.
    let app = start(&world, &lines, &[("db.example", &["10.1.0.7"])]);
    let resolver = resolver_that(&world, &app, Duration::from_secs(4), replace);
    let has = |address: &str| peers(&app).contains(&address.to_owned());
    eventually("the address of now", Duration::from_secs(2), || {
        has("10.1.0.1")
    });
    eventually(
        "the end of the one of the start",
        Duration::from_secs(8),
        || !has("10.1.0.7"),
    );
    zone.lock()
        .unwrap()
        .insert("db.example", vec![Ipv4Addr::new(10, 1, 0, 2)]);
    eventually("the new address", Duration::from_secs(5), || {
        has("10.1.0.2")
    });
    eventually("the end of the old address", Duration::from_secs(9), || {
        !has("10.1.0.1")
    });
    // It stays for as long as the name leads to it.
    std::thread::sleep(Duration::from_secs(6));
    assert!(has("10.1.0.2") && has("10.1.0.9"));
    resolver.end(&world, app);
}

/// One line may have several destinations: what each of them leads to is told apart by the ports.
#[test]
fn addresses_that_are_found_open_no_port_of_another_destination_of_the_line() {
    let Some(world) =
        world("addresses_that_are_found_open_no_port_of_another_destination_of_the_line")
    else {
        return;
    };
    world.machine.serve_tcp(80);
    world.machine.serve_tcp(25);
    let lines = ["ok = a.example:25/tcp", "ok = b.example:80/tcp"];
    let known: [(&str, &[&str]); 2] = [("a.example", &["10.1.0.1"]), ("b.example", &[MACHINE])];
    let app = start(&world, &lines, &known);
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    eventually("what is there has a time", Duration::from_secs(5), || {
        let status = status(app.ns.fd(), &app.spec).unwrap();
        status.entries[0].expires.contains_key(MACHINE)
    });
    let reached = |port| app.ns.connect(MACHINE, port).0.is_ok();
    assert!(reached(80) && !reached(25));
    resolver.end(&world, app);
}

#[test]
fn addresses_that_are_found_stay_rejected_for_every_destination_of_the_line() {
    let Some(world) =
        world("addresses_that_are_found_stay_rejected_for_every_destination_of_the_line")
    else {
        return;
    };
    world.machine.serve_tcp(80);
    let zone = BTreeMap::from([("a.example", vec![Ipv4Addr::new(10, 1, 0, 1)])]);
    serve(&world, &Arc::new(Mutex::new(zone)));
    let known = names(&[("a.example", &["10.1.0.7"]), ("m.star.example", &[MACHINE])]);
    let app = world.start(
        rejecting(&["bad = a.example:80", "bad = *.star.example:80"]),
        &known,
    );
    let resolver = resolver(&world, &app, Duration::from_secs(1));
    let rejects = |address: &str| {
        let status = status(app.ns.fd(), &app.spec).unwrap();
        status.rejects[0].peers.iter().any(|peer| peer == address)
    };
    let limit = Duration::from_secs(15);
    eventually("the address of now", limit, || rejects("10.1.0.1"));
    // Nobody says where the names below the star lead now: that of the start is theirs until somebody does.
    let rules = || app.ns.sh("nft list set inet metactl reject_out4");
    std::thread::sleep(Duration::from_secs(8));
    assert!(rejects(MACHINE), "{}", rules());
    assert!(app.ns.connect(MACHINE, 80).0.is_err());
    resolver.end(&world, app);
}

/// A resolver goes by the policy that is written down: for a moment that is still the one before.
#[test]
fn what_the_policy_before_added_meanwhile_is_taken_out() {
    let Some(world) = world("what_the_policy_before_added_meanwhile_is_taken_out") else {
        return;
    };
    world.machine.serve_tcp(80);
    let machine: Ipv4Addr = MACHINE.parse().unwrap();
    let zone = BTreeMap::from([
        ("a.star.example", vec![machine]),
        ("b.other.example", vec![Ipv4Addr::new(10, 1, 0, 2)]),
    ]);
    serve(&world, &Arc::new(Mutex::new(zone)));
    let none = names(&[]);
    let accepting = |lines: &[&str]| {
        let mut spec = spec("myapp", Mode::Routed, &[APP]);
        spec.out = reject(lines);
        star(&mut spec.out.accept);
        spec
    };
    let (one, other) = (["one = *.star.example:80"], ["two = *.other.example:80"]);
    for (before, after, accepted) in [
        (accepting(&one), accepting(&other), true),
        (rejecting(&one), rejecting(&other), false),
    ] {
        let mut app = world.start(before.clone(), &none);
        let resolver = resolver(&world, &app, Duration::from_secs(60));
        let reached = |app: &Sandbox| app.ns.connect(MACHINE, 80).0.is_ok();
        assert_eq!(reached(&app), !accepted);
        replace(app.ns.fd(), &before, &after, &none).unwrap();
        // It is by the name of the policy before that the address comes, into a set of the one in force.
        ask(&app, "a.star.example");
        assert_eq!(reached(&app), accepted);
        resolver.known.lock().unwrap().get_mut("myapp").unwrap().0 = after.clone();
        app.spec = after;
        let limit = Duration::from_secs(10);
        eventually("its end", limit, || reached(&app) != accepted);
        // The policy in force goes on.
        ask(&app, "b.other.example");
        let set = if accepted { "out4" } else { "reject_out4" };
        let elements = app.ns.sh(&format!("nft list set inet metactl {set}"));
        assert!(elements.contains("10.1.0.2"), "{elements}");
        resolver.end(&world, app);
    }
}

/// Who guesses answers has one question to guess, however often the application asks meanwhile.
#[test]
fn equal_questions_are_asked_once() {
    let Some(world) = world("equal_questions_are_asked_once") else {
        return;
    };
    let zone: Zone = Arc::new(Mutex::new(BTreeMap::from([
        ("a.star.example", vec![Ipv4Addr::new(10, 1, 0, 1)]),
        ("b.star.example", vec![Ipv4Addr::new(10, 1, 0, 2)]),
    ])));
    let app = start(&world, &["star = *.star.example"], &[]);
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    let name_server = world.server.run(|| UdpSocket::bind((DNS, 53)).unwrap());
    let asked = std::thread::scope(|scope| {
        let askers: Vec<_> = ["a.star.example", "b.star.example"]
            .into_iter()
            .flat_map(|name| std::iter::repeat_n(name, 8))
            .map(|name| scope.spawn(|| ask(&app, name)))
            .collect();
        // Nobody is answered before all have asked.
        std::thread::sleep(Duration::from_millis(500));
        let mut asked = 0;
        let mut question = [0; 1500];
        name_server.set_nonblocking(true).unwrap();
        while let Ok((length, from)) = name_server.recv_from(&mut question) {
            let answer = answer(&zone, &question[..length]);
            name_server.send_to(&answer, from).unwrap();
            asked += 1;
        }
        let answers: Vec<_> = askers.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(answers[..8], vec![vec![Ipv4Addr::new(10, 1, 0, 1)]; 8]);
        assert_eq!(answers[8..], vec![vec![Ipv4Addr::new(10, 1, 0, 2)]; 8]);
        asked
    });
    assert_eq!(asked, 2);
    drop(name_server);
    // What comes later is asked anew.
    serve(&world, &zone);
    zone.lock()
        .unwrap()
        .insert("a.star.example", vec![Ipv4Addr::new(10, 1, 0, 3)]);
    assert_eq!(ask(&app, "a.star.example"), [Ipv4Addr::new(10, 1, 0, 3)]);
    resolver.end(&world, app);
}

#[test]
fn one_at_a_time_that_learns_what_the_one_before_did() {
    let Some(world) = world("one_at_a_time_that_learns_what_the_one_before_did") else {
        return;
    };
    let zone: Zone = Arc::new(Mutex::new(BTreeMap::from([(
        "a.star.example",
        vec![Ipv4Addr::new(10, 1, 0, 1)],
    )])));
    serve(&world, &zone);
    let app = start(&world, &["star = *.star.example:80"], &[]);
    let first = resolver(&world, &app, Duration::from_secs(60));
    assert!(running(&first.server_dir).unwrap().is_some());
    let settings = Settings::of(&first.server_dir);
    let second = world
        .server
        .run(|| Resolver::open(settings, Box::new(Here(Arc::default()))).map(|one| one.is_some()));
    assert!(!second.unwrap());
    assert_eq!(ask(&app, "a.star.example"), [Ipv4Addr::new(10, 1, 0, 1)]);
    assert_eq!(ask(&app, "b.other.example"), Vec::<Ipv4Addr>::new());
    eventually("the record", Duration::from_secs(5), || {
        let asked = NamesAsked::read(&first.server_dir, "myapp")
            .unwrap()
            .unwrap_or_default();
        asked.names.contains_key("a.star.example") && asked.refused.contains_key("b.other.example")
    });
    // Somebody who waits keeps it alive without instances.
    let wanted = Wanted::hold(&first.server_dir).unwrap();
    first.known.lock().unwrap().clear();
    let server_dir = first.server_dir.clone();
    world.stop(app);
    std::thread::sleep(Duration::from_millis(500));
    assert!(running(&server_dir).unwrap().is_some());
    drop(wanted);
    eventually("the end", Duration::from_secs(5), || {
        running(&server_dir).unwrap().is_none()
    });
    first.thread.join().unwrap();
}

/// Questions on a connection that are answered at once, many times.
fn many_questions(count: usize) -> Vec<u8> {
    let question = question("localhost", 1);
    let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
    framed.repeat(count)
}

#[test]
fn who_floods_the_resolver_by_a_connection_keeps_nobody_waiting() {
    let Some(world) = world("who_floods_the_resolver_by_a_connection_keeps_nobody_waiting") else {
        return;
    };
    let app = start(&world, &["star = *.star.example"], &[]);
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    assert_eq!(ask(&app, "localhost"), [Ipv4Addr::LOCALHOST]);
    // One asks as fast as it can, and reads what comes.
    let mut busy = app.ns.run(|| TcpStream::connect("169.254.1.1:53").unwrap());
    let mut answers = busy.try_clone().unwrap();
    let reader = std::thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
    let questions = many_questions(1000);
    let until = Instant::now() + Duration::from_secs(2);
    let writer = std::thread::spawn(move || {
        while Instant::now() < until && busy.write_all(&questions).is_ok() {}
        busy.shutdown(Shutdown::Both).unwrap_or_default();
    });
    let mut asked = 0;
    while Instant::now() < until {
        assert_eq!(ask(&app, "localhost"), [Ipv4Addr::LOCALHOST]);
        asked += 1;
    }
    assert!(asked > 4, "{asked} answers beside it");
    writer.join().unwrap();
    reader.join().unwrap().unwrap_or_default();
    // Another reads nothing: what it asks is soon taken no more, since the answers would pile up.
    let mut deaf = app.ns.run(|| TcpStream::connect("169.254.1.1:53").unwrap());
    deaf.set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let most = 24 << 20;
    let mut sent = 0;
    let questions = many_questions(1000);
    while sent < most {
        match deaf.write(&questions) {
            Ok(length) => sent += length,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                break;
            }
        }
    }
    assert!(sent < most, "it takes whatever is asked");
    assert_eq!(ask(&app, "localhost"), [Ipv4Addr::LOCALHOST]);
    drop(deaf);
    resolver.end(&world, app);
}

#[test]
fn nobody_waits_for_thousands_of_addresses_to_be_looked_at() {
    let Some(world) = world("nobody_waits_for_thousands_of_addresses_to_be_looked_at") else {
        return;
    };
    let addresses = |count: u8| (0..count).map(|n| Ipv4Addr::new(10, 1, 0, n)).collect();
    let zone = BTreeMap::from([
        ("few.example", addresses(3)),
        ("many.example", addresses(70)),
    ]);
    serve(&world, &Arc::new(Mutex::new(zone)));
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    let answer = |name: &str, kind: u8| {
        let answer = exchange(&app, &question(name, kind));
        (answer[2] & 2 != 0, answer[3] & 15, answer[7])
    };
    assert_eq!(answer("few.example", ANY), (false, 0, 3));
    // Of addresses those that count, or that fit; of everything nothing, and no word that there were more.
    let (cut, code, count) = answer("many.example", 1);
    assert!(cut && code == 0 && count > 20, "{count} addresses");
    assert_eq!(answer("many.example", ANY), (false, 0, 0));
    eventually("the record", Duration::from_secs(5), || {
        let asked = NamesAsked::read(&resolver.server_dir, "myapp").unwrap();
        let refused = asked.and_then(|asked| asked.refused.get("many.example").cloned());
        refused.is_some_and(|one| one.why.contains("more than 64 addresses"))
    });
    resolver.end(&world, app);
}
