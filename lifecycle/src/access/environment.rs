//! The environment of a person who may only some things: nothing of it that decides what root does.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{OnPath, Result};

/// What names another metactl, or another runtime.
const OURS: &str = "METACTL_";
/// Set by the new process itself.
const SET: [&str; 2] = ["PATH", "HOME"];

/// The variables of this process that say where metactl's directories and programs are.
pub(super) fn relocations() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(OURS)).collect()
}

/// Becomes this very command with nothing in its environment but what is harmless; returns when that is so.
/// `moved`: variables that say where metactl is were found to be harmless too.
pub(super) fn clean(moved: bool) -> Result<()> {
    let all: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let kept = kept(&all, moved, &home());
    if kept.len() == all.len() && all.iter().all(|one| kept.contains(one)) {
        return Ok(());
    }
    let program = std::env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    let mut again = Command::new(&program);
    again
        .args(std::env::args_os().skip(1))
        .env_clear()
        .envs(kept);
    Err(again.exec()).on("run", &program)
}

/// That of root: programs that run as root read their settings there.
fn home() -> OsString {
    let root = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(0));
    let home = root.ok().flatten().map(|root| root.dir.into_os_string());
    home.unwrap_or_else(|| "/".into())
}

fn kept(all: &[(OsString, OsString)], moved: bool, home: &OsStr) -> Vec<(OsString, OsString)> {
    let harmless = |(name, value): &&(OsString, OsString)| {
        name.to_str()
            .zip(value.to_str())
            .is_some_and(|(name, value)| {
                !SET.contains(&name) && is_harmless(name, value) || moved && name.starts_with(OURS)
            })
    };
    let mut kept: Vec<(OsString, OsString)> = all.iter().filter(harmless).cloned().collect();
    kept.push(("PATH".into(), metactl_bundles::view::PATH.into()));
    kept.push(("HOME".into(), home.to_owned()));
    kept
}

fn is_harmless(name: &str, value: &str) -> bool {
    let made_of = |more: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        value.len() <= 128 && value.chars().all(fits)
    };
    match name {
        "SUDO_UID" | "SUDO_GID" | "PKEXEC_UID" | "COLUMNS" | "LINES" => made_of(""),
        "SUDO_USER" | "DOAS_USER" | "TERM" => made_of("-_.+$"),
        "NO_COLOR" => made_of(""),
        "LANG" | "LANGUAGE" => made_of("-_.@:"),
        // No path: whoever reads a time zone reads a file.
        "TZ" => made_of("-_+/") && !value.starts_with('/'),
        "SSH_CONNECTION" => made_of(".:% "),
        _ => name.starts_with("LC_") && made_of("-_.@"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_or_loads_something_is_kept() {
        let all: Vec<(OsString, OsString)> = [
            ("PATH", "/home/alice/bin"),
            ("HOME", "/home/alice"),
            ("LD_PRELOAD", "/home/alice/x.so"),
            ("EDITOR", "sh -c id"),
            ("PAGER", "sh"),
            ("GIT_SSH_COMMAND", "sh"),
            ("BASH_ENV", "x"),
            ("METACTL_RUNTIME", "/home/alice/runtime"),
            ("TZ", ":/etc/shadow"),
            ("TERM", "../../x"),
            ("LC_ALL", "C.UTF-8"),
            ("SUDO_UID", "1000"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let names = |moved| {
            let mut names: Vec<OsString> = kept(&all, moved, "/root".as_ref())
                .into_iter()
                .map(|one| one.0)
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(false), ["HOME", "LC_ALL", "PATH", "SUDO_UID"]);
        assert!(names(true).contains(&"METACTL_RUNTIME".into()));
        // The second time there is nothing more to do.
        let once = kept(&all, false, "/root".as_ref());
        let twice = kept(&once, false, "/root".as_ref());
        assert!(once.len() == twice.len() && once.iter().all(|one| twice.contains(one)));
        assert_eq!(once.iter().find(|one| one.0 == "HOME").unwrap().1, "/root");
    }
}
