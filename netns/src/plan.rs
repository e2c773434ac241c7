//! `network.json` and the facts of the server become a list of steps. Pure: nothing is asked, nothing changed.
//!
//! The steps print as the `ip` and `sysctl` commands that would do the same, each behind the side on which it
//! happens. Those of the server come first ([`Step::Server`]): they outlive the sandbox and are counted by user.
//! The firewall is complete before the device inside goes up.

mod show;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use metactl_bundles::network::{FORMAT, Mode, NetworkSpec};
use serde::{Deserialize, Serialize};

use crate::facts::HostFacts;
use crate::link::ALTNAME_PREFIX;
pub use crate::link::Veth;
use crate::nftables::Ruleset;
use crate::{NetError, Resolved, policy};

/// The name of the device inside every sandbox.
pub const INNER: &str = "eth0";
/// The gateway inside every sandbox; no machine has this address, a permanent neighbour leads to the server.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The hardware address of the server's end; every pair is a network of its own, so all have the same.
pub const OUTER_MAC: [u8; 6] = [0x02, 0x6d, 0x63, 0, 0, 1];
/// The hardware address of the sandbox's end.
pub const INNER_MAC: [u8; 6] = [0x02, 0x6d, 0x63, 0, 0, 2];

/// The MTU where there is no uplink to take it from.
const DEFAULT_MTU: u32 = 1500;
/// A device name holds 15 characters.
const NAME_MOST: usize = 15;
/// An alternative name holds 127; the prefix has 8.
const INSTANCE_MOST: usize = 119;

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
    /// The outer device has noticed that both ends are up: from here on no packet is lost.
    Ready(String),
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
    /// The server answers ARP or NDP for the address on the device (`ip neighbour add proxy`): for this address
    /// alone, where the `proxy_arp` switch would answer for everything that the server has a route to.
    Proxy {
        /// The address of the instance.
        address: IpAddr,
        /// The uplink.
        device: String,
    },
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
    check(spec, facts)?;
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
            let maker = Maker {
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
            maker.notes(&mut plan);
        }
    }
    Ok(plan)
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

struct Maker<'a> {
    spec: &'a NetworkSpec,
    facts: &'a HostFacts,
    outer: String,
}

impl Maker<'_> {
    fn has(&self, v6: bool) -> bool {
        self.spec
            .addresses
            .iter()
            .any(|address| address.is_ipv6() == v6)
    }

    fn gateway(&self, address: &IpAddr) -> IpAddr {
        if address.is_ipv6() {
            GATEWAY6.into()
        } else {
            GATEWAY4.into()
        }
    }

    /// The server's address towards IPv4 instances, where it is not simply one of its others.
    fn server_address(&self) -> Option<IpAddr> {
        match self
            .spec
            .pool
            .as_ref()
            .filter(|_| self.spec.mode == Mode::Nat)
        {
            Some(pool) => pool_gateway(pool),
            None if !self.facts.has_ipv4 => Some(GATEWAY4.into()),
            None => None,
        }
    }

    /// What is shared on the server.
    fn server(&self, plan: &mut NetPlan) {
        let mut sysctl = |key: String, value: &str| {
            plan.steps.push(Step::Server(ServerEffect::Sysctl {
                key,
                value: value.into(),
            }));
        };
        let uplinks = || self.facts.uplinks.iter().map(|uplink| uplink.name.as_str());
        if self.has(true) {
            // Before forwarding: switching that on throws learned default routes away.
            for device in &self.facts.accept_ra {
                sysctl(format!("net/ipv6/conf/{device}/accept_ra"), "2");
            }
        }
        for device in uplinks().filter(|_| self.has(false)) {
            sysctl(format!("net/ipv4/conf/{device}/forwarding"), "1");
            sysctl(format!("net/ipv4/neigh/{device}/proxy_delay"), "0");
        }
        for device in uplinks().filter(|_| self.has(true)) {
            // Answering for others needs `forwarding`, sending on needs `force_forwarding`.
            sysctl(format!("net/ipv6/conf/{device}/forwarding"), "1");
            if self.facts.force_forwarding {
                sysctl(format!("net/ipv6/conf/{device}/force_forwarding"), "1");
            }
            sysctl(format!("net/ipv6/conf/{device}/proxy_ndp"), "1");
            sysctl(format!("net/ipv6/neigh/{device}/proxy_delay"), "0");
        }
        if self.has(true) && !self.facts.force_forwarding {
            sysctl("net/ipv6/conf/all/forwarding".into(), "1");
        }
        let mut effect = |effect| plan.steps.push(Step::Server(effect));
        effect(ServerEffect::Table);
        if let (Mode::Nat, Some(pool)) = (self.spec.mode, self.spec.pool) {
            effect(ServerEffect::Masquerade(pool.trunc()));
        }
        for address in self
            .spec
            .addresses
            .iter()
            .filter(|_| self.spec.mode == Mode::Routed)
        {
            for device in uplinks() {
                effect(ServerEffect::Proxy {
                    address: *address,
                    device: device.into(),
                });
            }
        }
    }

    fn link(&self, plan: &mut NetPlan, ids: &LinkIds) {
        let steps = &mut plan.steps;
        let device = || self.outer.clone();
        steps.push(Step::Veth(Veth {
            outer: device(),
            inner: INNER.into(),
            mtu: self
                .facts
                .uplinks
                .iter()
                .map(|uplink| uplink.mtu)
                .min()
                .unwrap_or(DEFAULT_MTU),
            outer_mac: OUTER_MAC,
            inner_mac: INNER_MAC,
        }));
        if let Some(pid) = ids.pid {
            steps.push(Step::Altname {
                device: device(),
                name: format!("pid{pid}"),
            });
        }
        let name = format!("{ALTNAME_PREFIX}{}", self.spec.instance);
        steps.push(Step::Altname {
            device: device(),
            name,
        });
        if self.facts.ipv6 {
            steps.push(Step::NoAutomaticAddresses(Side::Server, device()));
        }
        if self.has(false) {
            steps.push(Step::Sysctl {
                key: format!("net/ipv4/conf/{}/forwarding", self.outer),
                value: "1".into(),
            });
        }
        if self.has(true) && self.facts.force_forwarding {
            let key = format!("net/ipv6/conf/{}/force_forwarding", self.outer);
            steps.push(Step::Sysctl {
                key,
                value: "1".into(),
            });
        }
        if let Some(address) = self.server_address().filter(|_| self.has(false)) {
            let net = IpNet::from(address);
            steps.push(Step::Address {
                side: Side::Server,
                device: device(),
                net,
                only_this_link: true,
            });
        }
        if self.has(true) {
            // A source address for a server that has no other.
            let net = IpNet::V6(ipnet::Ipv6Net::new_assert(GATEWAY6, 64));
            steps.push(Step::Address {
                side: Side::Server,
                device: device(),
                net,
                only_this_link: true,
            });
        }
        steps.push(Step::Up(Side::Server, device()));
    }

    fn sandbox(&self, plan: &mut NetPlan) {
        let (side, steps) = (Side::Sandbox, &mut plan.steps);
        if self.facts.ipv6 {
            steps.push(Step::NoAutomaticAddresses(side, INNER.into()));
        }
        for address in &self.spec.addresses {
            let net = IpNet::from(*address);
            steps.push(Step::Address {
                side,
                device: INNER.into(),
                net,
                only_this_link: false,
            });
        }
        steps.push(Step::Up(side, INNER.into()));
        for v6 in [false, true] {
            // The first address is the one that others see.
            let Some(source) = self
                .spec
                .addresses
                .iter()
                .find(|address| address.is_ipv6() == v6)
            else {
                continue;
            };
            let gateway = self.gateway(source);
            steps.push(Step::Neighbour {
                side,
                device: INNER.into(),
                address: gateway,
                mac: OUTER_MAC,
            });
            let destination = if v6 {
                IpNet::V6(ipnet::Ipv6Net::default())
            } else {
                IpNet::V4(ipnet::Ipv4Net::default())
            };
            let (via, source) = (Some(gateway), Some(*source));
            steps.push(Step::Route {
                side,
                device: INNER.into(),
                destination,
                via,
                source,
            });
        }
    }

    fn to_sandbox(&self, plan: &mut NetPlan) {
        let (side, device) = (Side::Server, || self.outer.clone());
        for address in &self.spec.addresses {
            plan.steps.push(Step::Neighbour {
                side,
                device: device(),
                address: *address,
                mac: INNER_MAC,
            });
            let source = self.server_address().filter(|_| address.is_ipv4());
            let destination = IpNet::from(*address);
            plan.steps.push(Step::Route {
                side,
                device: device(),
                destination,
                via: None,
                source,
            });
        }
    }

    fn ready(&self, plan: &mut NetPlan) {
        plan.steps.push(Step::Ready(self.outer.clone()));
    }

    fn notes(&self, plan: &mut NetPlan) {
        if self.facts.uplinks.is_empty() {
            plan.notes.push(
                "the server has no uplink (no default route, no [server] uplink): the instance is reachable from the server only".into(),
            );
        }
        if self.has(true) && !self.facts.force_forwarding {
            plan.notes.push(
                "this kernel forwards IPv6 for all devices or for none (force_forwarding came with Linux 6.17): it is switched on for all, and the table on the server drops what concerns no instance".into(),
            );
        }
    }
}

fn check(spec: &NetworkSpec, facts: &HostFacts) -> Result<(), NetError> {
    let fail = |reason: String| {
        Err(NetError::Spec {
            instance: spec.instance.clone(),
            reason,
        })
    };
    if spec.format != FORMAT {
        return fail(format!(
            "network.json has format {}, this metactl reads {FORMAT}",
            spec.format
        ));
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%' | '"');
    let name = &spec.instance;
    if name.is_empty() || name.len() > INSTANCE_MOST || name.contains(bad) {
        return fail(format!(
            "no network device can be named after this instance (at most {INSTANCE_MOST} bytes; no space, / : % or quote)"
        ));
    }
    match spec.mode {
        Mode::None | Mode::Host if spec.addresses.is_empty() => return Ok(()),
        Mode::None | Mode::Host => return fail("an address in a mode that has none".into()),
        Mode::Routed | Mode::Nat if spec.addresses.is_empty() => {
            return fail("no address; set [sandbox.net] ip, or network = none".into());
        }
        Mode::Routed | Mode::Nat => {}
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        if spec
            .addresses
            .iter()
            .take(index)
            .any(|other| other == address)
        {
            return fail(format!("address {address} is listed twice"));
        }
        if address.is_ipv6() && !facts.ipv6 {
            return fail(format!(
                "address {address}: IPv6 is missing or switched off on this server"
            ));
        }
        if let Some(why) = unusable(address) {
            return fail(format!(
                "address {address} is {why}; an instance needs an ordinary one"
            ));
        }
    }
    match (spec.mode, &spec.pool) {
        (Mode::Nat, None) => fail("mode nat without a pool".into()),
        (Mode::Nat, Some(pool)) => match spec
            .addresses
            .iter()
            .find(|address| !pool.contains(*address))
        {
            Some(address) => fail(format!("address {address} is not in the pool {pool}")),
            None if pool_gateway(pool).is_some_and(|gateway| spec.addresses.contains(&gateway)) => {
                fail(format!(
                    "the first address of the pool {pool} is the server's own"
                ))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn unusable(address: &IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    match address {
        _ if address.is_unspecified() => Some("the unspecified one"),
        _ if address.is_loopback() => Some("a loopback one"),
        _ if address.is_multicast() => Some("a multicast one"),
        _ if link_local => Some("link-local, broadcast or reserved"),
        _ => None,
    }
}
