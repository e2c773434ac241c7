//! Instances of the pool with an IPv6 address: translated on the way out, reached by published ports, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{MACHINE6, Ns, SERVER, SERVER6, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::{Mode, NetworkSpec, parse_publish};

const POOLED: &str = "10.77.0.2";
const POOLED6: &str = "fd77:1:2::2";

fn pooled(instance: &str, addresses: &[&str], ports: &str) -> NetworkSpec {
    let mut spec = spec(instance, Mode::Nat, addresses);
    if !ports.is_empty() {
        spec.publish = parse_publish(ports).unwrap();
    }
    spec
}

fn start(world: &World, spec: NetworkSpec) -> Sandbox {
    world.start(spec, &names(&[]))
}

/// Who the application sees, when `from` connects.
fn seen(from: &Ns, to: &str, port: u16) -> String {
    let result = from.connect(to, port).0;
    result.unwrap_or_else(|error| error.kind().to_string())
}

#[test]
fn the_way_out_is_translated_and_nobody_comes_in() {
    let Some(world) = world("the_way_out_is_translated_and_nobody_comes_in") else {
        return;
    };
    let before = world.server.sh("nft list ruleset; ip -br addr");
    let app = start(&world, pooled("myapp", &[POOLED, POOLED6], ""));
    let other = start(&world, pooled("other", &["10.77.0.3", "fd77:1:2::3"], ""));
    world.machine.serve_tcp(80);
    world.machine.serve_udp(4000);
    app.ns.serve_tcp(80);
    other.ns.serve_tcp(80);
    assert_eq!(seen(&app.ns, MACHINE6, 80), SERVER6);
    assert_eq!(app.ns.ask_udp(MACHINE6, 4000).unwrap(), "ping");
    app.ns.sh(&format!("ping -c 1 -W 2 {MACHINE6}"));
    // Among themselves, and from the server, they are who they are.
    assert_eq!(seen(&app.ns, "fd77:1:2::3", 80), POOLED6);
    assert_eq!(seen(&world.server, POOLED6, 80), SERVER6);
    // From outside nobody gets in, also who knows the way.
    world
        .machine
        .sh(&format!("ip -6 route add fd77:1:2::/64 via {SERVER6}"));
    assert!(world.machine.connect(POOLED6, 80).0.is_err());
    world.stop(app);
    world.stop(other);
    world.settle();
    assert_eq!(world.server.sh("nft list ruleset; ip -br addr"), before);
}

#[test]
fn published_ports_lead_there_over_ipv6_too() {
    let Some(world) = world("published_ports_lead_there_over_ipv6_too") else {
        return;
    };
    let ports = format!("8080:80 5353:53/udp [{SERVER6}]:9000:80");
    let mut wanted = pooled("myapp", &[POOLED, POOLED6], &ports);
    wanted.inbound = reject(&[&format!("machine = {MACHINE6}/128")]);
    let app = start(&world, wanted);
    let other = start(&world, pooled("other", &["10.77.0.3", "fd77:1:2::3"], ""));
    app.ns.serve_tcp(80);
    app.ns.serve_udp(53);
    // The application sees the address of the client, and judges it.
    assert_eq!(seen(&world.machine, SERVER6, 8080), MACHINE6);
    assert_eq!(world.machine.ask_udp(SERVER6, 5353).unwrap(), "ping");
    assert_eq!(seen(&world.machine, SERVER6, 9000), MACHINE6);
    assert_eq!(seen(&world.machine, SERVER, 8080), "connection refused");
    assert_eq!(seen(&other.ns, SERVER6, 8080), "connection refused");
    assert_eq!(seen(&world.machine, SERVER6, 80), "connection refused");
    world.stop(app);
    let app = start(&world, pooled("myapp", &[POOLED, POOLED6], &ports));
    app.ns.serve_tcp(80);
    assert_eq!(seen(&other.ns, SERVER6, 8080), "fd77:1:2::3");
    assert_eq!(seen(&world.server, SERVER6, 8080), SERVER6);
    // What the server has at ::1 stays its own.
    assert_eq!(seen(&world.server, "::1", 8080), "connection refused");
    // By way of the server it reaches itself, too.
    assert_eq!(seen(&app.ns, SERVER6, 8080), SERVER6);
    assert_eq!(seen(&world.machine, SERVER, 9000), "connection refused");
    world.stop(app);
    world.stop(other);
    assert_eq!(seen(&world.machine, SERVER6, 8080), "connection refused");
}

#[test]
fn a_port_at_an_ipv6_address_needs_the_pool() {
    let Some(world) = world("a_port_at_an_ipv6_address_needs_the_pool") else {
        return;
    };
    let wanted = pooled("myapp", &[POOLED], "[2001:db8::1]:8080:80");
    let facts = world
        .server
        .run(|| metactl_netns::facts::gather(None))
        .unwrap();
    let ids = metactl_netns::plan::LinkIds::fresh(None);
    let error = metactl_netns::plan::plan(&wanted, &names(&[]), &facts, &ids).unwrap_err();
    assert!(error.to_string().contains("[server] pool6"), "{error}");
}
