//! Writes of the runtime to procfs that a false /proc would catch, and what masks are made of.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::{Host, both, enter, put, stderr, stdout};
use crate::{add_mount, root_config};

/// A tree that looks like a procfs, shared with the attacker.
fn fake_proc(host: &Host) -> std::path::PathBuf {
    for file in [
        "self/attr/current",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/fd/3",
        "self/setgroups",
        "thread-self/attr/exec",
        "sys/net/ipv4/ip_unprivileged_port_start",
        "sys/kernel/shmmax",
        "sysrq-trigger",
    ] {
        put(&host.path("fake").join(file), "untouched");
    }
    host.path("fake")
}

fn assert_untouched(dir: &std::path::Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            assert_untouched(&entry.path());
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert_eq!(text, "untouched", "{}", entry.path().display());
        }
    }
}

/// CVE-2025-52881, CVE-2019-16884: a tmpfs or a directory that others can change lies over /proc,
/// over /proc/sys or over /proc/self; what the runtime writes goes to the kernel all the same, or
/// the launch fails; never into the fake.
#[test]
fn writes_to_procfs_cannot_be_redirected() {
    let Some(host) = enter() else { return };
    let fake = fake_proc(&host);
    let bind = |to: &str, from: std::path::PathBuf| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind"]});
    let tmpfs = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs"});
    for (what, mounts, instead) in [
        (
            "a directory instead of /proc",
            vec![bind("/proc", fake.clone())],
            true,
        ),
        (
            "a directory over /proc",
            vec![bind("/proc", fake.clone())],
            false,
        ),
        ("a tmpfs over /proc", vec![tmpfs("/proc")], false),
        (
            "a directory over /proc/sys",
            vec![bind("/proc/sys", fake.join("sys"))],
            false,
        ),
        ("a tmpfs over /proc/sys", vec![tmpfs("/proc/sys")], false),
        (
            "a directory over attr",
            vec![bind("/proc/self/attr", fake.join("self/attr"))],
            false,
        ),
        ("a tmpfs over attr", vec![tmpfs("/proc/self/attr")], false),
        (
            "sysrq-trigger over a parameter",
            vec![bind(
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                "/proc/sysrq-trigger".into(),
            )],
            false,
        ),
    ] {
        let mut config = host.config("redirect", "true");
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "7"});
        // Whoever listens on a port below 7 is told so by the kernel alone.
        config["process"]["args"] = json!([
            "sh",
            "-c",
            "(timeout 0.2 nc -l -p 6 2>&1; echo $?) | tail -1; timeout 0.2 nc -l -p 8; echo $?"
        ]);
        if instead {
            let all = config["mounts"].as_array_mut().unwrap();
            all.retain(|m| m["destination"] != "/proc");
        }
        for mount in mounts {
            add_mount(&mut config, mount);
        }
        let output = host.run("redirect", &config);
        assert_untouched(&fake);
        if output.status.success() {
            let text = stdout(&output);
            assert_eq!(text, "1\n143\n", "{what}: {}", both(&output));
        }
        host.assert_clean();
    }
}

/// CVE-2019-16884: exec into a container that has laid something over its /proc: the runtime's
/// own writes (the out-of-memory score) do not go there.
#[test]
fn exec_writes_nothing_into_a_false_procfs() {
    let Some(host) = enter() else { return };
    let fake = fake_proc(&host);
    put(&fake.join("self/oom_score_adj"), "untouched");
    let script = "mount -o bind /fake /proc && touch /tmp/ready; exec sleep 1000";
    let mut config = root_config(&host, "false", script, "SYS_ADMIN");
    config["process"]["oomScoreAdj"] = json!(300);
    add_mount(
        &mut config,
        json!({"destination": "/fake", "source": &fake, "options": ["bind"]}),
    );
    let main = crate::start(&host, "false", &config);
    let script = "cat /proc/self/oom_score_adj; umount /proc; cat /proc/self/oom_score_adj";
    let output = host.call(&["exec", "false", "sh", "-c", script]);
    assert_eq!(stdout(&output), "untouched300\n", "{}", both(&output));
    assert_untouched(&fake);
    crate::stop(&host, "false", main);
    host.assert_clean();
}

/// CVE-2025-31133: what lies at /dev/null in the rootfs must be the null device.
#[test]
fn a_false_null_device_is_refused() {
    let Some(host) = enter() else { return };
    for target in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/dev/full",
    ] {
        let mut config = host.config("null", "true");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| m["destination"] == "/proc");
        let null = host.path("rootfs/dev/null");
        let _ = fs::remove_file(&null);
        symlink(target, &null).unwrap();
        let output = host.run("null", &config);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert!(
            stderr(&output).contains("device /dev/null"),
            "{}",
            both(&output)
        );
        host.assert_clean();
    }
}

/// CVE-2025-31133: masks are the host's null device, whatever the container's is by then; also
/// with a /dev that is shared with somebody who swaps it.
#[test]
fn masks_are_the_hosts_null_device() {
    let Some(host) = enter() else { return };
    fs::create_dir_all(host.path("share")).unwrap();
    put(&host.path("rootfs/data/secret"), "secret\n");
    symlink("/proc/sysrq-trigger", host.path("share/null")).unwrap();
    let script = "stat -c '%F %t:%T' /proc/meminfo /data/secret; \
                  wc -c < /data/secret; echo x > /data/secret; echo y > /proc/keys; echo wrote";
    let mut config = host.config("null", script);
    add_mount(
        &mut config,
        json!({"destination": "/dev2", "source": host.path("share"), "options": ["bind"]}),
    );
    config["linux"]["maskedPaths"] = json!(["/proc/meminfo", "/proc/keys", "/data/secret"]);
    let output = host.run("null", &config);
    let want = "character special file 1:3\ncharacter special file 1:3\n0\nwrote\n";
    assert_eq!(stdout(&output), want, "{}", both(&output));
    assert_eq!(
        fs::read_to_string(host.path("rootfs/data/secret")).unwrap(),
        "secret\n"
    );
    host.assert_clean();
}
