//! Contradictions in what is asked for.

use std::net::IpAddr;

use ipnet::IpNet;
use metactl_bundles::network::{FORMAT, Mode, NetworkSpec, Published};

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
    check_ports(spec).or_else(fail)?;
    match (spec.mode, &spec.pool) {
        (Mode::Nat, None) => fail("mode nat without a pool".into()),
        (Mode::Nat, Some(pool)) => {
            let pools = [Some(pool), spec.pool6.as_ref()];
            spec.addresses
                .iter()
                .try_for_each(|address| in_pool(address, &pools))
                .or_else(fail)
        }
        _ => Ok(()),
    }
}

/// Every published port leads to an address of its family.
fn check_ports(spec: &NetworkSpec) -> Result<(), String> {
    if spec.publish.is_empty() {
        return Ok(());
    }
    if spec.mode != Mode::Nat {
        return Err("published ports without an address of a pool that they could lead to".into());
    }
    let has = |v6: bool| spec.addresses.iter().any(|own| own.is_ipv6() == v6);
    let leads = |port: &Published| port.address.is_none_or(|at| has(at.is_ipv6()));
    match spec.publish.iter().find(|port| !leads(port)) {
        Some(port) => Err(format!(
            "published port {}: it has no address of that family; IPv6 needs [server] pool6 in metactl.conf",
            port.at()
        )),
        None => Ok(()),
    }
}

fn in_pool(address: &IpAddr, pools: &[Option<&IpNet>]) -> Result<(), String> {
    let same = |pool: &&IpNet| pool.addr().is_ipv6() == address.is_ipv6();
    let Some(pool) = pools.iter().flatten().copied().find(same) else {
        return Err(format!("address {address} without a pool of its family"));
    };
    if !pool.contains(address) {
        return Err(format!("address {address} is not in the pool {pool}"));
    }
    if pool_gateway(pool) == Some(*address) {
        return Err(format!(
            "the first address of the pool {pool} is the server's own"
        ));
    }
    Ok(())
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
