//! What a process gets beside its user: scheduling, priorities, personality, processors, descriptors,
//! an agent for its filter.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Host, both, descriptor, enter, stderr, stdout};
use serde_json::{Value, json};

fn output_of(host: &Host, id: &str, config: &Value) -> String {
    let output = host.run(id, config);
    assert!(output.status.success(), "{}", both(&output));
    stdout(&output)
}

#[test]
fn scheduling_priorities_and_personality_are_set() {
    let Some(host) = enter() else { return };
    let script = "cut -d' ' -f18,19,41 /proc/self/stat; ionice; uname -m; grep Cpus_allowed_list /proc/self/status";
    let mut config = host.config("nice", script);
    config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    config["linux"]["personality"] = json!({"domain": "LINUX32"});
    let text = output_of(&host, "nice", &config);
    let lines: Vec<&str> = text.lines().collect();
    // SCHED_BATCH is 3.
    assert_eq!(lines[0], "27 7 3", "{text}");
    assert_eq!(lines[1], "best-effort: prio 6", "{text}");
    assert_eq!(lines[2], "i686", "{text}");
    config["process"]["scheduler"] = json!({"policy": "SCHED_ISO"});
    let output = host.run("nice", &config);
    assert!(
        stderr(&output).contains("process.scheduler.policy"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn a_label_without_its_module_is_refused() {
    let Some(host) = enter() else { return };
    if fs::exists("/sys/kernel/security/apparmor").unwrap()
        || fs::exists("/sys/fs/selinux/enforce").unwrap()
    {
        return common::skip("this host has security modules; the test is for those without");
    }
    for (field, value) in [
        ("apparmorProfile", "docker-default"),
        ("selinuxLabel", "a:b:c:s0"),
    ] {
        let mut config = host.config("label", "true");
        config["process"][field] = json!(value);
        let output = host.run("label", &config);
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).contains(field), "{}", both(&output));
    }
    host.assert_clean();
}

#[test]
fn descriptors_are_handed_over_when_they_are_asked_for() {
    let Some(host) = enter() else { return };
    let config = host.config("fds", "cat <&3; ls /proc/self/fd | tr '\\n' ' '");
    let bundle = host.bundle("fds", &config);
    let file = host.path("handed");
    fs::write(&file, "handed over\n").unwrap();
    let run = |options: &str| {
        let runtime = common::binary();
        let script = format!(
            "exec {} --root {} run --bundle {} {options} fds 3<{}",
            runtime.display(),
            host.root().display(),
            bundle.display(),
            file.display()
        );
        std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap()
    };
    let output = run("--preserve-fds 1");
    assert!(
        stdout(&output).starts_with("handed over\n0 1 2 3 "),
        "{}",
        both(&output)
    );
    // One that is not open would be one of the runtime's.
    let output = run("--preserve-fds 2");
    assert!(
        !output.status.success() && stderr(&output).contains("descriptor 4"),
        "{}",
        both(&output)
    );
    let output = run("");
    assert!(!stdout(&output).contains("handed"), "{}", both(&output));
    host.assert_clean();
}

#[test]
fn an_agent_decides_about_system_calls() {
    let Some(host) = enter() else { return };
    let agent = host.path("agent");
    let listener = UnixListener::bind(&agent).unwrap();
    let config = |id: &str| {
        let mut config = host.config(id, "mkdir /tmp/x; echo code $?; exit 0");
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": agent, "listenerMetadata": "for the agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
        config
    };
    let (heard, hears) = std::sync::mpsc::channel::<()>();
    let serve = |listener: &UnixListener| {
        let (fd, told) = descriptor(&listener.accept().unwrap().0);
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["fds"], json!(["seccompFd"]));
        assert_eq!(told["metadata"], "for the agent");
        assert!(told["pid"].as_i64().unwrap() > 0 && told["state"]["id"].is_string());
        heard.send(()).unwrap();
        // The first question is answered by nobody: the agent goes away, and the call fails.
        rustix::event::poll(
            &mut [rustix::event::PollFd::from_borrowed_fd(
                fd.as_fd(),
                rustix::event::PollFlags::IN,
            )],
            None,
        )
        .unwrap();
        told["state"]["status"].as_str().unwrap().to_owned()
    };
    for (mode, status) in [("run", "creating"), ("create", "created")] {
        let bundle = host.bundle("asked", &config("asked"));
        let bundle = bundle.to_str().unwrap().to_owned();
        let text = std::thread::scope(|scope| {
            let serve = &serve;
            let listener = &listener;
            let served = scope.spawn(move || serve(listener));
            let text = if mode == "run" {
                let output = host.call(&["run", "--bundle", &bundle, "asked"]);
                hears.recv().unwrap();
                stdout(&output)
            } else {
                let out = fs::File::create(host.path("out")).unwrap();
                let mut create = host.runtime(&["create", "--bundle", &bundle, "asked"]);
                assert!(
                    create
                        .stdout(out)
                        .stderr(Stdio::null())
                        .status()
                        .unwrap()
                        .success()
                );
                // The agent has been told by now.
                hears.recv_timeout(Duration::from_secs(10)).unwrap();
                host.must(&["start", "asked"]);
                common::eventually("it ends", || {
                    host.must(&["state", "asked"]).contains("stopped")
                });
                host.must(&["delete", "asked"]);
                fs::read_to_string(host.path("out")).unwrap()
            };
            assert_eq!(served.join().unwrap(), status);
            text
        });
        // ENOSYS: there is no agent any more.
        assert!(text.contains("code 1"), "{text}");
    }
    // Without an agent there is no container.
    fs::remove_file(&agent).unwrap();
    let output = host.run("asked", &config("asked"));
    assert!(
        stderr(&output).contains("linux.seccomp.listenerPath"),
        "{}",
        both(&output)
    );
    common::reap();
    host.assert_clean();
}

/// A container's first process is a child of whoever called the runtime, who may have waited for it before the runtime
/// looks at it: a kernel does so at once for who ignores SIGCHLD, as engines nearly do.
#[test]
fn why_a_process_ended_is_told_though_another_one_waited_for_it() {
    let Some(host) = enter() else { return };
    let mut config = host.config("gone", "true");
    config["process"]["args"] = json!(["/bin/nothing"]);
    let bundle = host.bundle("gone", &config);
    let engine = "$SIG{CHLD} = 'IGNORE'; my $pid = fork // die; if (!$pid) { exec @ARGV or die } \
                  select(undef, undef, undef, 0.002) while kill 0, $pid;";
    for round in 0..60 {
        let id = format!("gone-{round}");
        let runtime = host.runtime(&["create", "--bundle", bundle.to_str().unwrap(), &id]);
        let mut perl = Command::new("perl");
        perl.args(["-e", engine]).arg(runtime.get_program());
        let output = perl.args(runtime.get_args()).output().unwrap();
        assert!(
            stderr(&output).contains("find the program /bin/nothing"),
            "{round}: {}",
            both(&output)
        );
    }
    host.assert_clean();
}
