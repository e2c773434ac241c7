//! podman calls the runtime: the life of containers, and what podman does with those that run.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::command;
use metactl_tests::engines::{self, IMAGE, LIMIT, Podman};
use metactl_tests::needs::PODMAN;
use metactl_tests::{eventually, machine, on_host};

#[test]
fn containers_run_and_give_their_exit_codes() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let run = podman
            .script(&[], "id -u; echo oops >&2; exit 42")
            .fails(42);
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str()),
            ("0\n", "oops\n")
        );
        podman.script(&["--init"], "kill -KILL $$").fails(137);
        podman.script(&["--init"], "kill -TERM $$").fails(143);
        // What is not run tells why, by podman's exit code and by the text.
        let program = |path: &str| podman.run(&["run", "--rm", "--network=none", IMAGE, path]);
        program("/no/such/program")
            .fails(127)
            .says(&["/no/such/program", "o such file or directory"]);
        program("no-such-program")
            .fails(127)
            .says(&["no-such-program", "not found in $PATH"]);
        program("/etc/passwd")
            .fails(126)
            .says(&["/etc/passwd", "ermission denied"]);
        program("/etc").fails(126).says(&["/etc"]);
        // podman reads the errors of runtimes that it does not know from their standard error.
        let unknown = &host.binaries().runtime;
        let run = ["run", "--rm", "--network=none", IMAGE, "/no/such/program"];
        let run = command::run(podman.command_with(unknown, &run), LIMIT);
        run.fails(127)
            .says(&["/no/such/program", "o such file or directory"]);
        let run = [
            "run",
            "-d",
            "--network=none",
            "--name=direct",
            IMAGE,
            "sleep",
            "1000",
        ];
        command::run(podman.command_with(unknown, &run), LIMIT).ok();
        let path = podman.text(&["inspect", "-f", "{{.OCIRuntime}}", "direct"]);
        assert_eq!(path, unknown.to_str().unwrap());
        podman.run(&["rm", "-f", "-t", "0", "direct"]).ok();
        // The same files as a tarball without a configuration.
        let layer = podman.image().layer.to_str().unwrap();
        podman
            .run(&["import", "-q", layer, "localhost/imported:1"])
            .ok();
        let imported = [
            "run",
            "--rm",
            "--network=none",
            "localhost/imported:1",
            "/bin/cat",
            "/etc/from-image",
        ];
        assert_eq!(podman.text(&imported), "from the image");
        let rootfs = podman.image().rootfs.to_str().unwrap();
        let run = podman.run(&[
            "run",
            "--rm",
            "--network=none",
            "--rootfs",
            rootfs,
            "/bin/sh",
            "-c",
            "exit 4",
        ]);
        run.fails(4);
        podman.finish();
    });
}

#[test]
fn a_container_runs_in_the_background() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let script = "trap 'echo bye; exit 5' TERM; echo started $$; sleep 1000 & wait";
        let web = podman.start("web", &["-e", "COLOUR=blue"], &["sh", "-c", script]);
        eventually("its log", LIMIT, || {
            (web.does(&["logs"]).ok().stdout == "started 1\n").then_some(())
        });
        assert_eq!(
            web.inspect("{{.State.Status}} {{.State.ExitCode}}"),
            "running 0"
        );
        let pid = web.pid();
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(exe.to_str().unwrap(), "/bin/busybox");

        // Its processes, by podman's own means and by ps(1) in there.
        let top = web.does(&["top"]).ok();
        assert!(top.stdout.lines().count() == 3, "sh and sleep: {top}");
        podman
            .run(&["top", "web", "-o", "pid,args"])
            .ok()
            .says(&["sleep 1000"]);
        let stats = podman.text(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDs}} {{.Name}}",
            "web",
        ]);
        assert_eq!(stats, "2 web");

        web.does(&["stop", "-t", "20"]).ok();
        assert_eq!(
            web.inspect("{{.State.Status}} {{.State.ExitCode}}"),
            "exited 5"
        );
        assert_eq!(web.does(&["logs"]).ok().stdout, "started 1\nbye\n");
        assert_eq!(podman.text(&["wait", "web"]), "5");
        web.does(&["start"]).ok();
        assert_ne!(web.pid(), pid);
        let first = web.pid();
        web.does(&["restart", "-t", "20"]).ok();
        assert_ne!(web.pid(), first);
        web.does(&["kill", "-s", "KILL"]).ok();
        web.wait_for_status("exited");
        assert_eq!(web.inspect("{{.State.ExitCode}}"), "137");
        web.does(&["rm"]).ok();

        // Created first, started later; another signal.
        let create = [
            "create",
            "--name",
            "later",
            "--network=none",
            IMAGE,
            "sh",
            "-c",
        ];
        podman
            .run(
                &[
                    &create[..],
                    &["trap 'echo usr1; exit 6' USR1; echo ready; while :; do sleep 0.1; done"],
                ]
                .concat(),
            )
            .ok();
        podman.run(&["init", "later"]).ok();
        assert_eq!(
            podman.text(&["inspect", "-f", "{{.State.Status}}", "later"]),
            "initialized"
        );
        assert_eq!(podman.text(&["logs", "later"]), "");
        podman.run(&["start", "later"]).ok();
        eventually("it waits for the signal", LIMIT, || {
            podman
                .text(&["logs", "later"])
                .contains("ready")
                .then_some(())
        });
        podman.run(&["kill", "-s", "USR1", "later"]).ok();
        assert_eq!(podman.text(&["wait", "later"]), "6");
        podman.run(&["rm", "later"]).ok();
        podman.finish();
    });
}

#[test]
fn commands_are_executed_in_a_container() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let target = podman.idle("target", &["-e", "COLOUR=blue"]);
        target.script("exit 7").fails(7);
        target.script("kill -KILL $$").fails(137);
        assert_eq!(
            engines::text(target.script("echo $COLOUR; pwd; id -u")),
            "blue\n/\n0"
        );
        let options = [
            "-u",
            "worker",
            "-w",
            "/tmp",
            "-e",
            "COLOUR=red",
            "-e",
            "SIZE=7 feet",
        ];
        let exec = target.exec(
            &options,
            &["sh", "-c", "id; pwd; echo $COLOUR, $SIZE; touch /tmp/mine"],
        );
        exec.ok().says(&[
            "uid=1000(worker) gid=1000(worker)",
            "2000(extra)",
            "\n/tmp\n",
            "red, 7 feet",
        ]);
        assert_eq!(
            engines::text(target.script("stat -c %u:%g /tmp/mine")),
            "1000:1000"
        );
        assert_eq!(
            engines::text(target.exec(&["--user=5:6"], &["sh", "-c", "id -u; id -g"])),
            "5\n6"
        );
        target
            .exec(&["--privileged"], &["grep", "CapEff", "/proc/self/status"])
            .ok()
            .says(&["1ff"]);
        // In the container's namespaces and cgroups, not in those of the caller.
        let links = "for kind in ipc mnt net pid uts cgroup; do readlink /proc/$PROCESS/ns/$kind; done; cat /proc/$PROCESS/cgroup";
        let of = |process: &str| engines::text(target.script(&links.replace("$PROCESS", process)));
        assert_eq!(of("1"), of("self"));

        target
            .exec(
                &["-d"],
                &["sh", "-c", "echo $$ > /tmp/detached; exec sleep 1001"],
            )
            .ok();
        eventually("the detached command", LIMIT, || {
            target
                .script("test -s /tmp/detached && kill -0 $(cat /tmp/detached)")
                .code
                .eq(&0)
                .then_some(())
        });
        target
            .exec(&[], &["/no/such/program"])
            .fails(127)
            .says(&["/no/such/program"]);
        target
            .exec(&[], &["no-such-program"])
            .fails(127)
            .says(&["not found in $PATH"]);
        target.exec(&[], &["/etc/passwd"]).fails(126);
        target
            .exec(&["-w", "/no/such/directory"], &["true"])
            .fails(127)
            .says(&["/no/such/directory"]);
        // What it is given and gives.
        let mut pipe = std::process::Command::new("sh");
        pipe.args(["-c", "printf 'a\\nb\\n' | \"$@\"", "sh"]);
        let exec = podman.command(&["exec", "-i", "target", "wc", "-l"]);
        pipe.arg(exec.get_program()).args(exec.get_args());
        pipe.envs(
            exec.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        assert_eq!(engines::text(command::run(pipe, LIMIT)), "2");

        let file = podman.dir("copy").join("there");
        fs::write(&file, "copied\n").unwrap();
        podman
            .run(&["cp", file.to_str().unwrap(), "target:/root/there"])
            .ok();
        assert_eq!(engines::text(target.script("cat /root/there")), "copied");
        let back = file.with_file_name("back");
        podman
            .run(&["cp", "target:/root/there", back.to_str().unwrap()])
            .ok();
        assert_eq!(fs::read_to_string(back).unwrap(), "copied\n");
        target.remove();
        podman.finish();
    });
}

#[test]
fn terminals_are_terminals() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let command = ["run", "--rm", "-it", "--network=none", IMAGE, "sh"];
        let mut shell = podman.terminal(&command);
        shell.wait_for("/ # ", LIMIT);
        shell.press("tty; echo answer $((6 * 7))\n");
        shell.wait_for("/dev/pts/0", LIMIT);
        shell.wait_for("answer 42", LIMIT);
        shell.resize(33, 111);
        // podman hands the size on when it hears of it.
        let mut sizes = 0;
        eventually("the new size", LIMIT, || {
            sizes += 1;
            shell.press(&format!("echo size{sizes} $(stty size)\n"));
            std::thread::sleep(Duration::from_millis(200));
            shell.screen().contains(" 33 111").then_some(())
        });
        // The terminal is the controlling one: Ctrl-C reaches what runs there, and nothing else.
        shell.press("sleep 1000; echo interrupted $?\n");
        std::thread::sleep(Duration::from_millis(300));
        shell.press("\x03");
        shell.press("echo still $((1 + 1)) here; exit 9\n");
        shell.wait_for("still 2 here", LIMIT);
        assert_eq!(shell.wait(LIMIT), 9);

        let target = podman.idle("target", &[]);
        let mut exec = podman.terminal(&["exec", "-it", "-u", "worker", "target", "sh"]);
        exec.wait_for("$ ", LIMIT);
        exec.press("echo $(id -un) on $(tty); exit 3\n");
        exec.wait_for("worker on /dev/pts/", LIMIT);
        assert_eq!(exec.wait(LIMIT), 3);
        let without = target
            .exec(&[], &["sh", "-c", "tty; test -t 0 || exit 8"])
            .fails(8);
        assert_eq!(without.stdout, "not a tty\n");
        target.remove();
        // Nobody is at the terminal of this one, but there is one; its user may write to it.
        let detached = podman.start(
            "detached",
            &["-t", "-u", "worker"],
            &["sh", "-c", "tty > /dev/stdout; exec sleep 1000"],
        );
        eventually("its log", LIMIT, || {
            detached
                .does(&["logs"])
                .ok()
                .stdout
                .contains("/dev/pts/0")
                .then_some(())
        });
        detached.remove();
        podman.finish();
    });
}

#[test]
fn pausing_stops_everything_in_a_container() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let clock = podman.start(
            "clock",
            &[],
            &["sh", "-c", "while :; do echo tick; sleep 0.05; done"],
        );
        eventually("it ticks", LIMIT, || {
            clock.does(&["logs"]).stdout.contains("tick").then_some(())
        });
        clock.does(&["pause"]).ok();
        assert_eq!(clock.inspect("{{.State.Status}}"), "paused");
        let ticks = || clock.does(&["logs"]).ok().stdout.len();
        let before = ticks();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ticks(), before, "it ticks while it is paused");
        clock
            .script("true")
            .fails(255)
            .says(&["container state improper"]);
        clock.does(&["unpause"]).ok();
        assert_eq!(clock.inspect("{{.State.Status}}"), "running");
        eventually("it ticks again", LIMIT, || (ticks() > before).then_some(()));
        // One that is paused can be removed.
        clock.does(&["pause"]).ok();
        clock.remove();
        podman.finish();
    });
}

#[test]
fn nothing_of_a_container_is_left() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let before = machine::processes();
        for round in 0..5 {
            let script = "for i in 1 2 3; do sleep 1000 & done; exit 3";
            podman
                .script(&["-m", "64m", "--tmpfs", "/scratch"], script)
                .fails(3);
            let killed = podman.idle(&format!("killed{round}"), &["-v", "data:/data"]);
            killed.script("sleep 1000 & sleep 1000 & echo started").ok();
            killed.remove();
        }
        podman.run(&["volume", "rm", "data"]).ok();
        eventually("the processes are gone", LIMIT, || {
            (machine::processes() == before).then_some(())
        });
        for verb in ["create", "start", "exec", "kill", "delete"] {
            assert!(
                podman
                    .calls()
                    .lines()
                    .any(|call| call.split(' ').any(|word| word == verb)),
                "{verb}"
            );
        }
        podman.finish();
    });
}

#[test]
fn health_checks_and_hooks_run() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        // There is no timer without systemd: the test asks.
        let options = [
            "--health-cmd",
            "test -e /tmp/healthy",
            "--health-interval=disable",
            "--health-retries=1",
        ];
        let patient = podman.idle("patient", &options);
        podman.run(&["healthcheck", "run", "patient"]).fails(1);
        assert_eq!(patient.inspect("{{.State.Health.Status}}"), "unhealthy");
        patient.script("touch /tmp/healthy").ok();
        podman.run(&["healthcheck", "run", "patient"]).ok();
        assert_eq!(patient.inspect("{{.State.Health.Status}}"), "healthy");
        patient.remove();

        let hooks = podman.dir("hooks");
        let seen = podman.dir("seen");
        let stages = [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ];
        for stage in stages {
            let script = format!("cat > {}/{stage}", seen.display());
            let hook = serde_json::json!({
                "version": "1.0.0",
                "hook": {"path": "/bin/sh", "args": ["sh", "-c", script]},
                "when": {"always": true},
                "stages": [stage],
            });
            fs::write(hooks.join(format!("{stage}.json")), hook.to_string()).unwrap();
        }
        let dir = format!("--hooks-dir={}", hooks.display());
        let run = [
            &dir,
            "run",
            "--rm",
            "--network=none",
            "--name=hooked",
            IMAGE,
            "sh",
            "-c",
            "exit 2",
        ];
        podman.run(&run).fails(2);
        for stage in stages {
            let text =
                fs::read_to_string(seen.join(stage)).unwrap_or_else(|e| panic!("{stage}: {e}"));
            let state: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(
                state["bundle"]
                    .as_str()
                    .is_some_and(|dir| dir.ends_with("userdata")),
                "{stage}: {state}"
            );
            let expected = match stage {
                // The specification wants "running"; runc 1.1 says "created".
                "poststart" => "",
                "poststop" => "stopped",
                // "creating", or "created" already.
                _ => "creat",
            };
            assert!(
                state["status"].as_str().unwrap().starts_with(expected),
                "{stage}: {state}"
            );
        }
        // A hook that fails before the start makes the container fail.
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": {"path": "/bin/sh", "args": ["sh", "-c", "exit 31"]},
            "when": {"always": true},
            "stages": ["createRuntime"],
        });
        fs::write(hooks.join("failing.json"), hook.to_string()).unwrap();
        assert_ne!(podman.run(&run).code, 2);
        podman.finish();
    });
}
