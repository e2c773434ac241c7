//! The pool and the addresses of instances, beside what else is on the server.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::AddressFamily;

use super::{Finding, Subject};
use crate::NetError;
use crate::link::{GROUP, Holder, Links};
use crate::netlink::Refusal;
use crate::plan::random;

pub(super) fn examine(subject: &Subject<'_>) -> Result<Vec<Finding>, NetError> {
    let look = |refusal: Refusal| refusal.during("look at the routes of the server");
    let mut links = Links::open().map_err(look)?;
    let mut found = overlap(subject, &mut links).map_err(look)?;
    for (instance, address) in &subject.addresses {
        found.extend(held(&mut links, instance, *address).map_err(look)?);
    }
    Ok(found)
}

/// A route of the server that meets a pool.
fn overlap(subject: &Subject<'_>, links: &mut Links) -> Result<Vec<Finding>, Refusal> {
    let mut found = Vec::new();
    for pool in std::iter::once(subject.pool).chain(subject.pool6) {
        let (family, key) = match pool {
            IpNet::V4(_) => (AddressFamily::Inet, "pool"),
            IpNet::V6(_) => (AddressFamily::Inet6, "pool6"),
        };
        let mut routes = links.wide_routes(family)?;
        routes.retain(|route| route.destination.prefix_len() > 0);
        let Some(route) = routes.iter().find(|one| meets(&one.destination, &pool)) else {
            continue;
        };
        let device = links.get(route.device)?.unwrap_or_default().name;
        let conf = subject.conf.display();
        let write = |pool: IpNet| {
            format!(
                "sed -i '/^{key} *=/d' {conf} 2>/dev/null; printf '[server]\\n{key} = {pool}\\n' >>{conf}"
            )
        };
        let free = candidates(family)
            .find(|pool| !routes.iter().any(|route| meets(&route.destination, pool)));
        found.push(Finding {
            check: "pool",
            what: format!(
                "the pool {pool} meets the network {} on {device}",
                route.destination
            ),
            place: conf.to_string(),
            why: "instances of the pool cannot reach that network, and the server cannot tell both apart"
                .into(),
            mend: free.map(write).into_iter().collect(),
            lasting: "instances get an address of the new pool when they are started again".into(),
        });
    }
    Ok(found)
}

fn meets(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Pools that could be taken: of 10.0.0.0/8, or one with forty random bits (RFC 4193, 3.2).
fn candidates(family: AddressFamily) -> Box<dyn Iterator<Item = IpNet>> {
    match family {
        AddressFamily::Inet6 => {
            let [a, b, c, d] = random().to_be_bytes();
            let [e, ..] = random().to_be_bytes();
            let words = [u16::from_be_bytes([0xfd, a]), u16::from_be_bytes([b, c])];
            let third = u16::from_be_bytes([d, e]);
            let net = Ipv6Net::new([words[0], words[1], third, 0, 0, 0, 0, 0].into(), 64);
            Box::new(net.ok().map(IpNet::V6).into_iter())
        }
        _ => Box::new(
            (77..=250u8)
                .filter_map(|second| Ipv4Net::new([10, second, 0, 0].into(), 16).ok())
                .map(IpNet::V4),
        ),
    }
}

/// An address of an instance that something else on the server has.
fn held(links: &mut Links, instance: &str, address: IpAddr) -> Result<Option<Finding>, Refusal> {
    let finding = |what: String, place: String, mend: Vec<String>| {
        Some(Finding {
            check: "address",
            what,
            place,
            why: format!("instance {instance} cannot start, or is not reached"),
            mend,
            lasting: "look where the server's network is configured, too".into(),
        })
    };
    let option = if address.is_ipv6() { " -6" } else { "" };
    Ok(match links.holder(address)? {
        Some(Holder::Machine(index)) => {
            let device = links.get(index)?.unwrap_or_default().name;
            // A local route leads to the loopback device or to the one that has the address.
            let mut mend = Vec::new();
            for one in links.all()? {
                let nets = links.global_addresses(one.index)?;
                let own = nets.iter().filter(|net| net.addr() == address);
                mend.extend(
                    own.map(|net| format!("ip{option} address del {net} dev {}", one.name)),
                );
            }
            let what =
                format!("the server itself has {address} of instance {instance}, on {device}");
            finding(what, device, mend)
        }
        Some(Holder::Device(index)) => match links.get(index)? {
            Some(device) if device.group != GROUP => finding(
                format!(
                    "a route leads {address} of instance {instance} over {}",
                    device.name
                ),
                device.name.clone(),
                vec![format!(
                    "ip{option} route del {address} dev {}",
                    device.name
                )],
            ),
            _ => None,
        },
        Some(Holder::Unusable(why)) => finding(
            format!("{address} of instance {instance} is {why}"),
            "ip route".into(),
            vec![format!("ip{option} route del {}", IpNet::from(address))],
        ),
        None => None,
    })
}
