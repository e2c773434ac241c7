//! What members of the group `metactl` may read: logs and what runs. Never configuration, bundles or data.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::sync::OnceLock;

use nix::unistd::{Gid, Group};
use rustix::fs::OFlags;

use crate::error::{OnPath, Result};

/// The group; packages make it.
pub(crate) const GROUP: &str = "metactl";

/// Its number, where there is such a group.
pub(crate) fn group() -> Option<Gid> {
    static FOUND: OnceLock<Option<Gid>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let group = Group::from_name(GROUP).ok().flatten();
        group.map(|group| group.gid)
    })
}

/// Lets the group read what was opened, and nobody else: mode 0640, or 0750 for a directory. Only root can give
/// something away, and only what is root's: a file of somebody else is left alone.
pub(crate) fn share(file: &File, path: &Path) -> Result<()> {
    let Some(group) = group().filter(|_| nix::unistd::geteuid().is_root()) else {
        return Ok(());
    };
    let meta = file.metadata().on("look at", path)?;
    let mode = if meta.is_dir() { 0o750 } else { 0o640 };
    if meta.uid() != 0 || (meta.gid(), meta.mode() & 0o7777) == (group.as_raw(), mode) {
        return Ok(());
    }
    fchown(file, None, Some(group.as_raw())).on("give to the group metactl", path)?;
    let permissions = fs::Permissions::from_mode(mode);
    file.set_permissions(permissions)
        .on("give to the group metactl", path)
}

/// The same for a directory, never through a link.
pub(crate) fn share_dir(path: &Path) -> Result<()> {
    share_by_name(path, OFlags::DIRECTORY)
}

/// The same for a file.
pub(crate) fn share_file(path: &Path) -> Result<()> {
    share_by_name(path, OFlags::NONBLOCK)
}

fn share_by_name(path: &Path, flags: OFlags) -> Result<()> {
    if group().is_none() {
        return Ok(());
    }
    let flags = (OFlags::NOFOLLOW | flags).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .on("open", path)?;
    share(&file, path)
}
