//! Settings of the server: recorded before they are changed, given back when nobody needs them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{Original, Record};
use crate::NetError;
use crate::plan::ServerEffect;

const ALL_FORWARDING6: &str = "net/ipv6/conf/all/forwarding";

/// Files below `/proc/sys/net` show the network namespace of the thread that opens them.
fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// None when there is no such setting (the device is gone).
pub(super) fn get(key: &str) -> Result<Option<String>, NetError> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NetError::File {
            what: "read",
            path: path(key),
            source,
        }),
    }
}

/// Writes only what is different: a write can have side effects. A device that is gone has no settings; they are
/// written when it is back.
pub(super) fn set(key: &str, value: &str) -> Result<(), NetError> {
    if get(key)?.is_none_or(|now| now == value) {
        return Ok(());
    }
    fs::write(path(key), value).map_err(|source| NetError::File {
        what: "write",
        path: path(key),
        source,
    })
}

/// Puts the present value into the record, once.
pub(super) fn remember(record: &mut Record, key: &str, value: &str) -> Result<(), NetError> {
    if record.originals.iter().any(|one| one.key == key) {
        return Ok(());
    }
    let missing = || NetError::File {
        what: "find",
        path: path(key),
        source: io::ErrorKind::NotFound.into(),
    };
    let original = get(key)?.ok_or_else(missing)?;
    let dependents = if key == ALL_FORWARDING6 && original != value {
        forwarding6(record)?
    } else {
        Vec::new()
    };
    record.originals.push(Original {
        key: key.into(),
        original,
        value: value.into(),
        dependents,
    });
    Ok(())
}

/// Writing `all/forwarding` writes every device's. Those that forwarded before, and not through us, have to get it back.
fn forwarding6(record: &Record) -> Result<Vec<(String, String)>, NetError> {
    let directory = path("net/ipv6/conf");
    let failed = |source| NetError::File {
        what: "read",
        path: directory.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let key = format!("net/ipv6/conf/{}/forwarding", name.to_string_lossy());
        let ours = record
            .originals
            .iter()
            .any(|one| one.key == key && one.original == "0");
        if key != ALL_FORWARDING6 && !ours && get(&key)?.as_deref() == Some("1") {
            found.push((key, "1".to_string()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Gives back every setting that is not in `needed`, the last one first, and forgets it.
pub(super) fn restore_all_but(
    record: &mut Record,
    needed: &BTreeSet<ServerEffect>,
) -> Result<(), NetError> {
    let keep = |one: &Original| {
        needed.contains(&ServerEffect::Sysctl {
            key: one.key.clone(),
            value: one.value.clone(),
        })
    };
    for one in record.originals.iter().rev().filter(|one| !keep(one)) {
        restore(one)?;
    }
    record.originals.retain(keep);
    Ok(())
}

fn restore(one: &Original) -> Result<(), NetError> {
    // Somebody else has changed it since, or the device is gone: not ours any more.
    if one.original == one.value
        || get(&one.key)?.as_deref() != Some(&one.value)
        || forwarded_by_others(one)?
    {
        return Ok(());
    }
    set(&one.key, &one.original)?;
    one.dependents.iter().try_for_each(|(key, value)| {
        if get(key)?.is_some() {
            set(key, value)
        } else {
            Ok(())
        }
    })
}

/// Meanwhile the administrator (or Docker) may have made the server a router: then it stays one.
fn forwarded_by_others(one: &Original) -> Result<bool, NetError> {
    let global = match one.key.as_str() {
        key if key.starts_with("net/ipv4/conf/") && key.ends_with("/forwarding") => {
            "net/ipv4/ip_forward"
        }
        key if key == ALL_FORWARDING6 => return Ok(false),
        key if key.starts_with("net/ipv6/conf/") && key.ends_with("forwarding") => ALL_FORWARDING6,
        _ => return Ok(false),
    };
    Ok(get(global)?.as_deref() == Some("1"))
}
