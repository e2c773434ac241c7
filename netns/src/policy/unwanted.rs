//! Open connections that the policy in force would refuse: a policy was tightened while they were there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

use metactl_bundles::network::{Entry, NetworkSpec, Peer, Protocol, Verdict};

use super::live::{Refused, look};
use super::replace::is_guarded;
use super::{DIRECTIONS, Direction, FAMILIES, List, flow_set};
use crate::NetError;
use crate::connections::{self, Connection};
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::{
    self, Batch, Key, Kind, ReadElement, Set, Shape, change::Live, shown_comment,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// The connections of a sandbox that could not be opened any more. TCP as long as it is open, UDP as long as
/// the socket has a peer.
pub fn unwanted(netns: BorrowedFd<'_>, spec: &NetworkSpec) -> Result<Vec<Connection>, NetError> {
    if !is_guarded(spec) {
        return Ok(Vec::new());
    }
    let (_, lists) = look(netns, spec)?;
    let judge = Judge::new(spec, &lists);
    let mut all = connections::list(netns)?;
    all.retain(|one| {
        let protocol = if one.proto == "tcp" { TCP } else { UDP };
        !judge.accepts(one.direction, one.peer.ip(), protocol, one.service())
    });
    Ok(all)
}

/// Ends such connections, and forgets exchanges of UDP packets that the policy in force would refuse. Returns how
/// many connections were cut.
pub fn cut(
    netns: BorrowedFd<'_>,
    spec: &NetworkSpec,
    unwanted: &[Connection],
) -> Result<usize, NetError> {
    let (_, lists) = look(netns, spec)?;
    let judge = Judge::new(spec, &lists);
    inside(netns, || {
        forget(&judge).map_err(|refusal| refusal.during("forget exchanges of UDP packets"))
    })?;
    connections::destroy(netns, unwanted)
}

fn forget(judge: &Judge<'_>) -> Result<(), Refusal> {
    let mut socket = Netlink::netfilter()?;
    let live = Live::read(&mut socket)?;
    for family in FAMILIES {
        let (name, shape) = (flow_set(family), Shape::Flow(family));
        let name = live.name_of(&name).to_owned();
        // In a flow the remote port comes first, then the own one.
        let over = |key: &Key| {
            !judge.accepts(Direction::Out, key.address, UDP, key.middle)
                && !judge.accepts(Direction::In, key.address, UDP, key.port)
        };
        let found = nftables::elements(&mut socket, &name, shape)?;
        let keys = found.iter().map(|element| element.first).filter(over);
        for key in keys {
            let kind = Kind::Hash;
            let set = Set {
                name: name.clone(),
                shape,
                kind,
                elements: Vec::new(),
            };
            let mut batch = Batch::new(&mut socket);
            batch.delete_elements(&set, &[key]);
            match batch.commit() {
                // It was over by itself.
                Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// What the rules say, for a single packet.
struct Judge<'a> {
    spec: &'a NetworkSpec,
    accepts: Named<'a>,
    rejects: Named<'a>,
}

impl<'a> Judge<'a> {
    fn new(spec: &'a NetworkSpec, lists: &'a Lists) -> Judge<'a> {
        Judge {
            spec,
            accepts: Named::of(spec, List::Accept, &lists.accepts),
            rejects: Named::of(spec, List::Reject, &lists.rejects),
        }
    }

    fn accepts(&self, direction: Direction, peer: IpAddr, protocol: u8, port: u16) -> bool {
        let found = |list: &Named<'_>| list.entry(direction, peer, protocol, port).is_some();
        if found(&self.rejects) {
            return false;
        }
        direction.policy(self.spec).policy == Verdict::Accept || found(&self.accepts)
    }
}

/// What the lists have of names at the moment.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) accepts: BTreeMap<Direction, InForce>,
    pub(super) rejects: BTreeMap<Direction, InForce>,
}

/// What is in the sets that names fill, by the address. Each with its own protocols and ports: a line may have several
/// destinations, and what one of them leads to is nothing to the others.
#[derive(Default)]
pub(super) struct InForce(BTreeMap<IpAddr, Vec<Reached>>);

struct Reached {
    protocols: RangeInclusive<u16>,
    ports: RangeInclusive<u16>,
    /// That of its line.
    comment: String,
}

impl InForce {
    pub(super) fn add(&mut self, shape: Shape, element: &ReadElement) {
        let (first, last) = (&element.first, &element.last);
        let (protocols, ports) = match shape {
            Shape::Address(_) => (0..=u16::MAX, 0..=u16::MAX),
            _ => (first.middle..=last.middle, first.port..=last.port),
        };
        self.0.entry(first.address).or_default().push(Reached {
            protocols,
            ports,
            comment: element.comment.clone(),
        });
    }

    /// The comments of those that are for such a packet.
    fn lines(&self, peer: IpAddr, protocol: u8, port: u16) -> Vec<&str> {
        let known = self.0.get(&peer).into_iter().flatten();
        let fits = |one: &&Reached| {
            one.protocols.contains(&u16::from(protocol)) && one.ports.contains(&port)
        };
        known.filter(fits).map(|one| one.comment.as_str()).collect()
    }
}

/// The lists of one kind, with the addresses that names have at the moment.
pub(super) struct Named<'a> {
    /// First those of `out`.
    entries: Vec<(Direction, &'a Entry)>,
    in_force: &'a BTreeMap<Direction, InForce>,
}

impl<'a> Named<'a> {
    /// `in_force` is of the same lists.
    pub(super) fn of(
        spec: &'a NetworkSpec,
        list: List,
        in_force: &'a BTreeMap<Direction, InForce>,
    ) -> Named<'a> {
        let entries = DIRECTIONS.into_iter().flat_map(|direction| {
            let entries = list.entries(direction.policy(spec)).iter();
            entries.map(move |entry| (direction, entry))
        });
        Named {
            entries: entries.collect(),
            in_force,
        }
    }

    fn entry(
        &self,
        direction: Direction,
        peer: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<&'a Entry> {
        let in_force = self.in_force.get(&direction);
        let lines = in_force.map_or_else(Vec::new, |known| known.lines(peer, protocol, port));
        let mut entries = self.entries.iter().filter(|(of, _)| *of == direction);
        let found = entries.find(|(_, entry)| match &entry.peer {
            Peer::Net(net) => net.contains(&peer) && serves(entry, protocol, port),
            _ => lines.contains(&shown_comment(&entry.name)),
        });
        found.map(|(_, entry)| *entry)
    }

    /// The entry that names what was refused.
    pub(super) fn refused(&self, one: &Refused) -> Option<&'a Entry> {
        let protocol = match one.proto.as_str() {
            "tcp" => TCP,
            "udp" => UDP,
            "icmp" => ICMP,
            "icmpv6" => ICMP6,
            number => number.parse().ok()?,
        };
        self.entry(one.direction, one.dst, protocol, one.port)
    }
}

/// Whether protocol and port are those of the entry.
fn serves(entry: &Entry, protocol: u8, port: u16) -> bool {
    let protocol = match entry.protocol {
        None => entry.ports.is_empty() || matches!(protocol, TCP | UDP),
        Some(Protocol::Tcp) => protocol == TCP,
        Some(Protocol::Udp) => protocol == UDP,
        Some(Protocol::Icmp) => matches!(protocol, ICMP | ICMP6),
    };
    let mut ports = entry.ports.iter();
    let port =
        entry.ports.is_empty() || ports.any(|range| (range.first..=range.last).contains(&port));
    protocol && port
}
