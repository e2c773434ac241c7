//! What was made and must be taken away again: intent before effect, append-only, one JSON object
//! a line.
//!
//! A journal is read by whoever comes next, after a crash at any point. So every undo is
//! idempotent ("make sure that it is gone"), and a record says only what is needed for that.
//! There is no "done" record: when the undo of everything succeeded, the journal is removed.
//!
//! A line without its newline was cut off by a crash. Its effect had not begun, so it is ignored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::fallback::procfs;
use crate::process::ProcessId;

/// How long a process may take to die from SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that will exist from now on and does not go away by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Intent {
    /// A cgroup directory (absolute path below a cgroup mount). Undo: kill what is in it, remove
    /// it together with the cgroups below it.
    Cgroup {
        /// The directory.
        path: PathBuf,
    },
    /// A cgroup directory that others may share. Undo: remove it if it is empty.
    SharedCgroup {
        /// The directory.
        path: PathBuf,
    },
    /// A mount in the mount namespace of the runtime. Undo: detach it.
    Mount {
        /// Where.
        path: PathBuf,
        /// The id of the mount (statx(2)) that was there before, which stays, with everything below
        /// it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        above: Option<u64>,
    },
    /// A directory. Undo: remove it if it is empty, else fail.
    Dir {
        /// Where.
        path: PathBuf,
    },
    /// A file, socket or symlink. Undo: remove it.
    File {
        /// Where.
        path: PathBuf,
    },
    /// A process. Undo: kill it, if it is still the same one.
    Process(ProcessId),
    /// A transient scope of systemd. Undo: stop it.
    Scope {
        /// The unit, such as `metactl-web.scope`.
        unit: String,
        /// Whether it belongs to the manager of the calling user.
        user: bool,
    },
    /// Server-wide effects of a network. Undo: `metactl_netns::server::release`.
    Network {
        /// Where the reference counts are kept.
        server_dir: PathBuf,
        /// Who holds them.
        user: String,
    },
}

/// What went wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal itself could not be read or written.
    #[error("journal {}: cannot {action}: {source}", path.display())]
    File {
        /// The journal.
        path: PathBuf,
        /// `open`, `read`, `write` or `remove`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A whole line is not a record. Nothing was undone.
    #[error(
        "journal {}, line {line}: not a record of this version ({source}); look at it, undo by hand, remove it",
        path.display()
    )]
    Record {
        /// The journal.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// Some records could not be undone. The journal stays; replaying it again is safe.
    #[error("journal {}: could not undo: {}", path.display(), failures.join("; "))]
    Undo {
        /// The journal.
        path: PathBuf,
        /// One sentence each.
        failures: Vec<String>,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal at `path` for appending; made (mode 0600) when it is not there.
    pub fn open(path: &Path) -> Result<Journal, JournalError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|source| file_error(path, "open", source))?;
        Ok(Journal {
            file,
            path: path.to_owned(),
        })
    }

    /// Records what is about to be made.
    pub fn record(&mut self, intent: &Intent) -> Result<(), JournalError> {
        self.record_all(std::slice::from_ref(intent))
    }

    /// Records several intents with one write.
    pub fn record_all(&mut self, intents: &[Intent]) -> Result<(), JournalError> {
        let mut text = Vec::with_capacity(128 * intents.len());
        for intent in intents {
            let written = serde_json::to_writer(&mut text, intent).map_err(io::Error::from);
            written.map_err(|source| file_error(&self.path, "write", source))?;
            text.push(b'\n');
        }
        self.file
            .write_all(&text)
            .map_err(|source| file_error(&self.path, "write", source))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The records of the journal at `path`, oldest first; none when there is no journal.
pub fn read(path: &Path) -> Result<Vec<Intent>, JournalError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file_error(path, "read", source)),
    };
    let whole = text
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let lines = text.get(..whole).unwrap_or_default().split(|&b| b == b'\n');
    lines
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|source| JournalError::Record {
                path: path.to_owned(),
                line: at + 1,
                source,
            })
        })
        .collect()
}

/// Undoes the journal at `path`, newest record first, and removes it. Returns what was undone, a
/// short sentence each; things that were gone already are not mentioned. Nothing happens when
/// there is no journal.
///
/// The caller holds whatever lock protects the things in the journal.
pub fn replay(path: &Path) -> Result<Vec<String>, JournalError> {
    let intents = read(path)?;
    let mut undone = Vec::new();
    let mut failures = Vec::new();
    if let Err(e) = kill_frozen(&intents) {
        failures.push(e.to_string());
    }
    for intent in intents.iter().rev() {
        match intent.undo() {
            Ok(Some(what)) => undone.push(what),
            Ok(None) => {}
            Err(why) => failures.push(why),
        }
    }
    if !failures.is_empty() {
        return Err(JournalError::Undo {
            path: path.to_owned(),
            failures,
        });
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error(path, "remove", e)),
        _ => Ok(undone),
    }
}

/// What is frozen does not die from a signal alone (cgroup v1): it is killed first, by its cgroups.
fn kill_frozen(intents: &[Intent]) -> Result<(), cgroup::CgroupError> {
    let cgroups: Vec<PathBuf> = intents
        .iter()
        .filter_map(|intent| match intent {
            Intent::Cgroup { path } => Some(path.clone()),
            _ => None,
        })
        .collect();
    if cgroup::freezer::is_frozen(&cgroups) || cgroup::freezer::keeps_alive(&cgroups) {
        cgroup::kill_all(&cgroups)?;
    }
    Ok(())
}

impl Intent {
    /// Makes sure that it is gone. `Some(sentence)` when there was something to do.
    fn undo(&self) -> Result<Option<String>, String> {
        match self {
            Intent::Cgroup { path } => remove_cgroup(path),
            Intent::SharedCgroup { path } => match fs::remove_dir(path) {
                Ok(()) => Ok(Some(format!("removed cgroup {}", path.display()))),
                // Others are still in it: it is theirs now.
                Err(e) if gone(&e) || e.raw_os_error() == Some(libc::EBUSY) => Ok(None),
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(None),
                Err(e) => Err(format!("cgroup {}: {e}", path.display())),
            },
            Intent::Mount { path, above } => unmount(path, *above),
            Intent::Dir { path } => removed("directory", path, fs::remove_dir(path)),
            Intent::File { path } => removed("file", path, fs::remove_file(path)),
            Intent::Process(id) => match id.kill(KILL_TIMEOUT) {
                Ok(was) => Ok(was.then(|| format!("killed process {}", id.pid))),
                Err(e) => Err(format!("process {}: {e}", id.pid)),
            },
            Intent::Scope { unit, user } => match crate::systemd::stop(unit, *user) {
                Ok(()) => Ok(None),
                Err(e) => Err(e.to_string()),
            },
            Intent::Network { server_dir, user } => {
                crate::network::release(server_dir, user).map_err(|e| e.to_string())?;
                Ok(None)
            }
        }
    }
}

fn remove_cgroup(path: &Path) -> Result<Option<String>, String> {
    match fs::remove_dir(path) {
        // The usual case: everybody in it has ended.
        Ok(()) => {}
        Err(e) if gone(&e) => return Ok(None),
        Err(_) => {
            let dir = [path.to_owned()];
            let removed = cgroup::kill_all(&dir).and_then(|()| cgroup::delete(&dir));
            removed.map_err(|e| e.to_string())?;
        }
    }
    Ok(Some(format!("removed cgroup {}", path.display())))
}

/// The id of the mount that a path is on.
pub fn mount_id(path: &Path) -> io::Result<u64> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(CWD, path, flags, Mode::empty())?;
    Ok(procfs::mount_id(place)?.into())
}

fn unmount(path: &Path, above: Option<u64>) -> Result<Option<String>, String> {
    use rustix::io::Errno;
    use rustix::mount::{UnmountFlags, unmount};
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    let mut was = false;
    loop {
        if above.is_some() && mount_id(path).ok() == above {
            break;
        }
        match unmount(path, flags) {
            // Mounts can be stacked, for example when a first cleanup was interrupted.
            Ok(()) => was = true,
            // EINVAL: not a mount point. ENOENT: not even a path.
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(e) => return Err(format!("unmount {}: {e}", path.display())),
        }
    }
    Ok(was.then(|| format!("unmounted {}", path.display())))
}

fn removed(what: &str, path: &Path, result: io::Result<()>) -> Result<Option<String>, String> {
    match result {
        Ok(()) => Ok(Some(format!("removed {what} {}", path.display()))),
        Err(e) if gone(&e) => Ok(None),
        Err(e) => Err(format!("remove {what} {}: {e}", path.display())),
    }
}

fn gone(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn file_error(path: &Path, action: &'static str, source: io::Error) -> JournalError {
    JournalError::File {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_undoes_in_reverse_and_twice_is_the_same_as_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (sub, file) = (dir.path().join("d"), dir.path().join("d/f"));
        let mut journal = Journal::open(&path).unwrap();
        journal.record(&Intent::Dir { path: sub.clone() }).unwrap();
        fs::create_dir(&sub).unwrap();
        journal
            .record(&Intent::File { path: file.clone() })
            .unwrap();
        fs::write(&file, "x").unwrap();
        journal
            .record(&Intent::File {
                path: dir.path().join("never made"),
            })
            .unwrap();

        let undone = replay(&path).unwrap();
        assert_eq!(undone.len(), 2, "{undone:?}");
        assert!(!sub.exists() && !path.exists());
        assert!(replay(&path).unwrap().is_empty());
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_ignored_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(
            &path,
            "{\"file\":{\"path\":\"/nonexistent/a\"}}\n{\"file\":{\"pa",
        )
        .unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        fs::write(
            &path,
            "{\"file\":{\"path\":\"/nonexistent/a\"}}\nnonsense\n",
        )
        .unwrap();
        assert!(matches!(
            replay(&path),
            Err(JournalError::Record { line: 2, .. })
        ));
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_undone_keeps_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (path, sub) = (dir.path().join("journal"), dir.path().join("d"));
        fs::create_dir_all(sub.join("not empty")).unwrap();
        Journal::open(&path)
            .unwrap()
            .record(&Intent::Dir { path: sub })
            .unwrap();
        assert!(matches!(replay(&path), Err(JournalError::Undo { .. })));
        assert!(path.exists());
    }

    #[test]
    fn a_recorded_process_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        Journal::open(&path)
            .unwrap()
            .record(&Intent::Process(id))
            .unwrap();
        assert_eq!(
            replay(&path).unwrap(),
            [format!("killed process {}", child.id())]
        );
        child.wait().unwrap();
    }
}
