//! Whether what was started is up: it stays up for a moment, and listens where it should.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::{EntryKind, Manifest};

use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::progress::Progress;
use crate::standalone::records::{EntryReport, Report, Wanted};
use crate::status::EntryState;
use crate::tail;

/// How long a daemon without a port has to stay up after a plain start.
pub(crate) const GLANCE: Duration = Duration::from_millis(250);
/// How long after a deployment.
pub(crate) const LOOK: Duration = Duration::from_millis(1500);
/// How long a daemon may take until it listens on its port.
const LISTEN: Duration = Duration::from_secs(60);
/// How many lines of a log go into an error.
const TAIL: usize = 12;

/// Waits until the daemons that `wanted` names are up. `window`: how long they have to stay up.
pub(crate) fn wait_until_up(
    instance: &Instance,
    wanted: &Wanted,
    manifest: &Manifest,
    window: Duration,
    logs: &LogMarks,
    progress: &mut dyn Progress,
) -> Result<()> {
    let begun = Instant::now();
    let result = instance.await_report(wanted, LISTEN, |report| {
        match judge(report, wanted, manifest, begun.elapsed() >= window) {
            Judgement::Up(notes) => Ok(Some(notes)),
            Judgement::Wait => Ok(None),
            Judgement::Down { entry, why } => Err(failed(instance, &entry, why, logs)),
        }
    })?;
    match result {
        Some(notes) => {
            notes.iter().for_each(|note| progress.note(note));
            Ok(())
        }
        None => {
            let (entry, why) = who_is_late(instance, wanted, manifest)?;
            Err(failed(instance, &entry, why, logs))
        }
    }
}

/// How long the logs were before something was started.
#[derive(Debug, Default)]
pub(crate) struct LogMarks(BTreeMap<String, u64>);

impl LogMarks {
    /// Of all daemons of a bundle.
    pub(crate) fn now(instance: &Instance, manifest: &Manifest) -> LogMarks {
        let length = |name: &str| std::fs::metadata(instance.log_file(name)).map_or(0, |m| m.len());
        LogMarks(
            manifest
                .entries
                .iter()
                .map(|e| (e.name.clone(), length(&e.name)))
                .collect(),
        )
    }
}

enum Judgement {
    Wait,
    /// Everything is up; what is worth saying.
    Up(Vec<String>),
    Down {
        entry: String,
        why: String,
    },
}

fn judge(report: &Report, wanted: &Wanted, manifest: &Manifest, looked_long: bool) -> Judgement {
    let mut notes = report.notes.clone();
    let mut waits = false;
    for (name, generation) in &wanted.daemons {
        let Some(entry) = report.entries.get(name) else {
            waits = true;
            continue;
        };
        if entry.generation.as_ref() != Some(generation) {
            waits = true;
            continue;
        }
        let port = manifest
            .entries
            .iter()
            .find(|e| e.name == *name)
            .and_then(|e| e.port);
        match entry.state {
            EntryState::Running if entry.restarts == 0 => {
                match listens(entry, port) {
                    Listens::Yes => {}
                    Listens::OnlyLocally(port) => {
                        notes.push(format!("{name} listens on port {port} of localhost only: nobody else can reach it"));
                    }
                    Listens::NotYet => waits = true,
                    Listens::NoPort => waits |= !looked_long,
                }
            }
            EntryState::Starting | EntryState::Stopping => waits = true,
            EntryState::Ended if entry.last_exit.as_ref().is_some_and(|exit| !exit.failed) => {}
            _ => {
                let why = match &entry.last_exit {
                    Some(exit) => format!("it ended: {}", exit.reason),
                    None => format!("it is {}", entry.state.word()),
                };
                return Judgement::Down {
                    entry: name.clone(),
                    why,
                };
            }
        }
    }
    if waits {
        Judgement::Wait
    } else {
        Judgement::Up(notes)
    }
}

fn who_is_late(
    instance: &Instance,
    wanted: &Wanted,
    manifest: &Manifest,
) -> Result<(String, String)> {
    let report = instance.run_dir().report()?;
    let seconds = LISTEN.as_secs();
    for name in wanted.daemons.keys() {
        let entry = report.as_ref().and_then(|report| report.entries.get(name));
        let port = manifest
            .entries
            .iter()
            .find(|e| e.name == *name)
            .and_then(|e| e.port);
        match (entry, port) {
            (Some(entry), Some(port)) if matches!(listens(entry, Some(port)), Listens::NotYet) => {
                return Ok((
                    name.clone(),
                    format!("it does not listen on port {port} after {seconds} s"),
                ));
            }
            (Some(entry), _) if entry.state == EntryState::Running => {}
            _ => return Ok((name.clone(), format!("it does not run after {seconds} s"))),
        }
    }
    Ok((
        instance.name().to_owned(),
        format!("not everything ran after {seconds} s"),
    ))
}

fn failed(instance: &Instance, entry: &str, why: String, logs: &LogMarks) -> LifecycleError {
    let log = instance.log_file(entry);
    let from = logs.0.get(entry).copied().unwrap_or(0);
    LifecycleError::Start {
        entry: entry.to_owned(),
        why,
        tail: tail::since(&log, from, TAIL),
        log,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listens {
    NoPort,
    NotYet,
    OnlyLocally(u16),
    Yes,
}

/// Looks at the sockets of the daemon's network namespace instead of connecting: no application
/// has to put up with connections that say nothing.
fn listens(entry: &EntryReport, port: Option<u16>) -> Listens {
    let (Some(port), Some(process)) = (port, &entry.process) else {
        return Listens::NoPort;
    };
    let mut best = Listens::NotYet;
    for table in ["tcp", "tcp6"] {
        // A process that is just ending has none; the next report says so.
        let path = format!("/proc/{}/net/{table}", process.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        match listening(&text, port) {
            Listens::Yes => return Listens::Yes,
            Listens::OnlyLocally(port) => best = Listens::OnlyLocally(port),
            _ => {}
        }
    }
    best
}

/// Reads `/proc/net/tcp` or `tcp6` (proc_pid_net(5)): state 0A is LISTEN.
fn listening(table: &str, port: u16) -> Listens {
    let mut best = Listens::NotYet;
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some("0A")) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some((address, number)) = local.rsplit_once(':') else {
            continue;
        };
        if u16::from_str_radix(number, 16) != Ok(port) {
            continue;
        }
        // 127.0.0.1 as a little-endian word; ::1 as four of them.
        let is_local = (address.len() == 8 && address.ends_with("7F"))
            || address == "00000000000000000000000001000000";
        if !is_local {
            return Listens::Yes;
        }
        best = Listens::OnlyLocally(port);
    }
    best
}

/// The longest time that daemons of a bundle may take to stop.
pub(crate) fn stop_patience(manifest: &Manifest) -> Duration {
    // One after the other, when they ask for an order.
    manifest
        .entries
        .iter()
        .filter(|e| e.kind == EntryKind::Daemon)
        .map(|e| e.stop_timeout)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue\n   \
        0: 00000000:0050 00000000:0000 0A 00000000:00000000\n   \
        1: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
        2: 0200000A:0016 0300000A:D431 01 00000000:00000000\n";

    #[test]
    fn sockets_that_listen_are_found() {
        assert_eq!(listening(TCP, 80), Listens::Yes);
        assert_eq!(listening(TCP, 8080), Listens::OnlyLocally(8080));
        assert_eq!(listening(TCP, 22), Listens::NotYet);
        let six = "  sl\n   0: 00000000000000000000000001000000:0050 0:0000 0A\n";
        assert_eq!(listening(six, 80), Listens::OnlyLocally(80));
        let any = "  sl\n   0: 00000000000000000000000000000000:0050 0:0000 0A\n";
        assert_eq!(listening(any, 80), Listens::Yes);
    }
}
