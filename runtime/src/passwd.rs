//! The home directory of a user, from the `/etc/passwd` of a container: what the program finds in
//! `HOME` when the configuration does not say.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, fstat};

use crate::rootfs;

/// The longest part of the file that is read: it is the container's.
const MOST: u64 = 1 << 20;

/// The home of `uid` in the root `root`; `/` for a user that is not there.
pub fn home(root: &OwnedFd, uid: u32) -> String {
    let found = open(root).and_then(|file| {
        let lines = BufReader::new(file.take(MOST)).lines();
        lines
            .map_while(Result::ok)
            .find_map(|line| home_in(&line, uid))
    });
    found.unwrap_or_else(|| "/".to_owned())
}

/// Never through a link that leads out, and nothing that could make the reader wait.
fn open(root: &OwnedFd) -> Option<File> {
    let held = rootfs::open_in(root.as_fd(), c"/etc/passwd", false).ok()?;
    let kind = FileType::from_raw_mode(fstat(&held).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    // That very file: opening a device can have effects.
    File::open(format!("/proc/self/fd/{}", held.as_raw_fd())).ok()
}

/// passwd(5): name, password, uid, gid, comment, home, shell.
fn home_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':');
    let own = fields.nth(2)?.parse::<u32>().ok()? == uid;
    let home = fields.nth(2)?;
    (own && home.starts_with('/') && !home.contains('\0')).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_number() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = dir.path().join("etc/passwd");
        std::fs::write(
            &passwd,
            "root:x:0:0::/root:/bin/sh\nbad:x:7\nme:x:1000:1::/home/me:/x\n",
        )
        .unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        assert_eq!(home(&root, 0), "/root");
        assert_eq!(home(&root, 1000), "/home/me");
        assert_eq!(home(&root, 7), "/");
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, 0o644.into(), 0).unwrap();
        assert_eq!(home(&root, 0), "/");
    }
}
