//! Root trees whose paths lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::add_mount;
use crate::common::{both, enter, put, stderr, stdout};

/// CVE-2021-30465, CVE-2024-45310: symlinks in the rootfs, absolute and relative, on the way to
/// mount points, lead nowhere outside, and nothing is made outside: what they lead to is made inside.
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
    symlink("end", root.join("chain")).unwrap();
    symlink("/abs/../last", root.join("end")).unwrap();
    let inside = outside.display();
    let parent = outside.parent().unwrap().display();
    for (target, source, found) in [
        ("/abs/x", "share", format!("{inside}/x/secret")),
        ("/abs/file", "share/secret", format!("{inside}/file")),
        (
            "/rel/deep/er",
            "share",
            "/tmp/metactl-evil/deep/er/secret".into(),
        ),
        ("/chain", "share/secret", format!("{parent}/last")),
    ] {
        let mut config = host.config("links", &format!("cat {found}"));
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["destination"] != "/tmp");
        let source = host.path(source);
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
        assert_eq!(stdout(&output), "bound\n", "{target}: {}", both(&output));
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

/// CVE-2026-41579, CVE-2026-47766: devices and links are made in a /dev of the root tree that
/// is a symlink, or has symlinks where they come to lie.
#[test]
fn devices_are_not_made_through_symlinks() {
    let Some(host) = enter() else { return };
    let outside = host.path("outside");
    for (name, target) in [
        ("dev", outside.to_str().unwrap()),
        ("dev", "../outside"),
        ("dev/net", "../../outside"),
        ("dev/shm", outside.to_str().unwrap()),
        ("dev/pts", outside.to_str().unwrap()),
        ("dev/fd", outside.to_str().unwrap()),
        ("dev/tty", outside.to_str().unwrap()),
        ("dev/console", "../../outside/console"),
    ] {
        fs::create_dir_all(&outside).unwrap();
        let root = host.make_rootfs("links");
        let link = root.join(name);
        let _ = fs::remove_dir(&link);
        symlink(target, &link).unwrap();
        // Nothing is mounted over /dev itself.
        let mut config = host.config("links", "true");
        config["root"]["path"] = json!(root);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != "/dev");
        config["linux"]["devices"] = json!([
            {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 438},
        ]);
        config["process"]["terminal"] = json!(name == "dev/console");
        let output = host.run("links", &config);
        let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
        assert!(
            left.is_empty(),
            "{name} {target}: {left:?} {}",
            both(&output)
        );
        // Only links of the container's own, which the runtime neither follows nor needs, may be.
        let harmless = matches!(name, "dev/fd");
        assert_eq!(
            output.status.success(),
            harmless,
            "{name} {target}: {}",
            both(&output)
        );
        fs::remove_dir_all(root).unwrap();
        host.assert_clean();
    }
}

/// CVE-2024-45310: directories and files that are missing below a symlink are not made outside,
/// neither for mounts nor for the working directory, nor for devices.
#[test]
fn nothing_is_made_outside() {
    let Some(host) = enter() else { return };
    let outside = host.path("outside");
    fs::create_dir_all(&outside).unwrap();
    put(&host.path("share/file"), "x");
    let root = host.path("rootfs");
    symlink(&outside, root.join("abs")).unwrap();
    symlink("../outside", root.join("rel")).unwrap();
    symlink("../../../../../../../..", root.join("top")).unwrap();
    let from_top = format!("/top{}", outside.display());
    for base in ["/abs", "/rel", &from_top] {
        let mut cwd = host.config("made", "true");
        cwd["process"]["cwd"] = json!(format!("{base}/task/here"));
        cwd["root"]["readonly"] = json!(false);
        let mut device = host.config("made", "true");
        device["linux"]["devices"] = json!([
            {"path": format!("{base}/null"), "type": "c", "major": 1, "minor": 3},
        ]);
        let mut file = host.config("made", "true");
        let source = host.path("share/file");
        add_mount(
            &mut file,
            json!({"destination": format!("{base}/f"), "source": source, "options": ["bind"]}),
        );
        let mut tmpfs = host.config("made", "true");
        add_mount(
            &mut tmpfs,
            json!({"destination": format!("{base}/a/b"), "type": "tmpfs"}),
        );
        for config in [cwd, device, file, tmpfs] {
            let output = host.run("made", &config);
            let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
            assert!(left.is_empty(), "{base}: {left:?} {}", both(&output));
        }
    }
    host.assert_clean();
}

/// A root that is a symlink is followed on the host, as its owner says; a pivot target inside
/// it that is one is not. A bind of a symlink's target must exist.
#[test]
fn masked_and_read_only_paths_that_are_symlinks_cover_what_is_inside() {
    let Some(host) = enter() else { return };
    let secret = host.path("outside/secret");
    put(&secret, "host\n");
    put(&host.path("rootfs/data/secret"), "inside\n");
    symlink(&secret, host.path("rootfs/data/out")).unwrap();
    symlink("/data/secret", host.path("rootfs/data/in")).unwrap();
    let mut config = host.config("mask", "cat /data/secret; wc -c < /data/secret");
    config["linux"]["maskedPaths"] = json!(["/data/out", "/data/in"]);
    let output = host.run("mask", &config);
    assert_eq!(stdout(&output).trim(), "0", "{}", both(&output));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "host\n");
    let mut config = host.config("mask", "true");
    config["linux"]["readonlyPaths"] = json!(["/data/out", "/data/in"]);
    assert!(host.run("mask", &config).status.success());
    fs::write(&secret, "still writable").unwrap();
    host.assert_clean();
}
