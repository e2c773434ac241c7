//! Ports of the server that lead to instances of the pool, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{MACHINE, Ns, SERVER, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::{Mode, NetworkSpec, parse_publish};
use metactl_netns::{NetError, server};

const POOLED: &str = "10.77.0.2";
/// The server's address in the pool.
const GATEWAY: &str = "10.77.0.1";
const ROUTED: &str = "198.51.100.5";

fn publishing(instance: &str, address: &str, ports: &str) -> NetworkSpec {
    let mut spec = spec(instance, Mode::Nat, &[address]);
    spec.publish = parse_publish(ports).unwrap();
    spec
}

fn start(world: &World, spec: NetworkSpec) -> Sandbox {
    world.start(spec, &names(&[]))
}

/// Who the application sees, when `from` connects.
fn seen(from: &Ns, to: &str, port: u16) -> String {
    from.connect(to, port)
        .0
        .unwrap_or_else(|error| error.kind().to_string())
}

#[test]
fn a_published_port_leads_to_its_instance() {
    let Some(world) = world("a_published_port_leads_to_its_instance") else {
        return;
    };
    let before = world.server.sh("nft list ruleset; ip -br addr");
    let app = start(&world, publishing("myapp", POOLED, "8080:80 5353:53/udp"));
    let other = start(&world, spec("other", Mode::Nat, &["10.77.0.3"]));
    let routed = start(&world, spec("routed", Mode::Routed, &[ROUTED]));
    app.ns.serve_tcp(80);
    app.ns.serve_udp(53);
    world.server.sh("ip addr add 198.51.100.2/24 dev eth0");
    // The application sees the address of the client, whoever it is.
    assert_eq!(seen(&world.machine, SERVER, 8080), MACHINE);
    assert_eq!(seen(&world.machine, "198.51.100.2", 8080), MACHINE);
    assert_eq!(seen(&other.ns, SERVER, 8080), "10.77.0.3");
    assert_eq!(seen(&other.ns, GATEWAY, 8080), "10.77.0.3");
    assert_eq!(seen(&routed.ns, SERVER, 8080), ROUTED);
    assert_eq!(seen(&world.server, SERVER, 8080), SERVER);
    // But for those to whom it could not answer: 127.0.0.1 of the server, and itself.
    assert_eq!(seen(&world.server, "127.0.0.1", 8080), SERVER);
    assert_eq!(seen(&app.ns, SERVER, 8080), SERVER);
    for from in [&world.machine, &world.server, &other.ns] {
        assert_eq!(from.ask_udp(SERVER, 5353).unwrap(), "ping");
    }
    // Nothing else leads there: no other port, nor the pool itself.
    assert_eq!(seen(&world.machine, SERVER, 80), "connection refused");
    assert_eq!(seen(&world.machine, SERVER, 5353), "connection refused");
    world
        .machine
        .sh(&format!("ip route add 10.77.0.0/16 via {SERVER}"));
    assert!(world.machine.connect(POOLED, 80).0.is_err());
    // A port of another machine is not the server's.
    world.machine.serve_tcp(8080);
    assert_eq!(seen(&other.ns, MACHINE, 8080), SERVER);
    assert_eq!(seen(&world.server, MACHINE, 8080), SERVER);
    for sandbox in [app, other, routed] {
        world.stop(sandbox);
    }
    world.settle();
    world.server.sh("ip addr del 198.51.100.2/24 dev eth0");
    assert_eq!(world.server.sh("nft list ruleset; ip -br addr"), before);
    assert_eq!(seen(&world.machine, SERVER, 8080), "connection refused");
}

#[test]
fn the_firewall_of_the_instance_judges_the_client_itself() {
    let Some(world) = world("the_firewall_of_the_instance_judges_the_client_itself") else {
        return;
    };
    let mut spec = publishing("myapp", POOLED, "8080:80");
    spec.inbound = reject(&[&format!("machine = {MACHINE}")]);
    let app = start(&world, spec);
    app.ns.serve_tcp(80);
    assert_eq!(seen(&world.machine, SERVER, 8080), MACHINE);
    assert_eq!(seen(&world.server, SERVER, 8080), "connection refused");
    assert_eq!(seen(&world.server, "127.0.0.1", 8080), "connection refused");
}

#[test]
fn the_loopback_of_the_server_stays_its_own() {
    let Some(world) = world("the_loopback_of_the_server_stays_its_own") else {
        return;
    };
    world.server.serve_tcp(9000);
    let app = start(&world, publishing("myapp", POOLED, "8080:80"));
    // As an application with all rights over its network would do it.
    app.ns.sh(
        "ip addr del 127.0.0.1/8 dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; \
         ip route add 127.0.0.0/8 via 169.254.1.1 dev eth0 onlink src 10.77.0.2",
    );
    let drops = "nft -a list chain inet metactl sources";
    assert!(app.ns.connect("127.0.0.1", 9000).0.is_err());
    // It is that rule which keeps it out.
    let rules = world.server.sh(drops);
    let rule = rules
        .lines()
        .find(|line| line.contains("127.0.0.0/8"))
        .unwrap();
    let handle = rule.rsplit(' ').next().unwrap();
    world.server.sh(&format!(
        "nft delete rule inet metactl sources handle {handle}"
    ));
    assert!(app.ns.connect("127.0.0.1", 9000).0.is_ok());
}

#[test]
fn a_port_leads_to_one_instance_only() {
    let Some(world) = world("a_port_leads_to_one_instance_only") else {
        return;
    };
    let first = start(&world, publishing("first", POOLED, "8080:80"));
    first.ns.serve_tcp(80);
    let elements = || {
        world
            .server
            .sh("nft list map inet metactl published; nft list set inet metactl to_itself")
    };
    let before = elements();
    let wanted = publishing("second", "10.77.0.3", "9090 8080");
    let plan = world.plan(&wanted, &names(&[]));
    let error = world
        .apply(&plan, &Ns::new().unwrap(), "second")
        .unwrap_err();
    assert!(matches!(error, NetError::PortTaken { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("8080/tcp") && text.contains("\"first\""),
        "{text}"
    );
    assert_eq!(elements(), before);
    // The same number in the other protocol is another port; connections go on while elements come and go.
    let stays = world
        .server
        .run(|| std::net::TcpListener::bind((SERVER, 7000)).unwrap());
    let second = start(
        &world,
        publishing("second", "10.77.0.3", "8080/udp 9090:80"),
    );
    second.ns.serve_tcp(80);
    drop(stays);
    assert!(
        elements().contains("udp . 8080 : 10.77.0.3 . 8080"),
        "{}",
        elements()
    );
    assert_eq!(seen(&world.machine, SERVER, 8080), MACHINE);
    assert_eq!(seen(&world.machine, SERVER, 9090), MACHINE);
    // It is part of the record: given back by a crash's successor, and put back when somebody flushes the rules.
    world.server.sh("nft flush ruleset");
    assert!(world.machine.connect(SERVER, 9090).0.is_err());
    world
        .server
        .run(|| server::refresh(&world.server_dir()))
        .unwrap();
    assert_eq!(seen(&world.machine, SERVER, 9090), MACHINE);
    drop(second);
    world
        .server
        .run(|| server::release(&world.server_dir(), "second"))
        .unwrap();
    assert_eq!(elements(), before);
    // Somebody emptied the maps: the next change makes them whole.
    world.server.sh("nft flush map inet metactl published");
    world.stop(first);
    assert!(!world.server.sh("nft list ruleset").contains("metactl"));
}

#[test]
fn ports_at_one_address_and_ranges() {
    let Some(world) = world("ports_at_one_address_and_ranges") else {
        return;
    };
    let second = "198.51.100.2";
    world.server.sh("ip addr add 198.51.100.2/24 dev eth0");
    let app = start(
        &world,
        publishing(
            "myapp",
            POOLED,
            &format!("{second}:8080:80 127.0.0.1:9000:80 8000-8003:90-93"),
        ),
    );
    app.ns.serve_tcp(80);
    app.ns.serve_tcp(91);
    assert_eq!(seen(&world.machine, second, 8080), MACHINE);
    assert_eq!(seen(&world.server, second, 8080), SERVER);
    assert_eq!(seen(&world.machine, SERVER, 8080), "connection refused");
    // One that is published for the server alone.
    assert_eq!(seen(&world.server, "127.0.0.1", 9000), SERVER);
    assert_eq!(seen(&world.machine, SERVER, 9000), "connection refused");
    assert_eq!(seen(&world.server, SERVER, 9000), "connection refused");
    // Each port of a range leads to the one at its place.
    assert_eq!(seen(&world.machine, SERVER, 8001), MACHINE);
    assert_eq!(seen(&world.machine, second, 8001), MACHINE);
    assert_eq!(seen(&world.machine, SERVER, 8004), "connection refused");
    // The same port at another address is somebody else's; at all addresses it is taken.
    let other = start(
        &world,
        publishing("other", "10.77.0.3", &format!("{SERVER}:8080:80")),
    );
    other.ns.serve_tcp(80);
    assert_eq!(seen(&world.machine, SERVER, 8080), MACHINE);
    for ports in ["8080", "8003-8005", "198.51.100.2:8080"] {
        let plan = world.plan(&publishing("third", "10.77.0.4", ports), &names(&[]));
        let error = world
            .apply(&plan, &Ns::new().unwrap(), "third")
            .unwrap_err();
        assert!(
            matches!(error, NetError::PortTaken { .. }),
            "{ports}: {error}"
        );
    }
    world.server.sh("nft flush ruleset");
    world
        .server
        .run(|| server::refresh(&world.server_dir()))
        .unwrap();
    assert_eq!(seen(&world.machine, second, 8080), MACHINE);
    world.stop(other);
    assert_eq!(seen(&world.machine, SERVER, 8080), "connection refused");
    assert_eq!(seen(&world.machine, second, 8080), MACHINE);
    world.stop(app);
    assert!(!world.server.sh("nft list ruleset").contains("metactl"));
}

#[test]
fn an_open_connection_survives_changes_of_the_ports() {
    use std::io::{Read, Write};
    let Some(world) = world("an_open_connection_survives_changes_of_the_ports") else {
        return;
    };
    let app = start(&world, publishing("myapp", POOLED, "8080:80"));
    let listener = app
        .ns
        .run(|| std::net::TcpListener::bind(("0.0.0.0", 80)).unwrap());
    let mut client = world
        .machine
        .run(|| std::net::TcpStream::connect((SERVER, 8080)).unwrap());
    let (mut inside, _) = listener.accept().unwrap();
    let mut exchange = |word: &[u8; 4]| {
        let mut got = [0; 4];
        client.write_all(word).unwrap();
        inside.read_exact(&mut got).unwrap();
        assert_eq!(&got, word);
        inside.write_all(word).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, word);
    };
    exchange(b"one.");
    let other = start(&world, publishing("other", "10.77.0.3", "9090:80"));
    exchange(b"two.");
    // The whole table is replaced when a first routed instance brings new uplinks.
    world
        .server
        .sh("ip link add br9 type bridge; ip addr add 10.9.0.1/24 dev br9; ip link set br9 up");
    let routed = start(&world, spec("routed", Mode::Routed, &[ROUTED]));
    exchange(b"tri.");
    world.stop(other);
    world.stop(routed);
    exchange(b"four");
}
