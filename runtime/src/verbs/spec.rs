//! `spec`: writes a `config.json` to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use lexopt::Parser;
use serde_json::{Value, json};

use crate::launch::LaunchError;
use crate::state::OCI_VERSION;
use crate::verbs::{Failure, Globals, Word, next, unexpected};

pub(super) fn run(_: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut bundle = PathBuf::from(".");
    let mut rootless = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--bundle" || name == "-b" => {
                bundle = parser.value()?.into();
            }
            Word::Option(name) if name == "--rootless" => rootless = true,
            word => return Err(unexpected(word)),
        }
    }
    let path = bundle.join("config.json");
    let problem = |e| {
        let what = format!(
            "write {} (one that is there is not replaced)",
            path.display()
        );
        LaunchError::system(what, e)
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(problem)?;
    let mut text = serde_json::to_vec_pretty(&configuration(rootless))
        .map_err(|e| LaunchError::system("write JSON", std::io::Error::from(e)))?;
    text.push(b'\n');
    file.write_all(&text).map_err(problem)?;
    Ok(0)
}

/// A shell as root of its own root, with few capabilities; for somebody without privilege in a user
/// namespace with nobody but them in it.
fn configuration(rootless: bool) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    // As `runc spec` does it: configurations that are made from this one add it for cgroup v1.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        namespaces.push("cgroup");
    }
    namespaces.push(if rootless { "user" } else { "network" });
    let mut config = json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "sandbox",
        "mounts": mounts(rootless),
        "linux": {
            "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
        config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    } else {
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    }
    config
}

fn mounts(rootless: bool) -> Value {
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    if !rootless {
        // The group tty, which a single mapped id is not.
        pts.push("gid=5");
    }
    let sys = match rootless {
        // A sysfs of its own needs a network namespace of its own.
        true => json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]}),
        false => json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"]}),
    };
    let mut all = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        sys,
    ];
    if !rootless {
        all.push(
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        );
    }
    Value::Array(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Bundle;

    #[test]
    fn what_it_writes_can_be_read() {
        for rootless in [false, true] {
            let text = serde_json::to_vec(&configuration(rootless)).unwrap();
            let bundle = Bundle::parse(std::path::Path::new("/b"), text).unwrap();
            assert!(bundle.spec.process().is_some());
        }
    }
}
