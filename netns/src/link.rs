//! Devices, addresses, routes and neighbours: one function per thing, each one rtnetlink(7) request.

mod messages;
mod outer;

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, Netlink, Refusal,
};

use messages::{altname, device, family, neighbour, proxy, route_message, wide_route};
pub use outer::{OuterLink, outer_links, remove_outer};

/// The group of every outer device: the table on the server knows instances by it, whatever their names.
/// (`ip link show group 28003`.)
pub const GROUP: u32 = 0x6d63;

/// An alternative name (`if_link.h`).
const IFLA_ALT_IFNAME: u16 = 53;

/// The flags of a question with one answer.
const ONE_ANSWER: u16 = 0;

/// How often to repeat a dump that was overtaken by a change.
const DUMPS_MOST: u32 = 10;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// rtnetlink of one network namespace.
pub(crate) struct Links(Netlink);

/// A veth pair to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// The name of the server's end.
    pub outer: String,
    /// The name of the sandbox's end.
    pub inner: String,
    /// The MTU of both.
    pub mtu: u32,
    /// The hardware address of the server's end.
    pub outer_mac: [u8; 6],
    /// The hardware address of the sandbox's end.
    pub inner_mac: [u8; 6],
}

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Device {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub group: u32,
    /// It is switched on.
    pub up: bool,
    pub altnames: Vec<String>,
    pub mac: Vec<u8>,
    /// `noop` until the kernel has noticed the carrier: packets are lost so far.
    pub qdisc: String,
    /// The number of the network namespace of its peer, if it has one that is alive enough to have a number.
    pub peer_netns: Option<i32>,
}

/// A route to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: IpNet,
    pub device: u32,
    pub via: Option<IpAddr>,
    pub source: Option<IpAddr>,
}

/// A route to more than one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WideRoute {
    pub device: u32,
    pub destination: IpNet,
    pub by_gateway: bool,
}

/// Who has an address on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The machine itself.
    Machine(u32),
    /// A route for exactly this address over a device.
    Device(u32),
    /// A broadcast, multicast or blackhole route: nobody can have it.
    Unusable(&'static str),
}

impl Links {
    pub fn open() -> Result<Links, Refusal> {
        Ok(Links(Netlink::route()?))
    }

    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        let mut tries = 0;
        loop {
            packet.header.sequence_number = self.0.next_seq();
            packet.finalize();
            let mut bytes = vec![0; packet.buffer_len()];
            packet.serialize(&mut bytes);
            let mut answers = Vec::new();
            let seq = packet.header.sequence_number;
            let each = |kind: u16, payload: &[u8]| {
                let mut header = NetlinkHeader::default();
                header.message_type = kind;
                // An answer that cannot be read is one that says nothing we ask for.
                if let Ok(answer) = RouteNetlinkMessage::deserialize(&header, payload) {
                    answers.push(answer);
                }
            };
            let result = match flags {
                ONE_ANSWER => self.0.ask(&bytes, seq, each),
                _ => self.0.transact(&bytes, seq, each),
            };
            tries += 1;
            match result {
                Ok(()) => return Ok(answers),
                // Something changed during a dump. Where that never ends, the last answer has to do.
                Err(refusal) if refusal.is(Errno::INTR) && tries < DUMPS_MOST => {}
                Err(refusal) if refusal.is(Errno::INTR) => return Ok(answers),
                Err(refusal) => return Err(refusal),
            }
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        self.request(message, flags | NLM_F_ACK).map(|_| ())
    }

    /// The pair, its inner end directly in `netns`. One queue each: half the time of the default.
    /// The outer end gets the number `index`, which must be free. Of a pair with equal numbers, each in its namespace,
    /// the kernel notices the carrier up to a second late; so it should be one that no inner end ever gets.
    pub fn add_veth(
        &mut self,
        veth: &Veth,
        netns: BorrowedFd<'_>,
        index: u32,
    ) -> Result<(), Refusal> {
        let end = |name: &str, mac: &Mac| {
            vec![
                LinkAttribute::IfName(name.into()),
                LinkAttribute::Mtu(veth.mtu),
                LinkAttribute::Address(mac.to_vec()),
                LinkAttribute::NumTxQueues(1),
                LinkAttribute::NumRxQueues(1),
            ]
        };
        let mut peer = LinkMessage::default();
        peer.attributes = end(&veth.inner, &veth.inner_mac);
        peer.attributes
            .push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = end(&veth.outer, &veth.outer_mac);
        message.attributes.push(LinkAttribute::Group(GROUP));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Takes a device away, and its peer with it. Slow (30 ms): only for cleaning up.
    pub fn remove(&mut self, index: u32) -> Result<(), Refusal> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.change(RouteNetlinkMessage::DelLink(message), 0)
    }

    pub fn up(&mut self, index: u32) -> Result<(), Refusal> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// No IPv6 addresses that nobody asked for. Must come before the device is up.
    pub fn no_automatic_addresses(&mut self, index: u32) -> Result<(), Refusal> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![mode],
        )])];
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    pub fn add_altname(&mut self, index: u32, name: &str) -> Result<(), Refusal> {
        self.change(
            RouteNetlinkMessage::NewLinkProp(altname(index, name)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    pub fn remove_altname(&mut self, index: u32, name: &str) -> Result<(), Refusal> {
        self.change(RouteNetlinkMessage::DelLinkProp(altname(index, name)), 0)
    }

    /// By name or alternative name.
    pub fn find(&mut self, name: &str) -> Result<Option<Device>, Refusal> {
        let mut message = LinkMessage::default();
        // IFLA_IFNAME holds 15 characters at most, IFLA_ALT_IFNAME finds both kinds.
        message.attributes = vec![if name.len() < 16 {
            LinkAttribute::IfName(name.into())
        } else {
            // At top level, unlike when it is given or taken away (rtnetlink(7)).
            let text = [name.as_bytes(), &[0]].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, text))
        }];
        self.device(message)
    }

    pub fn get(&mut self, index: u32) -> Result<Option<Device>, Refusal> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.device(message)
    }

    fn device(&mut self, message: LinkMessage) -> Result<Option<Device>, Refusal> {
        match self.request(RouteNetlinkMessage::GetLink(message), ONE_ANSWER) {
            Ok(answers) => Ok(answers.into_iter().find_map(device)),
            Err(refusal) if refusal.is(Errno::NODEV) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Every device of the namespace.
    pub fn all(&mut self) -> Result<Vec<Device>, Refusal> {
        let answers = self.request(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )?;
        Ok(answers.into_iter().filter_map(device).collect())
    }

    /// False when the namespace at the other end is gone or going: the device will vanish by itself.
    pub fn peer_is_alive(&mut self, device: &Device) -> Result<bool, Refusal> {
        let Some(id) = device.peer_netns else {
            return Ok(false);
        };
        let mut message = LinkMessage::default();
        message.header.index = 1;
        message.attributes = vec![LinkAttribute::IfNetnsId(id)];
        match self.request(RouteNetlinkMessage::GetLink(message), ONE_ANSWER) {
            Ok(_) => Ok(true),
            // The number leads to a namespace that can no longer be entered.
            Err(refusal) if refusal.is(Errno::INVAL) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// An address; the network that comes with it gets no route unless it has more than one member.
    pub fn add_address(
        &mut self,
        device: u32,
        net: &IpNet,
        only_this_link: bool,
    ) -> Result<(), Refusal> {
        let mut message = AddressMessage::default();
        message.header.family = family(&net.addr());
        message.header.prefix_len = net.prefix_len();
        message.header.index = device;
        if only_this_link {
            message.header.scope = AddressScope::Link;
        }
        if net.addr().is_ipv6() {
            // Nobody else can have it on a pair of our own: no waiting for duplicate address detection.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![
            AddressAttribute::Address(net.addr()),
            AddressAttribute::Local(net.addr()),
        ];
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// An address of the machine's own on a device, at which it is reached there, and which is no source for anything
    /// else: of scope host; IPv6 has no such scope, there it is deprecated from the start (RFC 6724, 5, rule 3).
    pub fn add_own_address(&mut self, device: u32, address: IpAddr) -> Result<(), Refusal> {
        let mut message = AddressMessage::default();
        message.header.family = family(&address);
        message.header.prefix_len = IpNet::from(address).prefix_len();
        message.header.index = device;
        message.attributes = vec![
            AddressAttribute::Address(address),
            AddressAttribute::Local(address),
        ];
        if address.is_ipv4() {
            message.header.scope = AddressScope::Host;
        } else {
            let mut times = CacheInfo::default();
            (times.ifa_preferred, times.ifa_valid) = (0, u32::MAX);
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
            message.attributes.push(AddressAttribute::CacheInfo(times));
        }
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// The addresses of a device that are good for talking to others.
    pub fn global_addresses(&mut self, device: u32) -> Result<Vec<IpNet>, Refusal> {
        let message = AddressMessage::default();
        let answers = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let mut found = Vec::new();
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(answer) = answer else {
                continue;
            };
            let header = &answer.header;
            if header.index != device || header.scope != AddressScope::Universe {
                continue;
            }
            // On a point-to-point link the local address is not the first one.
            let local = answer.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let other = || {
                answer.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            };
            let address = local.or_else(other);
            found.extend(address.and_then(|a| IpNet::new(a, header.prefix_len).ok()));
        }
        Ok(found)
    }

    /// Moves a device into another network namespace, under a new name.
    pub fn give_away(
        &mut self,
        device: u32,
        name: &str,
        netns: BorrowedFd<'_>,
    ) -> Result<(), Refusal> {
        let mut message = LinkMessage::default();
        message.header.index = device;
        // A device that is up cannot be renamed.
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)?;
        let mut message = LinkMessage::default();
        message.header.index = device;
        message.attributes = vec![
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
            LinkAttribute::IfName(name.into()),
        ];
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// True when the namespace has an IPv4 address that is good for talking to others.
    pub fn has_ipv4(&mut self) -> Result<bool, Refusal> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewAddress(found) => found.header.scope == AddressScope::Universe,
            _ => false,
        }))
    }

    /// A neighbour that is never asked for.
    pub fn add_neighbour(
        &mut self,
        device: u32,
        address: IpAddr,
        mac: &Mac,
    ) -> Result<(), Refusal> {
        let mut message = neighbour(device, address);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The machine answers ARP or NDP for the address on the device. Stays until it is removed.
    pub fn add_proxy(&mut self, device: u32, address: IpAddr) -> Result<(), Refusal> {
        let mut message = neighbour(device, address);
        message.header.flags = NeighbourFlags::Proxy;
        // Survives a loss of carrier (since Linux 5.17).
        message.header.state = NeighbourState::Permanent;
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// No error when there is none.
    pub fn remove_proxy(&mut self, device: u32, address: IpAddr) -> Result<(), Refusal> {
        let mut message = neighbour(device, address);
        message.header.flags = NeighbourFlags::Proxy;
        match self.change(RouteNetlinkMessage::DelNeighbour(message), 0) {
            Err(refusal) if refusal.is(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// What the machine answers for: (device, address).
    pub fn proxies(&mut self) -> Result<Vec<(u32, IpAddr)>, Refusal> {
        let mut found = Vec::new();
        for v6 in [false, true] {
            let any: IpAddr = if v6 {
                [0u16; 8].into()
            } else {
                [0u8; 4].into()
            };
            let mut message = neighbour(0, any);
            message.header.flags = NeighbourFlags::Proxy;
            message.attributes.clear();
            let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
            found.extend(answers.iter().filter_map(proxy));
        }
        Ok(found)
    }

    pub fn add_route(&mut self, route: &Route, replace: bool) -> Result<(), Refusal> {
        let mut message = route_message(&route.destination);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(route.device));
        match route.via {
            Some(gateway) => {
                message.header.scope = RouteScope::Universe;
                message.header.flags = RouteFlags::Onlink;
                message
                    .attributes
                    .push(RouteAttribute::Gateway(gateway.into()));
            }
            None => message.header.scope = RouteScope::Link,
        }
        if let Some(source) = route.source {
            message
                .attributes
                .push(RouteAttribute::PrefSource(source.into()));
        }
        let flags = if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | flags)
    }

    /// Who has `address` here: the entry of the routing table that it meets, if that is for it alone.
    pub fn holder(&mut self, address: IpAddr) -> Result<Option<Holder>, Refusal> {
        let mut message = route_message(&IpNet::from(address));
        message.header.flags = RouteFlags::FibMatch;
        let answers = match self.request(RouteNetlinkMessage::GetRoute(message), ONE_ANSWER) {
            Ok(answers) => answers,
            // No route at all, or one that says so.
            Err(refusal)
                if [Errno::NETUNREACH, Errno::HOSTUNREACH]
                    .iter()
                    .any(|errno| refusal.is(*errno)) =>
            {
                return Ok(None);
            }
            Err(refusal) if refusal.is(Errno::INVAL) => {
                return Ok(Some(Holder::Unusable("a blackhole route")));
            }
            Err(refusal) if refusal.is(Errno::ACCESS) => {
                return Ok(Some(Holder::Unusable("a prohibit route")));
            }
            Err(refusal) => return Err(refusal),
        };
        let full = IpNet::from(address).max_prefix_len();
        Ok(answers.into_iter().find_map(|answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return None;
            };
            let device = route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
            match route.header.kind {
                RouteType::Local => Some(Holder::Machine(device.unwrap_or_default())),
                RouteType::Broadcast => Some(Holder::Unusable("a broadcast address")),
                RouteType::Multicast => Some(Holder::Unusable("a multicast address")),
                RouteType::Anycast => Some(Holder::Unusable("an anycast address")),
                _ if route.header.destination_prefix_length == full => device.map(Holder::Device),
                _ => None,
            }
        }))
    }

    /// Packets to `address` that come in over `device` are for this machine.
    pub fn is_local(&mut self, device: u32, address: IpAddr) -> Result<bool, Refusal> {
        let mut message = route_message(&IpNet::from(address));
        message.header.flags = RouteFlags::FibMatch;
        message.attributes.push(RouteAttribute::Oif(device));
        let answers = match self.request(RouteNetlinkMessage::GetRoute(message), ONE_ANSWER) {
            Ok(answers) => answers,
            // Not yet.
            Err(refusal) if refusal.is(Errno::NETUNREACH) => return Ok(false),
            Err(refusal) => return Err(refusal),
        };
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => route.header.kind == RouteType::Local,
            _ => false,
        }))
    }

    /// The routes of the main table that lead to more than one address, as (device, destination, whether it goes
    /// by way of a gateway). Those of instances are for one address each, so there are few others on any server.
    pub fn wide_routes(&mut self, want: AddressFamily) -> Result<Vec<WideRoute>, Refusal> {
        let mut message = RouteMessage::default();
        message.header.address_family = want;
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        Ok(answers.iter().flat_map(wide_route).collect())
    }
}

/// The prefix of the alternative name that holds the full name of the instance.
pub(crate) const ALTNAME_PREFIX: &str = "metactl-";

impl Device {
    /// In words, for errors: `instance "other" on m-other-3f2a`.
    pub fn described(&self) -> String {
        match self.instance() {
            Some(instance) => format!("instance \"{instance}\" on {}", self.name),
            None => format!("a route over {}", self.name),
        }
    }

    pub fn instance(&self) -> Option<&str> {
        self.altnames
            .iter()
            .find_map(|name| name.strip_prefix(ALTNAME_PREFIX))
    }
}
