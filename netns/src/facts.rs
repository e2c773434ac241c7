//! What a plan has to know of the server. Gathered once per start; plain data, so that tests can invent it.

use serde::Serialize;

use crate::NetError;

/// The server as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// The devices towards the physical network: those that have a default route, or the one that was named.
    /// Empty on a server without any: its instances are reachable from the server only.
    pub uplinks: Vec<Uplink>,
    /// The server has an IPv4 address other than its loopback's, which it can use to talk to instances.
    pub has_ipv4: bool,
    /// IPv6 is there and not switched off.
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
/// network; without it, every device with a default route is one.
pub fn gather(uplink: Option<&str>) -> Result<HostFacts, NetError> {
    Err(NetError::Unsupported {
        what: format!("gather facts of {uplink:?}"),
        hint: String::new(),
    })
}
