//! Names of instances.
//!
//! A name becomes a directory, a file, a host name, part of a container's id and of a cgroup's
//! path, and a word of the command line; so it is held to what all of these can be.

use crate::error::{LifecycleError, Result};

/// The longest name: a host name label (RFC 1123 section 2.1).
const MAX: usize = 63;

/// Words that are commands, or are kept for commands to come: `metactl list` must stay the list.
const COMMANDS: &[&str] = &[
    "access",
    "allow",
    "audit",
    "boot",
    "build",
    "bundle",
    "changed",
    "check",
    "compare",
    "complete",
    "completion",
    "config",
    "cron",
    "delete",
    "demo",
    "deploy",
    "disable",
    "doctor",
    "dump",
    "edit",
    "enable",
    "events",
    "exec",
    "firewall",
    "gcutil",
    "get",
    "health",
    "heapdump",
    "help",
    "history",
    "import",
    "init",
    "install",
    "keys",
    "list",
    "log",
    "logs",
    "lsof",
    "manual",
    "mend",
    "net",
    "network",
    "new",
    "pid",
    "plan",
    "prune",
    "ps",
    "release",
    "releases",
    "reload",
    "restart",
    "revert",
    "rollback",
    "run",
    "server",
    "set",
    "shell",
    "show",
    "stack",
    "start",
    "status",
    "stop",
    "strace",
    "supervise",
    "sync",
    "tcpdump",
    "top",
    "unit",
    "unset",
    "upgrade",
    "version",
    "why",
];

/// Names of metactl's own files beside the directories of instances.
const OWN: &[&str] = &["oci", "locks", "site", "sites", "nodes", "git", "tmp"];

/// Checks a name: letters, digits, `-` and `_`; begins with a letter or a digit; at most 63
/// characters; not a command. No dot: `<instance>.<entry>` is the id of a container.
pub fn check(name: &str) -> Result<()> {
    let bad = |why| {
        Err(LifecycleError::BadName {
            name: name.to_owned(),
            why,
        })
    };
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.len() > MAX {
        return bad("it is longer than 63 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad("it has to begin with a letter or a digit");
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !name.chars().all(fits) {
        return bad("only letters, digits, `-` and `_` may be in it");
    }
    // `run-<name>-<pid>` are foreground runs.
    if OWN.contains(&name) || name.starts_with("run-") {
        return bad("metactl uses it itself");
    }
    if COMMANDS.contains(&name) {
        return bad("it is a command of metactl");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_words() {
        for good in ["myapp", "a", "shop-2", "x_y", "9to5"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in [
            "", ".", "..", "../x", "a/b", ".x", "-a", "a b", "a\n", "ä", &long, "status", "deploy",
            "a..b", "x.conf", "a.b", "run-a-1", "server",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
