//! The mount API of Linux 5.2 by mount(2), with source and target given as descriptors
//! ([`ProcPath`]), so that nothing is looked up twice here either.
//!
//! mount(2) knows no detached mounts. What shall be one is mounted on a *workbench*, a place below
//! `/proc` that always exists, is held by a descriptor, and moved from there to its target. The
//! workbench is in the mount namespace of the new process, or of a helper (`launch::trees`): never,
//! unless the container has no other, in that of the host. It hides something only in between, and
//! goes with the old root.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_move,
};

use crate::fallback::attributes;
use crate::fallback::procfs::{self, ProcPath};
use crate::report::{At, Detail, Fault, Part};
use crate::sys::MountAttr;

/// Where directories are mounted to be moved away.
const DIRECTORY: &CStr = c"/proc/driver";

/// Where files are.
const FILE: &CStr = c"/proc/version";

/// Both.
pub const WORKBENCH: [&CStr; 2] = [DIRECTORY, FILE];

/// The kernel takes at most a page of parameters (mount(2)).
const MAX_DATA: usize = 4096;

/// Parameters that are flags of mount(2): `(word, to set, to clear)`.
const FLAG_WORDS: [(&CStr, MountFlags, MountFlags); 9] = [
    (c"ro", MountFlags::RDONLY, MountFlags::empty()),
    (c"rw", MountFlags::empty(), MountFlags::RDONLY),
    (c"sync", MountFlags::SYNCHRONOUS, MountFlags::empty()),
    (c"async", MountFlags::empty(), MountFlags::SYNCHRONOUS),
    (c"dirsync", MountFlags::DIRSYNC, MountFlags::empty()),
    (c"lazytime", MountFlags::LAZYTIME, MountFlags::empty()),
    (c"nolazytime", MountFlags::empty(), MountFlags::LAZYTIME),
    (
        c"mand",
        MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
        MountFlags::empty(),
    ),
    (
        c"nomand",
        MountFlags::empty(),
        MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
    ),
];

/// open_tree(2) with `OPEN_TREE_CLONE`: of the mount that `source` is in, from there down.
pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let bench = Workbench::for_file(source)?;
    let from = ProcPath::of(source);
    if recursive {
        mount_bind_recursive(from.as_c_str(), bench.0)?;
    } else {
        mount_bind(from.as_c_str(), bench.0)?;
    }
    bench.hold()
}

/// open_tree(2) of a path of the host.
pub fn clone_host(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let source = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    clone_tree(source.as_fd(), recursive)
}

/// move_mount(2): `tree` is the root of a mount.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    procfs::open()?;
    mount_move(
        ProcPath::of(tree).as_c_str(),
        ProcPath::of(target).as_c_str(),
    )
}

/// Puts a detached mount on the workbench: mount(2) changes nothing of a mount that is nowhere.
/// `by` is how it is moved.
pub fn settle(
    tree: impl AsFd,
    by: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let bench = Workbench::for_file(tree)?;
    by(&bench.hold()?)
}

/// fsopen(2), fsconfig(2) and fsmount(2).
pub fn new_filesystem<'p>(
    fstype: &CStr,
    parameters: impl Iterator<Item = (&'p CStr, Option<&'p CStr>)>,
    attributes: u64,
) -> Result<OwnedFd, Fault> {
    let mut data = Data::new();
    let mut source = c"none";
    let mut flags = attributes::flags_of(attributes) & !MountFlags::RDONLY;
    for (key, value) in parameters {
        let word = FLAG_WORDS.iter().find(|(word, ..)| *word == key);
        match (word, value) {
            (Some((_, set, clear)), None) => flags = (flags & !*clear) | *set,
            (_, Some(value)) if key == c"source" => source = value,
            _ => data.push(key, value).map_err(|errno| Fault {
                errno,
                part: Part::Parameter,
                detail: Detail::new(key.to_bytes()),
            })?,
        }
    }
    let bench = Workbench::prepare(DIRECTORY).at(Part::Filesystem)?;
    mount(source, bench.0, fstype, flags, data.text()).map_err(|errno| {
        // The kernel does not say which; most likely it is one of these.
        let text = data.text().filter(|_| errno == Errno::INVAL);
        Fault {
            errno,
            part: text.map_or(Part::Filesystem, |_| Part::Parameter),
            detail: text.map_or(Detail::NONE, |text| Detail::new(text.to_bytes())),
        }
    })?;
    let made = bench.hold().at(Part::Filesystem)?;
    // As a flag of mount(2) it would be one of the file system, which other mounts may share.
    let read_only = attributes & libc::MOUNT_ATTR_RDONLY;
    if read_only != 0 {
        let attr = MountAttr {
            set: read_only,
            ..MountAttr::default()
        };
        attributes::remount(&made, &attr).at(Part::Attributes)?;
    }
    // Linux before 5.10 ignores the flag.
    let no_links = attributes & libc::MOUNT_ATTR_NOSYMFOLLOW != 0;
    if no_links && !attributes::follows_no_links(&made).at(Part::Attributes)? {
        return Err(Errno::NOSYS).at(Part::Attributes);
    }
    Ok(made)
}

/// A place on which to mount what will be moved.
struct Workbench(&'static CStr);

impl Workbench {
    /// The one that suits `file`: only like can be mounted on like.
    fn for_file(file: impl AsFd) -> Result<Workbench, Errno> {
        let mode = fstat(file)?.st_mode;
        Workbench::prepare(match FileType::from_raw_mode(mode) {
            FileType::Directory => DIRECTORY,
            _ => FILE,
        })
    }

    fn prepare(place: &'static CStr) -> Result<Workbench, Errno> {
        static PREPARED: AtomicBool = AtomicBool::new(false);
        if !PREPARED.load(Ordering::Relaxed) {
            let proc = procfs::open()?;
            // Nothing can be moved out of a shared mount, and what is mounted here concerns nobody.
            mount_change(
                ProcPath::of(proc.as_fd()).as_c_str(),
                MountPropagationFlags::PRIVATE,
            )?;
            PREPARED.store(true, Ordering::Relaxed);
        }
        Ok(Workbench(place))
    }

    /// A descriptor of the topmost mount on it.
    fn hold(&self) -> Result<OwnedFd, Errno> {
        let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, self.0, hold, Mode::empty())
    }
}

/// Parameters in the form that mount(2) takes: `key=value,key`.
struct Data {
    buffer: [u8; MAX_DATA],
    length: usize,
}

impl Data {
    fn new() -> Data {
        Data {
            buffer: [0; MAX_DATA],
            length: 0,
        }
    }

    /// EINVAL for what could not be told from two parameters.
    fn push(&mut self, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
        let (key, value) = (key.to_bytes(), value.map(CStr::to_bytes));
        let comma = |text: &[u8]| text.contains(&b',');
        let quoted = value.is_some_and(comma);
        // Only the labels of SELinux have a form for it.
        let may_be_quoted = key.ends_with(b"context") && !value.is_some_and(|v| v.contains(&b'"'));
        if comma(key) || (quoted && !may_be_quoted) {
            return Err(Errno::INVAL);
        }
        if self.length > 0 {
            self.append(b",")?;
        }
        self.append(key)?;
        if let Some(value) = value {
            let quote: &[u8] = if quoted { b"\"" } else { b"" };
            for part in [b"=", quote, value, quote] {
                self.append(part)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, text: &[u8]) -> Result<(), Errno> {
        let end = self.length + text.len();
        // The last byte stays the terminating NUL.
        if end >= MAX_DATA {
            return Err(Errno::TOOBIG);
        }
        let room = self.buffer.get_mut(self.length..end);
        room.ok_or(Errno::TOOBIG)?.copy_from_slice(text);
        self.length = end;
        Ok(())
    }

    fn text(&self) -> Option<&CStr> {
        let text = CStr::from_bytes_until_nul(&self.buffer).unwrap_or_default();
        (self.length > 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(parameters: &[(&CStr, Option<&CStr>)]) -> Result<String, Errno> {
        let mut data = Data::new();
        for (key, value) in parameters {
            data.push(key, *value)?;
        }
        Ok(data
            .text()
            .map_or_else(String::new, |t| t.to_str().unwrap().to_owned()))
    }

    #[test]
    fn parameters_cannot_become_two() {
        assert_eq!(data(&[]), Ok(String::new()));
        let two = [(c"mode", Some(c"755")), (c"newinstance", None)];
        assert_eq!(data(&two), Ok("mode=755,newinstance".into()));
        assert_eq!(
            data(&[(c"lowerdir", Some(c"a,upperdir=b"))]),
            Err(Errno::INVAL)
        );
        assert_eq!(data(&[(c"a,b", None)]), Err(Errno::INVAL));
        let label = [(c"context", Some(c"u:r:t:s0:c1,c2"))];
        assert_eq!(data(&label), Ok("context=\"u:r:t:s0:c1,c2\"".into()));
        let broken = [(c"context", Some(c"a\",b"))];
        assert_eq!(data(&broken), Err(Errno::INVAL));
        let long = std::ffi::CString::new(vec![b'x'; MAX_DATA]).unwrap();
        assert_eq!(data(&[(c"k", Some(&long))]), Err(Errno::TOOBIG));
    }
}
