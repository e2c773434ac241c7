//! Kernels without openat2, clone3, the mount API, close_range: served, with the same result, or
//! refused with one clear error.
//!
//! The other tests of this crate run in the same way when `METACTL_TEST_WITHOUT` is set, which
//! `make test` does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::{Host, both, enter, mapped, put, stderr, stdout};
use serde_json::json;

/// What may be missing.
const SETS: [&str; 10] = [
    "openat2",
    "clone3",
    "clone3:EPERM",
    "clone3:EINVAL",
    "mount-api",
    "mount_setattr",
    "close_range",
    "5.10",
    "5.4",
    "everything",
];

/// Everything that a container can see of how it was made.
const LOOK: &str = "awk '{n=index($0, \" - \"); print $5, $6, substr($0, n)}' /proc/self/mountinfo | \
                    sort; ls /proc/self/fd | grep -v '^3$'; cat /proc/self/cgroup; \
                    grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/self/status; hostname; \
                    cat /proc/sys/kernel/msgmax; ls -l /dev /data /data/sub | \
                    sed -E 's/ [A-Z][a-z]+ +[0-9]+ +[0-9:]+ / /'; \
                    for f in /data/x /data/sub/x /proc/sys/kernel/msgmax /x /tmp/x; do \
                    echo a > $f || echo no $f; done 2>&1; true";

fn mount(words: &[&str]) {
    let status = Command::new("mount").args(words).status().unwrap();
    assert!(status.success(), "mount {words:?}");
}

fn look(host: &Host) -> String {
    let mut config = host.config("look", LOOK);
    config["linux"]["sysctl"] = json!({"kernel.msgmax": "4242"});
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"]}),
    );
    mounts.push(json!({"destination": "/data", "source": host.path("share"),
        "options": ["rbind", "rro", "nodev", "rnosuid", "noatime"]}));
    mounts.push(
        json!({"destination": "/etc/file", "source": host.path("share/file"),
        "options": ["bind", "ro", "rprivate"]}),
    );
    let output = host.run("look", &config);
    assert!(output.status.success(), "{}", both(&output));
    stdout(&output)
}

#[test]
fn a_container_is_the_same_whatever_the_kernel_lacks() {
    let Some(host) = enter() else { return };
    put(&host.path("share/file"), "file\n");
    for sub in ["sub", "sub/with space\\", "covered"] {
        fs::create_dir_all(host.path("share").join(sub)).unwrap();
        let place = host.path("share").join(sub);
        mount(&[
            "-t",
            "tmpfs",
            "-o",
            "size=64k,mode=777",
            "tmpfs",
            place.to_str().unwrap(),
        ]);
        if sub == "sub" {
            fs::create_dir_all(place.join("with space\\")).unwrap();
        }
    }
    // A mount below another on the same place is out of reach.
    let covered = host.path("share/covered");
    mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=32k,ro",
        "tmpfs",
        covered.to_str().unwrap(),
    ]);
    let wanted = look(&host);
    for refused in [
        "no /data/x",
        "no /data/sub/x",
        "no /proc/sys/kernel/msgmax",
        "no /x",
    ] {
        assert!(wanted.contains(refused), "{refused}: {wanted}");
    }
    assert!(
        !wanted.contains("no /tmp/x") && wanted.contains("4242"),
        "{wanted}"
    );
    let mut host = host;
    for set in SETS {
        host = host.without(set);
        assert_eq!(visible(&look(&host)), visible(&wanted), "without {set}");
    }
    for place in [
        "share/covered",
        "share/covered",
        "share/sub/with space\\",
        "share/sub",
    ] {
        let status = Command::new("umount").arg(host.path(place)).status();
        assert!(status.unwrap().success(), "{place}");
    }
    host.assert_clean();
}

/// Without what nobody can get at: a covered mount, the attributes of which mount_setattr(2) changes,
/// too.
fn visible(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !(line.starts_with("/data/covered") && line.contains("size=64k")));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn processes_join_and_end_whatever_the_kernel_lacks() {
    let Some(mut host) = enter() else { return };
    for set in SETS {
        host = host.without(set);
        println!("without {set}");
        for init in ["false", "true"] {
            let mut config = host.config("long", "while true; do sleep 1; done");
            config["annotations"] = json!({"org.metactl.init": init});
            let bundle = host.bundle("long", &config);
            // Its output is the container's, which lives on.
            let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap()]);
            create.arg("long").stdout(Stdio::null());
            assert!(create.status().unwrap().success(), "without {set}");
            host.must(&["start", "long"]);
            let of = |pid: &str| {
                let script = format!(
                    // At the moment of its exec nobody can look at it yet.
                    "until readlink /proc/{pid}/ns/mnt >/dev/null; do :; done; \
                     cat /proc/{pid}/cgroup; for n in /proc/{pid}/ns/*; do readlink $n; done"
                );
                host.must(&["exec", "long", "sh", "-c", &script])
            };
            // Nobody may look into the init.
            let program = if init == "true" { "2" } else { "1" };
            assert_eq!(of("self"), of(program), "without {set}");
            let fds = host.must(&["exec", "long", "ls", "/proc/self/fd"]);
            assert_eq!(fds.split_whitespace().count(), 4, "without {set}: {fds}");
            host.must(&["kill", "long", "KILL"]);
            host.must(&["delete", "--force", "long"]);
            host.assert_clean();
        }
    }
}

/// What `host` mounts, and how mount events travel there.
fn mounts_of_the_host() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// A user namespace may not get at the sources of its mounts, nor change what is mounted for it; and
/// nothing may be mounted on the host to help it.
#[test]
fn a_user_namespace_is_the_same_whatever_the_kernel_lacks() {
    let Some(mut host) = enter() else { return };
    let share = host.path("deep/share");
    fs::create_dir_all(&share).unwrap();
    put(&host.path("rootfs/etc/file"), "");
    fs::create_dir(host.path("rootfs/mnt")).unwrap();
    fs::set_permissions(host.path("deep"), fs::Permissions::from_mode(0o700)).unwrap();
    mount(&["-t", "tmpfs", "tmpfs", share.to_str().unwrap()]);
    mount(&["--make-shared", share.to_str().unwrap()]);
    put(&share.join("file"), "shown\n");
    fs::create_dir(share.join("sub")).unwrap();
    let sub = share.join("sub");
    mount(&["-t", "tmpfs", "tmpfs", sub.to_str().unwrap()]);
    fs::create_dir(sub.join("below")).unwrap();
    let look = |host: &Host, propagation: &str| {
        let mut config = mapped(host, "look", LOOK);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "80"});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.extend([
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}),
            json!({"destination": "/data", "source": share, "options":
                ["rbind", "rro", "nodev", "rnosuid"]}),
            json!({"destination": "/etc/file", "source": share.join("file"), "options":
                ["bind", "ro"]}),
            json!({"destination": "/mnt", "source": sub, "options": ["bind", "ro"]}),
        ]);
        if propagation == "private" {
            let new = json!({"destination": "/data/sub/below", "type": "tmpfs", "source": "tmpfs"});
            mounts.push(new);
        }
        config["linux"]["rootfsPropagation"] = propagation.into();
        let before = mounts_of_the_host();
        let output = host.run("look", &config);
        assert!(output.status.success(), "{}", both(&output));
        assert_eq!(mounts_of_the_host(), before);
        stdout(&output)
    };
    let wanted = look(&host, "private");
    let shared = look(&host, "shared");
    for refused in ["no /data/x", "no /data/sub/x", "no /x"] {
        assert!(wanted.contains(refused), "{refused}: {wanted}");
    }
    for set in SETS {
        host = host.without(set);
        assert_eq!(look(&host, "private"), wanted, "without {set}");
        // Mounts that stay peers of the host's, too.
        assert_eq!(look(&host, "shared"), shared, "without {set}");
        // One that waits, and is joined.
        let bundle = host.bundle("long", &mapped(&host, "long", "sleep 1000"));
        let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap()]);
        create.arg("long").stdout(Stdio::null());
        assert!(create.status().unwrap().success(), "without {set}");
        host.must(&["start", "long"]);
        let inside = host.must(&["exec", "long", "cat", "/proc/self/uid_map"]);
        assert!(inside.contains("200000"), "without {set}: {inside}");
        // Nothing of how it was made is left in it.
        let text = host.must(&["exec", "long", "cat", "/proc/self/mountinfo"]);
        let places = [" /proc/driver ", " /proc/version "];
        let left = places.iter().any(|place| text.contains(place));
        assert!(!left && !text.contains(" shared:"), "without {set}: {text}");
        host.must(&["delete", "--force", "long"]);
        common::reap();
    }
    for place in [&sub, &share] {
        let status = Command::new("umount").arg(place).status();
        assert!(status.unwrap().success(), "{place:?}");
    }
    host.assert_clean();
}

/// What cannot be had is refused before anything is mounted.
#[test]
fn a_user_namespace_is_refused_what_the_kernel_cannot_do() {
    let Some(mut host) = enter() else { return };
    let data = host.path("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    let mount_at = |host: &Host, source: &std::path::Path, options: serde_json::Value| {
        let mut config = mapped(host, "one", "true");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/data", "source": source, "options": options}));
        let before = mounts_of_the_host();
        let output = host.run("one", &config);
        assert_eq!(mounts_of_the_host(), before);
        output
    };
    let bundle = host.bundle("long", &mapped(&host, "long", "sleep 1000"));
    let mut run = host.runtime(&["run", "--detach", "--bundle", bundle.to_str().unwrap()]);
    run.arg("long").stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let state: serde_json::Value = serde_json::from_str(&host.must(&["state", "long"])).unwrap();
    for (set, api) in [("mount_setattr", true), ("everything", false)] {
        host = host.without(set);
        let output = mount_at(&host, &data, json!(["bind", "idmap"]));
        let text = stderr(&output);
        assert!(!output.status.success(), "{text}");
        assert!(
            text.contains("Linux 5.12") && text.contains("/data"),
            "{text}"
        );
        // What is not there is named.
        let output = mount_at(&host, &host.path("missing"), json!(["bind"]));
        let text = stderr(&output);
        assert!(!output.status.success(), "{text}");
        assert!(
            text.contains("missing on /data") && text.contains("No such file"),
            "{text}"
        );
        // Mounts of the host, copied for a user namespace, keep their flags for good.
        let output = mount_at(&host, &data, json!(["bind", "noatime"]));
        assert_eq!(output.status.success(), api, "{}", both(&output));
        let clear = stderr(&output).contains("times of access");
        assert!(api || clear, "{}", both(&output));
        // And others below them may not be uncovered.
        mount(&["-t", "tmpfs", "tmpfs", data.join("sub").to_str().unwrap()]);
        let output = mount_at(&host, &data, json!(["bind"]));
        assert_eq!(output.status.success(), api, "{}", both(&output));
        assert!(
            api || stderr(&output).contains("rbind"),
            "{}",
            both(&output)
        );
        let umount = Command::new("umount").arg(data.join("sub")).status();
        assert!(umount.unwrap().success());
        if api {
            continue;
        }
        // Among the mounts of somebody else, paths would be his.
        let mut config = host.config("joins", "cat /proc/self/uid_map");
        config["process"]["user"] = json!({"uid": 0, "gid": 0});
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
        for (kind, file) in [("mount", "mnt"), ("user", "user")] {
            let path = format!("/proc/{}/ns/{file}", state["pid"]);
            namespaces.push(json!({"type": kind, "path": path}));
        }
        let output = host.run("joins", &config);
        let clear = stderr(&output).contains("needs Linux 5.2");
        assert!(!output.status.success() && clear, "{}", both(&output));
    }
    host.must(&["delete", "--force", "long"]);
    common::reap();
    host.assert_clean();
}

/// Without a procfs in the container there is no list of descriptors to go by.
#[test]
fn descriptors_are_closed_also_without_a_procfs() {
    let Some(host) = enter() else { return };
    let host = host.without("close_range");
    let mut config = host.config("fds", "");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| m["destination"] != "/proc");
    for key in ["maskedPaths", "readonlyPaths"] {
        config["linux"][key] = json!([]);
    }
    // A false /proc that tells of no descriptors.
    fs::create_dir_all(host.path("rootfs/proc/self/fd")).unwrap();
    config["process"]["args"] = json!([
        "sh",
        "-c",
        "for n in 3 4 5 6 7 8 9; do (: <&$n) 2>/dev/null && echo $n; done; true"
    ]);
    let output = host.run("fds", &config);
    assert!(
        output.status.success() && stdout(&output).is_empty(),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn a_kernel_without_pidfds_is_refused() {
    let Some(host) = enter() else { return };
    let host = host.without("4.18");
    let output = host.run("old", &host.config("old", "true"));
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let text = stderr(&output);
    for word in ["pidfd_open(2)", "clone3(2)", "Linux 5.4"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
    host.assert_clean();
}
