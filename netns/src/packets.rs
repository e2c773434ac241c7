//! The packets by which machines of a network find each other: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const ETH_P_ARP: u16 = 0x0806;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// "All nodes" of the link.
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Of an advertisement: from a router; it replaces what was known.
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// The option "target link-layer address", eight bytes long.
const TARGET_ADDRESS: [u8; 2] = [2, 1];

/// "Who has `wanted`? Tell `sender`." From nobody (0.0.0.0) it is a probe, with both the same an announcement (RFC
/// 5227).
pub(crate) fn arp_request(mac: [u8; 6], sender: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths 6 and 4, request.
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&sender.octets());
    packet.extend_from_slice(&[0; 6]);
    packet.extend_from_slice(&wanted.octets());
    packet
}

/// As in duplicate address detection: from nobody, to those who could have `address`.
pub(crate) fn solicitation(address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    icmp6(Ipv6Addr::UNSPECIFIED, group, body)
}

/// To everybody: `address` is at `mac` now (RFC 4861 section 7.2.6). As the kernel answers for a proxied address: from
/// a router.
pub(crate) fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ROUTER | OVERRIDE, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    body.extend_from_slice(&TARGET_ADDRESS);
    body.extend_from_slice(&mac);
    icmp6(address, EVERYBODY, body)
}

fn icmp6(from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&from, &to, &body).to_be_bytes();
    for (to, from) in body.iter_mut().skip(2).zip(sum) {
        *to = from;
    }
    // Version 6, length, ICMPv6, hop limit 255.
    let mut packet = vec![0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, 255];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&body);
    packet
}

/// Of ICMPv6, RFC 4443 section 2.3.
fn checksum(source: &Ipv6Addr, destination: &Ipv6Addr, body: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(40 + body.len());
    pseudo.extend_from_slice(&source.octets());
    pseudo.extend_from_slice(&destination.octets());
    pseudo.extend_from_slice(&(body.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, ICMPV6]);
    pseudo.extend_from_slice(body);
    let mut sum: u32 = 0;
    for pair in pseudo.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair.first().copied().unwrap_or(0),
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
