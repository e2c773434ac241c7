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

/// The supervisor of this server.
fn supervisor() -> i32 {
    let found = machine::pids_of(&["metactl", "supervise"]);
    assert_eq!(found.len(), 1, "one supervisor: {:?}", machine::processes());
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
        let first = supervisor();
        kill_9(first);
        eventually("its end", SOON, || {
            machine::pids_of(&["supervise"]).is_empty().then_some(())
        });
        status_is_true(host, "hello", "server.pl");
        host.run(&["hello", "start"]).ok();
        server.get_when_up(&page, SOON);
        assert_ne!(supervisor(), first);
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
        kill_9(supervisor());
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

#[test]
fn the_init_of_a_sandbox_is_killed() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        let server = Node::server();
        server.get_when_up(&format!("http://{address}/"), SOON);
        let init = || machine::pids_of(&["metactl-runtime", "--detach"]);
        let before = init();
        assert_eq!(before.len(), 1, "{:?}", machine::processes());
        kill_9(before[0]);
        eventually("another", SOON, || {
            init().first().copied().filter(|pid| *pid != before[0])
        });
        server.get_when_up(&format!("http://{address}/"), SOON);
        assert_eq!(init().len(), 1, "{:?}", machine::processes());
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn an_exec_is_killed() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        let mut exec = host.spawn(&[
            "hello",
            "exec",
            "--",
            "sh",
            "-c",
            "echo begun; exec sleep 4712",
        ]);
        exec.wait_for("begun", SOON);
        exec.signal(Signal::SIGKILL);
        exec.wait(SOON);
        eventually("its command to be gone", SOON, || {
            machine::pids_of(&["sleep 4712"]).is_empty().then_some(())
        });
        host.run(&["hello", "status"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn the_server_is_rebooted() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        for line in machine::processes() {
            kill_9(line.split(' ').next().unwrap().parse().unwrap());
        }
        eventually("the end of all", SOON, || {
            machine::processes().is_empty().then_some(())
        });
        // What a reboot takes away: /run, mounts, cgroups, the network.
        let netns = host.run_dir().join("hello/netns");
        host.command("umount", &["--lazy", netns.to_str().unwrap()])
            .ok();
        host.command("nft", &["delete", "table", "inet", "metactl"])
            .ok();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        std::fs::remove_dir_all(host.run_dir()).unwrap();
        for cgroup in machine::cgroups()
            .iter()
            .rev()
            .filter(|path| path.contains("/metactl"))
        {
            std::fs::remove_dir(cgroup).unwrap();
        }
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
        host.run(&["hello", "start"]).ok();
        assert_eq!(host.address("hello"), address);
        Node::server().get_when_up(&format!("http://{address}/"), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn commands_at_the_same_time_do_not_meet() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        host.run(&["hello", "stop"]).ok();
        let starts: Vec<_> = (0..4).map(|_| host.spawn(&["hello", "start"])).collect();
        for start in starts {
            // Either it waits for the other, or it says who is at work.
            let outcome = start.wait(SOON);
            assert!(outcome.code == 0 || !outcome.stderr.is_empty(), "{outcome}");
        }
        host.run(&["hello", "start"]).ok();
        assert_eq!(machine::pids_of(&["supervise"]).len(), 1);
        let mixed: Vec<_> = ["stop", "start", "restart", "status", "stop", "restart"]
            .iter()
            .map(|verb| host.spawn(&["hello", verb]))
            .collect();
        mixed
            .into_iter()
            .for_each(|command| drop(command.wait(Duration::from_secs(60))));
        status_is_true(host, "hello", "server.pl");
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3);
    });
}

/// How many moments of a command are tried.
const MOMENTS: u32 = 25;

/// Kills `metactl ARGS` at moments spread evenly over the time that it takes; after each, status is
/// true, and stop leaves nothing.
fn killed_at_every_moment(host: &Host, args: &[&str], prepare: impl Fn()) {
    prepare();
    let whole = host.run(args).ok().took;
    host.run(&["hello", "stop"]).ok();
    let mut killed = 0;
    for moment in 0..MOMENTS {
        prepare();
        let mut command = host.spawn(args);
        std::thread::sleep(whole * moment / MOMENTS);
        if command.runs() {
            command.signal(Signal::SIGKILL);
            killed += 1;
        }
        command.wait(SOON);
        status_is_true(host, "hello", "server.pl");
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
    }
    assert!(
        killed > MOMENTS / 3,
        "it was over before it could be killed: {killed}"
    );
}

#[test]
fn what_is_stopped_while_its_supervision_begins_leaves_nothing() {
    on_host(&[GIT, NFT], |host| {
        host.hello("hello", "");
        host.run(&["hello", "stop"]).ok();
        // The supervisor gets as far as its lock; who asked for it is gone.
        let lock =
            std::fs::File::create(host.run_dir().join("locks/hello.supervisor.lock")).unwrap();
        lock.lock().unwrap();
        let start = host.spawn(&["hello", "start"]);
        eventually("a supervisor", SOON, || {
            (!machine::pids_of(&["supervise"]).is_empty()).then_some(())
        });
        start.signal(Signal::SIGKILL);
        start.wait(SOON);
        let stop = host.spawn(&["hello", "stop"]);
        std::thread::sleep(Duration::from_millis(300));
        drop(lock);
        stop.wait(SOON).ok();
        host.run(&["hello", "status"]).fails(3);
        host.assert_nothing_left();
    });
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
