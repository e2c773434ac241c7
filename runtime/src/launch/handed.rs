//! Sockets that the caller hands over to a container.
//!
//! A socket belongs to the network namespace that it was made in, wherever its descriptor goes: with a listening TCP
//! socket of the host a program can connect out through the host (`connect` with `AF_UNSPEC` first), with a UDP socket
//! it just sends. Both walk around the firewall of the container's own namespace, so they are refused.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::launch::LaunchError;
use crate::request::LaunchRequest;
use crate::sys;

/// Looks at everything that is handed over by `request` to a container in `network`; a network of another kind than a
/// namespace by path is one that nobody can have made a socket in.
pub(super) fn check(
    request: &LaunchRequest,
    network: std::io::Result<OwnedFd>,
) -> Result<(), LaunchError> {
    let count = i32::try_from(request.preserve_fds).unwrap_or(i32::MAX);
    let mut own = None;
    for number in (3..).take(usize::try_from(count).unwrap_or(0)) {
        let cookie = sys::socket_namespace(number).map_err(|e| {
            LaunchError::system(
                format!("look at descriptor {number}, which is handed over"),
                e,
            )
        })?;
        let Some(cookie) = cookie else { continue };
        if own.is_none() {
            let network = match &network {
                Ok(network) => network,
                // As the configuration has it: the host's, for which every socket is its own, or a new one.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(looking(std::io::Error::from(e.kind()))),
            };
            own = Some(cookie_in(network).map_err(|e| looking(e.into()))?);
        }
        if own != Some(cookie) {
            let why = std::io::Error::other(
                "it is a socket of another network namespace, with which the program could walk around its firewall; \
                 make it in the namespace of the container (NetworkNamespacePath= of a .socket unit)",
            );
            return Err(LaunchError::system(
                format!("hand descriptor {number} over"),
                why,
            ));
        }
    }
    Ok(())
}

fn looking(e: std::io::Error) -> LaunchError {
    LaunchError::system("look at the network of the container", e)
}

/// The number of a namespace, from a socket that is made in it. The calling thread is in it for a moment only.
fn cookie_in(network: &OwnedFd) -> Result<u64, Errno> {
    let back = File::open("/proc/thread-self/ns/net");
    let back = back.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    sys::setns(network, libc::CLONE_NEWNET)?;
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    // Back first: whatever happened, the caller must not stay there.
    sys::setns(&back, libc::CLONE_NEWNET)?;
    Ok(sys::socket_namespace(socket?.as_raw_fd())?.unwrap_or(0))
}
