//! The sets of a firewall against the plainest reading of the accept and reject lists: for any list and any packet both decide
//! alike. Pure; what the kernel makes of the sets is in `firewall.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::spec;
use ipnet::IpNet;
use metactl_bundles::network::{Entry, Mode, Peer, Policy, PortRange, Protocol, Verdict};
use metactl_netns::Resolved;
use metactl_netns::nftables::{Element, Ruleset, Set, Shape};
use metactl_netns::policy::ruleset;
use proptest::prelude::*;

/// What the rules look at: the other end, the protocol, the destination port (in ICMP: whatever stands there).
#[derive(Debug, Clone)]
struct Packet {
    peer: IpAddr,
    protocol: u8,
    port: u16,
}

/// An entry as its reader understands it.
fn reads(entry: &Entry, names: &Resolved, packet: &Packet) -> bool {
    let peer = match &entry.peer {
        Peer::Net(net) => net.contains(&packet.peer),
        Peer::Host(name) => names
            .get(name)
            .is_some_and(|all| all.contains(&packet.peer)),
        // Only names that were looked up have addresses here.
        Peer::Suffix(_) => false,
    };
    let icmp = if packet.peer.is_ipv4() { 1 } else { 58 };
    let protocol = match entry.protocol {
        Some(Protocol::Tcp) => packet.protocol == 6,
        Some(Protocol::Udp) => packet.protocol == 17,
        Some(Protocol::Icmp) => packet.protocol == icmp,
        None => entry.ports.is_empty() || matches!(packet.protocol, 6 | 17),
    };
    let within = |range: &PortRange| (range.first..=range.last).contains(&packet.port);
    peer && protocol && (entry.ports.is_empty() || entry.ports.iter().any(within))
}

fn holds(set: &Set, element: &Element, packet: &Packet) -> bool {
    let (first, last) = (&element.first, &element.last);
    let address = (first.address..=last.address).contains(&packet.peer);
    match set.shape {
        Shape::Address(_) => address,
        Shape::Service(_) => {
            address
                && (first.middle..=last.middle).contains(&u16::from(packet.protocol))
                && (first.port..=last.port).contains(&packet.port)
        }
        Shape::Flow(_) => false,
    }
}

/// Whether a lookup in one of the sets of the list (`out`, `reject_out`) and the packet's family finds it.
fn found(rules: &Ruleset, list: &str, packet: &Packet) -> bool {
    let family = if packet.peer.is_ipv4() { '4' } else { '6' };
    let prefix = format!("{list}{family}");
    rules
        .sets
        .iter()
        .filter(|set| set.name.starts_with(&prefix))
        .any(|set| {
            set.elements
                .iter()
                .any(|element| holds(set, element, packet))
        })
}

/// What the kernel asks of a set: an interval set has no overlaps, a hash set no ranges, and no key is there twice.
fn is_loadable(set: &Set) -> bool {
    let apart = |a: &Element, b: &Element| {
        a.last.address < b.first.address
            || b.last.address < a.first.address
            || a.last.middle < b.first.middle
            || b.last.middle < a.first.middle
            || a.last.port < b.first.port
            || b.last.port < a.first.port
    };
    let alone = |index: usize, one: &Element| {
        let others = set.elements.iter().skip(index + 1);
        others.into_iter().all(|other| apart(one, other))
    };
    let exact = set.kind.is_interval() || set.elements.iter().all(|one| one.first == one.last);
    exact
        && set
            .elements
            .iter()
            .enumerate()
            .all(|(index, one)| alone(index, one))
}

// Small spaces, so that entries overlap and packets hit.

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, 0u8..8).prop_map(|(c, d)| IpAddr::V4(Ipv4Addr::new(10, 0, c, d))),
        (0u16..4, 0u16..8)
            .prop_map(|(g, h)| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, g, h))),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=12).prop_map(|(address, short)| {
        let full = if address.is_ipv4() { 32 } else { 128 };
        // Now and then everything.
        let length = if short == 12 { 0 } else { full - short };
        IpNet::new(address, length).unwrap().trunc()
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![1u16..12, Just(255), Just(256), Just(257), Just(u16::MAX)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let peer = prop_oneof![
        3 => net().prop_map(Peer::Net),
        1 => (0u8..3).prop_map(|n| Peer::Host(format!("h{n}.example.org"))),
    ];
    let range = (port(), port()).prop_map(|(a, b)| PortRange {
        first: a.min(b),
        last: a.max(b),
    });
    let protocol = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Protocol::Tcp)),
        1 => Just(Some(Protocol::Udp)),
        1 => Just(Some(Protocol::Icmp)),
    ];
    let ports = proptest::collection::vec(range, 0..4);
    (peer, ports, protocol, 0u8..5).prop_map(|(peer, ports, protocol, name)| Entry {
        name: format!("entry{name}"),
        peer,
        ports: if protocol == Some(Protocol::Icmp) {
            Vec::new()
        } else {
            ports
        },
        protocol,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let protocol =
        prop_oneof![4 => Just(6u8), 4 => Just(17), 1 => Just(1), 1 => Just(58), 1 => any::<u8>()];
    let port = prop_oneof![4 => port(), 1 => any::<u16>()];
    (address(), protocol, port).prop_map(|(peer, protocol, port)| Packet {
        peer,
        protocol,
        port,
    })
}

fn names() -> impl Strategy<Value = Resolved> {
    let one = proptest::collection::vec(address(), 0..4);
    proptest::collection::vec(one, 0..=3).prop_map(|lists| {
        let named = lists.into_iter().enumerate();
        named
            .map(|(n, list)| (format!("h{n}.example.org"), list))
            .collect::<BTreeMap<_, _>>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_sets_decide_like_the_lists(
        list in proptest::collection::vec(entry(), 0..12),
        inbound in proptest::collection::vec(entry(), 0..4),
        rejected in proptest::collection::vec(entry(), 0..8),
        names in names(),
        packets in proptest::collection::vec(packet(), 1..40),
    ) {
        let mut spec = spec("model", Mode::Routed, &["198.51.100.5", "2001:db8:1::5"]);
        spec.out = Policy { policy: Verdict::Reject, accept: list, reject: rejected.clone() };
        // The accept list has no effect here, the reject list has.
        spec.inbound = Policy { policy: Verdict::Accept, accept: inbound, reject: rejected };
        let rules = ruleset(&spec, &names).unwrap();
        for set in &rules.sets {
            prop_assert!(is_loadable(set), "{}", set);
        }
        for packet in &packets {
            let (out, inbound) = (&spec.out, &spec.inbound);
            let lists = [
                ("out", &out.accept),
                ("reject_out", &out.reject),
                ("in", &Vec::new()),
                ("reject_in", &inbound.reject),
            ];
            for (name, list) in lists {
                let wanted = list.iter().any(|entry| reads(entry, &names, packet));
                prop_assert_eq!(found(&rules, name, packet), wanted, "{} {:?}", name, packet);
            }
        }
    }
}
