//! Existing cgroups, known only by their directories: kill, remove, measure.

use super::apply::read;
use super::{CgroupError, walk};
use crate::process::read_small;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long killed processes may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a cgroup may stay busy after its last process is gone.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// Kill every process in the given cgroups and below, and wait until none is left.
///
/// On v2 with `cgroup.kill` (Linux 5.14) that is one write; otherwise SIGKILL is sent until the
/// list of processes stays empty, through pidfds, so that a pid that is reused in between is
/// never hit. The calling process is spared. Directories that are gone are fine.
///
/// # Errors
/// When a process cannot be signalled, or is still there after ten seconds.
pub fn kill_all(directories: &[PathBuf]) -> Result<(), CgroupError> {
    directories
        .iter()
        .try_for_each(|directory| kill(directory, directories))
}

/// `all` are the directories of the same container: what one of them keeps frozen cannot die.
fn kill(directory: &Path, all: &[PathBuf]) -> Result<(), CgroupError> {
    let killed_by_kernel = match fs::OpenOptions::new()
        .write(true)
        .open(directory.join("cgroup.kill"))
    {
        Ok(mut file) => io::Write::write(&mut file, b"1").is_ok(),
        Err(_) => false,
    };
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let left = count(directory)?;
        if left == 0 {
            return Ok(());
        }
        if start.elapsed() > KILL_PATIENCE {
            return Err(CgroupError::StillAlive {
                path: directory.to_owned(),
                count: left,
                seconds: KILL_PATIENCE.as_secs(),
            });
        }
        if !killed_by_kernel {
            walk::each(directory, signal).map_err(|source| CgroupError::Kill {
                path: directory.to_owned(),
                source,
            })?;
        }
        super::freezer::release_killed(all);
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// SIGKILL to what is in a cgroup, once.
fn signal(directory: BorrowedFd<'_>) -> io::Result<()> {
    let this = rustix::process::getpid();
    let mut targets = Vec::new();
    for pid in walk::processes(directory)?
        .into_iter()
        .filter_map(Pid::from_raw)
    {
        if pid != this
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        {
            targets.push((pid, pidfd));
        }
    }
    if targets.is_empty() {
        return Ok(());
    }
    // A pid that is still listed after its pidfd was opened is the process that we mean.
    let still = walk::processes(directory)?;
    for (pid, pidfd) in targets {
        if !still.contains(&pid.as_raw_nonzero().get()) {
            continue;
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Whether there are processes in a cgroup or below it. One that is not there is not in use.
///
/// # Errors
/// When it cannot be looked into.
pub fn in_use(directory: &Path) -> io::Result<bool> {
    match fs::read(directory.join("cgroup.procs")) {
        Ok(text) if text.is_empty() => {}
        Ok(_) => return Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        // It does not tell, but its threads do.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(e) => return Err(e),
    }
    Ok(!walk::all_processes(directory)?.is_empty())
}

/// The pids in one cgroup; nothing when it is gone. `0` stands for processes that are not visible
/// from this pid namespace.
pub(super) fn processes(directory: &Path) -> Result<Vec<i32>, CgroupError> {
    match read(&directory.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.is_of_what_is_gone() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Processes in a cgroup and below.
fn count(directory: &Path) -> Result<usize, CgroupError> {
    // v2 tells at once whether there is anybody.
    let events = fs::read_to_string(directory.join("cgroup.events")).unwrap_or_default();
    if events.lines().any(|line| line == "populated 0") {
        return Ok(0);
    }
    let all = walk::all_processes(directory).map_err(|source| CgroupError::Read {
        path: directory.to_owned(),
        source,
    })?;
    Ok(all.len())
}

/// Remove cgroups and everything below them, innermost first. What is gone already is fine.
///
/// A cgroup stays busy for a moment after its last process died, so removing is tried again until
/// for two seconds nothing could be removed. Does not kill: see [`kill_all`].
///
/// # Errors
/// When one of them stays busy or may not be removed; the others are removed all the same, and
/// the first error is given.
pub fn delete(directories: &[PathBuf]) -> Result<(), CgroupError> {
    let mut result = Ok(());
    for directory in directories {
        let removed = remove_tree(directory);
        if result.is_ok() {
            result = removed;
        }
    }
    result
}

fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    let mut start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        // Mostly there is nothing below, so the directory itself is tried first.
        let source = match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        let below = walk::remove_below(directory).map_err(|source| CgroupError::Remove {
            path: directory.to_owned(),
            source,
            left: count(directory).unwrap_or(0),
        })?;
        if below > 0 {
            start = Instant::now();
            continue;
        }
        let busy = matches!(source.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY));
        if !busy || start.elapsed() > REMOVE_PATIENCE {
            let left = count(directory).unwrap_or(0);
            return Err(CgroupError::Remove {
                path: directory.to_owned(),
                source,
                left,
            });
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Remove up to `levels` directories above a deleted cgroup as long as they are empty. Stops
/// silently at the first that is in use.
pub fn prune_parents(directories: &[PathBuf], levels: usize) {
    for directory in directories {
        for above in directory.ancestors().skip(1).take(levels) {
            match fs::remove_dir(above) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => break,
            }
        }
    }
}

/// v1 says "no limit" by the largest number of whole pages, which is above this.
const V1_NO_LIMIT: u64 = 1 << 62;

/// What a cgroup uses. `None` where the host does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of memory in use.
    pub memory_current: Option<u64>,
    /// The most bytes that were ever in use.
    pub memory_peak: Option<u64>,
    /// The memory limit in bytes; `None` also when there is no limit.
    pub memory_max: Option<u64>,
    /// Processes that the OOM killer killed.
    pub oom_kills: Option<u64>,
    /// Tasks (processes and threads).
    pub pids_current: Option<u64>,
    /// The limit of tasks; `None` also when there is no limit.
    pub pids_max: Option<u64>,
    /// CPU time used, in microseconds.
    pub cpu_usec: Option<u64>,
}

/// Measure the cgroups of one container (one directory per hierarchy).
pub fn stats(directories: &[PathBuf]) -> Stats {
    let number = |file: &str| directories.iter().find_map(|d| number(&d.join(file)));
    let field = |file: &str, key: &str| directories.iter().find_map(|d| field(&d.join(file), key));
    let v1_limit = |n: &u64| *n < V1_NO_LIMIT;
    Stats {
        memory_current: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        memory_peak: number("memory.peak").or_else(|| number("memory.max_usage_in_bytes")),
        memory_max: number("memory.max")
            .or_else(|| number("memory.limit_in_bytes").filter(v1_limit)),
        oom_kills: field("memory.events", "oom_kill")
            .or_else(|| field("memory.oom_control", "oom_kill")),
        pids_current: number("pids.current"),
        pids_max: number("pids.max"),
        cpu_usec: field("cpu.stat", "usage_usec")
            .or_else(|| number("cpuacct.usage").map(|nanoseconds| nanoseconds / 1000)),
    }
}

/// Bytes of memory that a container uses: what [`stats`] says of it, without reading the rest.
pub fn memory_current(directories: &[PathBuf]) -> Option<u64> {
    let number = |file: &str| directories.iter().find_map(|d| number(&d.join(file)));
    number("memory.current").or_else(|| number("memory.usage_in_bytes"))
}

/// Bytes of memory that a cgroup uses with all below it, and its limit. `None` where the kernel does not count those
/// below (v1 without `memory.use_hierarchy`), or counts no memory.
pub fn memory_of_all(directory: &Path) -> Option<(u64, Option<u64>)> {
    if let Some(bytes) = number(&directory.join("memory.current")) {
        // `max` is no number.
        return Some((bytes, number(&directory.join("memory.max"))));
    }
    if number(&directory.join("memory.use_hierarchy")) == Some(0) {
        return None;
    }
    let bytes = number(&directory.join("memory.usage_in_bytes"))?;
    let limit = number(&directory.join("memory.limit_in_bytes"));
    Some((bytes, limit.filter(|bytes| *bytes < V1_NO_LIMIT)))
}

pub(super) fn memory_usage(directory: &Path) -> Option<u64> {
    number(&directory.join("memory.current"))
        .or_else(|| number(&directory.join("memory.usage_in_bytes")))
}

/// Memory and swap together.
pub(super) fn memory_and_swap_usage(directory: &Path) -> Option<u64> {
    number(&directory.join("memory.memsw.usage_in_bytes")).or_else(|| {
        let swap = number(&directory.join("memory.swap.current"))?;
        Some(memory_usage(directory)? + swap)
    })
}

fn number(path: &Path) -> Option<u64> {
    let mut buffer = [0; 32];
    let text = read_small(path, &mut buffer).ok()?;
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn field(path: &Path, key: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}
