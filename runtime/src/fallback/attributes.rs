//! mount_setattr(2) by mount(2): `MS_REMOUNT | MS_BIND` with all flags that a mount has and shall
//! have, `MS_PRIVATE` and its like for propagation.
//!
//! mount(2) changes one mount; the mounts below it are looked up in mountinfo and changed one by
//! one. It is not one step as in the kernel, but nothing of the container runs yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, OFlags, fstatfs, readlinkat_raw};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use crate::fallback::mount::{WORKBENCH, settle};
use crate::fallback::mountinfo::{Mounts, unescape};
use crate::fallback::procfs::{self, ProcPath};
use crate::fallback::resolve;
use crate::sys::MountAttr;

/// How deep mounts may be nested when their ancestors are looked for.
const MAX_NESTING: usize = 4096;

/// `MS_NOSYMFOLLOW` of mount(2) and `ST_NOSYMFOLLOW` of statfs(2), of Linux 5.10.
const MS_NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);
const ST_NOSYMFOLLOW: u64 = 0x2000;
/// Of statfs(2); not every C library has it.
const ST_RELATIME: u64 = 0x1000;

/// `(MOUNT_ATTR_*, MS_*, ST_*)`, without the times of access, which exclude each other.
const FLAGS: [(u64, MountFlags, u64); 6] = [
    (libc::MOUNT_ATTR_RDONLY, MountFlags::RDONLY, libc::ST_RDONLY),
    (libc::MOUNT_ATTR_NOSUID, MountFlags::NOSUID, libc::ST_NOSUID),
    (libc::MOUNT_ATTR_NODEV, MountFlags::NODEV, libc::ST_NODEV),
    (libc::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC, libc::ST_NOEXEC),
    (
        libc::MOUNT_ATTR_NODIRATIME,
        MountFlags::NODIRATIME,
        libc::ST_NODIRATIME,
    ),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW, ST_NOSYMFOLLOW),
];

/// All of `MOUNT_ATTR_*` that is known here.
const KNOWN: u64 = libc::MOUNT_ATTR_RDONLY
    | libc::MOUNT_ATTR_NOSUID
    | libc::MOUNT_ATTR_NODEV
    | libc::MOUNT_ATTR_NOEXEC
    | libc::MOUNT_ATTR__ATIME
    | libc::MOUNT_ATTR_NODIRATIME
    | libc::MOUNT_ATTR_NOSYMFOLLOW;

/// The flags of mount(2) for `MOUNT_ATTR_*`.
pub fn flags_of(attributes: u64) -> MountFlags {
    let chosen = FLAGS.iter().filter(|(attr, ..)| attributes & attr != 0);
    let flags = chosen.fold(MountFlags::empty(), |all, (_, flag, _)| all | *flag);
    flags
        | match attributes & libc::MOUNT_ATTR__ATIME {
            libc::MOUNT_ATTR_NOATIME => MountFlags::NOATIME,
            libc::MOUNT_ATTR_STRICTATIME => MountFlags::STRICTATIME,
            _ => MountFlags::RELATIME,
        }
}

/// Whether symlinks on a mount are not followed.
pub fn follows_no_links(mount: impl AsFd) -> Result<bool, Errno> {
    Ok(status(mount)? & ST_NOSYMFOLLOW != 0)
}

/// Changes a mount, and with `recursive` those below it. A detached one is put on the workbench by
/// `attach`. ENOSYS for what only mount_setattr(2) can do: mapped owners.
pub fn change(
    mount: BorrowedFd<'_>,
    attr: &MountAttr,
    recursive: bool,
    attach: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if (attr.set | attr.clear) & !KNOWN != 0 || attr.userns_fd != 0 {
        return Err(Errno::NOSYS);
    }
    procfs::open()?;
    if attr.set | attr.clear != 0 {
        if is_detached(mount)? {
            settle(mount, attach)?;
        }
        remount(mount, attr)?;
        if recursive {
            below(mount, attr)?;
        }
    }
    if attr.propagation != 0 {
        propagate(mount, attr.propagation, recursive)?;
    }
    Ok(())
}

/// A detached one is in no list, and before Linux 6.15 not changed by mount(2).
fn is_detached(mount: BorrowedFd<'_>) -> Result<bool, Errno> {
    match procfs::mount_id(mount) {
        Err(Errno::ACCESS) => match remount(mount, &MountAttr::default()) {
            Err(Errno::INVAL) => Ok(true),
            result => result.map(|()| false),
        },
        id => Ok(Mounts::find(id?)?.is_none()),
    }
}

fn propagate(mount: BorrowedFd<'_>, flag: u64, recursive: bool) -> Result<(), Errno> {
    let flag = u32::try_from(flag).map_err(|_| Errno::INVAL)?;
    let mut flags = MountPropagationFlags::from_bits(flag).ok_or(Errno::INVAL)?;
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    mount_change(ProcPath::of(mount).as_c_str(), flags)
}

fn status(mount: impl AsFd) -> Result<u64, Errno> {
    Ok(fstatfs(mount)?.f_flags.cast_unsigned())
}

/// Changes this one mount. Flags that it has and nobody mentioned stay: those that a user
/// namespace may not clear, too.
pub fn remount(mount: impl AsFd, attr: &MountAttr) -> Result<(), Errno> {
    let mount = mount.as_fd();
    let has = status(mount)?;
    let mut flags = MountFlags::BIND;
    for (attribute, flag, status) in FLAGS {
        let keep = has & status != 0 && attr.clear & attribute == 0;
        if keep || attr.set & attribute != 0 {
            flags |= flag;
        }
    }
    flags |= if attr.clear & libc::MOUNT_ATTR__ATIME != 0 {
        let time = attr.set & libc::MOUNT_ATTR__ATIME;
        flags_of(time)
    } else if has & libc::ST_NOATIME != 0 {
        MountFlags::NOATIME
    } else if has & ST_RELATIME != 0 {
        MountFlags::RELATIME
    } else {
        MountFlags::STRICTATIME
    };
    mount_remount(ProcPath::of(mount).as_c_str(), flags, c"")?;
    // Linux before 5.10 ignores the flag.
    if flags.contains(MS_NOSYMFOLLOW) && !follows_no_links(mount)? {
        return Err(Errno::NOSYS);
    }
    Ok(())
}

/// Changes every mount below `top` that can be reached through it. EAGAIN when one of them could
/// not be found where it is said to be: somebody renames things.
fn below(top: BorrowedFd<'_>, attr: &MountAttr) -> Result<(), Errno> {
    let own = match procfs::mount_id(top) {
        // Nothing to be told from anything else.
        Err(Errno::ACCESS) if is_alone(top)? => return Ok(()),
        id => id?,
    };
    let mut buffer = [0; 4096];
    let base = place_of(own, &mut buffer)?;
    let mut other = [0; 4096];
    let mut mounts = Mounts::read()?;
    while let Some(mount) = mounts.next()? {
        if mount.id == own {
            continue;
        }
        let place = unescape(mount.place, &mut other).ok_or(Errno::NAMETOOLONG)?;
        let Some(rest) = place.strip_prefix(base).filter(|r| r.starts_with(b"/")) else {
            continue;
        };
        let path = std::ffi::CStr::from_bytes_with_nul(rest).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = match resolve::in_root(top, path, flags, true) {
            Ok(found) if procfs::mount_id(&found)? == mount.id => Some(found),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(e) => return Err(e),
        };
        match found {
            Some(found) => remount(&found, attr)?,
            // On another tree on the same place, or covered by another mount.
            None if !is_below(mount.parent, own)? || is_covered(mount.id)? => {}
            None => return Err(Errno::AGAIN),
        }
    }
    Ok(())
}

/// Whether a mount is on the workbench, and no mount is below any that is there.
fn is_alone(top: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    let (place, _) = readlinkat_raw(CWD, ProcPath::of(top).as_c_str(), &mut buffer)?;
    if !WORKBENCH.iter().any(|bench| bench.to_bytes() == place) {
        return Ok(false);
    }
    let mut mounts = Mounts::read()?;
    while let Some(mount) = mounts.next()? {
        let rest = mount.place.strip_prefix(&*place);
        if rest.is_some_and(|rest| rest.starts_with(b"/")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a mount is, without a slash at the end.
fn place_of(id: u32, buffer: &mut [u8; 4096]) -> Result<&[u8], Errno> {
    let mut mounts = Mounts::read()?;
    while let Some(mount) = mounts.next()? {
        if mount.id == id {
            let place = unescape(mount.place, buffer).ok_or(Errno::NAMETOOLONG)?;
            let place = place.strip_suffix(b"\0").unwrap_or(place);
            return Ok(place.strip_suffix(b"/").unwrap_or(place));
        }
    }
    Err(Errno::NOENT)
}

/// Whether the mount `id` is `top` or hangs below it.
fn is_below(mut id: u32, top: u32) -> Result<bool, Errno> {
    for _ in 0..MAX_NESTING {
        if id == top {
            return Ok(true);
        }
        match Mounts::find(id)? {
            Some(parent) if parent != id => id = parent,
            _ => return Ok(false),
        }
    }
    Err(Errno::LOOP)
}

/// Whether another mount is on the root of this one: nobody can get at it.
fn is_covered(id: u32) -> Result<bool, Errno> {
    let mut buffer = [0; 4096];
    let mut other = [0; 4096];
    let place = place_of(id, &mut buffer)?;
    let mut mounts = Mounts::read()?;
    while let Some(mount) = mounts.next()? {
        if mount.parent == id {
            let its = unescape(mount.place, &mut other).ok_or(Errno::NAMETOOLONG)?;
            if its.strip_suffix(b"\0") == Some(place) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
