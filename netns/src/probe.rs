//! Asks the physical network whether somebody has an address already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::NetError;
use crate::link::Links;
use crate::netlink::Refusal;
use crate::packets::{
    ETH_P_ARP, ETH_P_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, arp_request,
    solicitation,
};
use crate::sys::PacketSocket;

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
            arp_request(mac, Ipv4Addr::UNSPECIFIED, v4),
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
            IpAddr::V6(v6) => is_claim_of(packet, v6),
        };
        if answers && from != mac {
            return Ok(Some(from.map(|byte| format!("{byte:02x}")).join(":")));
        }
        if rest.is_zero() {
            return Ok(None);
        }
    }
}

/// The sender says that it has `address`, in a reply or in a request of its own.
fn is_arp_of(packet: &[u8], address: Ipv4Addr) -> bool {
    packet.get(..6) == Some(&[0, 1, 8, 0, 6, 4]) && packet.get(14..18) == Some(&address.octets())
}

/// The sender says that it has `address`, or is about to take it (RFC 4862 section 5.4.3).
fn is_claim_of(packet: &[u8], address: Ipv6Addr) -> bool {
    let from_nobody = packet.get(8..24) == Some(&Ipv6Addr::UNSPECIFIED.octets());
    packet.get(6) == Some(&ICMPV6)
        && packet.get(7) == Some(&255)
        && packet.get(48..64) == Some(&address.octets())
        && match packet.get(40) {
            Some(&NEIGHBOUR_ADVERTISEMENT) => true,
            Some(&NEIGHBOUR_SOLICITATION) => from_nobody,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::advertisement;

    #[test]
    fn who_has_or_takes_an_address_claims_it() {
        let (ours, other) = (
            "2001:db8::5".parse().unwrap(),
            "2001:db8::6".parse().unwrap(),
        );
        assert!(is_claim_of(&advertisement([2; 6], ours), ours));
        assert!(!is_claim_of(&advertisement([2; 6], other), ours));
        assert!(is_claim_of(&solicitation(ours), ours));
        // Who only looks for it has an address of its own.
        let mut asked = solicitation(ours);
        asked[23] = 9;
        assert!(!is_claim_of(&asked, ours));
        let arp = arp_request([2; 6], [10, 0, 0, 5].into(), [10, 0, 0, 5].into());
        assert!(is_arp_of(&arp, [10, 0, 0, 5].into()) && !is_arp_of(&arp, [10, 0, 0, 6].into()));
        for length in 0..40 {
            assert!(!is_claim_of(&vec![58; length], ours));
        }
    }
}
