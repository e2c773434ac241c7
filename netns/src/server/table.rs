//! The one static table on the server. It knows instances by the group of their devices, so that nothing in it
//! changes when one comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use metactl_bundles::network::Protocol;

use super::record::Record;
use super::sysctl;
use crate::link::GROUP;
use crate::nftables::{At, Batch, Chain, End, Family, Hook, Map, MapShape, Pair, Rule, Ruleset};
use crate::plan::{GATEWAY4, LINK_LOCAL4, LINK_LOCAL6, RESOLVER6, ServerEffect};

mod apart;

/// What the record calls for; none without users.
pub(super) fn wanted(record: &Record) -> Option<Ruleset> {
    if !record
        .effects()
        .any(|effect| *effect == ServerEffect::Table)
    {
        return None;
    }
    let pools: BTreeSet<IpNet> = record
        .effects()
        .filter_map(|effect| match effect {
            ServerEffect::Masquerade(pool) => Some(*pool),
            _ => None,
        })
        .collect();
    let listed: BTreeSet<(IpAddr, IpNet)> = record
        .effects()
        .filter_map(|effect| match effect {
            ServerEffect::LinkLocal {
                source,
                destination,
            } => Some((*source, *destination)),
            _ => None,
        })
        .collect();
    let ports = published(record);
    let leads: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| ports.iter().any(|port| leads_to(port) == Some(*family)))
        .collect();
    let mut chains = vec![
        sources(leads.contains(&Family::V4)),
        resolver(),
        forward(&Closed::of(record), &pools, &listed),
    ];
    chains.extend(apart::chains(record));
    if !leads.is_empty() {
        chains.extend(lead(&leads));
    }
    if !pools.is_empty() {
        chains.push(translate(&pools, &leads));
    }
    Some(Ruleset {
        chains,
        maps: leads.iter().flat_map(|family| maps(*family)).collect(),
        ..Ruleset::default()
    })
}

/// The family of the address that a port leads to.
fn leads_to(effect: &ServerEffect) -> Option<Family> {
    match effect {
        ServerEffect::Publish { address, .. } => Some(Family::of(address)),
        _ => None,
    }
}

/// The shapes of the maps and sets of one family: ports at one address of the server, ports at all of them, and
/// instances that reach themselves by way of a published port.
fn shapes(family: Family) -> [MapShape; 3] {
    [
        MapShape::PublishedAt(family),
        MapShape::Published(family),
        MapShape::Pairs(family),
    ]
}

fn name(shape: MapShape) -> &'static str {
    match shape {
        MapShape::Published(Family::V4) => "published",
        MapShape::Published(Family::V6) => "published6",
        MapShape::PublishedAt(Family::V4) => "published_at",
        MapShape::PublishedAt(Family::V6) => "published_at6",
        MapShape::Pairs(Family::V4) => "to_itself",
        MapShape::Pairs(Family::V6) => "to_itself6",
    }
}

/// The names of all maps with ports.
pub(super) const PUBLISHED: [&str; 4] =
    ["published", "published_at", "published6", "published_at6"];

fn maps(family: Family) -> [Map; 3] {
    shapes(family).map(|shape| Map {
        name: name(shape).into(),
        shape,
        elements: Vec::new(),
    })
}

/// The published ports that the record calls for.
pub(super) fn published(record: &Record) -> BTreeSet<ServerEffect> {
    let is_port = |effect: &&ServerEffect| matches!(effect, ServerEffect::Publish { .. });
    record.effects().filter(is_port).cloned().collect()
}

/// The elements of all maps.
fn pairs(published: &BTreeSet<ServerEffect>) -> BTreeMap<MapShape, BTreeSet<Pair>> {
    let mut pairs: BTreeMap<MapShape, BTreeSet<Pair>> = BTreeMap::new();
    for effect in published {
        if let ServerEffect::Publish { port, address } = effect {
            let protocol = match port.protocol {
                Protocol::Udp => 17,
                Protocol::Tcp | Protocol::Icmp => 6,
            };
            let to = (*address, port.inside);
            let (at, port) = (port.address, port.port);
            let port = Pair::Published {
                at,
                protocol,
                port,
                to,
            };
            for pair in [port, Pair::Twice(*address)] {
                pairs.entry(pair.shape()).or_default().insert(pair);
            }
        }
    }
    pairs
}

/// The table with its ports.
pub(super) fn fill(ruleset: &mut Ruleset, published: &BTreeSet<ServerEffect>) {
    let mut pairs = pairs(published);
    for map in &mut ruleset.maps {
        let elements = pairs.remove(&map.shape).unwrap_or_default();
        map.elements = elements.into_iter().collect();
    }
}

/// From one set of ports to another, without a moment in which one that stays is closed.
pub(super) fn change_ports(
    batch: &mut Batch<'_>,
    from: &BTreeSet<ServerEffect>,
    to: &BTreeSet<ServerEffect>,
) {
    let (mut old, mut new) = (pairs(from), pairs(to));
    for shape in [Family::V4, Family::V6].into_iter().flat_map(shapes) {
        let old = old.remove(&shape).unwrap_or_default();
        let new = new.remove(&shape).unwrap_or_default();
        let gone: Vec<Pair> = old.difference(&new).copied().collect();
        let come: Vec<Pair> = new.difference(&old).copied().collect();
        batch.remove_pairs(name(shape), &gone);
        batch.add_pairs(name(shape), &come);
    }
}

/// From outside, from other instances (prerouting) and from the server itself (output). The source stays as it is.
fn lead(families: &[Family]) -> [Chain; 2] {
    let rules = families.iter().flat_map(|family| {
        let [at, everywhere, _] = shapes(*family);
        [at, everywhere].map(|shape| {
            let rule = match family {
                Family::V4 => Rule::new(),
                // The server's own: its packets never leave the loopback device (RFC 4291, 2.5.3).
                Family::V6 => Rule::new().address(End::Destination, &LOOPBACK6, false),
            };
            rule.for_the_server().lead_by(name(shape), shape)
        })
    });
    let rules: Vec<Rule> = rules.collect();
    [("lead", At::Prerouting), ("lead_own", At::Output)].map(|(name, at)| Chain {
        name: name.into(),
        hook: Some(Hook {
            kind: "nat",
            at,
            priority: -100,
            drop: false,
        }),
        rules: rules.clone(),
    })
}

const LOOPBACK6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128));

fn loopback() -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))
}

/// Devices from which packets are forwarded only because metactl switched it on.
struct Closed {
    v4: Vec<String>,
    v6: Vec<String>,
    /// All of IPv6.
    all6: bool,
}

impl Closed {
    fn of(record: &Record) -> Closed {
        let on = |key: &str| matches!(sysctl::get(key), Ok(Some(value)) if value == "1");
        let switched = |prefix: &str, suffix: &str| -> Vec<String> {
            let ours = record.originals.iter().filter(|one| one.original == "0");
            ours.filter_map(|one| {
                Some(
                    one.key
                        .strip_prefix(prefix)?
                        .strip_suffix(suffix)?
                        .to_string(),
                )
            })
            .filter(|device| !device.contains('/'))
            .collect()
        };
        let all6 = switched("net/ipv6/conf/", "/forwarding")
            .iter()
            .any(|device| device == "all");
        Closed {
            v4: if on("net/ipv4/ip_forward") {
                Vec::new()
            } else {
                switched("net/ipv4/conf/", "/forwarding")
            },
            v6: if all6 || on("net/ipv6/conf/all/forwarding") {
                Vec::new()
            } else {
                switched("net/ipv6/conf/", "/force_forwarding")
            },
            all6,
        }
    }
}

/// An instance sends only from the addresses that are routed to it. The sandbox checks that too.
fn sources(publishes: bool) -> Chain {
    let hook = Hook {
        kind: "filter",
        at: At::Prerouting,
        priority: -300,
        drop: false,
    };
    // Link-local ones would be good for router advertisements and redirects (RFC 4861, 6.1.2 and 8.1), by which an
    // instance with CAP_NET_RAW would make itself the server's router. No instance has such an address.
    let mut rules = vec![
        Rule::new()
            .in_by_group(GROUP, true)
            .source_elsewhere()
            .drop(),
        Rule::new()
            .in_by_group(GROUP, true)
            .address(End::Source, &LINK_LOCAL6, true)
            .drop(),
    ];
    if publishes {
        // With `route_localnet` on its device, an instance could reach the server's own 127.0.0.1 (CVE-2020-8558).
        rules.push(
            Rule::new()
                .in_by_group(GROUP, true)
                .address(End::Destination, &loopback(), true)
                .drop(),
        );
    }
    Chain {
        name: "sources".into(),
        hook: Some(hook),
        rules,
    }
}

/// The resolver's addresses are for instances alone, whoever else sends something there.
fn resolver() -> Chain {
    let hook = Hook {
        kind: "filter",
        at: At::Input,
        priority: 0,
        drop: false,
    };
    let to_it = |address: IpAddr| {
        let to_it = Rule::new().address(End::Destination, &address.into(), true);
        to_it.in_by_group(GROUP, false).drop()
    };
    Chain {
        name: "resolver".into(),
        hook: Some(hook),
        rules: vec![to_it(GATEWAY4.into()), to_it(RESOLVER6.into())],
    }
}

/// Forwarding that we switched on is for instances; of a pool only published ports are reachable from outside, and what is
/// link-local stays on the link (RFC 3927, 7) but for who lists it: a cloud has its metadata there, with credentials of
/// the server.
fn forward(closed: &Closed, pools: &BTreeSet<IpNet>, listed: &BTreeSet<(IpAddr, IpNet)>) -> Chain {
    let mut rules = Vec::new();
    for (source, destination) in listed {
        rules.push(
            Rule::new()
                .in_by_group(GROUP, true)
                .address(End::Source, &IpNet::from(*source), true)
                .address(End::Destination, destination, true)
                .accept(),
        );
    }
    rules.push(
        Rule::new()
            .in_by_group(GROUP, true)
            .address(End::Destination, &LINK_LOCAL4, true)
            .prohibit(),
    );
    for pool in pools {
        let from_outside = Rule::new()
            .address(End::Destination, pool, true)
            .in_by_group(GROUP, false);
        rules.push(from_outside.not_established().not_led().drop());
    }
    rules.push(Rule::new().in_by_group(GROUP, true).accept());
    rules.push(Rule::new().out_by_group(GROUP, true).accept());
    for (family, devices) in [(Family::V4, &closed.v4), (Family::V6, &closed.v6)] {
        rules.extend(
            devices
                .iter()
                .map(|device| Rule::new().family(family).in_by(device).drop()),
        );
    }
    if closed.all6 {
        rules.push(Rule::new().family(Family::V6).drop());
    }
    let hook = Hook {
        kind: "filter",
        at: At::Forward,
        priority: 0,
        drop: false,
    };
    Chain {
        name: "forward".into(),
        hook: Some(hook),
        rules,
    }
}

fn translate(pools: &BTreeSet<IpNet>, leads: &[Family]) -> Chain {
    let rule = |pool: &IpNet| {
        let inside_out =
            Rule::new()
                .address(End::Source, pool, true)
                .address(End::Destination, pool, false);
        inside_out.out_by_group(GROUP, false).masquerade()
    };
    let mut rules: Vec<Rule> = pools.iter().map(rule).collect();
    for family in leads {
        // An answer to 127.0.0.1, or to the instance itself, would never leave it.
        if *family == Family::V4 {
            let own = Rule::new().address(End::Source, &loopback(), true);
            rules.push(own.out_by_group(GROUP, true).masquerade());
        }
        let pairs = name(MapShape::Pairs(*family));
        rules.push(Rule::new().pair_in(pairs, *family).masquerade());
    }
    let hook = Hook {
        kind: "nat",
        at: At::Postrouting,
        priority: 100,
        drop: false,
    };
    Chain {
        name: "translate".into(),
        hook: Some(hook),
        rules,
    }
}
