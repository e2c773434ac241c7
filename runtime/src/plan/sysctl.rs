//! Which kernel parameters a container may set: only those that belong to one of its own
//! namespaces. Everything else would change the host.

use crate::plan::namespaces::{Namespaces, Place};

/// Of the ipc namespace (ipc_namespaces(7)).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The path of a parameter below `/proc/sys`, or why it may not be set.
///
/// Both spellings of sysctl(8) are taken: whichever of `.` and `/` comes first is the separator.
pub fn path(key: &str, namespaces: &Namespaces) -> Result<String, String> {
    let path = match key.find(['.', '/']) {
        Some(at) if key.as_bytes().get(at) == Some(&b'.') => swap_separators(key),
        _ => key.to_owned(),
    };
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err("is not the name of a kernel parameter".into());
    }
    let own = |place: &Place, which: &str| match place {
        Place::New => Ok(path.clone()),
        Place::Host => Err(format!(
            "belongs to the {which} namespace, and the container has none of its own; it would change the host"
        )),
        // Whether it is the host's after all, is seen when it is opened.
        Place::Join(_) => Ok(path.clone()),
    };
    match namespace_of(&path) {
        Some("network") => own(&namespaces.network, "network"),
        Some("ipc") => own(&namespaces.ipc, "ipc"),
        Some("uts") => own(&namespaces.uts, "uts"),
        _ if path == "kernel/hostname" => Err("is set by `hostname`".into()),
        _ => Err("belongs to no namespace; it would change the host".into()),
    }
}

/// The kind of namespace that a parameter, by its path below `/proc/sys`, belongs to.
pub fn namespace_of(path: &str) -> Option<&'static str> {
    if path.starts_with("net/") {
        Some("network")
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        Some("ipc")
    } else if path == "kernel/domainname" {
        Some("uts")
    } else {
        None
    }
}

fn swap_separators(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_parameters_are_taken() {
        let own = Namespaces {
            network: Place::New,
            ipc: Place::New,
            ..Namespaces::default()
        };
        let port = "net.ipv4.ip_unprivileged_port_start";
        assert_eq!(
            path(port, &own).unwrap(),
            "net/ipv4/ip_unprivileged_port_start"
        );
        let vlan = "net.ipv4.conf.eth0/100.forwarding";
        assert_eq!(
            path(vlan, &own).unwrap(),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        assert_eq!(
            path("fs.mqueue.msg_max", &own).unwrap(),
            "fs/mqueue/msg_max"
        );
        for bad in [
            "vm.swappiness",
            "kernel.core_pattern",
            "kernel.hostname",
            "net.../x",
            "net",
        ] {
            assert!(path(bad, &own).is_err(), "{bad}");
        }
        for bad in [
            "net/ipv4/../../kernel/core_pattern",
            "net//x",
            "kernel.domainname",
        ] {
            assert!(path(bad, &own).is_err(), "{bad}");
        }
        assert!(
            path(port, &Namespaces::default())
                .unwrap_err()
                .contains("change the host")
        );
    }
}
