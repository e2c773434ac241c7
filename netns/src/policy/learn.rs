//! Learning: for a while everything may leave, and enter where the policy says who may, and is recorded.
//!
//! Rules alone would have to be taken back by somebody, who may be killed. So what accepts is not a rule but an
//! element: the own address of the instance, in a set where elements live for the time of the learning. When
//! that is over the kernel finds it no more, and the configured policy counts again, whoever is still there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use metactl_bundles::network::{NetworkSpec, Verdict};
use serde::Serialize;

use super::live::protocol_name;
use super::replace::{is_guarded, set_learning};
use super::{Direction, FAMILIES, digit, dynamic, flow_set, kernel_icmp, open_flow};
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::{
    self, Chain, Element, End, Family, Key, Kind, Rule, Ruleset, Selector, Set, Shape,
};
use crate::{NetError, Resolved};

/// How long what was learned is remembered, in milliseconds: longer than any learning.
const LEARNED_FOR: u64 = 7 * 86_400_000;
/// So many sources of others are remembered; whoever sends from more of them passes all the same.
const SOURCES_MOST: u32 = 4096;

/// A destination that was reached while learning, or a source that was let in, and that the policy would have refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Learned {
    /// Which way.
    pub direction: Direction,
    /// The other end, whichever way (as of [`super::Refused`]).
    pub dst: IpAddr,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number of the protocol.
    pub proto: String,
    /// The destination port; 0 for protocols without.
    pub port: u16,
    /// TCP: attempts to connect; others: packets.
    pub count: u64,
}

fn learn_set(family: Family) -> String {
    format!("learn{}", digit(family))
}

fn learned_set(direction: Direction, family: Family) -> String {
    format!("learned_{}{}", direction.word(), digit(family))
}

/// The chain that records and accepts.
fn chain(direction: Direction) -> String {
    format!("learn_{}", direction.word())
}

/// What may enter is of interest only where not everything may.
fn directions(spec: &NetworkSpec) -> impl Iterator<Item = Direction> {
    let restricts = spec.inbound.policy != Verdict::Accept;
    std::iter::once(Direction::Out).chain(restricts.then_some(Direction::In))
}

/// Accepts and records from now on, for `time`. What was learned before is forgotten.
pub fn start(
    netns: BorrowedFd<'_>,
    spec: &NetworkSpec,
    names: &Resolved,
    time: Duration,
) -> Result<(), NetError> {
    if !is_guarded(spec) {
        return Err(NetError::Spec {
            instance: spec.instance.clone(),
            reason: "there is no firewall that could learn".into(),
        });
    }
    set_learning(netns, spec, names, Some(time))
}

/// Ends it before its time, and forgets what was learned.
pub fn stop(netns: BorrowedFd<'_>, spec: &NetworkSpec, names: &Resolved) -> Result<(), NetError> {
    set_learning(netns, spec, names, None)
}

/// What was learned so far, and for how long it goes on.
pub fn read(netns: BorrowedFd<'_>) -> Result<(Vec<Learned>, Option<Duration>), NetError> {
    inside(netns, || {
        let read = |refusal: Refusal| refusal.during("read what the firewall has learned");
        let mut socket = Netlink::netfilter().map_err(Refusal::from).map_err(read)?;
        let learned = learned(&mut socket).map_err(read)?;
        Ok((learned, left(&mut socket).map_err(read)?))
    })
}

fn learned(socket: &mut Netlink) -> Result<Vec<Learned>, Refusal> {
    let mut sums: BTreeMap<(Direction, IpAddr, u16, u16), u64> = BTreeMap::new();
    let sets = [Direction::Out, Direction::In]
        .into_iter()
        .flat_map(|direction| FAMILIES.map(|family| (direction, family)));
    for (direction, family) in sets {
        let set = learned_set(direction, family);
        for element in nftables::elements(socket, &set, Shape::Service(family))? {
            let Key {
                address,
                middle,
                port,
            } = element.first;
            let port = if matches!(middle, 6 | 17) { port } else { 0 };
            let key = (direction, address, middle, port);
            *sums.entry(key).or_default() += element.packets;
        }
    }
    let one = |((direction, dst, protocol, port), count)| Learned {
        direction,
        dst,
        proto: protocol_name(protocol),
        port,
        count,
    };
    Ok(sums.into_iter().map(one).collect())
}

/// How long it still learns.
pub(super) fn left(socket: &mut Netlink) -> Result<Option<Duration>, Refusal> {
    let mut left = None;
    for family in FAMILIES {
        let found = nftables::elements(socket, &learn_set(family), Shape::Address(family))?;
        left = left.max(found.iter().filter_map(|element| element.expires).max());
    }
    Ok(left.filter(|left| *left > 0).map(Duration::from_millis))
}

/// The ruleset with learning in front of what it refuses (or, with policy accept, of what it accepts).
pub(super) fn with_learning(mut rules: Ruleset, spec: &NetworkSpec, time: Duration) -> Ruleset {
    let own = |family: Family| -> Vec<IpAddr> {
        let addresses = spec.addresses.iter().copied();
        addresses
            .filter(|address| Family::of(address) == family)
            .collect()
    };
    let families: Vec<Family> = FAMILIES
        .into_iter()
        .filter(|family| !own(*family).is_empty())
        .collect();
    for family in &families {
        rules.sets.push(learning(*family, &own(*family), time));
        for direction in directions(spec) {
            let kind = Kind::Dynamic {
                timeout: LEARNED_FOR,
                size: (direction == Direction::In).then_some(SOURCES_MOST),
            };
            let (name, shape) = (learned_set(direction, *family), Shape::Service(*family));
            rules.sets.push(dynamic(name, shape, kind));
        }
    }
    let flows: Vec<Family> = families
        .iter()
        .copied()
        .filter(|family| rules.sets.iter().any(|set| set.name == flow_set(*family)))
        .collect();
    for direction in directions(spec) {
        let hook = match direction {
            Direction::Out => "output",
            Direction::In => "input",
        };
        let at = rules.chains.iter().position(|chain| chain.name == hook);
        let at = at.unwrap_or_default();
        if let Some(hooked) = rules.chains.get_mut(at) {
            let last = hooked.rules.pop();
            hooked.rules.extend(gate(direction, &families));
            hooked.rules.extend(last);
        }
        let record = record(direction, &families, &flows);
        rules.chains.insert(at, record);
    }
    rules
}

fn learning(family: Family, own: &[IpAddr], time: Duration) -> Set {
    let element = |address: &IpAddr| {
        let key = Key {
            address: *address,
            middle: 0,
            port: 0,
        };
        Element {
            first: key,
            last: key,
            comment: String::new(),
        }
    };
    Set {
        name: learn_set(family),
        shape: Shape::Address(family),
        kind: Kind::Dynamic {
            timeout: u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1),
            size: Some(64),
        },
        elements: own.iter().map(element).collect(),
    }
}

/// To the record, while the own address is in the set. What the kernel itself sends is nothing to learn.
fn gate(direction: Direction, families: &[Family]) -> Vec<Rule> {
    let own_end = match direction {
        Direction::Out => End::Source,
        Direction::In => End::Destination,
    };
    let mut rules = vec![Rule::new().tcp_not_first().accept()];
    for family in families {
        let kinds = kernel_icmp(*family).iter();
        rules.extend(kinds.map(|kind| Rule::new().icmp(*family, *kind).accept()));
    }
    for family in families {
        let own = Rule::new().found_in(
            Selector::Address(own_end),
            Shape::Address(*family),
            &learn_set(*family),
        );
        rules.push(own.goto(&chain(direction)));
    }
    rules
}

fn record(direction: Direction, families: &[Family], flows: &[Family]) -> Chain {
    let end = direction.peer();
    let mut rules = Vec::new();
    for family in families {
        let (shape, set) = (Shape::Service(*family), learned_set(direction, *family));
        for protocol in [6, 17] {
            let rule = Rule::new().transport(protocol);
            rules.push(rule.update(Selector::Service(end), shape, &set, true));
        }
        let other = Rule::new().not_protocol(6).not_protocol(17);
        rules.push(other.update(Selector::Other(end), shape, &set, true));
    }
    rules.extend(flows.iter().map(|family| open_flow(end, *family)));
    rules.push(Rule::new().accept());
    Chain {
        name: chain(direction),
        hook: None,
        rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metactl_bundles::network::{Mode, Policy};

    #[test]
    fn what_accepts_is_an_element_that_dies() {
        let policy = |policy| Policy {
            policy,
            accept: Vec::new(),
            reject: Vec::new(),
        };
        let spec = NetworkSpec {
            format: 1,
            instance: "a".into(),
            mode: Mode::Routed,
            addresses: vec!["198.51.100.5".parse().unwrap()],
            pool: None,
            pool6: None,
            publish: Vec::new(),
            apart: false,
            out: policy(Verdict::Reject),
            inbound: policy(Verdict::Accept),
        };
        let plain = super::super::ruleset(&spec, &Resolved::new()).unwrap();
        let text = with_learning(plain, &spec, Duration::from_secs(60)).to_string();
        assert!(
            text.contains("ip saddr @learn4 goto learn_out\n\t\tgoto refuse_out\n"),
            "{text}"
        );
        assert!(
            text.contains("timeout 60s\n\t\telements = { 198.51.100.5"),
            "{text}"
        );
        assert!(text.find("chain learn_out").unwrap() < text.find("chain output").unwrap());
        // Everything may enter: nothing to learn there.
        assert!(!text.contains("learn_in"), "{text}");
        let mut guarded = spec.clone();
        guarded.inbound = policy(Verdict::Drop);
        let plain = super::super::ruleset(&guarded, &Resolved::new()).unwrap();
        let text = with_learning(plain, &guarded, Duration::from_secs(60)).to_string();
        assert!(
            text.contains("ip daddr @learn4 goto learn_in\n\t\tgoto refuse_in\n"),
            "{text}"
        );
    }
}
