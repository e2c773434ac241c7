//! Datagrams with the device that they came in by: IP_PKTINFO (ip(7)), IPV6_PKTINFO (RFC 3542, 6).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks for the device of every datagram.
pub(crate) fn want_device(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option) = match is_v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    // SAFETY: the value is alive during the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as u32,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Room for one control message, aligned as one.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The next datagram: its length, who sent it, and the number of the device. A longer one than `buffer` is cut.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, u32)> {
    // SAFETY: sockaddr_storage is plain data for which all zeros is a valid value.
    let mut from: libc::sockaddr_storage = unsafe { zeroed() };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: msghdr is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` leads to a buffer that is alive and writable during the call, with its size.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let sender = sender(&from).ok_or(io::ErrorKind::InvalidData)?;
    Ok((received, sender, device(&message)))
}

/// The address in what the kernel filled in.
fn sender(from: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(from.ss_family) {
        libc::AF_INET => {
            // SAFETY: a storage is larger than a sockaddr_in and at least as aligned, and the family says it is one.
            let from = unsafe { &*(&raw const *from).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(from.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: a storage is larger than a sockaddr_in6 and at least as aligned, and the family says it is one.
            let from = unsafe { &*(&raw const *from).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from_octets(from.sin6_addr.s6_addr);
            let (port, scope) = (u16::from_be(from.sin6_port), from.sin6_scope_id);
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => None,
    }
}

/// The number of the device in the control messages; 0 when none tells it.
fn device(message: &libc::msghdr) -> u32 {
    let mut device = 0;
    // SAFETY: the kernel has filled the control buffer with whole messages and set its length, and it is aligned;
    // CMSG_FIRSTHDR and CMSG_NXTHDR give headers inside of it or null. What is read is as long as the header says.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let length = (*header).cmsg_len as usize;
            let holds = |size: usize| length >= libc::CMSG_LEN(size as u32) as usize;
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                    let info: libc::in_pktinfo = std::ptr::read_unaligned(data.cast());
                    device = u32::try_from(info.ipi_ifindex).unwrap_or_default();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                    if holds(size_of::<libc::in6_pktinfo>()) =>
                {
                    let info: libc::in6_pktinfo = std::ptr::read_unaligned(data.cast());
                    device = info.ipi6_ifindex;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    device
}
