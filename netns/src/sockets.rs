//! The live connections of a sandbox: sock_diag(7).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::netlink::{NLM_F_DUMP, NLM_F_REQUEST, Netlink, Refusal};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Where the peer's address is in `struct inet_diag_msg`.
const PEER_AT: usize = 24;
/// Bits of `enum tcp_states`: established (also a connected UDP socket), being connected, half closed by the peer.
const ALIVE: u32 = 1 << 1 | 1 << 2 | 1 << 8;

/// The peers of TCP connections and connected UDP sockets. `socket` is one of [`Netlink::sockets`]. A kernel
/// without the parts for it (`tcp_diag`, `udp_diag`) knows none.
pub(crate) fn peers(socket: &mut Netlink) -> Result<BTreeSet<IpAddr>, Refusal> {
    let mut found = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        for protocol in [libc::IPPROTO_TCP as u8, libc::IPPROTO_UDP as u8] {
            let seq = socket.next_seq();
            let result = socket.transact(&request(family, protocol, seq), seq, |kind, payload| {
                if kind == SOCK_DIAG_BY_FAMILY {
                    found.extend(peer(payload));
                }
            });
            match result {
                Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => {}
                // Something changed during the dump: what was seen is good enough.
                Err(refusal) if refusal.is(rustix::io::Errno::INTR) => {}
                result => result?,
            }
        }
    }
    Ok(found)
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2` about all sockets.
fn request(family: u8, protocol: u8, seq: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend_from_slice(&72u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, protocol, 0, 0]);
    bytes.extend_from_slice(&ALIVE.to_ne_bytes());
    bytes.resize(72, 0);
    bytes
}

fn peer(message: &[u8]) -> Option<IpAddr> {
    let address = message.get(PEER_AT..)?;
    match *message.first()? {
        AF_INET => Some(IpAddr::from(*address.first_chunk::<4>()?)),
        AF_INET6 => Some(IpAddr::from(*address.first_chunk::<16>()?).to_canonical()),
        _ => None,
    }
}
