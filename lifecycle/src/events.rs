//! What happened to an instance: `<log>/<instance>/events.jsonl`, one JSON object a line.
//!
//! The supervisor tells of entry points, commands tell of deployments and health. Under systemd its journal tells of
//! starts, and the units of ends (`service::systemd`). The file is a courtesy: what cannot
//! be written (a full disk) stops nothing, and what a crash tore is one line.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::redact::redact;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::access::shared;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::{Change, Instance, LogFile, readable};
use crate::logs::{self, Followed};
use crate::service::{Following, Starts};
use crate::status::{self, Exit};

const FILE: &str = "events.jsonl";
/// A file of this size is put aside; one of those is kept.
const MAX_SIZE: u64 = 1 << 20;
/// No text is longer.
const MAX_TEXT: usize = 300;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An entry point was started.
    Started,
    /// It was started again after it had ended.
    Restarted,
    /// It could not be launched.
    NotStarted,
    /// It ended because somebody wanted it to.
    Stopped,
    /// It ended by itself.
    Ended,
    /// It ended by itself, with a failure.
    Failed,
    /// A run of a cron job ended well.
    CronDone,
    /// A run of a cron job failed.
    CronFailed,
    /// It was found healthy after a change.
    Healthy,
    /// It was not.
    Unhealthy,
    /// A release was deployed.
    Deployed,
    /// A deployment failed.
    DeployFailed,
    /// An earlier release was gone back to.
    RolledBack,
}

impl EventKind {
    /// The word for it: `started`.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Started => "started",
            EventKind::Restarted => "restarted",
            EventKind::NotStarted => "not started",
            EventKind::Stopped => "stopped",
            EventKind::Ended => "ended",
            EventKind::Failed => "failed",
            EventKind::CronDone => "cron done",
            EventKind::CronFailed => "cron failed",
            EventKind::Healthy => "healthy",
            EventKind::Unhealthy => "unhealthy",
            EventKind::Deployed => "deployed",
            EventKind::DeployFailed => "deploy failed",
            EventKind::RolledBack => "rolled back",
        }
    }

    /// Whether somebody should look.
    pub fn is_bad(self) -> bool {
        use EventKind::{CronFailed, DeployFailed, Failed, NotStarted, Unhealthy};
        matches!(
            self,
            NotStarted | Failed | CronFailed | Unhealthy | DeployFailed
        )
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What.
    pub kind: EventKind,
    /// To which entry point; none for the instance as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Why, or what more is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl Event {
    /// About an instance, now.
    pub(crate) fn now(kind: EventKind, detail: &str) -> Event {
        Event {
            at: files::now(),
            kind,
            entry: None,
            detail: redact(detail).chars().take(MAX_TEXT).collect(),
            code: None,
            signal: None,
        }
    }

    /// An entry point was launched for the first time, or again.
    pub(crate) fn started(entry: &EntryRef, restarts: u32) -> Event {
        Event::begun(&entry.name, restarts)
    }

    /// The same, by its name.
    pub(crate) fn begun(entry: &str, restarts: u32) -> Event {
        let (kind, detail) = match restarts {
            0 => (EventKind::Started, String::new()),
            count => (EventKind::Restarted, format!("for the {count}. time")),
        };
        Event {
            entry: Some(entry.to_owned()),
            ..Event::now(kind, &detail)
        }
    }

    /// Its process ended; `expected`: somebody wanted that.
    pub(crate) fn ended(entry: &EntryRef, exit: &Exit, expected: bool) -> Event {
        let kind = match (entry.kind, expected, exit.failed) {
            (_, true, _) => EventKind::Stopped,
            (EntryKind::Cron, _, false) => EventKind::CronDone,
            (EntryKind::Cron, _, true) => EventKind::CronFailed,
            (EntryKind::Daemon, _, false) => EventKind::Ended,
            (EntryKind::Daemon, _, true) => EventKind::Failed,
        };
        Event {
            entry: Some(entry.name.clone()),
            code: exit.code,
            signal: exit.signal,
            ..Event::now(kind, &exit.reason)
        }
    }

    /// It could not be launched.
    pub(crate) fn not_started(entry: &EntryRef, exit: &Exit) -> Event {
        Event {
            entry: Some(entry.name.clone()),
            ..Event::now(EventKind::NotStarted, &exit.reason)
        }
    }
}

/// Adds an event to those of the instance whose logs are in `log_dir`. What cannot be written is lost.
pub(crate) fn tell(log_dir: &Path, event: &Event) {
    let _lost = add(log_dir, event);
}

fn add(log_dir: &Path, event: &Event) -> Result<()> {
    let path = log_dir.join(FILE);
    let mut line = serde_json::to_vec(event)
        .map_err(io::Error::from)
        .on("write", &path)?;
    line.push(b'\n');
    files::make_dir(log_dir, 0o750)?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(flags);
    let mut file = options.open(&path).on("write", &path)?;
    flock(&file, FlockOperation::LockExclusive).on("lock", &path)?;
    let meta = file.metadata().on("write", &path)?;
    if !meta.is_file() {
        return Ok(());
    }
    if meta.len() > MAX_SIZE {
        // Who waits for the lock writes one more line into what was put aside.
        fs::rename(&path, aside(&path)).on("rename", &path)?;
        file = options.open(&path).on("write", &path)?;
    }
    shared::share(&file, &path)?;
    file.write_all(&line).on("write", &path)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// The entry point that did not come up, and why.
fn unhealthy(error: &LifecycleError) -> Option<(&str, &str)> {
    match error {
        LifecycleError::Start { entry, why, .. } => Some((entry, why)),
        LifecycleError::RolledBack { cause, .. } | LifecycleError::NotRolledBack { cause, .. } => {
            unhealthy(cause)
        }
        _ => None,
    }
}

/// What failed, if it had a name, and why: an event is one line.
fn failed(what: &str, error: &LifecycleError) -> String {
    let why = error.to_string();
    let first = why.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match what {
        "" => first.to_owned(),
        what => format!("{what}: {first}"),
    }
}

/// Gets events. An error ends the reading.
pub type EventSink<'a> = dyn FnMut(&Event) -> io::Result<()> + 'a;

impl Instance {
    /// What a deployment, or going back, came to.
    pub(crate) fn tell_deployed<T>(&self, kind: EventKind, what: &str, done: &Result<T>) {
        let event = match done {
            Ok(_) => Event::now(kind, what),
            // Nobody was allowed to try.
            Err(LifecycleError::NotPermitted { .. } | LifecycleError::Locked { .. }) => return,
            Err(error) => {
                self.tell_unhealthy(error);
                Event::now(EventKind::DeployFailed, &failed(what, error))
            }
        };
        tell(&self.log_dir(), &event);
    }

    /// Whether what was started came up.
    pub(crate) fn tell_changed(&self, done: &Result<Change>) {
        match done {
            Ok(Change::Done(entries)) => {
                let event = Event::now(EventKind::Healthy, &entries.join(", "));
                tell(&self.log_dir(), &event);
            }
            Ok(Change::Already) => {}
            Err(error) => self.tell_unhealthy(error),
        }
    }

    fn tell_unhealthy(&self, error: &LifecycleError) {
        if let Some((entry, why)) = unhealthy(error) {
            let event = Event {
                entry: Some(entry.to_owned()),
                ..Event::now(EventKind::Unhealthy, why)
            };
            tell(&self.log_dir(), &event);
        }
    }

    /// What happened since a time, the last `most` of it, the oldest first; with `follow` then what happens, until
    /// `sink` fails. A failure of kind `BrokenPipe` is no error.
    ///
    /// # Errors
    /// Files that cannot be read, and what `sink` says.
    pub fn events(
        &self,
        since: Option<Timestamp>,
        most: usize,
        follow: bool,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let path = self.log_dir().join(FILE);
        // What is written from now on is seen by following.
        let end = fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
        let mut events = read(&aside(&path), u64::MAX)?;
        events.extend(read(&path, end)?);
        let mut starts = self.starts()?;
        if let Some(starts) = &mut starts {
            events.extend(starts.past(since, most)?);
            // Times in this form are in the order of their text.
            events.sort_by(|a, b| a.at.cmp(&b.at));
        }
        let is_recent = |event: &Event| {
            let at = event.at.parse::<Timestamp>();
            since.is_none_or(|since| at.is_ok_and(|at| at >= since))
        };
        events.retain(is_recent);
        if !told(&events[events.len().saturating_sub(most)..], &path, sink)? || !follow {
            return Ok(());
        }
        let log = LogFile {
            entry: String::new(),
            kind: status::EntryKind::Daemon,
            path: path.clone(),
        };
        let mut file = Followed::new((&log, end));
        let mut starts = starts.map(Starts::follow).transpose()?;
        loop {
            let lines = file.new_lines().on("read", &path)?;
            let known = |line: &String| serde_json::from_str::<Event>(line).ok();
            let mut new: Vec<Event> = lines.iter().filter_map(known).collect();
            new.extend(starts.iter_mut().flat_map(Following::new_events));
            new.sort_by(|a, b| a.at.cmp(&b.at));
            if !told(&new, &path, sink)? {
                return Ok(());
            }
            std::thread::sleep(logs::TICK);
        }
    }

    /// The starts of its daemons, where they are not in the file.
    fn starts(&self) -> Result<Option<Starts>> {
        let entries = self.known()?.map(|known| known.entries);
        let entries = entries.unwrap_or_default();
        let daemons = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Daemon);
        let daemons: Vec<String> = daemons.map(|entry| entry.name.clone()).collect();
        match daemons.is_empty() {
            true => Ok(None),
            false => Ok(self.service()?.starts(self, &daemons)),
        }
    }
}

/// `false`: nobody reads any more.
fn told(events: &[Event], path: &Path, sink: &mut EventSink<'_>) -> Result<bool> {
    for event in events {
        match sink(event) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
            other => other.on("print", path)?,
        }
    }
    Ok(true)
}

fn read(path: &Path, limit: u64) -> Result<Vec<Event>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => readable(other, path)?,
    };
    let mut events = Vec::new();
    for line in BufReader::new(file.take(limit)).split(b'\n') {
        let line = line.on("read", path)?;
        // Torn lines, and kinds of a later version, are none.
        events.extend(serde_json::from_slice::<Event>(&line).ok());
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_kept_in_order_and_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a");
        for number in 0..3 {
            tell(&log, &Event::now(EventKind::Deployed, &number.to_string()));
        }
        let path = log.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let all: Vec<Event> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(all[2].detail, "2");
        fs::write(&path, vec![b'\n'; usize::try_from(MAX_SIZE).unwrap() + 1]).unwrap();
        tell(&log, &Event::now(EventKind::Healthy, "x"));
        assert!(aside(&path).exists());
        assert!(fs::read_to_string(&path).unwrap().contains("healthy"));
        // A link in its place leads nowhere.
        let other = dir.path().join("other");
        fs::write(&other, "kept").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        tell(&log, &Event::now(EventKind::Healthy, "x"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }

    #[test]
    fn a_failure_is_one_line() {
        let error = LifecycleError::BadTag {
            tag: "x".to_owned(),
        };
        let why = error.to_string();
        assert_eq!(failed("", &error), why);
        assert_eq!(failed("1.2", &error), format!("1.2: {why}"));
        use metactl_bundles::layers::{Config, LayerKind, Source};
        let path = std::path::Path::new(".metactl");
        let source = Source::new(LayerKind::App, path, "[env]\nA = %(NOWHERE)\n");
        let report = Config::from_sources(vec![source]).unwrap_err();
        assert_eq!(failed("", &report.into()), "unknown name `NOWHERE`");
    }

    #[test]
    fn endings_have_kinds() {
        let exit = |failed| Exit {
            at: String::new(),
            code: Some(3),
            signal: None,
            reason: "exit code 3".to_owned(),
            failed,
        };
        let entry = crate::standalone::entry::tests::definition(
            "web",
            metactl_bundles::app::Restart::Always,
        );
        assert_eq!(
            Event::ended(&entry, &exit(true), false).kind,
            EventKind::Failed
        );
        assert_eq!(
            Event::ended(&entry, &exit(true), true).kind,
            EventKind::Stopped
        );
        assert_eq!(
            Event::ended(&entry, &exit(false), false).kind,
            EventKind::Ended
        );
        assert_eq!(Event::started(&entry, 2).kind, EventKind::Restarted);
        let cron = EntryRef {
            kind: EntryKind::Cron,
            ..entry
        };
        assert_eq!(
            Event::ended(&cron, &exit(true), false).kind,
            EventKind::CronFailed
        );
    }
}
