//! The supervisor of an instance: a thread that keeps running what should run.
//!
//! It may be killed at any moment. What should run stands in `wanted.json`, what was launched in
//! the records of the runtime; its successor adopts that, and goes on. It handles no signal: to
//! stop an instance is to want nothing.
//!
//! One turn of its loop: read what is wanted, do all that can be done now, tell; then it waits. While it waits it is
//! only what it has to remember: there may be hundreds of them.

mod act;
mod adopt;
mod ended;
mod hear;
mod jobs;
mod names;
mod report;
mod stack;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use metactl_bundles::app::{Dns, Notify};
use metactl_bundles::bundle::{EntryKind, EntryRef, read_manifest};
use metactl_bundles::schedule::CronSettings;
use metactl_runtime::ProcessId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::entry::{Daemon, Phase};
use super::jobs::JobRecords;
use super::network::Network;
use super::notify::Notifier;
use super::process::current;
use super::records::{FORMAT, Report, RunDir, SupervisorRecord, Wanted, drain};
use super::rotate;
use super::schedule::Job;
use super::told::Listener;
use crate::dns::Registrar;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::launcher::{Runtime, append};
use crate::lock::Lock;

/// How long a supervisor before this one may take to go away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often logs are looked at, and clocks that jumped are noticed.
const TICK: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody has mended what stands in the way.
const TROUBLE_TICK: Duration = Duration::from_secs(1);

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

/// The bundle that is wanted, as far as it is needed again and again.
#[derive(Debug)]
struct Bundle {
    digest: String,
    dir: PathBuf,
    hostname: String,
    entries: Vec<EntryRef>,
    cron: CronSettings,
    notify: Notify,
    dns: Option<Dns>,
}

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Wait,
    Finish,
}

/// The supervisor.
pub(crate) struct Supervisor {
    instance: String,
    state_dir: PathBuf,
    log_dir: PathBuf,
    log: PathBuf,
    run: RunDir,
    runtime: Runtime,
    network: Network,
    wanted: Option<Wanted>,
    bundle: Option<Bundle>,
    daemons: BTreeMap<String, Daemon>,
    jobs: BTreeMap<String, Job>,
    job_records: JobRecords,
    alive: BTreeMap<String, Alive>,
    /// Where daemons are heard that tell by themselves how they are.
    listeners: BTreeMap<String, Listener>,
    /// What stands in the way, for `status`.
    trouble: Option<String>,
    told: Option<Report>,
    rotated: Instant,
    notifier: Notifier,
    registrar: Registrar,
    /// Says to others that somebody supervises: then they leave its names alone.
    lock: Option<Lock>,
    lock_path: PathBuf,
}

/// Supervises one instance in a process of its own, as metactl did before there was one for all: it is taken over
/// by that one when the next command comes.
pub(crate) fn supervise_alone(instance: &Instance) -> Result<()> {
    // Away from the terminal that it was started from. It fails for who is away already.
    let _away = nix::unistd::setsid();
    if instance.run_dir().wanted()?.is_none() {
        return Ok(());
    }
    if let Some(other) = instance.run_dir().supervisor()? {
        return Err(LifecycleError::Supervisor {
            instance: instance.name.clone(),
            why: format!("runs already: process {}", other.process.pid),
            log: instance.supervisor_log(),
            tail: Vec::new(),
        });
    }
    supervise(instance)
}

/// Supervises until everything is stopped.
pub(crate) fn supervise(instance: &Instance) -> Result<()> {
    let paths = &instance.manager.paths;
    let run = instance.run_dir();
    let state_dir = paths.instance_state(&instance.name);
    let hosts = state_dir.join("etc/hosts");
    let supervisor = Supervisor {
        instance: instance.name.clone(),
        log_dir: paths.instance_log(&instance.name),
        log: instance.supervisor_log(),
        runtime: instance.runtime(),
        network: Network::new(
            &instance.name,
            run.clone(),
            hosts,
            instance.manager.resolver()?,
        ),
        registrar: Registrar::new(instance),
        lock: None,
        lock_path: instance.supervisor_lock(),
        job_records: JobRecords::of(&state_dir),
        state_dir,
        run,
        wanted: None,
        bundle: None,
        daemons: BTreeMap::new(),
        jobs: BTreeMap::new(),
        alive: BTreeMap::new(),
        listeners: BTreeMap::new(),
        trouble: None,
        told: None,
        rotated: Instant::now(),
        notifier: Notifier::default(),
    };
    supervisor.run()
}

impl Supervisor {
    fn run(mut self) -> Result<()> {
        let name = self.instance.clone();
        let Some(mut wake) = stack::apart(&name, || self.begin())? else {
            return Ok(());
        };
        let mut woken = false;
        while stack::apart(&name, || self.turn(woken)) == Turn::Wait {
            self.wait(&wake);
            woken = drain(&mut wake);
        }
        self.finish()
    }

    /// Takes its place, and adopts what runs. Returns where it is woken; `None`: the instance was stopped in the
    /// meantime, and its directory is gone.
    fn begin(&mut self) -> Result<Option<File>> {
        let record = SupervisorRecord {
            format: FORMAT,
            process: current()?,
            since: files::now(),
        };
        self.displace(&record.process)?;
        self.lock = Some(self.acquire_lock()?);
        if !self.run.exists() {
            return Ok(None);
        }
        let mut wake = self.run.open_wake()?;
        self.run.write_supervisor(&record)?;
        self.say("supervises");
        self.wait_for_orders(&mut wake);
        self.read_wanted();
        self.adopt()?;
        self.settle_jobs();
        Ok(Some(wake))
    }

    /// All that can be done now. `woken`: by somebody, not by time.
    fn turn(&mut self, woken: bool) -> Turn {
        if woken {
            self.network.mend_soon();
        }
        self.hear();
        self.bury();
        self.rotate();
        self.look_after_network();
        self.read_wanted();
        self.act();
        self.register();
        self.tell();
        if self.wanted.is_none() && self.alive.is_empty() {
            return Turn::Finish;
        }
        self.mend_network();
        Turn::Wait
    }

    /// Takes the place of one that is alive: one of an earlier metactl, which supervised this instance alone.
    fn displace(&self, own: &ProcessId) -> Result<()> {
        let other = match self.run.supervisor() {
            Ok(other) => other,
            // It is replaced by this one's.
            Err(error) => {
                self.say(&error.to_string());
                None
            }
        };
        let Some(other) = other.filter(|other| other.process != *own) else {
            return Ok(());
        };
        self.say(&format!("replaces the supervisor {}", other.process.pid));
        super::server::displace(&other.process)
    }

    fn acquire_lock(&self) -> Result<Lock> {
        let lock = Lock::acquire(&self.lock_path, "supervise", PATIENCE)?;
        lock.map_err(|held| LifecycleError::Supervisor {
            instance: self.instance.clone(),
            why: format!("cannot begin: {}", held.0),
            log: self.log.clone(),
            tail: Vec::new(),
        })
    }

    /// Does nothing until it can be read what is wanted: what runs goes on. It is told in the report.
    fn wait_for_orders(&mut self, wake: &mut File) {
        while let Err(error) = self.run.wanted() {
            self.in_trouble(error.to_string());
            self.tell();
            self.wait(wake);
            drain(wake);
        }
        self.trouble = None;
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
            hostname: manifest.hostname,
            entries: manifest.entries,
            cron: manifest.cron,
            notify: manifest.notify,
            dns: manifest.dns,
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
        let mut jobs = BTreeMap::new();
        let mut daemons = BTreeMap::new();
        for entry in &bundle.entries {
            match entry.kind {
                EntryKind::Cron => {
                    let job = self.job(entry, &bundle.cron);
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
        let generation = self.wanted.as_ref()?.daemons.get(name)?;
        self.missing_for(name, 0).is_none().then_some(generation)
    }

    /// The daemon that `name` requires and that does not run, nor will: nobody wants it, or it has ended for good.
    fn missing_for(&self, name: &str, depth: usize) -> Option<String> {
        let requires = &self.daemons.get(name)?.definition.requires;
        requires.iter().find_map(|needed| {
            let wanted = self.wanted.as_ref()?.daemons.get(needed);
            let ended = self.daemons.get(needed).is_none_or(|daemon| {
                daemon.phase == Phase::Ended && daemon.generation.as_ref() == wanted
            });
            if wanted.is_none() || ended {
                return Some(needed.clone());
            }
            // The configuration refuses circles.
            if depth > 64 {
                None
            } else {
                self.missing_for(needed, depth + 1)
            }
        })
    }

    // --- Telling and waiting --------------------------------------------------------------------

    fn look_after_network(&mut self) {
        for line in self.network.look_after() {
            self.say(&line);
        }
    }

    fn mend_network(&mut self) {
        let wanted = self.wanted.as_ref();
        let uplink = wanted.and_then(|wanted| wanted.uplink.clone());
        for line in self.network.mend(&self.runtime, uplink.as_deref()) {
            self.say(&line);
        }
    }

    /// Waits until something ends, somebody wakes it, or something is due.
    fn wait(&self, wake: &File) {
        let now = Instant::now();
        let mut pause = self.trouble.as_ref().map_or(TICK, |_| TROUBLE_TICK);
        let deadlines = self
            .daemons
            .values()
            .filter_map(Daemon::deadline)
            .chain(self.alive.values().filter_map(|alive| alive.kill_at))
            .chain(self.network.resolver().deadline())
            .chain(self.notifier.deadlines())
            .chain(self.listeners.values().filter_map(Listener::deadline));
        for at in deadlines {
            // A deadline that has passed waits for the death of what was killed.
            let left = at.saturating_duration_since(now);
            pause = pause.min(left.max(Duration::from_millis(20)));
        }
        let clock = Timestamp::now();
        let cron = self.wanted.as_ref().is_some_and(|wanted| wanted.cron);
        let jobs = self.jobs.values().filter(|_| cron);
        for due in jobs.filter_map(|job| job.due_in(clock)) {
            pause = pause.min(Duration::from_millis(due.max(5)));
        }
        let pidfds = self.alive.values().map(|alive| alive.pidfd.as_fd());
        let pidfds = pidfds.chain(self.notifier.pidfds().map(AsFd::as_fd));
        let resolver = self.network.resolver();
        // One that has ended is waited for by time.
        let resolver = resolver.pidfd().filter(|_| resolver.deadline().is_none());
        let pidfds = pidfds.chain(resolver);
        let pidfds = pidfds.chain(self.listeners.values().filter_map(Listener::fd));
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
        for line in self.notifier.finish() {
            self.say(&line);
        }
        self.network.down(&self.runtime)?;
        self.registrar.finish();
        for line in crate::converge::empty_all_tmp(&self.state_dir) {
            self.say(&line);
        }
        self.say("has stopped everything");
        self.lock = None;
        // The last thing: whoever waits for the end goes on.
        self.run.remove_supervisor()
    }

    fn in_trouble(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            self.say(&trouble);
            self.trouble = Some(trouble);
        }
    }

    /// A line in the instance's log of its supervisor.
    fn say(&self, line: &str) {
        let line = format!("{} {line}", files::now());
        let written =
            append(&self.log).and_then(|mut log| writeln!(log, "{line}").on("write", &self.log));
        if let Err(error) = written {
            eprintln!("{line} ({error})");
        }
    }
}
