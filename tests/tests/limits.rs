//! Limits of resources really apply.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::GIT;
use metactl_tests::{eventually, machine, on_host};

const SOON: Duration = Duration::from_secs(15);

/// The file of the instance's cgroup that is called one of these names (cgroup v1, v2).
fn limit_file(instance: &str, names: [&str; 2]) -> PathBuf {
    let end = format!("/metactl/{instance}");
    let cgroups = machine::cgroups();
    let own = cgroups
        .iter()
        .filter(|cgroup| cgroup.ends_with(&end))
        .map(Path::new);
    let files = own.flat_map(|cgroup| names.map(|name| cgroup.join(name)));
    files
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("no {names:?} in {cgroups:?}"))
}

fn value(file: &Path) -> String {
    fs::read_to_string(file).unwrap().trim().to_owned()
}

#[test]
fn memory_and_processes_of_an_instance_are_limited() {
    on_host(&[GIT], |host| {
        let address = host.hello("hello", "[sandbox.limits]\nmemory = 48m\npids = 20\n");
        let page = format!("http://{address}/");
        Node::server().get_when_up(&page, SOON);
        let memory = limit_file("hello", ["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(value(&memory), (48 << 20).to_string());
        assert_eq!(value(&limit_file("hello", ["pids.max", "pids.max"])), "20");

        let hog = "my $x = 'x' x (200 << 20); print length $x";
        host.run(&["hello", "exec", "--", "perl", "-e", hog])
            .fails(137);
        let forks = "for my $n (1 .. 40) { my $pid = fork; if (!defined $pid) { print \"limit at $n\\n\"; exit } \
                     if (!$pid) { close STDOUT; close STDERR; sleep 3; exit } }";
        host.run(&["hello", "exec", "--", "perl", "-e", forks])
            .says(&["limit at"]);
        // A neighbour's excess is not the end of the application, or only for a moment.
        Node::server().get_when_up(&page, SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_daemon_that_takes_too_much_is_killed_and_restarted() {
    on_host(&[GIT], |host| {
        let config = "[daemon.hog]\nplatform = exec\nlimits.memory = 32m\ncommand = perl hog.pl\n\
                      [daemon.modest]\nplatform = exec\ncommand = sleep 1000\n";
        // It grows some time after its start, so that it is no failed deployment.
        let hog = "$| = 1; print qq(begun\\n); sleep 3; my $size = 300 << 20; my $x = 'x' x $size; sleep 100;\n";
        host.application("greedy", &[(".metactl", config), ("hog.pl", hog)], "");
        host.run(&["greedy", "deploy", "1.0"]).ok();
        eventually("a second start of the hog", SOON, || {
            let log = fs::read_to_string(host.log("greedy", "hog")).unwrap_or_default();
            (log.matches("begun").count() >= 2).then_some(())
        });
        assert_eq!(
            machine::pids_of(&["sleep 1000"]).len(),
            1,
            "the other one is not concerned"
        );
        host.run(&["greedy", "status"]).says(&["out of memory"]);
        host.run(&["greedy", "stop"]).ok();
    });
}

#[test]
fn open_files_are_limited() {
    on_host(&[GIT], |host| {
        let config = "[daemon.main]\nplatform = exec\ncommand = sh -c \"ulimit -n; exec sleep 1000\"\n\
                      [sandbox.limits]\nfiles = 99\n";
        host.application("files", &[(".metactl", config)], "");
        host.run(&["files", "deploy", "1.0"]).ok();
        eventually("the limit in the log", SOON, || {
            (fs::read_to_string(host.log("files", "main")).ok()? == "99\n").then_some(())
        });
        host.run(&["files", "exec", "--", "sh", "-c", "ulimit -n"])
            .ok()
            .says(&["99"]);
        host.run(&["files", "stop"]).ok();
    });
}
