//! containerd calls the runtime, for its command line `ctr`.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::engines::{self, Containerd, IMAGE, LIMIT, WORKER_IMAGE};
use metactl_tests::needs::CONTAINERD;
use metactl_tests::{Host, eventually, on_host};

#[test]
fn containers_run_and_give_their_exit_codes() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        let run = containerd
            .script(&[], "id -u; echo oops >&2; exit 42")
            .fails(42);
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str()),
            ("0\n", "oops\n")
        );
        containerd
            .script(&[], "sh -c 'kill -KILL $$'; exit $?")
            .fails(137);
        // The text of the runtime's log reaches the user, and nothing is in the way of the next.
        for _ in 0..2 {
            let run = containerd.program("absent", &["/no/such/program"]).fails(1);
            run.says(&["/no/such/program", "o such file or directory"]);
            let run = containerd.program("absent", &["no-such-program"]).fails(1);
            run.says(&["no-such-program", "not found in $PATH"]);
            let run = containerd.program("absent", &["/etc/passwd"]).fails(1);
            run.says(&["/etc/passwd", "ermission denied"]);
            assert_eq!(containerd.task("absent"), None);
            if !containerd.text(&["container", "ls", "-q"]).is_empty() {
                containerd.ctr(&["container", "rm", "absent"]).ok();
            }
        }
        let rootfs = containerd.image().rootfs.to_str().unwrap();
        let runtime = containerd.runtime();
        let run = [
            "run",
            "--rm",
            "--runc-binary",
            runtime,
            "--rootfs",
            rootfs,
            "tree",
            "/bin/sh",
            "-c",
            "exit 4",
        ];
        containerd.ctr(&run).fails(4);
        containerd.finish();
    });
}

#[test]
fn a_task_is_executed_in_paused_measured_and_killed() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        let pid = containerd.start(
            "c1",
            &["--memory-limit", "50331648", "--cpus", "0.5"],
            "trap 'exit 5' TERM; sleep 1000 & wait",
        );
        assert_eq!(containerd.task("c1"), Some((pid, "RUNNING".to_owned())));
        assert_eq!(
            engines::limit(pid, "memory", "memory.limit_in_bytes", "memory.max"),
            "50331648"
        );
        assert_eq!(engines::quota(pid), 50);
        engines::assert_in_every_hierarchy(pid, ":/default/c1");

        let exec = |options: &[&str], script: &str| {
            let words = [
                &["task", "exec", "--exec-id", "e1"],
                options,
                &["c1", "/bin/sh", "-c", script],
            ];
            containerd.ctr(&words.concat())
        };
        exec(&[], "exit 3").fails(3);
        exec(
            &["--cwd", "/tmp", "--user", "1000:2000"],
            "pwd; id -u; id -g",
        )
        .ok()
        .says(&["/tmp\n1000\n2000\n"]);
        let namespaces = "for kind in ipc mnt net pid uts; do readlink /proc/$PROCESS/ns/$kind; done; cat /proc/$PROCESS/cgroup";
        let of = |process: &str| engines::text(exec(&[], &namespaces.replace("$PROCESS", process)));
        assert_eq!(of("1"), of("self"));
        let detached = [
            "task",
            "exec",
            "--exec-id",
            "e2",
            "-d",
            "c1",
            "/bin/sleep",
            "1001",
        ];
        containerd.ctr(&detached).ok();
        eventually("the detached command", LIMIT, || {
            exec(&[], "ps").stdout.contains("sleep 1001").then_some(())
        });
        let listed = containerd.text(&["task", "ps", "c1"]);
        assert!(
            listed.contains(&pid.to_string()) && listed.lines().count() == 4,
            "sh, sleep, sleep: {listed}"
        );
        let metrics = containerd.text(&["task", "metrics", "--format", "json", "c1"]);
        measured(&metrics);

        containerd.ctr(&["task", "pause", "c1"]).ok();
        assert_eq!(containerd.task("c1").unwrap().1, "PAUSED");
        containerd.ctr(&["task", "resume", "c1"]).ok();
        assert_eq!(containerd.task("c1").unwrap().1, "RUNNING");
        exec(&[], "exit 6").fails(6);

        containerd.ctr(&["task", "kill", "c1"]).ok();
        containerd.wait_for_status("c1", "STOPPED");
        containerd
            .ctr(&["task", "rm", "c1"])
            .ok()
            .says(&["exit code 5"]);
        containerd.ctr(&["container", "rm", "c1"]).ok();

        // A process that lets nothing be said to it, and a container that is paused.
        containerd.start("c2", &[], "trap '' TERM; while :; do sleep 0.1; done");
        containerd.ctr(&["task", "kill", "c2"]).ok();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(containerd.task("c2").unwrap().1, "RUNNING");
        containerd
            .ctr(&["task", "kill", "-s", "SIGKILL", "c2"])
            .ok();
        containerd.wait_for_status("c2", "STOPPED");
        containerd.remove("c2");
        containerd.start("c3", &[], "sleep 1000 & sleep 1000 & sleep 1000");
        containerd.remove("c3");
        for verb in [
            "create", "start", "exec", "pause", "resume", "ps", "kill", "delete",
        ] {
            assert!(
                containerd
                    .calls()
                    .lines()
                    .any(|call| call.split(' ').any(|word| word == verb)),
                "{verb}"
            );
        }
        containerd.finish();
    });
}

/// The figures are the container's, not those of everything on the machine.
fn measured(metrics: &str) {
    let json: serde_json::Value = serde_json::from_str(metrics).unwrap();
    let figure = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64);
    assert_eq!(figure("/pids/current"), Some(3), "{json}");
    // Nanoseconds on v1, microseconds on v2.
    let seconds = match (figure("/cpu/usage/total"), figure("/cpu/usage_usec")) {
        (Some(nanoseconds), _) => nanoseconds / 1_000_000_000,
        (_, Some(microseconds)) => microseconds / 1_000_000,
        _ => panic!("no processor time in {json}"),
    };
    assert!(seconds < 5, "{json}");
}

#[test]
fn terminals_are_terminals() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        let mut shell = containerd.terminal("c1", &[], "exec sh");
        shell.wait_for("/ # ", LIMIT);
        shell.press("tty; echo answer $((6 * 7))\n");
        shell.wait_for("/dev/pts/0", LIMIT);
        shell.wait_for("answer 42", LIMIT);
        shell.press("sleep 1000\n");
        std::thread::sleep(Duration::from_millis(300));
        shell.press("\x03");
        shell.press("echo still $((1 + 1)) here; exit 9\n");
        shell.wait_for("still 2 here", LIMIT);
        assert_eq!(shell.wait(LIMIT), 9);

        containerd.start("c2", &[], "exec sleep 1000");
        let exec = [
            "task",
            "exec",
            "-t",
            "--exec-id",
            "e1",
            "--user",
            "1000",
            "c2",
            "/bin/sh",
        ];
        let mut shell = containerd.on_terminal(&exec);
        shell.wait_for("$ ", LIMIT);
        shell.press("echo $(id -u) on $(tty); exit 3\n");
        shell.wait_for("1000 on /dev/pts/", LIMIT);
        assert_eq!(shell.wait(LIMIT), 3);
        containerd.remove("c2");
        containerd.finish();
    });
}

fn says(containerd: &Containerd, options: &[&str], script: &str) -> String {
    engines::text(containerd.script(options, script))
}

#[test]
fn options_have_their_effects() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        let run = containerd.script(&["--read-only"], "touch /new").fails(1);
        run.says(&["Read-only file system"]);
        let worker = containerd.script_in(WORKER_IMAGE, &[], "id -un; id -G; pwd");
        assert_eq!(engines::text(worker), "worker\n1000 2000\n/tmp");
        let options = ["--env", "COLOUR=blue", "--cwd", "/var/tmp"];
        assert_eq!(
            says(&containerd, &options, "echo $COLOUR; pwd"),
            "blue\n/var/tmp"
        );

        let effective = "grep CapEff /proc/self/status";
        let bits = |options: &[&str]| {
            let said = says(&containerd, options, effective);
            u64::from_str_radix(said.rsplit('\t').next().unwrap(), 16).unwrap()
        };
        const SYS_ADMIN: u64 = 1 << 21;
        const CHOWN: u64 = 1;
        assert_eq!(bits(&[]) & (SYS_ADMIN | CHOWN), CHOWN);
        assert_eq!(
            bits(&["--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN"]) & (SYS_ADMIN | CHOWN),
            SYS_ADMIN
        );
        assert_ne!(bits(&["--privileged"]) & SYS_ADMIN, 0);
        let state = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status";
        assert_eq!(
            says(&containerd, &["--seccomp"], state),
            "NoNewPrivs:\t1\nSeccomp:\t2"
        );
        assert_eq!(
            says(&containerd, &["--allow-new-privs"], state),
            "NoNewPrivs:\t0\nSeccomp:\t0"
        );
        let profile = containerd.dir("seccomp").join("profile.json");
        let text = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
        });
        fs::write(&profile, text.to_string()).unwrap();
        let options = ["--seccomp", "--seccomp-profile", profile.to_str().unwrap()];
        containerd
            .script(&options, "mkdir /d")
            .fails(1)
            .says(&["No space left on device"]);

        let data = containerd.dir("data");
        fs::write(data.join("file"), "data\n").unwrap();
        let mount = format!("type=bind,src={},dst=/v,options=rbind:ro", data.display());
        containerd
            .script(&["--mount", &mount], "cat /v/file; touch /v/new")
            .fails(1)
            .says(&["data\n", "Read-only"]);
        says(
            &containerd,
            &["--device", "/dev/full"],
            "test -c /dev/full && ! echo x > /dev/full",
        );
        networks(host, &containerd);
        containerd.finish();
    });
}

fn networks(host: &Host, containerd: &Containerd) {
    let ours = fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    let namespace = "readlink /proc/self/ns/net";
    assert_eq!(says(containerd, &["--net-host"], namespace), ours);
    assert_ne!(says(containerd, &[], namespace), ours);
    host.command("ip", &["netns", "add", "given"]).ok();
    host.command(
        "ip",
        &[
            "-n", "given", "link", "add", "marker0", "type", "veth", "peer", "name", "marker1",
        ],
    )
    .ok();
    let said = says(
        containerd,
        &["--with-ns", "network:/run/netns/given"],
        "ls /sys/class/net",
    );
    assert!(said.contains("marker0"), "{said}");
    host.command("ip", &["netns", "delete", "given"]).ok();
    // ip(8) has made that directory a mount.
    host.command("umount", &["/run/netns"]).ok();
}

#[test]
fn user_namespaces() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        let options = ["--uidmap", "0:100000:2000", "--gidmap", "0:100000:2000"];
        let script = "cat /proc/self/uid_map; id -u; touch /made && stat -c %u /made /etc/passwd";
        let said = says(&containerd, &options, script);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words, ["0", "100000", "2000", "0", "0", "0"]);
        let pid = containerd.start("c1", &options, "exec sleep 1000");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t100000\t100000"), "{status}");
        let exec = [
            "task",
            "exec",
            "--exec-id",
            "e1",
            "c1",
            "/bin/sh",
            "-c",
            "id -u; cat /proc/self/uid_map",
        ];
        containerd.ctr(&exec).ok().says(&["0\n", "100000"]);
        containerd.remove("c1");
        containerd.finish();
    });
}

#[test]
fn nothing_of_a_container_is_left() {
    on_host(CONTAINERD, |host| {
        let containerd = Containerd::on(host);
        for _ in 0..3 {
            // The processes that are left behind die with the namespace.
            containerd
                .script(&[], "sleep 1000 & sleep 1000 & exit 3")
                .fails(3);
            containerd.start("c1", &[], "sleep 1000 & sleep 1000 & exit 4");
            containerd.wait_for_status("c1", "STOPPED");
            containerd
                .ctr(&["task", "rm", "c1"])
                .ok()
                .says(&["exit code 4"]);
            containerd.ctr(&["container", "rm", "c1"]).ok();
        }
        // Created, never started.
        containerd
            .ctr(&["container", "create", IMAGE, "c2", "/bin/true"])
            .ok();
        containerd.ctr(&["container", "rm", "c2"]).ok();
        containerd.finish();
    });
}
