//! Datagrams with the device that they came in by: IP_PKTINFO (ip(7)).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks for the device of every datagram.
pub(crate) fn want_device(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is alive during the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
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
) -> io::Result<(usize, SocketAddrV4, u32)> {
    // SAFETY: sockaddr_in is plain data for which all zeros is a valid value.
    let mut from: libc::sockaddr_in = unsafe { zeroed() };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: msghdr is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` leads to a buffer that is alive and writable during the call, with its size.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut device = 0;
    // SAFETY: the kernel has filled `control` with whole messages and set its length, and it is aligned; CMSG_FIRSTHDR
    // and CMSG_NXTHDR give headers inside of it or null.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let long = (*header).cmsg_len as usize
                >= libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as usize;
            if (*header).cmsg_level == libc::IPPROTO_IP
                && (*header).cmsg_type == libc::IP_PKTINFO
                && long
            {
                let info: libc::in_pktinfo =
                    std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                device = u32::try_from(info.ipi_ifindex).unwrap_or_default();
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let address = Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr));
    Ok((
        received,
        SocketAddrV4::new(address, u16::from_be(from.sin_port)),
        device,
    ))
}
