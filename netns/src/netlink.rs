//! Synchronous netlink: one request, all of its answers, with the kernel's own words on failure.
//!
//! Message layout and flags: netlink(7), `linux/netlink.h`.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;

use crate::NetError;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A socket's receive buffer; the kernel fills dumps up to this size.
const RECEIVE: usize = 32 * 1024;
/// The kernel answers within the system call; only a bug makes us wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel said no.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Why.
    pub source: io::Error,
    /// Its words, often empty.
    pub detail: String,
    /// Which message of a batch it refused.
    pub seq: u32,
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Refusal {
        Refusal {
            source,
            detail: String::new(),
            seq: 0,
        }
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Refusal {
        Refusal::from(io::Error::from(errno))
    }
}

impl Refusal {
    /// True for this error number.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }

    /// As an error of a request outside a plan.
    pub fn during(self, what: impl Into<String>) -> NetError {
        NetError::Kernel {
            what: what.into(),
            detail: self.detail,
            source: self.source,
        }
    }
}

/// A netlink socket of the network namespace in which the thread was that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    seq: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Links, addresses, routes: rtnetlink(7).
    pub fn route() -> io::Result<Netlink> {
        Netlink::open(NETLINK_ROUTE)
    }

    /// nftables.
    pub fn netfilter() -> io::Result<Netlink> {
        Netlink::open(NETLINK_NETFILTER)
    }

    /// Sockets: sock_diag(7).
    pub fn sock_diag() -> io::Result<Netlink> {
        Netlink::open(NETLINK_SOCK_DIAG)
    }

    fn open(protocol: isize) -> io::Result<Netlink> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both only make errors shorter and clearer.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink {
            socket,
            seq: 0,
            buffer: Vec::with_capacity(RECEIVE),
        })
    }

    /// The number for the next message.
    pub fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    /// Sends `bytes` (one or more whole messages) and hands every answer to `each` as (type, payload), until
    /// message `last` is acknowledged or its dump is complete. The first refusal wins.
    pub fn transact(
        &mut self,
        bytes: &[u8],
        last: u32,
        each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Refusal> {
        self.converse(bytes, last, false, each)
    }

    /// The same for the question `last`, which has one answer or is refused, and asks for no acknowledgement.
    pub fn ask(
        &mut self,
        bytes: &[u8],
        last: u32,
        each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Refusal> {
        self.converse(bytes, last, true, each)
    }

    fn converse(
        &mut self,
        bytes: &[u8],
        last: u32,
        one_answer: bool,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Refusal> {
        // The default send buffer holds 208 KiB; thousands of addresses need more. Needs CAP_NET_ADMIN, as
        // everything here does.
        if bytes.len() > 100_000 {
            sockopt::set_socket_send_buffer_size_force(&self.socket, bytes.len() * 2)?;
        }
        let sent = self.socket.send(bytes, 0)?;
        if sent != bytes.len() {
            return Err(io::Error::other("netlink took only a part of the request").into());
        }
        let mut refusal: Option<Refusal> = None;
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            // After a refusal the kernel may owe nothing more: take what is there.
            let flags = if refusal.is_some() {
                libc::MSG_DONTWAIT
            } else {
                0
            };
            match self.socket.recv(&mut self.buffer, flags) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(refusal.unwrap_or_else(|| error.into())),
            }
            let mut finished = false;
            for message in Messages(&self.buffer) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0 && message.kind != NLMSG_ERROR;
                match message.kind {
                    NLMSG_ERROR => {
                        if let Some(found) = message.refusal() {
                            refusal.get_or_insert(found);
                        }
                        finished |= message.seq == last;
                    }
                    NLMSG_DONE => {
                        if let Some(found) = message.done() {
                            refusal.get_or_insert(found);
                        }
                        finished |= message.seq == last;
                    }
                    kind => {
                        each(kind, message.payload);
                        finished |= one_answer && message.seq == last;
                    }
                }
            }
            if finished {
                return match refusal {
                    Some(refusal) => Err(refusal),
                    None if interrupted => Err(rustix::io::Errno::INTR.into()),
                    None => Ok(()),
                };
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// None for an acknowledgement.
    fn refusal(&self) -> Option<Refusal> {
        let code = i32_at(self.payload, 0).unwrap_or(-libc::EBADMSG);
        if code == 0 {
            return None;
        }
        let mut detail = String::new();
        if self.flags & NLM_F_ACK_TLVS != 0 {
            let rest = self.payload.get(4 + HEADER..).unwrap_or_default();
            for (kind, value) in attributes(rest) {
                if kind == NLMSGERR_ATTR_MSG {
                    detail = string(value);
                }
            }
        }
        Some(Refusal {
            source: io::Error::from_raw_os_error(code.saturating_neg()),
            detail,
            seq: self.seq,
        })
    }

    /// The end of a dump carries an error number too.
    fn done(&self) -> Option<Refusal> {
        let code = i32_at(self.payload, 0).unwrap_or(0);
        let source = io::Error::from_raw_os_error(code.saturating_neg());
        (code < 0).then(|| Refusal {
            source,
            detail: String::new(),
            seq: self.seq,
        })
    }
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            seq: u32_at(bytes, 8)?,
            payload,
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in `bytes` as (type without flags, value).
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A string attribute, with or without its final NUL.
pub(crate) fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Runs `work` on a thread of its own inside the network namespace `netns`. The calling thread never moves, so
/// nothing can be left in the wrong namespace, whatever fails. What `work` opens belongs to that namespace.
pub(crate) fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, NetError> + Send,
) -> Result<T, NetError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into());
        let running = thread
            .spawn_scoped(scope, move || {
                rustix::thread::move_into_link_name_space(
                    netns,
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )
                .map_err(|errno| Refusal::from(errno).during("enter the network namespace"))?;
                work()
            })
            .map_err(|error| Refusal::from(error).during("start a thread"))?;
        running.join().unwrap_or_else(|_| {
            Err(Refusal::from(io::Error::other("it panicked"))
                .during("finish the work in the network namespace"))
        })
    })
}

/// Calls `open` with the calling thread inside `netns`, and brings it back to `home`: 5 us, where a thread of its
/// own takes 50. For what opens a socket and nothing else. Who cannot come back must not go on: it would do the
/// server's work in a sandbox.
pub(crate) fn visit<T>(
    netns: BorrowedFd<'_>,
    home: BorrowedFd<'_>,
    open: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(netns, kind)?;
    let opened = open();
    if rustix::thread::move_into_link_name_space(home, kind).is_err() {
        std::process::abort();
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_messages_end_the_iteration() {
        for bytes in [
            &[][..],
            &[1, 2, 3],
            &[255; 15],
            &[8, 0, 0, 0, 0, 0, 0, 0],
            &[200; 16],
        ] {
            assert_eq!(Messages(bytes).count(), 0, "{bytes:?}");
        }
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(
            attributes(&[5, 0, 1, 0x80, 7]).collect::<Vec<_>>(),
            [(1, &[7u8][..])]
        );
    }
}
