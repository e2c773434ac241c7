//! The verbs that work on the cgroups of a running container: `pause`, `resume`, `update` and
//! `events`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::{Host, both, enter, eventually, stderr};
use serde_json::{Value, json};

/// The script of a container that gets on: every step makes its file longer.
const STEPS: &str = "while :; do echo x >> /steps/log; sleep 0.01; done";

/// A container that works on a file of its host, and that file.
fn working(host: &Host, id: &str) -> (Value, PathBuf) {
    let dir = host.path(&format!("steps-{id}"));
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut config = host.config(id, STEPS);
    let mount = json!({"destination": "/steps", "source": dir, "options": ["bind", "rw"]});
    config["mounts"].as_array_mut().unwrap().push(mount);
    (config, dir.join("log"))
}

fn detach(host: &Host, id: &str, config: &Value) {
    let mut command = host.run_command(id, config, &["--detach"]);
    let log = host.path(&format!("{id}.log"));
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let status = command.status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
}

fn length(file: &PathBuf) -> u64 {
    fs::metadata(file).map_or(0, |meta| meta.len())
}

fn gets_on(file: &PathBuf) {
    let now = length(file);
    eventually("it gets on", || length(file) > now);
}

fn stands_still(file: &PathBuf) {
    let now = length(file);
    sleep(Duration::from_millis(100));
    assert_eq!(length(file), now, "a paused container went on");
}

fn status(host: &Host, id: &str) -> String {
    let state: Value = serde_json::from_str(&host.must(&["state", id])).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

/// Containers of `run --detach` are children of this test.
fn reap() {
    while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|w| w.is_some()) {}
}

/// The cgroup directories that the state of a container tells.
fn cgroups(host: &Host, id: &str) -> Vec<PathBuf> {
    metactl_runtime::state::read(&host.root(), id)
        .unwrap()
        .cgroups
}

#[test]
fn a_container_is_paused_and_resumed() {
    let Some(host) = enter() else { return };
    let (config, log) = working(&host, "still");
    detach(&host, "still", &config);
    gets_on(&log);
    let refused = host.call(&["resume", "still"]);
    assert!(stderr(&refused).contains("running"), "{}", both(&refused));
    for _ in 0..3 {
        host.must(&["pause", "still"]);
        stands_still(&log);
        assert_eq!(status(&host, "still"), "paused");
        assert!(host.must(&["list"]).contains("paused"));
        let refused = host.call(&["pause", "still"]);
        assert!(stderr(&refused).contains("is paused"), "{}", both(&refused));
        let refused = host.call(&["exec", "still", "true"]);
        assert!(stderr(&refused).contains("is paused"), "{}", both(&refused));
        host.must(&["resume", "still"]);
        gets_on(&log);
        assert_eq!(status(&host, "still"), "running");
        host.must(&["exec", "still", "true"]);
    }
    assert!(!host.call(&["pause", "nobody"]).status.success());
    host.must(&["pause", "still"]);
    host.must(&["kill", "still", "KILL"]);
    eventually("stopped", || status(&host, "still") == "stopped");
    host.must(&["delete", "still"]);
    reap();
    host.assert_clean();
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    let Some(host) = enter() else { return };
    for id in ["one", "two"] {
        let (config, log) = working(&host, id);
        detach(&host, id, &config);
        gets_on(&log);
        host.must(&["pause", id]);
    }
    host.must(&["delete", "--force", "one"]);
    host.must(&["kill", "--all", "two", "KILL"]);
    host.must(&["delete", "--force", "two"]);
    reap();
    host.assert_clean();
}

/// A process that forks all the time, and one in a pid namespace further inside, stop with the
/// others although the container had no freezer when it was launched.
#[test]
fn everybody_in_a_container_is_paused() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "many");
    let script = "while :; do (echo f >> /steps/forks); done & \
                  unshare -Ufp sh -c 'while :; do echo n >> /steps/nested; done' & "
        .to_owned()
        + STEPS;
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["linux"]["seccomp"] = Value::Null;
    config["linux"].as_object_mut().unwrap().remove("seccomp");
    detach(&host, "many", &config);
    let logs = ["forks", "nested"].map(|name| log.with_file_name(name));
    logs.iter().chain([&log]).for_each(gets_on);
    host.must(&["pause", "many"]);
    logs.iter().chain([&log]).for_each(stands_still);
    assert!(
        cgroups(&host, "many")
            .iter()
            .any(|dir| dir.join("freezer.state").exists() || dir.join("cgroup.freeze").exists())
    );
    host.must(&["resume", "many"]);
    logs.iter().chain([&log]).for_each(gets_on);
    host.must(&["delete", "--force", "many"]);
    reap();
    host.assert_clean();
}
