//! Where questions come in: by UDP and TCP, over IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::plan::{GATEWAY4, RESOLVER6};
use crate::policy::RESOLVER_PORT;
use crate::sys::datagram;

/// The two sockets of one family.
pub(super) struct Listener {
    pub is_v6: bool,
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// One for each family that the server has.
pub(super) fn open() -> io::Result<Vec<Listener>> {
    let mut listeners = vec![listener(GATEWAY4.into())?];
    match listener(RESOLVER6.into()) {
        Ok(one) => listeners.push(one),
        // A kernel without IPv6, or with `ipv6.disable=1`; no instance has such an address there.
        Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

/// The address belongs to the devices of instances, which come and go.
fn listener(address: IpAddr) -> io::Result<Listener> {
    let is_v6 = address.is_ipv6();
    let family = match is_v6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let udp = socket_with(family, SocketType::DGRAM, flags, None)?;
    let tcp = socket_with(family, SocketType::STREAM, flags, None)?;
    for socket in [&udp, &tcp] {
        if is_v6 {
            sockopt::set_ipv6_v6only(socket, true)?;
            sockopt::set_ipv6_freebind(socket, true)?;
        } else {
            sockopt::set_ip_freebind(socket, true)?;
        }
    }
    datagram::want_device(udp.as_fd(), is_v6)?;
    // Many instances may ask at the same time.
    sockopt::set_socket_recv_buffer_size(&udp, 1 << 20)?;
    sockopt::set_socket_reuseaddr(&tcp, true)?;
    let address = SocketAddr::from((address, RESOLVER_PORT));
    bind(&udp, &address)?;
    bind(&tcp, &address)?;
    listen(&tcp, 128)?;
    Ok(Listener {
        is_v6,
        udp: udp.into(),
        tcp: tcp.into(),
    })
}
