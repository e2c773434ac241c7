//! A terminal of the container's own. Runs in the new process: allocates nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, Uid, fchown, fstat, fstatfs};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcsetwinsize};

use crate::report::{At, Fault, Part};
use crate::rootfs;

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: i64 = 0x1cd1;

/// Major numbers of the slave sides (devices.txt, "Unix98 PTY slaves").
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// Both ends of a terminal.
pub struct Pair {
    /// For the runtime.
    pub outside: OwnedFd,
    /// For the container.
    pub inside: OwnedFd,
}

/// Opens a new terminal of the devpts below `root`, and makes `uid` its owner.
///
/// The inner end is never looked up by its name, which the container could exchange
/// (CVE-2025-52565): the kernel hands it out for the outer end (`TIOCGPTPEER`), and what it handed
/// out is verified.
pub fn open(root: BorrowedFd<'_>, uid: u32) -> Result<Pair, Fault> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outside = rootfs::resolve(root, c"/dev/pts/ptmx", flags, true).at(Part::Source)?;
    if fstatfs(&outside).at(Part::Verify)?.f_type != DEVPTS {
        return Err(Errno::NODEV).at(Part::Verify);
    }
    unlockpt(&outside)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inside = ioctl_tiocgptpeer(&outside, flags)?;
    let stat = fstat(&inside).at(Part::Verify)?;
    let is_slave = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && SLAVES.contains(&rustix::fs::major(stat.st_rdev));
    if !is_slave {
        return Err(Errno::NODEV).at(Part::Verify);
    }
    fchown(&inside, Some(Uid::from_raw(uid)), None)?;
    Ok(Pair { outside, inside })
}

/// A newline stays one: the terminal that shows it adds what it needs.
pub fn keep_line_ends(inside: impl AsFd) -> Result<(), Fault> {
    let mut settings = rustix::termios::tcgetattr(&inside)?;
    settings.output_modes.remove(OutputModes::ONLCR);
    Ok(rustix::termios::tcsetattr(
        &inside,
        OptionalActions::Now,
        &settings,
    )?)
}

/// Sets its rows and columns, before anybody can ask for them.
pub fn set_size(inside: impl AsFd, (rows, columns): (u16, u16)) -> Result<(), Fault> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(inside, size)?)
}

/// Makes the terminal standard input, output and error. The runtime's own are held open no more:
/// whoever reads them waits for their end.
pub fn use_as_stdio(inside: impl AsFd) -> Result<(), Fault> {
    rustix::stdio::dup2_stdin(&inside)?;
    rustix::stdio::dup2_stdout(&inside)?;
    rustix::stdio::dup2_stderr(&inside)?;
    Ok(())
}

/// Makes the terminal the controlling one of this session.
pub fn control(inside: impl AsFd) -> Result<(), Fault> {
    Ok(rustix::process::ioctl_tiocsctty(&inside)?)
}
