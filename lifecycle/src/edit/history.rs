//! The history of the configuration: a commit for every change, where `/etc/metactl` is a git repository.
//!
//! Its author is the person behind sudo. A commit that fails does not undo the change: it is told, with
//! the command that does it by hand.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, geteuid};

use super::undo::quoted;
use crate::person::Person;
use crate::scm::command;

/// How long a commit, and the hooks of the repository, may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Commits one file of the directory `config`, removed or changed; nothing when it is no repository. Returns
/// what went wrong.
pub(crate) fn commit(config: &Path, file: &Path, subject: &str) -> Option<String> {
    let dot_git = config.join(".git");
    let meta = dot_git.symlink_metadata().ok()?;
    let inside = file.strip_prefix(config).ok()?;
    let by_hand = format!(
        "git -C {dir} add -- {file} && git -C {dir} commit -m {subject} -- {file}",
        dir = quoted(&config.to_string_lossy()),
        file = quoted(&inside.to_string_lossy()),
        subject = quoted(subject),
    );
    let failed = |why: &str| {
        Some(format!(
            "the change is made, but not committed in {}: {why}; to do it: {by_hand}",
            config.display()
        ))
    };
    // Hooks and filters of the repository run as this user: they have to be its own.
    let own = geteuid().as_raw();
    if (meta.uid() != 0 && meta.uid() != own) || meta.mode() & 0o022 != 0 {
        return failed(&format!("others may write to {}", dot_git.display()));
    }
    let run = |args: &[&str]| -> Result<Vec<u8>, String> {
        let mut git = git(config);
        git.args(args).arg("--").arg(inside);
        let output = command::run(git, LIMIT).map_err(|error| format!("git: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = if said.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout).into_owned()
        } else {
            said
        };
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Err(match lines.as_slice() {
            [] => output.status.to_string(),
            lines => lines[..lines.len().min(4)].join("; "),
        })
    };
    let result = run(&["status", "--porcelain"]).and_then(|differs| {
        // As it was committed, ignored, or removed before it ever was: then there is nothing to say.
        if differs.is_empty() {
            return Ok(());
        }
        run(&["add", "--all"])?;
        run(&["commit", "--quiet", "--only", "--message", subject]).map(drop)
    });
    result.err().and_then(|why| failed(&why))
}

/// git in the directory, as the person behind this process.
fn git(config: &Path) -> Command {
    let person = Person::behind();
    let mut git = Command::new("git");
    git.env_clear()
        .env("PATH", metactl_bundles::view::PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_TERMINAL_PROMPT", "0");
    // What stands in a person's own settings of git would run as root: sudo may keep their HOME.
    let home = match person.is_other {
        true => User::from_uid(geteuid())
            .ok()
            .flatten()
            .map(|root| root.dir.into_os_string()),
        false => std::env::var_os("HOME"),
    };
    if let Some(home) = home {
        git.env("HOME", home);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), &person.name);
        git.env(format!("GIT_{role}_EMAIL"), person.email());
    }
    // Somebody else's directory, perhaps: whose it is was looked at.
    let safe = format!("safe.directory={}", config.display());
    git.current_dir(config).args(["-c", &safe]);
    git.args(["-c", "commit.gpgSign=false", "-c", "core.fsmonitor=false"]);
    git
}
