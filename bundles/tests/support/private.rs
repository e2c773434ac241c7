//! A host of a test's own: the test runs itself again in new mount, network, pid and uts
//! namespaces, where it may mount and start what it likes.

use std::path::Path;
use std::process::{Command, Output};

/// Set in the process inside.
const INSIDE: &str = "METACTL_TEST_INSIDE";

/// True inside. Outside: runs the test `name` of this file inside and returns false, so that the
/// caller returns. Skips loudly when that is not possible, or when one of `tools` is missing.
pub fn private_host(name: &str, tools: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Some(reason) = missing(tools) {
        eprintln!("SKIP {name}: {reason}");
        return false;
    }
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = text(&output);
    eprintln!("{text}");
    assert!(output.status.success(), "{name} failed in its private host");
    assert!(
        text.contains("1 passed"),
        "{name} did not run in its private host"
    );
    false
}

fn missing(tools: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let is_there = |tool: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        tool.starts_with('/') && Path::new(tool).exists()
            || path
                .split(':')
                .any(|dir| Path::new(dir).join(tool).exists())
    };
    let tool = ["unshare", "mount"]
        .iter()
        .chain(tools)
        .find(|tool| !is_there(tool))?;
    Some(format!("{tool} is missing"))
}

/// What a program said, both streams.
pub fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Runs a program that must succeed.
pub fn must(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}
