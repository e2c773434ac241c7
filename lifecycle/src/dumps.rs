//! Heap dumps of JVMs, in the data of an instance.
//!
//! A JVM writes its heap to one name and writes none when the file is there, so a dump gets a name
//! of its own when its JVM has ended: `heapdump-web.hprof` becomes
//! `heapdump-web-20261126T013133Z.hprof`. They are as large as a heap, so only the newest are kept.
//!
//! The data are the application's to change: everything here goes by the descriptor of the directory,
//! follows no link, and touches nothing but regular files of these names.

use std::os::fd::OwnedFd;
use std::path::Path;

use metactl_bundles::platforms::jvm;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{OnPath, Result};
use crate::files;

/// How many dumps of an entry point are kept.
pub(crate) const KEEP: usize = 2;

/// Gives the dump that an entry point left a name of its own, and removes old ones. Its name, if
/// there was one.
pub(crate) fn keep(data: &Path, entry: &str) -> Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match fs::open(data, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).on("open", data),
    };
    let name = jvm::heap_dump(entry);
    if !is_file(&dir, &name) {
        return Ok(None);
    }
    let stem = name.trim_end_matches(SUFFIX);
    let stamp: String = files::now()
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    let kept = format!("{stem}-{}{SUFFIX}", whole_seconds(&stamp));
    match fs::renameat_with(&dir, &*name, &dir, &*kept, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Two within a second: the first one stays.
        Err(Errno::EXIST) => fs::unlinkat(&dir, &*name, AtFlags::empty()).on("remove", data)?,
        Err(error) => return Err(error).on("rename a heap dump in", data),
    }
    let mut dumps = dumps_of(&dir, stem).on("read", data)?;
    dumps.sort_unstable();
    for old in dumps.iter().rev().skip(KEEP) {
        fs::unlinkat(&dir, old.as_str(), AtFlags::empty())
            .on("remove an old heap dump in", data)?;
    }
    Ok(Some(kept))
}

const SUFFIX: &str = ".hprof";

/// `20261126T013133Z`, whatever is behind the seconds.
fn whole_seconds(stamp: &str) -> String {
    let digits: String = stamp.chars().take(15).collect();
    format!("{digits}Z")
}

fn is_file(dir: &OwnedFd, name: &str) -> bool {
    fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// The dumps of one entry point that have a name of their own: `<stem>-<time>.hprof`.
fn dumps_of(dir: &OwnedFd, stem: &str) -> rustix::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let Ok(name) = String::from_utf8(entry?.file_name().to_bytes().to_vec()) else {
            continue;
        };
        let time = name
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(SUFFIX));
        // `web` has none of the dumps of `web-2`.
        let is_time = |time: &str| {
            time.len() == 16
                && time.bytes().enumerate().all(|(at, byte)| match at {
                    8 => byte == b'T',
                    15 => byte == b'Z',
                    _ => byte.is_ascii_digit(),
                })
        };
        if time.is_some_and(is_time) && is_file(dir, &name) {
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let paths = files::entries(dir).unwrap();
        let mut names: Vec<String> = paths.iter().map(|p| files::name_of(p).to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_dump_gets_a_name_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        assert_eq!(keep(dir.path(), "web").unwrap(), None);
        write("heapdump-web-20200101T000000Z.hprof");
        write("heapdump-web-20210101T000000Z.hprof");
        write("heapdump-web-2-20200101T000000Z.hprof");
        write("heapdump-web-mine.hprof");
        write("heapdump-web.hprof");
        let kept = keep(dir.path(), "web").unwrap().unwrap();
        assert_eq!(
            names(dir.path()),
            [
                "heapdump-web-2-20200101T000000Z.hprof",
                "heapdump-web-20210101T000000Z.hprof",
                &kept,
                "heapdump-web-mine.hprof",
            ]
        );
        assert_eq!(keep(dir.path(), "web").unwrap(), None);
        assert_eq!(keep(&dir.path().join("none"), "web").unwrap(), None);
    }

    #[test]
    fn links_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", data.join("heapdump-web.hprof")).unwrap();
        assert_eq!(keep(&data, "web").unwrap(), None);
        std::os::unix::fs::symlink("data", dir.path().join("link")).unwrap();
        assert!(keep(&dir.path().join("link"), "web").is_err());
        assert!(dir.path().join("secret").exists());
    }
}
