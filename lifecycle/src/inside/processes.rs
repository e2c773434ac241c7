//! The processes of an instance, read from `/proc` (proc_pid_stat(5), proc_pid_status(5)).

use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_runtime::process::of_container;
use metactl_runtime::state::{State, Status as ContainerStatus};
use serde::Serialize;

use crate::error::{OnPath, Result};
use crate::files;
use crate::instance::Instance;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The entry point whose sandbox it is in.
    pub entry: String,
    /// As the server numbers it.
    pub pid: i32,
    /// As it is numbered in its sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<i32>,
    /// Its parent, as the server numbers it.
    pub parent: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    #[serde(skip)]
    pub gid: u32,
    /// What it does: `R` runs, `S` sleeps, `D` waits for a device, `T` is stopped, `Z` is dead.
    pub state: char,
    /// Bytes of memory that are in use (resident).
    pub memory: u64,
    /// Threads.
    pub threads: u32,
    /// The processor time it has used, in milliseconds.
    pub cpu: u64,
    /// How long it has been there, in seconds.
    pub seconds: u64,
    /// Its command line as it shows it itself; its name in brackets when it shows none.
    pub command: String,
}

/// The processes of all its sandboxes that are not stopped, or of one.
pub(super) fn of(instance: &Instance, entry: Option<&str>) -> Result<Vec<Process>> {
    let prefix = format!("{}.", instance.name());
    let mut all = Vec::new();
    for state in instance.runtime().containers(&prefix)? {
        let name = state.id.strip_prefix(&prefix).unwrap_or(&state.id);
        if entry.is_none_or(|entry| entry == name) && state.status() != ContainerStatus::Stopped {
            all.extend(of_one(name, &state)?);
        }
    }
    Ok(all)
}

fn of_one(entry: &str, state: &State) -> Result<Vec<Process>> {
    let Some(first) = &state.process else {
        return Ok(Vec::new());
    };
    let proc = Path::new("/proc");
    let pids = of_container(first.pid, &state.cgroups).on("list the processes in", proc)?;
    let uptime = files::read(&proc.join("uptime"))?.unwrap_or_default();
    let uptime = String::from_utf8_lossy(&uptime)
        .split_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs_f64);
    // One that is gone meanwhile is not there any more: no error.
    Ok(pids
        .into_iter()
        .filter_map(|pid| read(entry, pid, uptime))
        .collect())
}

fn read(entry: &str, pid: i32, uptime: Duration) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let text = |name: &str| {
        let bytes = std::fs::read(dir.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let stat = Stat::parse(&text("stat")?)?;
    let status = text("status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ids = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
    let arguments = text("cmdline")?;
    let arguments = arguments.trim_end_matches('\0').replace('\0', " ");
    let begun = Duration::from_millis(stat.begun);
    Some(Process {
        entry: entry.to_owned(),
        pid,
        inside: field("NSpid:").and_then(|all| all.split_whitespace().last()?.parse().ok()),
        parent: stat.parent,
        uid: ids("Uid:")?,
        gid: ids("Gid:")?,
        state: stat.state,
        memory: field("VmRSS:").map_or(0, kibibytes),
        threads: field("Threads:")
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(1),
        cpu: stat.cpu,
        seconds: uptime.saturating_sub(begun).as_secs(),
        command: match arguments.as_str() {
            "" => format!("[{}]", stat.name),
            arguments => arguments.to_owned(),
        },
    })
}

fn kibibytes(text: &str) -> u64 {
    let number = text.split_whitespace().next();
    number
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(0, |n| n << 10)
}

/// What is read of `/proc/PID/stat`; times in milliseconds.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: i32,
    cpu: u64,
    begun: u64,
}

/// Milliseconds of a clock tick: `USER_HZ` is 100 on every architecture that Linux runs metactl on (time(7)).
const TICK: u64 = 10;

impl Stat {
    /// The name stands in parentheses and may hold any character, parentheses too.
    fn parse(text: &str) -> Option<Stat> {
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu: (number(11)? + number(12)?) * TICK,
            begun: number(19)? * TICK,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let text = "77 (a) S (b) S 5 77 77 0 -1 4194560 1 0 0 0 12 34 0 0 20 0 3 0 5000 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                name: "a) S (b".into(),
                state: 'S',
                parent: 5,
                cpu: 460,
                begun: 50_000,
            }
        );
        for bad in ["", "77", "77 (x", "77 (x) S", "77 (x) S y"] {
            assert_eq!(Stat::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = read("web", own, Duration::from_secs(1 << 30)).unwrap();
        assert_eq!((process.pid, process.entry.as_str()), (own, "web"));
        assert_eq!(process.uid, nix::unistd::geteuid().as_raw());
        assert!(process.memory > 0 && process.threads > 0 && process.seconds > 0);
        assert!(!process.command.is_empty() && process.inside.is_some());
        assert_eq!(read("web", i32::MAX, Duration::ZERO), None);
    }
}
