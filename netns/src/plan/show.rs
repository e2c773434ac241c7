//! The plan in words: the commands that would do the same.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{NetPlan, ServerEffect, Side, Step};
use crate::link::GROUP;

impl fmt::Display for NetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "{step}"))?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Server => "server: ",
            Side::Sandbox => "sandbox:",
        })
    }
}

impl fmt::Display for ServerEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerEffect::Sysctl { key, value } => write!(f, "sysctl {key}={value}"),
            ServerEffect::Table => f.write_str("nft table inet metactl (one for all instances)"),
            ServerEffect::Masquerade(pool) => write!(f, "nft masquerade {pool} outward"),
            ServerEffect::LinkLocal {
                source,
                destination,
            } => write!(f, "nft accept from {source} to {destination}"),
            ServerEffect::Apart { source, listed } => {
                let but = match listed.is_empty() {
                    true => "",
                    false => " but for what is listed",
                };
                write!(
                    f,
                    "nft reject from {source} to the server and to instances{but}"
                )
            }
            ServerEffect::Publish { port, address } => {
                let six = if address.is_ipv6() { "6" } else { "" };
                let (map, at) = match port.address {
                    Some(at) => (format!("published_at{six}"), format!("{at} . ")),
                    None => (format!("published{six}"), String::new()),
                };
                let key = format!("{at}{} . {}", port.protocol, port.port);
                let inside = port.inside;
                write!(
                    f,
                    "nft element inet metactl {map} {{ {key} : {address} . {inside} }}"
                )
            }
            ServerEffect::Proxy { address, device } => {
                write!(
                    f,
                    "ip{} neighbour add proxy {address} dev {device}",
                    option(address)
                )
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Server(effect) => write!(
                f,
                "{} {effect}  [until its last user is gone]",
                Side::Server
            ),
            Step::Free(address) => write!(f, "{} nobody here has {address}", Side::Server),
            Step::Policy { summary, .. } => write!(f, "{} nft {summary}", Side::Sandbox),
            Step::Loopback => write!(f, "{} ip link set lo up", Side::Sandbox),
            Step::Veth(veth) => write!(
                f,
                "{} ip link add {} address {} mtu {mtu} group {GROUP} numtxqueues 1 numrxqueues 1 type veth \
                 peer name {} address {} mtu {mtu} numtxqueues 1 numrxqueues 1 netns <sandbox>",
                Side::Server,
                veth.outer,
                mac(&veth.outer_mac),
                veth.inner,
                mac(&veth.inner_mac),
                mtu = veth.mtu,
            ),
            Step::Altname { device, name } => {
                write!(
                    f,
                    "{} ip link property add dev {device} altname {name}",
                    Side::Server
                )
            }
            Step::Sysctl { key, value } => write!(f, "{} sysctl {key}={value}", Side::Server),
            Step::NoAutomaticAddresses(side, device) => {
                write!(f, "{side} ip link set {device} addrgenmode none")
            }
            Step::Address {
                side,
                device,
                net,
                only_this_link,
            } => {
                let nodad = if net.addr().is_ipv6() { " nodad" } else { "" };
                let scope = if *only_this_link { " scope link" } else { "" };
                write!(
                    f,
                    "{side} ip{} address add {net} dev {device}{scope}{nodad}",
                    option(&net.addr())
                )
            }
            Step::Resolver { device, address } => {
                let rest = if address.is_ipv6() {
                    "noprefixroute nodad preferred_lft 0"
                } else {
                    "scope host"
                };
                let (option, net) = (option(address), IpNet::from(*address));
                write!(
                    f,
                    "{} ip{option} address add {net} dev {device} {rest}",
                    Side::Server
                )
            }
            Step::Carrier(device) => write!(f, "{} {device} has its carrier", Side::Server),
            Step::InForce {
                side,
                device,
                address,
            } => write!(f, "{side} {address} is in force on {device}"),
            Step::Announce(one) => match one.address {
                IpAddr::V4(address) => write!(
                    f,
                    "{} arping -U -I {} {address}  [beside the start]",
                    Side::Server,
                    one.device
                ),
                IpAddr::V6(address) => write!(
                    f,
                    "{} neighbour advertisement of {address} on {}  [beside the start]",
                    Side::Server,
                    one.device
                ),
            },
            Step::Up(side, device) => write!(f, "{side} ip link set {device} up"),
            Step::Neighbour {
                side,
                device,
                address,
                mac: value,
            } => {
                let value = mac(value);
                write!(
                    f,
                    "{side} ip{} neighbour add {address} lladdr {value} dev {device}",
                    option(address)
                )
            }
            Step::Route {
                side,
                device,
                destination,
                via,
                source,
            } => {
                write!(
                    f,
                    "{side} ip{} route add {}",
                    option(&destination.addr()),
                    target(destination)
                )?;
                if let Some(via) = via {
                    write!(f, " via {via}")?;
                }
                write!(f, " dev {device}")?;
                if via.is_some() {
                    f.write_str(" onlink")?;
                }
                source
                    .iter()
                    .try_for_each(|source| write!(f, " src {source}"))
            }
        }
    }
}

/// `ip` guesses IPv4.
fn option(address: &IpAddr) -> &'static str {
    if address.is_ipv6() { " -6" } else { "" }
}

fn target(net: &IpNet) -> String {
    if net.prefix_len() == 0 {
        "default".into()
    } else {
        net.to_string()
    }
}

fn mac(bytes: &[u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
