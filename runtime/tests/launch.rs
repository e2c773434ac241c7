//! Real launches: what a program finds in its sandbox, and what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{UID, both, enter, put, stderr, stdout};
use serde_json::json;

#[test]
fn the_exit_code_is_the_programs() {
    let Some(host) = enter() else { return };
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 0),
    ] {
        let output = host.run("code", &host.config("code", script));
        // PID 1 of a namespace ignores signals that it does not handle, also its own; it cannot
        // even kill itself.
        let code = if script.starts_with("kill") { 0 } else { code };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{script}: {}",
            both(&output)
        );
    }
    let mut config = host.config("code", "kill -9 $$");
    config["annotations"] = json!({"org.metactl.init": "true"});
    assert_eq!(host.run("code", &config).status.code(), Some(137));
    host.assert_clean();
}

#[test]
fn a_process_has_nothing_that_was_not_asked_for() {
    let Some(host) = enter() else { return };
    let text = host.script("cat /proc/self/status; id; umask; pwd; hostname; ulimit -n; env");
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|l| l.split_once(":\t"))
        .map(|(k, v)| (k, v.trim()))
        .collect();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["NoNewPrivs"], "1");
    assert_eq!(fields["Seccomp"], "2");
    assert_eq!(fields["Groups"], "");
    assert_eq!(fields["Uid"], format!("{UID}\t{UID}\t{UID}\t{UID}"));
    assert_eq!(fields["NSpid"].lines().count(), 1);
    assert_eq!(fields["SigBlk"], "0000000000000000");
    assert_eq!(fields["SigIgn"], "0000000000000000");
    let rest: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("uid="))
        .collect();
    assert_eq!(rest[1..5], ["0022", "/", "sandbox", "512"]);
    assert_eq!(rest[5..].len(), 4, "PATH, HOME and what sh adds: {rest:?}");
    host.assert_clean();
}

#[test]
fn descriptors_of_the_runtime_do_not_reach_the_program() {
    let Some(host) = enter() else { return };
    // CVE-2024-21626, CVE-2016-9962. One inherited from whoever started the runtime, too.
    let leak = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    for init in ["false", "true"] {
        let mut config = host.config("fds", "ls -l /proc/self/fd; ls -l /proc/1/fd 2>&1");
        config["annotations"] = json!({"org.metactl.init": init});
        let output = host.run("fds", &config);
        let listed: Vec<String> = stdout(&output)
            .lines()
            .filter(|l| l.contains(" -> "))
            .map(|l| l.split_whitespace().nth(8).unwrap().to_owned())
            .collect();
        // `ls` has its directory open, which cannot be read any more when it gets there.
        let expected: &[&str] = if init == "true" {
            &["0", "1", "2", "3"]
        } else {
            &["0", "1", "2", "3", "0", "1", "2"]
        };
        let close = listed
            .iter()
            .filter(|n| n.as_str() != "3")
            .collect::<Vec<_>>();
        let want = expected.iter().filter(|n| **n != "3").collect::<Vec<_>>();
        assert_eq!(close, want, "{}", both(&output));
    }
    host.assert_clean();
}

#[test]
fn the_root_is_read_only_and_paths_are_masked() {
    let Some(host) = enter() else { return };
    let text = host.script(
        "touch /x 2>&1; echo a > /data/x; touch /tmp/ok && echo tmp is writable; \
         cat /proc/timer_list | wc -c; ls /proc/acpi | wc -l; echo 1 > /proc/sys/kernel/pid_max; \
         ls -a /; true",
    );
    assert!(text.contains("touch: /x: Read-only file system"), "{text}");
    assert!(text.contains("tmp is writable\n0\n0\n"), "{text}");
    assert!(!text.contains("oldroot"), "{text}");
    host.assert_clean();
}

/// tmpfs(5), `mode`: 1777 is what the kernel takes; runc takes what is covered.
#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers_unless_another_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let Some(host) = enter() else { return };
    let place = host.path("rootfs/place");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o2710)).unwrap();
    let script = "stat -c %a /place /new /said";
    let mut config = host.config("mode", script);
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/place", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(
        json!({"destination": "/said", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0440"]}),
    );
    let output = host.run("mode", &config);
    assert_eq!(stdout(&output), "2710\n1777\n440\n", "{}", both(&output));
    host.assert_clean();
}

#[test]
fn devices_are_what_they_are_called() {
    let Some(host) = enter() else { return };
    let mut config = host.config(
        "dev",
        "stat -c '%n %t:%T %a %u' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty \
         /dev/sub/fuse /dev/pipe; readlink /dev/fd; readlink /dev/ptmx; echo x > /dev/null; \
         head -c 3 /dev/zero | wc -c",
    );
    config["linux"]["devices"] = json!([
        {"path": "/dev/sub/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 5},
        {"path": "/dev/pipe", "type": "p"},
    ]);
    let output = host.run("dev", &config);
    let want = "/dev/null 1:3 666 0\n/dev/zero 1:5 666 0\n/dev/full 1:7 666 0\n\
                /dev/random 1:8 666 0\n/dev/urandom 1:9 666 0\n/dev/tty 5:0 666 0\n\
                /dev/sub/fuse a:e5 600 5\n/dev/pipe 0:0 666 0\n/proc/self/fd\npts/ptmx\n3\n";
    assert_eq!(stdout(&output), want, "{}", both(&output));
    host.assert_clean();
}

#[test]
fn the_filter_answers_as_asked() {
    let Some(host) = enter() else { return };
    let text = host.script("touch /tmp/a; chmod 600 /tmp/a 2>&1; mount -t tmpfs x /tmp 2>&1; true");
    assert!(text.contains("chmod: /tmp/a: No such device"), "{text}");
    assert!(
        text.contains("ermission denied") || text.contains("not permitted"),
        "{text}"
    );
    host.assert_clean();
}

#[test]
fn binds_of_files_and_directories_have_their_own_rights() {
    let Some(host) = enter() else { return };
    put(&host.path("share/file"), "shared\n");
    put(&host.path("one"), "one file\n");
    fs::set_permissions(
        host.path("share"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let mut config = host.config(
        "bind",
        "cat /made/for/it/file /etc/one; touch /made/for/it/no 2>&1; touch /rw/yes && echo yes; \
         grep -E ' /(rw|etc/one) ' /proc/mounts",
    );
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/made/for/it", "source": host.path("share"), "options": ["bind", "ro"]}));
    mounts.push(json!({"destination": "/rw", "type": "bind", "source": host.path("share"), "options": ["rbind", "nodev", "nosuid"]}));
    mounts.push(
        json!({"destination": "/etc/one", "source": "../one", "options": ["bind", "ro", "noexec"]}),
    );
    let output = host.run("bind", &config);
    let text = stdout(&output);
    assert!(
        text.starts_with("shared\none file\ntouch: /made/for/it/no: Read-only"),
        "{}",
        both(&output)
    );
    assert!(text.contains("\nyes\n"), "{text}");
    assert!(
        text.contains("/rw ext4 rw,nosuid,nodev") || text.contains("/rw "),
        "{text}"
    );
    assert!(host.path("share/yes").exists() && host.path("rootfs/made/for/it").is_dir());
    host.assert_clean();
}

#[test]
fn namespaces_are_new_or_joined() {
    let Some(host) = enter() else { return };
    let links = "for n in pid mnt ipc uts net cgroup; do readlink /proc/self/ns/$n; done";
    let inside = host.script(links);
    for (line, name) in inside
        .lines()
        .zip(["pid", "mnt", "ipc", "uts", "net", "cgroup"])
    {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, ours.to_str().unwrap());
    }
    // Two by path: the network and the host names of somebody else.
    let mut other = std::process::Command::new("unshare")
        .args(["-n", "-u", "sleep", "60"])
        .spawn()
        .unwrap();
    let ns = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", other.id())).unwrap();
    common::eventually("its namespaces", || {
        ns("net") != fs::read_link("/proc/self/ns/net").unwrap()
            && ns("uts") != fs::read_link("/proc/self/ns/uts").unwrap()
    });
    let mut config = host.config(
        "join",
        "readlink /proc/self/ns/net; readlink /proc/self/ns/uts",
    );
    config["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "mount"}, {"type": "ipc"},
        {"type": "uts", "path": format!("/proc/{}/ns/uts", other.id())},
        {"type": "network", "path": format!("/proc/{}/ns/net", other.id())},
    ]);
    let output = host.run("join", &config);
    let want = format!("{}\n{}\n", ns("net").display(), ns("uts").display());
    assert_eq!(stdout(&output), want, "{}", both(&output));
    other.kill().unwrap();
    other.wait().unwrap();
    host.assert_clean();
}

#[test]
fn sysctls_and_loopback_are_the_sandboxs_own() {
    let Some(host) = enter() else { return };
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let before = fs::read_to_string(path).unwrap();
    let script = format!(
        "cat {path}; cat /proc/sys/net/ipv4/conf/lo/forwarding; ip addr show lo; \
                          nc -l -p 80 -e echo hi & for n in 1 2 3 4 5 6 7 8 9; do sleep 0.2; \
                          nc 127.0.0.1 80 </dev/null 2>/dev/null && break; done; wait"
    );
    let mut config = host.config("sysctl", &script);
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    let output = host.run("sysctl", &config);
    let text = stdout(&output);
    assert!(
        text.starts_with("0\n") && text.contains("inet 127.0.0.1/8"),
        "{}",
        both(&output)
    );
    assert!(
        text.ends_with("hi\n"),
        "an unprivileged process listens on 80: {}",
        both(&output)
    );
    assert_eq!(fs::read_to_string(path).unwrap(), before);
    config["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    let output = host.run("sysctl", &config);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("linux.sysctl: vm.swappiness"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn limits_bind() {
    let Some(host) = enter() else { return };
    let mut config = host.config(
        "limits",
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all",
    );
    config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let output = host.run("limits", &config);
    assert!(stderr(&output).contains("can't fork"), "{}", both(&output));
    let mut config = host.config(
        "limits",
        "head -c 60000000 /dev/zero | tail -c 60000000 | wc -c",
    );
    config["linux"]["resources"] = json!({"memory": {"limit": 16_000_000, "swap": 16_000_000}});
    let output = host.run("limits", &config);
    assert_ne!(stdout(&output), "60000000\n", "{}", both(&output));
    let mut config = host.config("limits", "cat /proc/self/oom_score_adj; ulimit -n");
    config["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(stdout(&host.run("limits", &config)), "500\n512\n");
    host.assert_clean();
}

#[test]
fn failures_name_the_step_and_the_path_and_leave_nothing() {
    let Some(host) = enter() else { return };
    let base = host.config("fail", "true");
    let mut cases = Vec::new();
    let mut case =
        |change: &dyn Fn(&mut serde_json::Value), code: i32, words: &'static [&'static str]| {
            let mut config = base.clone();
            change(&mut config);
            cases.push((config, code, words));
        };
    case(
        &|c| c["process"]["args"] = json!(["/bin/nothing"]),
        1,
        &["exec /bin/nothing: no such file or directory"],
    );
    case(
        &|c| c["process"]["args"] = json!(["nothing"]),
        1,
        &["exec nothing: ", "PATH"],
    );
    case(
        &|c| c["process"]["args"] = json!(["/etc"]),
        1,
        &["exec /etc: ", "denied"],
    );
    case(
        &|c| c["process"]["cwd"] = json!("/bin/busybox/x"),
        1,
        &["/bin/busybox/x"],
    );
    case(
        &|c| c["root"]["path"] = json!("/nonexistent/root"),
        1,
        &["root /nonexistent/root"],
    );
    case(
        &|c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]),
        78,
        &["RLIMIT_NOFILE", "soft 9"],
    );
    case(
        &|c| c["linux"]["resources"] = json!({"network": {"classID": 7}}),
        78,
        &["net_cls"],
    );
    case(
        &|c| c["linux"]["seccomp"]["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY"),
        78,
        &["NOTIFY"],
    );
    case(
        &|c| {
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/m", "type": "tmpfs", "options": ["size=banana"]}))
        },
        1,
        // Without the mount API the kernel does not say what it does not like.
        if host.lacks("fsopen") {
            &["mount tmpfs on /m", "refuses the option (size=banana)"]
        } else {
            &["mount tmpfs on /m", "Bad value for 'size'"]
        },
    );
    case(
        &|c| {
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/m", "source": "/nonexistent/x", "options": ["bind"]}))
        },
        1,
        &["bind /nonexistent/x on /m", "source"],
    );
    case(
        &|c| {
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/m", "type": "nofs"}))
        },
        1,
        &["mount nofs on /m", "kernel"],
    );
    for (config, code, words) in cases {
        let output = host.run("fail", &config);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(words.iter().all(|w| text.contains(w)), "{words:?}: {text}");
        host.assert_clean();
    }
}

#[test]
fn programs_that_end_at_once_do_not_hang_anything() {
    let Some(host) = enter() else { return };
    let mut config = host.config("quick", "");
    config["process"]["args"] = json!(["true"]);
    for round in 0..200 {
        let output = host.run("quick", &config);
        assert!(output.status.success(), "round {round}: {}", both(&output));
    }
    host.assert_clean();
}

#[test]
fn a_privileged_container_gets_its_capabilities_and_no_executable() {
    let Some(host) = enter() else { return };
    let mut config = host.config(
        "root",
        "grep CapEff /proc/self/status; id -u; hostname changed; hostname; \
         cat /proc/self/attr/current 2>/dev/null; echo done",
    );
    config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [7, 8]});
    let all = json!(["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_SYS_PTRACE"]);
    config["process"]["capabilities"] =
        json!({"bounding": all, "effective": all, "permitted": all});
    let output = host.run("root", &config);
    let text = stdout(&output);
    assert!(
        text.contains("CapEff:\t0000000000280001\n0\nchanged\n"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn an_unprivileged_user_can_keep_a_capability() {
    let Some(host) = enter() else { return };
    let mut config = host.config("amb", "grep Cap /proc/self/status");
    let some = json!(["CAP_NET_BIND_SERVICE"]);
    config["process"]["capabilities"] = json!({"bounding": some, "effective": some,
        "permitted": some, "inheritable": some, "ambient": some});
    let text = stdout(&host.run("amb", &config));
    assert_eq!(text.matches("0000000000000400").count(), 5, "{text}");
    host.assert_clean();
}
