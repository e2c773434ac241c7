//! Copying what a build made, without what could do harm.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// Directories of the sandbox that a symbolic link of a release may lead to.
const SHOWN: &[&str] = &["app", "bin", "data", "lib", "lib64", "sbin", "tmp", "usr"];

/// Refuses what there is no room for before the disk is full. Files count with the size that they
/// show: copying fills the holes of a sparse one.
pub(super) fn check_room(output: &Path, to: &Path) -> Result<()> {
    let system = rustix::fs::statvfs(to).on("look at", to)?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let mut total: u64 = 0;
    let mut todo = vec![output.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for path in files::entries(&dir)? {
            let meta = fs::symlink_metadata(&path).on("read", &path)?;
            if meta.is_dir() && path != output.join(".git") {
                todo.push(path);
            } else if meta.is_file() {
                total = total.saturating_add(meta.len());
            }
        }
    }
    if total <= free {
        return Ok(());
    }
    Err(LifecycleError::Release {
        what: format!(
            "it has {} MiB, and only {} MiB are free at {}",
            total >> 20,
            free >> 20,
            to.display()
        ),
        hint: "make room there, or build less; a sparse file counts with its whole size".to_owned(),
    })
}

/// Copies a tree that nobody changes any more, without what could do harm.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    make_plain_dir(to)?;
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        for path in files::entries(&from.join(&below))? {
            let name = path.file_name().unwrap_or_default();
            let inner = below.join(name);
            // Sources are checked out without it; a build that made one is not asked why.
            if inner == Path::new(".git") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).on("read", &path)?;
            let target = to.join(&inner);
            let kind = meta.file_type();
            if kind.is_dir() {
                make_plain_dir(&target)?;
                todo.push(inner);
            } else if kind.is_file() {
                copy_file(&path, &target, meta.mode())?;
            } else if kind.is_symlink() {
                copy_link(&path, &inner, &target)?;
            } else {
                return Err(refused(
                    &inner,
                    what_is(&kind),
                    "the build command should not make it",
                ));
            }
        }
    }
    Ok(())
}

fn make_plain_dir(path: &Path) -> Result<()> {
    fs::create_dir(path).on("write", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).on("write", path)
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut source = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(from)
        .on("read", from)?;
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(to)
        .on("write", to)?;
    io::copy(&mut source, &mut target).on("write", to)?;
    target
        .set_permissions(fs::Permissions::from_mode(mode))
        .on("write", to)
}

fn copy_link(from: &Path, inner: &Path, to: &Path) -> Result<()> {
    let text = fs::read_link(from).on("read", from)?;
    if !link_is_harmless(inner, &text) {
        return Err(refused(
            inner,
            &format!(
                "a symbolic link to {}, which leads out of it",
                text.display()
            ),
            "links may stay inside, or lead to /usr, /app, /data or /tmp",
        ));
    }
    symlink(&text, to).on("write", to)
}

/// Whether a link at `inner` (relative to the release) stays in the release by its text, or names
/// a place that every sandbox shows. metactl itself never follows links of a release.
fn link_is_harmless(inner: &Path, text: &Path) -> bool {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    if text.is_absolute() {
        let mut first = text.components().skip(1);
        let shown = matches!(first.next(), Some(Component::Normal(name))
            if SHOWN.iter().any(|shown| name == *shown));
        return shown && !text.components().any(|part| part == Component::ParentDir);
    }
    if let Some(parent) = inner.parent() {
        parts.extend(parent.components().map(Component::as_os_str));
    }
    for part in text.components() {
        let inside = match part {
            Component::Normal(name) => {
                parts.push(name);
                true
            }
            Component::ParentDir => parts.pop().is_some(),
            _ => true,
        };
        if !inside {
            return false;
        }
    }
    true
}

fn what_is(kind: &fs::FileType) -> &'static str {
    if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn refused(inner: &Path, what: &str, hint: &str) -> LifecycleError {
    LifecycleError::Release {
        what: format!("{} is {what}", inner.display()),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_seen() {
        let harmless =
            |inner: &str, text: &str| link_is_harmless(Path::new(inner), Path::new(text));
        for (inner, text) in [
            ("a", "b"),
            ("a/b", "../c"),
            ("a/b/c", "../../x"),
            ("a", "/usr/bin/python3"),
            ("a", "/app/x"),
            ("a/b", "./c"),
        ] {
            assert!(harmless(inner, text), "{inner} -> {text}");
        }
        for (inner, text) in [
            ("a", ".."),
            ("a", "../x"),
            ("a/b", "../../x"),
            ("a", "/etc/shadow"),
            ("a", "/"),
            ("a", "/usr/../etc/shadow"),
            ("a", "b/../../../x"),
            ("a", "/proc/1/root"),
        ] {
            assert!(!harmless(inner, text), "{inner} -> {text}");
        }
    }
}
