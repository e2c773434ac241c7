//! The root of the container and what is mounted in it. Part of the new process: allocates nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{fchdir, pivot_root};

use super::{Sandbox, copy_up};
use crate::compile::{Device, Slot, Span, Tree};
use crate::plan::attributes::Attributes;
use crate::plan::step::Pivot;
use crate::report::{At, Fault, Part};
use crate::rootfs::{self, Want};
use crate::sys::MountAttr;

/// A file system to mount, as [`crate::compile::Op`] has it.
pub(super) struct NewMount<'p> {
    pub fstype: &'p CStr,
    pub parameters: Span,
    pub target: &'p CStr,
    pub strict: bool,
    pub attributes: Attributes,
    pub copy_up: bool,
}

impl Sandbox<'_> {
    pub(super) fn set_root(
        &mut self,
        path: &CStr,
        opened: Option<Tree>,
        propagation: u64,
    ) -> Result<(), Fault> {
        let tree = match opened {
            Some(Tree::Opened(slot)) => rustix::io::fcntl_dupfd_cloexec(self.descriptor(slot)?, 3)?,
            Some(Tree::Served(helper)) => self.ask(helper)?,
            None => rootfs::clone_host(path, true).at(Part::Source)?,
        };
        let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = || openat(CWD, c"/", hold, Mode::empty()).at(Part::Source);
        let place = match openat(CWD, path, hold, Mode::empty()) {
            // What is mounted there would be mounted on the host as well: the top can be made
            // private here, whatever the mount is that the path is on.
            _ if propagation & libc::MS_SHARED != 0 => {
                let top = top()?;
                set_propagation(&top, libc::MS_PRIVATE, false).at(Part::Attributes)?;
                top
            }
            // The root of a user namespace may have no right to go there; any place will do.
            Err(Errno::ACCESS) if opened.is_some() => top()?,
            place => place.at(Part::Source)?,
        };
        // pivot_root(2) takes no shared root; what it shall be in the end, it becomes after that.
        let meanwhile = match propagation {
            libc::MS_SLAVE => libc::MS_SLAVE,
            _ => libc::MS_PRIVATE,
        };
        rootfs::attach(&tree, place).at(Part::Attach)?;
        // Only now is it a mount of this namespace, which mount(2) asks for.
        set_propagation(&tree, meanwhile, false).at(Part::Attributes)?;
        self.root_propagation = propagation;
        self.root = Some(tree);
        // Device nodes and directories get exactly the mode that is asked for.
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    pub(super) fn new_mount(&mut self, mount: &NewMount<'_>) -> Result<(), Fault> {
        let parameters = || self.program.parameters(mount.parameters);
        let set = mount.attributes.own.set;
        let (target, strict) = (mount.target, mount.strict);
        let mode = match mount.fstype == c"tmpfs" {
            true => self.mode_of(target, strict, parameters())?,
            false => None,
        };
        let mode = mode.as_ref().map(|octal| (c"mode", Some(octal.text())));
        let tree = rootfs::new_filesystem(mount.fstype, parameters().chain(mode), set)?;
        if mount.copy_up {
            copy_up::copy(self.root()?, target, strict, &tree)?;
        }
        let attributes = &mount.attributes;
        self.place(tree.as_fd(), target, Want::Directory, strict, attributes)?;
        if mount.fstype == c"proc" && self.proc.is_none() {
            self.proc = Some(tree);
        }
        Ok(())
    }

    /// The mode of the directory that a tmpfs comes to cover, which becomes its own when nothing else
    /// is said, as with runc; without, the kernel takes 1777 (tmpfs(5), `mode`).
    fn mode_of<'p>(
        &self,
        target: &CStr,
        strict: bool,
        mut parameters: impl Iterator<Item = (&'p CStr, Option<&'p CStr>)>,
    ) -> Result<Option<Octal>, Fault> {
        if parameters.any(|(key, _)| key == c"mode") {
            return Ok(None);
        }
        match rootfs::open_in(self.root()?, target, strict) {
            Ok(place) => {
                let stat = rustix::fs::fstat(place).at(Part::Target)?;
                Ok(Some(Octal::new(stat.st_mode & 0o7777)))
            }
            // It will be made, or cannot be mounted on.
            Err(_) => Ok(None),
        }
    }

    pub(super) fn bind(
        &self,
        source: &CStr,
        recursive: bool,
        target: &CStr,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let tree = rootfs::clone_host(source, recursive).at(Part::Source)?;
        rootfs::set_attributes(&tree, attributes).at(Part::Attributes)?;
        self.place_bind(tree.as_fd(), target, strict, attributes)
    }

    /// A source inside the root, with what is mounted there by now, and the ids of a user namespace.
    pub(super) fn bind_inside(
        &self,
        source: &CStr,
        recursive: bool,
        users: Option<Tree>,
        target: &CStr,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let place = rootfs::open_in(self.root()?, source, false).at(Part::Source)?;
        let tree = rootfs::clone_fd(&place, recursive).at(Part::Source)?;
        rootfs::set_attributes(&tree, attributes).at(Part::Attributes)?;
        if let Some(users) = users {
            // Where a helper would serve it, ids are refused before.
            let Tree::Opened(users) = users else {
                return Err(Errno::NOSYS).at(Part::Attributes);
            };
            let users = self.descriptor(users)?;
            rootfs::show_ids(&tree, users, attributes).at(Part::Attributes)?;
        }
        self.place_bind(tree.as_fd(), target, strict, attributes)
    }

    /// A tree that the runtime opened and gave its attributes.
    pub(super) fn bind_opened(
        &self,
        tree: Tree,
        target: &CStr,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let asked;
        let tree = match tree {
            Tree::Opened(slot) => self.descriptor(slot)?,
            Tree::Served(helper) => {
                asked = self.ask(helper)?;
                asked.as_fd()
            }
        };
        self.place_bind(tree, target, strict, attributes)
    }

    fn place_bind(
        &self,
        tree: BorrowedFd<'_>,
        target: &CStr,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let want = match rootfs::is_directory(tree).at(Part::Source)? {
            true => Want::Directory,
            false => Want::File,
        };
        self.place(tree, target, want, strict, attributes)
    }

    pub(super) fn attributes(&self, path: &CStr, attr: &MountAttr) -> Result<(), Fault> {
        let fd = rootfs::open_in(self.root()?, path, false).at(Part::Target)?;
        rootfs::change(fd, attr, false).at(Part::Attributes)
    }

    pub(super) fn root_read_only(&self) -> Result<(), Fault> {
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        rootfs::change(self.root()?, &attr, false).at(Part::Attributes)
    }

    /// The host's own node, and really that device (CVE-2025-31133).
    pub(super) fn device_bind(&self, path: &CStr, number: (u32, u32)) -> Result<(), Fault> {
        let tree = rootfs::clone_host(path, false).at(Part::Source)?;
        let right = rootfs::is_device(&tree, number).at(Part::Verify)?;
        if !right {
            return Err(Errno::NODEV).at(Part::Verify);
        }
        let target = rootfs::ensure(self.root()?, path, Want::File, true)?;
        rootfs::attach(tree, target).at(Part::Attach)
    }

    pub(super) fn link(&self, parent: &CStr, name: &CStr, target: &CStr) -> Result<(), Fault> {
        let parent = rootfs::ensure(self.root()?, parent, Want::Directory, false)?;
        link(parent.as_fd(), name, target)
    }

    /// Mounts `tree` on `target`.
    fn place(
        &self,
        tree: BorrowedFd<'_>,
        target: &CStr,
        want: Want,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let target = rootfs::ensure(self.root()?, target, want, strict)?;
        rootfs::attach(tree, target).at(Part::Attach)?;
        rootfs::set_propagation(tree, attributes).at(Part::Attributes)
    }

    /// `/dev` of the root, resolved once for everything that is made in it (CVE-2026-41579,
    /// CVE-2026-47766: a /dev that is, or becomes, a symlink).
    pub(super) fn dev(&mut self) -> Result<BorrowedFd<'_>, Fault> {
        if self.dev.is_none() {
            self.dev = Some(rootfs::ensure(
                self.root()?,
                c"/dev",
                Want::Directory,
                true,
            )?);
        }
        Ok(self.dev.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)?)
    }

    pub(super) fn device(
        &mut self,
        parent: &CStr,
        name: &CStr,
        device: &Device,
    ) -> Result<(), Fault> {
        if parent.is_empty() {
            return rootfs::make_device(self.dev()?, name, device);
        }
        let parent = rootfs::ensure(self.root()?, parent, Want::Directory, true)?;
        rootfs::make_device(parent, name, device)
    }

    /// Writes a kernel parameter through the procfs that this process mounted itself, never by
    /// a path of the container (CVE-2019-16884, CVE-2025-52881).
    pub(super) fn sysctl(&mut self, path: &CStr, value: &CStr) -> Result<(), Fault> {
        let open = |proc: BorrowedFd<'_>| {
            rootfs::open_beneath(proc, path, OFlags::WRONLY | OFlags::CLOEXEC)
        };
        let file = match &self.proc {
            Some(proc) => open(proc.as_fd()),
            None => Err(Errno::NOENT),
        };
        let file = match file {
            // None mounted, or a read-only one, or one that shows only processes.
            Err(Errno::NOENT | Errno::ROFS) => {
                let nothing = std::iter::empty();
                let proc = rootfs::new_filesystem(c"proc", nothing, 0)?;
                open(proc.as_fd()).at(Part::Target)?
            }
            result => result.at(Part::Target)?,
        };
        rustix::io::write(file, value.to_bytes())?;
        Ok(())
    }

    pub(super) fn mask(&mut self, path: &CStr) -> Result<(), Fault> {
        let target = match rootfs::open_in(self.root()?, path, false) {
            // What is not there needs no mask.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            result => result.at(Part::Target)?,
        };
        if rootfs::is_directory(&target).at(Part::Target)? {
            return self.mask_directory(target);
        }
        if self.null.is_none() {
            let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let null = openat(CWD, c"/dev/null", hold, Mode::empty()).at(Part::Source)?;
            // CVE-2025-31133: the host's own, and really the null device.
            if !rootfs::is_char_device(&null, (1, 3)).at(Part::Verify)? {
                return Err(Errno::NODEV).at(Part::Verify);
            }
            self.null = Some(null);
        }
        let null = self.null.as_ref().ok_or(Errno::BADF)?;
        let cover = rootfs::clone_fd(null, false).at(Part::Source)?;
        rootfs::attach(cover, target).at(Part::Attach)
    }

    fn mask_directory(&mut self, target: OwnedFd) -> Result<(), Fault> {
        if let Some(empty) = &self.empty {
            let cover = rootfs::clone_fd(empty, false).at(Part::Source)?;
            return rootfs::attach(cover, target).at(Part::Attach);
        }
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        let parameters = [(c"mode", Some(c"755")), (c"nr_inodes", Some(c"2"))];
        let empty = rootfs::new_filesystem(c"tmpfs", parameters.into_iter(), attributes)?;
        rootfs::attach(&empty, target).at(Part::Attach)?;
        self.empty = Some(empty);
        Ok(())
    }

    pub(super) fn read_only(&self, path: &CStr) -> Result<(), Fault> {
        let target = match rootfs::open_in(self.root()?, path, false) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            result => result.at(Part::Target)?,
        };
        let cover = rootfs::clone_fd(&target, true).at(Part::Source)?;
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        rootfs::change(&cover, &attr, true).at(Part::Attributes)?;
        rootfs::attach(cover, target).at(Part::Attach)
    }

    pub(super) fn directory(&self, path: &CStr) -> Result<(), Fault> {
        match rootfs::ensure(self.root()?, path, Want::Directory, false) {
            // It cannot be made: changing to it will tell, should it really be missing.
            Err(Fault {
                errno: Errno::ROFS | Errno::ACCESS | Errno::PERM,
                ..
            }) => Ok(()),
            result => result.map(drop),
        }
    }

    /// The root of a container that has no mount namespace: nothing else would lead there.
    pub(super) fn enter_root(&self, root: Slot) -> Result<(), Fault> {
        fchdir(self.descriptor(root)?)?;
        Ok(rustix::process::chroot(c".")?)
    }

    pub(super) fn pivot(&mut self, how: Pivot) -> Result<(), Fault> {
        let root = self.root.take().ok_or(Errno::BADF)?;
        fchdir(&root)?;
        let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if how == Pivot::Chroot {
            return Ok(rustix::process::chroot(c".")?);
        }
        if how == Pivot::Moved {
            // First, as older kernels need the procfs of the host for it.
            let top = openat(CWD, c"/", hold, Mode::empty())?;
            rootfs::attach(&root, top).at(Part::Attach)?;
            // They stay below the root: a container could mount a procfs without masks as long as
            // one like that is there (mount_too_revealing in the kernel's sources). Until the chroot
            // these paths still begin at the host's root.
            for place in [c"/proc", c"/sys"] {
                while unmount(place, UnmountFlags::DETACH).is_ok() {}
            }
            rustix::process::chroot(c".")?;
        } else {
            let old = match self.root_propagation & libc::MS_SHARED {
                0 => None,
                _ => Some(openat(CWD, c"/", hold, Mode::empty())?),
            };
            // The old root comes to lie under the new one (pivot_root(2), NOTES) and is detached
            // from there: no directory for it is needed, and no moment when it could be seen.
            pivot_root(c".", c".")?;
            if let Some(old) = old {
                // Detaching it must not unmount anything of the host.
                set_propagation(old, libc::MS_SLAVE, true).at(Part::Attributes)?;
            }
            unmount(c".", UnmountFlags::DETACH)?;
        }
        if self.root_propagation & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0 {
            set_propagation(&root, self.root_propagation, false).at(Part::Attributes)?;
        }
        Ok(())
    }
}

/// A mode as text, without allocating.
struct Octal([u8; 5]);

impl Octal {
    fn new(mode: u32) -> Octal {
        let digit = |shift: u32| b'0' + u8::try_from(mode >> shift & 7).unwrap_or(0);
        Octal([digit(9), digit(6), digit(3), digit(0), 0])
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0).unwrap_or(c"0")
    }
}

pub(super) fn set_host_propagation(propagation: u64) -> Result<(), Fault> {
    if propagation == 0 {
        return Ok(());
    }
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, c"/", hold, Mode::empty())?;
    Ok(set_propagation(top, propagation, true)?)
}

fn set_propagation(mount: impl AsFd, propagation: u64, deep: bool) -> Result<(), Errno> {
    let attr = MountAttr {
        propagation,
        ..MountAttr::default()
    };
    rootfs::change(mount, &attr, deep)
}

pub(super) fn link(parent: BorrowedFd<'_>, name: &CStr, target: &CStr) -> Result<(), Fault> {
    match rustix::fs::symlinkat(target, parent, name) {
        // What is there already is the business of whoever put it there.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e).at(Part::Create),
    }
}
