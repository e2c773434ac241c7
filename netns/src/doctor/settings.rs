//! Settings of the server: those that metactl made and somebody took back, and those that get in its way.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, Subject};
use crate::facts::HostFacts;
use crate::link::Links;
use crate::netlink::Refusal;
use crate::plan::ServerEffect;
use crate::{NetError, server};

const BY_ITSELF: &str = "whoever looks after networks here (metactl's supervisor; metactl-mend.timer under systemd) does \
                         the same within half a minute; if it comes back, something else on the server takes it away \
                         again";

pub(super) fn examine(
    subject: &Subject<'_>,
    needed: &BTreeSet<ServerEffect>,
    facts: &HostFacts,
) -> Result<Vec<Finding>, NetError> {
    let mut found = Vec::new();
    let mut links = Links::open().map_err(|refusal| refusal.during("open a netlink socket"))?;
    for effect in needed {
        match effect {
            ServerEffect::Sysctl { key, value } => found.extend(setting(key, value)),
            ServerEffect::Proxy { address, device } => {
                let look = |refusal: Refusal| refusal.during("list the proxy entries");
                let index = links.find(device).map_err(look)?.map(|device| device.index);
                let there = links.proxies().map_err(look)?;
                if index.is_some_and(|index| !there.contains(&(index, *address))) {
                    found.push(Finding {
                        check: "proxy",
                        what: format!(
                            "the server does not answer for {address} on {device} any more"
                        ),
                        place: device.clone(),
                        why: "machines on that network find no way to the instance".into(),
                        mend: vec![effect.to_string()],
                        lasting: BY_ITSELF.into(),
                    });
                }
            }
            ServerEffect::Table
            | ServerEffect::Masquerade(_)
            | ServerEffect::LinkLocal { .. }
            | ServerEffect::Apart { .. }
            | ServerEffect::Publish { .. } => {}
        }
    }
    if needed.contains(&ServerEffect::Table) && !server::table_is_whole(subject.server_dir)? {
        found.push(Finding {
            check: "table",
            what: "metactl's table of the server was removed or emptied".into(),
            place: "nft list table inet metactl".into(),
            why: "instances of the pool reach nothing outside, published ports lead nowhere, and the server \
                  forwards for others"
                .into(),
            mend: vec![subject.refresh.into()],
            lasting: BY_ITSELF.into(),
        });
    }
    found.extend(router_advertisements(facts));
    found.extend(reverse_path(facts));
    if !facts.ipv6
        && subject
            .addresses
            .iter()
            .any(|(_, address)| address.is_ipv6())
    {
        let mut finding = sysctl("net/ipv6/conf/all/disable_ipv6", "0");
        finding.what = "IPv6 is switched off, and an instance has an IPv6 address".into();
        finding.why = "that instance cannot start".into();
        found.push(finding);
    }
    Ok(found)
}

fn setting(key: &str, value: &str) -> Option<Finding> {
    let now = read(key)?;
    if now == value {
        return None;
    }
    let mut finding = sysctl(key, value);
    finding.what = format!("{key} is {now}; metactl set it to {value} for the instances that run");
    finding.why = match key {
        key if key.ends_with("forwarding") => "packets from and to instances are not passed on",
        key if key.ends_with("proxy_ndp") => {
            "the server does not answer for IPv6 addresses of instances"
        }
        key if key.ends_with("proxy_delay") => {
            "answers for addresses of instances come up to 0.8 s late"
        }
        key if key.ends_with("accept_ra") => "the server loses its IPv6 default route",
        _ => "instances may not be reached",
    }
    .into();
    finding.lasting = BY_ITSELF.into();
    Some(finding)
}

/// A finding whose mending is one setting.
fn sysctl(key: &str, value: &str) -> Finding {
    Finding {
        check: "sysctl",
        what: String::new(),
        place: format!("/proc/sys/{key}"),
        why: String::new(),
        // With slashes, since names of devices can have dots in them.
        mend: vec![format!("sysctl -qw {key}={value}")],
        lasting: format!("write {key} = {value} into /etc/sysctl.d/metactl.conf"),
    }
}

/// A device that forwards and has `accept_ra` 1 ignores the advertisements its default route comes from.
fn router_advertisements(facts: &HostFacts) -> Vec<Finding> {
    let ignores = |name: &&str| {
        let is = |setting: &str, value: &str| {
            read(&format!("net/ipv6/conf/{name}/{setting}")).is_some_and(|now| now == value)
        };
        is("forwarding", "1") && is("accept_ra", "1")
    };
    let uplinks = facts.uplinks.iter().map(|uplink| uplink.name.as_str());
    let found = uplinks.filter(ignores).map(|name| {
        let mut finding = sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "2");
        finding.check = "accept_ra";
        finding.what =
            format!("{name} forwards IPv6 and so ignores router advertisements (accept_ra is 1)");
        finding.why = "the IPv6 default route and the addresses that came from them run out".into();
        finding
    });
    found.collect()
}

/// Strict checking of sources drops what comes in over another device than the way back would take. With one default
/// route that is never the case for packets of instances.
fn reverse_path(facts: &HostFacts) -> Vec<Finding> {
    let several = facts.uplinks.iter().filter(|uplink| uplink.default).count() > 1;
    let level = |name: &str| {
        let value = read(&format!("net/ipv4/conf/{name}/rp_filter"));
        value
            .and_then(|value| value.parse::<u8>().ok())
            .unwrap_or(0)
    };
    // The greater of the two counts (ip-sysctl).
    let strict = |name: &str| level("all").max(level(name)) == 1;
    let uplinks = facts
        .uplinks
        .iter()
        .filter(|uplink| several && uplink.default);
    let found = uplinks.filter(|uplink| strict(&uplink.name)).map(|uplink| {
        let mut finding = sysctl(&format!("net/ipv4/conf/{}/rp_filter", uplink.name), "2");
        finding.check = "rp_filter";
        finding.what = format!(
            "sources are checked strictly on {}, and default routes lead over several devices",
            uplink.name
        );
        finding.why = "packets to instances that come in over the device of the other default route are dropped \
                       without a word"
            .into();
        finding
    });
    found.collect()
}

fn read(key: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
    Some(text.trim().to_owned())
}
