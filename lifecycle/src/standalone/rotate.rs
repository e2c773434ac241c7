//! Logs that do not grow for ever.
//!
//! The application holds its log open and writes to its end, so the log is copied and then made
//! empty in place; lines that are written between the two are lost. `web.log` becomes `web.log.1`,
//! that becomes `web.log.2`, and so on; the oldest is removed.
//!
//! An application can rewrite its own log: what it writes to, it can also truncate, punch holes into
//! and make as large as a file can be. So a log is no evidence against its application, and no more
//! than the last [`MAX_SIZE`] bytes of one are ever copied.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{OnPath, Result};
use crate::files;

/// How large a log may grow, in bytes.
pub(crate) const MAX_SIZE: u64 = 10 << 20;
/// How many old ones are kept.
pub(crate) const KEEP: u32 = 3;

/// Rotates every log in a directory that is larger than `max` bytes.
pub(crate) fn rotate(dir: &Path, max: u64) -> Result<()> {
    for path in files::entries(dir)? {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let too_large = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() > max);
        if is_log && too_large && !files::name_of(&path).starts_with("build-") {
            rotate_one(&path)?;
        }
    }
    Ok(())
}

fn rotate_one(log: &Path) -> Result<()> {
    for number in (1..KEEP).rev() {
        let (from, to) = (numbered(log, number), numbered(log, number + 1));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).on("rename", &from);
            }
            _ => {}
        }
    }
    let first = numbered(log, 1);
    let copied = copy_end(log, &first).on("write", &first);
    if copied.is_err() {
        // No room for a copy: then what is newest matters more than what is old.
        files::remove_file(&first)?;
    }
    OpenOptions::new()
        .write(true)
        .open(log)
        .and_then(|file| file.set_len(0))
        .on("empty", log)?;
    copied.map(drop)
}

/// Copies the last bytes of a log.
fn copy_end(log: &Path, to: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut from = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(log)?;
    let meta = from.metadata()?;
    from.seek(SeekFrom::Start(meta.len().saturating_sub(MAX_SIZE)))?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(flags)
        .mode(meta.mode() & 0o777)
        .open(to)?;
    if crate::access::shared::group().is_some_and(|group| meta.gid() == group.as_raw()) {
        std::os::unix::fs::fchown(&copy, None, Some(meta.gid()))?;
    }
    io::copy(&mut from.take(MAX_SIZE), &mut copy).map(drop)
}

/// `web.log.2`
fn numbered(log: &Path, number: u32) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::launcher::append;

    #[test]
    fn the_newest_are_kept_and_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        let mut writer = append(&log).unwrap();
        for round in 0..5 {
            writeln!(writer, "round {round} {}", "x".repeat(100)).unwrap();
            rotate(dir.path(), 50).unwrap();
        }
        writeln!(writer, "last").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "last\n");
        for number in 1..=KEEP {
            let text = fs::read_to_string(numbered(&log, number)).unwrap();
            assert!(text.starts_with(&format!("round {}", 5 - number)), "{text}");
        }
        assert_eq!(files::entries(dir.path()).unwrap().len(), 4);
        rotate(dir.path(), 50).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "last\n");
    }

    #[test]
    fn no_more_than_the_end_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        let mut writer = append(&log).unwrap();
        writer.set_len(40 << 30).unwrap();
        writeln!(writer, "the end").unwrap();
        rotate(dir.path(), MAX_SIZE).unwrap();
        let copy = fs::read(numbered(&log, 1)).unwrap();
        assert_eq!(u64::try_from(copy.len()).unwrap(), MAX_SIZE);
        assert!(copy.ends_with(b"the end\n"));
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    }
}
