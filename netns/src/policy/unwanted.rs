//! Open connections that the policy in force would refuse: a policy was tightened while they were there.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use metactl_bundles::network::{Entry, NetworkSpec, Peer, Protocol, Verdict};

use super::live::{EntryStatus, FirewallStatus, Refused, status};
use super::replace::is_guarded;
use super::{DIRECTIONS, Direction, FAMILIES, List, flow_set};
use crate::NetError;
use crate::connections::{self, Connection};
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::{self, Batch, Key, Kind, Set, Shape, change::Live};

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
    let judge = Judge::new(spec, &status(netns, spec)?);
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
    let judge = Judge::new(spec, &status(netns, spec)?);
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
    fn new(spec: &'a NetworkSpec, status: &FirewallStatus) -> Judge<'a> {
        Judge {
            spec,
            accepts: Named::of(spec, List::Accept, &status.entries),
            rejects: Named::of(spec, List::Reject, &status.rejects),
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

/// The lists of one kind, with the addresses that names have at the moment.
pub(super) struct Named<'a> {
    /// First those of `out`.
    entries: Vec<(Direction, &'a Entry, Vec<IpNet>)>,
}

impl<'a> Named<'a> {
    /// `status` is of the same entries.
    pub(super) fn of(spec: &'a NetworkSpec, list: List, status: &[EntryStatus]) -> Named<'a> {
        let entries = DIRECTIONS.map(|direction| list.entries(direction.policy(spec)));
        let known = status.iter().zip(entries.into_iter().flatten());
        let entries = known.map(|(status, entry)| {
            let nets = match &entry.peer {
                Peer::Net(net) => vec![*net],
                // Whatever addresses its name has at the moment.
                _ => status.peers.iter().filter_map(|text| net(text)).collect(),
            };
            (status.direction, entry, nets)
        });
        Named {
            entries: entries.collect(),
        }
    }

    fn entry(
        &self,
        direction: Direction,
        peer: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<&'a Entry> {
        let mut entries = self.entries.iter().filter(|(of, _, _)| *of == direction);
        let found = entries.find(|(_, entry, nets)| {
            let protocol = match entry.protocol {
                None => entry.ports.is_empty() || matches!(protocol, TCP | UDP),
                Some(Protocol::Tcp) => protocol == TCP,
                Some(Protocol::Udp) => protocol == UDP,
                Some(Protocol::Icmp) => matches!(protocol, ICMP | ICMP6),
            };
            let mut ports = entry.ports.iter();
            let port = entry.ports.is_empty()
                || ports.any(|range| (range.first..=range.last).contains(&port));
            protocol && port && nets.iter().any(|net| net.contains(&peer))
        });
        found.map(|(_, entry, _)| *entry)
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

/// A prefix, or an address alone.
fn net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
