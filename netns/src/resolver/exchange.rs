//! One question to one name server, by datagram or connection, without waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// A question under way. Every one has a socket of its own: the system chooses another port each time, and lets nothing
/// in but what comes from the address and port that were asked.
pub(super) struct Exchange {
    id: u16,
    transport: Transport,
}

enum Transport {
    Datagram(UdpSocket),
    Stream {
        stream: TcpStream,
        output: Vec<u8>,
        sent: usize,
        input: Vec<u8>,
    },
}

impl Exchange {
    /// Sends `message`, whose number is `id`.
    pub fn datagram(server: SocketAddr, id: u16, message: &[u8]) -> io::Result<Exchange> {
        let socket = UdpSocket::from(open(server, SocketType::DGRAM)?);
        socket.send(message)?;
        Ok(Exchange {
            id,
            transport: Transport::Datagram(socket),
        })
    }

    /// Connects, to send `message` then.
    pub fn stream(server: SocketAddr, id: u16, message: &[u8]) -> io::Result<Exchange> {
        let stream = TcpStream::from(open(server, SocketType::STREAM)?);
        Ok(Exchange {
            id,
            transport: Transport::Stream {
                stream,
                output: framed(message),
                sent: 0,
                input: Vec::new(),
            },
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.transport {
            Transport::Datagram(socket) => socket.as_fd(),
            Transport::Stream { stream, .. } => stream.as_fd(),
        }
    }

    /// Whether it waits until it can write.
    pub fn writes(&self) -> bool {
        match &self.transport {
            Transport::Datagram(_) => false,
            Transport::Stream { output, sent, .. } => *sent < output.len(),
        }
    }

    /// Goes on as far as it can; the answer, when it is there. Of datagrams those with another number are passed over.
    pub fn progress(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        match &mut self.transport {
            Transport::Datagram(socket) => loop {
                let length = match socket.recv(buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                let message = buffer.get(..length).unwrap_or_default();
                if message.get(..2) == Some(&self.id.to_be_bytes()) {
                    return Ok(Some(message.to_vec()));
                }
            },
            Transport::Stream {
                stream,
                output,
                sent,
                input,
            } => {
                while let Some(rest) = output.get(*sent..).filter(|rest| !rest.is_empty()) {
                    match stream.write(rest) {
                        Ok(length) => *sent += length,
                        Err(error) if waits(&error) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                loop {
                    if let Some(message) = take_framed(input) {
                        return Ok(Some(message));
                    }
                    match stream.read(buffer) {
                        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                        Ok(length) => {
                            input.extend_from_slice(buffer.get(..length).unwrap_or_default())
                        }
                        Err(error) if waits(&error) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// Not yet; for a connection that is being made, also "not connected".
pub(super) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}

fn open(server: SocketAddr, kind: SocketType) -> io::Result<std::os::fd::OwnedFd> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A message with its length in front (RFC 1035, 4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// Takes the first whole message out of what came in.
pub(super) fn take_framed(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*input.first_chunk()?));
    let message = input.get(2..2 + length)?.to_vec();
    input.drain(..2 + length);
    Some(message)
}
