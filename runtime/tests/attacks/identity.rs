//! Who a process is, and what it may become; names that climb.

use serde_json::{Value, json};

use crate::common::{Host, both, enter, stderr, stdout};
use crate::{CAPABILITIES, root_config, start, stop};

const SLEEPER: &str = "touch /tmp/ready; exec sleep 1000";

/// A line of /proc/PID/status.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {status}"))
        .trim_start_matches(':')
        .trim()
        .to_owned()
}

/// The status of the first process and of one that joins.
fn both_status(host: &Host, id: &str, config: &Value) -> (String, String) {
    let main = start(host, id, config);
    let first = host.must(&["exec", id, "cat", "/proc/1/status"]);
    let joined = host.must(&["exec", id, "cat", "/proc/self/status"]);
    stop(host, id, main);
    host.must(&["delete", "--force", id]);
    (first, joined)
}

/// CVE-2022-29162, CVE-2022-27650: no process gets inheritable or ambient capabilities that the
/// configuration does not give it, neither the first one nor those that join.
#[test]
fn inheritable_capabilities_are_empty() {
    let Some(host) = enter() else { return };
    let some = "CHOWN NET_BIND_SERVICE SYS_PTRACE";
    for capabilities in ["", some, CAPABILITIES] {
        let config = root_config(&host, "inh", SLEEPER, capabilities);
        let (first, joined) = both_status(&host, "inh", &config);
        for status in [&first, &joined] {
            for name in ["CapInh", "CapAmb"] {
                assert_eq!(
                    field(status, name),
                    "0".repeat(16),
                    "{capabilities}: {name}"
                );
            }
        }
        for name in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(
                field(&first, name),
                field(&joined, name),
                "{capabilities}: {name}"
            );
        }
        let none = capabilities.is_empty();
        assert_eq!(field(&joined, "CapEff") == "0".repeat(16), none);
    }
    host.assert_clean();
}

/// Joining without the filter: who joins has the filter, no_new_privs and the bounds of the
/// container, also as root, with a process object or a terminal of its own.
#[test]
fn exec_joins_with_the_filter_and_the_bounds() {
    let Some(host) = enter() else { return };
    let mut weak = host.config("bound", SLEEPER);
    weak["process"]["noNewPrivileges"] = json!(false);
    for (kind, config) in [
        ("app", host.config("bound", SLEEPER)),
        ("without nnp", weak),
    ] {
        let main = start(&host, "bound", &config);
        let first = host.must(&["exec", "bound", "cat", "/proc/1/status"]);
        for options in [
            &[][..],
            &["--user", "0:0"],
            &["--tty"],
            &["--user", "66001", "--cwd", "/tmp"],
        ] {
            let script = "cat /proc/self/status; mount -t tmpfs x /tmp 2>&1; chmod 700 /tmp 2>&1";
            let words = [&["exec"], options, &["bound", "sh", "-c", script]].concat();
            let output = host.call(&words);
            let text = stdout(&output).replace('\r', "");
            assert_eq!(field(&text, "Seccomp"), "2", "{kind} {options:?}");
            for name in ["NoNewPrivs", "CapBnd", "CapInh", "CapAmb"] {
                assert_eq!(
                    field(&text, name),
                    field(&first, name),
                    "{kind} {options:?} {name}"
                );
            }
            assert_eq!(field(&text, "CapEff"), "0".repeat(16), "{kind} {options:?}");
            assert!(
                text.contains("Operation not permitted") || text.contains("denied"),
                "{text}"
            );
            assert!(
                text.contains("No such device"),
                "chmod is answered with 19: {text}"
            );
        }
        stop(&host, "bound", main);
    }
    host.assert_clean();
}

/// A `process` object for exec that asks for more than the container has: it gets its filter all
/// the same.
#[test]
fn a_process_object_does_not_lift_the_filter() {
    let Some(host) = enter() else { return };
    let main = start(&host, "more", &host.config("more", SLEEPER));
    let all = json!(["CAP_SYS_ADMIN"]);
    let process = json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["sh", "-c", "grep -E 'Seccomp:|CapInh' /proc/self/status; mount -t tmpfs x /tmp"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {"bounding": all, "effective": all, "permitted": all},
    });
    let file = host.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let output = host.call(&["exec", "--process", file.to_str().unwrap(), "more"]);
    let text = stdout(&output);
    assert!(text.contains("Seccomp:\t2"), "{}", both(&output));
    assert!(text.contains("CapInh:\t0000000000000000"), "{text}");
    assert!(
        stderr(&output).contains("mount: permission denied"),
        "{}",
        both(&output)
    );
    stop(&host, "more", main);
    host.assert_clean();
}

/// CVE-2026-30892: a user of which only the beginning is understood would be somebody else.
#[test]
fn users_are_understood_whole_or_not_at_all() {
    let Some(host) = enter() else { return };
    let main = start(&host, "who", &host.config("who", SLEEPER));
    for bad in [
        "",
        ":",
        "1:",
        ":1",
        "1:2:3",
        "1000x",
        "0x10",
        "+1",
        "-1",
        "-0",
        " 1",
        "1 ",
        "1\n",
        "root",
        "66000root",
        "4294967295",
        "4294967296",
        "1:4294967295",
        "1,2",
        "1.0",
        "1e3",
        "00x",
        "١",
        "99999999999999999999",
    ] {
        let output = host.call(&["exec", "--user", bad, "who", "id"]);
        assert_eq!(stdout(&output), "", "{bad:?}");
        assert!(
            matches!(output.status.code(), Some(64 | 78)),
            "{bad:?}: {}",
            both(&output)
        );
    }
    for (good, want) in [
        ("66001", "uid=66001 gid=66000"),
        ("66001:66002", "uid=66001 gid=66002"),
    ] {
        let text = host.must(&["exec", "--user", good, "who", "id"]);
        assert!(text.starts_with(want), "{good}: {text}");
    }
    stop(&host, "who", main);
    host.assert_clean();
}

/// No group of whoever calls the runtime gets in.
#[test]
fn groups_of_the_caller_are_dropped() {
    let Some(host) = enter() else { return };
    let main = start(&host, "groups", &host.config("groups", SLEEPER));
    let caller = |words: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--groups", "4,5,6"])
            .arg(crate::common::binary());
        command.arg("--root").arg(host.root()).args(words);
        stdout(&command.output().unwrap())
    };
    let groups = "grep Groups /proc/self/status";
    assert_eq!(
        caller(&["exec", "groups", "sh", "-c", groups]).trim(),
        "Groups:"
    );
    let bundle = host.bundle("more", &host.config("more", groups));
    let run = caller(&["run", "--bundle", bundle.to_str().unwrap(), "more"]);
    assert_eq!(run.trim(), "Groups:");
    stop(&host, "groups", main);
    host.assert_clean();
}

/// CVE-2014-8989: setgroups before gid_map. A container may not drop a group that denies it
/// something: with a mapping that an unprivileged user wrote, setgroups is denied for good. Without
/// user namespaces such a configuration must be refused, not half done.
#[test]
fn setgroups_is_denied_where_an_unprivileged_mapping_is_written() {
    let Some(host) = enter() else { return };
    let script = "cat /proc/self/setgroups /proc/self/gid_map";
    let mut config = root_config(&host, "map", script, "SETGID");
    let spaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    spaces.push(json!({"type": "user"}));
    let one = json!([{"containerID": 0, "hostID": 66_000, "size": 1}]);
    config["linux"]["uidMappings"] = one.clone();
    config["linux"]["gidMappings"] = one;
    let bundle = host.bundle("map", &config);
    std::fs::create_dir_all(host.root()).unwrap();
    for unprivileged in [false, true] {
        let mut command = std::process::Command::new("setpriv");
        if unprivileged {
            command.args(["--reuid", "66000", "--regid", "66000", "--clear-groups"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        } else {
            command.arg("--clear-groups");
        }
        command.arg(crate::common::binary()).arg("--root");
        command
            .arg(host.root())
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg("map");
        let output = command.output().unwrap();
        let text = stdout(&output);
        if output.status.success() {
            // Root's own mappings may leave it allowed; somebody else's never.
            assert!(
                !unprivileged || text.starts_with("deny"),
                "{}",
                both(&output)
            );
            assert!(text.contains("66000"), "{}", both(&output));
        } else {
            assert!(
                matches!(output.status.code(), Some(1 | 77 | 78)),
                "{}",
                both(&output)
            );
            assert_eq!(text, "");
        }
    }
    host.assert_clean();
}

/// crun 1.28, 1.29: `..` in ids and in cgroup paths.
#[test]
fn ids_and_cgroup_paths_cannot_climb() {
    let Some(host) = enter() else { return };
    let mut config = host.config("x", "true");
    for id in [
        "..", ".", "../x", ".x", "a/b", "a/../b", "/", "/x", "a\nb", "",
    ] {
        let output = host.run(id, &config);
        assert_eq!(output.status.code(), Some(64), "{id:?}: {}", both(&output));
        for verb in ["state", "start", "delete", "kill", "ps"] {
            let output = host.call(&[verb, id]);
            assert!(!output.status.success(), "{verb} {id:?}: {}", both(&output));
        }
        assert!(!host.call(&["exec", id, "true"]).status.success(), "{id:?}");
        assert!(
            !host.call(&["delete", "--force", id]).status.success(),
            "{id:?}"
        );
    }
    for path in [
        "/metactl-test/../../x",
        "..",
        "/..",
        "../../x",
        "a/../../x",
        "/metactl-test/./../x",
        "/metactl-test/..",
    ] {
        config["linux"]["cgroupsPath"] = json!(path);
        let output = host.run("x", &config);
        assert_eq!(output.status.code(), Some(78), "{path}: {}", both(&output));
    }
    host.assert_clean();
}
