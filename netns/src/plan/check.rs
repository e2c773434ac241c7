//! Contradictions in what is asked for.

use std::net::IpAddr;

use metactl_bundles::network::{FORMAT, Mode, NetworkSpec};

use super::pool_gateway;
use crate::NetError;
use crate::facts::HostFacts;

/// An alternative name holds 127 characters; the prefix has 8.
const INSTANCE_MOST: usize = 119;

pub(super) fn check(spec: &NetworkSpec, facts: &HostFacts) -> Result<(), NetError> {
    let fail = |reason: String| {
        Err(NetError::Spec {
            instance: spec.instance.clone(),
            reason,
        })
    };
    if spec.format != FORMAT {
        return fail(format!(
            "network.json has format {}, this metactl reads {FORMAT}",
            spec.format
        ));
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%' | '"');
    let name = &spec.instance;
    if name.is_empty() || name.len() > INSTANCE_MOST || name.contains(bad) {
        return fail(format!(
            "no network device can be named after this instance (at most {INSTANCE_MOST} bytes; no space, / : % or quote)"
        ));
    }
    match spec.mode {
        Mode::None | Mode::Host if spec.addresses.is_empty() => return Ok(()),
        Mode::None | Mode::Host => return fail("an address in a mode that has none".into()),
        Mode::Routed | Mode::Nat if spec.addresses.is_empty() => {
            return fail("no address; set [sandbox.net] ip, or network = none".into());
        }
        Mode::Routed | Mode::Nat => {}
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        if spec
            .addresses
            .iter()
            .take(index)
            .any(|other| other == address)
        {
            return fail(format!("address {address} is listed twice"));
        }
        if address.is_ipv6() && !facts.ipv6 {
            return fail(format!(
                "address {address}: IPv6 is missing or switched off on this server"
            ));
        }
        if let Some(why) = unusable(address) {
            return fail(format!(
                "address {address} is {why}; an instance needs an ordinary one"
            ));
        }
    }
    if !spec.publish.is_empty()
        && (spec.mode != Mode::Nat || !spec.addresses.iter().any(IpAddr::is_ipv4))
    {
        return fail(
            "published ports without an IPv4 address of a pool that they could lead to".into(),
        );
    }
    match (spec.mode, &spec.pool) {
        (Mode::Nat, None) => fail("mode nat without a pool".into()),
        (Mode::Nat, Some(pool)) => match spec
            .addresses
            .iter()
            .find(|address| !pool.contains(*address))
        {
            Some(address) => fail(format!("address {address} is not in the pool {pool}")),
            None if pool_gateway(pool).is_some_and(|gateway| spec.addresses.contains(&gateway)) => {
                fail(format!(
                    "the first address of the pool {pool} is the server's own"
                ))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn unusable(address: &IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    match address {
        _ if address.is_unspecified() => Some("the unspecified one"),
        _ if address.is_loopback() => Some("a loopback one"),
        _ if address.is_multicast() => Some("a multicast one"),
        _ if link_local => Some("link-local, broadcast or reserved"),
        _ => None,
    }
}
