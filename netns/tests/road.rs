//! The road of packets: from another machine through the server into a sandbox and back, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{MACHINE, MACHINE6, SERVER, SERVER6, empty_world, names, spec, world};
use metactl_bundles::network::Mode;

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

#[test]
fn an_instance_is_a_machine_of_the_network() {
    let Some(world) = world("an_instance_is_a_machine_of_the_network") else {
        return;
    };
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(8080);
    for (to, machine, server) in [(APP, MACHINE, SERVER), (APP6, MACHINE6, SERVER6)] {
        let (answer, took) = world.machine.connect(to, 8080);
        // No translation: the application sees who it is.
        assert_eq!(answer.unwrap(), machine);
        assert!(took < Duration::from_millis(300), "proxy delay? {took:?}");
        assert_eq!(world.server.connect(to, 8080).0.unwrap(), server);
    }
    // The server is a hop.
    for (to, hop) in [(APP, SERVER), (APP6, SERVER6)] {
        let route = world.machine.sh(&format!("traceroute -n -q 1 -w 1 {to}"));
        let hops: Vec<&str> = route
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(hops, [hop, to], "{route}");
    }
    // And outward.
    world.machine.serve_tcp(80);
    assert_eq!(app.ns.connect(MACHINE, 80).0.unwrap(), APP);
    assert_eq!(app.ns.connect(MACHINE6, 80).0.unwrap(), APP6);
    // Localhost is its own.
    world.server.serve_tcp(9000);
    assert!(app.ns.connect("127.0.0.1", 9000).0.is_err());
    assert!(app.ns.connect("127.0.0.1", 8080).0.is_ok());
}

#[test]
fn a_server_without_network_reaches_its_instances() {
    let Some(world) = empty_world("a_server_without_network_reaches_its_instances") else {
        return;
    };
    for (mode, address) in [
        (Mode::Nat, "10.77.0.2"),
        (Mode::Routed, APP),
        (Mode::Routed, APP6),
    ] {
        let app = world.start(spec("myapp", mode, &[address]), &names(&[]));
        assert!(
            app.plan.notes.iter().any(|note| note.contains("no uplink")),
            "{}",
            app.plan
        );
        app.ns.serve_tcp(80);
        let (answer, took) = world.server.connect(address, 80);
        assert!(answer.is_ok(), "{address}: {answer:?}");
        assert!(took < Duration::from_millis(300), "{address}: {took:?}");
        world.stop(app);
    }
    world.settle();
}
