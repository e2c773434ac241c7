//! Whether a file that counts as the word of those who run the server can only be theirs.
//!
//! As sshd(8) and sudo(8) do it: file and folders belong to root or to the caller, and nobody else
//! may write them. Looked at are the file and every folder from it up to the configuration
//! directory; what is above that was chosen by whoever set `METACTL_ROOT`. A symbolic link may lead
//! to another place in the configuration directory, but not out of it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::diagnostics::{Diagnostic, Place};

/// Write permission of the group and of everybody else.
const GROUP_WRITE: u32 = 0o020;
const OTHER_WRITE: u32 = 0o002;

/// The configuration directory, and what was found out about the folders in it.
#[derive(Debug)]
pub(crate) struct Trust {
    config: PathBuf,
    /// Who reads.
    own: u32,
    /// Folders that were looked at, and their real paths. Within one command nothing is looked at
    /// twice: the same few folders hold the layers of every instance.
    folders: RefCell<Vec<Folder>>,
}

/// A folder that was looked at.
#[derive(Debug)]
struct Folder {
    /// As it was asked for.
    path: PathBuf,
    real: PathBuf,
    /// Open, so that files in it are found without walking there again; not when it cannot be read.
    descriptor: Option<OwnedFd>,
}

/// Who can write something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hands {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl Trust {
    /// For the configuration directory `config`.
    pub(crate) fn new(config: &Path) -> Trust {
        Trust {
            config: config.to_owned(),
            own: rustix::process::geteuid().as_raw(),
            folders: RefCell::default(),
        }
    }

    /// What `open` says of the file `path`, given its folder and its name there; `None` when the
    /// folder was not looked at before.
    pub(super) fn in_known_folder<T>(
        &self,
        path: &Path,
        open: impl FnOnce(&OwnedFd, &OsStr) -> T,
    ) -> Option<T> {
        let folders = self.folders.borrow();
        let folder = known(&folders, path.parent()?)?;
        Some(open(folder.descriptor.as_ref()?, path.file_name()?))
    }

    /// The real path of the file `path` below the directory, to be opened without following links;
    /// `None` when there is nothing.
    ///
    /// # Errors
    /// A link that leads to nothing or out of the directory, and a folder on the way that somebody
    /// else can change.
    pub(super) fn real_path(&self, path: &Path) -> Result<Option<PathBuf>, Box<Diagnostic>> {
        let facts = match fs::symlink_metadata(path) {
            Ok(facts) => facts,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(cannot_look(path, path, &error)),
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        // The folder of a link as well as that of the file.
        let folder = self.folder(path, folder)?;
        if !facts.is_symlink() {
            return Ok(Some(folder.join(name)));
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if is_absent(&error) => {
                let hint = "put the file itself there, or remove the link";
                return Err(fail(path, "this link leads to nothing".to_owned(), hint));
            }
            Err(error) => return Err(cannot_look(path, path, &error)),
        };
        self.is_inside(path, &real)?;
        match real.parent() {
            Some(folder) if folder.starts_with(self.root(path)?) => self.folder(path, folder)?,
            // The link leads to the directory itself, which is no file.
            _ => self.root(path)?,
        };
        Ok(Some(real))
    }

    /// The real path of a folder in the directory, when nobody else can change it or one above it.
    fn folder(&self, path: &Path, folder: &Path) -> Result<PathBuf, Box<Diagnostic>> {
        if let Some(known) = known(&self.folders.borrow(), folder) {
            return Ok(known.real.clone());
        }
        let real = fs::canonicalize(folder).map_err(|error| cannot_look(path, folder, &error))?;
        self.is_inside(path, &real)?;
        let root = self.root(path)?;
        let written = folder
            .ancestors()
            .take_while(|above| above.starts_with(&self.config));
        let really = real
            .ancestors()
            .take_while(|above| above.starts_with(&root));
        for above in written.chain(really) {
            let facts = fs::metadata(above).map_err(|error| cannot_look(path, above, &error))?;
            let hands = Hands {
                uid: facts.uid(),
                gid: facts.gid(),
                mode: facts.mode(),
            };
            self.check(path, above, hands)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.folders.borrow_mut().push(Folder {
            path: folder.to_owned(),
            real: real.clone(),
            descriptor: rustix::fs::open(&real, flags, Mode::empty()).ok(),
        });
        Ok(real)
    }

    fn is_inside(&self, path: &Path, real: &Path) -> Result<(), Box<Diagnostic>> {
        if real.starts_with(self.root(path)?) {
            return Ok(());
        }
        let message = format!(
            "this link leads out of {}, to {}",
            self.config.display(),
            real.display()
        );
        Err(fail(path, message, "put the file itself there"))
    }

    /// Where the directory really is: it may be a link itself.
    fn root(&self, path: &Path) -> Result<PathBuf, Box<Diagnostic>> {
        fs::canonicalize(&self.config).map_err(|error| cannot_look(path, &self.config, &error))
    }

    /// Whether only root or the caller can write what `hands` are about: `at`, which is `path`
    /// itself or a folder on the way to it.
    ///
    /// # Errors
    /// Who else can.
    pub(super) fn check(
        &self,
        path: &Path,
        at: &Path,
        hands: Hands,
    ) -> Result<(), Box<Diagnostic>> {
        let Hands { uid, gid, mode } = hands;
        // A user's own group, as distributions make it, is the user; of root's files nobody else's
        // hands.
        let own_group = uid != 0 && gid == uid;
        let is_owned = uid == 0 || uid == self.own;
        let by_group = mode & GROUP_WRITE != 0 && !own_group;
        if is_owned && !by_group && mode & OTHER_WRITE == 0 {
            return Ok(());
        }
        let it = if at == path {
            "this file".to_owned()
        } else {
            at.display().to_string()
        };
        if !is_owned {
            let message = format!("{it} belongs to uid {uid}, who could change it at any time");
            let hint = format!("it has to be root's, or yours: chown root {}", at.display());
            return Err(fail(path, message, &hint));
        }
        let who = match mode & OTHER_WRITE {
            0 => format!("group {gid}"),
            _ => "everybody".to_owned(),
        };
        let message = format!("{it} can be written by {who} (mode {:04o})", mode & 0o7777);
        let hint = format!("chmod go-w {}", at.display());
        Err(fail(path, message, &hint))
    }
}

fn known<'a>(folders: &'a [Folder], path: &Path) -> Option<&'a Folder> {
    let path = path.as_os_str();
    folders
        .iter()
        .find(|folder| folder.path.as_os_str() == path)
}

fn cannot_look(path: &Path, at: &Path, error: &io::Error) -> Box<Diagnostic> {
    let message = format!("cannot look at {}: {error}", at.display());
    fail(path, message, "make it readable, or run metactl as root")
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
