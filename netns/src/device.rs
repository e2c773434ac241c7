//! A network device of the host that moves into a network namespace (runtime-spec, config-linux,
//! "Network Devices").

use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use rustix::io::Errno;

use crate::NetError;
use crate::link::{Device, Links};
use crate::netlink::{Refusal, inside};

/// Moves the device `from` of the calling thread's network namespace into `netns`, where it is
/// called `to`, with its MTU, hardware address and global IP addresses, and switches it on.
///
/// When the namespace dies, the kernel takes a physical device back; a virtual one dies with it.
///
/// # Errors
/// There is no such device, its new name is taken, or the kernel cannot move it (a bridge, the
/// loopback device).
pub fn move_into(from: &str, to: &str, netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let during = |refusal: Refusal| refusal.during(format!("move the network device {from}"));
    let mut links = Links::open().map_err(during)?;
    let device: Option<Device> = links.find(from).map_err(during)?;
    let device = device.ok_or_else(|| during(Refusal::from(Errno::NODEV)))?;
    let addresses = links.global_addresses(device.index).map_err(during)?;
    links
        .give_away(device.index, to, netns)
        .map_err(|refusal| match refusal.is(Errno::EXIST) {
            true => NetError::NameTaken {
                name: to.to_owned(),
            },
            false => during(refusal),
        })?;
    inside(netns, || settle(to, &addresses))
}

/// Undoes [`move_into`], as far as it came: with its old name the device is the caller's again. One that never left
/// stays as it is.
///
/// # Errors
/// Its old name is taken by now, or the kernel cannot move it.
pub fn move_back(from: &str, to: &str, netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let during = |refusal: Refusal| refusal.during(format!("take the network device {from} back"));
    if Links::open()
        .map_err(during)?
        .find(from)
        .map_err(during)?
        .is_some()
    {
        return Ok(());
    }
    let home = std::fs::File::open("/proc/thread-self/ns/net");
    let home = home.map_err(|error| during(Refusal::from(error)))?;
    inside(netns, || move_into(to, from, home.as_fd()))
}

/// In its new namespace: an address belongs to a device of one namespace, so it is there no more.
fn settle(name: &str, addresses: &[IpNet]) -> Result<(), NetError> {
    let during = |refusal: Refusal| refusal.during(format!("set up the network device {name}"));
    let mut links = Links::open().map_err(during)?;
    let device = links.find(name).map_err(during)?;
    let device = device.ok_or_else(|| during(Refusal::from(Errno::NODEV)))?;
    for address in addresses {
        links
            .add_address(device.index, address, false)
            .map_err(during)?;
    }
    links.up(device.index).map_err(during)
}
