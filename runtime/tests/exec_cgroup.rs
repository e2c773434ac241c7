//! The cgroups of a process that joins a container.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Host, both, enter, eventually, skip, stderr, stdout};
use serde_json::json;

/// A container that waits, and where it is.
fn waiting(host: &Host, id: &str, script: &str, limits: bool) -> Vec<PathBuf> {
    let mut config = host.config(id, script);
    if !limits {
        config["linux"]["resources"] = json!({});
    }
    // Without a view of its own, what it says about itself is what the host says.
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let mut command = host.run_command(id, &config, &["--detach"]);
    let log = host.path("log");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let status = command.status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
    host.cgroups().iter().map(|dir| dir.join(id)).collect()
}

/// What a process says of its cgroups, executed with these options.
fn told(host: &Host, options: &[&str]) -> String {
    let words: Vec<&str> = ["exec"].iter().chain(options).copied().collect();
    let words = [&words[..], &["c", "cat", "/proc/self/cgroup"]].concat();
    let output = host.call(&words);
    assert!(output.status.success(), "{}", both(&output));
    stdout(&output)
}

#[test]
fn a_process_can_be_put_below_the_cgroup_of_its_container() {
    let Some(host) = enter() else { return };
    let own = waiting(&host, "c", "sleep 100", true);
    let at = host.cgroup("c");
    assert!(!own.is_empty());
    for dir in &own {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
    }
    let everywhere = |text: &str, what: &str| text.lines().filter(|l| l.ends_with(what)).count();
    let plain = told(&host, &[]);
    assert_eq!(everywhere(&plain, &at), own.len(), "{plain}");
    assert_eq!(told(&host, &["--cgroup", "/"]), plain);
    let below = told(&host, &["--cgroup", "/sub/deep"]);
    let wanted = format!("{at}/sub/deep");
    assert_eq!(everywhere(&below, &wanted), own.len(), "{below}");

    let refusals = |options: &[&str], what: &str| {
        let words = [&["exec"], options, &["c", "true"]].concat();
        let output = host.call(&words);
        assert_eq!(output.status.code(), Some(255), "{}", both(&output));
        assert!(
            stderr(&output).contains(what),
            "{options:?}: {}",
            both(&output)
        );
    };
    refusals(&["--cgroup", "../x"], "bad sub cgroup path");
    refusals(
        &["--cgroup", "nowhere"],
        "/nowhere/cgroup.procs: no such file or directory",
    );
    refusals(&["--cgroup", "whatever:/"], "unknown controller");
    if let Some(pids) = own
        .iter()
        .find(|dir| dir.starts_with("/sys/fs/cgroup/pids"))
    {
        let some = told(&host, &["--cgroup", "pids:sub"]);
        let line = format!(":pids:{at}/sub");
        assert!(
            some.contains(&line) && everywhere(&some, "/sub") == 1,
            "{some}"
        );
        assert!(pids.join("sub").exists());
    }
    host.must(&["delete", "--force", "c"]);
    host.assert_clean();
}

/// An init that manages cgroups itself, such as systemd, moves on from the one that it was given.
#[test]
fn who_joins_begins_where_the_first_process_is_when_its_cgroup_is_gone() {
    let Some(host) = enter() else { return };
    let cgroup = Path::new("/sys/fs/cgroup");
    let unified = cgroup.join("unified");
    let hybrid = unified.exists();
    if hybrid {
        rustix::mount::mount_bind(&unified, cgroup).unwrap();
    } else if !cgroup.join("cgroup.controllers").exists() {
        return skip("this host has no cgroup v2");
    }
    let elsewhere = cgroup.join(host.cgroup("elsewhere").trim_start_matches('/'));
    let own = waiting(&host, "c", "sleep 100", false);
    let [own] = &own[..] else { panic!("{own:?}") };
    fs::create_dir_all(&elsewhere).unwrap();
    let pids = fs::read_to_string(own.join("cgroup.procs")).unwrap();
    for pid in pids.lines() {
        fs::write(elsewhere.join("cgroup.procs"), pid).unwrap();
    }
    eventually("its cgroup is removed", || fs::remove_dir(own).is_ok());
    let wanted = format!("0::{}", host.cgroup("elsewhere"));
    let text = told(&host, &[]);
    assert!(text.lines().any(|line| line == wanted), "{text}");
    // Who says where, means it.
    let output = host.call(&["exec", "--cgroup", "/", "c", "true"]);
    assert_eq!(output.status.code(), Some(255), "{}", both(&output));
    host.must(&["delete", "--force", "c"]);
    fs::remove_dir(&elsewhere).unwrap();
    fs::remove_dir(elsewhere.parent().unwrap()).unwrap();
    if hybrid {
        rustix::mount::unmount(cgroup, rustix::mount::UnmountFlags::empty()).unwrap();
    }
    host.assert_clean();
}
