//! What a plan has to know of the server. Gathered once per start; plain data, so that tests can invent it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use serde::Serialize;

use crate::NetError;
use crate::link::{GROUP, Links};
use crate::netlink::Refusal;

/// The server as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// The devices towards other machines: those that were named, or every one that a route leads over, to whatever
    /// network. Empty on a server without any: its instances are reachable from the server only.
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

/// A device towards other machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Uplink {
    /// Its name (`eth0`).
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// A default route leads over it.
    pub default: bool,
    /// It does not do IPv6: its packets are too small for that, or it is switched off for good.
    pub without_ipv6: bool,
    /// The networks on it: their machines are asked for by ARP and NDP, not by way of a router.
    pub networks: Vec<IpNet>,
}

impl HostFacts {
    /// Where machines are that ask for `address` themselves: the uplinks on whose networks it lies; where there is
    /// none, those with a default route; on a server without one, all.
    pub fn towards(&self, address: IpAddr) -> Vec<&Uplink> {
        let choose = |which: &dyn Fn(&Uplink) -> bool| -> Vec<&Uplink> {
            let able = |uplink: &&Uplink| address.is_ipv4() || !uplink.without_ipv6;
            let uplinks = self.uplinks.iter().filter(able);
            uplinks.filter(|uplink| which(uplink)).collect()
        };
        let on_link = choose(&|uplink| uplink.networks.iter().any(|net| net.contains(&address)));
        if !on_link.is_empty() {
            return on_link;
        }
        let default = choose(&|uplink| uplink.default);
        if default.is_empty() {
            choose(&|_| true)
        } else {
            default
        }
    }

    /// The largest packet that passes wherever an instance with these addresses mostly talks to: over the default
    /// routes and on its own networks. Smaller ones beyond are found by path MTU discovery.
    pub fn mtu(&self, addresses: &[IpAddr]) -> Option<u32> {
        let near = addresses.iter().flat_map(|address| self.towards(*address));
        let default = self.uplinks.iter().filter(|uplink| uplink.default);
        let mtu = near.chain(default).map(|uplink| uplink.mtu).min();
        mtu.or_else(|| self.uplinks.iter().map(|uplink| uplink.mtu).min())
    }
}

/// Looks at the network namespace of the calling thread. `uplink` names the devices towards other machines, with
/// commas between them; without it, every device is one that has a route. One that does not exist is an error.
pub fn gather(uplink: Option<&str>) -> Result<HostFacts, NetError> {
    let mut links = Links::open().map_err(|refusal| refusal.during("open a netlink socket"))?;
    let ipv6 = read("net/ipv6/conf/all/disable_ipv6").is_some_and(|value| value == "0");
    let look = |refusal: Refusal| refusal.during("look at the network of the server");
    let mut uplinks = by_route(&mut links, ipv6).map_err(look)?;
    if let Some(names) = uplink {
        let mut named = Vec::new();
        for name in names.split(',') {
            let device = find_named(&mut links, name)?;
            let known = uplinks.iter().find(|uplink| uplink.index == device.index);
            named.push(known.cloned().unwrap_or(device));
        }
        uplinks = named;
    }
    for uplink in &mut uplinks {
        let settings = Path::new("/proc/sys/net/ipv6/conf").join(&uplink.name);
        uplink.without_ipv6 = !settings.exists();
    }
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

fn find_named(links: &mut Links, name: &str) -> Result<Uplink, NetError> {
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
        ..Uplink::default()
    })
}

fn by_route(links: &mut Links, ipv6: bool) -> Result<Vec<Uplink>, Refusal> {
    let mut routes = links.wide_routes(AddressFamily::Inet)?;
    if ipv6 {
        routes.extend(links.wide_routes(AddressFamily::Inet6)?);
    }
    let mut found: BTreeMap<u32, Uplink> = BTreeMap::new();
    for route in routes {
        // Every IPv6 device has these, and the unreachable default route stands on the loopback device.
        if route.device == 1 || is_everywhere(&route.destination) {
            continue;
        }
        let uplink = found.entry(route.device).or_default();
        if route.destination.prefix_len() == 0 {
            uplink.default = true;
        } else if !route.by_gateway {
            uplink.networks.push(route.destination);
        }
    }
    let mut uplinks = Vec::new();
    for (index, uplink) in found {
        if let Some(device) = links.get(index)?.filter(|device| device.group != GROUP) {
            uplinks.push(Uplink {
                name: device.name,
                index,
                mtu: device.mtu,
                ..uplink
            });
        }
    }
    Ok(uplinks)
}

/// Link-local or multicast.
fn is_everywhere(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.addr().is_link_local() || v4.addr().is_multicast(),
        IpNet::V6(v6) => v6.addr().is_unicast_link_local() || v6.addr().is_multicast(),
    }
}

fn listens(device: &str) -> bool {
    read(&format!("net/ipv6/conf/{device}/accept_ra")).is_some_and(|value| value == "1")
}

/// The value of a sysctl of this thread's network namespace.
fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
    Some(text.trim().to_string())
}
