//! The outer devices that are on the server: found by their group, whatever their names.

use std::net::IpAddr;

use rustix::io::Errno;

use super::{GROUP, Holder, Links};
use crate::NetError;
use crate::netlink::Refusal;

/// An outer device of an instance on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterLink {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The instance, from the alternative name `metactl-<instance>`; none when that could not be given.
    pub instance: Option<String>,
    /// False when its sandbox is gone: the kernel is about to take it away.
    pub alive: bool,
}

impl Links {
    /// Whether packets to `address` go into a sandbox that is alive.
    pub(crate) fn leads_to_instance(&mut self, address: IpAddr) -> bool {
        let Ok(Some(Holder::Device(index))) = self.holder(address) else {
            return false;
        };
        let Ok(Some(device)) = self.get(index) else {
            return false;
        };
        device.group == GROUP && self.peer_is_alive(&device).unwrap_or(false)
    }
}

/// Every outer device on this server, also those whose instance is long gone.
pub fn outer_links() -> Result<Vec<OuterLink>, NetError> {
    let list = || -> Result<Vec<OuterLink>, Refusal> {
        let mut links = Links::open()?;
        let mut found = Vec::new();
        for device in links
            .all()?
            .into_iter()
            .filter(|device| device.group == GROUP)
        {
            let alive = links.peer_is_alive(&device)?;
            let instance = device.instance().map(str::to_string);
            found.push(OuterLink {
                name: device.name,
                index: device.index,
                instance,
                alive,
            });
        }
        Ok(found)
    };
    list().map_err(|refusal| refusal.during("list the network devices of instances"))
}

/// Removes an outer device by its name. Takes 30 ms; a namespace that dies does it by itself. True when it was
/// there. Devices that are not of metactl's group are refused.
pub fn remove_outer(name: &str) -> Result<bool, NetError> {
    let remove = || -> Result<bool, Refusal> {
        let mut links = Links::open()?;
        let Some(device) = links.find(name)? else {
            return Ok(false);
        };
        if device.group != GROUP {
            let words = std::io::Error::other("it is not a device of metactl");
            return Err(words.into());
        }
        match links.remove(device.index) {
            // It died between the question and the request.
            Err(refusal) if refusal.is(Errno::NODEV) => Ok(false),
            result => result.map(|()| true),
        }
    };
    remove().map_err(|refusal| refusal.during(format!("remove the network device {name}")))
}
