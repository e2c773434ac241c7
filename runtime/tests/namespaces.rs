//! User, time and joined namespaces; who the container is in them, what it sees of files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Stdio;

use common::{Host, UID, both, enter, mapped, stderr, stdout};
use serde_json::{Value, json};

fn output_of(host: &Host, id: &str, config: &Value) -> String {
    let output = host.run(id, config);
    assert!(output.status.success(), "{}", both(&output));
    stdout(&output)
}

#[test]
fn a_user_namespace_has_its_own_root() {
    let Some(host) = enter() else { return };
    let secret = host.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "seen\n").unwrap();
    // Only the real root gets there; the mount is opened by the runtime.
    let deep = host.path("deep");
    fs::create_dir_all(deep.join("data")).unwrap();
    fs::write(deep.join("data/file"), "shown\n").unwrap();
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; cat /data/file; \
                  echo x > /tmp/mine && ls -ln /tmp/mine; ls -l /dev/null; echo > /dev/null && echo device; \
                  ip link show lo | grep -c UP; cat /proc/self/setgroups; hostname";
    let mut config = mapped(&host, "users", script);
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/data", "source": deep.join("data"), "options": ["bind", "ro"]}));
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]}));
    let text = output_of(&host, "users", &config);
    let lines: Vec<&str> = text.lines().collect();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(lines[0]), ["0", "200000", "65536"], "{text}");
    assert_eq!(words(lines[1]), ["0", "200000", "65536"], "{text}");
    assert_eq!((lines[2], lines[3]), ("0", "shown"), "{text}");
    assert!(text.contains("device\n1\nallow\nsandbox"), "{text}");
    // What is mounted below a shared mount of the host stays in the container.
    let shared = host.path("shared");
    fs::create_dir_all(shared.join("below")).unwrap();
    let mount = |words: &[&str]| {
        let status = std::process::Command::new("mount").args(words).status();
        assert!(status.unwrap().success(), "mount {words:?}");
    };
    mount(&["-t", "tmpfs", "tmpfs", shared.to_str().unwrap()]);
    mount(&["--make-shared", shared.to_str().unwrap()]);
    fs::create_dir(shared.join("below")).unwrap();
    fs::set_permissions(shared.join("below"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut config = mapped(&host, "quiet", "touch /data/below/x");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "source": shared, "options": ["rbind"]}));
    mounts.push(
        json!({"destination": "/data/below", "type": "tmpfs", "source": "tmpfs",
        "options": ["mode=777"]}),
    );
    output_of(&host, "quiet", &config);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("shared/below"), "{mounts}");
    let status = std::process::Command::new("umount").arg(&shared).status();
    assert!(status.unwrap().success());
    // `exec` is in there too.
    let mut config = mapped(&host, "long", "sleep 1000");
    config["mounts"] = mapped(&host, "x", "")["mounts"].clone();
    let bundle = host.bundle("long", &config);
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--bundle",
        bundle.to_str().unwrap(),
        "long",
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let inside = host.must(&["exec", "long", "sh", "-c", "id -u; cat /proc/self/uid_map"]);
    assert!(
        inside.starts_with("0\n") && inside.contains("200000"),
        "{inside}"
    );
    let inside = host.must(&["exec", "--user", "7:8", "long", "id"]);
    assert!(
        inside.contains("uid=7") && inside.contains("gid=8"),
        "{inside}"
    );
    let state: Value = serde_json::from_str(&host.must(&["state", "long"])).unwrap();
    let stat = fs::metadata(format!("/proc/{}", state["pid"])).unwrap();
    assert_eq!(stat.uid(), 200_000);
    // And others can be.
    let mut other = host.config(
        "joins",
        "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user",
    );
    other["process"]["user"] = json!({"uid": 0, "gid": 0});
    let path = format!("/proc/{}/ns/user", state["pid"]);
    other["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": path}));
    let text = output_of(&host, "joins", &other);
    let link = fs::read_link(&path).unwrap();
    assert!(text.starts_with("0\n") && text.contains("200000"), "{text}");
    assert!(text.contains(link.to_str().unwrap()), "{text}");
    host.must(&["delete", "--force", "long"]);
    common::reap();
    host.assert_clean();
}

#[test]
fn mappings_that_make_no_sense_are_refused() {
    let Some(host) = enter() else { return };
    let mut config = mapped(&host, "none", "true");
    config["linux"]["gidMappings"] = json!([]);
    let output = host.run("none", &config);
    assert!(
        stderr(&output).contains("linux.gidMappings"),
        "{}",
        both(&output)
    );
    let mut config = host.config("offset", "true");
    config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5}});
    let output = host.run("offset", &config);
    assert!(
        stderr(&output).contains("linux.timeOffsets"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn clocks_have_offsets() {
    let Some(host) = enter() else { return };
    let script =
        "cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time; cat /proc/self/timens_offsets";
    for users in [false, true] {
        let mut config = match users {
            true => mapped(&host, "time", script),
            false => host.config("time", script),
        };
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({
            "boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 7_000}});
        let text = output_of(&host, "time", &config);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].parse::<u64>().unwrap() >= 1_000_000, "{text}");
        let own = fs::read_link("/proc/self/ns/time").unwrap();
        assert_ne!(lines[1], own.to_str().unwrap());
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.windows(3).any(|w| w == ["boottime", "1000000", "5"]),
            "{text}"
        );
        assert!(
            words.windows(2).any(|w| w == ["monotonic", "7000"]),
            "{text}"
        );
    }
    // One that is there already.
    let mut config = host.config("clock", "sleep 1000");
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    let bundle = host.bundle("clock", &config);
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--bundle",
        bundle.to_str().unwrap(),
        "clock",
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let state: Value = serde_json::from_str(&host.must(&["state", "clock"])).unwrap();
    let path = format!("/proc/{}/ns/time", state["pid"]);
    let mut other = host.config("same", "readlink /proc/self/ns/time");
    other["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time", "path": path}));
    let link = fs::read_link(&path).unwrap();
    assert_eq!(
        output_of(&host, "same", &other).trim(),
        link.to_str().unwrap()
    );
    assert_eq!(
        host.must(&["exec", "clock", "readlink", "/proc/self/ns/time"])
            .trim(),
        link.to_str().unwrap()
    );
    host.must(&["delete", "--force", "clock"]);
    common::reap();
    host.assert_clean();
}

#[test]
fn a_mount_shows_other_ids_and_a_tmpfs_begins_with_a_copy() {
    let Some(host) = enter() else { return };
    let data = host.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "x").unwrap();
    chown(data.join("file"), Some(1234), Some(1234)).unwrap();
    let etc = host.path("rootfs/etc");
    fs::create_dir_all(etc.join("sub")).unwrap();
    fs::write(etc.join("sub/conf"), "kept\n").unwrap();
    fs::set_permissions(etc.join("sub/conf"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(etc.join("sub/conf"), Some(UID), Some(UID)).unwrap();
    std::os::unix::fs::symlink("sub/conf", etc.join("link")).unwrap();
    let script = "ls -ln /data/file | awk '{print $3}'; cat /etc/link; ls -ln /etc/sub/conf | awk '{print $1, $3}'; \
                  echo y > /etc/sub/conf && cat /etc/sub/conf";
    let mut config = host.config("ids", script);
    let map = json!([{"containerID": 1234, "hostID": 99, "size": 1}]);
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/data", "source": data, "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map}),
    );
    mounts.push(
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
        "options": ["tmpcopyup", "mode=755"]}),
    );
    if host.lacks("mount_setattr") {
        let output = host.run("ids", &config);
        let refused = !output.status.success() && stderr(&output).contains("needs Linux 5.12");
        assert!(refused, "{}", both(&output));
        host.assert_clean();
        return;
    }
    let text = output_of(&host, "ids", &config);
    assert_eq!(text, format!("99\nkept\n-rw-r----- {UID}\ny\n"), "{text}");
    assert_eq!(fs::read_to_string(etc.join("sub/conf")).unwrap(), "kept\n");
    // Not every mount can be.
    config["mounts"][4]["uidMappings"] = map.clone();
    config["mounts"][4]["gidMappings"] = map;
    let output = host.run("ids", &config);
    assert!(
        stderr(&output).contains("only bind mounts can be idmapped"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

/// A source below the root's path on the host is what the container has there by then, also for who
/// has other users, and with other ids.
#[test]
fn a_source_below_the_root_is_what_is_mounted_there() {
    let Some(host) = enter() else { return };
    let data = host.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "mounted\n").unwrap();
    // What a link of the root leads to is inside as well.
    let secret = host.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "the host's\n").unwrap();
    let root = host.path("rootfs");
    fs::create_dir_all(root.join("mnt/sub")).unwrap();
    let script = "cat /again/file; stat -c %u /again/file";
    let map = json!([{"containerID": 0, "hostID": 1234, "size": 10}]);
    for (id, users) in [("plain", false), ("users", true), ("ids", false)] {
        let mut config = match users {
            true => mapped(&host, id, script),
            false => host.config(id, script),
        };
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/mnt/sub", "source": data, "options": ["bind"]}));
        let mut again = json!({"destination": root.join("again"), "source": root.join("mnt/sub"),
            "options": ["bind", "ro"]});
        if id == "ids" {
            again["uidMappings"] = map.clone();
            again["gidMappings"] = map.clone();
        }
        mounts.push(again);
        if id == "ids" && host.lacks("mount_setattr") {
            let output = host.run(id, &config);
            let refused = !output.status.success() && stderr(&output).contains("Linux 5.12");
            assert!(refused, "{}", both(&output));
            host.assert_clean();
            continue;
        }
        let text = output_of(&host, id, &config);
        let owner = match id {
            "plain" => 0,
            "users" => 65534,
            _ => 1234,
        };
        assert_eq!(text, format!("mounted\n{owner}\n"), "{id}");
        assert!(!root.join(host.path("rootfs/again")).join("file").exists());
        host.assert_clean();
    }
    std::os::unix::fs::symlink(&secret, root.join("out")).unwrap();
    let mut config = mapped(&host, "link", "cat /again/file");
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/again", "source": root.join("out"), "options": ["bind"]}));
    let output = host.run("link", &config);
    assert!(!output.status.success(), "{}", both(&output));
    assert_eq!(stdout(&output), "");
    host.assert_clean();
}

#[test]
fn mounts_can_be_the_hosts_or_somebodys() {
    let Some(host) = enter() else { return };
    let script = "readlink /proc/self/ns/mnt; ls /; cat /tmp/x; sleep 1000";
    let mut config = host.config("among", script);
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|ns| ns["type"] != "mount");
    let bundle = host.bundle("among", &config);
    let out = fs::File::create(host.path("out")).unwrap();
    let mut run = host.runtime(&[
        "run",
        "--detach",
        "--bundle",
        bundle.to_str().unwrap(),
        "among",
    ]);
    run.stdout(out.try_clone().unwrap()).stderr(out);
    assert!(
        run.status().unwrap().success(),
        "{}",
        fs::read_to_string(host.path("out")).unwrap()
    );
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let seen = || fs::read_to_string(host.path("out")).unwrap();
    common::eventually("it lists its root", || {
        seen().contains("usr") || seen().contains("tmp")
    });
    assert!(seen().starts_with(own.to_str().unwrap()), "{}", seen());
    assert!(!seen().contains("boot\n"), "{}", seen());
    let inside = host.must(&[
        "exec",
        "among",
        "sh",
        "-c",
        "readlink /proc/self/ns/mnt; ls /bin | head -n 1; ls /boot 2>&1; true",
    ]);
    assert!(
        inside.starts_with(own.to_str().unwrap()) && inside.contains("No such file"),
        "{inside}"
    );
    // What it mounted on the host is gone with it.
    host.must(&["delete", "--force", "among"]);
    common::reap();
    host.assert_clean();

    // Those of somebody else.
    let mut other = std::process::Command::new("unshare")
        .args(["-m", "sleep", "1000"])
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/mnt", other.id());
    common::eventually("it has mounts of its own", || {
        fs::read_link(&path).is_ok_and(|link| link != own)
    });
    let mut config = host.config("joins", "readlink /proc/self/ns/mnt; ls / | tr '\\n' ' '");
    let join = |config: &mut Value, path: &str| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "mount" {
                namespace["path"] = json!(path);
            }
        }
    };
    join(&mut config, &path);
    let text = output_of(&host, "joins", &config);
    assert!(
        text.starts_with(fs::read_link(&path).unwrap().to_str().unwrap()),
        "{text}"
    );
    assert!(text.contains("bin data dev"), "{text}");
    join(&mut config, "/proc/self/ns/mnt");
    let output = host.run("joins", &config);
    assert!(
        stderr(&output).contains("is the runtime's own"),
        "{}",
        both(&output)
    );
    other.kill().unwrap();
    other.wait().unwrap();
    host.assert_clean();
}
