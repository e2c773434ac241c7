//! The steps of an instance with an address.

use std::net::IpAddr;

use ipnet::IpNet;
use metactl_bundles::network::{Mode, NetworkSpec, Peer, Published};

use super::{
    GATEWAY4, GATEWAY6, INNER, INNER_MAC, LINK_LOCAL4, LinkIds, Listed, NetPlan, OUTER_MAC,
    RESOLVER6, ServerEffect, Side, Step, Veth, pool_gateway,
};
use crate::announce;
use crate::facts::HostFacts;
use crate::link::ALTNAME_PREFIX;

/// The MTU where there is no uplink to take it from.
const DEFAULT_MTU: u32 = 1500;

pub(super) struct Maker<'a> {
    pub(super) spec: &'a NetworkSpec,
    pub(super) facts: &'a HostFacts,
    pub(super) outer: String,
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
    pub(super) fn server(&self, plan: &mut NetPlan) {
        let mut sysctl = |key: String, value: &str| {
            plan.steps.push(Step::Server(ServerEffect::Sysctl {
                key,
                value: value.into(),
            }));
        };
        let uplinks = || self.facts.uplinks.iter().map(|uplink| uplink.name.as_str());
        let able = self
            .facts
            .uplinks
            .iter()
            .filter(|uplink| !uplink.without_ipv6);
        let uplinks6 = able.map(|uplink| uplink.name.as_str());
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
        for device in uplinks6.filter(|_| self.has(true)) {
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
        let pools = [(false, self.spec.pool), (true, self.spec.pool6)];
        for (v6, pool) in pools.into_iter().filter(|_| self.spec.mode == Mode::Nat) {
            if let Some(pool) = pool.filter(|_| self.has(v6)) {
                effect(ServerEffect::Masquerade(pool.trunc()));
            }
        }
        for (source, destination) in self.link_local() {
            effect(ServerEffect::LinkLocal {
                source,
                destination,
            });
        }
        if self.spec.apart {
            for source in self.spec.addresses.iter().copied() {
                effect(ServerEffect::Apart {
                    source,
                    listed: self.listed(source),
                });
            }
        }
        for v6 in [false, true] {
            let own = &self.spec.addresses;
            let Some(address) = own.iter().find(|address| address.is_ipv6() == v6) else {
                continue;
            };
            let fits = |port: &&Published| port.address.is_none_or(|at| at.is_ipv6() == v6);
            for port in self.spec.publish.iter().filter(fits) {
                effect(ServerEffect::Publish {
                    port: *port,
                    address: *address,
                });
            }
        }
        for address in self
            .spec
            .addresses
            .iter()
            .filter(|_| self.spec.mode == Mode::Routed)
        {
            for uplink in self.facts.towards(*address) {
                effect(ServerEffect::Proxy {
                    address: *address,
                    device: uplink.name.clone(),
                });
            }
        }
    }

    /// What the accept list names by address, of the family of `source`.
    fn listed(&self, source: IpAddr) -> Vec<Listed> {
        let mut found = Vec::new();
        for entry in &self.spec.out.accept {
            let Peer::Net(net) = entry.peer else { continue };
            if net.addr().is_ipv4() != source.is_ipv4() {
                continue;
            }
            let all = entry.ports.is_empty().then_some(None);
            let ports = entry.ports.iter().copied().map(Some);
            found.extend(ports.chain(all).map(|ports| Listed {
                net,
                protocol: entry.protocol,
                ports,
            }));
        }
        found
    }

    /// The link-local destinations that the accept list names, from each address. IPv6 ones are never forwarded.
    fn link_local(&self) -> Vec<(IpAddr, IpNet)> {
        let listed = self
            .spec
            .out
            .accept
            .iter()
            .filter_map(|entry| match entry.peer {
                Peer::Net(net) if LINK_LOCAL4.contains(&net) => Some(net),
                _ => None,
            });
        let from = |net| {
            let sources = self.spec.addresses.iter().filter(|one| one.is_ipv4());
            sources.map(move |source| (*source, net))
        };
        listed.flat_map(from).collect()
    }

    pub(super) fn link(&self, plan: &mut NetPlan, ids: &LinkIds) {
        let steps = &mut plan.steps;
        let device = || self.outer.clone();
        steps.push(Step::Veth(Veth {
            outer: device(),
            inner: INNER.into(),
            mtu: self.facts.mtu(&self.spec.addresses).unwrap_or(DEFAULT_MTU),
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
        if !self.spec.publish.is_empty() && self.has(false) {
            // For connections to a published port by way of 127.0.0.1. The table drops what the instance itself would
            // send there.
            steps.push(Step::Sysctl {
                key: format!("net/ipv4/conf/{}/route_localnet", self.outer),
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
        if self.has(false) && self.server_address() != Some(GATEWAY4.into()) {
            steps.push(Step::Resolver {
                device: device(),
                address: GATEWAY4.into(),
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
            steps.push(Step::Resolver {
                device: device(),
                address: RESOLVER6.into(),
            });
        }
        steps.push(Step::Up(Side::Server, device()));
    }

    pub(super) fn sandbox(&self, plan: &mut NetPlan) {
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

    pub(super) fn to_sandbox(&self, plan: &mut NetPlan) {
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

    pub(super) fn ready(&self, plan: &mut NetPlan) {
        plan.steps.push(Step::Carrier(self.outer.clone()));
        if self.has(true) {
            for address in [GATEWAY6, RESOLVER6] {
                plan.steps.push(Step::InForce {
                    side: Side::Server,
                    device: self.outer.clone(),
                    address: address.into(),
                });
            }
        }
        for address in self
            .spec
            .addresses
            .iter()
            .filter(|address| address.is_ipv6())
        {
            let (side, device, address) = (Side::Sandbox, INNER.into(), *address);
            plan.steps.push(Step::InForce {
                side,
                device,
                address,
            });
        }
    }

    /// Other machines learn where the addresses are now.
    pub(super) fn announce(&self, plan: &mut NetPlan) {
        let announcements = announce::announcements(self.spec, self.facts);
        plan.steps
            .extend(announcements.into_iter().map(Step::Announce));
    }

    pub(super) fn notes(&self, plan: &mut NetPlan) {
        if self.facts.uplinks.is_empty() {
            plan.notes.push(
                "the server has no uplink (no route to any network, no [server] uplink): the instance is reachable from the server only".into(),
            );
        }
        if self.has(true) && !self.facts.force_forwarding {
            plan.notes.push(
                "this kernel forwards IPv6 for all devices or for none (force_forwarding came with Linux 6.17): it is switched on for all, and the table on the server drops what concerns no instance".into(),
            );
        }
    }
}
