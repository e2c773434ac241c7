//! Asks the physical network whether somebody has an address already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::NetError;
use crate::link::Links;
use crate::netlink::Refusal;
use crate::sys::PacketSocket;

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Asks on `uplink` who has `address`, and waits up to `timeout` (200 ms is plenty on a local network) for an
/// answer. `Some` is the hardware address of who answered. IPv4: an ARP probe (RFC 5227), IPv6: a solicitation as in
/// duplicate address detection (RFC 4862); neither says that the address is ours. For `new` and `deploy`; never on
/// the way of a start.
pub fn probe_conflict(
    address: IpAddr,
    uplink: &str,
    timeout: Duration,
) -> Result<Option<String>, NetError> {
    let failed = |refusal: Refusal| refusal.during(format!("ask on {uplink} who has {address}"));
    ask(address, uplink, timeout).map_err(failed)
}

fn ask(address: IpAddr, uplink: &str, timeout: Duration) -> Result<Option<String>, Refusal> {
    let device = Links::open()?
        .find(uplink)?
        .ok_or_else(|| Refusal::from(rustix::io::Errno::NODEV))?;
    let Ok(mac) = <[u8; 6]>::try_from(device.mac.as_slice()) else {
        // Not Ethernet: there is nobody to ask.
        return Ok(None);
    };
    let (socket, to, packet) = match address {
        IpAddr::V4(v4) => (
            PacketSocket::open(device.index, ETH_P_ARP)?,
            [0xff; 6],
            arp_probe(mac, v4),
        ),
        IpAddr::V6(v6) => {
            let [.., a, b, c] = v6.octets();
            let socket = PacketSocket::open(device.index, ETH_P_IPV6)?;
            (socket, [0x33, 0x33, 0xff, a, b, c], solicitation(v6))
        }
    };
    socket.send(to, &packet)?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 256];
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Some((length, from)) = socket.receive(&mut buffer, rest)? else {
            return Ok(None);
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let answers = match address {
            IpAddr::V4(v4) => is_arp_of(packet, v4),
            IpAddr::V6(v6) => is_advertisement_of(packet, v6),
        };
        if answers && from != mac {
            return Ok(Some(from.map(|byte| format!("{byte:02x}")).join(":")));
        }
        if rest.is_zero() {
            return Ok(None);
        }
    }
}

/// "Who has `address`?", from nobody.
fn arp_probe(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths 6 and 4, request.
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&[0; 6]);
    packet.extend_from_slice(&address.octets());
    packet
}

/// The sender says that it has `address`, in a reply or in a request of its own.
fn is_arp_of(packet: &[u8], address: Ipv4Addr) -> bool {
    packet.get(..6) == Some(&[0, 1, 8, 0, 6, 4]) && packet.get(14..18) == Some(&address.octets())
}

fn solicitation(address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    let sum = checksum(&Ipv6Addr::UNSPECIFIED, &group, &body).to_be_bytes();
    for (to, from) in body.iter_mut().skip(2).zip(sum) {
        *to = from;
    }
    // Version 6, length, ICMPv6, hop limit 255.
    let mut packet = vec![0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, 255];
    packet.extend_from_slice(&Ipv6Addr::UNSPECIFIED.octets());
    packet.extend_from_slice(&group.octets());
    packet.extend_from_slice(&body);
    packet
}

fn is_advertisement_of(packet: &[u8], address: Ipv6Addr) -> bool {
    packet.get(6) == Some(&ICMPV6)
        && packet.get(7) == Some(&255)
        && packet.get(40) == Some(&NEIGHBOUR_ADVERTISEMENT)
        && packet.get(48..64) == Some(&address.octets())
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
