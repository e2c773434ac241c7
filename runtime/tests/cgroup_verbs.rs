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
use nix::sys::signal::Signal;
use nix::unistd::Pid;
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

/// What joins a paused container gets on with it, and does not keep it from being resumed.
#[test]
fn a_process_joins_a_paused_container_when_it_is_resumed() {
    let Some(host) = enter() else { return };
    let (config, log) = working(&host, "still");
    detach(&host, "still", &config);
    gets_on(&log);
    host.must(&["pause", "still"]);
    let mut exec = host.runtime(&["exec", "--ignore-paused", "still", "echo", "joined"]);
    let mut exec = exec.stdout(Stdio::piped()).spawn().unwrap();
    stands_still(&log);
    assert!(exec.try_wait().unwrap().is_none(), "it ran while paused");
    host.must(&["resume", "still"]);
    let output = exec.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "joined\n");
    // The container ends before what joins it can go on.
    host.must(&["pause", "still"]);
    let mut exec = host.runtime(&["exec", "--ignore-paused", "still", "echo", "joined"]);
    let exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let exec = exec.unwrap();
    sleep(Duration::from_millis(100));
    host.must(&["delete", "--force", "still"]);
    let output = exec.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", both(&output));
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

/// Without a pid namespace of its own nobody dies with the first process.
#[test]
fn everybody_is_killed_where_the_pid_namespace_is_not_its_own() {
    let Some(host) = enter() else { return };
    for gone in [false, true] {
        let id = if gone { "gone" } else { "there" };
        let mut config = host.config(id, "exec sleep 600");
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        detach(&host, id, &config);
        for _ in 0..3 {
            let mut exec = host.runtime(&["exec", "--detach", id, "sleep", "600"]);
            let status = exec.stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.unwrap().success());
        }
        let pids = host.must(&["ps", "--format", "json", id]);
        let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
        assert_eq!(pids.len(), 4);
        if gone {
            // `ps` lists the first process first: pids grow.
            let first = pids[0];
            nix::sys::signal::kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
            eventually("it is gone", || status(&host, id) == "stopped");
            // Other signals are for the first process.
            assert!(!host.call(&["kill", id, "TERM"]).status.success());
        }
        host.must(&["kill", id, "KILL"]);
        eventually("all are dead", || {
            reap();
            pids.iter()
                .all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
        });
        assert!(!host.call(&["kill", id, "KILL"]).status.success());
        host.must(&["delete", id]);
    }
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

/// The first control file of the container with one of these names.
fn control(host: &Host, id: &str, names: &[&str]) -> String {
    let dirs = cgroups(host, id);
    let found = dirs
        .iter()
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)))
        .find_map(|path| fs::read_to_string(path).ok());
    found
        .unwrap_or_else(|| panic!("no {names:?} in {dirs:?}"))
        .trim()
        .to_owned()
}

const MEMORY: &[&str] = &["memory.max", "memory.limit_in_bytes"];

#[test]
fn limits_are_updated_by_options_and_by_file() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "limits");
    // As engines write them that read JSON without minding capital letters.
    config["linux"]["resources"] = json!({
        "Memory": {"Limit": 33_554_432},
        "pids": {"limit": 20},
    });
    detach(&host, "limits", &config);
    gets_on(&log);
    let memory = || control(&host, "limits", MEMORY);
    let pids = || control(&host, "limits", &["pids.max"]);
    host.must(&["update", "--memory", "50M", "limits"]);
    assert_eq!(memory(), "52428800");
    assert_eq!(pids(), "20");
    host.must(&["update", "limits", "--pids-limit", "-1"]);
    assert_eq!(pids(), "max");
    host.must(&["update", "--pids-limit", "10", "limits"]);
    assert_eq!(pids(), "10");
    // A paused container stays paused.
    host.must(&["pause", "limits"]);
    host.must(&["update", "--pids-limit", "12", "limits"]);
    assert_eq!(
        (pids().as_str(), status(&host, "limits").as_str()),
        ("12", "paused")
    );
    host.must(&["resume", "limits"]);
    let file = host.path("resources.json");
    fs::write(
        &file,
        r#"{"memory":{"limit":41943040,"swap":0},"PIDs":{"limit":30}}"#,
    )
    .unwrap();
    host.must(&["update", "-r", file.to_str().unwrap(), "limits"]);
    assert_eq!((memory().as_str(), pids().as_str()), ("41943040", "30"));
    // What holds is what is remembered.
    let saved: Value =
        serde_json::from_slice(&fs::read(host.root().join("limits/config.json")).unwrap()).unwrap();
    assert_eq!(
        saved["linux"]["resources"],
        json!({"memory": {"limit": 41_943_040}, "pids": {"limit": 30}})
    );
    host.must(&["exec", "limits", "true"]);
    for wrong in [
        &["update", "--memory", "lots", "limits"][..],
        &["update", "--what", "1", "limits"],
        &["update", "--mem-bw-schema", "MB:0=20", "limits"],
        &["update"],
        &["update", "--pids-limit", "5", "nobody"],
    ] {
        assert!(!host.call(wrong).status.success(), "{wrong:?}");
    }
    fs::write(&file, r#"{"pids":{"limit":3},"what":1}"#).unwrap();
    let refused = host.call(&["update", "-r", file.to_str().unwrap(), "limits"]);
    assert!(stderr(&refused).contains("what"), "{}", both(&refused));
    assert_eq!(pids(), "30");
    let warned = host.call(&["update", "--kernel-memory", "50M", "limits"]);
    assert!(
        warned.status.success() && stderr(&warned).contains("ignored"),
        "{}",
        both(&warned)
    );
    host.must(&["delete", "--force", "limits"]);
    reap();
    host.assert_clean();
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "whole");
    config["linux"]["resources"] = json!({
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 20},
        "memory": {"limit": 33_554_432},
    });
    detach(&host, "whole", &config);
    gets_on(&log);
    let file = host.path("resources.json");
    let wrong = r#"{"memory":{"limit":41943040},"pids":{"limit":7},
                    "cpu":{"quota":20000,"cpus":"4095"}}"#;
    fs::write(&file, wrong).unwrap();
    let before = fs::read(host.root().join("whole/config.json")).unwrap();
    let refused = host.call(&["update", "-r", file.to_str().unwrap(), "whole"]);
    assert!(!refused.status.success(), "{}", both(&refused));
    assert!(
        stderr(&refused).contains("cpuset.cpus"),
        "{}",
        both(&refused)
    );
    assert_eq!(control(&host, "whole", MEMORY), "33554432");
    assert_eq!(control(&host, "whole", &["pids.max"]), "20");
    let quota = control(&host, "whole", &["cpu.max", "cpu.cfs_quota_us"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    assert_eq!(
        fs::read(host.root().join("whole/config.json")).unwrap(),
        before
    );
    host.must(&["delete", "--force", "whole"]);
    reap();
    host.assert_clean();
}

#[test]
fn quota_and_period_are_updated_alone_and_together() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "cpu");
    config["linux"]["resources"] =
        json!({"cpu": {"quota": 500_000, "period": 1_000_000, "shares": 100}});
    detach(&host, "cpu", &config);
    gets_on(&log);
    let cpu = || {
        let v2 = cgroups(&host, "cpu")
            .iter()
            .any(|dir| dir.join("cpu.max").exists());
        if v2 {
            return control(&host, "cpu", &["cpu.max"]).replace("max", "-1");
        }
        let quota = control(&host, "cpu", &["cpu.cfs_quota_us"]);
        format!("{quota} {}", control(&host, "cpu", &["cpu.cfs_period_us"]))
    };
    for (options, want) in [
        (&["--cpu-period", "900000"][..], "500000 900000"),
        (&["--cpu-quota", "600000"], "600000 900000"),
        (&["--cpu-quota", "-1"], "-1 900000"),
        (
            &["--cpu-period", "10000", "--cpu-quota", "3000"],
            "3000 10000",
        ),
        (
            &["--cpu-quota", "-1", "--cpu-period", "100000"],
            "-1 100000",
        ),
        (&["--cpu-quota", "0", "--cpu-share", "200"], "-1 100000"),
    ] {
        let words: Vec<&str> = ["update"]
            .iter()
            .chain(options)
            .chain(&["cpu"])
            .copied()
            .collect();
        host.must(&words);
        assert_eq!(cpu(), want, "{options:?}");
    }
    let shares = control(&host, "cpu", &["cpu.weight", "cpu.shares"]);
    assert!(["29", "200"].contains(&shares.as_str()), "{shares}");
    host.must(&["update", "--cpu-idle", "1", "cpu"]);
    assert_eq!(control(&host, "cpu", &["cpu.idle"]), "1");
    host.must(&["update", "--cpu-share", "300", "cpu"]);
    assert_eq!(control(&host, "cpu", &["cpu.idle"]), "0");
    // A controller in whose hierarchy it was not so far.
    host.must(&["update", "--pids-limit", "33", "--cpuset-cpus", "0", "cpu"]);
    assert_eq!(control(&host, "cpu", &["pids.max"]), "33");
    assert_eq!(control(&host, "cpu", &["cpuset.cpus"]), "0");
    let tasks = control(&host, "cpu", &["pids.current"]);
    assert_ne!(tasks, "0");
    host.must(&["exec", "cpu", "true"]);
    host.must(&["delete", "--force", "cpu"]);
    reap();
    host.assert_clean();
}

#[test]
fn events_tell_what_is_used_until_the_end() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "told");
    config["linux"]["resources"] = json!({
        "memory": {"limit": 33_554_432},
        "cpu": {"shares": 512},
        "pids": {"limit": 20},
    });
    detach(&host, "told", &config);
    gets_on(&log);
    let line = host.must(&["events", "--stats", "told"]);
    assert!(
        line.starts_with(r#"{"type":"stats","id":"told","data":{"#),
        "{line}"
    );
    let data = serde_json::from_str::<Value>(&line).unwrap()["data"].take();
    assert_eq!(data["pids"]["limit"], 20);
    assert!(data["pids"]["current"].as_u64().unwrap() > 0);
    assert_eq!(data["memory"]["usage"]["limit"], 33_554_432);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    // Only hierarchies in which something is asked for are joined.
    let dirs = cgroups(&host, "told");
    let counted = dirs
        .iter()
        .any(|dir| dir.join("cpuacct.usage").exists() || dir.join("cgroup.controllers").exists());
    assert_eq!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, counted);
    let file = host.path("events");
    let mut events = host.runtime(&["events", "--interval", "50ms", "told"]);
    let mut events = events
        .stdout(fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(&file).unwrap().lines().count();
    eventually("several lines", || lines() > 3);
    host.must(&["delete", "--force", "told"]);
    assert!(events.wait().unwrap().success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.lines().all(|line| line.contains(r#""type":"stats""#)),
        "{text}"
    );
    for wrong in [
        &["events", "told"][..],
        &["events", "--interval", "0", "told"],
    ] {
        assert!(!host.call(wrong).status.success());
    }
    reap();
    host.assert_clean();
}

#[test]
fn events_tell_when_memory_runs_out() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "hungry");
    let limit = 16 << 20;
    config["linux"]["resources"] = json!({"memory": {"limit": limit}});
    detach(&host, "hungry", &config);
    gets_on(&log);
    let file = host.path("events");
    let mut events = host.runtime(&["events", "hungry"]);
    let mut events = events
        .stdout(fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    // It watches by now, or sees the count grow later on.
    sleep(Duration::from_millis(200));
    let hog = "x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x)";
    let output = host.call(&["exec", "hungry", "sh", "-c", hog]);
    assert!(!output.status.success(), "{}", both(&output));
    let line = r#"{"type":"oom","id":"hungry"}"#;
    eventually("oom is told", || {
        fs::read_to_string(&file)
            .unwrap()
            .lines()
            .any(|l| l == line)
    });
    host.must(&["delete", "--force", "hungry"]);
    assert!(events.wait().unwrap().success());
    reap();
    host.assert_clean();
}

#[test]
fn device_rules_are_exchanged() {
    let Some(host) = enter() else { return };
    let (mut config, log) = working(&host, "dev");
    config["process"]["user"] = json!({"uid": 0, "gid": 0});
    let syslog = json!(["CAP_SYSLOG"]);
    config["process"]["capabilities"] =
        json!({"bounding": syslog, "effective": syslog, "permitted": syslog});
    let full = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    let none = json!({"allow": false, "access": "rwm"});
    config["linux"]["resources"] = json!({"devices": [none]});
    let device =
        json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
    config["linux"]["devices"] = json!([device]);
    detach(&host, "dev", &config);
    gets_on(&log);
    let may = |direction: &str| {
        let script = format!("exec 3{direction}/dev/kmsg");
        host.call(&["exec", "dev", "sh", "-c", &script])
            .status
            .success()
    };
    assert!(!may(">"), "nothing is allowed");
    let update = |rules: Value| {
        let file = host.path("devices.json");
        fs::write(&file, json!({"devices": rules}).to_string()).unwrap();
        host.must(&["update", "-r", file.to_str().unwrap(), "dev"]);
    };
    update(json!([none, full("w")]));
    assert!(may(">") && !may("<>"));
    update(json!([none, full("rw")]));
    assert!(may(">") && may("<>"));
    update(json!([none]));
    assert!(!may(">") && !may("<>"));
    host.must(&[
        "exec",
        "dev",
        "sh",
        "-c",
        "exec 3<>/dev/null 4</dev/urandom",
    ]);
    gets_on(&log);
    host.must(&["delete", "--force", "dev"]);
    reap();
    host.assert_clean();
}
