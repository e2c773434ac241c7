//! The one static table on the server. It knows instances by the group of their devices, so that nothing in it
//! changes when one comes or goes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::record::Record;
use super::sysctl;
use crate::link::GROUP;
use crate::nftables::{At, Chain, End, Family, Hook, Rule, Ruleset};
use crate::plan::{LINK_LOCAL4, LINK_LOCAL6, ServerEffect};

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
    let mut chains = vec![sources(), forward(&Closed::of(record), &pools, &listed)];
    if !pools.is_empty() {
        chains.push(translate(&pools));
    }
    Some(Ruleset {
        sets: Vec::new(),
        chains,
    })
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
fn sources() -> Chain {
    let hook = Hook {
        kind: "filter",
        at: At::Prerouting,
        priority: -300,
        drop: false,
    };
    // Link-local ones would be good for router advertisements and redirects (RFC 4861, 6.1.2 and 8.1), by which an
    // instance with CAP_NET_RAW would make itself the server's router. No instance has such an address.
    let rules = vec![
        Rule::new()
            .in_by_group(GROUP, true)
            .source_elsewhere()
            .drop(),
        Rule::new()
            .in_by_group(GROUP, true)
            .address(End::Source, &LINK_LOCAL6, true)
            .drop(),
    ];
    Chain {
        name: "sources".into(),
        hook: Some(hook),
        rules,
    }
}

/// Forwarding that we switched on is for instances; a pool is not reachable from outside, and what is link-local stays
/// on the link (RFC 3927, 7) but for who lists it: a cloud has its metadata there, with credentials of the server.
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
        rules.push(from_outside.not_established().drop());
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

fn translate(pools: &BTreeSet<IpNet>) -> Chain {
    let rule = |pool: &IpNet| {
        let inside_out =
            Rule::new()
                .address(End::Source, pool, true)
                .address(End::Destination, pool, false);
        inside_out.out_by_group(GROUP, false).masquerade()
    };
    let hook = Hook {
        kind: "nat",
        at: At::Postrouting,
        priority: 100,
        drop: false,
    };
    Chain {
        name: "translate".into(),
        hook: Some(hook),
        rules: pools.iter().map(rule).collect(),
    }
}
