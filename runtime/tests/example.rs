//! The example of the crate's documentation, as it stands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use common::{both, enter, stdout};
use rustix::mount::{MountFlags, mount};

mod hello {
    include!("common/hello.rs");

    pub fn run() {
        main().unwrap();
    }
}

#[test]
fn the_example_launches_waits_and_removes() {
    /// Whether this is the program of the example: it ends its process.
    const EXAMPLE: &str = "METACTL_TEST_EXAMPLE";
    if std::env::var_os(EXAMPLE).is_some() {
        return hello::run();
    }
    let Some(host) = enter() else { return };
    for dir in ["/srv", "/run"] {
        mount("none", dir, "tmpfs", MountFlags::empty(), None).unwrap();
    }
    let bundle = host.bundle("hello", &host.config("hello", "echo hello from $0; exit 3"));
    symlink(bundle, "/srv/hello").unwrap();
    let test = std::env::current_exe().unwrap();
    let output = Command::new(test)
        .args([
            "--exact",
            "the_example_launches_waits_and_removes",
            "--nocapture",
        ])
        .env(EXAMPLE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    let text = stdout(&output);
    assert!(
        text.contains("process ") && text.contains("hello from sh\n"),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir("/run/hello").unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    host.assert_clean();
}
