//! The verbs: deploy, start, stop, restart, status, list, logs, exec and shell, on small applications.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, NFT};
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);

/// An application that writes a line and waits.
const WAITER: &[(&str, &str)] = &[(
    ".metactl",
    "[daemon.waiter]\nplatform = exec\ncommand = sh -c \"echo begun; exec sleep 1000\"\n",
)];

fn log_of(host: &Host, instance: &str, entry: &str) -> String {
    fs::read_to_string(host.log(instance, entry)).unwrap_or_default()
}

#[test]
fn deploy_status_stop_start_restart() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        let page = format!("http://{address}/");
        let server = Node::server();
        assert_eq!(server.get_when_up(&page, SOON), "Hello, sandbox\n");
        host.run(&["hello", "status"])
            .ok()
            .says(&["hello", "web", "running", &address]);
        host.run(&["status", "hello"]).ok();
        host.run(&["-a", "hello", "status"]).ok();
        host.run(&["list"]).ok().says(&["hello", "running"]);
        host.run(&["hello", "start"]).ok();

        // Its own user, host name and process numbers.
        let who = server
            .get(&format!("http://{address}/whoami"))
            .unwrap()
            .body;
        let uid = who
            .lines()
            .find_map(|line| line.strip_prefix("uid "))
            .unwrap();
        assert!(
            (66_000..70_000).contains(&uid.parse::<u32>().unwrap()),
            "{who}"
        );
        assert!(who.contains("host hello"), "{who}");

        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "status"]).fails(3).says(&["stopped"]);
        assert!(server.get(&page).is_err());
        host.assert_nothing_left();
        host.run(&["hello", "stop"]).ok();

        host.run(&["hello", "start"]).ok();
        assert_eq!(
            host.address("hello"),
            address,
            "an instance keeps its address"
        );
        server.get_when_up(&page, SOON);
        let before = machine::pids_of(&["server.pl"]);
        host.run(&["hello", "restart"]).ok();
        server.get_when_up(&page, SOON);
        let after = machine::pids_of(&["server.pl"]);
        assert!(!before.is_empty() && before.iter().all(|pid| !after.contains(pid)));
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn two_instances_have_addresses_and_users_of_their_own() {
    on_host(&[GIT, NFT], |host| {
        let one = host.hello("one", "");
        let two = host.hello("two", "");
        assert_ne!(one, two);
        let server = Node::server();
        let who = |address: &str| server.get_when_up(&format!("http://{address}/whoami"), SOON);
        let uid = |text: String| {
            text.lines()
                .find_map(|l| l.strip_prefix("uid ").map(str::to_owned))
        };
        assert_ne!(uid(who(&one)), uid(who(&two)));
        host.run(&["list"]).ok().says(&["one", "two"]);
        host.run(&["one", "stop"]).ok();
        assert_eq!(server.get(&format!("http://{two}/")).unwrap().status, 200);
        host.run(&["two", "stop"]).ok();
    });
}

#[test]
fn a_second_release_replaces_the_first_and_data_stays() {
    on_host(&[GIT], |host| {
        let script = "#!/bin/sh\necho version 1\necho one >> /data/visits\nexec sleep 1000\n";
        let config = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n";
        let repository = host.application("app", &[(".metactl", config), ("app.sh", script)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        eventually("version 1 to run", SOON, || {
            log_of(host, "app", "app")
                .contains("version 1")
                .then_some(())
        });
        repository
            .write("app.sh", &script.replace('1', "2").replace("2000", "1000"))
            .commit("2.0");
        host.run(&["app", "deploy", "2.0"]).ok();
        eventually("version 2 to run", SOON, || {
            log_of(host, "app", "app")
                .contains("version 2")
                .then_some(())
        });
        let visits = fs::read_to_string(host.state("app").join("data/visits")).unwrap();
        assert_eq!(visits, "one\none\n");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_release_that_does_not_come_up_is_rolled_back() {
    on_host(&[GIT], |host| {
        let config = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n";
        let good = "#!/bin/sh\necho good\nexec sleep 1000\n";
        let repository = host.application("app", &[(".metactl", config), ("app.sh", good)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        repository
            .write("app.sh", "#!/bin/sh\necho unknown column due_at\nexit 4\n")
            .commit("2.0");
        let deploy = host.run(&["app", "deploy", "2.0"]).fails(10);
        deploy.says(&["2.0", "1.0", "app", "4", "unknown column due_at"]);
        eventually("1.0 to run", SOON, || {
            machine::pids_of(&["sleep 1000"]).pop()
        });
        let status = host.run(&["app", "status"]).ok();
        assert!(
            status.stdout.contains("· 1.0 (") && !status.stdout.contains("· 2.0 ("),
            "{status}"
        );
        let local = fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap();
        assert!(!local.contains("2.0"), "{local}");
        host.run(&["app", "stop"]).ok();
        host.run(&["app", "start"]).ok();
        eventually("1.0 to run again", SOON, || {
            machine::pids_of(&["sleep 1000"]).pop()
        });
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn no_descriptor_of_metactl_is_visible() {
    on_host(&[GIT], |host| {
        let config = "[daemon.app]\nplatform = exec\n\
                      command = sh -c \"ls -l /proc/$$/fd; echo end; exec sleep 1000\"\n";
        host.application("app", &[(".metactl", config)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        let log = eventually("the list", SOON, || {
            Some(log_of(host, "app", "app")).filter(|log| log.contains("end"))
        });
        let exec = host
            .run(&["app", "exec", "--", "sh", "-c", "ls -l /proc/$$/fd"])
            .ok()
            .stdout;
        for list in [log, exec] {
            let numbers: Vec<&str> = list
                .lines()
                .filter_map(|line| line.split(" -> ").next()?.split(' ').next_back())
                .filter(|word| word.parse::<u32>().is_ok())
                .collect();
            // 10 is the shell's own.
            let few = numbers
                .iter()
                .all(|number| ["0", "1", "2", "10"].contains(number));
            assert!(few && numbers.len() >= 3, "{list}");
        }
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn logs_show_what_was_written_and_follow() {
    on_host(&[GIT], |host| {
        let address = host.hello("hello", "");
        let server = Node::server();
        server.get_when_up(&format!("http://{address}/"), SOON);
        host.run(&["hello", "logs"])
            .ok()
            .says(&["listening on port 80"]);
        host.run(&["log", "hello", "web"])
            .ok()
            .says(&["listening on port 80"]);
        let mut follow = host.spawn(&["hello", "logs", "-f"]);
        follow.wait_for("listening", SOON);
        server
            .get(&format!("http://{address}/a-late-request"))
            .unwrap();
        follow.wait_for("/a-late-request", SOON);
        follow.signal(Signal::SIGINT);
        follow.wait(SOON);
        host.run(&["hello", "stop"]).ok();
        // What it wrote can be read when it no longer runs.
        host.run(&["hello", "logs", "-n", "5"])
            .ok()
            .says(&["/a-late-request"]);
    });
}

#[test]
fn exec_runs_in_the_sandbox() {
    on_host(&[GIT], |host| {
        host.hello("hello", "");
        host.run(&["hello", "exec", "--", "cat", "/etc/hostname"])
            .ok()
            .says(&["hello"]);
        host.run(&["hello", "exec", "--", "sh", "-c", "exit 7"])
            .fails(7);
        host.run(&["hello", "exec", "--", "sh", "-c", "kill -9 $$"])
            .fails(137);
        host.run(&["hello", "exec", "--", "no-such-command"])
            .says(&["no-such-command"]);
        let id = host.run(&["hello", "exec", "--", "id", "-u"]).ok();
        assert!(id.stdout.trim().parse::<u32>().unwrap() >= 66_000);
        // Nothing more than the application may do.
        let status = host
            .run(&["hello", "exec", "--", "cat", "/proc/self/status"])
            .ok()
            .stdout;
        for line in [
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line} is missing in\n{status}");
        }
        // The same processes, the same network.
        host.run(&["hello", "exec", "--", "cat", "/proc/1/cmdline"])
            .ok();
        host.run(&["hello", "exec", "--", "sh", "-c", "grep -c . /proc/net/dev"])
            .ok();
        host.run(&["hello", "stop"]).ok();
        let refused = host.run(&["hello", "exec", "--", "true"]);
        assert_ne!(refused.code, 0, "{refused}");
    });
}

#[test]
fn shell_has_a_terminal() {
    on_host(&[GIT], |host| {
        host.hello("hello", "");
        let mut shell = Terminal::spawn(&host.metactl(&["hello", "shell"]));
        shell.press("echo $((6*7))-$(cat /etc/hostname)\n");
        shell.wait_for("42-hello", SOON);
        shell.press("tty; exit 3\n");
        assert_eq!(shell.wait(SOON), 3);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn one_entry_point_can_be_stopped_and_started() {
    on_host(&[GIT], |host| {
        let config = "[daemon.one]\nplatform = exec\ncommand = sleep 1111\n\
                      [daemon.two]\nplatform = exec\ncommand = sleep 2222\n";
        host.application("pair", &[(".metactl", config)], "");
        host.run(&["pair", "deploy", "1.0"]).ok();
        let running = |what: &str| !machine::pids_of(&[what]).is_empty();
        eventually("both", SOON, || {
            (running("sleep 1111") && running("sleep 2222")).then_some(())
        });
        host.run(&["pair", "stop", "one"]).ok();
        assert!(!running("sleep 1111") && running("sleep 2222"));
        host.run(&["pair", "status"]).fails(4);
        host.run(&["pair", "start", "one"]).ok();
        eventually("one again", SOON, || running("sleep 1111").then_some(()));
        host.run(&["pair", "status"]).ok();
        host.run(&["pair", "stop"]).ok();
    });
}

#[test]
fn daemons_start_in_the_order_that_they_ask_for() {
    on_host(&[GIT], |host| {
        let config = "[daemon.a-second]\nplatform = exec\nafter = z-first\ncommand = sleep 1111\n\
                      [daemon.z-first]\nplatform = exec\ncommand = sleep 2222\n";
        host.application("order", &[(".metactl", config)], "");
        host.run(&["order", "deploy", "1.0"]).ok();
        let pid = |what: &str| eventually(what, SOON, || machine::pids_of(&[what]).pop());
        assert!(pid("sleep 2222") < pid("sleep 1111"));
        host.run(&["order", "stop"]).ok();
    });
}

#[test]
fn a_daemon_that_does_not_stop_is_killed_in_time() {
    on_host(&[GIT], |host| {
        let config = "[daemon.deaf]\nplatform = exec\nstop.timeout = 1s\n\
                      command = sh -c \"trap '' TERM; echo deaf; while :; do sleep 0.1; done\"\n";
        host.application("deaf", &[(".metactl", config)], "");
        host.run(&["deaf", "deploy", "1.0"]).ok();
        eventually("it to begin", SOON, || {
            log_of(host, "deaf", "deaf").contains("deaf").then_some(())
        });
        let stop = host.run(&["deaf", "stop"]).ok();
        assert!(
            stop.took > Duration::from_millis(900) && stop.took < Duration::from_secs(5),
            "{stop}"
        );
    });
}

#[test]
fn a_daemon_that_crashes_at_its_first_start_is_a_failed_deployment() {
    on_host(&[GIT], |host| {
        let config =
            "[daemon.crasher]\nplatform = exec\ncommand = sh -c \"echo no database; exit 3\"\n";
        host.application("crasher", &[(".metactl", config)], "");
        let deploy = host.run(&["crasher", "deploy", "1.0"]);
        assert!([1, 10].contains(&deploy.code), "{deploy}");
        deploy.says(&["crasher", "3", "no database"]);
        host.run(&["crasher", "status"]).fails(3);
        host.assert_nothing_left();
    });
}

#[test]
fn a_crashing_daemon_is_restarted_with_backoff() {
    on_host(&[GIT], |host| {
        let config = "[daemon.crasher]\nplatform = exec\n\
            command = sh -c \"echo begun; test ! -e /data/crash || exit 3; exec sleep 1000\"\n";
        host.application("crasher", &[(".metactl", config)], "");
        host.run(&["crasher", "deploy", "1.0"]).ok();
        host.run(&["crasher", "exec", "--", "touch", "/data/crash"])
            .ok();
        let kill = |name: &str| {
            for pid in machine::pids_of(&[name]) {
                nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        };
        kill("sleep 1000");
        let times = || log_of(host, "crasher", "crasher").matches("begun").count();
        eventually("a third start", SOON, || (times() >= 3).then_some(()));
        let at = times();
        std::thread::sleep(Duration::from_secs(4));
        let more = times() - at;
        assert!((1..=12).contains(&more), "{more} starts in 4 s");
        let status = host
            .run(&["crasher", "status"])
            .says(&["exit code 3", "restarted"]);
        assert_eq!(status.code, 4, "{status}");

        let mark = host.state("crasher").join("data/crash");
        fs::remove_file(&mark).unwrap();
        let running = || host.run(&["crasher", "status"]).code == 0;
        eventually("it to run again", Duration::from_secs(30), || {
            running().then_some(())
        });
        fs::write(&mark, "").unwrap();
        kill("sleep 1000");
        host.run(&["crasher", "stop"]).ok();
        let stopped = times();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(times(), stopped, "no start after stop");
    });
}

#[test]
fn a_daemon_that_ends_is_started_again() {
    on_host(&[GIT], |host| {
        let address = host.hello("hello", "");
        let server = Node::server();
        let url = |path: &str| format!("http://{address}/{path}");
        server.get_when_up(&url(""), SOON);
        server.get(&url("exit")).ok();
        eventually("a second start in the log", SOON, || {
            (log_of(host, "hello", "web").matches("listening").count() == 2).then_some(())
        });
        server.get_when_up(&url(""), SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn restart_never_lets_a_daemon_rest() {
    on_host(&[GIT], |host| {
        let config = "[daemon.once]\nplatform = exec\nrestart = never\ncommand = sh -c \"echo begun; exit 0\"\n\
                      [daemon.other]\nplatform = exec\ncommand = sleep 1000\n";
        host.application("once", &[(".metactl", config)], "");
        host.run(&["once", "deploy", "1.0"]);
        eventually("it", SOON, || {
            log_of(host, "once", "once").contains("begun").then_some(())
        });
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(log_of(host, "once", "once").matches("begun").count(), 1);
        host.run(&["once", "stop"]).ok();
    });
}

#[test]
fn private_tmp_is_emptied_at_stop() {
    on_host(&[GIT], |host| {
        host.application("waiter", WAITER, "");
        host.run(&["waiter", "deploy", "1.0"]).ok();
        host.run(&[
            "waiter",
            "exec",
            "--",
            "sh",
            "-c",
            "echo x > /tmp/file; ls -ld /tmp",
        ])
        .ok()
        .says(&["drwxrwxrwt"]);
        host.run(&["waiter", "stop"]).ok();
        host.run(&["waiter", "start"]).ok();
        let files = host
            .run(&["waiter", "exec", "--", "ls", "-A", "/tmp"])
            .ok()
            .stdout;
        assert_eq!(files, "");
        host.run(&["waiter", "stop"]).ok();
    });
}

#[test]
fn the_sandbox_shows_only_what_is_listed() {
    on_host(&[GIT], |host| {
        host.application("waiter", WAITER, "");
        host.run(&["waiter", "deploy", "1.0"]).ok();
        let inside = |script: &str| host.run(&["waiter", "exec", "--", "sh", "-c", script]);
        inside("ls -d /home /opt /srv /root /sys/* 2>/dev/null")
            .fails(2)
            .never_says(&["/"]);
        assert_eq!(inside("ls -A /var").ok().stdout, "run\ntmp\n", "of its own");
        inside("touch /app/x || touch /usr/x || touch /x || touch /etc/x")
            .fails(1)
            .says(&["Read-only"]);
        inside("touch /data/x && rm /data/x").ok();
        inside("pwd").ok().says(&["/app"]);
        inside("cat /etc/shadow").fails(1);
        let masked = inside("cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c");
        assert_eq!(masked.ok().stdout.trim(), "0");
        inside("ls /dev").ok().never_says(&["vda", "mem", "kmsg"]);
        // Of the server's files, only system directories and its own.
        let mounts = inside("cat /proc/self/mountinfo").ok().stdout;
        for line in mounts.lines() {
            let target = line.split(' ').nth(4).unwrap();
            let known = [
                "/", "/usr", "/app", "/data", "/tmp", "/proc", "/dev", "/etc", "/run", "/bin",
                "/lib", "/sbin",
            ];
            let is_known = known
                .iter()
                .any(|k| target == *k || target.starts_with(&format!("{k}/")));
            assert!(is_known, "{line}");
            if target != "/" && !target.starts_with("/proc") {
                assert!(line.contains("nosuid"), "{line}");
            }
        }
        host.run(&["waiter", "stop"]).ok();
    });
}

#[test]
fn without_root_it_says_so() {
    on_host(&[GIT], |host| {
        host.hello("hello", "");
        let binary = host.work().join("metactl");
        fs::copy(&host.binaries().metactl, &binary).unwrap();
        let root = format!("METACTL_ROOT={}", host.root().display());
        for verb in ["start", "stop", "restart"] {
            let words = [
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "env",
                &root,
                binary.to_str().unwrap(),
                "hello",
                verb,
            ];
            host.command("setpriv", &words).fails(77).says(&["root"]);
        }
        host.run(&["hello", "status"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn words_that_are_wrong_are_usage_errors() {
    on_host(&[], |host| {
        host.run(&["nobody", "status"]).says(&["nobody"]);
        assert_ne!(host.run(&["nobody", "start"]).code, 0);
        host.run(&["strat", "hello"]).fails(64).says(&["start"]);
        host.run(&["list"]).ok();
        host.run(&["--version"]).ok().says(&["0.1.0"]);
    });
}
