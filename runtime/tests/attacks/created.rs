//! A container between `create` and `start`, and what somebody in it or beside it makes of that; hosts
//! that are given away by a configuration.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{both, enter, eventually, processes, reap, stderr};
use crate::root_config;

/// CVE-2019-5736 by way of a process that waits for `start`: it has nothing that the container may not
/// have, and who could look at it cannot join yet.
#[test]
fn who_waits_for_start_has_nothing_to_give() {
    let Some(host) = enter() else { return };
    let mut config = root_config(&host, "waits", "sleep 1000", "");
    config["process"]["noNewPrivileges"] = json!(true);
    let bundle = host.bundle("waits", &config);
    let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap(), "waits"]);
    create.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().unwrap().success());
    let state: serde_json::Value = serde_json::from_str(&host.must(&["state", "waits"])).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000\n")),
            "{status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    let output = host.call(&["exec", "--cap", "CAP_SYS_PTRACE", "waits", "true"]);
    assert!(
        stderr(&output).contains("only after `start`"),
        "{}",
        both(&output)
    );
    // Others can.
    host.must(&["exec", "waits", "true"]);
    host.must(&["start", "waits"]);
    host.must(&["delete", "--force", "waits"]);
    reap();
    host.assert_clean();
}

/// A configuration without a mount namespace and with the host's root would have it mounted over, and
/// unmounted at the end.
#[test]
fn the_hosts_root_is_no_root_among_its_own_mounts() {
    let Some(host) = enter() else { return };
    let mut config = root_config(&host, "top", "true", "");
    config["root"] = json!({"path": "/"});
    config["linux"]["namespaces"] = json!([{"type": "pid"}]);
    config["linux"]["sysctl"] = json!({});
    config.as_object_mut().unwrap().remove("hostname");
    let output = host.run("top", &config);
    assert!(
        stderr(&output).contains("the host's own root"),
        "{}",
        both(&output)
    );
    // What somebody mounted on the root before stays.
    let root = host.path("rootfs");
    let mount = |words: &[&str]| {
        let status = std::process::Command::new(words[0])
            .args(&words[1..])
            .status();
        assert!(status.unwrap().success(), "{words:?}");
    };
    mount(&[
        "mount",
        "--bind",
        root.to_str().unwrap(),
        root.to_str().unwrap(),
    ]);
    config["root"] = json!({"path": root});
    let output = host.run("top", &config);
    assert!(output.status.success(), "{}", both(&output));
    mount(&["umount", root.to_str().unwrap()]);
    host.assert_clean();
}

/// Undoing a launch kills what is in its cgroups: nobody else may be in there, also not below.
#[test]
fn a_cgroup_with_others_below_it_is_refused() {
    let Some(host) = enter() else { return };
    let top = format!("/sys/fs/cgroup/pids{}", host.cgroup("taken"));
    if !fs::exists("/sys/fs/cgroup/pids").unwrap() {
        return crate::common::skip("the pids controller is not on cgroup v1 here");
    }
    let below = format!("{top}/below");
    fs::create_dir_all(&below).unwrap();
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    fs::write(format!("{below}/tasks"), other.id().to_string()).unwrap();
    let output = host.run("taken", &root_config(&host, "taken", "true", ""));
    assert!(
        stderr(&output).contains("has processes already"),
        "{}",
        both(&output)
    );
    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    other.kill().unwrap();
    other.wait().unwrap();
    for dir in [&below, &top] {
        eventually("it can be removed", || fs::remove_dir(dir).is_ok());
    }
    fs::remove_dir(std::path::Path::new(&top).parent().unwrap()).unwrap_or_default();
    host.assert_clean();
}

/// A container that stops whatever joins it holds up who joins, but not who deletes it.
#[test]
fn a_container_that_stops_what_joins_it_can_be_deleted() {
    let Some(host) = enter() else { return };
    let config = host.config("stops", "while :; do kill -STOP -1; done 2>/dev/null");
    let bundle = host.bundle("stops", &config);
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--bundle",
        bundle.to_str().unwrap(),
        "stops",
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let mut joiners: Vec<_> = (0..4)
        .map(|_| {
            let mut exec = host.runtime(&["exec", "stops", "sleep", "1000"]);
            exec.stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    host.must(&["delete", "--force", "stops"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
    for joiner in &mut joiners {
        joiner.wait().unwrap();
    }
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}

/// A signal to all of a container does not reach the one whose pid namespace it shares.
#[test]
fn a_signal_to_all_stays_in_the_container() {
    let Some(host) = enter() else { return };
    let out = |name: &str| fs::File::create(host.path(name)).unwrap();
    let start = |id: &str, config: &serde_json::Value| {
        let bundle = host.bundle(id, config);
        let mut run = host.runtime(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]);
        run.stdout(out(id)).stderr(Stdio::null());
        assert!(run.status().unwrap().success());
    };
    start(
        "first",
        &host.config(
            "first",
            "trap 'echo got' USR1; echo up; while :; do sleep 0.1; done",
        ),
    );
    let state: serde_json::Value = serde_json::from_str(&host.must(&["state", "first"])).unwrap();
    let mut config = host.config(
        "second",
        "trap 'echo got' USR1; echo up; while :; do sleep 0.1; done",
    );
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{}/ns/pid", state["pid"]));
        }
    }
    start("second", &config);
    let said = |id: &str| fs::read_to_string(host.path(id)).unwrap();
    eventually("both are up", || {
        said("first").contains("up") && said("second").contains("up")
    });
    host.must(&["kill", "--all", "second", "USR1"]);
    eventually("it got it", || said("second").contains("got"));
    assert!(!said("first").contains("got"));
    let pids: Vec<i32> =
        serde_json::from_str(&host.must(&["ps", "--format", "json", "second"])).unwrap();
    assert!(
        !pids.iter().any(|pid| state["pid"] == json!(pid)),
        "{pids:?}"
    );
    // A pid namespace ends when all of its processes have been waited for, here by this test.
    for id in ["second", "first"] {
        host.must(&["delete", "--force", id]);
        reap();
    }
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}
