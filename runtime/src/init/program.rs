//! The last of the new process: what the program may have of it, and the program itself.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Prepared, Sandbox};
use crate::compile::Slot;
use crate::report::{self, At, Detail, Fault, Message, Part};
use crate::sys;

impl Sandbox<'_> {
    /// Closes whatever the program may not see, and tells the runtime that it comes next.
    ///
    /// Close-on-exec would come too late for what the kernel opens by name during the exec: the
    /// program, its interpreter and its loader could be `/proc/self/fd/N/../..` (CVE-2024-21626,
    /// CVE-2016-9962).
    pub(super) fn seal(&mut self) -> Result<(), Fault> {
        if self.sealed {
            return Ok(());
        }
        self.sealed = true;
        report::send(&self.report, &Message::Executing)?;
        self.close_descriptors(None)
    }

    pub(super) fn close_descriptors(&self, also: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
        let keep = [
            Some(self.report.as_fd()),
            self.prepared.shield.as_ref().map(AsFd::as_fd),
            self.terminal.as_ref().map(AsFd::as_fd),
            also,
        ];
        let first = self.program.preserve.saturating_add(3);
        Ok(sys::close_all_but(first, keep)?)
    }

    /// Waits as the shield, which does all that is left. Returns only when that cannot be executed.
    pub(super) fn wait_apart(&self, listener: Option<Slot>) -> Result<(), Fault> {
        let listener = listener.map(|slot| self.descriptor(slot)).transpose()?;
        self.close_descriptors(listener)?;
        sys::default_signal_actions();
        sys::unblock_signals()?;
        let shield = self.prepared.shield.as_ref().ok_or(Errno::NOSYS)?;
        self.become_shield(shield, listener)
    }

    /// Executes the shield with the report and `listener` open, which it closes itself. Returns only
    /// when it cannot be executed.
    fn become_shield(
        &self,
        shield: &OwnedFd,
        listener: Option<BorrowedFd<'_>>,
    ) -> Result<(), Fault> {
        for kept in [Some(self.report.as_fd()), listener].into_iter().flatten() {
            rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::empty())?;
        }
        let Prepared {
            arguments,
            environment,
            ..
        } = self.prepared;
        Err(sys::execve_fd(shield, arguments, environment).into())
    }

    pub(super) fn execute<'t>(
        &mut self,
        candidates: impl Iterator<Item = &'t CStr>,
    ) -> Result<(), Fault> {
        self.seal()?;
        sys::default_signal_actions();
        sys::unblock_signals()?;
        let Prepared {
            arguments,
            environment,
            shield,
            ..
        } = self.prepared;
        if let Some(shield) = shield {
            return self.become_shield(shield, None);
        }
        let mut worst = Fault::from(Errno::NOENT);
        for path in candidates {
            let errno = sys::execve(path, arguments, environment);
            let fault = Fault {
                errno,
                part: Part::Whole,
                detail: Detail::new(path.to_bytes()),
            };
            match errno {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => worst = fault,
                _ => return Err(fault),
            }
        }
        Err(worst)
    }
}

/// Looks whether one of the files is there and executable for anybody, so that `create` can
/// tell. Whether it is for the user of the process, the exec will tell.
pub(super) fn find<'t>(candidates: impl Iterator<Item = &'t CStr>) -> Result<(), Fault> {
    let mut worst = Fault::from(Errno::NOENT);
    for path in candidates {
        let errno = match rustix::fs::stat(path) {
            Ok(stat) => {
                let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                if file && stat.st_mode & 0o111 != 0 {
                    return Ok(());
                }
                Errno::ACCESS
            }
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => errno,
        };
        worst = Fault {
            errno,
            part: Part::Whole,
            detail: Detail::new(path.to_bytes()),
        };
    }
    Err(worst)
}

/// Changes to the working directory as the user that the process has become.
pub(super) fn working_directory(path: &CStr) -> Result<(), Fault> {
    rustix::process::chdir(path)?;
    // CVE-2024-21626: a working directory outside the root, by way of /proc/self/fd, would be
    // told as "(unreachable)/...".
    let mut buffer = [0u8; 4096];
    match sys::current_directory(&mut buffer) {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(Errno::ACCESS).at(Part::Verify),
        Err(e) => Err(e).at(Part::Verify),
    }
}
