//! The firewall inside the sandbox.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use metactl_bundles::network::NetworkSpec;
use serde::Serialize;

use crate::{NetError, Resolved};

/// Which way a packet goes, seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out of the instance.
    Out,
    /// Into the instance.
    In,
}

/// What the firewall of an instance has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallStatus {
    /// One per line of the accept lists, in their order; first those of `out`.
    pub entries: Vec<EntryStatus>,
    /// What was refused within the last hour, the most frequent first; at most 1024 per family and direction.
    pub refused: Vec<Refused>,
}

/// One line of an accept list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryStatus {
    /// The list it stands in.
    pub direction: Direction,
    /// The key of the line.
    pub name: String,
    /// The addresses and prefixes that are in the kernel at the moment, sorted.
    pub peers: Vec<String>,
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
    /// `tcp`, `udp`, or the number of the protocol.
    pub proto: String,
    /// The port; 0 for protocols without.
    pub port: u16,
    /// How many packets (for TCP: attempts).
    pub count: u64,
    /// Seconds since the last one.
    pub seconds_ago: u64,
}

/// Adds the addresses of `names` to the live sets of the namespace. Nothing is removed or replaced, counters and
/// open connections stay. Returns how many addresses were new.
pub fn update_names(
    netns: BorrowedFd<'_>,
    spec: &NetworkSpec,
    names: &Resolved,
) -> Result<usize, NetError> {
    let _ = (netns, spec, names);
    Err(NetError::Unsupported {
        what: "update".into(),
        hint: String::new(),
    })
}

/// Reads counters and refused destinations from inside the namespace.
pub fn status(netns: BorrowedFd<'_>, spec: &NetworkSpec) -> Result<FirewallStatus, NetError> {
    let _ = (netns, spec);
    Err(NetError::Unsupported {
        what: "status".into(),
        hint: String::new(),
    })
}
