//! What `features` says is so, and small things of a configuration reach the process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::{Host, both, enter, reap, stderr, stdout};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

/// Plans it: a refused field is named.
fn plan(host: &Host, what: &str, config: &Value) -> std::process::Output {
    let bundle = host.bundle("plan", config);
    let output = host.call(&["plan", "--bundle", bundle.to_str().unwrap()]);
    assert!(
        stderr(&output).is_empty() || !output.status.success(),
        "{what}: {}",
        both(&output)
    );
    output
}

fn list<'a>(features: &'a Value, at: &str) -> Vec<&'a str> {
    let list = features.pointer(at).and_then(Value::as_array);
    let list: Vec<&str> = list
        .unwrap_or_else(|| panic!("no {at}"))
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert!(!list.is_empty(), "{at}");
    list
}

/// Engines ask what there is (runtime-spec, features) and rely on it: each word is taken, and one that is not told
/// is refused.
#[test]
fn features_are_taken_one_by_one_and_others_are_refused() {
    let Some(host) = enter() else { return };
    let features: Value = serde_json::from_str(&host.must(&["features"])).unwrap();
    let plain = host.config("plan", "true");
    let mut tried = 0;
    let mut takes = |what: &str, config: &Value, taken: bool| {
        let output = plan(&host, what, config);
        assert_eq!(output.status.success(), taken, "{what}: {}", both(&output));
        tried += 1;
    };
    let with = |path: &str, value: Value| {
        let mut config = plain.clone();
        let (above, name) = path.rsplit_once('/').unwrap();
        config.pointer_mut(above).unwrap()[name] = value;
        config
    };
    let ids = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    let mount = |word: &str| {
        let mut config = plain.clone();
        let mut mount =
            json!({"destination": "/data", "source": "/", "type": "bind", "options": [word]});
        if word == "tmpcopyup" {
            mount =
                json!({"destination": "/data", "source": "x", "type": "tmpfs", "options": [word]});
        } else if word.ends_with("idmap") {
            mount["uidMappings"] = ids.clone();
            mount["gidMappings"] = ids.clone();
        }
        config["mounts"].as_array_mut().unwrap().push(mount);
        config
    };
    for word in list(&features, "/mountOptions") {
        takes(word, &mount(word), true);
    }
    for word in ["nonsense", "copy-symlink", "rnonsense"] {
        takes(word, &mount(word), false);
    }
    for kind in list(&features, "/hooks") {
        takes(
            kind,
            &with("/hooks", json!({kind: [{"path": "/bin/true"}]})),
            true,
        );
        takes(
            kind,
            &with("/hooks", json!({kind: [{"path": "bin/true"}]})),
            false,
        );
    }
    for kind in list(&features, "/linux/namespaces") {
        let mut config = with("/linux/namespaces", json!([{"type": "mount"}]));
        config.as_object_mut().unwrap().remove("hostname");
        if kind != "mount" {
            let all = config["linux"]["namespaces"].as_array_mut().unwrap();
            all.push(json!({"type": kind}));
        }
        if kind == "user" {
            config["linux"]["uidMappings"] = ids.clone();
            config["linux"]["gidMappings"] = ids.clone();
        }
        takes(kind, &config, true);
    }
    takes(
        "nonsense",
        &with("/linux/namespaces", json!([{"type": "nonsense"}])),
        false,
    );
    let capabilities = list(&features, "/linux/capabilities");
    takes(
        "all",
        &with("/process/capabilities", json!({"bounding": capabilities})),
        true,
    );
    let filter = |action: &str, operator: &str, architecture: &str, flag: &str| {
        let argument = json!([{"index": 1, "value": 5, "valueTwo": 1, "op": operator}]);
        let mut section = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture], "flags": [flag],
            "syscalls": [{"names": ["fchmodat"], "action": action, "args": argument}],
        });
        if action == "SCMP_ACT_NOTIFY" {
            section["listenerPath"] = json!("/run/agent");
        }
        if flag.is_empty() {
            section.as_object_mut().unwrap().remove("flags");
        }
        with("/linux/seccomp", section)
    };
    let (equal, native) = ("SCMP_CMP_EQ", "SCMP_ARCH_X86_64");
    if cfg!(target_arch = "x86_64") {
        for action in list(&features, "/linux/seccomp/actions") {
            takes(action, &filter(action, equal, native, ""), true);
        }
        for operator in list(&features, "/linux/seccomp/operators") {
            takes(
                operator,
                &filter("SCMP_ACT_ERRNO", operator, native, ""),
                true,
            );
        }
        for architecture in list(&features, "/linux/seccomp/archs") {
            takes(
                architecture,
                &filter("SCMP_ACT_ERRNO", equal, architecture, ""),
                true,
            );
        }
        takes(
            "nonsense",
            &filter("SCMP_ACT_NONSENSE", equal, native, ""),
            false,
        );
    }
    for mode in list(&features, "/linux/memoryPolicy/modes") {
        let nodes = if mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL" {
            ""
        } else {
            "0"
        };
        let policy = json!({"mode": mode, "nodes": nodes});
        takes(mode, &with("/linux/memoryPolicy", policy), true);
    }
    takes(
        "intelRdt",
        &with("/linux/intelRdt", json!({"closID": "x"})),
        false,
    );
    assert_eq!(features["linux"]["intelRdt"]["enabled"], false);
    assert!(tried > 90, "{tried}");
    host.assert_clean();
}

#[test]
fn masks_groups_names_and_annotations_arrive() {
    let Some(host) = enter() else { return };
    let script = "umask; id -G; cat /proc/sys/kernel/domainname; hostname; echo $A $B";
    let mut config = host.config("small", script);
    config["process"]["user"]["umask"] = json!(0o027);
    config["process"]["user"]["additionalGids"] = json!([4711, 4712]);
    config["process"]["env"] = json!(["PATH=/bin", "A=first", "B=x", "A=last"]);
    config["domainname"] = json!("example.org");
    let text = stdout(&host.run("small", &config));
    let want = "0027\n66000 4711 4712\nexample.org\nsandbox\nlast x\n";
    assert_eq!(text, want);
    // What `exec` says about itself goes before what the container says.
    config["process"]["args"] = json!(["sleep", "1000"]);
    config["annotations"] = json!({"org.example.owner": "web"});
    let bundle = host.bundle("small", &config);
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--bundle",
        bundle.to_str().unwrap(),
        "small",
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let state: Value = serde_json::from_str(&host.must(&["state", "small"])).unwrap();
    assert_eq!(state["annotations"], json!({"org.example.owner": "web"}));
    assert_eq!(state["bundle"], json!(bundle));
    let exec = |options: &[&str], script: &str| {
        let words = [&["exec"], options, &["small", "sh", "-c", script]].concat();
        host.must(&words)
    };
    let ids = "umask; id -u; id -g; id -G";
    assert_eq!(exec(&[], ids), "0027\n66000\n66000\n66000 4711 4712\n");
    let other = exec(
        &[
            "--user",
            "5:6",
            "--additional-gids",
            "7",
            "--additional-gids",
            "8",
        ],
        ids,
    );
    assert_eq!(other, "0027\n5\n6\n6 7 8\n");
    let more = exec(
        &["--env", "A=own", "--env", "C=more", "--cwd", "/tmp"],
        "echo $A $B $C; pwd",
    );
    assert_eq!(more, "own x more\n/tmp\n");
    // A process object counts alone.
    let file = host.path("process.json");
    let object = json!({"user": {"uid": 1, "gid": 2}, "args": ["sh", "-c", "id -u; id -g; env; pwd"],
        "env": ["PATH=/bin", "HOME=/"], "cwd": "/data"});
    fs::write(&file, object.to_string()).unwrap();
    let own = host.must(&["exec", "--process", file.to_str().unwrap(), "small"]);
    assert!(
        own.starts_with("1\n2\n") && own.ends_with("/data\n"),
        "{own}"
    );
    assert!(!own.contains("A="), "{own}");
    host.must(&["delete", "--force", "small"]);
    reap();
    host.assert_clean();
}

/// The words with an `r` in front are for everything below, too; the others are not.
#[test]
fn recursive_attributes_reach_what_is_below() {
    let Some(host) = enter() else { return };
    let tree = host.path("tree");
    let sub = tree.join("sub");
    fs::create_dir_all(&sub).unwrap();
    fs::copy(host.path("rootfs/bin/busybox"), tree.join("busybox")).unwrap();
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o777)).unwrap();
    mount(
        "none",
        &sub,
        "tmpfs",
        MountFlags::empty(),
        Some(c"mode=777"),
    )
    .unwrap();
    fs::copy(host.path("rootfs/bin/busybox"), sub.join("busybox")).unwrap();
    fs::set_permissions(sub.join("busybox"), PermissionsExt::from_mode(0o755)).unwrap();
    let script =
        "for dir in /data /data/sub; do (: > $dir/new) 2>/dev/null && echo -n 'w' || echo -n '-'
        $dir/busybox true 2>/dev/null && echo -n 'x ' || echo -n '- '; done";
    for (words, want) in [
        (&["rbind", "rw"][..], "wx wx "),
        (&["rbind", "ro"], "-x wx "),
        (&["rbind", "rro"], "-x -x "),
        (&["rbind", "rro", "rnoexec"], "-- -- "),
        (&["rbind", "rw", "noexec"], "w- wx "),
        // Alone it is for what is mounted, which is one.
        (&["bind", "rro"], "-x -- "),
    ] {
        let mut config = host.config("below", script);
        let bind = json!({"destination": "/data", "source": tree, "options": words});
        config["mounts"].as_array_mut().unwrap().push(bind);
        let output = host.run("below", &config);
        assert_eq!(stdout(&output), want, "{words:?}: {}", both(&output));
        fs::remove_file(tree.join("new")).unwrap_or_default();
        fs::remove_file(sub.join("new")).unwrap_or_default();
    }
    unmount(&sub, UnmountFlags::DETACH).unwrap();
    host.assert_clean();
}

/// For hosts whose root is an initramfs: another way to the same root, for the program and for who joins.
#[test]
fn without_pivot_root_the_root_is_the_same() {
    let Some(host) = enter() else { return };
    fs::write(host.path("rootfs/etc/whose"), "the container's").unwrap();
    let script =
        "cat /etc/whose; ls /; ls -d /sys/kernel 2>/dev/null; cat /proc/self/mountinfo | wc -l";
    let config = host.config("nopivot", script);
    let plain = stdout(&host.run("nopivot", &config));
    let output = host
        .run_command("nopivot", &config, &["--no-pivot"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", both(&output));
    // With as many mounts to be seen: those of the host are none of them.
    assert_eq!(stdout(&output), plain);
    assert!(plain.starts_with("the container's"), "{plain}");
    // Who makes user namespaces of its own inside can mount a procfs without the masks, if there is one like that among
    // the mounts (mount_too_revealing in the kernel's sources): the host's must not be there any more.
    let nested =
        "unshare -U -r -m -p -f sh -c 'echo made; mount -t proc proc /tmp && echo mounted' 2>&1";
    let mut config = host.config("nopivot", nested);
    config["linux"].as_object_mut().unwrap().remove("seccomp");
    for options in [&[][..], &["--no-pivot"]] {
        let output = host
            .run_command("nopivot", &config, options)
            .output()
            .unwrap();
        let said = both(&output);
        assert!(
            said.contains("made\n") && !said.contains("mounted\n"),
            "{options:?}: {said}"
        );
    }
    let bundle = host.bundle("nopivot", &host.config("nopivot", "exec sleep 1000"));
    let bundle = bundle.to_str().unwrap();
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--no-pivot",
        "--bundle",
        bundle,
        "nopivot",
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    assert_eq!(host.must(&["exec", "nopivot", "sh", "-c", script]), plain);
    host.must(&["delete", "--force", "nopivot"]);
    reap();
    host.assert_clean();
}

/// Whoever has just killed a container can delete it: the end comes a moment after the signal.
#[test]
fn what_is_ending_can_be_deleted() {
    let Some(host) = enter() else { return };
    let config = host.config("ending", "exec sleep 1000");
    let bundle = host.bundle("ending", &config);
    let start = || {
        let bundle = bundle.to_str().unwrap();
        let mut run = host.runtime(&["run", "--detach", "--bundle", bundle, "ending"]);
        run.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(run.status().unwrap().success());
    };
    start();
    let output = host.call(&["delete", "ending"]);
    assert!(stderr(&output).contains("is running"), "{}", both(&output));
    for _ in 0..5 {
        let state: Value = serde_json::from_str(&host.must(&["state", "ending"])).unwrap();
        // After `delete` has looked.
        let script = format!("sleep 0.03; kill -KILL {}", state["pid"]);
        let mut end = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        host.must(&["delete", "ending"]);
        end.wait().unwrap();
        reap();
        start();
    }
    host.must(&["delete", "--force", "ending"]);
    reap();
    host.assert_clean();
}

/// Who has created a container and thinks better of it takes it back; its program never runs.
#[test]
fn what_was_only_created_can_be_deleted() {
    let Some(host) = enter() else { return };
    let mut config = host.config("early", "touch /ran");
    let mark = host.path("poststop");
    config["hooks"] = json!({"poststop": [{"path": "/usr/bin/touch", "args": ["touch", mark]}]});
    let bundle = host.bundle("early", &config);
    let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap(), "early"]);
    create.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().unwrap().success());
    let state: Value = serde_json::from_str(&host.must(&["state", "early"])).unwrap();
    assert_eq!(state["status"], "created");
    host.must(&["delete", "early"]);
    reap();
    assert!(!fs::exists(format!("/proc/{}", state["pid"])).unwrap());
    assert!(mark.exists() && !host.path("rootfs/ran").exists());
    let again = host.call(&["delete", "early"]);
    assert_eq!(again.status.code(), Some(1), "{}", both(&again));
    host.assert_clean();
}
