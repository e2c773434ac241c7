//! The supervisor: one for all instances; what it adopts, what harms nobody else, and `supervise --all`.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use metactl_tests::needs::{GIT, NFT};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);

/// An instance with one daemon that sleeps for so many seconds, deployed and running.
fn sleeper(host: &Host, instance: &str, seconds: u32) {
    let config = format!("[daemon.app]\nplatform = exec\ncommand = sleep {seconds}\n");
    host.application(instance, &[(".metactl", &config)], "");
    host.run(&[instance, "deploy", "1.0"]).ok();
}

/// The first process of such a sandbox.
fn pid(host: &Host, instance: &str) -> i32 {
    let pid = host.run(&[instance, "pid"]).ok().stdout;
    pid.trim().parse().unwrap()
}

fn supervisors() -> Vec<i32> {
    machine::pids_of(&["metactl", "supervise"])
}

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("its end", SOON, || {
        (!fs::exists(format!("/proc/{pid}/exe")).unwrap_or(true) || is_zombie(pid)).then_some(())
    });
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn one_process_for_all_instances() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        sleeper(host, "two", 1002);
        sleeper(host, "three", 1003);
        assert_eq!(supervisors().len(), 1);
        let pids = ["one", "two", "three"].map(|name| pid(host, name));
        kill_9(supervisors()[0]);
        // Whatever the next command is: it adopts all.
        host.run(&["two", "status"])
            .ok()
            .says(&["a new one has adopted 1 entry point"]);
        assert_eq!(supervisors().len(), 1);
        host.run(&["list"]).ok();
        assert_eq!(["one", "two", "three"].map(|name| pid(host, name)), pids);
        // It starts again what ends, of each.
        for name in ["one", "two", "three"] {
            kill_9(pid(host, name));
            let before = pids;
            eventually("another", SOON, || {
                let now = host.run(&[name, "pid"]).stdout.trim().parse::<i32>().ok()?;
                (!before.contains(&now)).then_some(())
            });
        }
        host.run(&["one", "stop"]).ok();
        host.run(&["two", "stop"]).ok();
        host.run(&["three", "status"]).ok();
        host.run(&["three", "stop"]).ok();
        // It goes with the last one.
        eventually("its end", SOON, || supervisors().is_empty().then_some(()));
    });
}

#[test]
fn the_program_is_replaced_while_everything_runs() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        let before = pid(host, "one");
        // An upgrade: the file is another one, and the supervisor is killed.
        let new = host.work().join("metactl");
        fs::copy(&host.binaries().metactl, &new).unwrap();
        symlink(
            &host.binaries().runtime,
            host.work().join("metactl-runtime"),
        )
        .unwrap();
        kill_9(supervisors()[0]);
        let mut status = Command::new(&new);
        status
            .args(["one", "status"])
            .env("METACTL_ROOT", host.root());
        assert!(status.output().unwrap().status.success());
        let exe = fs::read_link(format!("/proc/{}/exe", supervisors()[0])).unwrap();
        assert_eq!(exe, new);
        assert_eq!(pid(host, "one"), before);
        host.run(&["one", "stop"]).ok();
    });
}

#[test]
fn supervisors_of_single_instances_are_replaced_without_a_restart() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        sleeper(host, "two", 1002);
        let pids = ["one", "two"].map(|name| pid(host, name));
        kill_9(supervisors()[0]);
        // As a metactl before there was one for all left them.
        let mut single: Vec<_> = ["one", "two"]
            .map(|name| {
                let mut command = host.metactl(&["-a", name, "supervise"]);
                command
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null());
                host.spawn_command(command)
            })
            .into_iter()
            .collect();
        for name in ["one", "two"] {
            let record = host.run_dir().join(name).join("supervisor.json");
            eventually("it to supervise", SOON, || {
                let alone = machine::pids_of(&["-a", name, "supervise"]);
                let text = fs::read_to_string(&record).ok()?;
                text.contains(&format!("{}", alone.first()?)).then_some(())
            });
        }
        host.run(&["one", "status"])
            .ok()
            .says(&["a supervisor of an earlier metactl was replaced; nothing was restarted"]);
        eventually("one for all", SOON, || {
            (supervisors().len() == 1).then_some(())
        });
        assert!(!single.iter_mut().any(|one| one.runs()));
        assert_eq!(["one", "two"].map(|name| pid(host, name)), pids);
        host.run(&["two", "status"]).ok();
        host.run(&["one", "stop"]).ok();
        host.run(&["two", "stop"]).ok();
    });
}

#[test]
fn a_damaged_record_harms_nobody_else() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "bad", 1001);
        sleeper(host, "good", 1002);
        let pids = ["bad", "good"].map(|name| pid(host, name));
        kill_9(supervisors()[0]);
        let run = host.run_dir().join("bad");
        fs::write(run.join("launched/app.json"), "{").unwrap();
        host.run(&["good", "status"]).ok();
        // It is adopted all the same, as what it was launched from shows.
        eventually("the damage to be told", SOON, || {
            let status = host.run(&["bad", "status"]).ok();
            status.stdout.contains("launched/app.json").then_some(())
        });
        assert_eq!(["bad", "good"].map(|name| pid(host, name)), pids);

        // What is wanted cannot be read: what runs goes on, and the others know nothing of it.
        let wanted = fs::read(run.join("wanted.json")).unwrap();
        kill_9(supervisors()[0]);
        fs::write(run.join("wanted.json"), "nonsense").unwrap();
        host.run(&["good", "status"]).ok();
        let status = host.run(&["bad", "status"]);
        assert!(
            status.code != 0 && status.stderr.contains("wanted.json"),
            "{status}"
        );
        host.run(&["list"]).ok().says(&["wanted.json", "running"]);
        assert!(fs::exists(format!("/proc/{}", pids[0])).unwrap());
        host.run(&["good", "restart"]).ok();
        fs::write(run.join("wanted.json"), wanted).unwrap();
        eventually("what is wanted to be known", SOON, || {
            (host.run(&["bad", "status"]).code == 0).then_some(())
        });
        assert_eq!(pid(host, "bad"), pids[0]);

        // Its bundle is gone: it cannot be started again, and says so.
        let bundles = host.state("bad").join("bundles");
        fs::rename(&bundles, bundles.with_extension("away")).unwrap();
        kill_9(supervisors()[0]);
        host.run(&["good", "restart"]).ok();
        host.run(&["good", "status"]).ok();
        fs::rename(bundles.with_extension("away"), &bundles).unwrap();
        host.run(&["bad", "stop"]).ok();
        host.run(&["good", "stop"]).ok();
    });
}

#[test]
fn an_instance_that_hangs_does_not_hold_up_others() {
    on_host(&[GIT, NFT], |host| {
        let deaf = "[daemon.deaf]\nplatform = exec\nstop.timeout = 8s\n\
                    command = sh -c \"trap '' TERM; while :; do sleep 0.1; done\"\n\
                    [daemon.broken]\nplatform = exec\ncommand = sh -c \"sleep 2; exit 3\"\n";
        host.application("deaf", &[(".metactl", deaf)], "");
        host.run(&["deaf", "deploy", "1.0"]).ok();
        sleeper(host, "good", 1002);
        let stop = host.spawn(&["deaf", "stop"]);
        std::thread::sleep(Duration::from_millis(300));
        let restart = host.run(&["good", "restart"]).ok();
        assert!(restart.took < Duration::from_secs(5), "{restart}");
        let stop = stop.wait(Duration::from_secs(20));
        assert!(stop.code == 0 && stop.took > restart.took, "{stop}");
        host.run(&["good", "stop"]).ok();
    });
}

#[test]
fn supervise_all_starts_what_is_enabled_and_stops_everything() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        sleeper(host, "two", 1002);
        sleeper(host, "off", 1003);
        let adopted = pid(host, "two");
        host.run(&["one", "stop"]).ok();
        host.run(&["off", "stop"]).ok();
        fs::remove_file(host.state("off").join("enabled")).unwrap();
        let log = fs::File::create(host.work().join("all.log")).unwrap();
        let mut all = host.metactl(&["supervise", "--all"]);
        all.stdout(log.try_clone().unwrap()).stderr(log);
        let mut all = all.spawn().unwrap();
        eventually("both", SOON, || {
            let runs = |name| host.run(&[name, "status"]).code == 0;
            (runs("one") && runs("two")).then_some(())
        });
        host.run(&["off", "status"]).fails(3);
        assert_eq!(pid(host, "two"), adopted, "what runs is adopted");
        assert_eq!(supervisors(), [i32::try_from(all.id()).unwrap()]);
        // Signals that it holds back are not held back in sandboxes.
        let status = fs::read_to_string(format!("/proc/{}/status", pid(host, "one"))).unwrap();
        assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
        host.run(&["supervise", "--all"])
            .fails(69)
            .says(&["supervised already"]);
        // Commands work as ever; it stays when nothing runs.
        host.run(&["one", "stop"]).ok();
        host.run(&["two", "stop"]).ok();
        assert!(all.try_wait().unwrap().is_none());
        host.run(&["two", "start"]).ok();
        kill(
            Pid::from_raw(i32::try_from(all.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert!(all.wait().unwrap().success());
        host.run(&["two", "status"]).fails(3);
        assert!(machine::pids_of(&["sleep 1002"]).is_empty());
        host.assert_nothing_left();
        assert!(host.state("two").join("enabled").exists());
    });
}

#[test]
fn who_waits_to_be_supervised_again_is_stopped_at_once() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        sleeper(host, "two", 1002);
        kill_9(supervisors()[0]);
        // Where they are woken is no fifo: their supervision fails again and again.
        let wakes = ["one", "two"].map(|name| host.run_dir().join(name).join("wake"));
        for wake in &wakes {
            fs::remove_file(wake).unwrap();
            fs::create_dir(wake).unwrap();
        }
        let path = host.work().join("all.log");
        let log = fs::File::create(&path).unwrap();
        let mut all = host.metactl(&["supervise", "--all"]);
        all.stdout(log.try_clone().unwrap()).stderr(log);
        let mut all = all.spawn().unwrap();
        // The third pause is of 4 s.
        let failures = |name: &str| {
            let log = host
                .root()
                .join(format!("var/log/metactl/{name}/supervisor.log"));
            let text = fs::read_to_string(log).unwrap_or_default();
            text.matches("its supervision failed").count()
        };
        eventually("three failures of both", SOON, || {
            (failures("one") >= 3 && failures("two") >= 3).then_some(())
        });
        wakes.iter().for_each(|wake| fs::remove_dir(wake).unwrap());
        let stop = host.run(&["one", "stop"]).ok();
        assert!(stop.took < Duration::from_secs(2), "{stop}");
        assert!(machine::pids_of(&["sleep 1001"]).is_empty());
        assert!(!machine::pids_of(&["sleep 1002"]).is_empty());
        let pid = Pid::from_raw(i32::try_from(all.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(all.wait().unwrap().success());
        assert!(machine::pids_of(&["sleep 1002"]).is_empty());
        host.assert_nothing_left();
    });
}

#[test]
fn supervise_all_is_the_first_process_of_a_container() {
    on_host(&[GIT, NFT], |host| {
        sleeper(host, "one", 1001);
        host.run(&["one", "stop"]).ok();
        let log = fs::File::create(host.work().join("first.log")).unwrap();
        let metactl = host.metactl(&["supervise", "--all"]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.arg(metactl.get_program()).args(metactl.get_args());
        unshare
            .env_clear()
            .envs(metactl.get_envs().filter_map(|(k, v)| Some((k, v?))));
        unshare.stdout(log.try_clone().unwrap()).stderr(log);
        let mut unshare = unshare.spawn().unwrap();
        let first = eventually("the first process", SOON, || {
            let children = format!("/proc/{0}/task/{0}/children", unshare.id());
            let text = fs::read_to_string(children).ok()?;
            text.split_whitespace().next()?.parse::<i32>().ok()
        });
        // Commands are given inside, as one gives them in a container.
        let inside = |args: &[&str]| {
            let metactl = host.metactl(args);
            let mut enter = Command::new("nsenter");
            enter.args(["--target", &first.to_string(), "--pid", "--mount"]);
            enter.arg(metactl.get_program()).args(metactl.get_args());
            enter
                .env_clear()
                .envs(metactl.get_envs().filter_map(|(k, v)| Some((k, v?))));
            enter.output().unwrap()
        };
        eventually("it to run", SOON, || {
            inside(&["one", "status"]).status.success().then_some(())
        });
        let pid = || String::from_utf8(inside(&["one", "pid"]).stdout).unwrap();
        let before = pid();
        // The supervisor is killed: the first process begins another, which adopts.
        let supervisor = supervisors().into_iter().filter(|pid| *pid != first);
        let old: Vec<i32> = supervisor
            .filter(|pid| i32::try_from(unshare.id()) != Ok(*pid))
            .collect();
        assert_eq!(old.len(), 1, "{:?}", machine::processes());
        kill_9(old[0]);
        eventually("another supervisor", SOON, || {
            inside(&["one", "status"]).status.success().then_some(())
        });
        assert_eq!(pid(), before);
        // An orphan is buried.
        let mut orphan = Command::new("nsenter");
        orphan.args(["--target", &first.to_string(), "--pid", "--mount"]);
        orphan.args(["sh", "-c", "sleep 0.2 & exit 0"]);
        orphan.status().unwrap();
        eventually("no zombies", SOON, || {
            let stats = fs::read_dir("/proc").unwrap().flatten();
            let mut zombies = stats.filter_map(|entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                (stat.contains(") Z ") && stat.contains(&format!(" Z {first} "))).then_some(())
            });
            zombies.next().is_none().then_some(())
        });
        kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
        assert!(unshare.wait().unwrap().success());
        assert!(machine::pids_of(&["sleep 1001"]).is_empty());
        host.run(&["one", "status"]).fails(3);
    });
}

/// Whether the kernel tells how a process ended that is nobody's child here (Linux 6.15).
fn exits_of_strangers_are_known() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[test]
fn exits_are_told_also_after_a_crash_of_the_supervisor() {
    on_host(&[GIT, NFT], |host| {
        let config = "[daemon.app]\nplatform = exec\n\
             command = sh -c \"rm -f /data/end; while [ ! -e /data/end ]; do sleep 0.05; done; exit 5\"\n\
             [daemon.once]\nplatform = exec\nrestart = never\n\
             command = sh -c \"echo begun >> /data/once; sleep 2.5; exit 6\"\n\
             [daemon.deaf]\nplatform = exec\nstop.timeout = 1s\n\
             command = sh -c \"trap '' TERM; while :; do sleep 0.1; done\"\n";
        host.application("app", &[(".metactl", config)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        let says = |text: &str| {
            eventually(text, SOON, || {
                let status = host.run(&["app", "status"]);
                status.stdout.contains(text).then_some(status.stdout)
            })
        };
        says("exit code 6");
        kill_9(supervisors()[0]);
        // What has ended for good is known to have, and is not begun again.
        let status = says("exit code 6");
        assert!(status.contains("ended"), "{status}");
        // What ends under the eyes of another supervisor than it was begun by.
        fs::write(host.state("app").join("data/end"), "").unwrap();
        let status = says("restarted 1×");
        let known = match exits_of_strangers_are_known() {
            true => "last: exit code 5,",
            false => "nobody could see",
        };
        assert!(status.contains(known), "{status}");
        // What ends while there is none.
        kill_9(supervisors()[0]);
        fs::write(host.state("app").join("data/end"), "").unwrap();
        eventually("its end", SOON, || {
            machine::pids_of(&["-f /data/end"]).is_empty().then_some(())
        });
        let status = says("restarted 2×");
        assert!(status.contains("nobody could see"), "{status}");
        let once = fs::read_to_string(host.state("app").join("data/once")).unwrap();
        assert_eq!(once, "begun\n");
        host.run(&["app", "stop", "deaf"]).ok();
        says("it did not stop within 1 s");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn who_ends_too_often_is_given_up_and_who_requires_it_stops() {
    on_host(&[GIT, NFT], |host| {
        let config = "[daemon.db]\nplatform = exec\nrestart.limit = 2\n\
             command = sh -c \"if [ -e /data/broken ]; then exit 9; fi; exec sleep 1001\"\n\
             [daemon.a-web]\nplatform = exec\nrequires = db\ncommand = sleep 1002\n";
        host.application("app", &[(".metactl", config)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        let runs = |what: &str| !machine::pids_of(&[what]).is_empty();
        let first = |what: &str| machine::pids_of(&[what]).into_iter().min();
        assert!(
            first("sleep 1001") < first("sleep 1002"),
            "{:?}",
            machine::processes()
        );
        // Who is needed and is stopped takes along who needs it, and brings it back.
        host.run(&["app", "stop", "db"]).ok();
        eventually("both to stop", SOON, || {
            (!runs("sleep 1001") && !runs("sleep 1002")).then_some(())
        });
        host.run(&["app", "status"])
            .says(&["a-web waits for db, which it requires and which does not run"]);
        host.run(&["app", "start", "db"]).ok();
        eventually("both", SOON, || {
            (runs("sleep 1001") && runs("sleep 1002")).then_some(())
        });
        host.run(&["app", "stop"]).ok();
        host.run(&["app", "start", "a-web"]).ok();
        assert!(runs("sleep 1001") && runs("sleep 1002"));
        // It fails again and again.
        fs::write(host.state("app").join("data/broken"), "").unwrap();
        machine::pids_of(&["sleep 1001"])
            .into_iter()
            .for_each(kill_9);
        eventually("it to be given up", SOON, || {
            let status = host.run(&["app", "status"]).stdout;
            status
                .contains("exit code 9; given up after 3 short runs")
                .then_some(())
        });
        eventually("the other to stop", SOON, || {
            (!runs("sleep 1002")).then_some(())
        });
        let log = fs::read_to_string(host.log("app", "supervisor")).unwrap();
        assert_eq!(log.matches("db ended: exit code 9").count(), 2, "{log}");
        fs::remove_file(host.state("app").join("data/broken")).unwrap();
        host.run(&["app", "restart"]).ok();
        host.run(&["app", "status"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}
