//! Whether a file that counts as the word of those who run the server can only be theirs.
//!
//! As sshd(8) and sudo(8) do it: file and folders belong to root or to the caller, and nobody else
//! may write them. Looked at are the file and every folder from it up to the configuration
//! directory; what is above that was chosen by whoever set `METACTL_ROOT`. A symbolic link may lead
//! to another place in the configuration directory, but not out of it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Diagnostic, Place};

/// Write permission of the group and of everybody else.
const GROUP_WRITE: u32 = 0o020;
const OTHER_WRITE: u32 = 0o002;

/// The real path of the file `path` below the directory `config`, to be opened without following
/// links; `None` when there is nothing.
///
/// # Errors
/// A link that leads to nothing or out of `config`, and a folder on the way that somebody else can
/// change.
pub(super) fn real_path(config: &Path, path: &Path) -> Result<Option<PathBuf>, Box<Diagnostic>> {
    let cannot_look = |at: &Path, error: &io::Error| {
        let message = format!("cannot look at {}: {error}", at.display());
        fail(path, message, "make it readable, or run metactl as root")
    };
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(cannot_look(path, &error)),
    }
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if is_absent(&error) => {
            let hint = "put the file itself there, or remove the link";
            return Err(fail(path, "this link leads to nothing".to_owned(), hint));
        }
        Err(error) => return Err(cannot_look(path, &error)),
    };
    let root = fs::canonicalize(config).map_err(|error| cannot_look(config, &error))?;
    if !real.starts_with(&root) {
        let message = format!(
            "this link leads out of {}, to {}",
            config.display(),
            real.display()
        );
        return Err(fail(path, message, "put the file itself there"));
    }
    // The folder of a link as well as that of the file.
    let written = path.ancestors().skip(1);
    let folders = written.take_while(|folder| folder.starts_with(config));
    let real_folders = real
        .ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(&root));
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for folder in folders.chain(real_folders) {
        let facts = fs::metadata(folder).map_err(|error| cannot_look(folder, &error))?;
        let id = (facts.dev(), facts.ino());
        if !seen.contains(&id) {
            check(path, folder, &facts)?;
            seen.push(id);
        }
    }
    Ok(Some(real))
}

/// Whether only root or the caller can write what `facts` are about: `at`, which is `path` itself
/// or a folder on the way to it.
///
/// # Errors
/// Who else can.
pub(super) fn check(path: &Path, at: &Path, facts: &Metadata) -> Result<(), Box<Diagnostic>> {
    let own = rustix::process::geteuid().as_raw();
    let it = if at == path {
        "this file".to_owned()
    } else {
        at.display().to_string()
    };
    let (uid, gid, mode) = (facts.uid(), facts.gid(), facts.mode());
    if uid != 0 && uid != own {
        let message = format!("{it} belongs to uid {uid}, who could change it at any time");
        let hint = format!("it has to be root's, or yours: chown root {}", at.display());
        return Err(fail(path, message, &hint));
    }
    // A user's own group, as distributions make it, is the user; of root's files nobody else's hands.
    let own_group = uid != 0 && gid == uid;
    let who = if mode & OTHER_WRITE != 0 {
        "everybody".to_owned()
    } else if mode & GROUP_WRITE != 0 && !own_group {
        format!("group {gid}")
    } else {
        return Ok(());
    };
    let message = format!("{it} can be written by {who} (mode {:04o})", mode & 0o7777);
    let hint = format!("chmod go-w {}", at.display());
    Err(fail(path, message, &hint))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn fail(path: &Path, message: String, hint: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(message).at(Place::file(path)).hint(hint))
}
