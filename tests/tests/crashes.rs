//! kill -9 of whatever metactl runs: the next command tells the truth, and cleans up.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, NFT};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
}

/// The supervisor of an instance.
fn supervisor(instance: &str) -> i32 {
    let found = machine::pids_of(&["metactl", instance, "supervise"]);
    assert_eq!(
        found.len(),
        1,
        "one supervisor of {instance}: {:?}",
        machine::processes()
    );
    found[0]
}

/// Checks that `status` agrees with what can be seen.
fn status_is_true(host: &Host, instance: &str, sign: &str) {
    let status = host.run(&[instance, "status"]);
    let runs = !machine::pids_of(&[sign]).is_empty();
    match status.code {
        0 => assert!(runs, "it does not run, but {status}"),
        3 => assert!(!runs, "it runs, but {status}"),
        4 => {}
        _ => panic!("{status}"),
    }
}

#[test]
fn the_supervisor_is_killed() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        let page = format!("http://{address}/");
        let server = Node::server();
        server.get_when_up(&page, SOON);
        let first = supervisor("hello");
        kill_9(first);
        eventually("its end", SOON, || {
            machine::pids_of(&["supervise"]).is_empty().then_some(())
        });
        status_is_true(host, "hello", "server.pl");
        host.run(&["hello", "start"]).ok();
        server.get_when_up(&page, SOON);
        assert_ne!(supervisor("hello"), first);
        // The new one does its work.
        server.get(&format!("http://{address}/exit")).ok();
        std::thread::sleep(Duration::from_millis(200));
        server.get_when_up(&page, SOON);
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3);
    });
}

#[test]
fn the_supervisor_is_killed_and_then_stop() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        kill_9(supervisor("hello"));
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
        let list = host.run(&["list"]).ok();
        assert!(!list.stdout.contains("running"), "{list}");
    });
}

#[test]
fn everything_is_killed_at_once() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        for line in machine::processes() {
            kill_9(line.split(' ').next().unwrap().parse().unwrap());
        }
        eventually("the end of all", SOON, || {
            machine::processes().is_empty().then_some(())
        });
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
        host.run(&["hello", "start"]).ok();
        Node::server().get_when_up(&format!("http://{}/", host.address("hello")), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn the_application_is_killed() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        let server = Node::server();
        server.get_when_up(&format!("http://{address}/"), SOON);
        let before = machine::pids_of(&["perl server.pl"]);
        before.iter().for_each(|pid| kill_9(*pid));
        eventually("another", SOON, || {
            machine::pids_of(&["perl server.pl"])
                .iter()
                .find(|pid| !before.contains(pid))
                .copied()
        });
        server.get_when_up(&format!("http://{address}/"), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

/// Kills `metactl ARGS` after ever longer times, until it gets through; after each, status is true
/// and stop leaves nothing.
fn killed_at_every_moment(host: &Host, args: &[&str], prepare: impl Fn()) {
    let mut after = Duration::from_millis(1);
    for round in 0.. {
        prepare();
        let mut command = host.spawn(args);
        std::thread::sleep(after);
        let through = !command.runs();
        if !through {
            command.signal(Signal::SIGKILL);
        }
        command.wait(SOON);
        status_is_true(host, "hello", "server.pl");
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
        if through {
            assert!(round > 2, "it was over before it could be killed");
            return;
        }
        after = after * 3 / 2 + Duration::from_millis(1);
    }
}

#[test]
fn start_is_killed_at_every_moment_slow() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        host.run(&["hello", "stop"]).ok();
        killed_at_every_moment(host, &["hello", "start"], || {});
        host.run(&["hello", "start"]).ok();
        Node::server().get_when_up(&format!("http://{}/", host.address("hello")), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn deploy_is_killed_at_every_moment_slow() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        host.run(&["hello", "stop"]).ok();
        killed_at_every_moment(host, &["hello", "deploy", "1.0"], || {});
        host.run(&["hello", "deploy", "1.0"]).ok();
        Node::server().get_when_up(&format!("http://{}/", host.address("hello")), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn stop_is_killed_at_every_moment_slow() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        killed_at_every_moment(host, &["hello", "stop"], || {
            host.run(&["hello", "start"]).ok();
        });
    });
}
