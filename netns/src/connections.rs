//! The sockets of a sandbox with a peer, and the end of some of them: sock_diag(7), `linux/inet_diag.h`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use serde::Serialize;

use crate::NetError;
use crate::netlink::{HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Netlink, Refusal, inside};
use crate::policy::Direction;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
const UDP: u8 = 17;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `TCP_ESTABLISHED`, `TCP_SYN_SENT`, `TCP_SYN_RECV`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_CLOSE_WAIT`: bits of
/// states in which something can still be sent or received.
const ALIVE: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8;
/// `TCP_ESTABLISHED`, `TCP_SYN_SENT`, `TCP_CLOSE_WAIT`.
const IN_USE: u32 = 1 << 1 | 1 << 2 | 1 << 8;
const LISTEN: u32 = 1 << 10;
/// A UDP socket with a peer.
const CONNECTED: u32 = 1 << 1;
/// Length of `struct inet_diag_sockid`.
const ID: usize = 48;

/// A socket with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Who began it, as far as can be told: in, when something listens on its own port.
    pub direction: Direction,
    /// `tcp` or `udp`.
    pub proto: &'static str,
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The number that `/proc/PID/fd` shows; 0 when no process has it any more.
    pub inode: u32,
    /// What the kernel knows it by: family, protocol and `struct inet_diag_sockid`.
    #[serde(skip)]
    id: (u8, u8, [u8; ID]),
}

impl Connection {
    /// The port by which a policy judges it.
    pub fn service(&self) -> u16 {
        match self.direction {
            Direction::Out => self.peer.port(),
            Direction::In => self.local.port(),
        }
    }
}

/// All sockets of the namespace that have a peer elsewhere.
pub fn list(netns: BorrowedFd<'_>) -> Result<Vec<Connection>, NetError> {
    inside(netns, || {
        let found = Netlink::sock_diag()
            .map_err(Refusal::from)
            .and_then(|mut socket| read(&mut socket, ALIVE));
        found.map_err(|refusal| refusal.during("list the connections of the sandbox"))
    })
}

/// The peers of those that are in use: what the application has closed needs its address no longer. `socket` is one of [`Netlink::sock_diag`] in the namespace.
pub(crate) fn peers(socket: &mut Netlink) -> Result<BTreeSet<IpAddr>, Refusal> {
    let peers = read(socket, IN_USE)?
        .into_iter()
        .map(|found| found.peer.ip());
    Ok(peers.map(|peer| peer.to_canonical()).collect())
}

fn read(socket: &mut Netlink, tcp: u32) -> Result<Vec<Connection>, Refusal> {
    let mut ports = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        dump(socket, family, TCP, LISTEN, |found| {
            ports.insert(found.local.port());
        })?;
    }
    let mut all = Vec::new();
    for (protocol, states) in [(TCP, tcp), (UDP, CONNECTED)] {
        for family in [AF_INET, AF_INET6] {
            dump(socket, family, protocol, states, |mut found| {
                if protocol == TCP && ports.contains(&found.local.port()) {
                    found.direction = Direction::In;
                }
                let near = found.peer.ip().is_loopback() || found.peer.ip() == found.local.ip();
                if !near && !found.peer.ip().is_unspecified() {
                    all.push(found);
                }
            })?;
        }
    }
    Ok(all)
}

/// `struct inet_diag_req_v2` behind a header.
fn request(kind: u16, flags: u16, seq: u32, head: [u8; 8], id: &[u8; ID]) -> Vec<u8> {
    let length = (HEADER + head.len() + ID) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(id);
    bytes
}

fn head(family: u8, protocol: u8, states: u32) -> [u8; 8] {
    let [a, b, c, d] = states.to_ne_bytes();
    [family, protocol, 0, 0, a, b, c, d]
}

fn dump(
    socket: &mut Netlink,
    family: u8,
    protocol: u8,
    states: u32,
    mut each: impl FnMut(Connection),
) -> Result<(), Refusal> {
    let seq = socket.next_seq();
    let head = head(family, protocol, states);
    let bytes = request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, seq, head, &[0; ID]);
    let result = socket.transact(&bytes, seq, |_, payload| {
        if let Some(found) = parse(payload, protocol) {
            each(found);
        }
    });
    match result {
        // A kernel without IPv6 has no such sockets.
        Err(refusal) if refusal.is(Errno::NOENT) => Ok(()),
        // Something changed during the dump: what was seen is good enough.
        Err(refusal) if refusal.is(Errno::INTR) => Ok(()),
        result => result,
    }
}

/// `struct inet_diag_msg`.
fn parse(payload: &[u8], protocol: u8) -> Option<Connection> {
    let family = *payload.first()?;
    let id: [u8; ID] = payload.get(4..4 + ID)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        Some(match family {
            AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(id.get(at..at + 4)?).ok()?).into(),
            _ => {
                let bytes = <[u8; 16]>::try_from(id.get(at..at + 16)?).ok()?;
                IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
            }
        })
    };
    let inode = payload.get(4 + ID + 16..4 + ID + 20)?.try_into().ok()?;
    Some(Connection {
        direction: Direction::Out,
        proto: if protocol == TCP { "tcp" } else { "udp" },
        local: SocketAddr::new(address(4)?, port(0)?),
        peer: SocketAddr::new(address(20)?, port(2)?),
        inode: u32::from_ne_bytes(inode),
        id: (family, protocol, id),
    })
}

/// Ends connections: both ends see a reset. Returns how many were still there. An error when the kernel cannot
/// (`CONFIG_INET_DIAG_DESTROY`).
pub fn destroy(netns: BorrowedFd<'_>, connections: &[Connection]) -> Result<usize, NetError> {
    if connections.is_empty() {
        return Ok(0);
    }
    inside(netns, || {
        let mut socket = Netlink::sock_diag()
            .map_err(Refusal::from)
            .map_err(|refusal| refusal.during("open a socket for connections"))?;
        let mut count = 0;
        for one in connections {
            match destroy_one(&mut socket, one) {
                Ok(()) => count += 1,
                // It ended by itself.
                Err(refusal) if refusal.is(Errno::NOENT) => {}
                Err(refusal) if refusal.is(Errno::OPNOTSUPP) => {
                    return Err(NetError::Unsupported {
                        what: "cut connections (CONFIG_INET_DIAG_DESTROY)".into(),
                        hint: "restart the instance instead".into(),
                    });
                }
                Err(refusal) => {
                    return Err(refusal.during(format!("cut the connection with {}", one.peer)));
                }
            }
        }
        Ok(count)
    })
}

fn destroy_one(socket: &mut Netlink, one: &Connection) -> Result<(), Refusal> {
    let (family, protocol, id) = &one.id;
    let seq = socket.next_seq();
    let head = head(*family, *protocol, u32::MAX);
    let bytes = request(SOCK_DESTROY, NLM_F_ACK, seq, head, id);
    socket.transact(&bytes, seq, |_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_are_none() {
        assert_eq!(parse(&[], TCP), None);
        assert_eq!(parse(&[2; 71], TCP), None);
    }

    #[test]
    fn an_answer_is_a_connection() {
        let mut bytes = vec![0; 72];
        bytes[0] = AF_INET;
        bytes[4..8].copy_from_slice(&[0x9c, 0x40, 0x0c, 0xea]);
        bytes[8..12].copy_from_slice(&[10, 0, 0, 5]);
        bytes[24..28].copy_from_slice(&[10, 0, 0, 9]);
        bytes[68..72].copy_from_slice(&77u32.to_ne_bytes());
        let found = parse(&bytes, TCP).unwrap();
        assert_eq!(found.local, "10.0.0.5:40000".parse().unwrap());
        assert_eq!(found.peer, "10.0.0.9:3306".parse().unwrap());
        assert_eq!((found.inode, found.service()), (77, 3306));
    }
}
