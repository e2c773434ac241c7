//! The verbs, and what becomes of a container when somebody is killed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Host, UID, both, enter, eventually, processes, ready_config, reap, signal, stderr, stdout,
    wait_ready,
};
use metactl_runtime::{ContainerId, LaunchRequest, state};
use rustix::process::{Pid, Signal};
use serde_json::json;

fn status(host: &Host, id: &str) -> Option<String> {
    state::read(&host.root(), id)
        .ok()
        .map(|state| state.status().to_string())
}

#[test]
fn who_comes_after_a_container_in_the_foreground_finds_its_exit_code() {
    let Some(host) = enter() else { return };
    let file = host.path("exit");
    let file = file.to_str().unwrap();
    for (script, code) in [("exit 3", 3), ("true", 0)] {
        let bundle = host.bundle("told", &host.config("told", script));
        let bundle = bundle.to_str().unwrap();
        let words = ["run", "--keep", "--exit-file", file, "--bundle", bundle];
        let output = host.call(&[&words[..], &["told"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{code}\n"));
        assert_eq!(status(&host, "told").as_deref(), Some("stopped"));
        host.must(&["delete", "told"]);
        fs::remove_file(file).unwrap();
        // Who hands over does not see the end; and where nothing can be written, that is said.
        let detached = host.call(&[&words[..], &["--detach", "told"]].concat());
        assert_eq!(detached.status.code(), Some(64), "{}", both(&detached));
    }
    let bundle = host.bundle("told", &host.config("told", "true"));
    let bundle = bundle.to_str().unwrap();
    let output = host.call(&["run", "--exit-file", "/none/x", "--bundle", bundle, "told"]);
    assert!(stderr(&output).contains("/none/x"), "{}", both(&output));
    assert_eq!(status(&host, "told"), None);
}

#[test]
fn a_container_is_created_started_listed_killed_and_deleted() {
    let Some(host) = enter() else { return };
    let mut config = host.config("life", "trap 'exit 3' TERM; while :; do sleep 0.1; done");
    config["annotations"] = json!({"who": "me"});
    let bundle = host.bundle("life", &config);
    let bundle = bundle.to_str().unwrap();
    let pid_file = host.path("pid");
    create(
        &host,
        &[
            "--bundle",
            bundle,
            "--pid-file",
            pid_file.to_str().unwrap(),
            "life",
        ],
    );
    let output = host.call(&["create", "--bundle", bundle, "life"]);
    assert!(
        stderr(&output).contains("exists already"),
        "{}",
        both(&output)
    );
    let state: serde_json::Value = serde_json::from_str(&host.must(&["state", "life"])).unwrap();
    assert_eq!(
        (&state["status"], &state["annotations"]["who"]),
        (&json!("created"), &json!("me"))
    );
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    // It is there, also for others, only its program is not.
    host.must(&["exec", "life", "true"]);
    host.must(&["start", "life"]);
    assert!(stderr(&host.call(&["start", "life"])).contains("running"));
    assert_eq!(status(&host, "life").as_deref(), Some("running"));
    assert!(host.must(&["list"]).contains("running"));
    assert_eq!(host.must(&["list", "-q"]), "life\n");
    let listed: serde_json::Value =
        serde_json::from_str(&host.must(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["id"], "life");
    assert_eq!(listed[0]["rootfs"], json!(host.path("rootfs")));
    for verb in [&["list"][..], &["ps", "life"]] {
        let words = [&[verb[0], "--format", "json"], &verb[1..]].concat();
        assert_eq!(host.must(&words).lines().count(), 1, "{words:?}");
    }
    let table = host.must(&["list"]);
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["ID", "PID", "STATUS", "BUNDLE", "CREATED"]);
    // Only asks.
    host.must(&["kill", "life", "0"]);
    assert!(json_pids(&host, "life").contains(&pid));
    let refused = host.call(&["delete", "life"]);
    assert!(stderr(&refused).contains("running"), "{}", both(&refused));
    eventually("the trap is set", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:\t"))
            .unwrap();
        u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
    });
    host.must(&["kill", "life", "TERM"]);
    eventually("stopped", || {
        status(&host, "life").as_deref() == Some("stopped")
    });
    assert!(stderr(&host.call(&["kill", "life", "9"])).contains("stopped"));
    assert!(stderr(&host.call(&["kill", "life", "0"])).contains("stopped"));
    host.must(&["kill", "--all", "life", "0"]);
    host.must(&["delete", "life"]);
    assert_eq!(host.call(&["state", "life"]).status.code(), Some(1));
    host.must(&["delete", "--force", "life"]);
    reap();
    host.assert_clean();
}

/// A pipe as standard output would be held open by the container.
fn create(host: &Host, words: &[&str]) {
    let mut command = host.runtime(&["create"]);
    let status = command
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// Containers of `create` and `run --detach` are children of this test.
#[test]
fn a_cgroup_in_use_is_not_taken_over() {
    let Some(host) = enter() else { return };
    let config = ready_config(&host, "first", "touch /ready/yes; exec sleep 1000");
    let mut first = host.run_command("first", &config, &[]).spawn().unwrap();
    wait_ready(&host);
    let output = host.run("second", &config);
    assert!(
        stderr(&output).contains("has processes already"),
        "{}",
        both(&output)
    );
    metactl_runtime::cleanup(&host.root(), "second").unwrap();
    assert_eq!(status(&host, "first").as_deref(), Some("running"));
    host.must(&["kill", "first", "KILL"]);
    assert_eq!(first.wait().unwrap().code(), Some(137));
    host.assert_clean();
}

/// The pids of a container, as text.
fn json_pids(host: &Host, id: &str) -> Vec<String> {
    let pids: Vec<i32> = serde_json::from_str(&host.must(&["ps", "--format", "json", id])).unwrap();
    pids.iter().map(i32::to_string).collect()
}

#[test]
fn create_tells_that_there_is_no_such_program() {
    let Some(host) = enter() else { return };
    for (program, want) in [
        ("/bin/nothing", "No such file"),
        ("nothing", "executable file not found in $PATH"),
        ("/etc", "no file that can be executed"),
    ] {
        let mut config = host.config("none", "");
        config["process"]["args"] = json!([program, "x"]);
        let bundle = host.bundle("none", &config);
        let output = host.call(&["create", "--bundle", bundle.to_str().unwrap(), "none"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(want), "{}", both(&output));
    }
    reap();
    host.assert_clean();
}

#[test]
fn start_tells_what_fails() {
    let Some(host) = enter() else { return };
    let bad = host.path("rootfs/bin/bad");
    fs::write(&bad, "no program").unwrap();
    fs::set_permissions(&bad, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = host.config("late", "");
    config["process"]["args"] = json!(["/bin/bad", "x"]);
    let bundle = host.bundle("late", &config);
    create(&host, &["--bundle", bundle.to_str().unwrap(), "late"]);
    let output = host.call(&["start", "late"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("execute /bin/bad"),
        "{}",
        both(&output)
    );
    host.must(&["delete", "--force", "late"]);
    reap();
    host.assert_clean();
}

#[test]
fn a_detached_container_is_the_child_of_the_callers() {
    let Some(host) = enter() else { return };
    let config = host.config("bg", "sleep 0.2; exit 9");
    let pid_file = host.path("pid");
    let options = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    // Its output is a file: a pipe would be held open by the container.
    let log = fs::File::create(host.path("log")).unwrap();
    let mut command = host.run_command("bg", &config, &options);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    assert!(command.status().unwrap().success());
    assert_eq!(status(&host, "bg").as_deref(), Some("running"));
    let pid: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    let (_, ended) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        .unwrap()
        .unwrap();
    assert_eq!(ended.exit_status(), Some(9));
    assert_eq!(status(&host, "bg").as_deref(), Some("stopped"));
    assert!(
        !metactl_runtime::cleanup(&host.root(), "bg")
            .unwrap()
            .is_empty()
    );
    assert!(
        metactl_runtime::cleanup(&host.root(), "bg")
            .unwrap()
            .is_empty()
    );
    host.assert_clean();
}

#[test]
fn signals_pass_through_a_foreground_run() {
    let Some(host) = enter() else { return };
    for init in ["false", "true"] {
        for (sent, name, code) in [
            (Signal::TERM, "TERM", 41),
            (Signal::INT, "INT", 42),
            (Signal::USR1, "USR1", 43),
        ] {
            let script = format!(
                "trap 'exit {code}' {name}; touch /ready/yes; while :; do sleep 0.05; done"
            );
            let mut config = ready_config(&host, "sig", &script);
            config["annotations"] = json!({"org.metactl.init": init});
            let mut child = host.run_command("sig", &config, &[]).spawn().unwrap();
            wait_ready(&host);
            signal(&child, sent);
            assert_eq!(
                child.wait().unwrap().code(),
                Some(code),
                "{name}, init {init}"
            );
        }
    }
    // A program without a handler dies under the init, as it would anywhere else.
    let mut config = ready_config(&host, "sig", "touch /ready/yes; exec sleep 100");
    config["annotations"] = json!({"org.metactl.init": "true"});
    let mut child = host.run_command("sig", &config, &[]).spawn().unwrap();
    wait_ready(&host);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    host.assert_clean();
}

#[test]
fn the_init_reaps_orphans_and_ends_with_the_program() {
    let Some(host) = enter() else { return };
    let script = "for i in 1 2 3 4 5; do (sleep 0.05 & ) ; done; sleep 0.4; \
                  cat /proc/1/status | grep -E '^(Name|Uid|CapEff|Seccomp|NoNewPrivs):'; \
                  ps -o pid,stat,comm; sleep 1000 & exit 5";
    let mut config = host.config("init", script);
    config["annotations"] = json!({"org.metactl.init": "true"});
    let output = host.run("init", &config);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(5), "{}", both(&output));
    assert!(!text.contains('Z'), "zombies: {text}");
    for line in [
        &format!("Uid:\t{UID}"),
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.contains("\n    2 "),
        "the program is process 2: {text}"
    );
    host.assert_clean();
}

#[test]
fn a_killed_runtime_takes_the_sandbox_along_and_leaves_what_cleanup_finds() {
    let Some(host) = enter() else { return };
    for init in ["false", "true"] {
        let mut config = ready_config(&host, "victim", "touch /ready/yes; exec sleep 1000");
        config["annotations"] = json!({"org.metactl.init": init});
        let mut child = host.run_command("victim", &config, &[]).spawn().unwrap();
        wait_ready(&host);
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        eventually("the sandbox is dead", || processes().is_empty());
        assert_eq!(status(&host, "victim").as_deref(), Some("stopped"));
        assert!(!host.cgroups().is_empty());
        metactl_runtime::cleanup(&host.root(), "victim").unwrap();
        host.assert_clean();
    }
}

#[test]
fn when_the_parent_of_the_runtime_dies_all_end() {
    let Some(host) = enter() else { return };
    let config = ready_config(&host, "orphan", "touch /ready/yes; exec sleep 1000");
    let run = host.run_command("orphan", &config, &[]);
    let words: Vec<_> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .collect();
    // A parent between this test and the runtime.
    let mut parent = Command::new("sh")
        .arg("-c")
        .arg("\"$@\"; :")
        .arg("sh")
        .args(words)
        .spawn()
        .unwrap();
    wait_ready(&host);
    signal(&parent, Signal::KILL);
    parent.wait().unwrap();
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    // `sleep` is PID 1 without a handler, so SIGTERM passed it by, and the runtime insisted.
    host.assert_clean();
}

#[test]
fn a_runtime_killed_at_any_moment_leaves_nothing_that_cleanup_does_not_find() {
    let Some(host) = enter() else { return };
    let mut config = host.config("moment", "sleep 1000");
    config["annotations"] = json!({"org.metactl.init": "true"});
    for round in 0..60u64 {
        let options: &[&str] = if round % 2 == 0 { &[] } else { &["--detach"] };
        let mut command = host.run_command("moment", &config, options);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(round * 250));
        let _ = child.kill();
        child.wait().unwrap();
        metactl_runtime::cleanup(&host.root(), "moment").unwrap();
        eventually("all have ended", || {
            reap();
            processes().is_empty()
        });
        host.assert_clean();
    }
}

#[test]
fn exec_joins_with_everything_the_container_has() {
    let Some(host) = enter() else { return };
    let config = ready_config(&host, "main", "touch /ready/yes; exec sleep 1000");
    let mut main = host.run_command("main", &config, &[]).spawn().unwrap();
    wait_ready(&host);
    let script = "grep -E '^(Uid|NoNewPrivs|Seccomp|Cap...):' /proc/self/status; \
                  for n in pid mnt ipc uts net cgroup; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo same; done; \
                  touch /tmp/a; chmod 600 /tmp/a 2>&1; echo $A $HOME; pwd; cat /proc/self/cgroup; \
                  ls /proc/self/fd | wc -l";
    let text = host.must(&[
        "exec", "--env", "A=b", "--cwd", "/tmp", "main", "sh", "-c", script,
    ]);
    assert_eq!(text.matches("same").count(), 6, "{text}");
    assert_eq!(text.matches("\t0000000000000000").count(), 5, "{text}");
    for line in [
        &format!("Uid:\t{UID}\t"),
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "No such device",
        "b /tmp\n/tmp\n",
        "pids:/\n",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    assert!(text.ends_with("\n4\n"), "{text}");

    let as_other = host.must(&["exec", "--user", "66001:66002", "main", "id"]);
    assert!(as_other.contains("uid=66001 gid=66002"), "{as_other}");
    assert_eq!(
        host.call(&["exec", "main", "sh", "-c", "exit 6"])
            .status
            .code(),
        Some(6)
    );
    assert_eq!(
        host.call(&["exec", "main", "sh", "-c", "kill -9 $$"])
            .status
            .code(),
        Some(137)
    );
    let failed = host.call(&["exec", "main", "/bin/nothing"]);
    assert!(
        stderr(&failed).contains("exec /bin/nothing: no such file or directory"),
        "{}",
        both(&failed)
    );
    // Not a code that the program could have had.
    assert_eq!(failed.status.code(), Some(255));
    assert_eq!(
        host.call(&["exec", "--user", "root", "main", "id"])
            .status
            .code(),
        Some(64)
    );
    assert_eq!(
        host.call(&["exec", "nobody", "id"]).status.code(),
        Some(255)
    );

    // Detached: it outlives the command, and dies with the container.
    let pid_file = host.path("pid");
    let mut detached = host.runtime(&["exec", "--detach", "--pid-file"]);
    detached
        .arg(&pid_file)
        .args(["main", "sleep", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(detached.status().unwrap().success());
    let pid = fs::read_to_string(pid_file).unwrap();
    assert!(json_pids(&host, "main").contains(&pid));
    host.must(&["kill", "main", "KILL"]);
    // It became a child of this test, the first process of its host. A pid namespace ends when
    // all its processes are waited for.
    let pid = Pid::from_raw(pid.parse().unwrap());
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    assert_eq!(main.wait().unwrap().code(), Some(137));
    eventually("the joined process is dead", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}

#[test]
fn the_library_launches_from_a_thread_among_threads() {
    let Some(host) = enter() else { return };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Threads that hold the allocator's locks most of the time.
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(vec![vec![0u8; 5000]; 50]);
                }
            });
        }
        let launches: Vec<_> = (0..2)
            .map(|thread| {
                let host = &host;
                scope.spawn(move || {
                    for round in 0..15 {
                        let id = format!("lib-{thread}-{round}");
                        let bundle = host.bundle(&id, &host.config(&id, "exit 11"));
                        let request = LaunchRequest {
                            root: host.root(),
                            ..LaunchRequest::new(ContainerId::new(&id).unwrap(), bundle)
                        };
                        let container = metactl_runtime::launch::launch(&request).unwrap();
                        assert_eq!(container.wait().unwrap().code(), 11);
                        container.remove().unwrap();
                    }
                })
            })
            .collect();
        for launch in launches {
            launch.join().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    host.assert_clean();
}

#[test]
fn usage_and_plans() {
    let Some(host) = enter() else { return };
    for words in [
        &["fly"][..],
        &["run"],
        &["run", "a/b"],
        &["exec", "x"],
        &["kill", "x", "NOT"],
        &["list", "x"],
        &["--rootless", "perhaps", "list"],
    ] {
        assert_eq!(host.call(words).status.code(), Some(64), "{words:?}");
    }
    let output = host.call(&["fly"]);
    assert!(stderr(&output).contains("No help topic for 'fly'"));
    let bundle = host.bundle("plan", &host.config("plan", "true"));
    let words = [
        "--debug",
        "run",
        "--bundle",
        bundle.to_str().unwrap(),
        "plan",
    ];
    let output = host.call(&words);
    for line in [
        "nsexec container setup: process ",
        "closing the pipe to signal completion",
    ] {
        assert!(stderr(&output).contains(line), "{}", both(&output));
    }
    // What was left out is told also of a launch that failed.
    let mut config = host.config("lost", "true");
    config["process"]["args"] = json!(["/bin/nothing"]);
    config["process"]["capabilities"] = json!({"bounding": ["CAP_TIME_TRAVEL"]});
    let text = stderr(&host.run("lost", &config));
    let warning = "ignoring unknown or unavailable capabilities: [CAP_TIME_TRAVEL]";
    assert!(text.contains(warning), "{text}");
    // It is there: it is what is in its first line that is not.
    fs::write(host.path("rootfs/bin/script"), "#!/bin/nothing\n").unwrap();
    let script = fs::Permissions::from_mode(0o755);
    fs::set_permissions(host.path("rootfs/bin/script"), script).unwrap();
    config["process"]["args"] = json!(["/bin/script"]);
    let text = stderr(&host.run("lost", &config));
    assert!(text.contains("its interpreter"), "{text}");
    let plan = host.must(&["plan", "--bundle", bundle.to_str().unwrap()]);
    for line in [
        "runtime  new network namespace",
        "sandbox  capabilities: none",
        "sandbox  execute sh with 2 arguments",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    let log = host.path("log.json");
    let words = [
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "state",
        "nobody",
    ];
    assert_eq!(host.call(&words).status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert!(
        line["msg"]
            .as_str()
            .unwrap()
            .contains("container nobody does not exist")
    );
    host.assert_clean();
}
