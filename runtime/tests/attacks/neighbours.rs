//! Another user of the host, who cannot start containers as root but knows where root keeps what is about them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::common::{self, Host, UID, both, enter, eventually, put, reap, stderr};

/// Puts something at a path.
type Trap<'t> = &'t dyn Fn(&Path);

fn with_root(host: &Host, root: &Path, words: &[&str]) -> std::process::Output {
    let mut command = host.program(&common::binary());
    command.arg("--root").arg(root).args(words);
    command.stdin(Stdio::null()).output().unwrap()
}

/// What the state of a container says is killed and removed: with a state root of somebody else's, root would do
/// whatever that one has written.
#[test]
fn a_state_root_of_somebody_else_is_not_believed() {
    let Some(host) = enter() else { return };
    let precious = host.path("precious");
    put(&precious, "mine");
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    // A state of a real container, with another process in it.
    let bundle = host.bundle("x", &host.config("x", "exec sleep 1000"));
    let mut run = host.runtime(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), "x"]);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let own = host.root().join("x");
    let mut state: Value =
        serde_json::from_slice(&fs::read(own.join("state.json")).unwrap()).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", victim.id())).unwrap();
    let start_time = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(19)
        .unwrap();
    state["process"]["pid"] = json!(victim.id());
    state["process"]["start_time"] = json!(start_time.parse::<u64>().unwrap());
    let foreign = host.path("foreign");
    let dir = foreign.join("x");
    fs::create_dir_all(&dir).unwrap();
    put(&dir.join("state.json"), &state.to_string());
    fs::copy(own.join("config.json"), dir.join("config.json")).unwrap();
    put(
        &dir.join("journal"),
        &format!("{}\n", json!({"file": {"path": precious}})),
    );
    for path in [
        &foreign,
        &dir,
        &dir.join("state.json"),
        &dir.join("journal"),
    ] {
        chown(path, Some(UID), Some(UID)).unwrap();
    }
    let mut refused = |root: &Path, want: &str| {
        for words in [
            &["state", "x"][..],
            &["kill", "x", "KILL"],
            &["kill", "--all", "x", "KILL"],
            &["exec", "x", "true"],
            &["pause", "x"],
            &["delete", "x"],
            &["delete", "--force", "x"],
            &["list"],
            &["run", "--bundle", bundle.to_str().unwrap(), "y"],
            &["create", "--bundle", bundle.to_str().unwrap(), "y"],
        ] {
            let output = with_root(&host, root, words);
            assert!(!output.status.success(), "{words:?}: {}", both(&output));
            assert!(
                stderr(&output).contains(want),
                "{words:?}: {}",
                both(&output)
            );
        }
        assert!(victim.try_wait().unwrap().is_none(), "it was killed");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        assert!(!root.join("y").exists());
    };
    refused(&foreign, "belongs to uid 66000");
    victim.kill().unwrap();
    victim.wait().unwrap();
    host.must(&["delete", "--force", "x"]);
    eventually("all have ended", || {
        reap();
        common::processes().is_empty()
    });
    // In a directory that is root's, but open to all, the same directory can be put there by anybody.
    let open = host.path("open");
    fs::create_dir_all(&open).unwrap();
    fs::rename(&dir, open.join("x")).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for words in [
        &["delete", "--force", "x"][..],
        &["run", "--bundle", bundle.to_str().unwrap(), "y"],
    ] {
        let output = with_root(&host, &open, words);
        assert!(!output.status.success(), "{words:?}: {}", both(&output));
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    // Where everybody keeps what is theirs, there are only those that are really somebody else's.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    let output = with_root(&host, &open, &["delete", "--force", "x"]);
    assert!(
        stderr(&output).contains("belongs to uid 66000"),
        "{}",
        both(&output)
    );
    let mut config = host.config("y", "echo ran");
    config["process"]["terminal"] = json!(false);
    let bundle = host.bundle("y", &config);
    let output = with_root(
        &host,
        &open,
        &["run", "--bundle", bundle.to_str().unwrap(), "y"],
    );
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    host.assert_clean();
}

/// Links and fifos that lie where a pid file or an exit code is written first, in a directory of somebody else's.
#[test]
fn files_that_are_written_lead_nowhere_else() {
    let Some(host) = enter() else { return };
    let precious = host.path("precious");
    put(&precious, "mine");
    let traps: [(&str, Trap<'_>); 3] = [
        ("a symlink", &|at| symlink(&precious, at).unwrap()),
        ("a hard link", &|at| fs::hard_link(&precious, at).unwrap()),
        ("a fifo", &|at| {
            mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        }),
    ];
    for (what, trap) in traps {
        let dir = host.path("files");
        fs::create_dir_all(&dir).unwrap();
        for name in ["pid", ".pid.new", "exit", ".exit.new"] {
            trap(&dir.join(name));
        }
        let (pid, exit) = (dir.join("pid"), dir.join("exit"));
        let options = [
            "--pid-file",
            pid.to_str().unwrap(),
            "--exit-file",
            exit.to_str().unwrap(),
        ];
        let output = host
            .run_command("files", &host.config("files", "exit 7"), &options)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(7), "{what}: {}", both(&output));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine", "{what}");
        for file in [&pid, &exit] {
            let found = fs::symlink_metadata(file).unwrap();
            assert!(found.is_file(), "{what}: {found:?}");
            let text = fs::read_to_string(file).unwrap();
            assert!(text.trim().parse::<u32>().is_ok(), "{what}: {text:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
        host.assert_clean();
    }
}

/// A state that was spoilt, or is that of another container, harms nobody and can be deleted.
#[test]
fn a_spoilt_state_can_be_deleted_and_does_nothing() {
    let Some(host) = enter() else { return };
    for id in ["one", "two"] {
        let bundle = host.bundle(id, &host.config(id, "exec sleep 1000"));
        let mut run = host.runtime(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]);
        run.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(run.status().unwrap().success());
    }
    let state = |id: &str| host.root().join(id).join("state.json");
    // The pid of another one.
    fs::copy(state("two"), state("one")).unwrap();
    let output = host.call(&["kill", "one", "KILL"]);
    assert!(
        stderr(&output).contains("the state of container two"),
        "{}",
        both(&output)
    );
    let two: Value = serde_json::from_str(&host.must(&["state", "two"])).unwrap();
    assert_eq!(two["status"], "running");
    for text in ["", "{", "{\"format\": 1}", "nonsense"] {
        fs::write(state("one"), text).unwrap();
        for words in [
            &["delete", "one"][..],
            &["state", "one"],
            &["exec", "one", "true"],
            &["list"],
        ] {
            let output = host.call(words);
            assert!(!output.status.success(), "{words:?}: {}", both(&output));
            assert!(
                stderr(&output).contains("delete --force"),
                "{words:?}: {}",
                both(&output)
            );
        }
    }
    let output = host.call(&["delete", "--force", "one"]);
    assert!(output.status.success(), "{}", both(&output));
    assert!(stderr(&output).contains("warning: "), "{}", both(&output));
    host.must(&["delete", "--force", "two"]);
    eventually("all have ended", || {
        reap();
        common::processes().is_empty()
    });
    host.assert_clean();
}
