//! Whether what was started is up: it stays up for a moment, and answers what `[health.NAME]` asks;
//! without such a section it listens where it should, and answers when its platform serves HTTP.
//!
//! | room | asks |
//! | --- | --- |
//! | `sockets` | the kernel, who listens |
//! | `http` | the daemon, for a page |
//! | `checks` | what `[health.NAME]` says, again and again |
//! | `now` | the same once, for `status` |
//! | `ready` | nobody: it listens for what daemons say by themselves |

mod checks;
mod http;
pub(crate) mod now;
pub(crate) mod ready;
mod settle;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use checks::{Good, Rounds, Verdict};
use http::{Answer, Request};
use metactl_bundles::app::Health;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_bundles::health::Check;
use metactl_runtime::ProcessId;
use ready::Ears;

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
/// How long a page may take when nothing says so.
const ANSWER: Duration = Duration::from_secs(10);
/// How many lines of a log go into an error.
const TAIL: usize = 12;

/// Waits until the daemons that `wanted` names are up. `window`: how long they have to stay up;
/// one longer than [`LOOK`] is for those with a port too, from when they are up.
pub(crate) fn wait_until_up(
    instance: &Instance,
    wanted: &Wanted,
    manifest: &Manifest,
    window: Duration,
    logs: &LogMarks,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut wait = Wait {
        wanted,
        manifest,
        window,
        begun: Instant::now(),
        good_since: None,
        asked: Asked::new(Rounds::new(instance, &logs.ears)),
        stage: Stage::Launching,
    };
    let limit = wait.limit();
    let result = instance.await_report(wanted, limit, |report| match wait.judge(report) {
        Judgement::Up(notes) => Ok(Some(notes)),
        Judgement::Wait(stage) => {
            wait.show(stage, progress);
            Ok(None)
        }
        Judgement::Down { entry, why } => {
            wait.ill(progress);
            Err(failed(instance, &entry, why, logs))
        }
    })?;
    match result {
        Some(notes) => {
            wait.show(Stage::Done, progress);
            notes.iter().for_each(|note| progress.note(note));
            Ok(())
        }
        None => {
            wait.ill(progress);
            let (entry, why) = wait.who_is_late(instance, limit)?;
            Err(failed(instance, &entry, why, logs))
        }
    }
}

/// How far a start has come, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Launching,
    /// All run; not all have answered.
    Asking,
    /// All have answered; now they have to stay up.
    Watching,
    Done,
}

/// A start that is waited for.
struct Wait<'a> {
    wanted: &'a Wanted,
    manifest: &'a Manifest,
    window: Duration,
    begun: Instant,
    /// Since when all have answered.
    good_since: Option<Instant>,
    asked: Asked<'a>,
    stage: Stage,
}

impl Wait<'_> {
    fn definitions(&self) -> impl Iterator<Item = &EntryRef> {
        let names = self.wanted.daemons.keys();
        names.filter_map(|name| definition(self.manifest, name))
    }

    /// How long all of it may take.
    fn limit(&self) -> Duration {
        let checks = self.definitions().map(checks::patience).max();
        // What takes longest is said by who asks, not by this clock.
        LISTEN.max(checks.unwrap_or_default() + Duration::from_secs(5)) + self.window
    }

    /// Whether all are watched for a while after they have answered.
    fn watches(&self) -> bool {
        self.window > LOOK
    }

    /// Tells of the next stage, once. Whoever began the first step ends the last one.
    fn show(&mut self, stage: Stage, progress: &mut dyn Progress) {
        let asks = |one: &EntryRef| one.port.is_some() || !one.checks.is_empty();
        let is_asked = self.definitions().any(asks);
        if stage <= self.stage {
            return;
        }
        if self.stage < Stage::Asking && is_asked {
            progress.end(true, "");
            progress.begin("health", "");
            self.stage = Stage::Asking;
        }
        let is_open = self.stage == Stage::Asking || self.watches();
        if stage > Stage::Asking && self.stage < Stage::Watching && is_open {
            progress.end(true, &self.asked.said());
            if self.watches() {
                progress.begin("watch", "");
            }
        }
        self.stage = stage;
    }

    /// Ends the step of a question that was answered badly.
    fn ill(&self, progress: &mut dyn Progress) {
        if self.stage == Stage::Asking {
            progress.end(false, &self.asked.said());
        }
    }

    fn judge(&mut self, report: &Report) -> Judgement {
        let looked_long = self.begun.elapsed() >= self.window;
        let mut notes = report.notes.clone();
        let mut stage = Stage::Done;
        let later = |stage: &mut Stage, other: Stage| *stage = (*stage).min(other);
        for (name, generation) in &self.wanted.daemons {
            let entry = report.entries.get(name);
            let entry = entry.filter(|entry| entry.generation.as_ref() == Some(generation));
            let Some(entry) = entry else {
                later(&mut stage, Stage::Launching);
                continue;
            };
            let definition = definition(self.manifest, name);
            match entry.state {
                EntryState::Running if entry.restarts == 0 => {
                    match answers(entry, definition, &mut self.asked) {
                        Listens::Yes => {}
                        Listens::OnlyLocally(port) => {
                            notes.push(format!("{name} listens on port {port} of localhost only: nobody else can reach it"));
                        }
                        Listens::NotYet => later(&mut stage, Stage::Asking),
                        Listens::NoPort if looked_long || self.window > LOOK => {}
                        Listens::NoPort => later(&mut stage, Stage::Watching),
                        Listens::Ill(why) => {
                            return Judgement::Down {
                                entry: name.clone(),
                                why,
                            };
                        }
                    }
                }
                EntryState::Starting | EntryState::Stopping => later(&mut stage, Stage::Launching),
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
        if stage == Stage::Done && self.watches() {
            let since = *self.good_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.window {
                stage = Stage::Watching;
            }
        }
        match stage {
            Stage::Done => {
                notes.extend(self.asked.notes.iter().cloned());
                Judgement::Up(notes)
            }
            stage => Judgement::Wait(stage),
        }
    }

    fn who_is_late(&self, instance: &Instance, limit: Duration) -> Result<(String, String)> {
        let report = instance.look()?.report;
        let seconds = limit.as_secs();
        for name in self.wanted.daemons.keys() {
            let entry = report.as_ref().and_then(|report| report.entries.get(name));
            let definition = definition(self.manifest, name);
            let port = definition.and_then(|definition| definition.port);
            if let Some(why) = self.asked.rounds.open(name) {
                return Ok((name.clone(), format!("{why} after {seconds} s")));
            }
            match (entry, port) {
                (Some(entry), Some(port)) if entry.state == EntryState::Running => {
                    let process = entry.process.as_ref();
                    let listens =
                        process.is_some_and(|p| !sockets::listening(p.pid, port).is_empty());
                    if !listens {
                        let why = format!("it does not listen on port {port} after {seconds} s");
                        return Ok((name.clone(), why));
                    }
                    if let Some(why) = self.asked.refused.get(name) {
                        let why = format!(
                            "it listens on port {port}, but after {seconds} s {why} \
                             (`health = tcp` in [daemon.{name}] asks for no page)"
                        );
                        return Ok((name.clone(), why));
                    }
                }
                (Some(entry), _) if entry.state == EntryState::Running => {}
                (Some(entry), _) if entry.process.is_some() && tells(definition) => {
                    let said = entry.says.iter().map(|says| format!(" (it says “{says}”)"));
                    let said: String = said.collect();
                    let why = format!("it has not said READY=1 after {seconds} s{said}");
                    return Ok((name.clone(), why));
                }
                _ => return Ok((name.clone(), format!("it does not run after {seconds} s"))),
            }
        }
        Ok((
            instance.name().to_owned(),
            format!("not everything ran after {seconds} s"),
        ))
    }
}

/// What is known before something is started: how long the logs were, and the sockets at which
/// daemons say that they are ready.
#[derive(Debug, Default)]
pub(crate) struct LogMarks {
    lengths: BTreeMap<String, u64>,
    ears: Ears,
}

impl LogMarks {
    /// Of all daemons of a bundle.
    pub(crate) fn now(instance: &Instance, manifest: &Manifest) -> LogMarks {
        let service = instance.service();
        let mark = |name: &str| match &service {
            Ok(service) => service.log_mark(instance, name),
            // That is told where something is started.
            Err(_) => 0,
        };
        LogMarks {
            lengths: manifest
                .entries
                .iter()
                .map(|e| (e.name.clone(), mark(&e.name)))
                .collect(),
            // Who keeps it running listens itself to those that tell it.
            ears: Ears::open(manifest, service.is_ok_and(|service| service.hears_ready())),
        }
    }
}

/// Whether a daemon tells by itself when it is ready.
fn tells(definition: Option<&EntryRef>) -> bool {
    definition.is_some_and(|definition| definition.service.notify)
}

enum Judgement {
    Wait(Stage),
    /// Everything is up; what is worth saying.
    Up(Vec<String>),
    Down {
        entry: String,
        why: String,
    },
}

fn definition<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a EntryRef> {
    manifest.entries.iter().find(|entry| entry.name == name)
}

fn failed(instance: &Instance, entry: &str, why: String, logs: &LogMarks) -> LifecycleError {
    let mark = logs.lengths.get(entry).copied().unwrap_or(0);
    let tail = |service: &dyn ServiceManager| service.log_since(instance, entry, mark, TAIL);
    LifecycleError::Start {
        entry: entry.to_owned(),
        why,
        tail: instance.service().map(tail).unwrap_or_default(),
        log: instance.log_of(entry),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Listens {
    NoPort,
    NotYet,
    OnlyLocally(u16),
    Yes,
    Ill(String),
}

/// What is known of the daemons that are asked.
struct Asked<'a> {
    /// What `[health.NAME]` asks.
    rounds: Rounds<'a>,
    /// Who has answered. Nobody is asked again.
    healthy: BTreeSet<String>,
    /// What the others did instead.
    refused: BTreeMap<String, String>,
    /// The last answer of each, as `GET / → 200`.
    pages: BTreeMap<String, String>,
    /// What is worth saying.
    notes: Vec<String>,
}

impl<'a> Asked<'a> {
    fn new(rounds: Rounds<'a>) -> Asked<'a> {
        Asked {
            rounds,
            healthy: BTreeSet::new(),
            refused: BTreeMap::new(),
            pages: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// The last answers, for a line of progress.
    fn said(&self) -> String {
        let pages = self.pages.values().cloned();
        let rounds = Some(self.rounds.answers()).filter(|text| !text.is_empty());
        pages.chain(rounds).collect::<Vec<_>>().join(", ")
    }

    /// Whether a daemon that listens at these addresses answers.
    fn has_page(&mut self, name: &str, entry: &EntryReport, listening: &[SocketAddr]) -> bool {
        let Some(process) = entry.process.as_ref() else {
            return false;
        };
        if self.healthy.contains(name) {
            return true;
        }
        let answer = http::ask(process, listening, &front_page());
        let said = match &answer {
            Answer::Healthy(status) | Answer::Bad(status) => status.to_string(),
            Answer::None(why) | Answer::CannotAsk(why) => why.clone(),
        };
        self.pages
            .insert(name.to_owned(), format!("GET / → {said}"));
        match answer {
            Answer::Healthy(_) => {}
            Answer::Bad(status) => {
                let why = format!("it answers GET / with status {status}");
                self.refused.insert(name.to_owned(), why);
                return false;
            }
            Answer::None(why) => {
                self.refused
                    .insert(name.to_owned(), format!("GET / fails: {why}"));
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

/// The page that is asked for when nothing says which.
fn front_page() -> Request {
    Request {
        path: "/".to_owned(),
        timeout: ANSWER,
        good: Good::Below500,
    }
}

fn answers(entry: &EntryReport, definition: Option<&EntryRef>, asked: &mut Asked<'_>) -> Listens {
    let Some(definition) = definition else {
        return Listens::NoPort;
    };
    if !definition.checks.is_empty() {
        let Some(process) = &entry.process else {
            return Listens::NotYet;
        };
        return match asked.rounds.ask(definition, process) {
            Verdict::Good => Listens::Yes,
            Verdict::Wait => Listens::NotYet,
            Verdict::Ill(why) => Listens::Ill(why),
        };
    }
    let (Some(port), Some(process)) = (definition.port, &entry.process) else {
        return Listens::NoPort;
    };
    let listening = sockets::listening(process.pid, port);
    if listening.is_empty() {
        return Listens::NotYet;
    }
    if definition.health == Health::Http && !asked.has_page(&definition.name, entry, &listening) {
        return Listens::NotYet;
    }
    if listening.iter().all(|address| address.ip().is_loopback()) {
        return Listens::OnlyLocally(port);
    }
    Listens::Yes
}

/// Whether a daemon that runs serves its port, as it has to be asked: one look, which takes seconds when it hangs.
pub(crate) fn serves(
    process: &ProcessId,
    port: Option<u16>,
    health: Health,
    checks: &[Check],
) -> bool {
    if !checks.is_empty() {
        return checks::answers_now(process, checks);
    }
    let Some(port) = port else { return true };
    let listening = sockets::listening(process.pid, port);
    match health {
        Health::Tcp => !listening.is_empty(),
        Health::Http => {
            let answer =
                (!listening.is_empty()).then(|| http::ask(process, &listening, &front_page()));
            // Who cannot be asked is not known to be ill.
            matches!(answer, Some(Answer::Healthy(_) | Answer::CannotAsk(_)))
        }
    }
}

/// How long the questions to a daemon may take after a start, as their tries have it.
pub(crate) fn start_patience(definition: &EntryRef) -> Duration {
    checks::patience(definition)
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
