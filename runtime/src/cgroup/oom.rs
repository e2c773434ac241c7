//! To be told when the OOM killer strikes in a container.

use super::CgroupError;
use super::measure::oom_kills;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Watches the memory cgroup of a container.
#[derive(Debug)]
pub struct OomWatch {
    directories: Vec<PathBuf>,
    /// Readable when something happened.
    fd: Option<OwnedFd>,
    kills: u64,
}

impl OomWatch {
    /// Begin to watch. Of a container without a memory cgroup nothing is ever told.
    ///
    /// v1: an eventfd for `memory.oom_control` (kernel documentation, admin-guide/cgroup-v1/memory,
    /// "OOM Control"); v2: inotify on `memory.events`.
    ///
    /// # Errors
    /// When a descriptor cannot be made.
    pub fn new(directories: &[PathBuf]) -> Result<OomWatch, CgroupError> {
        let has = |file: &str| {
            directories
                .iter()
                .map(|dir| dir.join(file))
                .find(|p| p.exists())
        };
        let fd = match (has("memory.events"), has("memory.oom_control")) {
            (Some(events), _) => Some(inotify_of(&events)?),
            // A kernel may have v1 without this; then the counter is looked at now and then.
            (None, Some(control)) => eventfd_of(&control).ok(),
            (None, None) => None,
        };
        Ok(OomWatch {
            directories: directories.to_vec(),
            fd,
            kills: oom_kills(directories),
        })
    }

    /// What to poll for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// How many processes were killed since the last time this was asked.
    pub fn news(&mut self) -> u64 {
        if let Some(fd) = &self.fd {
            let mut buffer = [0; 4096];
            // Nothing to read is no error, and neither is the end of the cgroup.
            rustix::io::read(fd, &mut buffer).unwrap_or_default();
        }
        let kills = oom_kills(&self.directories);
        let new = kills.saturating_sub(self.kills);
        self.kills = self.kills.max(kills);
        new
    }
}

fn inotify_of(events: &Path) -> Result<OwnedFd, CgroupError> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags)?;
        inotify::add_watch(&fd, events, inotify::WatchFlags::MODIFY)?;
        Ok(fd)
    };
    make().map_err(|source| CgroupError::Read {
        path: events.to_owned(),
        source: source.into(),
    })
}

fn eventfd_of(control: &Path) -> std::io::Result<OwnedFd> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let file = File::open(control)?;
    let line = format!("{} {}", fd.as_raw_fd(), file.as_raw_fd());
    OpenOptions::new()
        .write(true)
        .open(control.with_file_name("cgroup.event_control"))?
        .write_all(line.as_bytes())?;
    Ok(fd)
}
