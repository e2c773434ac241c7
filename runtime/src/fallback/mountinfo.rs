//! `/proc/self/mountinfo` (proc(5)), line by line, without allocating.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::fallback::procfs;

/// A line is at most some paths of PATH_MAX with every byte escaped, and options.
const MAX_LINE: usize = 40_960;

/// A mount of the calling process's namespace.
pub struct Mount<'b> {
    /// Its id.
    pub id: u32,
    /// The id of the mount that it is on.
    pub parent: u32,
    /// Where it is, with special characters as `\ooo`.
    pub place: &'b [u8],
}

/// The mounts, one after the other.
pub struct Mounts {
    file: OwnedFd,
    buffer: [u8; MAX_LINE],
    start: usize,
    end: usize,
}

impl Mounts {
    /// From the beginning.
    pub fn read() -> Result<Mounts, Errno> {
        procfs::open()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Mounts {
            file: openat(CWD, c"/proc/self/mountinfo", flags, Mode::empty())?,
            buffer: [0; MAX_LINE],
            start: 0,
            end: 0,
        })
    }

    /// The next mount.
    pub fn next(&mut self) -> Result<Option<Mount<'_>>, Errno> {
        let length = loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            if let Some(length) = unread.iter().position(|&b| b == b'\n') {
                break length;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            if room.is_empty() {
                return Err(Errno::OVERFLOW);
            }
            match rustix::io::read(&self.file, room) {
                Ok(0) if self.end == 0 => return Ok(None),
                Ok(0) => return Err(Errno::BADMSG),
                Ok(n) => self.end += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        };
        let line = self.buffer.get(self.start..self.start + length);
        self.start += length + 1;
        parse(line.unwrap_or_default())
            .ok_or(Errno::BADMSG)
            .map(Some)
    }

    /// The mount with this id.
    pub fn find(id: u32) -> Result<Option<u32>, Errno> {
        let mut mounts = Mounts::read()?;
        while let Some(mount) = mounts.next()? {
            if mount.id == id {
                return Ok(Some(mount.parent));
            }
        }
        Ok(None)
    }
}

fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|&b| b == b' ');
    Some(Mount {
        id: procfs::number(fields.next()?)?,
        parent: procfs::number(fields.next()?)?,
        place: fields.nth(2)?,
    })
}

/// Undoes the `\ooo` of a field; the text, with a NUL behind it, is in `buffer`.
pub fn unescape<'b>(field: &[u8], buffer: &'b mut [u8; 4096]) -> Option<&'b [u8]> {
    let mut bytes = field.iter().copied();
    let mut length = 0;
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'\\' {
            let mut value = 0u8;
            for digit in bytes.by_ref().take(3) {
                let digit = digit.checked_sub(b'0').filter(|d| *d < 8)?;
                value = value.checked_mul(8)?.checked_add(digit)?;
            }
            value
        } else {
            byte
        };
        *buffer.get_mut(length)? = byte;
        length += 1;
    }
    *buffer.get_mut(length)? = 0;
    buffer.get(..=length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        let mut buffer = [1; 4096];
        assert_eq!(unescape(mount.place, &mut buffer), Some(&b"/mnt 2\0"[..]));
        assert_eq!(unescape(br"/a\9", &mut buffer), None);
        assert_eq!(unescape(&[b'x'; 4096], &mut buffer), None);
        assert!(parse(b"36 x").is_none());
    }

    #[test]
    fn all_mounts_are_seen() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts = Mounts::read().unwrap();
        let mut count = 0;
        while let Some(mount) = mounts.next().unwrap() {
            assert!(!mount.place.is_empty());
            count += 1;
        }
        assert_eq!(count, text.lines().count());
    }
}
