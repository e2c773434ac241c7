//! Everything inside the root, by descriptor.
//!
//! What is in a rootfs belongs to somebody who may want out, and a container that shares a
//! directory with this one may change it at any moment. So a path inside is never joined to
//! another and given to the kernel twice. It is resolved once, by the kernel, with the root as its
//! `/` (openat2(2), `RESOLVE_IN_ROOT`: CVE-2021-30465), never through magic links of procfs, and
//! from then on only the descriptor is used: to make things in it (mkdirat(2), mknodat(2): CVE-2024-45310)
//! and to mount on it (move_mount(2)).
//!
//! Runs in the new process: nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, makedev, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::compile::Device;
use crate::fallback::{self, Missing};
use crate::plan::attributes::Attributes;
use crate::plan::devices::DeviceKind;
use crate::report::{At, Detail, Fault, Part};
use crate::sys::{self, MountAttr};

/// How often a resolution that raced with a rename is tried again (openat2(2), EAGAIN).
const MAX_RACES: usize = 64;

// What this kernel turned out not to have, see `fallback`.
static OPENAT2: Missing = Missing::unknown();
static OPEN_TREE: Missing = Missing::unknown();
static MOVE_MOUNT: Missing = Missing::unknown();
static FSOPEN: Missing = Missing::unknown();
static MOUNT_SETATTR: Missing = Missing::unknown();

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

/// Opens a path inside the root, to hold on to it (`O_PATH`). With `strict` no component may be a
/// symlink; without, symlinks lead where they lead inside.
pub fn open_in(root: BorrowedFd<'_>, path: &CStr, strict: bool) -> Result<OwnedFd, Errno> {
    resolve(root, path, OFlags::PATH | OFlags::CLOEXEC, strict)
}

/// Opens a path inside the root with `flags`.
pub fn resolve(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    strict: bool,
) -> Result<OwnedFd, Errno> {
    let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if strict {
        how |= ResolveFlags::NO_SYMLINKS;
    }
    for _ in 0..MAX_RACES {
        let opened = OPENAT2.attempt(
            || openat2(root, path, flags, Mode::empty(), how),
            || fallback::resolve::in_root(root, path, flags, strict),
        );
        match opened {
            // A rename or mount somewhere made `..` uncertain, or a signal came.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path below `dir`, the root of a mount, without symlinks and without leaving that mount.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS;
    OPENAT2.attempt(
        || openat2(dir, path, flags, Mode::empty(), how),
        || fallback::resolve::beneath(dir, path, flags),
    )
}

/// Opens a mount point inside the root; makes it, and the directories above it, when it is missing.
pub fn ensure(
    root: BorrowedFd<'_>,
    path: &CStr,
    want: Want,
    strict: bool,
) -> Result<OwnedFd, Fault> {
    match open_in(root, path, strict) {
        Err(Errno::NOENT) => {
            if want == Want::Directory
                && let Some(made) = make_last(root, path, strict)
            {
                return Ok(made);
            }
            // A symlink may lead to where nothing is yet; what is missing is made at its end.
            fallback::resolve::making(root, path, strict, |parent, name, last| {
                make(parent, name, if last { want } else { Want::Directory })
            })
            .at(Part::Create)
        }
        result => result.at(Part::Target),
    }
}

/// What is mostly missing: a directory, in one that is there. `None` where anything is otherwise; then nothing but
/// this directory may have been made.
fn make_last(root: BorrowedFd<'_>, path: &CStr, strict: bool) -> Option<OwnedFd> {
    let text = path.to_bytes();
    let slash = text.iter().rposition(|byte| *byte == b'/')?;
    let name = CStr::from_bytes_with_nul(path.to_bytes_with_nul().get(slash + 1..)?).ok()?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return None;
    }
    let mut room = [0u8; 256];
    let parent = text.get(..slash).filter(|parent| !parent.is_empty())?;
    // The last byte stays zero.
    room.get_mut(..parent.len())?.copy_from_slice(parent);
    let parent = open_in(root, CStr::from_bytes_until_nul(&room).ok()?, strict).ok()?;
    mkdirat(&parent, name, Mode::from_raw_mode(0o755)).ok()?;
    let hold = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    openat(&parent, name, hold, Mode::empty()).ok()
}

/// Makes one directory or file and opens it. When somebody else made it at the same moment, that
/// one is taken, but never through a symlink.
fn make(parent: BorrowedFd<'_>, name: &CStr, want: Want) -> Result<OwnedFd, Errno> {
    let hold = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match want {
        Want::Directory => {
            match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            openat(parent, name, hold | OFlags::DIRECTORY, Mode::empty())
        }
        Want::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(
                parent,
                name,
                flags | OFlags::WRONLY,
                Mode::from_raw_mode(0o644),
            ) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            let fd = openat(parent, name, hold, Mode::empty())?;
            match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
                FileType::Symlink => Err(Errno::LOOP),
                _ => Ok(fd),
            }
        }
    }
}

/// Clones the mount at a host path, or the whole tree below it, attached nowhere; ENOSYS where the
/// kernel has no such thing.
pub fn clone_detached(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

/// Clones the mount at a host path, or the whole tree below it.
pub fn clone_host(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    OPEN_TREE.attempt(
        || clone_detached(path, recursive),
        || fallback::mount::clone_host(path, recursive),
    )
}

/// Clones the mount that a descriptor is in, from the descriptor down.
pub fn clone_fd(fd: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let fd = fd.as_fd();
    OPEN_TREE.attempt(
        || open_tree(fd, c"", flags),
        || fallback::mount::clone_tree(fd, recursive),
    )
}

/// Mounts a detached tree on what `target` refers to.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let (tree, target) = (tree.as_fd(), target.as_fd());
    MOVE_MOUNT.attempt(
        || move_mount(tree, c"", target, c"", flags),
        || fallback::mount::attach(tree, target),
    )
}

/// Makes a file system, not attached anywhere.
pub fn new_filesystem<'p>(
    fstype: &CStr,
    parameters: impl Iterator<Item = (&'p CStr, Option<&'p CStr>)>,
    attributes: u64,
) -> Result<OwnedFd, Fault> {
    let context = FSOPEN.attempt(
        || fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map(Some),
        || Ok(None),
    );
    let Some(context) = context.at(Part::Filesystem)? else {
        return fallback::mount::new_filesystem(fstype, parameters, attributes);
    };
    for (key, value) in parameters {
        let set = match value {
            Some(value) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, key),
        };
        set.map_err(|errno| explain(&context, errno, Part::Parameter, key))?;
    }
    fsconfig_create(&context).map_err(|e| explain(&context, e, Part::Filesystem, fstype))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(Part::Filesystem)
}

/// What the kernel says about a refused parameter can be read from the context; without, the name
/// of the parameter has to do.
fn explain(context: &OwnedFd, errno: Errno, part: Part, what: &CStr) -> Fault {
    let mut text = [0u8; 256];
    let detail = match rustix::io::read(context, &mut text) {
        // "e tmpfs: Bad value for 'size'": the first letter is the severity.
        Ok(n) => Detail::new(text.get(2..n).unwrap_or_default().trim_ascii_end()),
        Err(_) => Detail::new(what.to_bytes()),
    };
    Fault {
        errno,
        part,
        detail,
    }
}

/// Changes attributes or propagation of the mount `mount` (and with `recursive` of those below it).
pub fn change(mount: impl AsFd, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    let mount = mount.as_fd();
    MOUNT_SETATTR.attempt(
        || sys::mount_setattr(mount, attr, recursive),
        || fallback::attributes::change(mount, attr, recursive, |place| attach(mount, place)),
    )
}

/// Sets attributes of a cloned or new mount before it is attached.
pub fn set_attributes(mount: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    let mount = mount.as_fd();
    apply(attributes, |attr, deep| change(mount, attr, deep))
}

/// Makes `attributes` by `set`, which is mount_setattr(2) or does as much; it is told whether a change is for the
/// whole tree.
pub fn apply(
    attributes: &Attributes,
    mut set: impl FnMut(&MountAttr, bool) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if attributes.deep != MountAttr::default() {
        set(&attributes.deep, true)?;
    }
    let mut result = Ok(());
    for own in attributes.tries() {
        result = set(&own, false);
        // A flag is locked (mount_namespaces(7)), or this kernel does not know it.
        if !matches!(result, Err(Errno::PERM | Errno::INVAL)) {
            break;
        }
    }
    result
}

/// Lets a mount show the ids of the user namespace `users` (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
pub fn show_ids(mount: impl AsFd, users: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(users.as_fd().as_raw_fd().cast_unsigned()),
        ..MountAttr::default()
    };
    sys::mount_setattr(mount, &attr, attributes.deep_ids)
}

/// Sets the propagation of a mount, after it was attached.
pub fn set_propagation(mount: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    for (propagation, deep) in [
        (attributes.deep_propagation, true),
        (attributes.propagation, false),
    ] {
        if propagation != 0 {
            let attr = MountAttr {
                propagation,
                ..MountAttr::default()
            };
            change(mount.as_fd(), &attr, deep)?;
        }
    }
    Ok(())
}

/// Whether a descriptor is a directory.
pub fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Whether a descriptor is the character device with this number. Nothing else may take its
/// place (CVE-2025-31133: a /dev/null swapped for a link to something else).
pub fn is_char_device(fd: impl AsFd, number: (u32, u32)) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(number.0, number.1),
    )
}

/// Whether the descriptor is a device node with this number.
pub fn is_device(fd: impl AsFd, number: (u32, u32)) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(
        matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
            && stat.st_rdev == makedev(number.0, number.1),
    )
}

/// Makes a device node in the directory `parent`; what is there already must be that very device.
pub fn make_device(parent: impl AsFd, name: &CStr, device: &Device) -> Result<(), Fault> {
    let parent = parent.as_fd();
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = makedev(device.number.0, device.number.1);
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(parent, name, kind, mode, number) {
        Ok(()) if (device.uid, device.gid) == (0, 0) => Ok(()),
        Ok(()) => {
            let made = same_device(parent, name, kind, number)?;
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            // Of what was looked at, whatever has that name by now.
            let flags = AtFlags::EMPTY_PATH;
            rustix::fs::chownat(&made, c"", Some(uid), Some(gid), flags).at(Part::Create)
        }
        Err(Errno::EXIST) => same_device(parent, name, kind, number).map(drop),
        Err(e) => Err(e).at(Part::Create),
    }
}

/// Opens a node to hold on to it; it has to be this very device.
fn same_device(
    parent: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    number: rustix::fs::Dev,
) -> Result<OwnedFd, Fault> {
    let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(parent, name, hold, Mode::empty()).at(Part::Verify)?;
    let stat = rustix::fs::fstat(&found).at(Part::Verify)?;
    let same = FileType::from_raw_mode(stat.st_mode) == kind
        && (kind == FileType::Fifo || stat.st_rdev == number);
    match same {
        true => Ok(found),
        false => Err(Errno::EXIST).at(Part::Verify),
    }
}
