//! Accept and reject lists as sets.
//!
//! | set | holds | found by |
//! | --- | --- | --- |
//! | `out4` | address, protocol, port, all exact | hash |
//! | `out4_hosts` | address, for every protocol | hash |
//! | `out4_net1`, ... | prefixes and port ranges | interval; a second one only for entries that overlap |
//! | `out4_name_3f2a9c01` | a host name with a wide range of ports; each entry has its own | interval |
//!
//! and the same for `out6`, `in4`, `in6`, and with `reject_` in front for what a reject list names. A set exists when
//! an entry can put something in it, now or when a name gets a new address.

mod origin;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use metactl_bundles::network::{Entry, NetworkSpec, Peer, PortRange, Protocol, Verdict};

use super::{Direction, FAMILIES, List, digit, rebinding};
use crate::nftables::{Element, Family, Key, Kind, Set, Shape};
use crate::{NetError, Resolved};

pub(super) use origin::Origins;

/// A range of ports up to this many becomes single elements of the hash set.
const EXACT_PORTS: usize = 256;

const TCP: u16 = 6;
const UDP: u16 = 17;

/// One set, without what names put into it.
struct Plan {
    set: Set,
    /// The entries whose names put addresses into it, as indexes into the policy.
    names: Vec<usize>,
}

/// The sets of one list of one direction.
pub(super) struct ListSets {
    direction: Direction,
    list: List,
    plans: Vec<Plan>,
    entries: Vec<Entry>,
}

/// Protocols and ports of an entry.
struct Services {
    protocols: Vec<(u16, u16)>,
    ports: Vec<PortRange>,
}

impl Services {
    fn of(entry: &Entry, family: Family) -> Services {
        let icmp = match family {
            Family::V4 => 1,
            Family::V6 => 58,
        };
        let protocols = match entry.protocol {
            Some(Protocol::Tcp) => vec![(TCP, TCP)],
            Some(Protocol::Udp) => vec![(UDP, UDP)],
            Some(Protocol::Icmp) => vec![(icmp, icmp)],
            None if entry.ports.is_empty() => vec![(0, 255)],
            None => vec![(TCP, TCP), (UDP, UDP)],
        };
        let ports = if entry.ports.is_empty() {
            vec![PortRange {
                first: 0,
                last: u16::MAX,
            }]
        } else {
            merged(&entry.ports)
        };
        Services { protocols, ports }
    }

    fn everything(&self) -> bool {
        self.protocols == [(0, 255)]
    }

    /// Few enough to be listed one by one.
    fn exact(&self) -> bool {
        let count: usize = self
            .ports
            .iter()
            .map(|range| usize::from(range.last - range.first) + 1)
            .sum();
        !self.everything() && count <= EXACT_PORTS
    }
}

/// Sorted, without overlaps.
fn merged(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut result: Vec<PortRange> = Vec::new();
    for range in sorted {
        match result.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last)
            }
            _ => result.push(range),
        }
    }
    result
}

/// The name of an entry's own set. Not by its place in the list: an entry keeps its set when others come and go.
fn name_set(base: &str, entry: &Entry) -> String {
    let text = serde_json::to_string(entry).unwrap_or_default();
    // FNV-1a, 32 bits: short, and the same for every process.
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{base}_name_{hash:08x}")
}

/// The first and the last address of a prefix.
fn span(net: &IpNet) -> (IpAddr, IpAddr) {
    match net {
        IpNet::V4(net) => (IpAddr::V4(net.network()), IpAddr::V4(net.broadcast())),
        IpNet::V6(net) => (IpAddr::V6(net.network()), IpAddr::V6(net.broadcast())),
    }
}

impl ListSets {
    pub(super) fn of(
        spec: &NetworkSpec,
        direction: Direction,
        list: List,
    ) -> Result<ListSets, NetError> {
        let policy = direction.policy(spec);
        let mut result = ListSets {
            direction,
            list,
            plans: Vec::new(),
            entries: list.entries(policy).to_vec(),
        };
        check(spec, &result)?;
        // With policy accept no entry accepts anything else, and no packet pays for looking.
        if (list, policy.policy) == (List::Accept, Verdict::Accept) {
            return Ok(result);
        }
        for family in FAMILIES {
            if spec
                .addresses
                .iter()
                .any(|address| Family::of(address) == family)
            {
                result.plan_family(family);
            }
        }
        Ok(result)
    }

    fn plan_family(&mut self, family: Family) {
        let base = format!(
            "{}{}{}",
            self.list.prefix(),
            self.direction.word(),
            digit(family)
        );
        let service = Shape::Service(family);
        let mut exact = Plan::empty(base.clone(), service, Kind::Hash);
        let mut hosts = Plan::empty(format!("{base}_hosts"), Shape::Address(family), Kind::Hash);
        let mut named = Vec::new();
        let mut boxes = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let services = Services::of(entry, family);
            match &entry.peer {
                Peer::Host(_) | Peer::Suffix(_) if services.exact() => exact.names.push(index),
                Peer::Host(_) | Peer::Suffix(_) if services.everything() => hosts.names.push(index),
                Peer::Host(_) | Peer::Suffix(_) => {
                    let name = name_set(&base, entry);
                    // The same line twice is one.
                    if !named.iter().any(|plan: &Plan| plan.set.name == name) {
                        let mut plan = Plan::empty(name, service, Kind::Interval);
                        plan.names.push(index);
                        named.push(plan);
                    }
                }
                Peer::Net(net) if Family::of(&net.addr()) != family => {}
                Peer::Net(net) => {
                    let single = net.prefix_len() == net.max_prefix_len();
                    if single && services.exact() {
                        exact
                            .set
                            .elements
                            .extend(singles(net.addr(), &services, &entry.name));
                    } else if single && services.everything() {
                        hosts.set.elements.push(host(net.addr(), &entry.name));
                    } else {
                        boxes.extend(cells(span(net), &services, &entry.name));
                    }
                }
            }
        }
        let with_names = [exact, hosts].into_iter().filter(Plan::used).chain(named);
        self.plans.extend(with_names.map(Plan::timed));
        for (index, elements) in layers(boxes).into_iter().enumerate() {
            let mut plan = Plan::empty(format!("{base}_net{}", index + 1), service, Kind::Interval);
            plan.set.elements = elements;
            self.plans.push(plan);
        }
    }

    /// No packet can be found in them, now or ever.
    pub(super) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// The list itself.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Names and shapes of the sets, in the order in which they are looked through.
    pub(super) fn lookups(&self) -> impl Iterator<Item = (&str, Shape)> {
        self.plans
            .iter()
            .map(|plan| (plan.set.name.as_str(), plan.set.shape))
    }

    /// What `address` of entry `index` puts into which sets; without what the configuration itself put
    /// there, which stays whatever becomes of names.
    pub(super) fn of_address(&self, index: usize, address: IpAddr) -> Vec<(&Set, Vec<Element>)> {
        let Some(entry) = self.entries.get(index) else {
            return Vec::new();
        };
        let family = Family::of(&address);
        let plans = self.plans.iter();
        let fitting =
            plans.filter(|plan| plan.set.shape.family() == family && plan.names.contains(&index));
        let elements = |plan: &'_ Plan| {
            let mut elements = plan.elements_of(address, entry);
            let own = |element: &Element| {
                plan.set
                    .elements
                    .iter()
                    .any(|one| one.first == element.first)
            };
            elements.retain(|element| !own(element));
            elements
        };
        fitting.map(|plan| (&plan.set, elements(plan))).collect()
    }

    /// The sets that names fill, with what the configuration itself put there.
    pub(super) fn named(&self) -> impl Iterator<Item = &Set> {
        let named = self.plans.iter().filter(|plan| !plan.names.is_empty());
        named.map(|plan| &plan.set)
    }

    /// The sets with all of their elements. Of equal ones the first stays.
    pub(super) fn sets(&self, names: &Resolved) -> Vec<Set> {
        self.plans
            .iter()
            .map(|plan| {
                let mut set = plan.set.clone();
                set.elements.extend(self.named_elements(plan, names));
                let mut seen = BTreeSet::new();
                set.elements
                    .retain(|element| seen.insert((element.first, element.last)));
                set
            })
            .collect()
    }

    fn named_elements(&self, plan: &Plan, names: &Resolved) -> Vec<Element> {
        let family = plan.set.shape.family();
        let mut elements = Vec::new();
        for entry in plan
            .names
            .iter()
            .filter_map(|index| self.entries.get(*index))
        {
            // A name of another entry may be below a star that is rejected.
            let covers = |name: &str| self.list == List::Reject && entry.peer.covers_name(name);
            let written = entry.peer.written_name();
            let addresses = names
                .iter()
                .filter(|(name, _)| written.as_deref() == Some(name) || covers(name))
                .flat_map(|(_, addresses)| addresses);
            for address in addresses.filter(|address| Family::of(address) == family) {
                // Whoever looked it up: a name leads to no such address.
                if self.list == List::Reject || rebinding(address).is_none() {
                    elements.extend(plan.elements_of(*address, entry));
                }
            }
        }
        elements
    }
}

impl Plan {
    fn empty(name: String, shape: Shape, kind: Kind) -> Plan {
        Plan {
            set: Set {
                name,
                shape,
                kind,
                elements: Vec::new(),
            },
            names: Vec::new(),
        }
    }

    /// Elements of names come and go.
    fn timed(mut self) -> Plan {
        if !self.names.is_empty() {
            let interval = self.set.kind == Kind::Interval;
            self.set.kind = Kind::Timed { interval };
        }
        self
    }

    fn elements_of(&self, address: IpAddr, entry: &Entry) -> Vec<Element> {
        let services = Services::of(entry, self.set.shape.family());
        match (self.set.shape, self.set.kind.is_interval()) {
            (Shape::Address(_), _) => vec![host(address, &entry.name)],
            (_, true) => cells((address, address), &services, &entry.name),
            (_, false) => singles(address, &services, &entry.name),
        }
    }

    fn used(&self) -> bool {
        !self.names.is_empty() || !self.set.elements.is_empty()
    }
}

fn host(address: IpAddr, name: &str) -> Element {
    let key = Key {
        address,
        middle: 0,
        port: 0,
    };
    Element {
        first: key,
        last: key,
        comment: name.into(),
    }
}

/// One element per protocol and port.
fn singles(address: IpAddr, services: &Services, name: &str) -> Vec<Element> {
    let mut elements = Vec::new();
    for (protocol, _) in &services.protocols {
        for port in services
            .ports
            .iter()
            .flat_map(|range| range.first..=range.last)
        {
            let key = Key {
                address,
                middle: *protocol,
                port,
            };
            elements.push(Element {
                first: key,
                last: key,
                comment: name.into(),
            });
        }
    }
    elements
}

/// One element per range of protocols and range of ports.
fn cells(span: (IpAddr, IpAddr), services: &Services, name: &str) -> Vec<Element> {
    let mut elements = Vec::new();
    for (first, last) in &services.protocols {
        for range in &services.ports {
            elements.push(Element {
                first: Key {
                    address: span.0,
                    middle: *first,
                    port: range.first,
                },
                last: Key {
                    address: span.1,
                    middle: *last,
                    port: range.last,
                },
                comment: name.into(),
            });
        }
    }
    elements
}

/// Interval sets refuse elements that overlap. Each element goes into the first set where it does not; small
/// ones first, so that the most specific entry counts a packet. Nearly always there is one set.
fn layers(mut elements: Vec<Element>) -> Vec<Vec<Element>> {
    elements.sort_by_key(|element| (size(element), element.first));
    let mut layers: Vec<Vec<Element>> = Vec::new();
    for element in elements {
        // An equal one belongs to an entry that says the same: that one counts.
        let known = layers.iter().flatten();
        if known
            .into_iter()
            .any(|other| (other.first, other.last) == (element.first, element.last))
        {
            continue;
        }
        match layers
            .iter_mut()
            .find(|layer| !layer.iter().any(|other| overlap(other, &element)))
        {
            Some(layer) => layer.push(element),
            None => layers.push(vec![element]),
        }
    }
    layers
}

fn overlap(one: &Element, other: &Element) -> bool {
    let meet = |a: (u128, u128), b: (u128, u128)| a.0 <= b.1 && b.0 <= a.1;
    meet(bounds(one), bounds(other))
        && one.first.middle <= other.last.middle
        && other.first.middle <= one.last.middle
        && one.first.port <= other.last.port
        && other.first.port <= one.last.port
}

fn bounds(element: &Element) -> (u128, u128) {
    (number(element.first.address), number(element.last.address))
}

/// How many addresses (in bits, roughly), then how many ports and protocols.
fn size(element: &Element) -> (u128, u16, u16) {
    let (first, last) = bounds(element);
    let protocols = element.last.middle - element.first.middle;
    (
        last - first,
        protocols,
        element.last.port - element.first.port,
    )
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(Ipv4Addr::to_bits(v4)),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
    }
}

/// What cannot be enforced is an error, never ignored.
fn check(spec: &NetworkSpec, sets: &ListSets) -> Result<(), NetError> {
    let (section, list) = (sets.direction.word(), sets.list.word());
    let fail = |entry: &Entry, reason: &str| {
        let reason = format!("[firewall.{section}.{list}] {}: {reason}", entry.name);
        Err(NetError::Spec {
            instance: spec.instance.clone(),
            reason,
        })
    };
    for entry in &sets.entries {
        if entry.protocol == Some(Protocol::Icmp) && !entry.ports.is_empty() {
            return fail(entry, "icmp has no ports; leave them out");
        }
        if entry.ports.iter().any(|range| range.first > range.last) {
            return fail(entry, "a range of ports ends before it begins");
        }
        if sets.direction == Direction::In && matches!(entry.peer, Peer::Suffix(_)) {
            return fail(
                entry,
                "who has a name below a suffix cannot be known for what comes in",
            );
        }
        if entry.name.contains(['"', '\n', '\0']) {
            return fail(entry, "its name holds a quote or a line break");
        }
    }
    Ok(())
}

/// One port of a prefix, of the protocols of an entry.
pub(super) fn cells_of_port(net: &IpNet, entry: &Entry, port: u16) -> Vec<Element> {
    let services = Services {
        ports: vec![PortRange {
            first: port,
            last: port,
        }],
        ..Services::of(entry, Family::of(&net.addr()))
    };
    cells(span(net), &services, &entry.name)
}

/// Without elements that are in others; the rest of those that overlap cannot be told apart by prefixes.
pub(super) fn without_overlaps(mut elements: Vec<Element>) -> Vec<Element> {
    elements.sort_by_key(|element| std::cmp::Reverse(size(element)));
    let mut kept: Vec<Element> = Vec::new();
    for element in elements {
        if !kept.iter().any(|other| overlap(other, &element)) {
            kept.push(element);
        }
    }
    kept
}
