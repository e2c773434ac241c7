//! What somebody writes into a `config.json` who shall not change the host, nor keep the runtime from its work.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::add_mount;
use crate::common::{Host, both, enter, stderr};

/// What is put into a configuration.
type Change<'c> = &'c dyn Fn(&mut Value);

/// Runs it, but not for ever.
fn run(host: &Host, id: &str, config: &Value) -> Output {
    let bundle = host.bundle(id, config);
    let run = host.runtime(&["run", "--bundle", bundle.to_str().unwrap(), id]);
    limited(&run)
}

fn limited(command: &Command) -> Output {
    let mut limited = Command::new("timeout");
    limited
        .args(["-s", "KILL", "20"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(std::process::Stdio::null());
    limited.output().unwrap()
}

fn set_path(config: &mut Value, kind: &str, path: &str) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    let found = list.iter_mut().find(|entry| entry["type"] == kind);
    found.unwrap()["path"] = json!(path);
}

fn fifo(path: &std::path::Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// A fifo would be waited for, with the container's lock held and signals blocked; a terminal would become that of
/// the runtime; another kind gives an error nobody understands.
#[test]
fn paths_of_namespaces_lead_to_namespaces() {
    let Some(host) = enter() else { return };
    fifo(&host.path("fifo"));
    fs::write(host.path("file"), "").unwrap();
    let fifo = host.path("fifo");
    let file = host.path("file");
    for (kind, path, want) in [
        ("network", fifo.to_str().unwrap(), "network: "),
        ("pid", fifo.to_str().unwrap(), "pid: "),
        ("mount", fifo.to_str().unwrap(), "mount: "),
        ("ipc", file.to_str().unwrap(), "is no namespace at all"),
        ("uts", "/dev/zero", "is no namespace at all"),
        (
            "network",
            "/proc/1/ns/uts",
            "is a namespace of another kind",
        ),
        ("pid", "/proc/1/ns/net", "is a namespace of another kind"),
        ("mount", "/proc/1/ns/mnt", "is the runtime's own"),
    ] {
        let mut config = host.config("odd", "true");
        config.as_object_mut().unwrap().remove("hostname");
        set_path(&mut config, kind, path);
        let output = run(&host, "odd", &config);
        assert!(
            stderr(&output).contains(want),
            "{kind} {path}: {}",
            both(&output)
        );
        assert_eq!(output.status.code(), Some(1), "{kind} {path}");
        host.assert_clean();
    }
    // As an option, where sockets are looked at before.
    let bundle = host.bundle("odd", &host.config("odd", "true"));
    let mut join = host.runtime(&["run", "--bundle", bundle.to_str().unwrap(), "--netns"]);
    join.arg(&fifo).arg("odd");
    let output = limited(&join);
    assert!(
        stderr(&output).contains("is no namespace at all"),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

/// What is refused without a namespace of its own must not be had by the path of the host's (runc's validator,
/// "sysctl not allowed in host network namespace").
#[test]
fn the_hosts_own_namespaces_are_not_changed_by_their_path() {
    let Some(host) = enter() else { return };
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let before = [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/msgmax",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
    ];
    let values = before.map(read);
    let changes: [(&str, &str, Change<'_>); 5] = [
        ("network", "net", &|config| {
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        }),
        ("ipc", "ipc", &|config| {
            config["linux"]["sysctl"] = json!({"kernel.msgmax": "4711"});
        }),
        ("uts", "uts", &|config| config["hostname"] = json!("taken")),
        ("uts", "uts", &|config| {
            config["domainname"] = json!("taken")
        }),
        ("network", "net", &|config| {
            config["linux"]["netDevices"] = json!({"lo": {"name": "taken"}});
        }),
    ];
    for (kind, name, change) in changes {
        let mut config = host.config("own", "true");
        config.as_object_mut().unwrap().remove("hostname");
        config["linux"]["sysctl"] = json!({});
        set_path(&mut config, kind, &format!("/proc/1/ns/{name}"));
        // The path alone is as good as none.
        let output = run(&host, "own", &config);
        assert!(output.status.success(), "{kind}: {}", both(&output));
        change(&mut config);
        let output = run(&host, "own", &config);
        assert!(
            stderr(&output).contains("would change the host"),
            "{kind}: {}",
            both(&output)
        );
        host.assert_clean();
    }
    assert_eq!(before.map(read), values);
}

/// A configuration that is a fifo, a device without an end, or larger than anything that is one.
#[test]
fn a_configuration_is_a_file_and_has_an_end() {
    let Some(host) = enter() else { return };
    let dir = host.bundle("odd", &host.config("odd", "true"));
    let path = dir.join("config.json");
    let refused = |want: &str| {
        for verb in ["run", "create", "plan"] {
            let call = host.runtime(&[verb, "--bundle", dir.to_str().unwrap(), "odd"]);
            let output = limited(&call);
            let said = stderr(&output);
            assert!(
                said.contains(want) && said.contains("config.json"),
                "{}",
                both(&output)
            );
        }
        host.assert_clean();
        fs::remove_file(&path).unwrap();
    };
    fs::remove_file(&path).unwrap();
    fifo(&path);
    refused("it is no regular file");
    symlink("/dev/zero", &path).unwrap();
    refused("it is no regular file");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    refused("it is longer than 16 MiB");
}

/// Names of a configuration, and what hooks of the container say, are shown to root on a terminal.
#[test]
fn messages_hold_no_commands_for_a_terminal() {
    let Some(host) = enter() else { return };
    let mut config = host.config("esc", "true");
    add_mount(
        &mut config,
        json!({"destination": "/a\u{1b}]0;title\u{7}", "source": "/nowhere\u{1b}[2J", "options": ["bind"]}),
    );
    let output = run(&host, "esc", &config);
    let plan = host.call(&[
        "plan",
        "--bundle",
        host.path("bundle-esc").to_str().unwrap(),
    ]);
    let mut hook = host.config("hook", "true");
    hook["hooks"] = json!({"startContainer": [{"path": "/bin/sh",
        "args": ["sh", "-c", "printf 'said \\033[2J'; exit 3"]}]});
    let hook = run(&host, "hook", &hook);
    for (output, want) in [(&output, "/nowhere"), (&plan, "/nowhere"), (&hook, "said ")] {
        let all = [&output.stdout[..], &output.stderr[..]].concat();
        assert!(
            String::from_utf8_lossy(&all).contains(want),
            "{}",
            both(output)
        );
        assert!(
            !all.contains(&0x1b) && !all.contains(&7),
            "{}",
            both(output)
        );
    }
    host.assert_clean();
}
