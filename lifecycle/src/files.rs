//! Small files written whole or not at all, and directories that come and go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use metactl_bundles::paths::unfinished;
use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{LifecycleError, OnPath, Result};

mod tree;

pub(crate) use tree::{empty_dir, remove_tree};

/// No record of metactl's own is larger.
const MAX_RECORD: u64 = 16 << 20;
/// How large most of them are at most.
const RECORD: usize = 4096;

/// Replaces `path` by a file with these bytes: readers see the old file or the new one, whole, also
/// after a crash. Nothing stays behind when it fails.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    prepare(path, bytes, mode)?.commit()
}

/// A file that is written whole beside the one that it is going to replace.
#[derive(Debug)]
pub(crate) struct Prepared {
    temporary: PathBuf,
    path: PathBuf,
}

/// Writes the bytes beside `path`. What can fail for lack of space has succeeded then.
pub(crate) fn prepare(path: &Path, bytes: &[u8], mode: u32) -> Result<Prepared> {
    prepare_owned(path, bytes, mode, None)
}

/// The same, for a file that keeps its owner: uid and gid.
pub(crate) fn prepare_owned(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<Prepared> {
    let prepared = Prepared {
        // Each file has one writer at a time: it is written under a lock.
        temporary: unfinished(path),
        path: path.to_path_buf(),
    };
    let write = || -> io::Result<()> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(flags)
            .open(&prepared.temporary)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().on("write", path)?;
    Ok(prepared)
}

/// Removes what a crash left of a file that was being written.
pub(crate) fn forget_prepared(path: &Path) -> Result<()> {
    remove_file(&unfinished(path)).map(drop)
}

impl Prepared {
    /// Puts the file in its place.
    pub(crate) fn commit(self) -> Result<()> {
        fs::rename(&self.temporary, &self.path).on("write", &self.path)?;
        if let Some(dir) = self.path.parent() {
            sync_dir(dir)?;
        }
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // After a commit there is nothing of this name any more.
        let _gone = fs::remove_file(&self.temporary);
    }
}

/// Makes a rename or removal in a directory last.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .on("write", dir)
}

/// Replaces `path` by a record in JSON, mode 0600 unless more may read it.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .on("write", path)?;
    text.push(b'\n');
    replace(path, &text, mode)
}

/// Reads a record in JSON; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| LifecycleError::Record {
            path: path.to_path_buf(),
            why: error.to_string(),
        })
}

/// Reads a file of metactl's own, never through a symbolic link; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = open(path)?;
    file.map(|file| read_open(&file, path)).transpose()
}

/// Opens such a file for reading; `None` when there is none.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).on("read", path),
    }
}

/// Reads what was opened.
pub(crate) fn read_open(file: &File, path: &Path) -> Result<Vec<u8>> {
    // Records are small: one call reads one, and another sees its end.
    let mut text = Vec::with_capacity(RECORD);
    file.take(MAX_RECORD)
        .read_to_end(&mut text)
        .on("read", path)?;
    Ok(text)
}

/// Makes a directory and those above it; an existing one keeps its mode.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent()
        && !parent.is_dir()
    {
        make_dir(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).on("make", path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).on("make", path),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).on("remove", path),
    }
}

/// Removes a directory if it is there and empty.
pub(crate) fn remove_empty_dir(path: &Path) {
    // It is only tidying: a directory that is not empty is somebody's.
    let _kept = fs::remove_dir(path);
}

/// The paths in a directory, sorted; none when it is not there.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).on("read", dir),
    };
    let mut paths = Vec::new();
    for entry in list {
        paths.push(entry.on("read", dir)?.path());
    }
    // All are of one directory: their bytes are in the order that their names are in, and compared sooner than paths.
    paths.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    Ok(paths)
}

/// The names in a directory that begin with `prefix`, in no order; none when it is not there.
pub(crate) fn names(dir: &Path, prefix: &str) -> Result<Vec<String>> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).on("read", dir),
    };
    let mut names = Vec::new();
    for entry in list {
        let name = entry.on("read", dir)?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| name.starts_with(prefix))
                .map(str::to_owned),
        );
    }
    Ok(names)
}

/// The last component of a path as text; empty when it is none.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Now, in RFC 3339, UTC.
pub(crate) fn now() -> String {
    rfc3339(jiff::Timestamp::now())
}

/// A time in RFC 3339, UTC, to the millisecond.
pub(crate) fn rfc3339(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_file_is_committed_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"one", 0o600).unwrap();
        drop(prepare(&path, b"two", 0o600).unwrap());
        assert_eq!(read(&path).unwrap().unwrap(), b"one");
        prepare(&path, b"two", 0o644).unwrap().commit().unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(entries(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn links_are_not_read_through() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(read(&link).is_err());
        assert!(read(&dir.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn emptying_keeps_the_directory_and_what_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (tmp, other) = (dir.path().join("tmp"), dir.path().join("other"));
        make_dir(&tmp.join("a/b"), 0o755).unwrap();
        make_dir(&other, 0o755).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&other, tmp.join("link")).unwrap();
        empty_dir(&tmp).unwrap();
        assert!(tmp.is_dir() && entries(&tmp).unwrap().is_empty());
        assert!(other.join("kept").exists());
    }

    #[test]
    fn times_are_utc() {
        let time = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.000Z");
    }
}
