//! Descriptors of the runtime, and what they lead to.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Host, binary, both, compile_c, enter, eventually, reap, skip, stdout};
use crate::{root_config, start, stop, with_descriptors};

/// Descriptors that a careless caller leaves open: a directory, a file, the root of the host.
const CARELESS: &str = "7</etc 8</etc/hostname 9</ 15</proc";

/// The highest number tried.
const HIGHEST: u32 = 64;

fn run_careless(host: &Host, id: &str, config: &Value) -> Output {
    let bundle = host.bundle(id, config);
    let words = ["run", "--bundle", bundle.to_str().unwrap(), id];
    with_descriptors(host, CARELESS, &words).output().unwrap()
}

/// CVE-2024-21626: a working directory by way of a descriptor of the runtime, or of its caller.
#[test]
fn a_working_directory_outside_is_refused() {
    let Some(host) = enter() else { return };
    let script = "pwd; ls -la; cat ../../../../../../etc/passwd";
    for fd in 3..HIGHEST {
        for up in ["", "/..", "/../../../.."] {
            let mut config = host.config("cwd", script);
            config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}{up}"));
            if up.is_empty() || fd < 16 {
                let output = run_careless(&host, "cwd", &config);
                assert_ne!(output.status.code(), Some(0), "{fd}{up}: {}", both(&output));
                assert_eq!(stdout(&output), "", "{fd}{up}");
            }
        }
    }
    host.assert_clean();
}

/// CVE-2024-21626: the same by `exec --cwd`, and by a symlink in the root tree.
#[test]
fn a_working_directory_outside_is_refused_to_exec() {
    let Some(host) = enter() else { return };
    for fd in 3..HIGHEST {
        let link = host.path(&format!("rootfs/data/{fd}"));
        std::os::unix::fs::symlink(format!("/proc/self/fd/{fd}"), link).unwrap();
    }
    for (uid, config) in [
        (
            66_000,
            host.config("cwd", "touch /tmp/ready; exec sleep 1000"),
        ),
        (
            0,
            root_config(
                &host,
                "cwd",
                "touch /tmp/ready; exec sleep 1000",
                "DAC_OVERRIDE",
            ),
        ),
    ] {
        let main = start(&host, "cwd", &config);
        for fd in 3..HIGHEST {
            for cwd in [format!("/proc/self/fd/{fd}"), format!("/data/{fd}")] {
                let words = ["exec", "--cwd", &cwd, "cwd", "sh", "-c", "pwd; ls -la"];
                let output = with_descriptors(&host, CARELESS, &words).output().unwrap();
                assert_ne!(
                    output.status.code(),
                    Some(0),
                    "{uid} {cwd}: {}",
                    both(&output)
                );
                assert_eq!(stdout(&output), "", "{uid} {cwd}");
            }
        }
        stop(&host, "cwd", main);
    }
    host.assert_clean();
}

/// A program of the host that the container does not have.
fn program_of_the_host(host: &Host) -> PathBuf {
    let program = host.path("outside");
    fs::copy(host.path("rootfs/bin/busybox"), &program).unwrap();
    program
}

/// CVE-2024-21626: the program itself is named by way of a descriptor. A directory among those of
/// the runtime, or of its caller, and `..` from there, would lead to programs of the host.
#[test]
fn a_program_outside_by_way_of_a_descriptor_is_refused() {
    let Some(host) = enter() else { return };
    let program = program_of_the_host(&host);
    let path = |fd| {
        format!(
            "/proc/self/fd/{fd}{}{}",
            "/..".repeat(12),
            program.display()
        )
    };
    let script = "touch /tmp/ready; exec sleep 1000";
    let configs = [
        host.config("args", script),
        root_config(&host, "args", script, ""),
        root_config(&host, "args", script, "DAC_OVERRIDE SYS_PTRACE"),
    ];
    for config in configs {
        for fd in 3..24 {
            let mut config = config.clone();
            config["process"]["args"] = json!([path(fd), "echo", "outside"]);
            let output = run_careless(&host, "args", &config);
            assert_ne!(output.status.code(), Some(0), "{fd}: {}", both(&output));
            assert_eq!(stdout(&output), "", "{fd}");
        }
        // By exec: the name itself, a symlink and the interpreter of a script.
        let main = start(&host, "args", &config);
        for fd in 3..24 {
            let link = host.path("rootfs/data/link");
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(path(fd), link).unwrap();
            let file = host.path("rootfs/data/script");
            fs::write(&file, format!("#!{} cat\n", path(fd))).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&file, mode).unwrap();
            for name in [&path(fd), "/data/link", "/data/script"] {
                let words = ["exec", "args", name, "echo", "outside"];
                let output = with_descriptors(&host, CARELESS, &words).output().unwrap();
                assert_ne!(
                    output.status.code(),
                    Some(0),
                    "{fd} {name}: {}",
                    both(&output)
                );
                assert_eq!(stdout(&output), "", "{fd} {name}");
            }
        }
        stop(&host, "args", main);
    }
    host.assert_clean();
}

/// Prints each open descriptor with its kind, and nothing else.
const LIST: &str = r#"
#include <fcntl.h>
#include <stdio.h>
int main(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1) printf("%d ", fd);
    printf("end\n");
    return 0;
}
"#;

/// CVE-2016-9962, CVE-2024-21626: every descriptor that the container sees: 0, 1, 2 and no other,
/// whatever the caller had open, on every way in.
#[test]
fn a_container_sees_three_descriptors() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "list", LIST).is_none() {
        return;
    }
    let want = "0 1 2 end";
    let script = "list; touch /tmp/ready; exec sleep 1000";
    for (kind, mut config) in [
        ("app", host.config("fds", script)),
        (
            "root",
            root_config(&host, "fds", script, "SYS_ADMIN SYS_PTRACE DAC_OVERRIDE"),
        ),
    ] {
        for init in ["false", "true"] {
            config["annotations"] = json!({"org.metactl.init": init});
            for terminal in [false, true] {
                let mut config = config.clone();
                config["process"]["args"] = json!(["list"]);
                config["process"]["terminal"] = json!(terminal);
                let output = run_careless(&host, "fds", &config);
                assert_eq!(
                    stdout(&output).trim(),
                    want,
                    "{kind} {init} {}",
                    both(&output)
                );
            }
            // Detached, and in two steps.
            let bundle = host.bundle("fds", &config);
            let bundle = bundle.to_str().unwrap();
            let detached = ["run", "--detach", "--bundle", bundle, "fds"];
            let create = ["create", "--bundle", bundle, "fds"];
            for words in [&detached[..], &create] {
                let log = fs::File::create(host.path("log")).unwrap();
                let mut command = with_descriptors(&host, CARELESS, words);
                command.stdout(log.try_clone().unwrap()).stderr(log);
                assert!(command.status().unwrap().success());
                if words[0] == "create" {
                    let mut start = with_descriptors(&host, CARELESS, &["start", "fds"]);
                    assert!(start.status().unwrap().success());
                }
                let text = || fs::read_to_string(host.path("log")).unwrap();
                eventually("the list", || text().contains("end"));
                assert_eq!(text().trim(), want, "{kind} init {init} {}", words[0]);
                eventually("the container is ready", || {
                    host.call(&["exec", "fds", "test", "-e", "/tmp/ready"])
                        .status
                        .success()
                });
                for tty in [&["fds", "list"][..], &["--tty", "fds", "list"]] {
                    let words = [&["exec"], tty].concat();
                    let output = with_descriptors(&host, CARELESS, &words).output().unwrap();
                    assert_eq!(stdout(&output).trim(), want, "{kind} exec {tty:?}");
                }
                host.must(&["delete", "--force", "fds"]);
                reap();
            }
        }
    }
    host.assert_clean();
}

/// CVE-2016-9962: a container with CAP_SYS_PTRACE looks into /proc/PID of a process that joins it,
/// which is stopped for that just before it executes its program: no descriptor that leads to the
/// host can be read, opened or taken there.
#[test]
fn the_joining_process_has_nothing_to_take() {
    let Some(host) = enter() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("needs strace");
    }
    // Strangers are those who are not of this container's program.
    let hunt = "touch /tmp/ready; while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do \
                for f in $p/fd/*; do l=$(readlink $f) || continue; case $f in $p/fd/[012]) ;; \
                *) [ -e $f/etc/hostname ] && echo \"found a host at $f\"; echo \"saw $l\";; esac; \
                done; done; done 2>/dev/null; true";
    let config = root_config(&host, "prey", hunt, super::CAPABILITIES);
    let main = start(&host, "prey", &config);
    for _ in 0..3 {
        let mut strace = Command::new("strace");
        // The first execve is the runtime itself, the next ones its second self and the program.
        strace
            .args([
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "inject=close_range:delay_exit=300000",
            ])
            .args(["-e", "trace=close_range,execve", "bash", "-c"])
            .arg(format!("exec {CARELESS}; exec \"$@\""))
            .arg("bash")
            .arg(binary())
            .arg("--root")
            .arg(host.root())
            .args(["exec", "prey", "true"]);
        let output = strace.output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
    }
    host.must(&["exec", "prey", "touch", "/tmp/stop"]);
    let output = main.wait_with_output().unwrap();
    let text = stdout(&output);
    // The shells of the hunt themselves have pipes; of the runtime only its report may be seen.
    let strange = |line: &&str| !line.contains("pipe:[") && !line.contains("saw socket:[");
    let strange: Vec<&str> = text.lines().filter(strange).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    host.assert_clean();
}

/// A program that finds the report of a joining process, takes it with pidfd_getfd(2), and fills
/// it with rubbish, or keeps it open.
const FILL: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char junk[200];
    memset(junk, 255, sizeof junk);
    close(creat("/tmp/ready", 0644));
    while (access("/tmp/stop", F_OK) != 0) {
        for (int pid = 2; pid < 400; pid++) {
            if (pid == getpid()) continue;
            int pidfd = syscall(SYS_pidfd_open, pid, 0);
            if (pidfd < 0) continue;
            for (int fd = 3; fd < 24; fd++) {
                int got = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
                if (got < 0) continue;
                for (int i = 0; i < 1000; i++)
                    if (send(got, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
                printf("got\n");
                fflush(stdout);
            }
            if (argc > 1) ptrace(PTRACE_SEIZE, pid, 0, 0);
            close(pidfd);
        }
    }
    return 0;
}
"#;

/// Waits for a process, but not for ever. Whether it ended.
fn ends_soon(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// A container that tries to take the report socket of a joining process, to fill it and to keep it,
/// gets none and hangs nobody. With CAP_SYS_PTRACE it may do with what runs in its pid namespace
/// what it likes, also stop what joins; other containers go on, and it can be deleted.
#[test]
#[allow(clippy::zombie_processes, reason = "reaped together with what joined")]
fn a_report_that_the_container_fills_harms_nobody() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "fill", FILL).is_none() {
        return;
    }
    for (capabilities, args, rounds) in [
        ("", json!(["fill"]), 30),
        (crate::CAPABILITIES, json!(["fill"]), 30),
        (crate::CAPABILITIES, json!(["fill", "ptrace"]), 2),
    ] {
        let mut config = root_config(&host, "fill", "", capabilities);
        config["process"]["args"] = args.clone();
        let mut run = host.run_command("fill", &config, &[]);
        let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
        eventually("it runs", || {
            stdout(&host.call(&["state", "fill"])).contains("running")
        });
        for round in 0..rounds {
            let mut exec = host.runtime(&["exec", "fill", "true"]);
            exec.stdout(Stdio::null()).stderr(Stdio::null());
            let ended = ends_soon(&mut exec.spawn().unwrap());
            assert!(ended || args[1] == "ptrace", "{args} {round}: hangs");
            assert_eq!(host.script("echo other"), "other\n", "{args} {round}");
        }
        // What joined became a child of this test; its pid namespace ends when it is waited for.
        host.must(&["kill", "fill", "KILL"]);
        let mut text = String::new();
        let mut output = run.stdout.take().unwrap();
        eventually("all have ended", || {
            reap();
            crate::common::processes().is_empty()
        });
        output.read_to_string(&mut text).unwrap();
        host.must(&["delete", "--force", "fill"]);
        if capabilities.is_empty() {
            assert_eq!(text, "", "without CAP_SYS_PTRACE nothing can be taken");
        }
    }
    host.assert_clean();
}
