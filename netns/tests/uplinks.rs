//! The devices towards other machines: which they are, what they pass on, and what is said on them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::fd::AsRawFd;
use std::time::Duration;

use common::{MACHINE, MACHINE6, Ns, SERVER, World, names, spec, world};
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::announce::{announce, announcements};
use metactl_netns::facts;

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";
/// On the second network.
const LAN_APP: &str = "10.5.0.9";
const LAN: &str = "10.5.0.7";

/// A second wire, 10.5.0.0/24: the server's `eth1`, over which no default route leads.
fn second_wire(world: &World) -> Ns {
    let lan = Ns::new().unwrap();
    let netns = format!("/proc/{}/fd/{}", std::process::id(), lan.fd().as_raw_fd());
    world.server.sh(&format!(
        "ip link add eth1 index 20 type veth peer name eth0 netns {netns}; \
         ip addr add 10.5.0.1/24 dev eth1; ip link set eth1 up"
    ));
    lan.sh(&format!(
        "ip link set lo up; ip addr add {LAN}/24 dev eth0; ip link set eth0 up"
    ));
    world.ready("eth1");
    lan
}

fn say(world: &World, spec: &NetworkSpec) {
    world.server.run(|| {
        let facts = facts::gather(None).unwrap();
        announce(&announcements(spec, &facts)).unwrap();
    });
}

#[test]
fn neighbours_learn_where_a_moved_address_is() {
    let Some(world) = world("neighbours_learn_where_a_moved_address_is") else {
        return;
    };
    if !world.machine.try_sh("command -v tcpdump").0 {
        eprintln!("SKIP neighbours_learn_where_a_moved_address_is: no tcpdump");
        return;
    }
    // Where it was before: another machine, which is gone.
    for address in [APP, APP6] {
        world.machine.sh(&format!(
            "ip neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud stale"
        ));
    }
    let entry = |address: &str| world.machine.sh(&format!("ip neigh show {address}"));
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(80);
    for address in [APP, APP6] {
        assert!(entry(address).contains("02:00:00:00:00:99"));
    }
    let heard = std::thread::scope(|scope| {
        let dump = scope.spawn(|| {
            world.machine.sh(
                "timeout 10 tcpdump -n -e -i eth0 -c 2 'arp or (icmp6 and ip6[40] = 136)' 2>/dev/null",
            )
        });
        // Until it has heard enough, since it takes a moment to listen.
        while !dump.is_finished() {
            say(&world, &app.spec);
            std::thread::sleep(Duration::from_millis(200));
        }
        dump.join().unwrap()
    });
    let mac = world.server.sh("ip -br link show eth0");
    let mac = mac.split_whitespace().nth(2).unwrap();
    for said in [
        format!("{mac} > ff:ff:ff:ff:ff:ff, ethertype ARP"),
        format!("{APP} tell {APP}"),
        format!("{mac} > 33:33:00:00:00:01, ethertype IPv6"),
        "neighbor advertisement".to_owned(),
        format!("tgt is {APP6}"),
    ] {
        assert!(heard.contains(&said), "{said}\n{heard}");
    }
    for address in [APP, APP6] {
        assert!(entry(address).contains(mac), "{}", entry(address));
        let (answer, took) = world.machine.connect(address, 80);
        assert!(
            answer.is_ok() && took < Duration::from_millis(300),
            "{answer:?} {took:?}"
        );
    }
    // Nothing of a pool is said, and nothing on a device that is gone.
    say(&world, &spec("other", Mode::Nat, &["10.77.0.2"]));
    world.server.sh("ip link del eth0");
    let gone = metactl_netns::announce::Announcement {
        address: APP.parse().unwrap(),
        device: "eth0".into(),
    };
    world.server.run(|| announce(&[gone])).unwrap();
}

#[test]
fn an_instance_is_reached_without_a_default_route() {
    let Some(world) = world("an_instance_is_reached_without_a_default_route") else {
        return;
    };
    world
        .server
        .sh("ip route del default; ip -6 route del default");
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(80);
    for (to, from) in [(APP, MACHINE), (APP6, MACHINE6)] {
        let (answer, took) = world.machine.connect(to, 80);
        assert_eq!(answer.unwrap(), from);
        assert!(took < Duration::from_millis(300), "{to}: {took:?}");
    }
    world.machine.serve_tcp(80);
    assert_eq!(app.ns.connect(MACHINE, 80).0.unwrap(), APP);
    // An address of none of the server's networks, which the machine looks for on the wire.
    world.machine.sh("ip route add 203.0.113.5/32 dev eth0");
    let far = world.start(spec("far", Mode::Routed, &["203.0.113.5"]), &names(&[]));
    far.ns.serve_tcp(80);
    assert_eq!(world.machine.connect("203.0.113.5", 80).0.unwrap(), MACHINE);
}

#[test]
fn every_network_of_the_server_is_an_uplink() {
    let Some(world) = world("every_network_of_the_server_is_an_uplink") else {
        return;
    };
    let lan = second_wire(&world);
    let sysctls = "cat /proc/sys/net/ipv4/conf/*/forwarding; ip neigh show proxy";
    let before = world.server.sh(sysctls);
    let here = world.start(spec("here", Mode::Routed, &[APP]), &names(&[]));
    let there = world.start(spec("there", Mode::Routed, &[LAN_APP]), &names(&[]));
    let pooled = world.start(spec("pooled", Mode::Nat, &["10.77.0.2"]), &names(&[]));
    for ns in [&here.ns, &there.ns, &lan, &world.machine] {
        ns.serve_tcp(80);
    }
    // Each address is answered for on the network that it belongs to, and there only.
    let proxies = world.server.sh("ip neigh show proxy");
    assert!(proxies.contains(&format!("{APP} dev eth0")), "{proxies}");
    assert!(
        proxies.contains(&format!("{LAN_APP} dev eth1")),
        "{proxies}"
    );
    assert_eq!(proxies.lines().count(), 2, "{proxies}");
    assert_eq!(lan.connect(LAN_APP, 80).0.unwrap(), LAN);
    assert_eq!(world.machine.connect(APP, 80).0.unwrap(), MACHINE);
    // Out over either, whatever the default route says.
    assert_eq!(there.ns.connect(LAN, 80).0.unwrap(), LAN_APP);
    assert_eq!(pooled.ns.connect(LAN, 80).0.unwrap(), "10.5.0.1");
    assert_eq!(pooled.ns.connect(MACHINE, 80).0.unwrap(), SERVER);
    // Instances on both reach each other, the networks themselves do not.
    assert_eq!(here.ns.connect(LAN_APP, 80).0.unwrap(), APP);
    lan.sh("ip route add default via 10.5.0.1");
    world
        .machine
        .sh(&format!("ip route add 10.5.0.0/24 via {SERVER}"));
    assert!(world.machine.connect(LAN, 80).0.is_err());
    for sandbox in [here, there, pooled] {
        world.stop(sandbox);
    }
    world.settle();
    assert_eq!(world.server.sh(sysctls), before);
}

#[test]
fn an_uplink_without_ipv6_is_no_obstacle() {
    let Some(world) = world("an_uplink_without_ipv6_is_no_obstacle") else {
        return;
    };
    // IPv6 needs packets of 1280 bytes.
    world.server.sh("ip link add tiny type bridge; ip addr add 10.8.0.1/24 dev tiny; ip link set tiny mtu 1200 up");
    assert!(!world.server.try_sh("ls /proc/sys/net/ipv6/conf/tiny").0);
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(80);
    for (to, from) in [(APP, MACHINE), (APP6, MACHINE6)] {
        assert_eq!(world.machine.connect(to, 80).0.unwrap(), from);
    }
    world.stop(app);
    world.settle();
}

#[test]
fn uplinks_can_be_named() {
    let Some(world) = world("uplinks_can_be_named") else {
        return;
    };
    let _lan = second_wire(&world);
    world.server.sh("ip link add docker0 index 30 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up");
    let seen = |uplink: Option<&str>| {
        let facts = world.server.run(|| facts::gather(uplink)).unwrap();
        let names: Vec<String> = facts.uplinks.iter().map(|one| one.name.clone()).collect();
        names.join(" ")
    };
    assert_eq!(seen(None), "eth0 eth1 docker0");
    assert_eq!(seen(Some("eth1")), "eth1");
    assert_eq!(seen(Some("eth1,eth0")), "eth1 eth0");
    let error = world
        .server
        .run(|| facts::gather(Some("eth0,eth9")))
        .unwrap_err();
    assert!(error.to_string().contains("eth9"), "{error}");
}

#[test]
fn the_mtu_is_that_of_the_way_out() {
    let Some(world) = world("the_mtu_is_that_of_the_way_out") else {
        return;
    };
    for mtu in [1400, 9000] {
        let set = format!("ip link set eth0 mtu {mtu}");
        world.server.sh(&set);
        world.machine.sh(&set);
        let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
        for (ns, device) in [(&app.ns, "eth0"), (&world.server, "metactl-myapp")] {
            let shown = ns.sh(&format!("ip link show {device}"));
            assert!(shown.contains(&format!(" mtu {mtu} ")), "{shown}");
        }
        // Unfragmented packets of exactly that size pass in both directions, larger ones do not.
        for (to, header) in [(APP, 28), (APP6, 48)] {
            let ping = |size: u32| {
                world
                    .machine
                    .try_sh(&format!("ping -n -M do -c 1 -W 1 -s {size} {to}"))
            };
            let (passed, said) = ping(mtu - header);
            assert!(passed, "{said}");
            assert!(!ping(mtu - header + 1).0);
        }
        let out = format!("ping -n -M do -c 1 -W 1 -s {} {MACHINE}", mtu - 28);
        assert!(app.ns.try_sh(&out).0);
        world.stop(app);
        world.settle();
    }
    // A second network with small packets does not count for an instance of the first; the server says where they are
    // too large.
    let lan = second_wire(&world);
    let small = "ip link set eth1 mtu 1300";
    world.server.sh(small);
    lan.sh("ip link set eth0 mtu 1300; ip route add default via 10.5.0.1");
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    assert!(app.ns.sh("ip link show eth0").contains(" mtu 9000 "));
    let (_, said) = app
        .ns
        .try_sh(&format!("ping -n -M do -c 1 -W 1 -s 4000 {LAN}"));
    assert!(
        said.contains("mtu = 1300") || said.contains("mtu=1300"),
        "{said}"
    );
    assert!(app.ns.try_sh(&format!("ping -n -c 1 -W 1 -s 4000 {LAN}")).0);
}
