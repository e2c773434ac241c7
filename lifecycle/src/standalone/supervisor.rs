//! The supervisor of an instance: one process that keeps running what should run.
//!
//! It may be killed at any moment. What should run stands in `wanted.json`, what was launched in
//! the records of the runtime; its successor adopts that, and goes on. It handles no signal: to
//! stop an instance is to want nothing.
//!
//! One round of its loop: read what is wanted, do all that can be done now, tell, wait.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Zoned;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest, read_manifest};
use metactl_runtime::ProcessId;
use metactl_runtime::process::wait_dead;
use metactl_runtime::state::{State, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::entry::{Action, Daemon};
use super::exits;
use super::network::Network;
use super::records::{EntryReport, FORMAT, Launched, Report, RunDir, SupervisorRecord, Wanted};
use super::rotate;
use super::schedule::Job;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::launcher::{Net, Runtime};
use crate::lock::Lock;
use crate::status::{EntryState, Exit};

/// How long a supervisor before this one may take to go away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often logs are looked at, and clocks that jumped are noticed.
const TICK: Duration = Duration::from_secs(10);

/// Something that was launched and has a process.
#[derive(Debug)]
struct Alive {
    process: ProcessId,
    pidfd: OwnedFd,
    cgroups: Vec<PathBuf>,
    since: String,
    bundle: String,
    adopted: bool,
    /// Only for cron jobs, whose definition may change while they run.
    definition: EntryRef,
    /// Cron jobs that were asked to stop are killed at this time.
    kill_at: Option<Instant>,
}

/// The bundle that is wanted.
#[derive(Debug)]
struct Bundle {
    digest: String,
    dir: PathBuf,
    manifest: Manifest,
}

/// The supervisor.
pub(crate) struct Supervisor {
    instance: String,
    state_dir: PathBuf,
    log_dir: PathBuf,
    run: RunDir,
    runtime: Runtime,
    network: Network,
    wanted: Option<Wanted>,
    bundle: Option<Bundle>,
    daemons: BTreeMap<String, Daemon>,
    jobs: BTreeMap<String, Job>,
    alive: BTreeMap<String, Alive>,
    /// What stands in the way, for `status`.
    trouble: Option<String>,
    told: Option<Report>,
    rotated: Instant,
}

/// Supervises until everything is stopped.
pub(crate) fn supervise(instance: &Instance) -> Result<()> {
    // Away from the terminal that it was started from. It fails for who is away already.
    let _away = nix::unistd::setsid();
    let paths = &instance.manager.paths;
    let run = instance.run_dir();
    if run.wanted()?.is_none() {
        return Ok(());
    }
    let lock = Lock::acquire(&instance.supervisor_lock(), "supervise", PATIENCE)?;
    let _lock = lock.map_err(|held| LifecycleError::Supervisor {
        instance: instance.name.clone(),
        why: format!("runs already: {}", held.0),
        log: instance.supervisor_log(),
        tail: Vec::new(),
    })?;
    let state_dir = paths.instance_state(&instance.name);
    let hosts = state_dir.join("etc/hosts");
    let supervisor = Supervisor {
        instance: instance.name.clone(),
        log_dir: paths.instance_log(&instance.name),
        runtime: instance.runtime(),
        network: Network::new(&instance.name, run.clone(), hosts),
        state_dir,
        run,
        wanted: None,
        bundle: None,
        daemons: BTreeMap::new(),
        jobs: BTreeMap::new(),
        alive: BTreeMap::new(),
        trouble: None,
        told: None,
        rotated: Instant::now(),
    };
    supervisor.run()
}

impl Supervisor {
    fn run(mut self) -> Result<()> {
        let mut wake = self.run.open_wake()?;
        let record = SupervisorRecord {
            format: FORMAT,
            process: current()?,
            since: files::now(),
        };
        self.run.write_supervisor(&record)?;
        self.say("supervises");
        self.read_wanted();
        self.adopt()?;
        loop {
            self.follow_names();
            self.read_wanted();
            self.act();
            self.tell();
            if self.wanted.is_none() && self.alive.is_empty() {
                return self.finish();
            }
            self.wait(&wake);
            drain(&mut wake);
            self.bury();
            self.rotate();
        }
    }

    // --- What is wanted -------------------------------------------------------------------------

    fn read_wanted(&mut self) {
        let wanted = match self.run.wanted() {
            Ok(wanted) => wanted,
            // What ran goes on; who wrote it will see that nothing changes.
            Err(error) => return self.in_trouble(error.to_string()),
        };
        if wanted == self.wanted {
            return;
        }
        let loaded = wanted
            .as_ref()
            .map(|wanted| self.load(&wanted.bundle))
            .transpose();
        match loaded {
            Ok(bundle) => {
                self.trouble = None;
                self.use_bundle(bundle);
                self.wanted = wanted;
            }
            Err(error) => self.in_trouble(error.to_string()),
        }
    }

    fn load(&self, digest: &str) -> Result<Bundle> {
        let dir = self.state_dir.join("bundles").join(digest);
        let manifest = read_manifest(&dir)?;
        Ok(Bundle {
            digest: digest.to_owned(),
            dir,
            manifest,
        })
    }

    /// Learns the entry points of a bundle. Those that run keep the definition that they were
    /// launched with until they have stopped.
    fn use_bundle(&mut self, bundle: Option<Bundle>) {
        let same = match (&self.bundle, &bundle) {
            (Some(old), Some(new)) => old.digest == new.digest,
            _ => false,
        };
        self.bundle = bundle;
        let Some(bundle) = &self.bundle else { return };
        if same {
            return;
        }
        let now = Zoned::now();
        let mut jobs = BTreeMap::new();
        let mut daemons = BTreeMap::new();
        for entry in &bundle.manifest.entries {
            match entry.kind {
                EntryKind::Cron => {
                    let mut job = Job::new(entry.clone(), &now);
                    if let Some(old) = self.jobs.remove(&entry.name) {
                        job.last_exit = job.last_exit.or(old.last_exit);
                    }
                    jobs.insert(entry.name.clone(), job);
                }
                EntryKind::Daemon => {
                    let daemon = self.daemons.remove(&entry.name);
                    let daemon = daemon.unwrap_or_else(|| Daemon::new(entry.clone()));
                    daemons.insert(entry.name.clone(), daemon);
                }
            }
        }
        // Who runs and is in no bundle any more is still to be stopped.
        self.daemons.retain(|_, daemon| daemon.is_alive());
        daemons.append(&mut self.daemons);
        self.daemons = daemons;
        self.jobs = jobs;
    }

    /// The generation of a daemon that should run.
    fn target(&self, name: &str) -> Option<&str> {
        self.wanted.as_ref()?.daemons.get(name).map(String::as_str)
    }

    // --- What a supervisor before this one left -------------------------------------------------

    fn adopt(&mut self) -> Result<()> {
        let prefix = format!("{}.", self.instance);
        for id in self.runtime.ids(&prefix)? {
            let name = id.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let state = self
                .runtime
                .containers(&id)?
                .into_iter()
                .find(|state| state.id == id);
            let adopted = match &state {
                Some(state) if state.status() == Status::Running => self.adopt_one(&name, state)?,
                _ => false,
            };
            if adopted {
                self.say(&format!("adopts {name}"));
            } else {
                // Half launched, or dead.
                self.runtime.remove(&id)?;
                self.run.remove_launched(&name)?;
            }
        }
        if let Some(bundle) = &self.bundle {
            let manifest = bundle.manifest.clone();
            self.network.adopt(&manifest)?;
        }
        Ok(())
    }

    fn adopt_one(&mut self, name: &str, state: &State) -> Result<bool> {
        let Some(process) = state.process.clone() else {
            return Ok(false);
        };
        let Some(pidfd) = process.open().on("open", &self.run.0)? else {
            return Ok(false);
        };
        let launched = self.run.launched(name)?;
        let digest = match &launched {
            Some(launched) => launched.bundle.clone(),
            None => return Ok(false),
        };
        let manifest = read_manifest(&self.state_dir.join("bundles").join(&digest))?;
        let Some(definition) = manifest
            .entries
            .into_iter()
            .find(|entry| entry.name == name)
        else {
            return Ok(false);
        };
        if let (EntryKind::Daemon, Some(launched)) = (definition.kind, &launched) {
            let mut daemon = Daemon::new(definition.clone());
            daemon.launching(&launched.generation);
            daemon.restarts = launched.restarts;
            daemon.launched(Instant::now());
            self.daemons.insert(name.to_owned(), daemon);
        }
        let since = launched.map_or_else(files::now, |launched| launched.at);
        self.alive.insert(
            name.to_owned(),
            Alive {
                process,
                pidfd,
                cgroups: state.cgroups.clone(),
                since,
                bundle: digest,
                adopted: true,
                definition,
                kill_at: None,
            },
        );
        Ok(true)
    }

    // --- What can be done now -------------------------------------------------------------------

    fn act(&mut self) {
        let now = Instant::now();
        for name in self.stop_order() {
            self.stop_step(&name, now);
        }
        self.stop_jobs(now);
        if !self.make_network_fit() {
            return;
        }
        for name in self.start_order() {
            let target = self.target(&name).map(str::to_owned);
            let action = self
                .daemons
                .get(&name)
                .and_then(|d| d.next(target.as_deref(), now));
            if let (Some(Action::Launch), Some(generation)) = (action, target)
                && self.others_began(&name)
            {
                self.launch_daemon(&name, &generation);
            }
        }
        self.start_jobs();
    }

    fn stop_step(&mut self, name: &str, now: Instant) {
        let target = self.target(name).map(str::to_owned);
        let Some(daemon) = self.daemons.get_mut(name) else {
            return;
        };
        let action = daemon.next(target.as_deref(), now);
        if target.is_none() && !daemon.is_alive() {
            daemon.rest();
        }
        let waits = matches!(action, Some(Action::Ask)) && self.has_dependents(name);
        let Some(daemon) = self.daemons.get_mut(name) else {
            return;
        };
        let Some(alive) = self.alive.get(name) else {
            return;
        };
        match action {
            Some(Action::Ask) if !waits => {
                send(&alive.pidfd, daemon.definition.stop_signal);
                daemon.asked(now);
            }
            Some(Action::Kill) => {
                send(&alive.pidfd, Signal::KILL.as_raw());
                daemon.killed();
                self.say(&format!("kills {name}, which did not stop in time"));
            }
            _ => {}
        }
    }

    /// Whether somebody who is to be started after `name` still runs and is being stopped.
    fn has_dependents(&self, name: &str) -> bool {
        self.daemons.iter().any(|(other, daemon)| {
            let depends = daemon.definition.after.iter().any(|before| before == name);
            depends && daemon.is_alive() && self.target(other) != daemon.generation.as_deref()
        })
    }

    fn stop_jobs(&mut self, now: Instant) {
        let digest = self.bundle.as_ref().map(|bundle| bundle.digest.clone());
        let wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.cron);
        for alive in self.alive.values_mut() {
            let is_job = alive.definition.kind == EntryKind::Cron;
            // A job of an older bundle only has to go when the network is to change.
            let keeps = wanted && (digest.as_ref() == Some(&alive.bundle) || self.network.is_up());
            if !is_job || keeps {
                continue;
            }
            match alive.kill_at {
                None => {
                    send(&alive.pidfd, alive.definition.stop_signal);
                    alive.kill_at = Some(now + alive.definition.stop_timeout);
                }
                Some(at) if now >= at => send(&alive.pidfd, Signal::KILL.as_raw()),
                Some(_) => {}
            }
        }
    }

    /// Stops what runs in a network that the bundle does not describe. `false`: not yet.
    fn make_network_fit(&mut self) -> bool {
        let Some(bundle) = &self.bundle else {
            return false;
        };
        match self.network.fits(&bundle.dir) {
            Ok(true) => true,
            // It is made when the first entry point is launched.
            Ok(false) if self.alive.is_empty() => true,
            Ok(false) => {
                // Daemons have another generation and stop by themselves; jobs do not.
                let now = Instant::now();
                let digest = bundle.digest.clone();
                let old = |alive: &&mut Alive| {
                    alive.definition.kind == EntryKind::Cron && alive.bundle != digest
                };
                for alive in self.alive.values_mut().filter(old) {
                    if alive.kill_at.is_none() {
                        send(&alive.pidfd, alive.definition.stop_signal);
                        alive.kill_at = Some(now + alive.definition.stop_timeout);
                    }
                }
                false
            }
            Err(error) => {
                self.in_trouble(error.to_string());
                false
            }
        }
    }

    /// Whether everybody who is to be started before `name` has been.
    fn others_began(&self, name: &str) -> bool {
        let Some(daemon) = self.daemons.get(name) else {
            return false;
        };
        daemon.definition.after.iter().all(|before| {
            let target = self.target(before);
            let began = self
                .daemons
                .get(before)
                .and_then(|other| other.generation.as_deref());
            target.is_none() || began == target
        })
    }

    /// Daemons, those first that others come after.
    fn start_order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let mut left: Vec<&String> = self.daemons.keys().collect();
        while !left.is_empty() {
            let ready = |name: &&String| {
                let after = self
                    .daemons
                    .get(*name)
                    .map(|d| d.definition.after.as_slice());
                after
                    .unwrap_or_default()
                    .iter()
                    .all(|before| !left.contains(&before) || before == *name)
            };
            // The configuration refuses circles; if there is one, it is cut somewhere.
            let at = left.iter().position(ready).unwrap_or(0);
            order.push(left.remove(at).clone());
        }
        order
    }

    fn stop_order(&self) -> Vec<String> {
        let mut order = self.start_order();
        order.reverse();
        order
    }

    fn launch_daemon(&mut self, name: &str, generation: &str) {
        let definition = self.definition(name);
        let (Some(definition), Some(daemon)) = (definition, self.daemons.get_mut(name)) else {
            return;
        };
        daemon.definition = definition.clone();
        daemon.launching(generation);
        let restarts = daemon.restarts;
        let result = self.launch(&definition, generation, restarts);
        let now = Instant::now();
        match (result, self.daemons.get_mut(name)) {
            (Ok(()), Some(daemon)) => daemon.launched(now),
            (Err(error), Some(daemon)) => {
                let exit = exits::not_launched(&error);
                daemon.ended(exit, now);
                self.say(&format!("{name}: {error}"));
            }
            (_, None) => {}
        }
    }

    fn start_jobs(&mut self) {
        if !self.wanted.as_ref().is_some_and(|wanted| wanted.cron) {
            return;
        }
        let now = Zoned::now();
        let due: Vec<EntryRef> = self
            .jobs
            .values_mut()
            .filter_map(|job| job.is_due(&now).then(|| job.definition.clone()))
            .collect();
        for definition in due {
            let name = definition.name.clone();
            if self.alive.contains_key(&name) {
                self.say(&format!("{name} still runs; its next time is left out"));
                continue;
            }
            if let Err(error) = self.launch(&definition, &files::now(), 0) {
                self.say(&format!("{name}: {error}"));
                if let Some(job) = self.jobs.get_mut(&name) {
                    job.last_exit = Some(exits::not_launched(&error));
                }
            }
        }
    }

    fn definition(&self, name: &str) -> Option<EntryRef> {
        let entries = &self.bundle.as_ref()?.manifest.entries;
        entries.iter().find(|entry| entry.name == name).cloned()
    }

    fn launch(&mut self, definition: &EntryRef, generation: &str, restarts: u32) -> Result<()> {
        let Some(bundle) = &self.bundle else {
            return Ok(());
        };
        let uplink = self
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.uplink.clone());
        self.network.up(
            &self.runtime,
            &bundle.dir,
            &bundle.manifest,
            uplink.as_deref(),
        )?;
        let name = &definition.name;
        let at = files::now();
        let launched = Launched {
            format: FORMAT,
            generation: generation.to_owned(),
            bundle: bundle.digest.clone(),
            at: at.clone(),
            restarts,
        };
        self.run.write_launched(name, &launched)?;
        let id = self.id(name);
        let join = self.network.join();
        let net = join.as_deref().map_or(Net::AsConfigured, Net::Join);
        let log = self.log_dir.join(format!("{name}.log"));
        let state = self
            .runtime
            .launch(&id, &bundle.dir.join(&definition.dir), net, &log);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                // The first error is the one to tell; what stays is removed by the next launch.
                let _tidied = self
                    .runtime
                    .remove(&id)
                    .and_then(|_| self.run.remove_launched(name));
                return Err(error);
            }
        };
        let gone = || LifecycleError::Runtime {
            verb: format!("run {id}"),
            why: "it ended at once, without an exit code".to_owned(),
        };
        let process = state.process.clone().ok_or_else(gone)?;
        // A process that has ended already is a zombie of this one's, and still has a descriptor.
        let pidfd = open_even_if_dead(&process)?.ok_or_else(gone)?;
        let alive = Alive {
            process,
            pidfd,
            cgroups: state.cgroups,
            since: at,
            bundle: bundle.digest.clone(),
            adopted: false,
            definition: definition.clone(),
            kill_at: None,
        };
        self.alive.insert(name.clone(), alive);
        Ok(())
    }

    fn id(&self, name: &str) -> String {
        format!("{}.{name}", self.instance)
    }

    // --- What ended -----------------------------------------------------------------------------

    fn bury(&mut self) {
        let ended: Vec<(String, Exit)> = self
            .alive
            .iter()
            .filter_map(|(name, alive)| {
                let exit = exits::of(alive.pidfd.as_fd(), &alive.cgroups, alive.adopted)?;
                Some((name.clone(), exit))
            })
            .collect();
        for (name, exit) in ended {
            self.alive.remove(&name);
            let id = self.id(&name);
            let tidied = self
                .runtime
                .remove(&id)
                .and_then(|_| self.run.remove_launched(&name))
                .and_then(|()| self.empty_tmp(&name));
            if let Err(error) = tidied {
                self.say(&format!("{name}: {error}"));
            }
            let expected = self.target(&name).is_none();
            if exit.failed && !expected {
                self.say(&format!("{name} ended: {}", exit.reason));
            }
            if let Some(daemon) = self.daemons.get_mut(&name) {
                daemon.ended(exit, Instant::now());
            } else if let Some(job) = self.jobs.get_mut(&name) {
                job.last_exit = Some(exit);
            }
        }
    }

    fn empty_tmp(&self, name: &str) -> Result<()> {
        files::empty_dir(&self.state_dir.join("tmp").join(name))
    }

    // --- Telling and waiting --------------------------------------------------------------------

    fn follow_names(&mut self) {
        match self.network.follow() {
            Ok(lines) => lines.iter().for_each(|line| self.say(line)),
            Err(error) => self.say(&format!("names: {error}")),
        }
    }

    fn report(&self) -> Report {
        let mut entries = BTreeMap::new();
        for (name, daemon) in &self.daemons {
            let target = self.target(name);
            entries.insert(
                name.clone(),
                self.daemon_report(name, daemon, target.is_some()),
            );
        }
        for (name, job) in &self.jobs {
            let alive = self.alive.get(name);
            let cron = self.wanted.as_ref().is_some_and(|wanted| wanted.cron);
            let state = match (alive, cron) {
                (Some(_), _) => EntryState::Running,
                (None, true) => EntryState::Scheduled,
                (None, false) => EntryState::Stopped,
            };
            let report = EntryReport {
                state,
                generation: None,
                process: alive.map(|alive| alive.process.clone()),
                since: alive.map(|alive| alive.since.clone()),
                restarts: 0,
                adopted: alive.is_some_and(|alive| alive.adopted),
                last_exit: job.last_exit.clone(),
                next: job.next_rfc3339().filter(|_| cron),
            };
            entries.insert(name.clone(), report);
        }
        let mut notes = self.network.notes();
        notes.extend(self.trouble.clone());
        let change = self.wanted.as_ref().map(|wanted| wanted.change.clone());
        Report {
            format: FORMAT,
            change,
            entries,
            notes,
        }
    }

    fn daemon_report(&self, name: &str, daemon: &Daemon, wanted: bool) -> EntryReport {
        use super::entry::Phase;
        let alive = self.alive.get(name);
        let (state, next) = match daemon.phase {
            Phase::Idle if wanted => (EntryState::Starting, None),
            Phase::Idle => (EntryState::Stopped, None),
            Phase::Waiting(at) => {
                let pause = at.saturating_duration_since(Instant::now());
                let at = jiff::Timestamp::now().checked_add(pause).ok();
                (EntryState::Waiting, at.map(files::rfc3339))
            }
            Phase::Running(_) => (EntryState::Running, None),
            Phase::Stopping(_) => (EntryState::Stopping, None),
            Phase::Ended => (EntryState::Ended, None),
        };
        EntryReport {
            state,
            generation: daemon.generation.clone(),
            process: alive.map(|alive| alive.process.clone()),
            since: alive.map(|alive| alive.since.clone()),
            restarts: daemon.restarts,
            adopted: alive.is_some_and(|alive| alive.adopted),
            last_exit: daemon.last_exit.clone(),
            next,
        }
    }

    fn tell(&mut self) {
        let report = self.report();
        if self.told.as_ref() == Some(&report) {
            return;
        }
        match self.run.write_report(&report) {
            Ok(()) => self.told = Some(report),
            Err(error) => self.say(&error.to_string()),
        }
    }

    /// Waits until something ends, somebody wakes it, or something is due.
    fn wait(&self, wake: &File) {
        let now = Instant::now();
        let mut pause = TICK;
        let deadlines = self
            .daemons
            .values()
            .filter_map(Daemon::deadline)
            .chain(self.alive.values().filter_map(|alive| alive.kill_at));
        for at in deadlines {
            // A deadline that has passed waits for the death of what was killed.
            let left = at.saturating_duration_since(now);
            pause = pause.min(left.max(Duration::from_millis(20)));
        }
        let clock = jiff::Timestamp::now();
        for due in self.jobs.values().filter_map(|job| job.due_in(clock)) {
            pause = pause.min(Duration::from_millis(due.max(5)));
        }
        let pidfds = self.alive.values().map(|alive| alive.pidfd.as_fd());
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(wake.as_fd()).chain(pidfds).collect();
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let limit = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        // Interrupted or not: the loop looks at everything again.
        let _ready = poll(&mut polled, Some(&limit));
    }

    fn rotate(&mut self) {
        if self.rotated.elapsed() < TICK {
            return;
        }
        self.rotated = Instant::now();
        if let Err(error) = rotate::rotate(&self.log_dir, rotate::MAX_SIZE) {
            self.say(&error.to_string());
        }
    }

    /// Everything is stopped and nothing is wanted: takes the rest away.
    fn finish(mut self) -> Result<()> {
        self.network.down(&self.runtime)?;
        for dir in files::entries(&self.state_dir.join("tmp"))? {
            files::empty_dir(&dir)?;
        }
        self.say("has stopped everything");
        Ok(())
    }

    fn in_trouble(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            self.say(&trouble);
            self.trouble = Some(trouble);
        }
    }

    /// A line in the supervisor's log, which is its standard error.
    fn say(&self, line: &str) {
        eprintln!("{} {line}", files::now());
    }
}

fn current() -> Result<ProcessId> {
    ProcessId::current().on("read", "/proc/self".as_ref())
}

fn open_even_if_dead(process: &ProcessId) -> Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error).on("open", "/proc".as_ref()),
    }
}

/// Sends a signal by its number; to who is gone already, it is none.
fn send(pidfd: &OwnedFd, number: i32) {
    let signal = Signal::from_named_raw(number).unwrap_or(Signal::TERM);
    let _gone = pidfd_send_signal(pidfd, signal);
}

/// Reads all bytes that somebody woke it with.
fn drain(wake: &mut File) {
    let mut buffer = [0; 64];
    while matches!(wake.read(&mut buffer), Ok(64)) {}
}

/// Waits for the end of a process that may be anybody's.
pub(super) fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    wait_dead(pidfd, Some(Duration::ZERO)).unwrap_or(false)
}
