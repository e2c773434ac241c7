//! Parts of rtnetlink messages, made and read.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteNextHop};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Device;

pub(super) fn route_devices(attribute: &RouteAttribute) -> Vec<u32> {
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
