//! What the new process and the runtime tell each other over a pair of sockets: small messages of
//! a fixed form, made without allocating.
//!
//! The sandbox's end is close-on-exec. So end of file means that the program runs, if the message
//! [`Message::Executing`] came before it, and that the process died silently, if not.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The longest explanation of the kernel that is passed on.
pub const MAX_DETAIL: usize = 180;

const HEADER: usize = 12;
const MAX_MESSAGE: usize = HEADER + MAX_DETAIL;

/// Which part of a step failed; the error number alone is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The step as a whole.
    Whole = 0,
    /// Opening its source on the host.
    Source = 1,
    /// Opening its target inside the root.
    Target = 2,
    /// Making what is missing inside the root.
    Create = 3,
    /// A parameter of a file system; the detail names it.
    Parameter = 4,
    /// Mounting something on the target.
    Attach = 5,
    /// Changing attributes.
    Attributes = 6,
    /// What was found is not what it should be.
    Verify = 7,
    /// The file system as such.
    Filesystem = 8,
}

impl Part {
    const ALL: [Part; 9] = [
        Part::Whole,
        Part::Source,
        Part::Target,
        Part::Create,
        Part::Parameter,
        Part::Attach,
        Part::Attributes,
        Part::Verify,
        Part::Filesystem,
    ];

    /// In words, to be put after the step; empty for the step as a whole.
    pub fn words(self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Source => "cannot open the source",
            Part::Target => "cannot open the target inside the root",
            Part::Create => "cannot make what is missing inside the root",
            Part::Parameter => "the file system refuses the option",
            Part::Attach => "cannot mount it there",
            Part::Attributes => "cannot set the attributes",
            Part::Verify => "is not what it should be, refused",
            Part::Filesystem => "cannot make the file system",
        }
    }
}

/// A few bytes of explanation.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    bytes: [u8; MAX_DETAIL],
    length: usize,
}

impl Detail {
    /// No explanation.
    pub const NONE: Detail = Detail {
        bytes: [0; MAX_DETAIL],
        length: 0,
    };

    /// As much of `text` as fits.
    pub fn new(text: &[u8]) -> Detail {
        let mut detail = Detail::NONE;
        for (to, from) in detail.bytes.iter_mut().zip(text) {
            *to = *from;
            detail.length += 1;
        }
        detail
    }

    /// The explanation.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Why an operation of the new process failed.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The error number.
    pub errno: Errno,
    /// Which part of the step.
    pub part: Part,
    /// What the kernel said in words.
    pub detail: Detail,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault {
            errno,
            part: Part::Whole,
            detail: Detail::NONE,
        }
    }
}

/// Says which part of a step a failed call belongs to.
pub trait At<T> {
    /// Turns the error number into a [`Fault`] of `part`.
    fn at(self, part: Part) -> Result<T, Fault>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, part: Part) -> Result<T, Fault> {
        self.map_err(|errno| Fault {
            errno,
            part,
            detail: Detail::NONE,
        })
    }
}

/// A message.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // no box in the new process
pub enum Message {
    /// To the runtime: a step failed, the process ends.
    Fault {
        /// Index of the step in the plan.
        step: usize,
        /// Why.
        fault: Fault,
    },
    /// To the runtime: the next thing is the program.
    Executing,
    /// To the runtime: everything is ready for `start`.
    Prepared,
    /// To the runtime: the program runs in another process.
    Child {
        /// Its pid in the pid namespace of the runtime.
        pid: i32,
    },
    /// To the runtime: the other end of the terminal (with a descriptor).
    Console,
    /// To the sandbox: a namespace to join (with a descriptor).
    Namespace,
    /// To the sandbox: go on. To a helper: the next tree, please.
    Go,
    /// To the runtime: the descriptor on which a filter asks.
    Listener {
        /// Its number in the new process.
        fd: i32,
    },
    /// A tree to mount, or the directory that is the root of whoever asks for some (with a
    /// descriptor).
    Tree,
}

impl Message {
    fn encode(&self, buffer: &mut [u8; MAX_MESSAGE]) -> usize {
        let (kind, part, a, b, detail) = match self {
            Message::Fault { step, fault } => {
                let step = u32::try_from(*step).unwrap_or(u32::MAX);
                let errno = fault.errno.raw_os_error();
                (1, fault.part as u8, step, errno, fault.detail)
            }
            Message::Executing => (2, 0, 0, 0, Detail::NONE),
            Message::Prepared => (3, 0, 0, 0, Detail::NONE),
            Message::Child { pid } => (4, 0, 0, *pid, Detail::NONE),
            Message::Console => (5, 0, 0, 0, Detail::NONE),
            Message::Namespace => (6, 0, 0, 0, Detail::NONE),
            Message::Go => (7, 0, 0, 0, Detail::NONE),
            Message::Listener { fd } => (8, 0, 0, *fd, Detail::NONE),
            Message::Tree => (9, 0, 0, 0, Detail::NONE),
        };
        let header = [kind, part, 0, 0]
            .into_iter()
            .chain(a.to_ne_bytes())
            .chain(b.to_ne_bytes());
        let bytes = header.chain(detail.as_bytes().iter().copied());
        let mut length = 0;
        for (to, from) in buffer.iter_mut().zip(bytes) {
            *to = from;
            length += 1;
        }
        length
    }

    /// Takes nothing for granted: when this is read, the sender may have been somebody's.
    fn decode(bytes: &[u8]) -> Option<Message> {
        let (header, detail) = bytes.split_at_checked(HEADER)?;
        let a = u32::from_ne_bytes(header.get(4..8)?.try_into().ok()?);
        let b = i32::from_ne_bytes(header.get(8..12)?.try_into().ok()?);
        Some(match header.first()? {
            1 => Message::Fault {
                step: usize::try_from(a).ok()?,
                fault: Fault {
                    errno: errno(b)?,
                    part: *Part::ALL
                        .iter()
                        .find(|p| Some(&(**p as u8)) == header.get(1))?,
                    detail: Detail::new(detail),
                },
            },
            2 => Message::Executing,
            3 => Message::Prepared,
            4 => Message::Child { pid: b },
            5 => Message::Console,
            6 => Message::Namespace,
            7 => Message::Go,
            8 => Message::Listener { fd: b },
            9 => Message::Tree,
            _ => return None,
        })
    }
}

/// An error number of the kernel's (`Errno` itself does not take others).
fn errno(raw: i32) -> Option<Errno> {
    (1..4096)
        .contains(&raw)
        .then(|| Errno::from_raw_os_error(raw))
}

/// Sends a message. With plain write(2), which every seccomp filter allows.
pub fn send(socket: impl AsFd, message: &Message) -> Result<(), Errno> {
    let mut buffer = [0; MAX_MESSAGE];
    let length = message.encode(&mut buffer);
    let bytes = buffer.get(..length).unwrap_or_default();
    retry_on_intr(|| rustix::io::write(socket.as_fd(), bytes)).map(drop)
}

/// Sends a message from a process that may not be ready for SIGPIPE: the runtime.
pub fn send_quietly(socket: impl AsFd, message: &Message) -> Result<(), Errno> {
    let mut buffer = [0; MAX_MESSAGE];
    let length = message.encode(&mut buffer);
    let bytes = buffer.get(..length).unwrap_or_default();
    retry_on_intr(|| rustix::net::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL)).map(drop)
}

/// Sends a message with a descriptor.
pub fn send_with(socket: impl AsFd, message: &Message, fd: impl AsFd) -> Result<(), Errno> {
    let mut buffer = [0; MAX_MESSAGE];
    let length = message.encode(&mut buffer);
    let bytes = rustix::io::IoSlice::new(buffer.get(..length).unwrap_or_default());
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    retry_on_intr(|| sendmsg(socket.as_fd(), &[bytes], &mut control, SendFlags::NOSIGNAL)).map(drop)
}

/// Waits for the next message; `None` is end of file.
pub fn receive(socket: impl AsFd) -> Result<Option<(Message, Option<OwnedFd>)>, Errno> {
    let mut buffer = [0; MAX_MESSAGE];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [rustix::io::IoSliceMut::new(&mut buffer)];
        match recvmsg(
            socket.as_fd(),
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            // The other side went away with messages of ours unread. The kernel says so once, before
            // it hands out what the other side had sent.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.into_iter().next();
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let bytes = buffer.get(..received.bytes).unwrap_or_default();
    Message::decode(bytes)
        .map(|message| Some((message, fd)))
        .ok_or(Errno::BADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (a, b) = pair();
        let detail = Detail::new(&[b'x'; 500]);
        let fault = Fault {
            errno: Errno::NOENT,
            part: Part::Target,
            detail,
        };
        send(&a, &Message::Fault { step: 7, fault }).unwrap();
        send(&a, &Message::Child { pid: 4242 }).unwrap();
        send_with(
            &a,
            &Message::Console,
            std::fs::File::open("/dev/null").unwrap(),
        )
        .unwrap();
        drop(a);
        let Ok(Some((Message::Fault { step, fault }, None))) = receive(&b) else {
            panic!()
        };
        assert_eq!(
            (step, fault.errno, fault.part),
            (7, Errno::NOENT, Part::Target)
        );
        assert_eq!(fault.detail.as_bytes(), [b'x'; MAX_DETAIL]);
        assert!(matches!(
            receive(&b),
            Ok(Some((Message::Child { pid: 4242 }, None)))
        ));
        assert!(matches!(receive(&b), Ok(Some((Message::Console, Some(_))))));
        assert!(matches!(receive(&b), Ok(None)));
    }

    #[test]
    fn a_last_word_is_heard_also_when_nobody_listened_to_us() {
        let (a, b) = pair();
        send(&b, &Message::Go).unwrap();
        send(&a, &Message::Executing).unwrap();
        drop(a);
        assert!(send_quietly(&b, &Message::Go).is_err());
        assert!(matches!(receive(&b), Ok(Some((Message::Executing, None)))));
        assert!(matches!(receive(&b), Ok(None)));
    }

    #[test]
    fn nonsense_is_refused() {
        let (a, b) = pair();
        rustix::io::write(&a, b"nonsense").unwrap();
        assert!(matches!(receive(&b), Err(Errno::BADMSG)));
        rustix::io::write(&a, &[1, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert!(matches!(receive(&b), Err(Errno::BADMSG)));
    }
}
