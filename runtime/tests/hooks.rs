//! Hooks: when they run, where, what they are told, and what their failure means.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Host, both, enter, eventually, processes, signal, stderr, wait_ready};
use serde_json::{Value, json};

/// A hook that appends its kind, its argument and what it is told to a file.
fn script(host: &Host) -> PathBuf {
    let path = host.path("hook");
    let log = host.path("log");
    let text = format!(
        "#!/bin/sh\nread -r state\necho \"$KIND $1 $(hostname) $state\" >> {}\n",
        log.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn hook(path: &str, kind: &str) -> Value {
    json!([{"path": path, "args": ["hook", "arg"], "env": [format!("KIND={kind}"), "PATH=/usr/bin:/bin"]}])
}

fn log(host: &Host) -> Vec<(String, String, Value)> {
    let text = fs::read_to_string(host.path("log")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let kind = words.next().unwrap().to_owned();
        assert_eq!(words.next(), Some("arg"));
        let name = words.next().unwrap().to_owned();
        (
            kind,
            name,
            serde_json::from_str(words.next().unwrap()).unwrap(),
        )
    };
    text.lines().map(line).collect()
}

#[test]
fn each_hook_runs_at_its_moment_and_knows_the_state() {
    let Some(host) = enter() else { return };
    let path = script(&host);
    let path = path.to_str().unwrap();
    let script = "touch /x || echo program; cat /data/inside";
    let mut config = host.config("hooked", script);
    config["annotations"] = json!({"a.b": "c"});
    let mut early = hook(path, "createContainer");
    // The root is read-only for the program only.
    let touch = format!("touch {}/made", host.path("rootfs").display());
    early.as_array_mut().unwrap().push(
        json!({"path": "/bin/sh", "args": ["sh", "-c", touch], "env": ["PATH=/usr/bin:/bin"]}),
    );
    let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c",
        "read -r state; echo \"$(id -u) $(grep Seccomp: /proc/self/status) $state\" > /tmp/inside; cp /tmp/inside /data/inside"],
        "env": ["PATH=/bin"]}]);
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/data", "source": host.path("data"), "options": ["bind"]}));
    fs::create_dir(host.path("data")).unwrap();
    fs::set_permissions(host.path("data"), fs::Permissions::from_mode(0o777)).unwrap();
    config["hooks"] = json!({
        "prestart": hook(path, "prestart"),
        "createRuntime": hook(path, "createRuntime"),
        "createContainer": early,
        "startContainer": inside,
        "poststart": hook(path, "poststart"),
        "poststop": hook(path, "poststop"),
    });
    let bundle = host.bundle("hooked", &config);
    let out = fs::File::create(host.path("out")).unwrap();
    let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap(), "hooked"]);
    create.stdout(out.try_clone().unwrap()).stderr(out);
    assert!(
        create.status().unwrap().success(),
        "{}",
        fs::read_to_string(host.path("out")).unwrap()
    );
    let kinds = |host: &Host| {
        log(host)
            .into_iter()
            .map(|(kind, ..)| kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&host),
        ["prestart", "createRuntime", "createContainer"]
    );
    let state: Value = serde_json::from_str(&host.must(&["state", "hooked"])).unwrap();
    for (kind, name, told) in log(&host) {
        let status = match kind.as_str() {
            "prestart" => "created",
            _ => "creating",
        };
        assert_eq!(told["status"], status, "{kind}");
        assert_eq!(
            (&told["id"], &told["pid"]),
            (&json!("hooked"), &state["pid"])
        );
        assert_eq!(told["annotations"]["a.b"], "c");
        assert_eq!(told["bundle"], json!(bundle));
        // Only the third is in the namespaces of the container.
        assert_eq!(
            name == "sandbox",
            kind == "createContainer",
            "{kind} {name}"
        );
    }
    host.must(&["start", "hooked"]);
    assert_eq!(kinds(&host).last().unwrap(), "poststart");
    assert_eq!(log(&host).last().unwrap().2["status"], "running");
    common::eventually("it ends", || {
        host.must(&["state", "hooked"]).contains("stopped")
    });
    let text = fs::read_to_string(host.path("out")).unwrap();
    assert!(text.contains("program"), "{text}");
    assert!(host.path("rootfs/made").exists());
    // In the container, as its user and behind its filter.
    assert!(text.contains("66000 Seccomp:\t2 {"), "{text}");
    assert!(text.contains("\"status\":\"created\""), "{text}");
    host.must(&["delete", "hooked"]);
    assert_eq!(log(&host).last().unwrap().0, "poststop");
    assert_eq!(log(&host).last().unwrap().2["status"], "stopped");
    common::reap();
    fs::remove_dir_all(host.path("data")).unwrap();
    host.assert_clean();
}

#[test]
fn a_hook_that_fails_or_takes_too_long_ends_the_container() {
    let Some(host) = enter() else { return };
    let path = script(&host);
    let path = path.to_str().unwrap();
    let bad = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]);
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        fs::remove_file(host.path("log")).unwrap_or_default();
        let mut config = host.config("bad", "sleep 1000");
        config["hooks"] = json!({kind: bad, "poststop": hook(path, "poststop")});
        let output = host.run("bad", &config);
        assert_eq!(output.status.code(), Some(1), "{kind}");
        let text = stderr(&output);
        assert!(
            text.contains(&format!("running hook: the {kind} hook /bin/sh failed")),
            "{text}"
        );
        assert!(
            text.contains("exit code 3") && text.contains("no luck"),
            "{text}"
        );
        common::reap();
        host.assert_clean();
    }
    let begun = Instant::now();
    let mut config = host.config("slow", "true");
    config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    let output = host.run("slow", &config);
    assert!(
        stderr(&output).contains("still running after 1 s"),
        "{}",
        both(&output)
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    config["hooks"] = json!({"createRuntime": [{"path": "/nowhere"}]});
    let output = host.run("slow", &config);
    assert!(
        stderr(&output).contains("/nowhere") && stderr(&output).contains("is not on the host"),
        "{}",
        both(&output)
    );
    // What comes last cannot keep the container, only complain.
    config["hooks"] = json!({"poststop": bad});
    let output = host.run("slow", &config);
    assert!(
        output.status.success()
            && stderr(&output).contains("warning: error running hook: the poststop hook"),
        "{}",
        both(&output)
    );
    common::reap();
    host.assert_clean();
}

#[test]
fn a_hook_that_hangs_can_be_interrupted() {
    let Some(host) = enter() else { return };
    // At each of these moments `run` waits for nothing else; startContainer is within the container.
    for kind in ["createRuntime", "startContainer", "poststart", "poststop"] {
        let last = kind == "poststop";
        let mut config = host.config("hangs", if last { "exit 9" } else { "sleep 1000" });
        let inside = kind == "startContainer";
        fs::create_dir_all(host.path("ready")).unwrap();
        fs::set_permissions(host.path("ready"), fs::Permissions::from_mode(0o777)).unwrap();
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/ready", "source": host.path("ready"), "options": ["bind"]}));
        let place = if inside {
            PathBuf::from("/ready")
        } else {
            host.path("ready")
        };
        let words = format!("touch {}/yes; exec sleep 1000", place.display());
        config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", words],
            "env": ["PATH=/usr/bin:/bin"]}]);
        let mut run = host.run_command("hangs", &config, &[]);
        let run = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_ready(&host);
        signal(&run, rustix::process::Signal::TERM);
        let begun = Instant::now();
        let output = run.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{kind}");
        assert!(!output.status.success(), "{kind}: {}", both(&output));
        assert!(
            stderr(&output).contains("signal 15"),
            "{kind}: {}",
            both(&output)
        );
        eventually("all have ended", || {
            common::reap();
            processes().is_empty()
        });
        host.assert_clean();
    }
}
