//! A folder of this server as source, and what identifies the files in a tree.
//!
//! Whoever owns the folder can change it while it is read. So it is walked by descriptors that
//! follow no link, and what was copied has to be what was looked at before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use sha2::{Digest, Sha256};

use super::{Revision, TAG, with_tag};
use crate::error::{LifecycleError, OnPath, Result};

/// What version control keeps beside the files.
const SKIPPED: &[&str] = &[".git", ".svn", ".hg", ".bzr", "CVS"];
/// How deep folders may be.
const DEEPEST: usize = 200;
/// How much of a configuration file is read.
const MOST: u64 = 4 << 20;

/// A folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: String,
}

impl Folder {
    pub(super) fn new(path: &str) -> Folder {
        Folder {
            path: path.to_owned(),
        }
    }

    /// Whether it is a folder, and no repository of git.
    pub(super) fn is_one(path: &Path) -> bool {
        let bare = path.join("objects").is_dir() && path.join("HEAD").is_file();
        let named = path.to_string_lossy().contains(TAG);
        named || path.is_dir() && !bare && !path.join(".git").exists()
    }

    pub(super) fn needs_tag(&self) -> bool {
        self.path.contains(TAG)
    }

    pub(super) fn shown(&self) -> String {
        self.path.clone()
    }

    pub(super) fn fetch(&self, tag: &str) -> Result<Revision> {
        let path = self.real(tag)?;
        if !path.is_dir() {
            return Err(LifecycleError::Source {
                action: "read".to_owned(),
                repo: path.display().to_string(),
                why: "there is no such folder".to_owned(),
                hint: "[build] repo names it".to_owned(),
            });
        }
        Ok(Revision {
            tag: match tag {
                "" => "snapshot".to_owned(),
                tag => tag.to_owned(),
            },
            commit: digest(&path)?,
            is_tag: !tag.is_empty(),
        })
    }

    pub(super) fn glance(&self, tag: &str, path: &str) -> Result<Option<Vec<u8>>> {
        plain_file(&self.real(tag)?, path)
    }

    pub(super) fn file(&self, revision: &Revision, path: &str) -> Result<Option<Vec<u8>>> {
        plain_file(&self.of(revision)?, path)
    }

    pub(super) fn checkout(&self, revision: &Revision, to: &Path) -> Result<()> {
        let from = self.of(revision)?;
        let copied = walk(&from, Some(to))?;
        if copied == revision.commit {
            return Ok(());
        }
        Err(LifecycleError::Source {
            action: "copy".to_owned(),
            repo: from.display().to_string(),
            why: "it was changed meanwhile".to_owned(),
            hint: "deploy again when nobody writes there".to_owned(),
        })
    }

    fn of(&self, revision: &Revision) -> Result<PathBuf> {
        self.real(if revision.is_tag { &revision.tag } else { "" })
    }

    fn real(&self, tag: &str) -> Result<PathBuf> {
        with_tag(&self.path, tag).map(PathBuf::from)
    }
}

/// The text of a file right in `dir`; `None` when it is not there, or no plain file.
pub(crate) fn plain_file(dir: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = dir.join(name);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // ELOOP: a link.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error).on("read", &path),
    };
    if !file.metadata().on("read", &path)?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).on("read", &path)?;
    Ok(Some(text))
}

/// The SHA-256 of all names, kinds and contents below `path`, as hexadecimal digits.
pub(crate) fn digest(path: &Path) -> Result<String> {
    walk(path, None)
}

/// Reads everything below `from`, and copies it into the folder `to`, if there is one. The digest.
fn walk(from: &Path, to: Option<&Path>) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The folder itself may be reached by a link: whoever runs the server has named it.
    let top = openat(CWD, from, flags, Mode::empty()).on("read", from)?;
    let mut walk = Walk {
        from,
        to,
        hash: Sha256::new(),
    };
    walk.folder(top, Path::new(""), 0)?;
    let digest = walk.hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Walk<'a> {
    from: &'a Path,
    to: Option<&'a Path>,
    hash: Sha256,
}

impl Walk<'_> {
    fn folder(&mut self, dir: OwnedFd, below: &Path, depth: usize) -> Result<()> {
        let shown = self.from.join(below);
        if depth > DEEPEST {
            return Err(self.refused(below, "deeper than any source"));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir).on("read", &shown)? {
            let name = entry.on("read", &shown)?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let bytes = name.to_bytes();
            let path = below.join(std::ffi::OsStr::from_bytes(bytes));
            let full = self.from.join(&path);
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).on("read", &full)?;
            let open = |flags: OFlags| {
                let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&dir, &name, flags, Mode::empty()).on("read", &full)
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if SKIPPED.iter().any(|skip| bytes == skip.as_bytes()) => {}
                FileType::Directory => {
                    self.note(b'd', &path);
                    if let Some(to) = self.to {
                        let to = to.join(&path);
                        fs::create_dir(&to).on("write", &to)?;
                    }
                    self.folder(open(OFlags::DIRECTORY)?, &path, depth + 1)?;
                }
                FileType::RegularFile => self.file(File::from(open(OFlags::NONBLOCK)?), &path)?,
                FileType::Symlink => {
                    let target = readlinkat(&dir, &name, Vec::new()).on("read", &full)?;
                    self.note(b'l', &path);
                    self.hash.update(target.to_bytes_with_nul());
                    if let Some(to) = self.to {
                        let to = to.join(&path);
                        let target = std::ffi::OsStr::from_bytes(target.to_bytes());
                        symlink(target, &to).on("write", &to)?;
                    }
                }
                _ => return Err(self.refused(&path, "no file, folder or link")),
            }
        }
        Ok(())
    }

    fn file(&mut self, mut source: File, path: &Path) -> Result<()> {
        let full = self.from.join(path);
        let meta = source.metadata().on("read", &full)?;
        if !meta.is_file() {
            return Err(self.refused(path, "no plain file"));
        }
        let runs = meta.mode() & 0o111 != 0;
        self.note(if runs { b'x' } else { b'f' }, path);
        self.hash.update(meta.len().to_le_bytes());
        let mut copy = match self.to {
            None => None,
            Some(to) => {
                let to = to.join(path);
                let mode = if runs { 0o755 } else { 0o644 };
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(mode).open(&to);
                let file = file.on("write", &to)?;
                let permissions = fs::Permissions::from_mode(mode);
                file.set_permissions(permissions).on("write", &to)?;
                Some((file, to))
            }
        };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = source.read(&mut buffer).on("read", &full)?;
            if count == 0 {
                return Ok(());
            }
            self.hash.update(&buffer[..count]);
            if let Some((file, to)) = &mut copy {
                file.write_all(&buffer[..count]).on("write", to)?;
            }
        }
    }

    fn note(&mut self, kind: u8, path: &Path) {
        self.hash.update([kind]);
        self.hash.update(path.as_os_str().as_bytes());
        self.hash.update([0]);
    }

    fn refused(&self, path: &Path, what: &str) -> LifecycleError {
        LifecycleError::Source {
            action: "take source from".to_owned(),
            repo: self.from.display().to_string(),
            why: format!("{} is {what}", path.display()),
            hint: "remove it, or deploy from version control".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_digest_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir_all(from.join(".git")).unwrap();
        fs::write(from.join(".git/config"), "x").unwrap();
        fs::write(from.join("a/b/file"), "1").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("a/b", from.join("link")).unwrap();
        symlink("/etc/passwd", from.join(".metactl")).unwrap();
        fs::create_dir(&to).unwrap();
        let first = digest(&from).unwrap();
        assert_eq!(walk(&from, Some(&to)).unwrap(), first);
        assert_eq!(digest(&to).unwrap(), first);
        assert!(!to.join(".git").exists());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/b"));
        let mode = fs::metadata(to.join("a/b/file")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(plain_file(&to, ".metactl").unwrap(), None);
        fs::write(from.join("a/b/file"), "2").unwrap();
        assert_ne!(digest(&from).unwrap(), first);
        rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = digest(&from).unwrap_err().to_string();
        assert!(error.contains("fifo is no file"), "{error}");
    }

    #[test]
    fn a_folder_that_changes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let folder = Folder::new(from.to_str().unwrap());
        let revision = folder.fetch("").unwrap();
        fs::write(from.join("late"), "x").unwrap();
        let error = folder.checkout(&revision, &to).unwrap_err().to_string();
        assert!(error.contains("changed meanwhile"), "{error}");
    }
}
