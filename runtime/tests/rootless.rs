//! Containers of somebody without privilege: in a user namespace of their own, with one id or with those
//! that /etc/subuid gives them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use common::{Host, both, enter, stderr, stdout};
use serde_json::{Value, json};

/// `nobody`: has a name, and nothing else.
const NOBODY: u32 = 65_534;

fn call(host: &Host, words: &[&str]) -> Output {
    command(host, words).output().unwrap()
}

/// The runtime, run by somebody without privilege.
fn command(host: &Host, words: &[&str]) -> Command {
    let state = host.path("own");
    fs::create_dir_all(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    // The build directory may be out of reach for others.
    let program = host.path("runtime");
    if !program.exists() {
        fs::copy(common::binary(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // An older kernel is made by root, so only then the privilege goes.
    let id = NOBODY.to_string();
    let mut command = host.program(Path::new("/usr/bin/setpriv"));
    command
        .args(["--clear-groups", "--reuid", &id, "--regid", &id])
        .arg(program)
        .arg("--root")
        .arg(&state)
        .args(words)
        .env("XDG_RUNTIME_DIR", &state);
    command
}

fn config(host: &Host, id: &str, script: &str, size: u32) -> Value {
    let mut config = host.config(id, script);
    config["process"]["user"] = json!({"uid": 0, "gid": 0});
    let linux = config["linux"].as_object_mut().unwrap();
    linux.remove("resources");
    linux.remove("cgroupsPath");
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    let mut map = vec![json!({"containerID": 0, "hostID": NOBODY, "size": 1})];
    if size > 1 {
        map.push(json!({"containerID": 1, "hostID": 400_000, "size": size - 1}));
    }
    linux.insert("uidMappings".into(), json!(map));
    linux.insert("gidMappings".into(), json!(map));
    config
}

#[test]
fn one_id_is_enough_for_a_container() {
    let Some(host) = enter() else { return };
    let script = "id -u; cat /proc/self/uid_map /proc/self/setgroups; echo x > /tmp/x; ls /dev; \
                  ip link show lo | grep -c UP; echo > /dev/null && echo device";
    let bundle = host.bundle("mine", &config(&host, "mine", script, 1));
    let output = call(
        &host,
        &["run", "--bundle", bundle.to_str().unwrap(), "mine"],
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{}", both(&output));
    let words: Vec<&str> = text.split_whitespace().collect();
    // CVE-2014-8989: groups cannot be dropped by who could not drop them before.
    assert_eq!(words[..5], ["0", "0", "65534", "1", "deny"], "{text}");
    assert!(text.contains("1\ndevice"), "{text}");
    // What needs privilege is said, not left out.
    let mut limited = config(&host, "mine", "true", 1);
    limited["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let bundle = host.bundle("mine", &limited);
    let output = call(
        &host,
        &["run", "--bundle", bundle.to_str().unwrap(), "mine"],
    );
    assert!(
        !output.status.success() && stderr(&output).contains("cgroup"),
        "{}",
        both(&output)
    );
    let plain = host.bundle("mine", &host.config("mine", "true"));
    let output = call(&host, &["run", "--bundle", plain.to_str().unwrap(), "mine"]);
    assert_eq!(output.status.code(), Some(77), "{}", both(&output));
    host.assert_clean();
}

/// As crun has it, or called as `runc`, as that has it.
#[test]
fn a_cgroup_of_nobodys_is_left_out_or_refused() {
    let Some(host) = enter() else { return };
    let mut config = config(&host, "placed", "echo runs", 1);
    config["linux"]["cgroupsPath"] = json!("/somewhere/placed");
    let bundle = host.bundle("placed", &config);
    let words = ["run", "--bundle", bundle.to_str().unwrap(), "placed"];
    let output = call(&host, &words);
    assert_eq!(stdout(&output), "runs\n", "{}", both(&output));
    let runc = host.path("runc");
    std::os::unix::fs::symlink(host.path("runtime"), &runc).unwrap();
    let id = NOBODY.to_string();
    let mut command = host.program(Path::new("/usr/bin/setpriv"));
    command
        .args(["--clear-groups", "--reuid", &id, "--regid", &id])
        .arg(&runc)
        .arg("--root")
        .arg(host.path("own"))
        .args(words);
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(
        said.contains("unable to apply cgroup configuration: ")
            && said.contains("permission denied"),
        "{said}"
    );
    host.assert_clean();
}

/// They enter the namespaces of a process that nobody else may look into.
#[test]
fn hooks_enter_a_container_without_privilege() {
    let Some(host) = enter() else { return };
    let mut config = config(&host, "entered", "cat /tmp/hooked", 1);
    let hook = "readlink /proc/self/ns/user > tmp/hooked";
    config["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    let bundle = host.bundle("entered", &config);
    let output = call(
        &host,
        &["run", "--bundle", bundle.to_str().unwrap(), "entered"],
    );
    assert!(output.status.success(), "{}", both(&output));
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let text = stdout(&output);
    assert!(
        text.starts_with("user:[") && text.trim() != own.to_str().unwrap(),
        "{text}"
    );
    host.assert_clean();
}

/// What the container's programs try with a process that waits for its program.
const LOOK: &str = "for f in environ maps exe fd/0 mem syscall; do \
                    (cat /proc/1/$f > /dev/null) 2> /dev/null && echo saw $f; done; \
                    (echo x > /proc/1/mem) 2> /dev/null && echo wrote; grep -c . /proc/1/cmdline";

/// Its user can join a process that waits. What joins sees nothing of the runtime.
#[test]
fn who_waits_for_its_program_can_be_joined_without_privilege() {
    let Some(host) = enter() else { return };
    let script = "cat /tmp/hooked; grep Seccomp: /proc/self/status; mkdir /tmp/x || echo refused";
    let mut config = config(&host, "early", script, 1);
    config["process"]["noNewPrivileges"] = json!(true);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let hook = format!("(grep -c created; {LOOK}) > /tmp/hooked 2>&1");
    config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    let bundle = host.bundle("early", &config);
    let bundle = bundle.to_str().unwrap();
    let output = call(&host, &["run", "--bundle", bundle, "early"]);
    let seen = "1\n1\nSeccomp:\t2\nrefused\n";
    assert_eq!(stdout(&output), seen, "{}", both(&output));

    // What is created holds the output of `create`.
    let mut create = command(&host, &["create", "--bundle", bundle, "early"]);
    let (out, log) = (host.path("out"), host.path("log"));
    create.stdout(fs::File::create(&out).unwrap());
    create.stderr(fs::File::create(&log).unwrap());
    let created = create.status().unwrap();
    assert!(created.success(), "{}", fs::read_to_string(log).unwrap());
    let output = call(&host, &["exec", "early", "sh", "-c", LOOK]);
    assert_eq!(stdout(&output), "1\n", "{}", both(&output));
    let output = call(&host, &["start", "early"]);
    assert!(output.status.success(), "{}", both(&output));
    common::eventually("it runs", || fs::read_to_string(&out).unwrap() == seen);
    let output = call(&host, &["delete", "--force", "early"]);
    assert!(output.status.success(), "{}", both(&output));

    // What cannot be executed is told by `start`, and `create` says it too when it can.
    config["hooks"] = json!({});
    config["process"]["args"] = json!(["/bin/busybox-not"]);
    host.bundle("early", &config);
    let output = call(&host, &["run", "--bundle", bundle, "early"]);
    let refusal = stderr(&output);
    assert!(refusal.contains("/bin/busybox-not"), "{refusal}");

    // An init is the runtime, and stays out of sight.
    config["annotations"] = json!({"org.metactl.init": "true"});
    config["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
    host.bundle("early", &config);
    let output = call(&host, &["run", "--bundle", bundle, "early"]);
    assert!(
        !output.status.success() && stderr(&output).contains("org.metactl.init"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

/// The runtime may not look into a process that hides, unless it has privilege.
#[test]
fn an_agent_decides_also_without_privilege() {
    let Some(host) = enter() else { return };
    let agent = host.path("agent");
    let listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o777)).unwrap();
    for bound in [true, false] {
        // Nobody may look into it when it has been told of.
        let script = "mkdir /tmp/x; echo code $?; stat -c %u /proc/1/fd";
        let mut config = config(&host, "asked", script, 1);
        config["process"]["noNewPrivileges"] = json!(bound);
        config["annotations"] = json!({"org.metactl.init": "true"});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent,
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
        let bundle = host.bundle("asked", &config);
        let output = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let words = ["run", "--bundle", bundle.to_str().unwrap(), "asked"];
                call(&host, &words)
            });
            let mut told = String::new();
            // The descriptor that comes with it is closed: there is nobody to ask any more.
            let connection = listener.accept().unwrap().0;
            std::io::Read::read_to_string(&mut { connection }, &mut told).unwrap();
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["state"]["id"], "asked");
            run.join().unwrap()
        });
        let text = stdout(&output);
        assert!(text.starts_with("code 1\n"), "{bound}: {}", both(&output));
        // Of the files of a process that hides, the real root is the owner (proc(5)).
        assert!(text.ends_with("\n65534\n"), "{bound}: {text}");
        host.assert_clean();
    }
}

/// What joins behind a filter that asks, hooks and `exec`, is told of like the first process.
#[test]
fn an_agent_is_told_of_what_joins_without_privilege() {
    let Some(host) = enter() else { return };
    let agent = host.path("agent");
    let listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o777)).unwrap();
    let mut config = config(&host, "asked", "cat /tmp/hooked; sleep 1000", 1);
    config["process"]["noNewPrivileges"] = json!(true);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent,
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let hook = "mkdir /tmp/x || echo hook $? > /tmp/hooked";
    config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    let bundle = host.bundle("asked", &config);
    let told = |connections: usize| {
        for _ in 0..connections {
            let mut told = String::new();
            let mut connection = listener.accept().unwrap().0;
            std::io::Read::read_to_string(&mut connection, &mut told).unwrap();
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["state"]["id"], "asked");
        }
    };
    let (out, log) = (host.path("out"), host.path("log"));
    std::thread::scope(|scope| {
        scope.spawn(|| told(2));
        let words = [
            "run",
            "--detach",
            "--bundle",
            bundle.to_str().unwrap(),
            "asked",
        ];
        let mut run = command(&host, &words);
        run.stdout(fs::File::create(&out).unwrap());
        let status = run.stderr(fs::File::create(&log).unwrap()).status();
        let said = fs::read_to_string(&log).unwrap();
        assert!(status.unwrap().success(), "{said}");
    });
    common::eventually("it runs", || {
        fs::read_to_string(&out).unwrap() == "hook 1\n"
    });
    let output = std::thread::scope(|scope| {
        scope.spawn(|| told(1));
        let script = "mkdir /tmp/x; echo code $?";
        call(&host, &["exec", "asked", "sh", "-c", script])
    });
    assert_eq!(stdout(&output), "code 1\n", "{}", both(&output));
    let output = call(&host, &["delete", "--force", "asked"]);
    assert!(output.status.success(), "{}", both(&output));
    host.assert_clean();
}

#[test]
fn more_ids_are_mapped_by_the_helpers() {
    let Some(host) = enter() else { return };
    if !["/usr/bin/newuidmap", "/usr/bin/newgidmap"]
        .iter()
        .all(|p| fs::exists(p).unwrap())
    {
        return common::skip("newuidmap and newgidmap are missing (apt-get install uidmap)");
    }
    for file in ["subuid", "subgid"] {
        let own = host.path(file);
        fs::write(&own, "nobody:400000:65536\n").unwrap();
        let target = format!("/etc/{file}");
        if !fs::exists(&target).unwrap() {
            return common::skip("/etc/subuid is missing (apt-get install uidmap)");
        }
        let status = Command::new("mount")
            .arg("--bind")
            .arg(own)
            .arg(target)
            .status()
            .unwrap();
        assert!(status.success());
    }
    let script = "cat /proc/self/uid_map; chown 5:6 /tmp && ls -lnd /tmp; id -G";
    let mut wanted = config(&host, "more", script, 100);
    wanted["process"]["user"]["additionalGids"] = json!([7]);
    let caps = json!(["CAP_CHOWN"]);
    wanted["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps});
    let bundle = host.bundle("more", &wanted);
    let output = call(
        &host,
        &["run", "--bundle", bundle.to_str().unwrap(), "more"],
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{}", both(&output));
    assert!(
        text.contains("400000") && text.contains(" 5 ") && text.contains("0 7"),
        "{text}"
    );
    // Not those that are not given.
    wanted["linux"]["uidMappings"][1]["hostID"] = json!(500_000);
    let bundle = host.bundle("more", &wanted);
    let output = call(
        &host,
        &["run", "--bundle", bundle.to_str().unwrap(), "more"],
    );
    assert!(
        stderr(&output).contains("newuidmap") && stderr(&output).contains("/etc/subuid"),
        "{}",
        both(&output)
    );
    for file in ["/etc/subuid", "/etc/subgid"] {
        assert!(Command::new("umount").arg(file).status().unwrap().success());
    }
    host.assert_clean();
}
