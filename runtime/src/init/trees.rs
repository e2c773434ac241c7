//! Trees of the host that the runtime opens for the new process, which may not get at them itself.
//! Where the kernel cannot carry an opened tree from one mount namespace into another, or not give
//! it attributes, a helper does it, and both sides of their conversation are here. Allocates
//! nothing.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir};

use super::{FAILED, Sandbox};
use crate::compile::{Offer, Slot};
use crate::fallback::procfs;
use crate::plan::attributes::Attributes;
use crate::report::{self, At, Fault, Message, Part};
use crate::rootfs;
use crate::sys::{self, MountAttr};

impl Sandbox<'_> {
    /// Shows the helper the mount namespace of this process, and its root in there.
    pub(super) fn introduce(&self, helper: Slot) -> Result<(), Fault> {
        let helper = self.descriptor(helper)?;
        let proc = procfs::open().at(Part::Source)?;
        let read = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = openat(&proc, c"self/ns/mnt", read, Mode::empty()).at(Part::Source)?;
        let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, c"/", hold, Mode::empty()).at(Part::Source)?;
        report::send_with(helper, &Message::Namespace, &mounts)?;
        Ok(report::send_with(helper, &Message::Tree, &top)?)
    }

    /// The next tree from the helper. It is mounted, to be moved away before the next one.
    pub(super) fn ask(&self, helper: Slot) -> Result<OwnedFd, Fault> {
        let helper = self.descriptor(helper)?;
        let answer = report::send(helper, &Message::Go).and_then(|()| report::receive(helper));
        match answer.at(Part::Source)? {
            Some((Message::Tree, Some(tree))) => Ok(tree),
            // Of this very step.
            Some((Message::Fault { fault, .. }, _)) => Err(fault),
            Some(_) => Err(Errno::PROTO).at(Part::Source),
            None => Err(Errno::PIPE).at(Part::Source),
        }
    }

    /// The helper goes to where the trees are wanted. It keeps its rights over the host's files.
    pub(super) fn enter_view(&self) -> Result<(), Fault> {
        let mounts = self.shown(|message| matches!(message, Message::Namespace))?;
        let top = self.shown(|message| matches!(message, Message::Tree))?;
        sys::setns(&mounts, libc::CLONE_NEWNS)?;
        // Paths are to mean what they mean to the other side.
        fchdir(&top)?;
        Ok(chroot(c".")?)
    }

    fn shown(&self, expected: impl FnOnce(&Message) -> bool) -> Result<OwnedFd, Fault> {
        match report::receive(&self.report)? {
            Some((message, Some(fd))) if expected(&message) => Ok(fd),
            Some(_) => Err(Errno::PROTO.into()),
            // Nobody wants anything any more.
            None => sys::exit(FAILED),
        }
    }

    /// The helper opens a tree and hands it over.
    pub(super) fn offer(&self, offer: &Offer) -> Result<(), Fault> {
        if offer.asked {
            match report::receive(&self.report)? {
                Some((Message::Go, _)) => {}
                Some(_) => return Err(Errno::PROTO.into()),
                None => sys::exit(FAILED),
            }
        }
        let source = self.program.text(offer.source);
        let mut tree = rootfs::clone_host(source, offer.recursive).at(Part::Source)?;
        if offer.propagation != 0 {
            let attr = MountAttr {
                propagation: offer.propagation,
                ..MountAttr::default()
            };
            rootfs::change(&tree, &attr, true).at(Part::Attributes)?;
        }
        rootfs::set_attributes(&tree, &offer.attributes).at(Part::Attributes)?;
        if !offer.asked && sets(&offer.attributes) {
            // To get them it had to be mounted, here: only what is not can be carried elsewhere.
            let clone = rootfs::clone_fd(&tree, offer.recursive).at(Part::Source)?;
            // It stays, and the next one comes on top of it: if it were still a peer of the host's
            // mount, on that as well.
            let private = MountAttr {
                propagation: libc::MS_PRIVATE,
                ..MountAttr::default()
            };
            rootfs::change(&tree, &private, true).at(Part::Attributes)?;
            tree = clone;
        }
        Ok(report::send_with(&self.report, &Message::Tree, tree)?)
    }
}

fn sets(attributes: &Attributes) -> bool {
    let sets = |attr: &MountAttr| attr.set | attr.clear != 0;
    sets(&attributes.own) || sets(&attributes.deep) || attributes.unsaid != 0
}
