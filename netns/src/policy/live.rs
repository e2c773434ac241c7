//! The firewall of a running sandbox: counters and addresses out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use metactl_bundles::network::{Mode, NetworkSpec};
use rustix::io::Errno;
use serde::Serialize;

use super::sets::ListSets;
use super::unwanted::{InForce, Lists, Named};
use super::{DIRECTIONS, Direction, FAMILIES, List, REFUSED_FOR, refused_set};
use crate::NetError;
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::{self, ReadElement, Shape, change::Live};

/// What the firewall of an instance has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallStatus {
    /// One per line of the accept lists, in their order; first those of `out`.
    pub entries: Vec<EntryStatus>,
    /// The same of the reject lists; `packets` were refused.
    pub rejects: Vec<EntryStatus>,
    /// What was refused within the last hour, the most frequent first; at most 1024 per family and direction.
    pub refused: Vec<Refused>,
    /// While it learns ([`super::learn`]): the seconds that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<u64>,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryStatus {
    /// The list it stands in.
    pub direction: Direction,
    /// The key of the line.
    pub name: String,
    /// The addresses and prefixes that are in the kernel at the moment, sorted. Empty for a name without
    /// address, and of an accept list in a direction with policy accept, where it has no effect.
    pub peers: Vec<String>,
    /// For those of the peers that are only there for a time: the seconds that are left.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expires: BTreeMap<String, u64>,
    /// TCP: attempts to connect; UDP: packets that began an exchange; other protocols: packets.
    pub packets: u64,
}

/// A destination (inbound: a source) that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which way.
    pub direction: Direction,
    /// The other end.
    pub dst: IpAddr,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number of the protocol.
    pub proto: String,
    /// The destination port; 0 for protocols without.
    pub port: u16,
    /// How many packets (for TCP: attempts).
    pub count: u64,
    /// Seconds since the last one.
    pub seconds_ago: u64,
    /// The key of the line of the reject list that names it now, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_by: Option<String>,
}

/// Reads counters and refused destinations from inside the namespace. A sandbox with an address but without its
/// firewall is an error.
pub fn status(netns: BorrowedFd<'_>, spec: &NetworkSpec) -> Result<FirewallStatus, NetError> {
    look(netns, spec).map(|(status, _)| status)
}

/// The same, with what the lists have of names.
pub(super) fn look(
    netns: BorrowedFd<'_>,
    spec: &NetworkSpec,
) -> Result<(FirewallStatus, Lists), NetError> {
    let mut lists = Vec::new();
    for direction in DIRECTIONS {
        for list in [List::Accept, List::Reject] {
            lists.push((direction, list, ListSets::of(spec, direction, list)?));
        }
    }
    inside(netns, || {
        let read = |refusal: Refusal| refusal.during("read the firewall of the sandbox");
        let mut socket = Netlink::netfilter().map_err(Refusal::from).map_err(read)?;
        let guarded = matches!(spec.mode, Mode::Routed | Mode::Nat);
        if guarded && !nftables::table_exists(&mut socket).map_err(read)? {
            return Err(Refusal::from(Errno::NOENT)
                .during("find the firewall in the sandbox; restart the instance"));
        }
        let mut status = FirewallStatus {
            entries: Vec::new(),
            rejects: Vec::new(),
            refused: Vec::new(),
            learning: None,
        };
        let mut named = Lists::default();
        let live = Live::read(&mut socket).map_err(read)?;
        for (direction, list, sets) in &lists {
            let (all, of_names) = match list {
                List::Accept => (&mut status.entries, &mut named.accepts),
                List::Reject => (&mut status.rejects, &mut named.rejects),
            };
            let of_names = of_names.entry(*direction).or_default();
            let found = Found::read(&mut socket, sets, &live, of_names).map_err(read)?;
            all.extend(found.entries(sets, *direction));
        }
        status.refused = refused(&mut socket).map_err(read)?;
        let rejects = Named::of(spec, List::Reject, &named.rejects);
        for one in &mut status.refused {
            one.rejected_by = rejects.refused(one).map(|entry| entry.name.clone());
        }
        let left = super::learn::left(&mut socket).map_err(read)?;
        status.learning = left.map(|left| left.as_secs());
        Ok((status, named))
    })
}

/// What is in the sets, by the name of the entry.
#[derive(Default)]
struct Found {
    peers: BTreeMap<String, BTreeSet<(IpAddr, IpAddr)>>,
    expires: BTreeMap<String, BTreeMap<String, u64>>,
    packets: BTreeMap<String, u64>,
}

impl Found {
    /// What of it is of names goes into `of_names`, too.
    fn read(
        socket: &mut Netlink,
        sets: &ListSets,
        live: &Live,
        of_names: &mut InForce,
    ) -> Result<Found, Refusal> {
        let mut found = Found::default();
        let named: BTreeSet<&str> = sets.named().map(|set| set.name.as_str()).collect();
        for (name, shape) in sets.lookups() {
            for element in nftables::elements(socket, live.name_of(name), shape)? {
                let span = (element.first.address, element.last.address);
                if named.contains(name) {
                    of_names.add(shape, &element);
                }
                if let Some(left) = element.expires {
                    let lives = found.expires.entry(element.comment.clone()).or_default();
                    lives.extend(shown(&span).into_iter().map(|peer| (peer, left / 1000)));
                }
                found
                    .peers
                    .entry(element.comment.clone())
                    .or_default()
                    .insert(span);
                *found.packets.entry(element.comment).or_default() += element.packets;
            }
        }
        Ok(found)
    }

    fn entries(&self, sets: &ListSets, direction: Direction) -> Vec<EntryStatus> {
        let one = |entry: &metactl_bundles::network::Entry| EntryStatus {
            direction,
            name: entry.name.clone(),
            peers: self
                .peers
                .get(nftables::shown_comment(&entry.name))
                .into_iter()
                .flatten()
                .flat_map(shown)
                .collect(),
            expires: self
                .expires
                .get(nftables::shown_comment(&entry.name))
                .cloned()
                .unwrap_or_default(),
            packets: self
                .packets
                .get(nftables::shown_comment(&entry.name))
                .copied()
                .unwrap_or_default(),
        };
        sets.entries().iter().map(one).collect()
    }
}

/// As a prefix where it is one.
fn shown(span: &(IpAddr, IpAddr)) -> Vec<String> {
    let nets: Vec<IpNet> = match span {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Ipv4Subnets::new(*first, *last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Ipv6Subnets::new(*first, *last, 0).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    };
    let text = |net: &IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    nets.iter().map(text).collect()
}

fn refused(socket: &mut Netlink) -> Result<Vec<Refused>, Refusal> {
    let mut sums: BTreeMap<(Direction, IpAddr, u16, u16), (u64, u64)> = BTreeMap::new();
    for direction in [Direction::Out, Direction::In] {
        for family in FAMILIES {
            let set = refused_set(direction, family);
            for ReadElement {
                first,
                packets,
                expires,
                ..
            } in nftables::elements(socket, &set, Shape::Service(family))?
            {
                let has_ports = matches!(first.middle, 6 | 17);
                let port = if has_ports { first.port } else { 0 };
                let ago = REFUSED_FOR.saturating_sub(expires.unwrap_or(REFUSED_FOR)) / 1000;
                let sum = sums
                    .entry((direction, first.address, first.middle, port))
                    .or_insert((0, u64::MAX));
                sum.0 += packets;
                sum.1 = sum.1.min(ago);
            }
        }
    }
    let mut refused: Vec<Refused> = sums
        .into_iter()
        .map(
            |((direction, dst, protocol, port), (count, seconds_ago))| Refused {
                direction,
                dst,
                proto: protocol_name(protocol),
                port,
                count,
                seconds_ago,
                rejected_by: None,
            },
        )
        .collect();
    refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.dst.cmp(&b.dst)));
    Ok(refused)
}

pub(super) fn protocol_name(number: u16) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        number => number.to_string(),
    }
}
