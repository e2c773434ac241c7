//! Known ways out of a sandbox, tried: a module for each family, a test for each attack, which it
//! names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod bundle;
mod calls;
mod cgroups;
mod created;
mod descriptors;
mod executable;
mod identity;
mod neighbours;
mod network;
mod paths;
mod procfs;
mod race;
mod terminal;

use std::process::{Child, Command, Stdio};

use common::Host;
use serde_json::{Value, json};

/// Every capability, in the order of their numbers (capabilities(7)).
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN \
    SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// Those of the capabilities that this test has itself.
fn at_hand(capabilities: &str) -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:\t"));
    let own = u64::from_str_radix(line.unwrap(), 16).unwrap();
    let wanted = |name: &str| capabilities.split_whitespace().any(|w| w == name);
    CAPABILITIES
        .split_whitespace()
        .enumerate()
        .filter(|(number, name)| own & (1 << number) != 0 && wanted(name))
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// The configuration of a container that is root, with these capabilities (without `CAP_`) and
/// without a filter, in a root tree that it may write to.
fn root_config(host: &Host, id: &str, script: &str, capabilities: &str) -> Value {
    let mut config = host.config(id, script);
    let all = at_hand(capabilities);
    let process = &mut config["process"];
    process["user"] = json!({"uid": 0, "gid": 0});
    process["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    process["noNewPrivileges"] = json!(false);
    config["root"]["readonly"] = json!(false);
    config["linux"].as_object_mut().unwrap().remove("seccomp");
    config
}

/// A container in the background. It is ready when its script has made `/tmp/ready`.
fn start(host: &Host, id: &str, config: &Value) -> Child {
    let mut run = host.run_command(id, config, &[]);
    let child = run
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    loop {
        let test = host.call(&["exec", id, "test", "-e", "/tmp/ready"]);
        if test.status.success() {
            break;
        }
        let late = begun.elapsed().as_secs() > 20;
        assert!(!late, "not ready: {}", common::both(&test));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child
}

/// Ends it. This test is the init of its host: what joined and lost its parent is its child, and
/// a pid namespace ends only when all its processes are waited for.
fn stop(host: &Host, id: &str, mut child: Child) {
    host.must(&["kill", id, "KILL"]);
    let begun = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed().as_secs() < 20, "{id} does not end");
        common::reap_but(child.id());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A command of the runtime that inherits more descriptors than it should: what `redirections`
/// of bash say.
fn with_descriptors(host: &Host, redirections: &str, words: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("exec {redirections}; exec \"$@\""), "bash"])
        .arg(common::binary())
        .arg("--root")
        .arg(host.root())
        .args(words)
        .stdin(Stdio::null());
    command
}
