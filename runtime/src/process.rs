//! Processes that can be recognised again: a pid alone may be reused, a pid with its start time
//! and the boot it belongs to may not.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, named so that it can never be mistaken for a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The pid in the pid namespace of the runtime.
    pub pid: i32,
    /// When it started: clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time of the record.
    pub boot_id: String,
}

/// What the kernel says about a process right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: u8,
    start_time: u64,
}

impl ProcessId {
    /// Records the running process `pid`. `Err` with `NotFound` when there is none.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        let stat = read_stat(pid)?;
        Ok(ProcessId {
            pid,
            start_time: stat.start_time,
            boot_id: boot_id()?,
        })
    }

    /// Records the calling process.
    pub fn current() -> io::Result<ProcessId> {
        ProcessId::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Whether this very process still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        match read_stat(self.pid) {
            Ok(stat) => {
                stat.start_time == self.start_time
                    && !matches!(stat.state, b'Z' | b'X')
                    && boot_id().is_ok_and(|id| id == self.boot_id)
            }
            Err(_) => false,
        }
    }

    /// A pidfd of this very process; `None` when it is gone. The descriptor is opened before the
    /// start time is compared, so it cannot refer to another process.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        Ok(self.is_alive().then_some(fd))
    }

    /// Sends a signal to this very process. `false` when it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(fd) = self.open()? else {
            return Ok(false);
        };
        match pidfd_send_signal(&fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Kills this very process and waits until it is dead (not until it is reaped). `false` when
    /// it was gone already; an error of kind `TimedOut` when it does not die within `timeout`.
    pub fn kill(&self, timeout: Duration) -> io::Result<bool> {
        let Some(fd) = self.open()? else {
            return Ok(false);
        };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        if wait_dead(&fd, Some(timeout))? {
            Ok(true)
        } else {
            let text = format!("process {} does not die from SIGKILL", self.pid);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// A time as poll(2) takes it.
pub fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Waits until the process behind `pidfd` is dead; `false` when `timeout` passed first.
pub fn wait_dead(pidfd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    let limit = timeout.map(timespec);
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, limit.as_ref()) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// How a process ended that need not be a child of this one: the kernel keeps it in the pidfd, which has to have been
/// opened while it lived. `None` until its parent has buried it. An error on kernels before 6.15.
pub fn exit_status(pidfd: impl AsFd) -> io::Result<Option<Exited>> {
    Ok(crate::sys::pidfd_exit_status(pidfd)?.map(Exited))
}

/// A status as wait(2) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited(i32);

impl Exited {
    /// Its exit code, if it had one.
    pub fn exit_status(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some(self.0 >> 8 & 0xff)
    }

    /// The signal that ended it, if one did.
    pub fn terminating_signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0).then_some(signal)
    }
}

/// This boot, as the kernel names it. It stays the same for as long as this process lives.
pub fn boot_id() -> io::Result<String> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let mut buffer = [0; 64];
    let text = read_small("/proc/sys/kernel/random/boot_id".as_ref(), &mut buffer)?;
    let id = String::from_utf8_lossy(text).trim_end().to_owned();
    Ok(ID.get_or_init(|| id).clone())
}

/// The first bytes of a file of the kernel's, which gives them with one read(2).
pub(crate) fn read_small<'b>(path: &Path, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let length = fs::File::open(path)?.read(buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// The pids, outside, of all processes of a container whose first process is `first`: those of its
/// pid namespace, or where it has none of its own, those in its cgroups.
pub fn of_container(first: i32, cgroups: &[PathBuf]) -> io::Result<Vec<i32>> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let mut pids = Vec::new();
    let own = match namespace(&first.to_string()) {
        Ok(own) => own,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(pids),
        Err(e) => return Err(e),
    };
    // A pid namespace that was joined is somebody else's too.
    if !cgroups.is_empty() || own == namespace("self")? {
        for dir in cgroups {
            pids.extend(crate::cgroup::all_processes(dir)?);
        }
        // 0 stands for somebody who cannot be seen from here.
        pids.retain(|pid| *pid > 0);
        pids.sort_unstable();
        pids.dedup();
        return Ok(pids);
    }
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Those that end while we look do not count.
        if namespace(name.to_str().unwrap_or_default()).is_ok_and(|ns| ns == own) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// These processes and all their descendants, by the parents that proc(5) tells: also those in
/// pid namespaces further inside. Zombies are left out.
pub fn with_descendants(first: &[i32]) -> io::Result<Vec<i32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // Those that end while we look do not count.
        if let Some(parent) = fs::read(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|text| parse_living(&text))
        {
            parents.push((pid, parent));
        }
    }
    let lives = |pid: &&i32| parents.iter().any(|(living, _)| living == *pid);
    let mut all: Vec<i32> = first.iter().filter(lives).copied().collect();
    let mut seen = 0;
    while seen < all.len() {
        let parent = all[seen];
        seen += 1;
        for (pid, _) in parents.iter().filter(|(_, of)| *of == parent) {
            if !all.contains(pid) {
                all.push(*pid);
            }
        }
    }
    Ok(all)
}

fn read_stat(pid: i32) -> io::Result<Stat> {
    let mut buffer = [0; 1024];
    let path = format!("/proc/{pid}/stat");
    let text = read_small(path.as_ref(), &mut buffer)?;
    parse_stat(text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat: unexpected format"),
        )
    })
}

/// The command name (field 2) may contain anything, also `) `: fields are counted after the last
/// closing parenthesis.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_time })
}

/// The parent, field 4, unless it is a zombie; see [`parse_stat`].
fn parse_living(text: &[u8]) -> Option<i32> {
    let close = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let living = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    living.then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_command_names() {
        let line = b"7 (a) R 1) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10\n";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                state: b'S',
                start_time: 4242
            })
        );
        assert_eq!(parse_stat(b"7 (x"), None);
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_living(line), Some(1));
        assert_eq!(parse_living(b"7 (a) S) Z 1 7"), None);
    }

    #[test]
    fn descendants_are_found() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let own = std::process::id() as i32;
        let family = || with_descendants(&[own]).unwrap();
        while family().len() < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pids = family();
        assert!(pids.contains(&own) && pids.contains(&(child.id() as i32)));
        for pid in with_descendants(&[child.id() as i32]).unwrap() {
            ProcessId::of(pid)
                .unwrap()
                .kill(Duration::from_secs(5))
                .unwrap();
        }
        child.wait().unwrap();
        assert!(with_descendants(&[child.id() as i32]).unwrap().is_empty());
    }

    #[test]
    fn a_process_is_recognised_and_its_death_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.is_alive());
        let other = ProcessId {
            start_time: id.start_time + 1,
            ..id.clone()
        };
        assert!(!other.is_alive() && !other.signal(Signal::KILL).unwrap());
        assert!(id.is_alive());
        assert!(id.kill(Duration::from_secs(5)).unwrap());
        assert!(!id.is_alive());
        child.wait().unwrap();
        assert!(!id.kill(Duration::from_secs(5)).unwrap());
    }
}
