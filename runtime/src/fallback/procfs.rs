//! Descriptors as paths: `/proc/self/fd/<n>` is a magic link that leads to the very mount and inode
//! that the descriptor holds (proc(5)), so nothing can be exchanged behind such a path.
//!
//! That holds only as long as `/proc` is a procfs: `check` sees to it. Before `pivot_root` it is
//! the host's; nothing of a container is involved.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, statx};
use rustix::io::Errno;

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// `PROC_ROOT_INO`: the inode number of the root of every procfs.
const ROOT_INODE: u64 = 1;

/// The longest of our paths.
const LENGTH: usize = 40;

/// Whether something is on a procfs.
pub fn is_procfs(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}

/// Whether a directory is the root of a procfs.
pub fn is_root(dir: impl AsFd) -> Result<bool, Errno> {
    let dir = dir.as_fd();
    Ok(fstat(dir)?.st_ino == ROOT_INODE && is_procfs(dir)?)
}

/// Opens `/proc`, which must be the root of a procfs; ENODEV when it is anything else.
pub fn open() -> Result<OwnedFd, Errno> {
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = openat(CWD, c"/proc", hold, Mode::empty())?;
    if is_root(&proc)? {
        Ok(proc)
    } else {
        Err(Errno::NODEV)
    }
}

/// A path of procfs that ends in a number.
#[derive(Debug, Clone, Copy)]
pub struct ProcPath([u8; LENGTH]);

impl ProcPath {
    /// `/proc/self/fd/<fd>`: what the descriptor refers to.
    pub fn of(fd: BorrowedFd<'_>) -> ProcPath {
        ProcPath::join("/proc/self/fd/", fd.as_raw_fd().unsigned_abs(), "")
    }

    /// `start`, a number, `end`. The texts are ours and short.
    pub fn join(start: &str, number: u32, end: &str) -> ProcPath {
        let mut digits = [0u8; 10];
        let mut rest = number;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        let digits = digits.iter().skip(10 - count);
        let text = start.bytes().chain(digits.copied()).chain(end.bytes());
        let mut path = [0; LENGTH];
        // The last byte stays the terminating NUL.
        for (to, from) in path.iter_mut().take(LENGTH - 1).zip(text) {
            *to = from;
        }
        ProcPath(path)
    }

    /// As a system call takes it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// A number from a file of `name: number` lines, such as `/proc/self/fdinfo/<fd>`.
pub fn field(path: ProcPath, name: &[u8]) -> Result<u32, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(CWD, path.as_c_str(), flags, Mode::empty())?;
    let mut buffer = [0u8; 1024];
    let length = rustix::io::read(&file, &mut buffer)?;
    let text = buffer.get(..length).unwrap_or_default();
    let value = text.split(|&b| b == b'\n').find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(b":")?;
        number(value.trim_ascii())
    });
    value.ok_or(Errno::NOTSUP)
}

/// Decimal digits as a number.
pub fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The id of the mount that a descriptor is in, as mountinfo has it. EACCES on Linux before 5.8 for a
/// process that nobody may look into (`PR_SET_DUMPABLE`) in a user namespace: nor may it itself.
pub fn mount_id(fd: impl AsFd) -> Result<u32, Errno> {
    let fd = fd.as_fd();
    let (wanted, flags) = (
        StatxFlags::MNT_ID,
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
    );
    match statx(fd, c"", flags, wanted) {
        Ok(found) if found.stx_mask & wanted.bits() != 0 => {
            u32::try_from(found.stx_mnt_id).map_err(|_| Errno::OVERFLOW)
        }
        _ => field(info_of(fd), b"mnt_id"),
    }
}

fn info_of(fd: BorrowedFd<'_>) -> ProcPath {
    ProcPath::join("/proc/self/fdinfo/", fd.as_raw_fd().unsigned_abs(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_fields_of_descriptors() {
        for n in [0, 7, 10, 4_294_967_295] {
            let path = ProcPath::join("/proc/", n, "/ns/mnt");
            let want = format!("/proc/{n}/ns/mnt");
            assert_eq!(path.as_c_str().to_str().unwrap(), want);
        }
        let proc = open().unwrap();
        let same = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(mount_id(&proc), mount_id(&same));
        assert_eq!(mount_id(&proc), field(info_of(proc.as_fd()), b"mnt_id"));
        assert_ne!(mount_id(&proc), mount_id(std::fs::File::open("/").unwrap()));
        assert!(!is_root(same).unwrap());
    }
}
