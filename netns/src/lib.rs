//! The network of a sandbox on Linux.
//!
//! An instance gets a network namespace of its own with a veth pair, an address of its own (/32, /128), a
//! default route through the server, and a firewall inside the namespace that knows its destinations by name.
//! No bridge, no process for each, no `ip`, `nft` or `iptables` program.
//!
//! Begin reading in [`plan`]: a pure function turns `network.json` ([`metactl_bundles::network`]) and the facts
//! of the server ([`facts`]) into a printable list of steps. [`apply`] carries them out over two netlink sockets.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`facts`] | what the plan needs to know of the server: uplinks, kernel abilities |
//! | [`plan`] | `network.json` + facts -> [`plan::NetPlan`], without touching anything |
//! | [`apply`] | executes a plan; undoes what it did when a step fails |
//! | [`mend`] | puts back what somebody took away while the instance runs |
//! | [`link`] | veth, addresses, routes, neighbours by synchronous rtnetlink; leftovers |
//! | [`policy`] | accept lists as sets and rules; what changes while it runs: names, the policy itself, learning; counters |
//! | [`connections`] | the open connections of a sandbox, and the end of some |
//! | [`nftables`] | the encoder of one nftables transaction |
//! | [`server`] | what all instances share on the server, counted by user, given back by the last one |
//! | [`doctor`] | what on the server would stop it, and the command that mends it |
//! | [`names`] | looks host names up at the start (never on the path of the static runtime) |
//! | [`resolver`] | answers what applications ask for by name, and opens the way: one process for all |
//! | [`announce`] | tells the physical network where an address is now |
//! | [`dns_update`] | registers addresses by name with a name server, signed (lifecycle decides when) |
//! | [`probe`] | asks the physical network whether an address is in use already |
//!
//! This crate may import `bundles` and nothing else of metactl. Only `sys` holds `unsafe`.

#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;

pub mod announce;
pub mod apply;
pub mod connections;
pub mod device;
pub mod dns_update;
pub mod doctor;
mod error;
pub mod facts;
pub mod link;
pub mod mend;
pub mod names;
mod netlink;
pub mod nftables;
mod packets;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod resolver;
pub mod server;
mod sys;

pub use error::NetError;

/// Host names with the addresses they have at the moment. A name that has none is missing or empty: then
/// nothing is accepted for it.
pub type Resolved = BTreeMap<String, Vec<IpAddr>>;
