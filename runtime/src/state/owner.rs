//! Whose the records of containers are: things are removed and killed as they say.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{StateError, io_error};

/// Fails when neither this user nor root has made a file: it says what is to be removed, and who is to be killed.
pub(super) fn own(path: &Path, file: &File) -> Result<(), StateError> {
    let found = file
        .metadata()
        .map_err(|source| io_error(path, "look at", source))?;
    belongs_here(path, &found)
}

fn belongs_here(path: &Path, found: &fs::Metadata) -> Result<(), StateError> {
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(StateError::Foreign {
            path: path.to_owned(),
            owner,
        });
    }
    Ok(())
}

/// Fails when somebody else could put directories of their own in the place of those of containers.
pub(super) fn check_root(root: &Path) -> Result<(), StateError> {
    let found = match fs::metadata(root) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error(root, "look at", source)),
    };
    belongs_here(root, &found)?;
    // Where the sticky bit is set, everybody keeps what is theirs.
    if found.mode() & 0o1002 == 0o002 {
        return Err(StateError::Open {
            path: root.to_owned(),
        });
    }
    Ok(())
}
