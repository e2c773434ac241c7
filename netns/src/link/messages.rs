//! Parts of rtnetlink messages, made and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Device, WideRoute};

/// As [`super::WideRoute`], one for each device; none for a route to one address, or of another table.
pub(super) fn wide_route(answer: &RouteNetlinkMessage) -> Vec<WideRoute> {
    let RouteNetlinkMessage::NewRoute(route) = answer else {
        return Vec::new();
    };
    let header = &route.header;
    let v6 = header.address_family == AddressFamily::Inet6;
    let length = header.destination_prefix_length;
    if header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
        || length == if v6 { 128 } else { 32 }
    {
        return Vec::new();
    }
    let any: IpAddr = match v6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let (mut address, mut by_gateway) = (any, false);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = (*v4).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = (*v6).into(),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                by_gateway = true;
            }
            _ => {}
        }
    }
    let Ok(destination) = IpNet::new(address, length) else {
        return Vec::new();
    };
    let devices = route.attributes.iter().flat_map(route_devices);
    devices
        .map(|device| WideRoute {
            device,
            destination,
            by_gateway,
        })
        .collect()
}

fn route_devices(attribute: &RouteAttribute) -> Vec<u32> {
    match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops
            .iter()
            .map(|hop: &RouteNextHop| hop.interface_index)
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn family(address: &IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

pub(super) fn altname(index: u32, name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::PropList(vec![Prop::AltIfName(name.into())])];
    message
}

pub(super) fn neighbour(device: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(&address);
    message.header.ifindex = device;
    let destination = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    message
}

/// Of a proxy entry: its device and its address.
pub(super) fn proxy(answer: &RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else {
        return None;
    };
    let address = message.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let is_proxy = message.header.flags.contains(NeighbourFlags::Proxy);
    Some((message.header.ifindex, address?)).filter(|_| is_proxy)
}

pub(super) fn route_message(destination: &IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(&destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    if destination.prefix_len() > 0 {
        let address = RouteAddress::from(destination.network());
        message
            .attributes
            .push(RouteAttribute::Destination(address));
    }
    message
}

pub(super) fn device(answer: RouteNetlinkMessage) -> Option<Device> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let mut device = Device {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Device::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::Mtu(mtu) => device.mtu = mtu,
            LinkAttribute::Group(group) => device.group = group,
            LinkAttribute::Qdisc(qdisc) => device.qdisc = qdisc,
            LinkAttribute::Address(mac) => device.mac = mac,
            LinkAttribute::LinkNetNsId(id) => device.peer_netns = (id >= 0).then_some(id),
            LinkAttribute::PropList(props) => {
                device
                    .altnames
                    .extend(props.into_iter().filter_map(|prop| match prop {
                        Prop::AltIfName(name) => Some(name),
                        _ => None,
                    }))
            }
            _ => {}
        }
    }
    Some(device)
}
