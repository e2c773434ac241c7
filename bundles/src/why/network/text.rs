//! Destinations as they are written.

use ipnet::IpNet;

use crate::network::{Entry, Peer, PortRange, Protocol};

/// A destination as it is written in a list.
pub fn text_of(entry: &Entry) -> String {
    let mut text = match &entry.peer {
        Peer::Host(name) => name.clone(),
        Peer::Suffix(suffix) => format!("*.{suffix}"),
        Peer::Net(net @ IpNet::V6(_)) if !entry.ports.is_empty() => format!("[{}]", short(net)),
        Peer::Net(net) => short(net),
    };
    if !entry.ports.is_empty() {
        text.push_str(&format!(":{}", ports_text(&entry.ports)));
    }
    if let Some(protocol) = entry.protocol {
        text.push_str(&format!("/{}", protocol_text(protocol)));
    }
    text
}

pub(super) fn ports_text(ports: &[PortRange]) -> String {
    let one = |range: &PortRange| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

pub(super) fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

/// A single address without its prefix length.
pub(super) fn short(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
