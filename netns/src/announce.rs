//! Tells the physical network where an address is now: a gratuitous ARP request (RFC 5227 section 3), an unsolicited
//! neighbour advertisement (RFC 4861 section 7.2.6).
//!
//! Who talked to the address when it was elsewhere (on another server, before a move) goes on sending there until its
//! own entry is old, minutes later, unless it is told. The first telling can get lost (a switch that has just learned
//! of the port), hence a second one.
//!
//! Beside the start and never on its way: closing a packet socket waits for an RCU grace period, 5 to 20 ms.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use metactl_bundles::network::{Mode, NetworkSpec};

use crate::NetError;
use crate::facts::{self, HostFacts};
use crate::link::Links;
use crate::netlink::Refusal;
use crate::packets::{ETH_P_ARP, ETH_P_IPV6, advertisement, arp_request};
use crate::sys::PacketSocket;

/// How long after the first telling the second one follows (`ANNOUNCE_INTERVAL` of RFC 5227).
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a sandbox may take to get its network.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// One address that is told of on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The address of the instance.
    pub address: IpAddr,
    /// The uplink.
    pub device: String,
}

/// What has to be announced for an instance. Pure. An address of a pool is known to nobody outside.
pub fn announcements(spec: &NetworkSpec, facts: &HostFacts) -> Vec<Announcement> {
    if spec.mode != Mode::Routed {
        return Vec::new();
    }
    let on_each = |address: &IpAddr| {
        let address = *address;
        facts
            .towards(address)
            .into_iter()
            .map(move |uplink| Announcement {
                address,
                device: uplink.name.clone(),
            })
    };
    spec.addresses.iter().flat_map(on_each).collect()
}

/// Sends each announcement once, from the network namespace of the calling thread. A device that is gone or is no
/// Ethernet is left out: there is nobody who keeps a table of its addresses.
pub fn announce(list: &[Announcement]) -> Result<(), NetError> {
    for one in list {
        let failed = |refusal: Refusal| {
            refusal.during(format!("announce {} on {}", one.address, one.device))
        };
        send(one).map_err(failed)?;
    }
    Ok(())
}

/// Announces the addresses of `spec` on a thread of its own, as soon as they lead to a sandbox, and once more two
/// seconds later. `uplink` as in [`facts::gather`]. What goes wrong comes out of the receiver; it stops nothing.
pub fn beside(spec: &NetworkSpec, uplink: Option<&str>) -> Receiver<NetError> {
    let (told, failures) = mpsc::channel();
    if spec.mode != Mode::Routed {
        return failures;
    }
    let (spec, uplink) = (spec.clone(), uplink.map(str::to_owned));
    std::thread::spawn(move || {
        if let Err(error) = tell_twice(&spec, uplink.as_deref()) {
            // Nobody listens when the sandbox is over.
            told.send(error).unwrap_or_default();
        }
    });
    failures
}

fn tell_twice(spec: &NetworkSpec, uplink: Option<&str>) -> Result<(), NetError> {
    let mut links = Links::open().map_err(|refusal| refusal.during("open a netlink socket"))?;
    let begun = Instant::now();
    let mut is_there = || {
        spec.addresses
            .iter()
            .all(|one| links.leads_to_instance(*one))
    };
    while !is_there() {
        if begun.elapsed() > PATIENCE {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    let facts = facts::gather(uplink)?;
    let list = announcements(spec, &facts);
    announce(&list)?;
    std::thread::sleep(AGAIN_AFTER);
    // It may be over by now, and the address somewhere else.
    if is_there() { announce(&list) } else { Ok(()) }
}

fn send(one: &Announcement) -> Result<(), Refusal> {
    let Some(device) = Links::open()?.find(&one.device)? else {
        return Ok(());
    };
    let Ok(mac) = <[u8; 6]>::try_from(device.mac.as_slice()) else {
        return Ok(());
    };
    let (protocol, to, packet) = match one.address {
        IpAddr::V4(v4) => (ETH_P_ARP, [0xff; 6], arp_request(mac, v4, v4)),
        IpAddr::V6(v6) => (ETH_P_IPV6, multicast_mac(), advertisement(mac, v6)),
    };
    Ok(PacketSocket::sender(device.index, protocol)?.send(to, &packet)?)
}

/// Of "all nodes", ff02::1 (RFC 2464 section 7).
fn multicast_mac() -> [u8; 6] {
    let [.., a, b, c, d] = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Uplink;
    use metactl_bundles::network::{FORMAT, Policy, Verdict};

    fn spec(mode: Mode, addresses: &[&str]) -> NetworkSpec {
        let open = || Policy {
            policy: Verdict::Accept,
            accept: Vec::new(),
            reject: Vec::new(),
        };
        NetworkSpec {
            format: FORMAT,
            instance: "myapp".into(),
            mode,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pool: None,
            pool6: None,
            publish: Vec::new(),
            apart: false,
            out: open(),
            inbound: open(),
        }
    }

    fn facts(uplinks: &[(&str, bool, &[&str])]) -> HostFacts {
        let uplink = |(name, default, networks): &(&str, bool, &[&str])| Uplink {
            name: (*name).to_owned(),
            index: 2,
            mtu: 1500,
            default: *default,
            without_ipv6: false,
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        };
        HostFacts {
            uplinks: uplinks.iter().map(uplink).collect(),
            has_ipv4: true,
            ipv6: true,
            force_forwarding: true,
            accept_ra: Vec::new(),
        }
    }

    fn shown(spec: &NetworkSpec, facts: &HostFacts) -> Vec<String> {
        let list = announcements(spec, facts);
        list.iter()
            .map(|one| format!("{} {}", one.address, one.device))
            .collect()
    }

    #[test]
    fn an_address_is_announced_where_somebody_asks_for_it() {
        let spec = spec(Mode::Routed, &["10.1.0.5", "2001:db8::5"]);
        let two = facts(&[
            ("eth0", true, &["198.51.100.0/24", "2001:db8::/64"]),
            ("eth1", false, &["10.1.0.0/16"]),
        ]);
        assert_eq!(shown(&spec, &two), ["10.1.0.5 eth1", "2001:db8::5 eth0"]);
        // On no network of the server: where the default route leads.
        let beyond = facts(&[
            ("eth0", true, &["198.51.100.0/24"]),
            ("eth1", false, &["10.2.0.0/16"]),
        ]);
        assert_eq!(shown(&spec, &beyond), ["10.1.0.5 eth0", "2001:db8::5 eth0"]);
        // Without a default route: everywhere.
        let none = facts(&[("eth0", false, &[]), ("eth1", false, &[])]);
        assert_eq!(shown(&spec, &none).len(), 4);
    }

    #[test]
    fn an_address_of_a_pool_is_not_announced() {
        let facts = facts(&[("eth0", true, &[])]);
        assert!(announcements(&super::tests::spec(Mode::Nat, &["10.77.0.2"]), &facts).is_empty());
    }

    #[test]
    fn the_packets_are_those_of_the_standards() {
        let mac = [2, 0, 0, 0, 0, 7];
        let arp = arp_request(mac, [10, 0, 0, 5].into(), [10, 0, 0, 5].into());
        assert_eq!(arp.len(), 28);
        assert_eq!(arp[6..8], [0, 1]);
        assert_eq!(
            (&arp[14..18], &arp[24..28]),
            (&[10, 0, 0, 5][..], &[10, 0, 0, 5][..])
        );
        let packet = advertisement(mac, "2001:db8::5".parse().unwrap());
        assert_eq!(packet.len(), 40 + 32);
        assert_eq!(
            (packet[6], packet[7], packet[40], packet[44]),
            (58, 255, 136, 0xa0)
        );
        assert_eq!(packet[64..72], [2, 1, 2, 0, 0, 0, 0, 7]);
    }
}
