//! Attacks on the network of an instance, with real packets: past the policy that it has, and, by a sandbox whose
//! application was given every capability and took its firewall down, on the server and on other instances.
//!
//! Each attack is shown to work where the defence is not, so that a test that passes says something. What an
//! application without any capability tries is in the end-to-end tests (`tests/tests/network_attacks.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{MACHINE, MACHINE6, Ns, SERVER, SERVER6, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::Mode;

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";
const VICTIM: &str = "198.51.100.6";
const VICTIM6: &str = "2001:db8:1::6";
/// Somebody on the network whom nobody accepts.
const OTHER: &str = "198.51.100.77";
const OTHER6: &str = "2001:db8:1::77";

/// The world with OTHER in it; none, said loudly, where it cannot be.
fn world_with_python(test: &str) -> Option<World> {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("SKIP {test}: needs python3 (apt-get install python3)");
        return None;
    }
    let world = world(test)?;
    world.machine.sh(&format!(
        "ip addr add {OTHER}/24 dev eth0; ip -6 addr add {OTHER6}/64 dev eth0 nodad preferred_lft 0"
    ));
    Some(world)
}

/// Tries attacks inside; what came of each, `ok` or an errno.
fn attack(ns: &Ns, attacks: &[String]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/attacks.py");
    let words: Vec<String> = attacks
        .iter()
        .map(|attack| format!("'x={attack}'"))
        .collect();
    let text = ns.sh(&format!(
        "/usr/bin/python3 {} {}",
        script.display(),
        words.join(" ")
    ));
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches("x ").to_string());
    let outcomes: Vec<String> = lines.collect();
    assert_eq!(outcomes.len(), attacks.len(), "{text}");
    outcomes
}

#[track_caller]
fn works(ns: &Ns, attacks: &[String]) {
    let outcomes = attack(ns, attacks);
    assert!(
        outcomes.iter().all(|one| one == "ok"),
        "{attacks:?}: {outcomes:?}"
    );
}

/// Counts in `ns` what comes to a hook and matches; by name.
struct Watch<'a> {
    ns: &'a Ns,
}

impl Watch<'_> {
    fn new<'a>(ns: &'a Ns, hook: &str, matches: &[(&str, String)]) -> Watch<'a> {
        let mut text = String::from("table inet watch {\n");
        for (name, _) in matches {
            text += &format!("counter n_{name} {{ }}\n");
        }
        // Before fragments are put together.
        text += &format!("chain seen {{ type filter hook {hook} priority -500;\n");
        for (name, rule) in matches {
            text += &format!("{rule} counter name n_{name}\n");
        }
        text += "}\n}\n";
        ns.sh(&format!("nft -f - <<'END'\n{text}END"));
        Watch { ns }
    }

    fn count(&self, name: &str) -> u64 {
        let text = self.ns.sh(&format!("nft list counter inet watch n_{name}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").unwrap();
        words[at + 1].parse().unwrap()
    }

    /// Counts from zero again.
    fn reset(&self) {
        self.ns.sh("nft reset counters >/dev/null");
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.ns.try_sh("nft delete table inet watch");
    }
}

/// A sandbox with nothing accepted but MACHINE's port 80.
fn guarded(world: &World) -> Sandbox {
    let mut spec = spec("guarded", Mode::Routed, &[APP, APP6]);
    spec.out = reject(&["web = 198.51.100.9:80", "web6 = [2001:db8:1::9]:80"]);
    world.start(spec, &names(&[]))
}

/// The data of an accepted connection, sent by way of somebody who is not accepted: source routing (IP option LSRR,
/// IPv6 routing headers), for which no privilege is needed.
#[test]
fn source_routing_does_not_lead_around_the_policy() {
    let Some(world) = world_with_python("source_routing_does_not_lead_around_the_policy") else {
        return;
    };
    let app = guarded(&world);
    world.machine.serve_tcp(80);
    // The worst server: it passes source routes on.
    world.server.sh("for d in all eth0 default; do echo 1 > /proc/sys/net/ipv4/conf/$d/accept_source_route; done");
    let outer = app.applied.outer.as_deref().unwrap();
    world.server.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/conf/{outer}/accept_source_route"
    ));
    let watch = Watch::new(
        &world.machine,
        "prerouting",
        &[
            ("four", format!("ip saddr {APP} ip daddr {OTHER}")),
            ("six", format!("ip6 saddr {APP6} ip6 daddr {OTHER6}")),
        ],
    );
    let attacks = [
        format!("source_route@lsrr,{OTHER},{MACHINE},80"),
        format!("source_route@srh,{OTHER6},{MACHINE6},80"),
        format!("source_route@type2,{OTHER6},{MACHINE6},80"),
    ];
    attack(&app.ns, &attacks);
    assert_eq!((watch.count("four"), watch.count("six")), (0, 0));
    // Through an accepted one, to somebody who is not: the packet itself is refused, whatever it is addressed to.
    let through = [
        format!("route_header_udp@lsrr,{MACHINE},{OTHER},80"),
        format!("route_header_udp@srh,{MACHINE6},{OTHER6},80"),
    ];
    let outcomes = attack(&app.ns, &through);
    assert!(
        outcomes.iter().all(|one| one != "ok" && one != "TIMEOUT"),
        "{outcomes:?}"
    );
    // Without the firewall they arrive.
    app.ns.sh("nft flush ruleset");
    attack(&app.ns, &attacks);
    assert!(
        watch.count("four") > 0,
        "the attack works without the defence"
    );
    assert!(
        watch.count("six") > 0,
        "the attack works without the defence"
    );
}

/// From outside: pieces that no rule sees whole, and headers in front of the port.
#[test]
fn fragments_and_extension_headers_hide_nothing() {
    let Some(world) = world_with_python("fragments_and_extension_headers_hide_nothing") else {
        return;
    };
    let mut spec = spec("guarded", Mode::Routed, &[APP, APP6]);
    spec.out = reject(&["web = 198.51.100.9:81", "web6 = [2001:db8:1::9]:81"]);
    spec.inbound = reject(&["web = 0.0.0.0/0:80", "web6 = [::/0]:80"]);
    let app = world.start(spec, &names(&[]));
    app.ns.serve_tcp(25);
    app.ns.serve_tcp(80);
    app.ns.serve_udp(9000);
    let watch = Watch::new(
        &world.machine,
        "prerouting",
        &[
            (
                "four",
                format!("ip saddr {APP} tcp sport 25 tcp flags syn,ack / syn,ack"),
            ),
            (
                "six",
                format!("ip6 saddr {APP6} tcp sport 25 tcp flags syn,ack / syn,ack"),
            ),
        ],
    );
    let mut attacks = Vec::new();
    for kind in ["tiny", "overlap", "later"] {
        attacks.push(format!("fragments@{kind},{MACHINE},{APP},25"));
        attacks.push(format!("fragments@{kind},{MACHINE6},{APP6},25"));
    }
    for header in ["hop", "dest", "route"] {
        attacks.push(format!("behind@{header},{MACHINE6},{APP6},25"));
    }
    works(&world.machine, &attacks);
    assert_eq!((watch.count("four"), watch.count("six")), (0, 0));
    // What comes in pieces and is welcome comes in: answers of more than one packet.
    world.machine.serve_udp(81);
    for to in [MACHINE, MACHINE6] {
        app.ns.sh(&format!(
            "/usr/bin/python3 -c \"import socket; s = socket.socket(socket.{}, socket.SOCK_DGRAM); s.settimeout(2); \
             s.connect(('{to}', 81)); s.send(b'x' * 2000); assert len(s.recv(4000)) == 2000\"",
            if to.contains(':') { "AF_INET6" } else { "AF_INET" }
        ));
    }
    app.ns.sh("nft flush ruleset");
    works(&world.machine, &attacks);
    assert!(
        watch.count("four") > 0,
        "the attack works without the defence"
    );
    assert!(
        watch.count("six") > 0,
        "the attack works without the defence"
    );
}

/// Other protocols than TCP, UDP and ICMP, to an address of which only a port is accepted.
#[test]
fn other_protocols_are_refused() {
    let Some(world) = world_with_python("other_protocols_are_refused") else {
        return;
    };
    let app = guarded(&world);
    let raw = |to: &str, protocol: u8| {
        let six = if to.contains(':') { "6" } else { "" };
        format!(
            "/usr/bin/python3 -c \"import socket; s = socket.socket(socket.AF_INET{six}, socket.SOCK_RAW, {protocol}); \
             s.sendto(b'\\0\\0\\0\\x50' + b'\\0' * 28, ('{to}', 0))\""
        )
    };
    let watch = Watch::new(
        &world.machine,
        "prerouting",
        &[
            ("four", format!("ip saddr {APP}")),
            ("six", format!("ip6 saddr {APP6} meta l4proto != 58")),
        ],
    );
    // IGMP, IP-in-IP, DCCP, IPv6-in-IPv4, GRE, ESP, L2TP, SCTP, UDP-Lite.
    for protocol in [2, 4, 33, 41, 47, 50, 115, 132, 136] {
        for to in [MACHINE, MACHINE6] {
            app.ns.try_sh(&raw(to, protocol));
            let count = watch.count("four") + watch.count("six");
            assert_eq!(count, 0, "{protocol} to {to}");
        }
    }
    // ICMP with something in it, to a destination of which a port is accepted, and to others.
    for to in [MACHINE, OTHER, MACHINE6, OTHER6] {
        let (ok, text) = app
            .ns
            .try_sh(&format!("ping -n -c 1 -W 1 -p 736563726574 {to}"));
        assert!(!ok, "{text}");
    }
    app.ns.sh("nft flush ruleset");
    for to in [MACHINE, MACHINE6] {
        app.ns.sh(&raw(to, 132));
    }
    assert!(watch.count("four") > 0 && watch.count("six") > 0);
}

/// The sources that a sandbox may pretend, by the name of its counter. Not its own.
const SOURCES: [(&str, &str); 11] = [
    ("victim", VICTIM),
    ("server", SERVER),
    ("machine", MACHINE),
    ("foreign", "10.6.6.6"),
    ("loopback", "127.0.0.1"),
    ("linklocal", "169.254.1.1"),
    ("victim6", VICTIM6),
    ("server6", SERVER6),
    ("machine6", MACHINE6),
    ("foreign6", "2001:db8:66::6"),
    ("linklocal6", "fe80::666"),
];

/// The application was given every capability, took its firewall down, and writes packets by hand.
#[test]
fn the_server_does_not_believe_a_source() {
    let Some(world) = world_with_python("the_server_does_not_believe_a_source") else {
        return;
    };
    let rogue = world.start(spec("rogue", Mode::Routed, &[APP, APP6]), &names(&[]));
    let victim = world.start(
        spec("victim", Mode::Routed, &[VICTIM, VICTIM6]),
        &names(&[]),
    );
    rogue.ns.sh("nft flush ruleset");
    let matches: Vec<(&str, String)> = SOURCES
        .iter()
        .map(|(name, address)| {
            let ip = if address.contains(':') { "ip6" } else { "ip" };
            (*name, format!("{ip} saddr {address} udp dport 9"))
        })
        .chain([
            ("own", format!("ip saddr {APP} udp dport 9")),
            ("own6", format!("ip6 saddr {APP6} udp dport 9")),
        ])
        .collect();
    let places = [
        (&world.server, [SERVER, SERVER6]),
        (&world.machine, [MACHINE, MACHINE6]),
        (&victim.ns, [VICTIM, VICTIM6]),
    ];
    let watches: Vec<Watch> = places
        .iter()
        .map(|(ns, _)| Watch::new(ns, "input", &matches))
        .collect();
    let to = |address: &str, six: bool| match address.contains(':') == six {
        true => Some(address.to_string()),
        false => None,
    };
    let mut attacks = Vec::new();
    for (_, addresses) in &places {
        for (_, source) in SOURCES.iter().chain(&[("own", APP), ("own6", APP6)]) {
            let target = addresses
                .iter()
                .find_map(|one| to(one, source.contains(':')));
            attacks.push(format!("spoof@{source},{},9", target.unwrap()));
        }
    }
    works(&rogue.ns, &attacks);
    for (watch, (_, addresses)) in watches.iter().zip(&places) {
        for (name, source) in SOURCES {
            assert_eq!(watch.count(name), 0, "{source} to {addresses:?}");
        }
        assert_eq!(
            (watch.count("own"), watch.count("own6")),
            (1, 1),
            "{addresses:?}"
        );
        watch.reset();
    }
    // Without the server's table most of them arrive.
    world.server.sh("nft delete table inet metactl");
    works(&rogue.ns, &attacks);
    for name in ["victim", "foreign", "victim6", "foreign6"] {
        let count: u64 = watches.iter().map(|watch| watch.count(name)).sum();
        assert!(count > 0, "{name}: the attack works without the defence");
    }
}

/// ARP and NDP: who claims another's address is not asked. Router advertisements and redirects: the server takes no
/// route from a sandbox.
#[test]
fn the_server_believes_no_neighbour_and_no_router() {
    let Some(world) = world_with_python("the_server_believes_no_neighbour_and_no_router") else {
        return;
    };
    let rogue = world.start(spec("rogue", Mode::Routed, &[APP, APP6]), &names(&[]));
    let victim = world.start(
        spec("victim", Mode::Routed, &[VICTIM, VICTIM6]),
        &names(&[]),
    );
    victim.ns.serve_tcp(80);
    world.machine.serve_tcp(80);
    rogue
        .ns
        .sh("nft flush ruleset; ip -6 addr add fe80::666/64 dev eth0 nodad");
    let outer = rogue.applied.outer.clone().unwrap();
    let routes = || {
        world
            .server
            .sh("ip route; ip -6 route; ip -6 addr show scope global; ip neigh show nud permanent")
    };
    let before = routes();
    let mut attacks = Vec::new();
    for address in [VICTIM, MACHINE, SERVER] {
        attacks.push(format!("arp@{address},{SERVER}"));
        attacks.push(format!("redirect4@{address},{APP},{SERVER},{MACHINE}"));
    }
    for address in [VICTIM6, MACHINE6, SERVER6] {
        attacks.push(format!("advertise@{address},{address},{SERVER6}"));
        attacks.push(format!("advertise@fe80::666,{address},fe80::1"));
    }
    attacks.push("router@fe80::666,2001:db8:bad::".into());
    for from in ["fe80::666", "fe80::b"] {
        attacks.push(format!("redirect6@{from},{MACHINE6},{SERVER6}"));
    }
    let settled = || {
        for (to, own) in [
            (VICTIM, SERVER),
            (VICTIM6, SERVER6),
            (MACHINE, SERVER),
            (MACHINE6, SERVER6),
        ] {
            assert_eq!(world.server.connect(to, 80).0.unwrap(), own, "{to}");
        }
        for to in [VICTIM, VICTIM6] {
            assert!(world.machine.connect(to, 80).0.is_ok(), "{to}");
        }
    };
    settled();
    for _ in 0..3 {
        works(&rogue.ns, &attacks);
    }
    settled();
    assert_eq!(routes(), before);
    let learned = world.server.sh(&format!(
        "ip -6 route show dev {outer} proto ra; ip -6 route show cache dev {outer}"
    ));
    assert_eq!(learned, "");
    // Without the defences a sandbox makes itself the server's router.
    world.server.sh(&format!(
        "nft delete table inet metactl; echo 1 > /proc/sys/net/ipv6/conf/{outer}/accept_ra"
    ));
    works(&rogue.ns, &["router@fe80::666,2001:db8:bad::".into()]);
    assert_ne!(routes(), before, "the attack works without the defence");
}

/// Privacy addresses: an advertisement that reaches the sandbox (radvd on all devices of the server) gives it neither an
/// address nor a route, and an address that it has all the same does not get past the firewall.
#[test]
fn no_address_comes_by_advertisement() {
    let Some(world) = world_with_python("no_address_comes_by_advertisement") else {
        return;
    };
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns
        .sh("echo 2 > /proc/sys/net/ipv6/conf/eth0/use_tempaddr");
    let before = app.ns.sh("ip -6 addr; ip -6 route");
    let outer = app.applied.outer.as_deref().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/attacks.py");
    let advertise = format!(
        "DEVICE={outer} /usr/bin/python3 {} x=router@fe80::99,2001:db8:bad::",
        script.display()
    );
    assert_eq!(world.server.sh(&advertise), "x ok\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(app.ns.sh("ip -6 addr; ip -6 route"), before);
    app.ns
        .sh("ip -6 addr add 2001:db8:bad::77/64 dev eth0 nodad");
    let watch = Watch::new(
        &world.machine,
        "prerouting",
        &[("private", "ip6 saddr 2001:db8:bad::77".into())],
    );
    assert!(
        !app.ns
            .try_sh(&format!("ping -n -c 1 -W 1 -I 2001:db8:bad::77 {MACHINE6}"))
            .0
    );
    assert_eq!(watch.count("private"), 0);
}

/// A build is kept from the server: also from what of it listens to everybody on a link.
#[test]
fn who_is_kept_apart_reaches_no_service_by_broadcast() {
    use std::net::UdpSocket;
    let Some(world) = world("who_is_kept_apart_reaches_no_service_by_broadcast") else {
        return;
    };
    let service = world
        .server
        .run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    let patience = std::time::Duration::from_millis(500);
    service.set_read_timeout(Some(patience)).unwrap();
    let hears = |apart: bool, to: &str| {
        let mut spec = spec("myapp", Mode::Routed, &[APP]);
        spec.apart = apart;
        let app = world.start(spec, &names(&[]));
        app.ns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(b"x", (to, 5353)).unwrap();
        });
        let heard = service.recv(&mut [0; 8]).is_ok();
        world.stop(app);
        world.settle();
        heard
    };
    for to in ["255.255.255.255", "224.0.0.1", SERVER] {
        assert!(hears(false, to), "{to} leads there");
        assert!(!hears(true, to), "{to}");
    }
}
