//! Freezing and thawing of all processes of a container.
//!
//! v1: the `freezer` controller (kernel documentation, admin-guide/cgroup-v1/freezer-subsystem).
//! v2: `cgroup.freeze`, which every cgroup has since Linux 5.2 (admin-guide/cgroup-v2). The two
//! differ in what a frozen process still does: on v2 it can be killed, on v1 SIGKILL waits until
//! it is thawed.

use super::apply::read;
use super::{CgroupError, CgroupPath, CgroupPlan, CgroupStep, Layout, walk};
use crate::process::read_small;
use rustix::fs::{Mode, OFlags, openat};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long freezing and thawing may take. A process in uninterruptible sleep (a dead NFS server)
/// cannot be frozen.
const PATIENCE: Duration = Duration::from_secs(10);
/// On v1 a process that waits for another one that is frozen already (vfork(2)) keeps the cgroup
/// in FREEZING for ever: after so long everything is let go for a moment.
const SECOND_TRY: Duration = Duration::from_millis(200);

/// How one cgroup directory is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
}

impl Kind {
    /// `None` when this directory cannot freeze anything.
    fn of(directory: &Path) -> Option<Kind> {
        if directory.join("freezer.state").exists() {
            Some(Kind::V1)
        } else if directory.join("cgroup.freeze").exists() {
            Some(Kind::V2)
        } else {
            None
        }
    }

    fn file(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Kind::V1 => "freezer.state",
            Kind::V2 => "cgroup.freeze",
        })
    }

    fn word(self, freeze: bool) -> &'static str {
        match (self, freeze) {
            (Kind::V1, true) => "FROZEN",
            (Kind::V1, false) => "THAWED",
            (Kind::V2, true) => "1",
            (Kind::V2, false) => "0",
        }
    }
}

/// Whether a container with these cgroup directories is frozen, or about to be. Directories that
/// are gone or cannot be read are not.
pub fn is_frozen(directories: &[PathBuf]) -> bool {
    directories.iter().any(|directory| {
        let mut buffer = [0; 16];
        // No directory has both.
        if let Ok(text) = read_small(&directory.join("cgroup.freeze"), &mut buffer) {
            return text.trim_ascii() == b"1";
        }
        let state = read_small(&directory.join("freezer.state"), &mut buffer);
        state.is_ok_and(is_v1_frozen)
    })
}

/// Whether one of these directories can freeze what is in it.
pub fn can_freeze(directories: &[PathBuf]) -> bool {
    chosen(directories).is_some()
}

/// v2 first: what is frozen there can still be killed.
fn chosen(directories: &[PathBuf]) -> Option<(Kind, &Path)> {
    let of = |wanted| {
        directories
            .iter()
            .find(|directory| Kind::of(directory) == Some(wanted))
            .map(|directory| (wanted, directory.as_path()))
    };
    of(Kind::V2).or_else(|| of(Kind::V1))
}

/// Freeze all processes of a container and wait until they are. When that cannot be had, they are
/// thawed again.
///
/// # Errors
/// [`CgroupError::NoFreezer`] when none of the directories can do it; otherwise when the kernel
/// refuses, or when a process resists for ten seconds.
pub fn freeze(directories: &[PathBuf]) -> Result<(), CgroupError> {
    let (kind, directory) = chosen(directories).ok_or(CgroupError::NoFreezer)?;
    let frozen = freeze_one(kind, directory);
    if frozen.is_err() {
        // The first error is the one to report.
        write(kind, directory, false).unwrap_or_default();
    }
    frozen
}

fn freeze_one(kind: Kind, directory: &Path) -> Result<(), CgroupError> {
    let start = Instant::now();
    let mut round = Instant::now();
    let mut pause = Duration::from_micros(50);
    write(kind, directory, true)?;
    loop {
        if is_settled(kind, directory, true)? {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(resists("freeze", directory));
        }
        if kind == Kind::V1 && round.elapsed() > SECOND_TRY {
            write(kind, directory, false)?;
            sleep(Duration::from_micros(100));
            write(kind, directory, true)?;
            round = Instant::now();
        } else if kind == Kind::V1 {
            // The state is only worked out anew for those that look; a process that was made
            // while the others were frozen needs the word once more.
            write(kind, directory, true)?;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Thaw a container, however it was frozen, and wait until it is.
///
/// # Errors
/// When the kernel refuses, or when a cgroup above stays frozen.
pub fn thaw(directories: &[PathBuf]) -> Result<(), CgroupError> {
    for directory in directories {
        let Some(kind) = Kind::of(directory) else {
            continue;
        };
        if !is_frozen(std::slice::from_ref(directory)) {
            continue;
        }
        write(kind, directory, false)?;
        let start = Instant::now();
        while !is_settled(kind, directory, false)? {
            if start.elapsed() > PATIENCE {
                return Err(resists("thaw", directory));
            }
            sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Whether something in these directories or below them is frozen in a way that keeps it from dying (v1): a
/// container can freeze a part of itself.
pub(crate) fn keeps_alive(directories: &[PathBuf]) -> bool {
    directories
        .iter()
        .filter(|directory| directory.join("freezer.state").exists())
        .any(|directory| {
            let mut frozen = false;
            let looked = walk::each(directory, |dir| {
                let state = walk::read(dir, c"freezer.state");
                frozen |= state.is_ok_and(|text| is_v1_frozen(text.as_bytes()));
                Ok(())
            });
            // What cannot be looked into is for those to report who wait for its end.
            looked.is_ok() && frozen
        })
}

fn is_v1_frozen(state: &[u8]) -> bool {
    matches!(state.trim_ascii(), b"FROZEN" | b"FREEZING")
}

/// v1: let those go that were sent SIGKILL while they were frozen, here or further below. Errors are for those to
/// report who then wait for their death in vain.
pub(super) fn release_killed(directories: &[PathBuf]) {
    for directory in directories {
        if Kind::of(directory) == Some(Kind::V1) {
            walk::each(directory, |dir| {
                let state = walk::read(dir, c"freezer.state");
                if state.is_ok_and(|text| is_v1_frozen(text.as_bytes())) {
                    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                    let file = openat(dir, c"freezer.state", flags, Mode::empty())?;
                    rustix::io::write(file, Kind::V1.word(false).as_bytes())?;
                }
                Ok(())
            })
            .unwrap_or_default();
        }
    }
}

fn is_settled(kind: Kind, directory: &Path, frozen: bool) -> Result<bool, CgroupError> {
    match kind {
        Kind::V1 => Ok(read(&kind.file(directory))?.trim() == kind.word(frozen)),
        Kind::V2 => {
            let events = read(&directory.join("cgroup.events"))?;
            let line = if frozen { "frozen 1" } else { "frozen 0" };
            Ok(events.lines().any(|l| l == line))
        }
    }
}

fn write(kind: Kind, directory: &Path, freeze: bool) -> Result<(), CgroupError> {
    let path = kind.file(directory);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(kind.word(freeze).as_bytes()))
        .map_err(|source| CgroupError::Freeze {
            action: if freeze { "freeze" } else { "thaw" },
            path: directory.to_owned(),
            source,
        })
}

fn resists(action: &'static str, directory: &Path) -> CgroupError {
    CgroupError::Freeze {
        action,
        path: directory.to_owned(),
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            "not done after 10 s (a process in uninterruptible sleep, or a cgroup above is frozen)",
        ),
    }
}

/// The directories that a running container needs when it has none that can freeze it: a launch
/// joins only the hierarchies in which something is asked for. `None` when this host has no
/// freezer at all.
pub fn plan(layout: &Layout, path: &CgroupPath) -> Option<CgroupPlan> {
    let mount_point = match (layout.hierarchy("freezer"), layout.unified()) {
        (Some(hierarchy), _) => &hierarchy.mount_point,
        (None, Some(unified)) => &unified.mount_point,
        (None, None) => return None,
    };
    Some(CgroupPlan::bare(mount_point, path))
}

/// Make the directories of a [`plan`](fn@plan) and freeze a running container with them: they
/// are frozen while they are empty, so that whatever is moved in stops at once, and nothing can
/// fork its way out.
///
/// `members` lists the processes of the container; it is asked until there is nobody new.
///
/// # Errors
/// When a directory cannot be made, is used by somebody else, or a process cannot be moved. The
/// processes that were moved run again then.
pub fn adopt(
    plan: &CgroupPlan,
    members: impl Fn() -> io::Result<Vec<i32>>,
) -> Result<(), CgroupError> {
    for step in plan.steps() {
        if let CgroupStep::Create { directory } = step {
            super::apply::create(directory)?;
        }
    }
    let Some(directory) = plan.directories().first() else {
        return Err(CgroupError::NoFreezer);
    };
    let kind = Kind::of(directory).ok_or(CgroupError::NoFreezer)?;
    if !read(&directory.join("cgroup.procs"))?.is_empty() {
        return Err(CgroupError::Freeze {
            action: "freeze",
            path: directory.clone(),
            source: io::Error::new(
                io::ErrorKind::AlreadyExists,
                "processes of somebody else are in that cgroup",
            ),
        });
    }
    write(kind, directory, true)?;
    let moved = move_all(directory, &members).and_then(|()| freeze_one(kind, directory));
    if moved.is_err() {
        // The first error is the one to report.
        write(kind, directory, false).unwrap_or_default();
    }
    moved
}

/// Move all processes of a running container into one more cgroup.
pub(super) fn move_all(
    directory: &Path,
    members: &impl Fn() -> io::Result<Vec<i32>>,
) -> Result<(), CgroupError> {
    let path = directory.join("cgroup.procs");
    let problem = |source| CgroupError::Freeze {
        action: "freeze",
        path: directory.to_owned(),
        source,
    };
    let start = Instant::now();
    loop {
        let inside = super::manage::processes(directory)?;
        let mut new = members().map_err(problem)?;
        new.retain(|pid| !inside.contains(pid));
        if new.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(resists("freeze", directory));
        }
        for pid in new {
            let mut file = OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(problem)?;
            match file.write_all(pid.to_string().as_bytes()) {
                Ok(()) => {}
                // It ended meanwhile.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(e) => return Err(problem(e)),
            }
        }
    }
}
