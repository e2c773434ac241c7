//! What the words said of a bind mount do to the flags of its source: as mount(2) has it, so that bundles written
//! for other runtimes mean the same.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use serde_json::json;

use common::{Host, both, enter, mapped, stderr, stdout};

/// The flags of the source, the words of the mount, the flags that it must have, those it must not have.
type Case = (&'static str, &'static str, &'static str, &'static str);

const PLAIN: &[Case] = &[
    // Nothing said: as the source.
    ("ro,noexec,nodiratime", "bind", "ro noexec nodiratime", "rw"),
    ("ro,nosuid", "bind,rprivate", "ro nosuid", "rw"),
    // Something said: what was not is taken away.
    (
        "ro,noexec,nodiratime",
        "bind,dev",
        "rw nodiratime",
        "ro noexec",
    ),
    ("ro", "bind,nosuid,nodev", "rw nosuid nodev", "ro"),
    ("ro", "bind,rw", "rw", "ro"),
    (
        "nodev,nosuid,noexec",
        "bind,ro",
        "ro",
        "nodev nosuid noexec",
    ),
    // Times stay unless one is set; then they are set anew.
    ("noatime", "bind,ro", "ro noatime", "relatime"),
    ("noatime", "bind,atime", "noatime", "relatime"),
    ("noatime", "bind,norelatime", "noatime", "relatime"),
    ("noatime", "bind,relatime", "relatime", "noatime"),
    ("noatime", "bind,noatime,atime", "noatime", ""),
    (
        "noatime",
        "bind,nodiratime",
        "nodiratime relatime",
        "noatime",
    ),
    (
        "nodiratime",
        "bind,strictatime",
        "rw",
        "nodiratime relatime noatime",
    ),
    (
        "noatime",
        "bind,nodiratime,strictatime",
        "nodiratime",
        "noatime relatime",
    ),
];

const WITH_USERS: &[Case] = &[
    // What a user namespace could not take away stays, also where the runtime could.
    (
        "ro,noexec,nodiratime",
        "bind,dev",
        "ro noexec nodiratime",
        "rw",
    ),
    ("ro", "bind,nosuid,nodev", "ro nosuid nodev", "rw"),
    (
        "nodev,nosuid,noexec,noatime",
        "bind,ro",
        "ro nodev nosuid noexec noatime",
        "",
    ),
];

fn mount(words: &[&str]) {
    assert!(
        Command::new("mount")
            .args(words)
            .status()
            .unwrap()
            .success()
    );
}

/// A source for all cases.
struct Source<'h>(&'h Host);

impl<'h> Source<'h> {
    fn new(host: &'h Host) -> Source<'h> {
        let data = host.path("data");
        std::fs::create_dir(&data).unwrap();
        mount(&["-t", "tmpfs", "tmpfs", data.to_str().unwrap()]);
        Source(host)
    }

    fn end(self) {
        let umount = Command::new("umount").arg(self.0.path("data")).status();
        assert!(umount.unwrap().success());
        self.0.assert_clean();
    }
}

/// Calls the runtime with a mount of a source with `flags`.
fn bind(host: &Host, users: bool, flags: &str, words: &str) -> std::process::Output {
    let data = host.path("data");
    let path = data.to_str().unwrap();
    mount(&[
        "--bind",
        "-o",
        "remount,rw,suid,dev,exec,atime,diratime,strictatime",
        path,
    ]);
    mount(&["--bind", "-o", &format!("remount,{flags}"), path]);
    let script = "grep ' /data ' /proc/mounts | cut -d' ' -f4";
    let mut config = match users {
        true => mapped(host, "words", script),
        false => host.config("words", script),
    };
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data", "source": data,
        "type": "bind", "options": words.split(',').collect::<Vec<_>>()}));
    host.run("words", &config)
}

fn check(host: &Host, users: bool, case: &Case) {
    let (flags, words, with, without) = *case;
    let output = bind(host, users, flags, words);
    assert!(output.status.success(), "{case:?}: {}", both(&output));
    let text = stdout(&output);
    let has = |flag: &str| text.trim().split(',').any(|word| word == flag);
    assert!(with.split_whitespace().all(has), "{case:?}: {text}");
    assert!(!without.split_whitespace().any(has), "{case:?}: {text}");
}

#[test]
fn words_of_a_bind_mount_set_its_flags_anew() {
    let Some(host) = enter() else { return };
    let source = Source::new(&host);
    PLAIN.iter().for_each(|case| check(&host, false, case));
    source.end();
}

#[test]
fn a_user_namespace_keeps_what_it_could_not_take_away() {
    let Some(host) = enter() else { return };
    let source = Source::new(&host);
    WITH_USERS.iter().for_each(|case| check(&host, true, case));
    source.end();
}

/// The same by mount(2) alone.
#[test]
fn words_mean_the_same_on_old_kernels() {
    let Some(host) = enter() else { return };
    let host = host.without("everything");
    let source = Source::new(&host);
    PLAIN.iter().for_each(|case| check(&host, false, case));
    source.end();
}

#[test]
fn a_program_that_cannot_be_executed_is_named_in_one_line() {
    let Some(host) = enter() else { return };
    let script = host.path("rootfs/run.sh");
    common::put(&script, "#!/mmnnttbb foo bar\nsh\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = host.config("late", "");
    config["process"]["args"] = json!(["/run.sh"]);
    let output = host.run("late", &config);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("exec /run.sh: no such file or directory; it, its interpreter"),
        "{text}"
    );
    host.assert_clean();
}
