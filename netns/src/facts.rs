//! What a plan has to know of the server. Gathered once per start; plain data, so that tests can invent it.

use std::fs;
use std::path::Path;

use netlink_packet_route::AddressFamily;
use serde::Serialize;

use crate::NetError;
use crate::link::{GROUP, Links};
use crate::netlink::Refusal;

/// The server as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// The devices towards the physical network: those that have a default route, or the one that was named.
    /// Empty on a server without any: its instances are reachable from the server only.
    pub uplinks: Vec<Uplink>,
    /// The server has an IPv4 address other than its loopback's, which it can use to talk to instances.
    pub has_ipv4: bool,
    /// The kernel has IPv6 and it is not switched off.
    pub ipv6: bool,
    /// The kernel can forward IPv6 per interface (`force_forwarding`, Linux 6.17).
    pub force_forwarding: bool,
    /// Devices that listen to IPv6 router advertisements only as long as they do not forward (`accept_ra` = 1).
    /// They need `accept_ra` = 2 before forwarding is switched on, else the server loses its default route.
    pub accept_ra: Vec<String>,
}

/// A device towards the physical network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// Its name (`eth0`).
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its MTU in bytes; the sandbox gets the smallest of all uplinks.
    pub mtu: u32,
}

/// Looks at the network namespace of the calling thread. `uplink` names the device towards the physical
/// network; without it, every device with a default route is one. An uplink that does not exist is an error.
pub fn gather(uplink: Option<&str>) -> Result<HostFacts, NetError> {
    let mut links = Links::open().map_err(|refusal| refusal.during("open a netlink socket"))?;
    let ipv6 = read("net/ipv6/conf/all/disable_ipv6").is_some_and(|value| value == "0");
    let look = |refusal: Refusal| refusal.during("look at the network of the server");
    let uplinks = match uplink {
        Some(name) => vec![named(&mut links, name)?],
        None => by_default_route(&mut links, ipv6).map_err(look)?,
    };
    let has_ipv4 = links.has_ipv4().map_err(look)?;
    let force_forwarding = Path::new("/proc/sys/net/ipv6/conf/all/force_forwarding").exists();
    let accept_ra = match (ipv6, force_forwarding) {
        (false, _) => Vec::new(),
        (true, true) => uplinks
            .iter()
            .map(|uplink| uplink.name.clone())
            .filter(|name| listens(name))
            .collect(),
        // Without per-interface forwarding, all devices are switched.
        (true, false) => {
            let all = links.all().map_err(look)?;
            let names = all
                .into_iter()
                .filter(|device| device.group != GROUP)
                .map(|device| device.name);
            names.filter(|name| listens(name)).collect()
        }
    };
    Ok(HostFacts {
        uplinks,
        has_ipv4,
        ipv6,
        force_forwarding,
        accept_ra,
    })
}

fn named(links: &mut Links, name: &str) -> Result<Uplink, NetError> {
    let found = links
        .find(name)
        .map_err(|refusal| refusal.during(format!("find the uplink {name}")))?;
    let device = found.ok_or_else(|| {
        let missing = Refusal::from(rustix::io::Errno::NODEV);
        missing.during(format!(
            "find the uplink {name}; see [server] uplink in metactl.conf"
        ))
    })?;
    Ok(Uplink {
        name: device.name,
        index: device.index,
        mtu: device.mtu,
    })
}

fn by_default_route(links: &mut Links, ipv6: bool) -> Result<Vec<Uplink>, Refusal> {
    let mut indexes = links.default_devices(AddressFamily::Inet)?;
    if ipv6 {
        indexes.extend(links.default_devices(AddressFamily::Inet6)?);
    }
    indexes.sort_unstable();
    indexes.dedup();
    let mut uplinks = Vec::new();
    for index in indexes {
        // The unreachable default route of IPv6 stands on the loopback device, number 1.
        if let Some(device) = links.get(index)?.filter(|device| device.index != 1) {
            uplinks.push(Uplink {
                name: device.name,
                index,
                mtu: device.mtu,
            });
        }
    }
    Ok(uplinks)
}

fn listens(device: &str) -> bool {
    read(&format!("net/ipv6/conf/{device}/accept_ra")).is_some_and(|value| value == "1")
}

/// The value of a sysctl of this thread's network namespace.
fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
    Some(text.trim().to_string())
}
