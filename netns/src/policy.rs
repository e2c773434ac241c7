//! The firewall inside the sandbox: accept and reject lists become sets, the rules around them stay the same.
//!
//! Destinations are elements of sets, never rules, so a packet costs the same with one destination and with a
//! thousand. There are at most a few sets per family and direction (see `policy/sets.rs`): exact services and hosts in hash
//! tables, prefixes and port ranges in interval sets. Every element counts its packets and carries the name of
//! its entry, so `nft list` inside the namespace reads like the configuration.
//!
//! What is already talking goes on without conntrack (it costs 10-14 % of the connection rate):
//!
//! - TCP: everything but a first SYN passes. The application has no raw sockets, so other segments belong to a
//!   connection whose first SYN was judged, and go where that went: source routes are refused.
//! - UDP: where one direction accepts what the other does not, an accepted packet leaves (peer, its port, own
//!   port) in a bounded set for 30 seconds, and packets of that exchange pass in both directions. TCP never
//!   touches this set; without such a difference it does not exist.
//! - ICMP errors, echo replies and neighbour discovery pass: path MTU depends on them, and only the kernel can
//!   send them.
//!
//! What a reject list names is looked for next, before anything is accepted: the list decides who may begin to talk, as the
//! policy does. Without such a list there is no rule for it.

mod dns;
pub mod learn;
mod lists;
mod live;
mod named;
mod replace;
mod sets;
mod show;
mod unwanted;

use std::net::IpAddr;

use ipnet::IpNet;
use metactl_bundles::network::{NetworkSpec, Verdict};

pub use dns::RESOLVER_PORT;
pub(crate) use dns::rebinding;
pub use lists::Direction;
pub(crate) use lists::{DIRECTIONS, List};
pub use live::{EntryStatus, FirewallStatus, Refused, status};
pub(crate) use named::{EntryId, Grant, NamedSets, flow_peers};
pub use replace::{differ_in_policy_only, replace};
pub(crate) use show::summary;
pub use unwanted::{cut, unwanted};

use crate::nftables::{
    At, Chain, Element, End, Family, Hook, Key, Kind, Rule, Ruleset, Selector, Set, Shape,
};
use crate::{NetError, Resolved};
use sets::ListSets;

/// How long a refusal is remembered, in milliseconds.
const REFUSED_FOR: u64 = 3_600_000;
/// How many refusals are remembered, per family and direction.
const REFUSED_MOST: u32 = 1024;
/// How long a silent exchange of UDP packets stays open, in milliseconds (conntrack: 30 s).
const FLOW_FOR: u64 = 30_000;

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn refused_set(direction: Direction, family: Family) -> String {
    format!("refused_{}{}", direction.word(), digit(family))
}

fn flow_set(family: Family) -> String {
    format!("flows{}", digit(family))
}

/// The complete firewall of a sandbox. Pure. Errors are entries that cannot be enforced.
pub fn ruleset(spec: &NetworkSpec, names: &Resolved) -> Result<Ruleset, NetError> {
    let compiler = Compiler {
        spec,
        out: ListSets::of(spec, Direction::Out, List::Accept)?,
        inbound: ListSets::of(spec, Direction::In, List::Accept)?,
        out_rejects: ListSets::of(spec, Direction::Out, List::Reject)?,
        in_rejects: ListSets::of(spec, Direction::In, List::Reject)?,
    };
    Ok(compiler.compile(names))
}

struct Compiler<'a> {
    spec: &'a NetworkSpec,
    out: ListSets,
    inbound: ListSets,
    out_rejects: ListSets,
    in_rejects: ListSets,
}

impl Compiler<'_> {
    fn policy(&self, direction: Direction) -> Verdict {
        direction.policy(self.spec).policy
    }

    fn rejects(&self, direction: Direction) -> &ListSets {
        match direction {
            Direction::Out => &self.out_rejects,
            Direction::In => &self.in_rejects,
        }
    }

    /// Everything passes.
    fn open(&self, direction: Direction) -> bool {
        self.policy(direction) == Verdict::Accept && self.rejects(direction).is_empty()
    }

    fn own(&self, family: Family) -> Vec<IpAddr> {
        self.spec
            .addresses
            .iter()
            .copied()
            .filter(|address| Family::of(address) == family)
            .collect()
    }

    /// The families of which the instance has an address.
    fn families(&self) -> impl Iterator<Item = Family> + '_ {
        FAMILIES
            .into_iter()
            .filter(|family| !self.own(*family).is_empty())
    }

    /// Replies to UDP need the memory of exchanges unless everything passes anyway.
    fn needs_flows(&self) -> bool {
        !(self.open(Direction::Out) && self.open(Direction::In))
    }

    fn compile(&self, names: &Resolved) -> Ruleset {
        let mut result = Ruleset::default();
        for family in self.families() {
            let own = self.own(family);
            if own.len() > 1 {
                result.sets.push(own_set(family, &own));
            }
            if self.needs_flows() {
                let kind = Kind::Dynamic {
                    timeout: FLOW_FOR,
                    size: None,
                };
                result
                    .sets
                    .push(dynamic(flow_set(family), Shape::Flow(family), kind));
            }
            for direction in [Direction::Out, Direction::In] {
                if !self.open(direction) {
                    let kind = Kind::Dynamic {
                        timeout: REFUSED_FOR,
                        size: Some(REFUSED_MOST),
                    };
                    result.sets.push(dynamic(
                        refused_set(direction, family),
                        Shape::Service(family),
                        kind,
                    ));
                }
            }
        }
        for list in [
            &self.out,
            &self.inbound,
            &self.out_rejects,
            &self.in_rejects,
        ] {
            result.sets.extend(list.sets(names));
        }
        for direction in DIRECTIONS {
            if !self.open(direction) {
                result.chains.extend(self.remember(direction));
                result.chains.push(self.refuse(direction));
                result.chains.extend(self.readable(direction));
            }
        }
        result.chains.push(self.output());
        result.chains.push(self.input());
        self.add_dns(&mut result);
        result
    }

    /// What leaves: only from own addresses, then as the policy says.
    fn output(&self) -> Chain {
        let mut rules = vec![Rule::new().out_by_loopback().accept()];
        for family in FAMILIES {
            rules.push(match self.own(family).as_slice() {
                [] => Rule::new().family(family).drop(),
                [one] => Rule::new()
                    .address(End::Source, &IpNet::from(*one), false)
                    .counter()
                    .drop(),
                _ => Rule::new()
                    .source_not_in(family, &own_name(family))
                    .counter()
                    .drop(),
            });
        }
        self.judge(Direction::Out, &mut rules);
        let hook = Hook {
            kind: "filter",
            at: At::Output,
            priority: 0,
            drop: true,
        };
        Chain {
            name: "output".into(),
            hook: Some(hook),
            rules,
        }
    }

    fn input(&self) -> Chain {
        let mut rules = vec![Rule::new().in_by_loopback().accept()];
        // Address and route of a sandbox are given; an advertisement would add others, of which it may not send.
        for family in self.families().filter(|family| *family == Family::V6) {
            rules.extend(ROUTER_ICMP6.map(|kind| Rule::new().icmp(family, kind).drop()));
        }
        self.judge(Direction::In, &mut rules);
        let hook = Hook {
            kind: "filter",
            at: At::Input,
            priority: 0,
            drop: true,
        };
        Chain {
            name: "input".into(),
            hook: Some(hook),
            rules,
        }
    }

    /// The part that both directions have in common.
    fn judge(&self, direction: Direction, rules: &mut Vec<Rule>) {
        if self.open(direction) {
            rules.extend(self.accept_all(direction));
            return;
        }
        let end = direction.peer();
        rules.extend(self.before_ports(direction));
        match direction {
            Direction::Out => rules.extend(self.dns_out()),
            Direction::In => rules.extend(self.dns_in()),
        }
        rules.push(Rule::new().tcp_not_first().accept());
        for family in self.families() {
            let (shape, set) = (Shape::Flow(family), flow_set(family));
            rules.push(
                Rule::new()
                    .transport(17)
                    .found_in(Selector::Flow(end), shape, &set)
                    .accept(),
            );
        }
        let kernel_icmp = self.families().flat_map(|family| {
            let kinds = kernel_icmp(family).iter();
            kinds.map(move |kind| Rule::new().icmp(family, *kind).accept())
        });
        if self.rejects(direction).is_empty() {
            rules.extend(self.lookups(direction));
            rules.extend(kernel_icmp);
        } else {
            rules.extend(kernel_icmp);
            rules.extend(self.rejections(direction));
            rules.extend(self.lookups(direction));
        }
        match self.policy(direction) {
            Verdict::Accept => rules.extend(self.accept_all(direction)),
            _ => rules.push(Rule::new().goto(&refuse_chain(direction))),
        }
    }

    /// The rest passes; its answers have to, too.
    fn accept_all(&self, direction: Direction) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.needs_flows() {
            let end = direction.peer();
            rules.extend(self.families().map(|family| open_flow(end, family)));
        }
        rules.push(Rule::new().accept());
        rules
    }

    /// What the reject list names is refused. So is what has no ports that can be read, like a first fragment without
    /// them: no set would find it, and it would be put together behind the rules.
    fn rejections(&self, direction: Direction) -> Vec<Rule> {
        let refuse = refuse_chain(direction);
        let found = |(set, shape): (&str, Shape)| {
            let rule = Rule::new().found_in(selector(direction, shape), shape, set);
            rule.goto(&refuse)
        };
        let mut rules: Vec<Rule> = self.rejects(direction).lookups().map(found).collect();
        rules.push(Rule::new().jump(&readable_chain(direction)));
        rules
    }

    /// A rule cannot ask for what is not there: so what is there comes back, and the rest is refused.
    fn readable(&self, direction: Direction) -> Option<Chain> {
        let needed = !self.rejects(direction).is_empty();
        needed.then(|| Chain {
            name: readable_chain(direction),
            hook: None,
            rules: vec![
                Rule::new().ports(End::Destination, 0, u16::MAX).back(),
                Rule::new().goto(&refuse_chain(direction)),
            ],
        })
    }

    /// What the accept list names passes.
    fn lookups(&self, direction: Direction) -> Vec<Rule> {
        let accept = match direction {
            Direction::Out => &self.out,
            Direction::In => &self.inbound,
        };
        let found = |(set, shape): (&str, Shape)| {
            let rule = Rule::new().found_in(selector(direction, shape), shape, set);
            match self.remembers(direction) {
                true => rule.goto(&remember_chain(direction)),
                false => rule.accept(),
            }
        };
        accept.lookups().map(found).collect()
    }

    /// What has to be said of a packet before its ports are looked at.
    fn before_ports(&self, direction: Direction) -> Vec<Rule> {
        match direction {
            // Source routing. An application needs no privilege to give an open connection a route (ip(7) IP_OPTIONS,
            // ipv6(7) IPV6_RTHDR); what follows goes to whom that names, and is no first packet any more.
            Direction::Out => self
                .families()
                .map(|family| {
                    Rule::new()
                        .routed_by_source(family)
                        .goto(&refuse_chain(direction))
                })
                .collect(),
            // IPv4 puts fragments together before it asks here, IPv6 afterwards. The first one, with the ports, is
            // judged, and has to hold them (RFC 7112); without it the others come to nothing.
            Direction::In => self
                .families()
                .filter(|family| *family == Family::V6)
                .map(|_| Rule::new().later_fragment6().accept())
                .collect(),
        }
    }

    /// An accepted packet of this direction has to be remembered when the other direction would refuse the reply.
    fn remembers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Out => !self.open(Direction::In),
            Direction::In => !self.open(Direction::Out),
        }
    }

    fn remember(&self, direction: Direction) -> Option<Chain> {
        if !self.remembers(direction) || self.policy(direction) == Verdict::Accept {
            return None;
        }
        let mut rules: Vec<Rule> = self
            .families()
            .map(|family| open_flow(direction.peer(), family))
            .collect();
        rules.push(Rule::new().accept());
        Some(Chain {
            name: remember_chain(direction),
            hook: None,
            rules,
        })
    }

    /// Counting and refusing are separate rules: a full set ends a rule, and the packet must not pass for that.
    fn refuse(&self, direction: Direction) -> Chain {
        let end = direction.peer();
        let mut rules = Vec::new();
        for family in self.families() {
            let (shape, set) = (Shape::Service(family), refused_set(direction, family));
            for protocol in [6, 17] {
                rules.push(Rule::new().transport(protocol).update(
                    Selector::Service(end),
                    shape,
                    &set,
                    true,
                ));
            }
            let other = Rule::new().not_protocol(6).not_protocol(17);
            rules.push(other.update(Selector::Other(end), shape, &set, true));
        }
        if self.policy(direction) != Verdict::Drop {
            rules.push(Rule::new().protocol(6).reset());
            rules.push(Rule::new().prohibit());
        }
        rules.push(Rule::new().drop());
        Chain {
            name: refuse_chain(direction),
            hook: None,
            rules,
        }
    }
}

fn refuse_chain(direction: Direction) -> String {
    format!("refuse_{}", direction.word())
}

fn readable_chain(direction: Direction) -> String {
    format!("readable_{}", direction.word())
}

fn selector(direction: Direction, shape: Shape) -> Selector {
    match shape {
        Shape::Address(_) => Selector::Address(direction.peer()),
        _ => Selector::Service(direction.peer()),
    }
}

fn remember_chain(direction: Direction) -> String {
    format!("accept_{}", direction.word())
}

fn open_flow(end: End, family: Family) -> Rule {
    Rule::new().transport(17).update(
        Selector::Flow(end),
        Shape::Flow(family),
        &flow_set(family),
        false,
    )
}

/// ICMP that only the kernel sends: errors, replies, neighbour discovery.
fn kernel_icmp(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[0, 3, 11, 12],
        Family::V6 => &[1, 2, 3, 4, 129, 135, 136],
    }
}

/// Router advertisement and redirect (RFC 4861).
const ROUTER_ICMP6: [u8; 2] = [134, 137];

fn own_name(family: Family) -> String {
    format!("own{}", digit(family))
}

fn own_set(family: Family, addresses: &[IpAddr]) -> Set {
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
        name: own_name(family),
        shape: Shape::Address(family),
        kind: Kind::Hash,
        elements: addresses.iter().map(element).collect(),
    }
}

fn dynamic(name: String, shape: Shape, kind: Kind) -> Set {
    Set {
        name,
        shape,
        kind,
        elements: Vec::new(),
    }
}
