//! The same container on other layouts of control groups, made by mounts of a private host.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Host, both, enter, stderr, stdout};
use serde_json::json;

/// Shows only the v2 tree, or only the v1 trees.
fn with_layout(words: &[&str]) -> Option<Host> {
    let host = enter()?;
    if !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        eprintln!("SKIP: needs a hybrid host, with /sys/fs/cgroup/unified");
        return None;
    }
    assert!(
        Command::new("mount")
            .args(words)
            .status()
            .unwrap()
            .success()
    );
    Some(host)
}

#[test]
fn on_v2_the_container_is_born_in_its_cgroup() {
    let Some(host) = with_layout(&["--bind", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"]) else {
        return;
    };
    let script = "cat /proc/self/cgroup | grep '^0:'; ls /sys/fs/cgroup/cgroup.procs; \
                  cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>&1; true";
    for init in ["false", "true"] {
        let mut config = host.config("v2", script);
        config["annotations"] = json!({"org.metactl.init": init});
        config["linux"]["resources"] = json!({});
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["ro", "nosuid", "nodev", "noexec"],
        }));
        let output = host.run("v2", &config);
        let text = stdout(&output);
        assert!(
            text.starts_with("0::/\n/sys/fs/cgroup/cgroup.procs\n1\n"),
            "{}",
            both(&output)
        );
        assert!(text.contains("Read-only"), "{}", both(&output));
        host.assert_clean();
    }
    let mut config = host.config("v2", "true");
    config["linux"]["resources"] = json!({"memory": {"limit": 10_000_000}});
    let output = host.run("v2", &config);
    assert_eq!(output.status.code(), Some(78), "{}", both(&output));
    assert!(stderr(&output).contains("memory"), "{}", both(&output));
    host.assert_clean();
}

#[test]
fn on_v2_exec_joins_the_cgroup() {
    let Some(host) = with_layout(&["--bind", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"]) else {
        return;
    };
    let mut config = host.config("v2", "exec sleep 1000");
    config["linux"]["resources"] = json!({});
    let mut main = host.run_command("v2", &config, &[]).spawn().unwrap();
    common::eventually("it runs", || {
        host.call(&["exec", "v2", "true"]).status.success()
    });
    assert!(
        host.must(&["exec", "v2", "cat", "/proc/self/cgroup"])
            .contains("0::/\n")
    );
    let dir = Path::new("/sys/fs/cgroup").join(host.cgroup("v2").trim_start_matches('/'));
    assert_eq!(
        fs::read_to_string(dir.join("cgroup.procs"))
            .unwrap()
            .lines()
            .count(),
        1
    );
    host.must(&["kill", "v2", "KILL"]);
    assert_eq!(main.wait().unwrap().code(), Some(137));
    host.assert_clean();
}

#[test]
fn on_v1_only_hierarchies_with_limits_are_joined() {
    let Some(host) = with_layout(&["-t", "tmpfs", "none", "/sys/fs/cgroup/unified"]) else {
        return;
    };
    let script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/pids.max";
    let mut config = host.config("v1", script);
    config["linux"]["resources"] = json!({"pids": {"limit": 33}, "memory": {"limit": 50_000_000}});
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"],
    }));
    let output = host.run("v1", &config);
    let text = stdout(&output);
    assert!(text.ends_with("memory\npids\n33\n"), "{}", both(&output));
    assert!(
        text.contains(":pids:/\n") && text.contains(":memory:/\n"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

/// Limits of the instance are on the directory above, and hold for all entry points together.
#[test]
fn limits_of_an_instance_are_on_the_directory_above() {
    let Some(host) = enter() else { return };
    let mut config = host.config(
        "one",
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all",
    );
    config["annotations"] = json!({"org.metactl.instance.resources": r#"{"pids": {"limit": 5}}"#});
    config["linux"]["resources"] = json!({});
    let output = host.run("one", &config);
    assert!(stderr(&output).contains("can't fork"), "{}", both(&output));
    config["annotations"] = json!({"org.metactl.instance.resources": r#"{"pods": {}}"#});
    let output = host.run("one", &config);
    assert_eq!(output.status.code(), Some(78), "{}", both(&output));
    host.assert_clean();
}
