//! Putting a bundle on disk, whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink,
};
use std::path::{Path, PathBuf};

use super::BundleError;
use super::items::{Composition, Item, Mutable};

/// What a folder is called until it is complete. The number is that of the process.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its digest.
    pub digest: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// Writes a bundle to `<state_dir>/bundles/<digest>`, and makes the folders beside it that the
/// instance needs (`data`, `tmp/<entry>`, `etc/hosts`) where they are missing.
///
/// The folder gets its name when everything is in it and on the disk. When the digest is there
/// already, nothing is written. Callers hold the lock of the instance.
///
/// # Errors
/// A step on disk that failed, a full disk for example. Nothing that this call made is left then.
pub fn write(composition: &Composition, state_dir: &Path) -> Result<Written, BundleError> {
    let mut made = Made::default();
    match write_all(composition, state_dir, &mut made) {
        Ok(written) => Ok(written),
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

/// Writes a copy without secrets into the folder `out`, which must not exist.
///
/// # Errors
/// As [`write()`].
pub fn write_redacted(composition: &Composition, out: &Path) -> Result<(), BundleError> {
    let mut made = Made::default();
    let copy = composition.redacted();
    let result = make_dir(out, 0o700, &mut made)
        .and_then(|()| write_items(&copy, out))
        .and_then(|()| sync(&copy, out));
    if result.is_err() {
        made.undo_tree(out);
    }
    result
}

fn write_all(
    composition: &Composition,
    state_dir: &Path,
    made: &mut Made,
) -> Result<Written, BundleError> {
    let digest = composition.digest();
    let bundles = state_dir.join("bundles");
    let dir = bundles.join(&digest);
    ensure_dir(state_dir, 0o755, made)?;
    ensure_dir(&bundles, 0o700, made)?;
    remove_unfinished(&bundles)?;
    let is_new = !dir.join(super::manifest::FILE).exists();
    if is_new {
        let unfinished = bundles.join(format!("{UNFINISHED}{}", std::process::id()));
        make_dir(&unfinished, 0o700, made)?;
        made.trees.push(unfinished.clone());
        write_items(composition, &unfinished)?;
        sync(composition, &unfinished)?;
        fs::rename(&unfinished, &dir).map_err(BundleError::io("write", &dir))?;
        made.trees.push(dir.clone());
        sync_path(&bundles)?;
    }
    write_mutable(&composition.mutable, made)?;
    Ok(Written {
        digest,
        dir,
        is_new,
    })
}

/// What a call made, to take it away again when a later step fails.
#[derive(Default)]
struct Made {
    /// Folders, removed only when empty.
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Folders with everything in them.
    trees: Vec<PathBuf>,
}

impl Made {
    /// Best effort: the error that led here is the one to report, and what cannot be removed now
    /// is removed by the next call (unfinished folders) or is empty.
    fn undo(&self) {
        for tree in self.trees.iter().rev() {
            self.undo_tree(tree);
        }
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
        for dir in self.dirs.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }

    fn undo_tree(&self, tree: &Path) {
        if self.dirs.iter().chain(&self.trees).any(|made| made == tree) {
            let _ = fs::remove_dir_all(tree);
        }
    }
}

fn write_items(composition: &Composition, dir: &Path) -> Result<(), BundleError> {
    for (path, item) in &composition.items {
        let path = dir.join(path);
        let result = match item {
            Item::Directory { mode } => create_dir(&path, *mode),
            Item::File { mode, text } => create_file(&path, *mode, text).map(drop),
            Item::Link { target } => symlink(target, &path),
        };
        result.map_err(BundleError::io("write", &path))?;
    }
    Ok(())
}

/// Brings everything to the disk. Files first and all of them after all were written: a journaling
/// file system then commits once, not once for each.
fn sync(composition: &Composition, dir: &Path) -> Result<(), BundleError> {
    let is_link = |item: &Item| matches!(item, Item::Link { .. });
    for (path, _) in composition
        .items
        .iter()
        .rev()
        .filter(|(_, item)| !is_link(item))
    {
        sync_path(&dir.join(path))?;
    }
    sync_path(dir)
}

fn sync_path(path: &Path) -> Result<(), BundleError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(BundleError::io("write", path))
}

/// A folder with exactly this mode, whatever the umask.
fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// A file with exactly this mode, whatever the umask.
fn create_file(path: &Path, mode: u32, text: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn make_dir(path: &Path, mode: u32, made: &mut Made) -> Result<(), BundleError> {
    create_dir(path, mode).map_err(BundleError::io("make", path))?;
    made.dirs.push(path.to_path_buf());
    Ok(())
}

/// A folder, with what is above it.
fn ensure_dir(path: &Path, mode: u32, made: &mut Made) -> Result<(), BundleError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        ensure_dir(above, 0o755, made)?;
    }
    make_dir(path, mode, made)
}

/// Removes what a process that died in the middle left.
fn remove_unfinished(bundles: &Path) -> Result<(), BundleError> {
    let entries = fs::read_dir(bundles).map_err(BundleError::io("read", bundles))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)) else {
            continue;
        };
        let alive = pid
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        let own = pid == std::process::id().to_string();
        if own || !alive {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(BundleError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// `data`, `tmp/<entry>` and `etc/hosts`.
fn write_mutable(mutable: &Mutable, made: &mut Made) -> Result<(), BundleError> {
    ensure_dir(&mutable.data, 0o750, made)?;
    own_data(mutable)?;
    for tmp in &mutable.tmp {
        if let Some(above) = tmp.parent() {
            ensure_dir(above, 0o700, made)?;
        }
        ensure_dir(tmp, 0o1777, made)?;
    }
    if let Some(notify) = &mutable.notify {
        if let Some(above) = notify.parent() {
            ensure_dir(above, 0o755, made)?;
        }
        ensure_dir(notify, 0o755, made)?;
    }
    if mutable.hosts.exists() {
        return Ok(());
    }
    if let Some(above) = mutable.hosts.parent() {
        ensure_dir(above, 0o755, made)?;
    }
    let unfinished = mutable.hosts.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BundleError::io("remove", &unfinished)(error));
        }
        _ => made.files.push(unfinished.clone()),
    }
    create_file(&unfinished, 0o644, &mutable.hosts_text)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &mutable.hosts))
        .map_err(BundleError::io("write", &mutable.hosts))?;
    made.files.push(mutable.hosts.clone());
    Ok(())
}

/// Gives `data/` to the instance. Data that somebody else owns are not given away.
fn own_data(mutable: &Mutable) -> Result<(), BundleError> {
    let path = &mutable.data;
    let read = BundleError::io("read", path);
    let found = match fs::metadata(path) {
        Ok(meta) => meta.uid(),
        Err(error) => return Err(read(error)),
    };
    if found == mutable.uid {
        return Ok(());
    }
    let is_empty = fs::read_dir(path).map_err(read)?.next().is_none();
    if !is_empty {
        return Err(BundleError::Owner {
            path: path.clone(),
            found,
            wanted: mutable.uid,
        });
    }
    chown(path, Some(mutable.uid), Some(mutable.gid)).map_err(BundleError::io("chown", path))
}
