//! The only `unsafe` of this crate: packet sockets (packet(7)) and the device of a datagram, for which no safe wrapper is
//! at hand, and a thread that leaves its network namespace.
#![allow(unsafe_code)]

pub(crate) mod datagram;

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The calling thread gets a network namespace of its own, and never comes back.
pub(crate) fn leave_network() -> io::Result<()> {
    // SAFETY: only the network namespace of this thread changes; descriptors and memory stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
    Ok(())
}

/// A socket for whole packets of one protocol on one device, without their Ethernet headers.
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    device: i32,
    /// `ETH_P_ARP`, `ETH_P_IPV6`, in network byte order.
    protocol: u16,
}

impl PacketSocket {
    /// One that also receives what others send of this protocol.
    pub(crate) fn open(device: u32, protocol: u16) -> io::Result<PacketSocket> {
        let socket = PacketSocket::make(device, protocol, protocol)?;
        let address = socket.address([0; 6]);
        // SAFETY: `address` is a complete sockaddr_ll, alive during the call, and its size is given.
        let result = unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(socket)
        }
    }

    /// One that only sends: protocol 0 receives nothing (packet(7)).
    pub(crate) fn sender(device: u32, protocol: u16) -> io::Result<PacketSocket> {
        PacketSocket::make(device, protocol, 0)
    }

    fn make(device: u32, protocol: u16, receives: u16) -> io::Result<PacketSocket> {
        let device = i32::try_from(device).map_err(io::Error::other)?;
        // SAFETY: no pointers; the returned descriptor is checked before it is owned.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
                i32::from(receives.to_be()),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(PacketSocket {
            fd,
            device,
            protocol: protocol.to_be(),
        })
    }

    fn address(&self, mac: [u8; 6]) -> libc::sockaddr_ll {
        // SAFETY: sockaddr_ll is plain data for which all zeros is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.protocol;
        address.sll_ifindex = self.device;
        address.sll_halen = 6;
        for (to, from) in address.sll_addr.iter_mut().zip(mac) {
            *to = from;
        }
        address
    }

    pub(crate) fn send(&self, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
        let address = self.address(to);
        // SAFETY: both buffers are alive during the call and their sizes are given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The next packet and who sent it; none after `timeout`.
    pub(crate) fn receive(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<(usize, [u8; 6])>> {
        let wait = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let ready = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&wait))?;
        if ready == 0 {
            return Ok(None);
        }
        let mut address = self.address([0; 6]);
        let mut length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: both buffers are alive and writable during the call and their sizes are given.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut address).cast(),
                &raw mut length,
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let [a, b, c, d, e, f, ..] = address.sll_addr;
        Ok(Some((received, [a, b, c, d, e, f])))
    }
}
