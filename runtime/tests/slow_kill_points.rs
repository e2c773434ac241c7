//! The runtime is killed at each of its steps: a tracer kills it, or the process it makes, with
//! SIGKILL at the entry of a system call. Afterwards `list` and `state` work, `delete --force`
//! succeeds, and there is no mount, cgroup, interface, process or file that was not there before.
//!
//! A test for each verb and configuration. Each counts the calls of an undisturbed run first, and
//! then takes points from all over it; it must find at least [`MINIMUM`], so that there are more
//! than 200 distinct ones in all. `METACTL_KILL_POINTS=all` takes every one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/tracer.rs"]
mod tracer;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Host, both, enter, eventually, processes, reap, reap_but};
use serde_json::{Value, json};
use tracer::Point;

/// The fewest points of a scenario.
const MINIMUM: usize = 15;

/// The most points of a process in a scenario, unless all are wanted.
const SAMPLE: usize = 28;

const ID: &str = "victim";

/// A verb in a configuration.
struct Scenario<'a> {
    host: &'a Host,
    name: &'a str,
    /// Brings the host to where the verb begins.
    before: &'a dyn Fn(&Host),
    /// The verb.
    verb: &'a dyn Fn(&Host) -> Command,
    /// What else must hold after the kill, before anything is deleted.
    after: &'a dyn Fn(&Host),
}

/// What may not change: files, mounts and interfaces.
fn picture(host: &Host) -> BTreeSet<String> {
    fn walk(dir: &Path, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("rootfs/bin") {
                continue;
            }
            all.insert(path.display().to_string());
            if entry.file_type().unwrap().is_dir() {
                walk(&path, all);
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(&host.path(""), &mut all);
    for file in ["/proc/self/mountinfo", "/proc/net/dev"] {
        let text = fs::read_to_string(file).unwrap();
        // Of an interface only its name: it counts bytes.
        all.extend(
            text.lines()
                .map(|line| line.split(": ").next().unwrap().to_owned()),
        );
    }
    all
}

impl Scenario<'_> {
    fn run(&self) {
        let host = self.host;
        // The state root and the like are made by the first command.
        fs::create_dir_all(host.root()).unwrap();
        (self.before)(host);
        let trace = tracer::run(&(self.verb)(host), None);
        self.clean("an undisturbed run");
        let before = picture(host);
        let all = std::env::var("METACTL_KILL_POINTS").is_ok_and(|v| v == "all");
        let mut points = 0;
        for (process, &calls) in trace.calls.iter().enumerate() {
            let take = if all { calls } else { calls.min(SAMPLE) };
            for at in 0..take {
                let call = 1 + at * calls / take;
                // Every second time the others come as far as they can before it dies.
                let hold = at % 2 == 1;
                let point = Point {
                    process,
                    call,
                    hold,
                };
                (self.before)(host);
                let killed = tracer::run(&(self.verb)(host), Some(point));
                // The number of calls varies a little; the last ones may not be reached.
                points += usize::from(killed.reached);
                self.check(&before, &format!("{}: {point:?}", self.name));
            }
        }
        println!(
            "{}: {points} distinct points of {} system calls in {} processes",
            self.name,
            trace.calls.iter().sum::<usize>(),
            trace.calls.len()
        );
        assert!(points >= MINIMUM, "{}: only {points} points", self.name);
        host.assert_clean();
    }

    fn check(&self, before: &BTreeSet<String>, what: &str) {
        let host = self.host;
        let list = host.call(&["list"]);
        assert!(list.status.success(), "{what}: list: {}", both(&list));
        let state = host.call(&["state", ID]);
        let known = state.status.success();
        assert!(
            known || both(&state).contains("does not exist"),
            "{what}: state: {}",
            both(&state)
        );
        (self.after)(host);
        self.clean(what);
        let after = picture(host);
        let news: Vec<_> = after
            .difference(before)
            .filter(|path| !path.ends_with("/pid"))
            .collect();
        assert!(news.is_empty(), "{what}: left {news:?}");
        let gone: Vec<_> = before.difference(&after).collect();
        assert!(gone.is_empty(), "{what}: gone {gone:?}");
    }

    fn clean(&self, what: &str) {
        // A PID namespace ends when its last process is reaped; of those that the killed runtime
        // left behind, this host's first process is the parent.
        let mut delete = self
            .host
            .runtime(&["delete", "--force", ID])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("the deletion ends", || {
            reap_but(delete.id());
            delete.try_wait().unwrap().is_some()
        });
        let output = delete.wait_with_output().unwrap();
        assert!(output.status.success(), "{what}: delete: {}", both(&output));
        // What is dying needs a moment.
        eventually("all have ended", || {
            reap();
            processes().is_empty()
        });
        self.host.assert_clean();
    }
}

fn quiet(mut command: Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn nothing(_: &Host) {}

/// A launching command of the container.
fn launch(host: &Host, verb: &str, config: &Value, options: &[&str]) -> Command {
    let bundle = host.bundle(ID, config);
    let mut command = host.runtime(&[verb, "--bundle"]);
    command.arg(bundle).args(options).arg(ID);
    command
}

fn sleeper(host: &Host) -> Value {
    host.config(ID, "exec sleep 1000")
}

/// Without cgroups: nothing but the journal's word leads to its process.
fn plain(host: &Host) -> Value {
    let mut config = sleeper(host);
    config["process"]["args"] = json!(["sleep", "1000"]);
    let linux = config["linux"].as_object_mut().unwrap();
    for more in ["seccomp", "resources", "cgroupsPath"] {
        linux.remove(more);
    }
    config
}

fn created(host: &Host) {
    quiet(launch(host, "create", &sleeper(host), &[]));
}

fn running(host: &Host) {
    quiet(launch(host, "run", &sleeper(host), &["--detach"]));
}

fn stopped(host: &Host) {
    running(host);
    host.must(&["kill", ID, "KILL"]);
    eventually("it ended", || {
        reap();
        host.must(&["state", ID]).contains("stopped")
    });
}

fn scenario(
    name: &str,
    before: &dyn Fn(&Host),
    verb: &dyn Fn(&Host) -> Command,
    after: &dyn Fn(&Host),
) {
    let Some(host) = enter() else { return };
    let host = &host;
    let scenario = Scenario {
        host,
        name,
        before,
        verb,
        after,
    };
    scenario.run();
}

#[test]
fn slow_create_with_cgroup_limits_and_a_filter() {
    let verb = |host: &Host| {
        let mut config = sleeper(host);
        config["linux"]["resources"] = json!({
            "pids": {"limit": 5},
            "memory": {"limit": 64_000_000},
            "cpu": {"shares": 512},
        });
        let pid = host.path("pid");
        launch(
            host,
            "create",
            &config,
            &["--pid-file", pid.to_str().unwrap()],
        )
    };
    scenario("create, cgroup limits", &nothing, &verb, &nothing);
}

#[test]
fn slow_create_without_a_cgroup() {
    let verb = |host: &Host| launch(host, "create", &plain(host), &[]);
    scenario("create, plain", &nothing, &verb, &nothing);
}

#[test]
fn slow_create_into_a_network_namespace() {
    let verb = |host: &Host| {
        launch(
            host,
            "create",
            &sleeper(host),
            &["--netns", "/proc/1/ns/net"],
        )
    };
    scenario("create, --netns", &nothing, &verb, &nothing);
}

#[test]
fn slow_start() {
    let verb = |host: &Host| host.runtime(&["start", ID]);
    scenario("start", &created, &verb, &nothing);
}

#[test]
fn slow_run_with_a_terminal() {
    let verb = |host: &Host| {
        let mut config = host.config(ID, "tty");
        config["process"]["terminal"] = json!(true);
        launch(host, "run", &config, &[])
    };
    scenario("run, terminal", &nothing, &verb, &nothing);
}

#[test]
fn slow_run_detached_with_the_init() {
    let verb = |host: &Host| {
        let mut config = sleeper(host);
        config["annotations"] = json!({"org.metactl.init": "true"});
        launch(host, "run", &config, &["--detach"])
    };
    scenario("run --detach, init", &nothing, &verb, &nothing);
}

/// The container goes on, what joined it does not, and others can join.
fn alone(host: &Host) {
    // Only a container that is still as it was: delete may have been killed.
    eventually("it is alone", || {
        reap();
        let pids = host.must(&["ps", "--format", "json", ID]);
        serde_json::from_str::<Vec<i32>>(&pids).unwrap().len() == 1
    });
    host.must(&["exec", ID, "true"]);
}

#[test]
fn slow_exec() {
    let verb = |host: &Host| host.runtime(&["exec", ID, "sleep", "0.03"]);
    scenario("exec", &running, &verb, &alone);
}

#[test]
fn slow_exec_with_a_terminal() {
    let verb = |host: &Host| host.runtime(&["exec", "--tty", ID, "true"]);
    scenario("exec --tty", &running, &verb, &alone);
}

#[test]
fn slow_exec_as_root() {
    let before = |host: &Host| {
        let mut config = sleeper(host);
        config["process"]["user"] = json!({"uid": 0, "gid": 0});
        quiet(launch(host, "run", &config, &["--detach"]));
    };
    let verb = |host: &Host| host.runtime(&["exec", ID, "true"]);
    scenario("exec, root", &before, &verb, &alone);
}

#[test]
fn slow_delete() {
    let verb = |host: &Host| host.runtime(&["delete", ID]);
    scenario("delete", &stopped, &verb, &nothing);
}

#[test]
fn slow_delete_of_a_running_one() {
    let verb = |host: &Host| host.runtime(&["delete", "--force", ID]);
    scenario("delete --force", &running, &verb, &nothing);
}
