//! The one static table on the server. It knows instances by the group of their devices, so that nothing in it
//! changes when one comes or goes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::record::Record;
use super::sysctl;
use crate::link::GROUP;
use crate::nftables::{At, Chain, End, Family, Hook, Rule, Ruleset};
use crate::plan::{GATEWAY4, ServerEffect};

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
    let mut chains = vec![sources(), resolver(), forward(&Closed::of(record), &pools)];
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
    let rules = vec![
        Rule::new()
            .in_by_group(GROUP, true)
            .source_elsewhere()
            .drop(),
    ];
    Chain {
        name: "sources".into(),
        hook: Some(hook),
        rules,
    }
}

/// The resolver's address is for instances alone, whoever else sends something there.
fn resolver() -> Chain {
    let hook = Hook {
        kind: "filter",
        at: At::Input,
        priority: 0,
        drop: false,
    };
    let address = IpNet::from(std::net::IpAddr::from(GATEWAY4));
    let to_it = Rule::new().address(End::Destination, &address, true);
    Chain {
        name: "resolver".into(),
        hook: Some(hook),
        rules: vec![to_it.in_by_group(GROUP, false).drop()],
    }
}

/// Forwarding that we switched on is for instances; a pool is not reachable from outside.
fn forward(closed: &Closed, pools: &BTreeSet<IpNet>) -> Chain {
    let mut rules = Vec::new();
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
