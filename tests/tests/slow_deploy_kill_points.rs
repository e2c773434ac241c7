//! `metactl APP deploy` is killed at each of its steps: strace kills it with SIGKILL at the entry of a
//! system call that changes something. Afterwards `status` tells the truth, the old or the new
//! release runs, whole, and nothing of the other one is left half done.
//!
//! The calls of an undisturbed deployment are counted first, so that every step is met; there must
//! be at least [`MINIMUM`] distinct points.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use metactl_tests::needs::{GIT, STRACE};
use metactl_tests::{Host, eventually, machine, on_host};

const MINIMUM: usize = 30;
/// The most points of one call; those between are of the same step.
const SAMPLE: usize = 9;
const SOON: Duration = Duration::from_secs(30);

/// What changes a file, a process or a lock.
const CALLS: &str = "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,\
    fsync,syncfs,flock,ftruncate,clone3,vfork,clone,execve,wait4,waitid,fchown,lchown,fchownat,chmod,fchmod,\
    kill,pidfd_send_signal,copy_file_range";

/// How long each version sleeps: what tells them apart from outside.
const VERSIONS: [(&str, &str); 2] = [("1.0", "sleep 100001"), ("2.0", "sleep 100002")];

fn script(sleep: &str) -> String {
    format!("#!/bin/sh\nexec {sleep}\n")
}

/// Runs a deployment under strace; kills it at the entry of the `when`-th of `call`, if so told.
/// Whether it was killed.
fn deploy(host: &Host, tag: &str, point: Option<(&str, usize)>, trace: &Path) -> bool {
    let metactl = host.metactl(&["app", "deploy", tag]);
    let mut strace = Command::new("strace");
    strace.arg("-qq").arg("-o").arg(trace);
    match point {
        None => strace.arg(format!("--trace={CALLS}")),
        Some((call, when)) => strace
            .arg(format!("--trace={call}"))
            .arg(format!("--inject={call}:signal=KILL:when={when}")),
    };
    strace
        .arg("--")
        .arg(metactl.get_program())
        .args(metactl.get_args());
    strace.env_clear().current_dir("/");
    for (name, value) in metactl.get_envs() {
        strace.env(name, value.unwrap());
    }
    let outcome = host.spawn_command(strace).wait(Duration::from_secs(60));
    let killed = outcome.code == 137;
    assert!(killed || outcome.code == 0, "{outcome}");
    killed
}

/// Which version runs: exactly one does.
fn running(what: &str) -> usize {
    let running = || {
        let count = VERSIONS.map(|(_, sleep)| machine::pids_of(&[sleep]).len());
        match count {
            [1, 0] => Some(0),
            [0, 1] => Some(1),
            _ => None,
        }
    };
    eventually(&format!("one version after {what}"), SOON, running)
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What the next command finds, and leaves.
fn is_whole(host: &Host, what: &str) -> usize {
    // It converges.
    let status = host.run(&["app", "status"]);
    assert_eq!(status.code, 0, "{what}: {status}");
    let version = running(what);
    let (tag, _) = VERSIONS[version];
    let status = host.run(&["app", "status"]).ok();
    assert!(
        status.stdout.contains(&format!("· {tag} (")) && status.stdout.contains("running"),
        "{what}: {tag} runs, but {status}"
    );
    let state = host.state("app");
    assert!(!state.join("deploy.json").exists(), "{what}");
    let releases = entries(&state.join("releases"));
    for name in &releases {
        assert!(!name.starts_with('.'), "{what}: {releases:?}");
        let (id, other) = match name.strip_suffix(".json") {
            Some(id) => (id, id.to_owned()),
            None => (name.as_str(), format!("{name}.json")),
        };
        assert!(
            releases.contains(&other),
            "{what}: half of {id}: {releases:?}"
        );
        if other.ends_with(".json") {
            let files = entries(&state.join("releases").join(name));
            assert_eq!(files, [".metactl", "app.sh", "built", "data"], "{what}");
        }
    }
    let local = fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap();
    let said = format!("tag = {tag}");
    assert!(local.contains(&said) || tag == "1.0", "{what}: {local}");
    // No build goes on, and its checkout is gone.
    assert!(machine::pids_of(&["build+app"]).is_empty(), "{what}");
    let workshop = host.root().join("var/cache/metactl/build/app");
    assert!(
        !workshop.join("src").exists(),
        "{what}: {:?}",
        entries(&workshop)
    );
    assert_eq!(machine::pids_of(&["supervise"]).len(), 1, "{what}");
    version
}

#[test]
fn deploy_is_killed_at_each_of_its_steps() {
    on_host(&[GIT, STRACE], |host| {
        let layer = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n\
            [build]\ncommand = echo built > built\nwatch = 1ms\n[crontab]\n";
        let [(first, one), (second, two)] = VERSIONS;
        let (one, two) = (script(one), script(two));
        let files = [(".metactl", layer), ("app.sh", &one), ("data", "x")];
        let repository = host.application("app", &files, "");
        repository.write("app.sh", &two).commit(second);
        host.run(&["app", "deploy", first]).ok();
        let trace = host.work().join("trace");
        assert!(!deploy(host, second, None, &trace));
        assert_eq!(is_whole(host, "an undisturbed run"), 1);

        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in fs::read_to_string(&trace).unwrap().lines() {
            if let Some((call, _)) = line.split_once('(') {
                *counts.entry(call.to_owned()).or_default() += 1;
            }
        }
        let mut now = 1;
        let (mut points, mut old, mut new) = (0, 0, 0);
        for (call, count) in &counts {
            let take = (*count).min(SAMPLE);
            for at in 0..take {
                let when = 1 + at * count / take;
                let target = 1 - now;
                let what = format!(
                    "{call} {when} of {count} on the way to {}",
                    VERSIONS[target].0
                );
                let killed = deploy(host, VERSIONS[target].0, Some((call, when)), &trace);
                now = is_whole(host, &what);
                // The number of waits varies a little; the last ones may not be reached.
                points += usize::from(killed);
                match (killed, now == target) {
                    (true, true) => new += 1,
                    (true, false) => old += 1,
                    (false, reached) => assert!(reached, "{what}"),
                }
            }
        }
        println!("{points} points: {old} times the old release ran, {new} times the new one");
        assert!(points >= MINIMUM, "only {points} points: {counts:?}");
        assert!(old > 0 && new > 0, "{old} {new}");
        // And it still works.
        host.run(&["app", "deploy", VERSIONS[1 - now].0]).ok();
        host.run(&["app", "stop"]).ok();
    });
}
