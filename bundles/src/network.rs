//! The network of an instance as data: what `network.json` holds.
//!
//! Written by [`crate::bundle`], read by the `netns` crate. Nothing in it depends on the moment:
//! names stand as names, their addresses are looked up when the instance is started.

mod parse;
mod publish;
mod rejects;
pub(crate) mod services;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use parse::{EntryError, parse_entry};
pub use publish::parse_publish;
pub use rejects::Rejects;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The format number of `network.json`.
pub const FORMAT: u32 = 1;

/// Where every sandbox with an IPv4 address asks for names: the server's end of its link. No machine
/// has this address.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for one with an IPv6 address: in a network of unique local addresses whose 40 random bits are nobody
/// else's (RFC 4193, 3.2). A link-local address would not do, since it means nothing without its device and not every
/// application can write that down.
pub const RESOLVER6: Ipv6Addr = Ipv6Addr::new(0xfd9b, 0x6be1, 0x3d5a, 0, 0, 0, 0, 0x53);

/// `network.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NetworkSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// The instance; device names are derived from it.
    pub instance: String,
    /// How the instance reaches the network.
    pub mode: Mode,
    /// Its addresses, each on its own (/32, /128). Empty for `none` and `host`.
    pub addresses: Vec<IpAddr>,
    /// In `nat` mode: the pool of IPv4 addresses, which is masqueraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<IpNet>,
    /// In `nat` mode: the pool of IPv6 addresses, if the server has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool6: Option<IpNet>,
    /// In `nat` mode: ports of the server that lead to the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Published>,
    /// The server itself and other instances are outside also where `out` accepts everything else: of them only what it
    /// lists by address is reached. For builds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// What may leave the instance.
    pub out: Policy,
    /// What may enter the instance.
    #[serde(rename = "in")]
    pub inbound: Policy,
}

/// How an instance reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// An address of its own, routed, announced by proxy ARP; no bridge, no translation.
    Routed,
    /// An address of the server's pool, masqueraded outward.
    Nat,
    /// Only its own loopback.
    None,
    /// The server's own network; only when site or local layer grant it.
    Host,
}

/// What happens to a packet that no entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is refused at once: TCP reset, else ICMP administratively prohibited. What a reject list names is refused so
    /// with every policy but [`Verdict::Drop`].
    Reject,
    /// It vanishes.
    Drop,
}

/// One direction of the firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// For everything that no list names.
    pub policy: Verdict,
    /// What passes, in the order of the configuration.
    pub accept: Vec<Entry>,
    /// What is refused whatever the policy and `accept` say, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reject: Vec<Entry>,
}

impl Policy {
    /// A policy that lists nothing.
    pub fn bare(policy: Verdict) -> Policy {
        Policy {
            policy,
            accept: Vec::new(),
            reject: Vec::new(),
        }
    }

    /// Everything passes.
    pub fn is_open(&self) -> bool {
        self.policy == Verdict::Accept && self.reject.is_empty()
    }
}

/// One line of an accept or reject list: `database = mysql.example.org:3306`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    /// The key of the line.
    pub name: String,
    /// Where to (or, inbound, where from).
    pub peer: Peer,
    /// Inclusive ranges of destination ports; empty: every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// None: TCP and UDP when ports are named, every protocol otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

impl Entry {
    /// Whether it names this port (an entry without ports names none).
    pub fn names_port(&self, port: u16) -> bool {
        let covers = |range: &PortRange| range.first <= port && port <= range.last;
        self.ports.iter().any(covers)
    }
}

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// An address (as /32 or /128) or a prefix.
    Net(IpNet),
    /// A host name, followed while the instance runs.
    Host(String),
    /// Every name below this one, however deep (`*.example.org`, here without the star). What
    /// addresses they have is known when the instance asks for one.
    Suffix(String),
}

impl Peer {
    /// The name or names as they are written: `db.example.org`, `*.example.org`. None for an address
    /// or a prefix.
    pub fn written_name(&self) -> Option<Cow<'_, str>> {
        match self {
            Peer::Net(_) => None,
            Peer::Host(name) => Some(Cow::Borrowed(name)),
            Peer::Suffix(suffix) => Some(Cow::Owned(format!("*.{suffix}"))),
        }
    }

    /// Whether `name` (in lower case, without a final dot) is meant by this name, or is one of
    /// these names. Never for an address or a prefix.
    pub fn covers_name(&self, name: &str) -> bool {
        match self {
            Peer::Net(_) => false,
            Peer::Host(host) => host == name,
            Peer::Suffix(suffix) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below `first`.
    pub last: u16,
}

/// A port of the server that leads to a port of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Published {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address of the server; none: every one that an address of the instance can stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The server's.
    pub port: u16,
    /// In the instance.
    pub inside: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

impl NetworkSpec {
    /// The host names that the policy needs addresses for, each once, sorted.
    pub fn host_names(&self) -> Vec<&str> {
        let lists = [&self.out, &self.inbound];
        let entries = lists
            .into_iter()
            .flat_map(|policy| policy.accept.iter().chain(&policy.reject));
        let mut names: Vec<&str> = entries
            .filter_map(|e| match &e.peer {
                Peer::Host(name) => Some(name.as_str()),
                Peer::Net(_) | Peer::Suffix(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
