//! Known ways out of a sandbox, tried.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Host, both, enter, put, stderr, stdout};
use serde_json::{Value, json};

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// CVE-2021-30465, CVE-2024-45310: symlinks in the rootfs, absolute and relative, on the way to
/// mount points, lead nowhere outside, and nothing is made outside.
#[test]
fn symlinks_in_the_root_stay_in_the_root() {
    let Some(host) = enter() else { return };
    let outside = host.path("outside");
    fs::create_dir_all(&outside).unwrap();
    put(&host.path("share/secret"), "bound\n");
    let root = host.path("rootfs");
    symlink(&outside, root.join("abs")).unwrap();
    symlink(
        "../../../../../../../../../../../../tmp/metactl-evil",
        root.join("rel"),
    )
    .unwrap();
    for target in ["/abs/x", "/abs/file", "/rel/deep/er"] {
        let mut config = host.config(
            "links",
            "cat /etc/hostname; find / -name secret -xdev; true",
        );
        let source = host.path(if target == "/abs/file" {
            "share/secret"
        } else {
            "share"
        });
        add_mount(
            &mut config,
            json!({"destination": target, "source": source, "options": ["bind"]}),
        );
        let output = host.run("links", &config);
        assert_eq!(
            fs::read_dir(&outside).unwrap().count(),
            0,
            "{target}: {}",
            both(&output)
        );
        assert!(
            !Path::new("/tmp/metactl-evil").exists(),
            "{target}: {}",
            both(&output)
        );
        // Absolute links lead to places inside; those are missing here, so it is refused.
        assert!(
            stderr(&output).contains("inside the root"),
            "{target}: {}",
            both(&output)
        );
        host.assert_clean();
    }
    // A link to something that exists inside is followed, inside.
    symlink("/data", root.join("inside")).unwrap();
    let mut config = host.config("links", "cat /data/secret");
    add_mount(
        &mut config,
        json!({"destination": "/inside", "source": host.path("share"), "options": ["bind"]}),
    );
    assert_eq!(stdout(&host.run("links", &config)), "bound\n");
    host.assert_clean();
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2026-41579: /proc, /sys or /dev of the rootfs is a symlink.
#[test]
fn proc_sys_and_dev_must_not_be_symlinks() {
    let Some(host) = enter() else { return };
    for place in ["proc", "sys", "dev"] {
        let root = host.make_rootfs(&format!("root-{place}"));
        fs::remove_dir(root.join(place)).unwrap();
        fs::create_dir_all(root.join("fake")).unwrap();
        symlink("/fake", root.join(place)).unwrap();
        let mut config = host.config("fake", "true");
        config["root"]["path"] = json!(root);
        add_mount(
            &mut config,
            json!({"destination": "/sys", "type": "sysfs", "options": ["ro"]}),
        );
        let output = host.run("fake", &config);
        assert_eq!(output.status.code(), Some(1), "{place}: {}", both(&output));
        assert!(
            stderr(&output).contains("symbolic link"),
            "{place}: {}",
            both(&output)
        );
        assert_eq!(
            fs::read_dir(root.join("fake")).unwrap().count(),
            0,
            "{place}"
        );
        host.assert_clean();
    }
}

/// CVE-2025-31133: what lies at /dev/null in the rootfs must be the null device.
#[test]
fn a_false_null_device_is_refused() {
    let Some(host) = enter() else { return };
    let mut config = host.config("null", "true");
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| m["destination"] == "/proc");
    symlink("/proc/sysrq-trigger", host.path("rootfs/dev/null")).unwrap();
    let output = host.run("null", &config);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(
        stderr(&output).contains("device /dev/null"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

/// CVE-2024-21626: a working directory by way of a descriptor of the runtime.
#[test]
fn a_working_directory_outside_is_refused() {
    let Some(host) = enter() else { return };
    for fd in 3..24 {
        let mut config = host.config("cwd", "pwd; ls -la; cat ../../../../etc/passwd");
        config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        let output = host.run("cwd", &config);
        assert_eq!(output.status.code(), Some(1), "{fd}: {}", both(&output));
        assert_eq!(stdout(&output), "", "{fd}");
        let mut config = host.config("cwd", "true");
        config["process"]["args"] = json!([format!("/proc/self/fd/{fd}/bin/sh")]);
        assert_eq!(host.run("cwd", &config).status.code(), Some(1), "{fd}");
    }
    host.assert_clean();
}

/// CVE-2019-5736: a privileged container whose program, interpreter or loader is /proc/self/exe.
#[test]
fn the_runtimes_executable_cannot_be_rewritten() {
    let Some(host) = enter() else { return };
    let runtime = Path::new(env!("CARGO_BIN_EXE_metactl-runtime"));
    let before = fs::read(runtime).unwrap();
    put(&host.path("rootfs/evil"), "#!/proc/self/exe --version\n");
    let all: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "SYS_ADMIN",
        "SYS_PTRACE",
        "FOWNER",
        "MKNOD",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    let privileged = |host: &Host, script: &str| {
        let mut config = host.config("exe", script);
        config["process"]["user"] = json!({"uid": 0, "gid": 0});
        config["process"]["capabilities"] =
            json!({"bounding": all, "effective": all, "permitted": all});
        config
    };
    fs::set_permissions(
        host.path("rootfs/evil"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut config = privileged(&host, "");
    for args in [json!(["/evil"]), json!(["/proc/self/exe", "--version"])] {
        config["process"]["args"] = args;
        let output = host.run("exe", &config);
        assert!(
            !stdout(&output).contains("metactl-runtime"),
            "{}",
            both(&output)
        );
    }
    // The init of a privileged container stays in sight: it runs from a read-only mount.
    // (While it runs, writing would be refused anyway, as "text file busy".)
    let write = "(echo x >> /proc/1/exe) && echo opened; touch /proc/1/exe; echo tried";
    let mut config = privileged(&host, write);
    config["annotations"] = json!({"org.metactl.init": "true"});
    let output = host.run("exe", &config);
    assert!(!stdout(&output).contains("opened"), "{}", both(&output));
    // Where the kernel cannot make such a mount it is a sealed copy, of which only the time changes.
    let refused = if host.lacks("mount_setattr") {
        "Text file busy"
    } else {
        "Read-only file system"
    };
    assert!(both(&output).contains(refused), "{}", both(&output));

    // And so does `exec` into one. The container looks for processes of the runtime all the time.
    let hunt = "touch /tmp/ready; while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do \
                (exec 3>>$p/exe) 2>/dev/null && readlink $p/exe; done; done; true";
    let mut config = privileged(&host, hunt);
    config["root"]["readonly"] = json!(false);
    let child = host
        .run_command("exe", &config, &[])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let child = child.unwrap();
    common::eventually("it hunts", || {
        host.call(&["exec", "exe", "test", "-e", "/tmp/ready"])
            .status
            .success()
    });
    for _ in 0..30 {
        host.must(&["exec", "exe", "true"]);
    }
    host.must(&["exec", "exe", "touch", "/tmp/stop"]);
    let output = child.wait_with_output().unwrap();
    assert!(
        !stdout(&output).contains("metactl-runtime"),
        "{}",
        both(&output)
    );
    assert_eq!(fs::read(runtime).unwrap(), before);
    host.assert_clean();
}

/// CVE-2021-30465 as a race: somebody with access to a shared directory exchanges a mount point
/// and a symlink to the outside while the runtime mounts.
#[test]
fn exchanging_a_symlink_during_mounts_wins_nothing() {
    let Some(host) = enter() else { return };
    let outside = host.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(host.path("share/a")).unwrap();
    symlink(&outside, host.path("share/b")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = fs::File::open(host.path("share")).unwrap();
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&dir, "a", &dir, "b", flags).unwrap();
            }
        });
        for round in 0..150 {
            let mut config = host.config("race", "true");
            add_mount(
                &mut config,
                json!({"destination": "/vol", "source": host.path("share"), "options": ["bind"]}),
            );
            add_mount(
                &mut config,
                json!({"destination": "/vol/a/deep/er", "type": "tmpfs"}),
            );
            let output = host.run("race", &config);
            assert_eq!(
                fs::read_dir(&outside).unwrap().count(),
                0,
                "{round}: {}",
                both(&output)
            );
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains("outside"), "{round}: {mounts}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    host.assert_clean();
}

/// CVE-2017-5226: no terminal of whoever started it can be typed into.
#[test]
fn there_is_no_controlling_terminal_of_the_host() {
    let Some(host) = enter() else { return };
    let text = host.script("cut -d' ' -f6,7 /proc/self/stat; cat /dev/tty 2>&1; true");
    assert!(text.starts_with("1 0\n"), "session 1, no terminal: {text}");
    host.assert_clean();
}

/// crun 1.28: `..` in ids and in cgroup paths.
#[test]
fn ids_and_cgroup_paths_cannot_climb() {
    let Some(host) = enter() else { return };
    let mut config = host.config("x", "true");
    for id in ["..", "../x", ".x", "a/b", ""] {
        let output = host.run(id, &config);
        assert_eq!(output.status.code(), Some(64), "{id:?}: {}", both(&output));
    }
    config["linux"]["cgroupsPath"] = json!("/metactl-test/../../x");
    assert_eq!(host.run("x", &config).status.code(), Some(78));
    host.assert_clean();
}
