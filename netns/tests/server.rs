//! What happens on the server: nothing is left behind, nobody else is touched, conflicts are named.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use common::{MACHINE, Ns, SERVER, World, empty_world, names, reject, spec, world};
use metactl_bundles::network::Mode;
use metactl_netns::plan::{LinkIds, Step, plan};
use metactl_netns::{NetError, facts, link, probe, server};

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";
const POOLED: &str = "10.77.0.2";

/// Everything that could be left: sysctls, neighbours, routes, addresses, devices, rules.
fn inventory(world: &World) -> String {
    let lines = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/proxy_arp; \
         cat /proc/sys/net/ipv6/conf/*/*forwarding /proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv6/conf/*/proxy_ndp; \
         cat /proc/sys/net/ipv4/neigh/*/proxy_delay /proc/sys/net/ipv6/neigh/*/proxy_delay; \
         ip neigh show proxy; ip -6 neigh show proxy; ip route; ip -6 route; ip -br link; ip -br addr; nft list ruleset";
    world.server.sh(lines)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn nothing_is_left_behind() {
    let Some(world) = world("nothing_is_left_behind") else {
        return;
    };
    world
        .server
        .sh("ping -c 1 -W 1 198.51.100.9; ping -c 1 -W 1 2001:db8:1::9");
    let (before, files) = (inventory(&world), open_files());
    let one = world.start(spec("one", Mode::Routed, &[APP, APP6]), &names(&[]));
    let two = world.start(spec("two", Mode::Nat, &[POOLED]), &names(&[]));
    let three = world.start(spec("three", Mode::Routed, &["198.51.100.6"]), &names(&[]));
    // Three descriptors of ours, one per namespace.
    assert_eq!(open_files(), files + 3);
    let users = || {
        world
            .server
            .run(|| server::users(&world.server_dir()).unwrap())
    };
    assert_eq!(users(), ["one", "three", "two"]);
    assert_eq!(world.server.sysctl("net/ipv4/conf/eth0/forwarding"), "1");
    assert_eq!(world.server.sysctl("net/ipv4/ip_forward"), "0");
    let changed = world
        .server
        .run(|| server::changed_sysctls(&world.server_dir()).unwrap());
    assert!(
        changed.contains(&(
            "net/ipv4/conf/eth0/forwarding".into(),
            "0".into(),
            "1".into()
        )),
        "{changed:?}"
    );
    let links = world.server.run(|| link::outer_links().unwrap());
    let mut found: Vec<_> = links
        .iter()
        .map(|link| (link.instance.as_deref().unwrap(), link.alive))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("one", true), ("three", true), ("two", true)]);
    // The last user of IPv6 goes, IPv4 stays.
    world.stop(one);
    assert_eq!(world.server.sysctl("net/ipv6/conf/eth0/proxy_ndp"), "0");
    assert_eq!(world.server.sysctl("net/ipv4/conf/eth0/forwarding"), "1");
    world.stop(two);
    assert!(!world.server.sh("nft list ruleset").contains("masquerade"));
    world.stop(three);
    world.settle();
    assert_eq!(inventory(&world), before);
    assert!(users().is_empty());
    // A namespace that something still holds loses its device at once.
    let held = world.start(spec("held", Mode::Routed, &[APP]), &names(&[]));
    world
        .server
        .run(|| server::release(&world.server_dir(), "held"))
        .unwrap();
    assert_eq!(inventory(&world), before);
    drop(held);
    // Once more is harmless.
    world
        .server
        .run(|| server::release(&world.server_dir(), "three"))
        .unwrap();
    assert_eq!(open_files(), files);
}

#[test]
fn a_crash_leaves_a_record_that_is_worked_off() {
    let Some(world) = world("a_crash_leaves_a_record_that_is_worked_off") else {
        return;
    };
    let before = inventory(&world);
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    // The process that would have released is gone, and so is the sandbox.
    drop(app);
    world.settle();
    assert_ne!(inventory(&world), before);
    // A second crash, between the undoing and the record of it: everything is undone, the record still there.
    let record = world.server_dir().join("network.json");
    let text = std::fs::read(&record).unwrap();
    world
        .server
        .run(|| server::release(&world.server_dir(), "myapp"))
        .unwrap();
    std::fs::write(&record, text).unwrap();
    world
        .server
        .run(|| server::release(&world.server_dir(), "myapp"))
        .unwrap();
    // The IPv6 neighbours come and go by themselves.
    assert_eq!(inventory(&world), before);
    // What cannot be read is an error that says which file.
    std::fs::write(&record, "{").unwrap();
    let error = world
        .server
        .run(|| server::users(&world.server_dir()))
        .unwrap_err();
    assert!(error.to_string().contains("network.json"), "{error}");
}

#[test]
fn the_record_of_another_server_is_refused() {
    let (Some(world), Some(other)) = (
        world("the_record_of_another_server_is_refused"),
        empty_world(""),
    ) else {
        return;
    };
    let _app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    let error = other
        .server
        .run(|| server::release(&world.server_dir(), "myapp"))
        .unwrap_err();
    assert!(matches!(error, NetError::Record { .. }), "{error}");
}

#[test]
fn others_are_not_routed() {
    let Some(world) = world("others_are_not_routed") else {
        return;
    };
    // A network behind the server that has nothing to do with any instance.
    let lan = Ns::new().unwrap();
    world.server.sh("ip link add lan index 20 type veth peer name up0; ip addr add 10.5.0.1/24 dev lan; ip link set lan up");
    let pid = std::process::id();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&lan.fd());
    world
        .server
        .sh(&format!("ip link set up0 netns /proc/{pid}/fd/{fd}"));
    lan.sh(
        "ip addr add 10.5.0.5/24 dev up0; ip link set up0 up; ip route add default via 10.5.0.1",
    );
    world.machine.sh(&format!(
        "ip route add 10.5.0.0/24 via {SERVER}; ip route add 10.77.0.0/16 via {SERVER}"
    ));
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    let ping = |ns: &Ns, to: &str| ns.try_sh(&format!("ping -n -c 1 -W 1 {to}")).0;
    assert!(ping(&world.machine, APP));
    assert!(!ping(&world.machine, "10.5.0.5"));
    // The administrator makes the server a router: that is respected, now and afterwards.
    world.server.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    let nat = world.start(spec("nat", Mode::Nat, &[POOLED]), &names(&[]));
    assert!(ping(&world.machine, "10.5.0.5"));
    // A pool is not reachable from outside even then.
    assert!(ping(&world.server, POOLED));
    assert!(!ping(&world.machine, POOLED));
    assert!(!ping(&lan, POOLED));
    world.stop(app);
    world.stop(nat);
    assert!(ping(&world.machine, "10.5.0.5"));
    assert_eq!(world.server.sysctl("net/ipv4/conf/eth0/forwarding"), "1");
}

#[test]
fn a_pool_is_translated_outward_only() {
    let Some(world) = world("a_pool_is_translated_outward_only") else {
        return;
    };
    let app = world.start(spec("myapp", Mode::Nat, &[POOLED]), &names(&[]));
    let other = world.start(spec("other", Mode::Nat, &["10.77.0.3"]), &names(&[]));
    for ns in [&app.ns, &other.ns, &world.machine, &world.server] {
        ns.serve_tcp(80);
    }
    assert_eq!(app.ns.connect(MACHINE, 80).0.unwrap(), SERVER);
    // Among themselves and towards the server nothing is translated.
    assert_eq!(app.ns.connect("10.77.0.3", 80).0.unwrap(), POOLED);
    assert_eq!(app.ns.connect("10.77.0.1", 80).0.unwrap(), POOLED);
    assert_eq!(app.ns.connect(SERVER, 80).0.unwrap(), POOLED);
    assert_eq!(world.server.connect(POOLED, 80).0.unwrap(), "10.77.0.1");
    world.stop(app);
    // The shared address of the server lives on.
    assert_eq!(
        world.server.connect("10.77.0.3", 80).0.unwrap(),
        "10.77.0.1"
    );
}

#[test]
fn a_taken_address_is_named_with_its_holder() {
    let Some(world) = world("a_taken_address_is_named_with_its_holder") else {
        return;
    };
    let first = world.start(spec("first", Mode::Routed, &[APP, APP6]), &names(&[]));
    let before = inventory(&world);
    let ns = Ns::new().unwrap();
    for (address, who) in [
        (APP, "instance \"first\" on m-first-"),
        (APP6, "instance \"first\" on m-first-"),
        (SERVER, "the server itself has it, on eth0"),
        ("198.51.100.255", "broadcast"),
    ] {
        let plan = world.plan(&spec("second", Mode::Routed, &[address]), &names(&[]));
        let error = world.apply(&plan, &ns, "second").unwrap_err();
        assert!(matches!(error, NetError::AddressTaken { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(address) && text.contains(who), "{text}");
    }
    assert_eq!(inventory(&world), before);
    assert!(ns.sh("nft list ruleset; ip -br link").lines().count() <= 6);
    // A restart takes over at once from the dying one, address and names included.
    for _ in 0..20 {
        let plan = world.plan(&spec("first", Mode::Routed, &[APP, APP6]), &names(&[]));
        assert!(plan.outer().is_some());
    }
    let mut running = first;
    for _ in 0..10 {
        world.stop(running);
        running = world.start(spec("first", Mode::Routed, &[APP, APP6]), &names(&[]));
        assert_eq!(running.applied.warnings, [""; 0]);
        assert_eq!(running.applied.altnames, ["metactl-first"]);
        running.ns.serve_tcp(80);
        assert!(world.machine.connect(APP, 80).0.is_ok());
        assert!(world.server.connect(APP6, 80).0.is_ok());
    }
}

#[test]
fn names_of_the_device_that_are_taken_are_reported() {
    let Some(world) = world("names_of_the_device_that_are_taken_are_reported") else {
        return;
    };
    world
        .server
        .sh("ip link property add dev eth0 altname metactl-myapp altname pid4711");
    let spec = spec("myapp", Mode::Routed, &[APP]);
    let ids = LinkIds {
        generation: "ab12".into(),
        pid: Some(4711),
    };
    let make = || {
        world
            .server
            .run(|| plan(&spec, &names(&[]), &facts::gather(None).unwrap(), &ids).unwrap())
    };
    let ns = Ns::new().unwrap();
    let applied = world.apply(&make(), &ns, "myapp").unwrap();
    assert_eq!(applied.outer.as_deref(), Some("m-myapp-ab12"));
    assert_eq!(applied.warnings.len(), 2, "{:?}", applied.warnings);
    assert!(applied.warnings[0].contains("pid4711") && applied.warnings[0].contains("eth0"));
    // The same generation twice.
    let error = world
        .apply(&make(), &Ns::new().unwrap(), "myapp")
        .unwrap_err();
    assert!(matches!(error, NetError::AddressTaken { .. }), "{error}");
    assert!(
        world
            .server
            .run(|| link::remove_outer("m-myapp-ab12"))
            .unwrap()
    );
    assert!(
        !world
            .server
            .run(|| link::remove_outer("m-myapp-ab12"))
            .unwrap()
    );
    assert!(world.server.run(|| link::remove_outer("eth0")).is_err());
}

#[test]
fn a_long_name_of_the_device_may_be_taken_too() {
    let Some(world) = world("a_long_name_of_the_device_may_be_taken_too") else {
        return;
    };
    // Longer than the name of an interface can be (15 characters).
    world
        .server
        .sh("ip link property add dev eth0 altname metactl-bookkeeping");
    let plan = world.plan(&spec("bookkeeping", Mode::Routed, &[APP]), &names(&[]));
    let applied = world.apply(&plan, &Ns::new().unwrap(), "bookkeeping");
    let warnings = applied.unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("metactl-bookkeeping") && warnings[0].contains("eth0"));
}

#[test]
fn a_failing_step_undoes_the_others() {
    let Some(world) = world("a_failing_step_undoes_the_others") else {
        return;
    };
    let before = inventory(&world);
    let plan = world.plan(&spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    let own = plan
        .steps
        .iter()
        .position(|step| matches!(step, Step::Veth(_)))
        .unwrap();
    for at in own + 1..=plan.steps.len() {
        let ns = Ns::new().unwrap();
        let mut broken = plan.clone();
        let bad = Step::Sysctl {
            key: "net/ipv4/nothing".into(),
            value: "1".into(),
        };
        broken.steps.insert(at, bad);
        let error = world.apply(&broken, &ns, "myapp").unwrap_err();
        assert!(error.to_string().contains("net/ipv4/nothing"), "{error}");
        assert_eq!(inventory(&world), before, "step {at}");
        assert!(!ns.sh("nft list ruleset; ip -br link").contains("metactl"));
    }
    // Twice the same sandbox: the second one fails and leaves the first alone.
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    let plan = world.plan(&spec("myapp", Mode::Routed, &["198.51.100.6"]), &names(&[]));
    let error = world.apply(&plan, &app.ns, "again").unwrap_err();
    assert!(error.to_string().contains("nft"), "{error}");
    app.ns.serve_tcp(80);
    assert!(world.machine.connect(APP, 80).0.is_ok());
}

#[test]
fn ipv6_works_without_per_interface_forwarding() {
    let Some(world) = world("ipv6_works_without_per_interface_forwarding") else {
        return;
    };
    world
        .server
        .sh("ping -c 1 -W 1 2001:db8:1::9; echo 1 > /proc/sys/net/ipv6/conf/lo/forwarding");
    let before = inventory(&world);
    let facts = || {
        world.server.run(|| facts::HostFacts {
            force_forwarding: false,
            ..facts::gather(None).unwrap()
        })
    };
    let spec = spec("myapp", Mode::Routed, &[APP6]);
    let plan = plan(&spec, &names(&[]), &facts(), &LinkIds::fresh(None)).unwrap();
    let ns = Ns::new().unwrap();
    world.apply(&plan, &ns, "myapp").unwrap();
    ns.serve_tcp(80);
    assert_eq!(world.server.sysctl("net/ipv6/conf/all/forwarding"), "1");
    let (answer, took) = world.machine.connect(APP6, 80);
    assert!(
        answer.is_ok() && took < Duration::from_millis(300),
        "{answer:?} {took:?}"
    );
    let table = world.server.sh("nft list table inet metactl");
    assert!(table.contains("meta nfproto ipv6 drop"), "{table}");
    drop(ns);
    world
        .server
        .run(|| server::release(&world.server_dir(), "myapp"))
        .unwrap();
    world.settle();
    assert_eq!(inventory(&world), before);
}

#[test]
fn an_address_in_use_on_the_wire_is_found() {
    let Some(world) = world("an_address_in_use_on_the_wire_is_found") else {
        return;
    };
    let ask = |address: &str| {
        let address = address.parse().unwrap();
        world
            .server
            .run(|| probe::probe_conflict(address, "eth0", Duration::from_millis(200)).unwrap())
    };
    let mac = world
        .machine
        .sh("cat /proc/thread-self/net/dev_mcast >/dev/null; ip -br link show eth0");
    for address in [MACHINE, "2001:db8:1::9"] {
        let found = ask(address).unwrap();
        assert!(mac.contains(&found), "{mac} {found}");
    }
    for address in [APP, APP6] {
        assert_eq!(ask(address), None);
    }
    let missing = world
        .server
        .run(|| probe::probe_conflict(APP.parse().unwrap(), "none0", Duration::ZERO));
    assert!(missing.unwrap_err().to_string().contains("none0"));
}

#[test]
fn callers_with_many_threads_do_not_disturb_each_other() {
    let Some(world) = world("callers_with_many_threads_do_not_disturb_each_other") else {
        return;
    };
    let apps: Vec<_> = std::thread::scope(|scope| {
        let world = &world;
        let start = |n: u8| {
            move || {
                world.start(
                    spec(&format!("app{n}"), Mode::Nat, &[&format!("10.77.1.{n}")]),
                    &names(&[]),
                )
            }
        };
        let threads: Vec<_> = (2..14).map(|n| scope.spawn(start(n))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (app, n) in apps.iter().zip(2..) {
        app.ns.serve_tcp(80);
        assert!(world.server.connect(&format!("10.77.1.{n}"), 80).0.is_ok());
    }
    for app in apps {
        world.stop(app);
    }
    world.settle();
    assert!(!world.server.sh("nft list ruleset").contains("metactl"));
}

/// Not a benchmark: prints what a start costs, and fails only when it is absurd.
#[test]
fn a_start_takes_little_time() {
    let Some(world) = world("a_start_takes_little_time") else {
        return;
    };
    let lines: Vec<String> = (0..10)
        .map(|n| format!("e{n} = h{n}.example.org:{}", 3000 + n))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut spec = spec("myapp", Mode::Routed, &[APP]);
    spec.out = reject(&lines);
    let list: Vec<(String, String)> = (0..10)
        .map(|n| (format!("h{n}.example.org"), format!("10.2.0.{n}")))
        .collect();
    let list = list
        .iter()
        .map(|(name, address)| (name.clone(), vec![address.parse().unwrap()]))
        .collect();
    let _other = world.start(
        common::spec("other", Mode::Routed, &["198.51.100.6"]),
        &names(&[]),
    );
    let (mut gather, mut make, mut act) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..30 {
        let ns = Ns::new().unwrap();
        world.server.run(|| {
            let start = Instant::now();
            let facts = facts::gather(None).unwrap();
            gather.push(start.elapsed());
            let start = Instant::now();
            let plan = plan(&spec, &list, &facts, &LinkIds::fresh(None)).unwrap();
            make.push(start.elapsed());
            let start = Instant::now();
            metactl_netns::apply::apply(&plan, ns.fd(), &world.server_dir(), "myapp").unwrap();
            act.push(start.elapsed());
            server::release(&world.server_dir(), "myapp").unwrap();
        });
        drop(ns);
        world.settle_to(1);
    }
    let figures = |list: &mut Vec<Duration>| {
        list.sort_unstable();
        (list[list.len() / 2], list[0])
    };
    let (gather, make, act) = (figures(&mut gather), figures(&mut make), figures(&mut act));
    eprintln!(
        "TIME facts {gather:?}, plan {make:?}, apply {act:?} (median and best of 30, 10 entries)"
    );
    assert!(act.0 < Duration::from_millis(200));
}

#[test]
fn what_others_break_is_mended() {
    let Some(world) = world("what_others_break_is_mended") else {
        return;
    };
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(80);
    let reached = |to: &str| world.machine.connect(to, 80).0.is_ok();
    assert!(reached(APP) && reached(APP6));
    let before = inventory(&world);
    // The cable out and in again.
    let flush = "ip neigh flush all nud stale; ip -6 neigh flush all nud stale";
    world.machine.sh(&format!(
        "ip link set eth0 down; ip link set eth0 up; ip addr add {}/64 dev eth0 nodad; {flush}",
        common::MACHINE6
    ));
    world
        .machine
        .sh("ip addr add fe80::b/64 dev eth0 nodad 2>/dev/null; true");
    world.ready("eth0");
    assert!(reached(APP) && reached(APP6));
    // Worse.
    world.server.sh("nft flush ruleset; echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding; echo 80 > /proc/sys/net/ipv4/neigh/eth0/proxy_delay");
    world.server.sh(
        "ip neigh del proxy 198.51.100.5 dev eth0; ip -6 neigh del proxy 2001:db8:1::5 dev eth0",
    );
    assert_ne!(inventory(&world), before);
    world
        .server
        .run(|| server::refresh(&world.server_dir()))
        .unwrap();
    assert_eq!(inventory(&world), before);
    assert!(reached(APP) && reached(APP6));
    world.stop(app);
    world.settle();
    world
        .server
        .run(|| server::refresh(&world.server_dir()))
        .unwrap();
    assert!(!world.server.sh("nft list ruleset").contains("metactl"));
}
