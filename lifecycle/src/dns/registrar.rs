//! The threads of a supervisor that keep the DNS true. Nothing waits for them but the end, and that not long.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::{Patience, Record};

use super::journal::{Failure, Journal};
use super::registration::Registration;
use super::rounds::{Rounds, Trouble};
use super::tidy;
use super::watch::{Watch, Watched};
use crate::error::Result;
use crate::files;
use crate::instance::Instance;
use crate::standalone::records::RunDir;
use crate::status::{DnsRecord, DnsState, DnsStatus};

/// How long the end of a supervisor waits for the names to be removed.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often everything is said again: somebody may have restored the zone from a backup.
pub(super) const REFRESH: Duration = Duration::from_secs(3600);
/// How soon everything is said again after a change: a server that was silent may carry out only now, and in another
/// order, what was sent to it over UDP and TCP while it was.
pub(super) const SETTLE: Duration = Duration::from_secs(30);
/// How often it is looked whether others have left names.
const SWEEP: Duration = Duration::from_secs(20);

/// What there is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Task {
    /// What is registered from start to stop; none: nothing.
    pub(crate) registration: Option<Registration>,
    /// The daemons that should run, for the name of the application.
    pub(crate) daemons: Vec<Watched>,
}

/// Keeps the records of one instance.
#[derive(Debug)]
pub(crate) struct Registrar {
    instance: Instance,
    path: PathBuf,
    run: RunDir,
    shared: Arc<Shared>,
    works: bool,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    task: Task,
    /// What the looks at `task.daemons` have come to.
    watch: Watch,
    status: Option<DnsStatus>,
    /// The supervisor ends.
    leaves: bool,
    /// Everything is removed, or was tried to be.
    gone: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a thread that crashed has left is a whole value all the same.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, limit: Duration) -> MutexGuard<'a, Inner> {
        match self.changed.wait_timeout(inner, limit) {
            Ok((inner, _)) => inner,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

impl Registrar {
    pub(crate) fn new(instance: &Instance) -> Registrar {
        Registrar {
            path: instance.dns_journal(),
            run: instance.run_dir(),
            instance: instance.clone(),
            shared: Arc::default(),
            works: false,
        }
    }

    /// Has this done from now on. Returns at once.
    pub(crate) fn want(&mut self, task: Task) {
        let idle = task.registration.is_none() && !Journal::exists(&self.path);
        if !self.works && idle {
            return;
        }
        let mut inner = self.shared.lock();
        if self.works && inner.task == task {
            return;
        }
        inner.task = task;
        let daemons = inner.task.daemons.clone();
        inner.watch.of(&daemons);
        drop(inner);
        self.shared.changed.notify_all();
        if !self.works {
            self.works = true;
            self.begin();
        }
    }

    fn begin(&self) {
        let (shared, run) = (Arc::clone(&self.shared), self.run.clone());
        let (path, instance) = (self.path.clone(), self.instance.clone());
        std::thread::spawn(move || match Journal::read(&path) {
            Ok(journal) => Keeper::new(journal, instance).keep(&shared, &run),
            Err(error) => shared.tell(Some(broken(&error.to_string())), &run),
        });
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || watch(&shared));
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Option<DnsStatus> {
        self.shared.lock().status.clone()
    }

    /// Has everything removed, and waits for it a little. What is left is written down.
    pub(crate) fn finish(&mut self) {
        self.want(Task::default());
        if !self.works {
            return;
        }
        let deadline = Instant::now() + FAREWELL;
        let mut inner = self.shared.lock();
        inner.leaves = true;
        self.shared.changed.notify_all();
        while !inner.gone {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.shared.wait(inner, left);
        }
    }
}

/// The status of a journal that cannot be read.
pub(super) fn broken(why: &str) -> DnsStatus {
    DnsStatus {
        records: Vec::new(),
        healthy: None,
        troubles: vec![why.to_owned()],
        next: None,
    }
}

impl Shared {
    /// Publishes how it stands.
    fn tell(&self, status: Option<DnsStatus>, run: &RunDir) {
        let mut inner = self.lock();
        if inner.status != status {
            inner.status = status;
            drop(inner);
            run.wake();
        }
    }
}

/// Looks at the daemons, as long as they have a name that depends on it.
fn watch(shared: &Shared) {
    loop {
        let mut inner = shared.lock();
        while inner.task.registration.is_none() && !inner.leaves {
            inner = shared.wait(inner, REFRESH);
        }
        if inner.leaves {
            return;
        }
        let mut watch = inner.watch.clone();
        drop(inner);
        watch.look();
        let mut inner = shared.lock();
        let daemons = inner.task.daemons.clone();
        let pause = watch.pause();
        let before = inner.watch.healthy;
        watch.of(&daemons);
        inner.watch = watch;
        if inner.watch.healthy != before {
            shared.changed.notify_all();
        }
        let until = Instant::now() + pause;
        // Other daemons are looked at without a pause.
        while !inner.leaves && inner.task.daemons == daemons && inner.task.registration.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = shared.wait(inner, left);
        }
    }
}

/// The thread that speaks with name servers.
struct Keeper {
    instance: Instance,
    rounds: Rounds,
    /// What the last round was to reach, and with whom.
    reached: Option<BTreeSet<Record>>,
    via: Option<Dns>,
    troubles: Vec<Trouble>,
    tries: u32,
    /// When the next round is due, whatever is wanted.
    due: Instant,
    /// When everything is said again.
    again: Instant,
    /// The same as a time of the clock, when something is to be tried again.
    next: Option<jiff::Timestamp>,
    /// When it is looked whether others have left names.
    sweep: Instant,
}

impl Keeper {
    fn new(mut journal: Journal, instance: Instance) -> Keeper {
        journal.content.failure = None;
        Keeper {
            instance,
            sweep: Instant::now() + SWEEP,
            rounds: Rounds::new(journal, Patience::long()),
            reached: None,
            via: None,
            troubles: Vec::new(),
            tries: 0,
            due: Instant::now(),
            again: Instant::now() + SETTLE,
            next: None,
        }
    }

    fn keep(mut self, shared: &Shared, run: &RunDir) {
        loop {
            let inner = shared.lock();
            let (task, leaves) = (inner.task.clone(), inner.leaves);
            let healthy = inner.watch.healthy;
            drop(inner);
            let wanted = self.wanted(&task, healthy);
            let via = task.registration.as_ref().map(|found| &found.via);
            let changed = self.reached.as_ref() != Some(&wanted) || self.via.as_ref() != via;
            if changed || Instant::now() >= self.due {
                if leaves {
                    self.rounds.patience = Patience::short();
                }
                shared.tell(self.status(&task, healthy, &wanted), run);
                self.round(&task, &wanted);
                if leaves {
                    self.remember();
                }
            }
            shared.tell(self.status(&task, healthy, &wanted), run);
            let mut inner = shared.lock();
            if leaves {
                inner.gone = true;
                shared.changed.notify_all();
                return;
            }
            let unchanged = |inner: &Inner| {
                inner.task == task && inner.watch.healthy == healthy && !inner.leaves
            };
            let until = self.due.min(self.sweep);
            while unchanged(&inner) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                inner = shared.wait(inner, left);
            }
            let idle = unchanged(&inner);
            drop(inner);
            if idle && Instant::now() >= self.sweep {
                self.sweep_up();
            }
        }
    }

    /// Removes what stopped and deleted instances could not: who is there does it for who is not.
    fn sweep_up(&mut self) {
        self.sweep = Instant::now() + SWEEP;
        match tidy::sweep_for(&self.instance) {
            Ok(lines) => lines.iter().for_each(|line| say(line)),
            Err(error) => say(&error.to_string()),
        }
    }

    /// What should be there. While it is not known whether the daemons are healthy (a supervisor has taken over
    /// what runs), the name of the application stays as it is.
    fn wanted(&self, task: &Task, healthy: Option<bool>) -> BTreeSet<Record> {
        let Some(registration) = &task.registration else {
            return BTreeSet::new();
        };
        let was = || {
            let mut records = self.rounds.journal.records();
            records.any(|record| record.owner == *registration.app())
        };
        registration.records(healthy.unwrap_or_else(was))
    }

    fn round(&mut self, task: &Task, wanted: &BTreeSet<Record>) {
        let via = task.registration.as_ref().map(|found| &found.via);
        let same = self.reached.as_ref() == Some(wanted) && self.via.as_ref() == via;
        let now = Instant::now();
        if self.via.as_ref() != via || now >= self.again {
            self.rounds.confirmed.clear();
        }
        if !same {
            self.again = now + SETTLE;
        } else if now >= self.again {
            self.again = now + REFRESH;
        }
        let troubles = self.rounds.round(via.map(|via| (via, wanted)));
        let is_new = |trouble: &&Trouble| !self.troubles.contains(trouble);
        troubles
            .iter()
            .filter(is_new)
            .for_each(|trouble| say(&trouble.why));
        if troubles.is_empty() && !(same && self.troubles.is_empty()) {
            say(&format!("{} records are registered", wanted.len()));
        }
        self.tries = match troubles.is_empty() {
            true => 0,
            false => self.tries.saturating_add(1),
        };
        let pause = super::pause(self.tries);
        self.due = match self.tries {
            0 => self.again,
            _ => self.again.min(Instant::now() + pause),
        };
        let next = jiff::Timestamp::now().checked_add(pause).ok();
        self.next = next.filter(|_| self.tries > 0);
        self.troubles = troubles;
        self.reached = Some(wanted.clone());
        self.via = via.cloned();
    }

    /// For the command that goes on with what could not be removed.
    fn remember(&mut self) {
        if let Err(error) = remember(&mut self.rounds.journal, &self.troubles, self.tries) {
            say(&error.to_string());
        }
    }

    fn status(
        &self,
        task: &Task,
        healthy: Option<bool>,
        wanted: &BTreeSet<Record>,
    ) -> Option<DnsStatus> {
        if task.registration.is_none() && self.rounds.journal.is_empty() {
            return None;
        }
        let mut records = records(wanted, |record| {
            match self.rounds.confirmed.contains(record) {
                true => DnsState::Registered,
                false => DnsState::Waiting,
            }
        });
        let left = self
            .rounds
            .journal
            .records()
            .filter(|r| !wanted.contains(r));
        records.extend(self::records(left, |_| DnsState::Leaving));
        Some(DnsStatus {
            records,
            healthy: healthy.filter(|_| task.registration.is_some()),
            troubles: self.troubles.iter().map(sentence).collect(),
            next: self.next.map(files::rfc3339),
        })
    }
}

/// Records as they are told.
pub(super) fn records<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    state: impl Fn(&Record) -> DnsState,
) -> Vec<DnsRecord> {
    let told = |record: &'a Record| DnsRecord {
        name: record.owner.to_string(),
        kind: record.data.kind().to_owned(),
        data: record.data.to_string(),
        state: state(record),
    };
    records.into_iter().map(told).collect()
}

/// A trouble as it is told.
pub(super) fn sentence(trouble: &Trouble) -> String {
    match trouble.pointer {
        true => format!(
            "names of addresses (PTR): {} (`reverse = none` in [dns] leaves them out)",
            trouble.why
        ),
        false => trouble.why.clone(),
    }
}

/// Writes down beside what is registered how the last attempt failed.
pub(super) fn remember(journal: &mut Journal, troubles: &[Trouble], tries: u32) -> Result<()> {
    let next = jiff::Timestamp::now().checked_add(super::pause(tries));
    journal.content.failure = match (troubles.first(), next) {
        (Some(trouble), Ok(next)) => Some(Failure {
            why: sentence(trouble),
            tries,
            next: files::rfc3339(next),
        }),
        _ => None,
    };
    journal.write()
}

/// A line in the supervisor's log, which is its standard error.
fn say(line: &str) {
    eprintln!("{} names: {line}", files::now());
}
