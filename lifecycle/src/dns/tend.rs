//! The names of an instance that has no supervisor: its service manager keeps it running, and no process of metactl
//! stays. A look at it is a step of a process that ends; `crate::tend` says when.
//!
//! What should be there follows from what runs; what a look has learnt is in `standing` for the next one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::{Patience, Record};

use super::journal::Journal;
use super::registrar::{REFRESH, SETTLE, Task, records, remember, sentence};
use super::rounds::Rounds;
use super::standing::Standing;
use super::watch::Watch;
use crate::error::Result;
use crate::files;
use crate::instance::Instance;
use crate::lock::Lock;
use crate::status::{DnsState, DnsStatus};

/// How long a stop waits for a look that is under way.
const WAIT: Duration = Duration::from_secs(3);
/// A round that failed and took longer was spent on waiting.
const SLOW: Duration = Duration::from_secs(1);

/// What came of a look.
#[derive(Debug, Default)]
pub(crate) struct Tended {
    /// What was done, a sentence each.
    pub(crate) done: Vec<String>,
    /// What stands in the way now, a sentence each.
    pub(crate) troubles: Vec<String>,
    /// Those of them that were not told at the look before.
    pub(crate) new: Vec<String>,
    /// Another look soon is worth it.
    pub(crate) soon: bool,
}

/// Name servers that were waited for in vain: one dead server is not waited for once for each of 500 instances.
#[derive(Debug, Default)]
pub(crate) struct Unwilling(BTreeSet<Vec<SocketAddr>>);

/// Whether the network of an instance is there: what its names lead to.
pub(super) fn is_up(instance: &Instance) -> bool {
    instance.run_dir().network().exists()
}

/// Somebody says that there is something to see.
pub(crate) fn ask(instance: &Instance) -> Result<()> {
    files::replace(&asked(instance), b"", 0o644)
}

/// Whether somebody has said so since the last look.
pub(crate) fn is_asked(instance: &Instance) -> bool {
    asked(instance).exists()
}

fn asked(instance: &Instance) -> PathBuf {
    instance.run_dir().0.join("dns.asked")
}

/// Looks at an instance, and does what is due; with `now` also what is not. `None`: somebody else is at it.
pub(crate) fn tend(
    instance: &Instance,
    task: &Task,
    patience: Patience,
    unwilling: &mut Unwilling,
    now: bool,
) -> Result<Option<Tended>> {
    let lock = Lock::acquire(&instance.supervisor_lock(), "names", Duration::ZERO)?;
    let Ok(_lock) = lock else { return Ok(None) };
    if !is_up(instance) {
        return Ok(None);
    }
    files::remove_file(&asked(instance))?;
    let before = Standing::read(instance);
    let mut journal = Journal::read(&instance.dns_journal())?;
    // That is of the time when it did not run.
    journal.content.failure = None;
    if task.registration.is_none() && journal.is_empty() {
        Standing::forget(instance)?;
        return Ok(Some(Tended::default()));
    }
    let mut watch = Watch::resume(&task.daemons, &before.seen);
    if task.registration.is_some() {
        watch.look();
    }
    let mut look = Look {
        task,
        standing: before.clone(),
        rounds: Rounds::new(journal, patience),
        wanted: BTreeSet::new(),
    };
    look.standing.seen = watch.remember();
    look.wanted = look.wanted(watch.healthy);
    let done = look.round(unwilling, now);
    look.standing.status = look.status(watch.healthy);
    look.standing.write(instance, &before)?;
    let troubles = look.standing.status.troubles;
    let is_new = |trouble: &&String| !before.status.troubles.contains(trouble);
    Ok(Some(Tended {
        done,
        new: troubles.iter().filter(is_new).cloned().collect(),
        troubles,
        soon: task.registration.is_some() && watch.is_restless(),
    }))
}

/// One look.
struct Look<'a> {
    task: &'a Task,
    standing: Standing,
    rounds: Rounds,
    wanted: BTreeSet<Record>,
}

impl Look<'_> {
    fn via(&self) -> Option<&Dns> {
        self.task.registration.as_ref().map(|found| &found.via)
    }

    /// What should be there. While it is not known whether the daemons are healthy, the name of the application stays as
    /// it is.
    fn wanted(&self, healthy: Option<bool>) -> BTreeSet<Record> {
        let Some(registration) = &self.task.registration else {
            return BTreeSet::new();
        };
        let was = || {
            let mut records = self.rounds.journal.records();
            records.any(|record| record.owner == *registration.app())
        };
        registration.records(healthy.unwrap_or_else(was))
    }

    /// The round that is due, if one is. What was done.
    fn round(&mut self, unwilling: &mut Unwilling, now: bool) -> Vec<String> {
        let time = millis();
        let via = self.via().cloned();
        let reached = via.clone().map(|via| (via, self.wanted.clone()));
        let same = self.standing.reached == reached;
        let same_via = match (&self.standing.reached, &via) {
            (Some((before, _)), Some(via)) => before == via,
            _ => false,
        };
        if same && !now && !is_due(self.standing.due, time) {
            return Vec::new();
        }
        let again = is_due(self.standing.again, time);
        // By hand it is said again, too: who types it has a reason.
        if same_via && !again && !now {
            self.rounds.confirmed = self.standing.confirmed.clone();
        }
        match same {
            false => self.standing.again = time + in_millis(SETTLE),
            true if again => self.standing.again = time + in_millis(REFRESH),
            true => {}
        }
        let servers = via.as_ref().map(|via| via.servers.clone());
        let waited = servers
            .as_ref()
            .is_some_and(|one| unwilling.0.contains(one));
        let failed = match waited {
            // Said once, as it was for the instance before.
            true => vec!["the name server was waited for in vain a moment ago".to_owned()],
            false => {
                let begun = Instant::now();
                let troubles = self
                    .rounds
                    .round(via.as_ref().map(|via| (via, &self.wanted)));
                if !troubles.is_empty() && begun.elapsed() > SLOW {
                    unwilling.0.extend(servers);
                }
                troubles.iter().map(sentence).collect()
            }
        };
        let news = !same || !self.standing.status.troubles.is_empty();
        self.standing.tries = match failed.is_empty() {
            true => 0,
            false => self.standing.tries.saturating_add(1),
        };
        self.standing.due = match self.standing.tries {
            0 => self.standing.again,
            tries => time + in_millis(super::pause(tries)),
        };
        self.standing.confirmed = self.rounds.confirmed.clone();
        self.standing.reached = reached;
        let done = failed.is_empty() && news;
        self.standing.status.troubles = failed;
        match done {
            true => vec![format!("{} records are registered", self.wanted.len())],
            false => Vec::new(),
        }
    }

    fn status(&self, healthy: Option<bool>) -> DnsStatus {
        let mut told = records(&self.wanted, |record| {
            match self.standing.confirmed.contains(record) {
                true => DnsState::Registered,
                false => DnsState::Waiting,
            }
        });
        let journal = self.rounds.journal.records();
        let left = journal.filter(|record| !self.wanted.contains(record));
        told.extend(records(left, |_| DnsState::Leaving));
        let next = jiff::Timestamp::from_millisecond(self.standing.due).ok();
        DnsStatus {
            records: told,
            healthy: healthy.filter(|_| self.task.registration.is_some()),
            troubles: self.standing.status.troubles.clone(),
            next: next.filter(|_| self.standing.tries > 0).map(files::rfc3339),
        }
    }
}

fn millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn in_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a time has come; also one that lies further off than any that is set: then the clock was changed.
fn is_due(time: i64, now: i64) -> bool {
    now >= time || time - now > in_millis(REFRESH)
}

/// The network of the instance is gone, and so are its names, or what is left of them is written down: the next look at
/// the server goes on with it. What was done, or stands in the way, in sentences. Never takes long.
pub(crate) fn leave(instance: &Instance) -> Result<Vec<String>> {
    let path = instance.dns_journal();
    if !Journal::exists(&path) {
        return Ok(Vec::new());
    }
    let lock = Lock::acquire(&instance.supervisor_lock(), "names", WAIT)?;
    let Ok(_lock) = lock else {
        return Ok(vec![
            "its names are being looked at; they are removed from the DNS after that".to_owned(),
        ]);
    };
    Standing::forget(instance)?;
    let journal = Journal::read(&path)?;
    let count = journal.records().count();
    let mut rounds = Rounds::new(journal, Patience::short());
    let troubles = rounds.round(None);
    remember(&mut rounds.journal, &troubles, 1)?;
    Ok(match rounds.journal.is_empty() {
        true => vec![format!("{count} records of it are removed from the DNS")],
        false => troubles.iter().map(sentence).collect(),
    })
}

#[cfg(test)]
#[path = "tend_tests.rs"]
mod tests;
