//! Whether what was started is up: it stays up for a moment, listens where it should, and answers
//! when its platform serves HTTP.
//!
//! | room | asks |
//! | --- | --- |
//! | `sockets` | the kernel, who listens |
//! | `http` | the daemon, for a page |

mod http;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Answer;
use metactl_bundles::app::Health;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_runtime::ProcessId;

use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::progress::Progress;
use crate::service::ServiceManager;
use crate::standalone::records::{EntryReport, Report, Wanted};
use crate::status::EntryState;

/// How long a daemon without a port has to stay up after a plain start.
pub(crate) const GLANCE: Duration = Duration::from_millis(250);
/// How long after a deployment.
pub(crate) const LOOK: Duration = Duration::from_millis(1500);
/// How long a daemon may take until it listens on its port, and answers there.
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
    let mut asked = Asked::default();
    let result = instance.await_report(wanted, LISTEN, |report| {
        let looked_long = begun.elapsed() >= window;
        match judge(report, wanted, manifest, looked_long, &mut asked) {
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
            let (entry, why) = who_is_late(instance, wanted, manifest, &asked)?;
            Err(failed(instance, &entry, why, logs))
        }
    }
}

/// How far the logs were before something was started.
#[derive(Debug, Default)]
pub(crate) struct LogMarks(BTreeMap<String, u64>);

impl LogMarks {
    /// Of all daemons of a bundle.
    pub(crate) fn now(instance: &Instance, manifest: &Manifest) -> LogMarks {
        let service = instance.service();
        let mark = |name: &str| match &service {
            Ok(service) => service.log_mark(instance, name),
            // That is told where something is started.
            Err(_) => 0,
        };
        LogMarks(
            manifest
                .entries
                .iter()
                .map(|e| (e.name.clone(), mark(&e.name)))
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

fn judge(
    report: &Report,
    wanted: &Wanted,
    manifest: &Manifest,
    looked_long: bool,
    asked: &mut Asked,
) -> Judgement {
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
        let definition = definition(manifest, name);
        match entry.state {
            EntryState::Running if entry.restarts == 0 => {
                match listens(entry, definition, asked) {
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
        notes.extend(asked.notes.iter().cloned());
        Judgement::Up(notes)
    }
}

fn definition<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a EntryRef> {
    manifest.entries.iter().find(|entry| entry.name == name)
}

fn who_is_late(
    instance: &Instance,
    wanted: &Wanted,
    manifest: &Manifest,
    asked: &Asked,
) -> Result<(String, String)> {
    let report = instance.look()?.report;
    let seconds = LISTEN.as_secs();
    for name in wanted.daemons.keys() {
        let entry = report.as_ref().and_then(|report| report.entries.get(name));
        let port = definition(manifest, name).and_then(|definition| definition.port);
        match (entry, port) {
            (Some(entry), Some(port)) if entry.state == EntryState::Running => {
                let process = entry.process.as_ref();
                let listens = process.is_some_and(|p| !sockets::listening(p.pid, port).is_empty());
                if !listens {
                    let why = format!("it does not listen on port {port} after {seconds} s");
                    return Ok((name.clone(), why));
                }
                if let Some(why) = asked.refused.get(name) {
                    let why = format!(
                        "it listens on port {port}, but after {seconds} s {why} \
                         (`health = tcp` in [daemon.{name}] asks for no page)"
                    );
                    return Ok((name.clone(), why));
                }
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
    let mark = logs.0.get(entry).copied().unwrap_or(0);
    let tail = |service: &dyn ServiceManager| service.log_since(instance, entry, mark, TAIL);
    LifecycleError::Start {
        entry: entry.to_owned(),
        why,
        tail: instance.service().map(tail).unwrap_or_default(),
        log: instance.log_of(entry),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listens {
    NoPort,
    NotYet,
    OnlyLocally(u16),
    Yes,
}

/// What is known of the daemons that are asked for a page.
#[derive(Debug, Default)]
struct Asked {
    /// Who has answered. Nobody is asked again.
    healthy: BTreeSet<String>,
    /// What the others did instead.
    refused: BTreeMap<String, String>,
    /// What is worth saying.
    notes: Vec<String>,
}

impl Asked {
    /// Whether a daemon that listens at these addresses answers.
    fn answers(&mut self, name: &str, entry: &EntryReport, listening: &[SocketAddr]) -> bool {
        let Some(process) = entry.process.as_ref() else {
            return false;
        };
        if self.healthy.contains(name) {
            return true;
        }
        match http::ask(process, listening) {
            Answer::Healthy => {}
            Answer::Not(why) => {
                self.refused.insert(name.to_owned(), why);
                return false;
            }
            Answer::CannotAsk(why) => self.notes.push(format!(
                "{name} listens, but could not be asked for a page: {why}"
            )),
        }
        self.refused.remove(name);
        self.healthy.insert(name.to_owned());
        true
    }
}

fn listens(entry: &EntryReport, definition: Option<&EntryRef>, asked: &mut Asked) -> Listens {
    let Some(definition) = definition else {
        return Listens::NoPort;
    };
    let (Some(port), Some(process)) = (definition.port, &entry.process) else {
        return Listens::NoPort;
    };
    let listening = sockets::listening(process.pid, port);
    if listening.is_empty() {
        return Listens::NotYet;
    }
    if definition.health == Health::Http && !asked.answers(&definition.name, entry, &listening) {
        return Listens::NotYet;
    }
    if listening.iter().all(|address| address.ip().is_loopback()) {
        return Listens::OnlyLocally(port);
    }
    Listens::Yes
}

/// Whether a daemon that runs serves its port, as it has to be asked: one look, which takes seconds when it hangs.
pub(crate) fn serves(process: &ProcessId, port: Option<u16>, health: Health) -> bool {
    let Some(port) = port else { return true };
    let listening = sockets::listening(process.pid, port);
    match health {
        Health::Tcp => !listening.is_empty(),
        Health::Http => {
            let answer = (!listening.is_empty()).then(|| http::ask(process, &listening));
            // Who cannot be asked is not known to be ill.
            matches!(answer, Some(Answer::Healthy | Answer::CannotAsk(_)))
        }
    }
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
