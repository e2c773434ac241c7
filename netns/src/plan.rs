//! `network.json` and the facts of the server become a list of steps. Pure: nothing is asked, nothing changed.
//!
//! The steps print as the `ip` and `sysctl` commands that would do the same, each behind the side on which it
//! happens. Those of the server come first ([`Step::Server`]): they outlive the sandbox and are counted by user.
//! The firewall is complete before the device inside goes up.

mod check;
mod make;
mod show;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use metactl_bundles::network::{Mode, NetworkSpec, PortRange, Protocol, Published};
use serde::{Deserialize, Serialize};

use crate::announce::Announcement;
use crate::facts::HostFacts;
pub use crate::link::Veth;
use crate::nftables::Ruleset;
use crate::{NetError, Resolved, policy};

/// The name of the device inside every sandbox.
pub const INNER: &str = "eth0";
/// The gateway inside every sandbox; no machine has this address, a permanent neighbour leads to the server.
pub const GATEWAY4: Ipv4Addr = metactl_bundles::network::RESOLVER;
/// The same for IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Where the resolver answers over IPv6, on the server's end of every link.
pub const RESOLVER6: Ipv6Addr = metactl_bundles::network::RESOLVER6;
/// Link-local addresses of IPv4 (RFC 3927): those of a cloud's metadata are among them.
pub(crate) const LINK_LOCAL4: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(
    Ipv4Addr::new(169, 254, 0, 0),
    16,
));
/// Those of IPv6 (RFC 4291).
pub(crate) const LINK_LOCAL6: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    10,
));
/// The hardware address of the server's end; every pair is a network of its own, so all have the same.
pub const OUTER_MAC: [u8; 6] = [0x02, 0x6d, 0x63, 0, 0, 1];
/// The hardware address of the sandbox's end.
pub const INNER_MAC: [u8; 6] = [0x02, 0x6d, 0x63, 0, 0, 2];

/// A device name holds 15 characters.
const NAME_MOST: usize = 15;

/// What makes the devices of this start different from those of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkIds {
    /// One to four letters or digits; the outer device is `m-<instance>-<generation>`. A new one for every
    /// start: a dying namespace frees the name of its device only milliseconds later.
    pub generation: String,
    /// The process id of the sandbox's first process, if known: the outer device is also called `pid<PID>`.
    pub pid: Option<u32>,
}

impl LinkIds {
    /// A random generation.
    pub fn fresh(pid: Option<u32>) -> LinkIds {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let seed = random();
        let digit = |n: u32| {
            DIGITS
                .get((seed >> (5 * n)) as usize % DIGITS.len())
                .map(|digit| char::from(*digit))
        };
        LinkIds {
            generation: (0..4).filter_map(digit).collect(),
            pid,
        }
    }
}

/// Seeded by the system through the standard library's hasher; nothing secret is at stake.
pub(crate) fn random() -> u32 {
    std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0u8) as u32
}

/// The complete list of steps, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetPlan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What the reader of the plan should know (no uplink, ...).
    pub notes: Vec<String>,
}

/// Where a step happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the server's network namespace.
    Server,
    /// In the sandbox's.
    Sandbox,
}

/// One step. Those of side [`Side::Server`] on the outer device vanish with it, and it vanishes with the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Something on the server that outlives the sandbox; counted by user, see [`crate::server`].
    Server(ServerEffect),
    /// Nobody on this server has the address.
    Free(IpAddr),
    /// The firewall of the sandbox, in one transaction.
    Policy {
        /// What it says, in one line.
        summary: String,
        /// The table, printable in nft(8) syntax.
        ruleset: Box<Ruleset>,
    },
    /// The sandbox's own loopback device goes up.
    Loopback,
    /// The pair of devices.
    Veth(Veth),
    /// Another name for the outer device. If somebody has it already, that is reported and nothing more.
    Altname {
        /// The outer device.
        device: String,
        /// The other name.
        name: String,
    },
    /// A setting of the outer device.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// The value.
        value: String,
    },
    /// No automatic IPv6 addresses on the device.
    NoAutomaticAddresses(Side, String),
    /// An address for the device.
    Address {
        /// Where.
        side: Side,
        /// The device.
        device: String,
        /// The address and the size of its network.
        net: IpNet,
        /// Not used for talking to anybody beyond the device.
        only_this_link: bool,
    },
    /// The outer device has the address where the resolver answers. It is the server's own and never a source for
    /// talking to the sandbox otherwise (IPv4: scope host; IPv6: deprecated from the start).
    Resolver {
        /// The outer device.
        device: String,
        /// [`GATEWAY4`], [`RESOLVER6`].
        address: IpAddr,
    },
    /// The device goes up.
    Up(Side, String),
    /// A permanent neighbour: nothing waits for ARP or NDP.
    Neighbour {
        /// Where.
        side: Side,
        /// The device.
        device: String,
        /// The address of the other end.
        address: IpAddr,
        /// Its hardware address.
        mac: [u8; 6],
    },
    /// A route over the device.
    Route {
        /// Where.
        side: Side,
        /// The device.
        device: String,
        /// The destination; prefix length 0 is the default route.
        destination: IpNet,
        /// The gateway, taken to be on the link.
        via: Option<IpAddr>,
        /// The preferred source address.
        source: Option<IpAddr>,
    },
    /// The outer device has noticed that both ends are up: from here on it loses no packet.
    Carrier(String),
    /// The kernel has taken an IPv6 address into use, which it does a little later.
    InForce {
        /// Where.
        side: Side,
        /// The device.
        device: String,
        /// The address.
        address: IpAddr,
    },
    /// The network is told where an address is now. [`crate::apply`] leaves that out: whoever looks after the
    /// sandbox does it beside the start ([`crate::announce`]), which would otherwise wait for it.
    Announce(Announcement),
}

/// Something that remains on the server after the sandbox is gone, until [`crate::server::release`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ServerEffect {
    /// A file below `/proc/sys` gets a value; the original is recorded before.
    Sysctl {
        /// Path below `/proc/sys`, `net/ipv4/conf/eth0/forwarding`.
        key: String,
        /// The value.
        value: String,
    },
    /// The static table `inet metactl` exists.
    Table,
    /// That table masquerades the pool.
    Masquerade(IpNet),
    /// That table passes on what goes from the instance to a link-local destination that it lists (the metadata of a
    /// cloud); nothing else gets there.
    LinkLocal {
        /// The address of the instance.
        source: IpAddr,
        /// The destination.
        destination: IpNet,
    },
    /// That table keeps the address from the server itself and from other instances, but for what is listed.
    Apart {
        /// The address of who is kept apart.
        source: IpAddr,
        /// What it reaches all the same.
        listed: Vec<Listed>,
    },
    /// That table leads a port of the server to a port of an instance.
    Publish {
        /// The port, and the instance's.
        port: Published,
        /// The address of the instance.
        address: IpAddr,
    },
    /// The server answers ARP or NDP for the address on the device (`ip neighbour add proxy`): for this address
    /// alone, where the `proxy_arp` switch would answer for everything that the server has a route to.
    Proxy {
        /// The address of the instance.
        address: IpAddr,
        /// The uplink.
        device: String,
    },
}

/// A destination of the server's table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Where.
    pub net: IpNet,
    /// None: TCP and UDP when there are ports, every protocol otherwise.
    pub protocol: Option<Protocol>,
    /// None: every port.
    pub ports: Option<PortRange>,
}

impl NetPlan {
    /// What stays on the server until it is released: record it (or the intent) before applying.
    pub fn server_effects(&self) -> Vec<ServerEffect> {
        let effect = |step: &Step| match step {
            Step::Server(effect) => Some(effect.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(effect).collect()
    }

    /// The name of the outer device, if the plan makes one.
    pub fn outer(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match step {
            Step::Veth(veth) => Some(veth.outer.as_str()),
            _ => None,
        })
    }

    /// The firewall; it prints in nft(8) syntax.
    pub fn ruleset(&self) -> Option<&Ruleset> {
        self.steps.iter().find_map(|step| match step {
            Step::Policy { ruleset, .. } => Some(ruleset.as_ref()),
            _ => None,
        })
    }
}

/// Makes the plan. Errors are contradictions in `spec` (an address that cannot be one, no address in `routed`
/// mode, IPv6 on a server without it, an instance name that no device can have).
pub fn plan(
    spec: &NetworkSpec,
    names: &Resolved,
    facts: &HostFacts,
    ids: &LinkIds,
) -> Result<NetPlan, NetError> {
    check::check(spec, facts)?;
    let mut plan = NetPlan {
        steps: Vec::new(),
        notes: Vec::new(),
    };
    match spec.mode {
        Mode::Host => plan
            .notes
            .push("the server's own network: no address, no firewall".into()),
        Mode::None => plan.steps.push(Step::Loopback),
        Mode::Routed | Mode::Nat => {
            let ruleset = Box::new(policy::ruleset(spec, names)?);
            let maker = make::Maker {
                spec,
                facts,
                outer: outer_name(&spec.instance, &ids.generation),
            };
            plan.steps
                .extend(spec.addresses.iter().map(|address| Step::Free(*address)));
            maker.server(&mut plan);
            plan.steps.push(Step::Policy {
                summary: policy::summary(spec, names),
                ruleset,
            });
            plan.steps.push(Step::Loopback);
            maker.link(&mut plan, ids);
            maker.sandbox(&mut plan);
            maker.to_sandbox(&mut plan);
            maker.ready(&mut plan);
            maker.announce(&mut plan);
            maker.notes(&mut plan);
        }
    }
    Ok(plan)
}

/// What is there on the server for an instance that runs, whose outer device is called `outer`: what
/// [`crate::mend`] compares with. Without the pair itself and what is inside.
pub(crate) fn again(spec: &NetworkSpec, facts: &HostFacts, outer: &str) -> NetPlan {
    let mut plan = NetPlan {
        steps: Vec::new(),
        notes: Vec::new(),
    };
    let maker = make::Maker {
        spec,
        facts,
        outer: outer.to_string(),
    };
    let ids = LinkIds {
        generation: String::new(),
        pid: None,
    };
    maker.server(&mut plan);
    maker.link(&mut plan, &ids);
    maker.to_sandbox(&mut plan);
    let made = |step: &Step| matches!(step, Step::Veth(_) | Step::Altname { .. });
    plan.steps.retain(|step| !made(step));
    plan
}

/// `m-<instance>-<generation>`, the instance cut to fit.
fn outer_name(instance: &str, generation: &str) -> String {
    let room = NAME_MOST.saturating_sub(3 + generation.len());
    let short: String = instance
        .chars()
        .map(|c| if c.is_ascii() { c } else { '_' })
        .take(room)
        .collect();
    format!("m-{short}-{generation}")
}

/// The server's own address in a pool: the first one.
pub fn pool_gateway(pool: &IpNet) -> Option<IpAddr> {
    pool.hosts().next()
}
