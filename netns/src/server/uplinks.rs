//! Uplinks that are renamed, replaced or gone: the record speaks of them by name, the kernel's settings belong to the
//! device. After a renaming both have to mean the same again, else the firewall of the server would no longer close
//! the device that forwards.

use std::collections::BTreeSet;

use super::record::Record;
use crate::NetError;
use crate::link::Links;
use crate::netlink::Refusal;
use crate::plan::ServerEffect;

/// Notes the numbers of the devices that the record speaks of; a renamed device keeps its number.
pub(super) fn remember(record: &mut Record) -> Result<(), NetError> {
    let named = devices(record);
    record.uplinks.retain(|name, _| named.contains(name));
    let missing = named
        .into_iter()
        .filter(|name| !record.uplinks.contains_key(name));
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut found = Vec::new();
    let look = || -> Result<(), Refusal> {
        let mut links = Links::open()?;
        for name in missing {
            // Other names of a device are none below /proc/sys.
            if let Some(device) = links.find(&name)?.filter(|device| device.name == name) {
                found.push((name, device.index));
            }
        }
        Ok(())
    };
    look().map_err(|refusal| refusal.during("look at the uplinks"))?;
    record.uplinks.extend(found);
    Ok(())
}

/// Gives devices that were renamed their new names in the record. Returns what happened, in words.
pub(super) fn follow(record: &mut Record) -> Result<Vec<String>, NetError> {
    let mut said = Vec::new();
    let known = record.uplinks.clone();
    let mut links = None;
    for (name, index) in known {
        let mut look = || -> Result<Option<String>, Refusal> {
            let links = match &mut links {
                Some(links) => links,
                none => none.insert(Links::open()?),
            };
            if let Some(device) = links.get(index)? {
                return Ok(Some(device.name));
            }
            // Another device under the old name: what the record says is true of it from now on.
            Ok(None)
        };
        let now = look().map_err(|refusal| refusal.during(format!("look at the uplink {name}")))?;
        match now {
            Some(now) if now == name => {}
            Some(now) => {
                rename(record, &name, &now);
                said.push(format!("the uplink {name} is called {now} now"));
            }
            None => {
                record.uplinks.remove(&name);
            }
        }
    }
    remember(record)?;
    Ok(said)
}

/// The devices that effects are about, from their settings and proxy entries.
fn devices(record: &Record) -> BTreeSet<String> {
    record
        .effects()
        .filter_map(|effect| match effect {
            ServerEffect::Proxy { device, .. } => Some(device.as_str()),
            ServerEffect::Sysctl { key, .. } => device_of(key),
            _ => None,
        })
        .filter(|name| *name != "all" && *name != "default")
        .map(str::to_string)
        .collect()
}

/// `eth0` of `net/ipv4/conf/eth0/forwarding`.
pub(super) fn device_of(key: &str) -> Option<&str> {
    let mut parts = key.split('/').skip(2);
    match (parts.next(), parts.next(), parts.next()) {
        (Some("conf" | "neigh"), Some(device), Some(_)) => Some(device),
        _ => None,
    }
}

fn rename(record: &mut Record, old: &str, new: &str) {
    let key = |key: &str| match device_of(key) {
        Some(device) if device == old => key.replacen(&format!("/{old}/"), &format!("/{new}/"), 1),
        _ => key.to_string(),
    };
    for original in &mut record.originals {
        original.key = key(&original.key);
        for (dependent, _) in &mut original.dependents {
            *dependent = key(dependent);
        }
    }
    for user in record.users.values_mut() {
        let renamed = |effect: &ServerEffect| match effect {
            ServerEffect::Sysctl { key: name, value } => ServerEffect::Sysctl {
                key: key(name),
                value: value.clone(),
            },
            ServerEffect::Proxy { address, device } if device == old => ServerEffect::Proxy {
                address: *address,
                device: new.to_string(),
            },
            other => other.clone(),
        };
        user.needs = user.needs.iter().map(renamed).collect();
    }
    if let Some(index) = record.uplinks.remove(old) {
        record.uplinks.insert(new.to_string(), index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_devices_have_one() {
        for (key, device) in [
            ("net/ipv4/conf/eth0/forwarding", Some("eth0")),
            ("net/ipv6/neigh/eth0.5/proxy_delay", Some("eth0.5")),
            ("net/ipv6/conf/all/forwarding", Some("all")),
            ("net/ipv4/ip_forward", None),
            ("net/ipv4/conf/eth0", None),
        ] {
            assert_eq!(device_of(key), device, "{key}");
        }
    }
}
