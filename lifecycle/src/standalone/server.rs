//! The supervisor process of this server: one for all instances, a thread each.
//!
//! Whoever wants something to run writes it down and wakes this process, or starts it. It ends with the last
//! instance, unless it was started to stay (`metactl supervise --all`). Like the threads it holds nothing
//! that is not written down: it may be killed at any moment, and the next one adopts what runs.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `pool` | the threads: one that fails or panics is begun again, and harms no other |
//! | `stay` | `supervise --all`: what is enabled is started, SIGTERM stops everything |
//! | `first` | the same as the first process of a container: it also buries orphans |
//! | `files` | how many files it may have open |

mod files;
mod first;
mod pool;
mod stay;

pub(crate) use files::limit_before;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::process::{current, send};
use super::records::{FORMAT, Report, RunDir, drain};
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::Instance;
use crate::launcher::append;
use crate::lock::Lock;
use crate::manager::Manager;
use crate::{names, resolver, tail};
use metactl_runtime::ProcessId;
use pool::{End, Pool};

/// The directory of its files in the run directory. No instance is called so: it is a command.
const DIR: &str = "supervise";
/// How long one before it may take to go away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks around although nobody wakes it.
const TICK: Duration = Duration::from_secs(10);
/// How many lines of its log go into an error.
const TAIL: usize = 12;

/// How long the threads of one that was killed may take to let go of its lock, on a busy machine.
const LETTING_GO: Duration = Duration::from_secs(1);

/// Its process: `<run>/supervise/supervisor.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerRecord {
    /// The format of the record.
    pub(crate) format: u32,
    pub(crate) process: ProcessId,
    pub(crate) since: String,
    /// Whether it stays when nothing runs.
    pub(crate) stays: bool,
    /// The version of metactl.
    pub(crate) version: String,
}

/// Where the supervisor of a server is.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    manager: Manager,
    dir: RunDir,
}

impl Server {
    pub(crate) fn of(manager: &Manager) -> Server {
        Server {
            dir: RunDir(manager.paths.run.join(DIR)),
            manager: manager.clone(),
        }
    }

    /// The process, when it is alive.
    pub(crate) fn running(&self) -> Result<Option<ServerRecord>> {
        let found: Option<ServerRecord> = crate::files::read_json(&self.record_file())?;
        Ok(found.filter(|record| record.process.is_alive()))
    }

    /// Makes it look what is wanted.
    pub(crate) fn wake(&self) {
        self.dir.wake();
    }

    /// Where it says what is about no single instance.
    pub(crate) fn log(&self) -> PathBuf {
        self.manager.paths.log.join("supervisor.log")
    }

    fn record_file(&self) -> PathBuf {
        self.dir.0.join("supervisor.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.manager.paths.run.join("locks/supervise.lock")
    }

    /// Starts it in a session of its own, with nothing of this process's environment but where metactl's directories are.
    pub(crate) fn spawn(&self) -> Result<Child> {
        let paths = &self.manager.paths;
        let log = append(&self.log())?;
        let out = log.try_clone().on("write", &self.log())?;
        let mut command = Command::new(&self.manager.metactl);
        command.arg("supervise");
        command
            .env_clear()
            .env("PATH", metactl_bundles::view::PATH)
            .env("LANG", "C.UTF-8");
        command.env("METACTL_CONFIG_DIR", &paths.config);
        command.env("METACTL_STATE_DIR", &paths.state);
        command.env("METACTL_CACHE_DIR", &paths.cache);
        command.env("METACTL_LOG_DIR", &paths.log);
        command.env("METACTL_RUN_DIR", &paths.run);
        command.env("METACTL_RUNTIME", &self.manager.runtime);
        if let Some(zone) = std::env::var_os("TZ") {
            command.env("TZ", zone);
        }
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log);
        command
            .spawn()
            .map_err(|error| LifecycleError::Unavailable {
                what: format!(
                    "cannot start {} as supervisor: {error}",
                    self.manager.metactl.display()
                ),
                hint: String::new(),
            })
    }

    /// Removes what one that was killed has left.
    pub(crate) fn tidy(&self) -> Result<()> {
        if self.running()?.is_some() {
            return Ok(());
        }
        let Ok(_lock) = Lock::acquire(&self.lock_file(), "tidy", LETTING_GO)? else {
            return Ok(());
        };
        match self.running()? {
            Some(_) => Ok(()),
            None => crate::files::remove_tree(&self.dir.0).map(drop),
        }
    }

    /// The error of one that ended; `from`: how long its log was before.
    pub(crate) fn failed(&self, instance: &str, why: &str, from: u64) -> LifecycleError {
        let log = self.log();
        LifecycleError::Supervisor {
            instance: instance.to_owned(),
            why: why.to_owned(),
            tail: tail::since(&log, from, TAIL),
            log,
        }
    }

    fn instance(&self, name: &str) -> Instance {
        Instance {
            manager: self.manager.clone(),
            name: name.to_owned(),
        }
    }

    /// The instances that are to be supervised: something of them is wanted, or is still to be stopped.
    fn supervised(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for path in crate::files::entries(&self.manager.paths.run)? {
            let name = crate::files::name_of(&path);
            if path.join("wanted.json").exists() && names::check(name).is_ok() {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }
}

/// Supervises all instances until everything is stopped: `metactl supervise`. Returns at once when another one does.
pub(crate) fn supervise(manager: &Manager) -> Result<()> {
    // Away from the terminal that it was started from. It fails for who is away already.
    let _away = nix::unistd::setsid();
    let server = Server::of(manager);
    let Ok(lock) = Lock::acquire(&server.lock_file(), "supervise", Duration::ZERO)? else {
        return Ok(());
    };
    Loop::begin(server, None, lock)?.run()
}

/// Supervises all instances until SIGTERM: `metactl supervise --all`. What is enabled is started.
pub(crate) fn supervise_all(manager: &Manager) -> Result<()> {
    if std::process::id() == 1 {
        return first::supervise(manager);
    }
    stay::supervise(Server::of(manager))
}

/// The main thread.
struct Loop {
    server: Server,
    pool: Pool,
    wake: File,
    /// Only of one that stays: the signals that stop everything.
    signals: Option<SignalFd>,
    stopping: bool,
    /// What it could not look for, the last time: it is told once.
    trouble: Option<String>,
    _lock: Lock,
}

impl Loop {
    fn begin(server: Server, signals: Option<SignalFd>, lock: Lock) -> Result<Loop> {
        crate::files::make_dir(&server.dir.0, 0o755)?;
        let wake = server.dir.open_wake()?;
        let supervisor = server.clone();
        let waker = server.clone();
        let work = move |name: &str| super::supervisor::supervise(&supervisor.instance(name));
        let pool = Pool::new(Box::new(work), Box::new(move || waker.wake()));
        let new = Loop {
            pool,
            wake,
            stopping: false,
            trouble: None,
            signals,
            server,
            _lock: lock,
        };
        new.sign()?;
        Ok(new)
    }

    fn sign(&self) -> Result<()> {
        let record = ServerRecord {
            format: FORMAT,
            process: current()?,
            since: crate::files::now(),
            stays: self.signals.is_some(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        crate::files::replace_json(&self.server.record_file(), &record, 0o644)
    }

    fn run(mut self) -> Result<()> {
        let mut woken = false;
        loop {
            self.look_after(woken);
            if self.pool.is_done() && self.may_end()? {
                return Ok(());
            }
            self.wait();
            woken = drain(&mut self.wake);
            self.hear_signals();
        }
    }

    /// Buries threads that have ended, and begins those that are wanted.
    /// `woken`: by a command, or by the end of a thread.
    fn look_after(&mut self, woken: bool) {
        let now = Instant::now();
        let ended = self.pool.bury(now);
        if woken && ended.is_empty() {
            self.pool.hurry();
        }
        for (name, end) in ended {
            self.tell(&name, &end);
            self.tidy(&name);
        }
        resolver::bury_orphans();
        let supervised = match self.server.supervised() {
            Ok(supervised) => supervised,
            // What runs goes on.
            Err(error) => return self.in_trouble(error.to_string()),
        };
        self.trouble = None;
        files::allow_for(supervised.len());
        for name in &supervised {
            self.pool.ensure(name, now);
        }
        if self.stopping {
            self.stop_all(&supervised);
        }
        // Nothing is wanted of those any more; but something may still run.
        for name in self.pool.waiting() {
            if !supervised.contains(&name) && !self.pool.stop(&name, now) {
                self.say(&format!(
                    "{name}: what runs of it cannot be stopped, and is left alone; `metactl {name} stop` tries again"
                ));
            }
        }
    }

    fn in_trouble(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            self.say(&trouble);
            self.trouble = Some(trouble);
        }
    }

    /// A thread that ended otherwise than by having stopped everything: `status` says so until it works again.
    fn tell(&self, name: &str, end: &End) {
        let instance = self.server.instance(name);
        let run = instance.run_dir();
        if matches!(end, End::Done) {
            return;
        }
        let line = format!("its supervision failed, and is begun again: {end}");
        let log = instance.supervisor_log();
        let written = append(&log).and_then(|mut log_file| {
            writeln!(log_file, "{} {line}", crate::files::now()).on("write", &log)
        });
        let told = written.and_then(|()| {
            let report = run.report().ok().flatten();
            let report = Report {
                notes: vec![line],
                ..report.unwrap_or_else(Report::nothing)
            };
            run.write_report(&report)
        });
        if let Err(error) = told {
            self.say(&format!("{name}: {end}; {error}"));
        }
    }

    /// Whether there is nobody to wait for. What is wanted from the moment on in which the record is gone, is
    /// the matter of another one.
    fn may_end(&mut self) -> Result<bool> {
        if self.signals.is_some() && !self.stopping {
            return Ok(false);
        }
        crate::files::remove_file(&self.server.record_file())?;
        if self.server.supervised()?.is_empty() {
            crate::files::remove_tree(&self.server.dir.0)?;
            return Ok(true);
        }
        self.sign()?;
        Ok(false)
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        if let Some(signals) = &self.signals {
            fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
        }
        let left = self
            .pool
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let limit = left.map_or(TICK, |left| left.min(TICK)) + Duration::from_millis(1);
        let limit = metactl_runtime::process::timespec(limit);
        // Interrupted or not: the loop looks at everything again.
        let _ready = poll(&mut fds, Some(&limit));
    }

    /// A line in the log of the server, which is its standard error.
    fn say(&self, line: &str) {
        eprintln!("{} {line}", crate::files::now());
    }
}

/// Kills a supervisor of this server or of one instance, which may be of an earlier metactl. What it runs goes on.
pub(super) fn displace(process: &ProcessId) -> Result<()> {
    let proc = std::path::Path::new("/proc");
    let Some(pidfd) = process.open().on("open", proc)? else {
        return Ok(());
    };
    send(&pidfd, rustix::process::Signal::KILL.as_raw());
    let dead = metactl_runtime::process::wait_dead(&pidfd, Some(PATIENCE)).on("wait for", proc)?;
    match dead {
        true => Ok(()),
        false => Err(LifecycleError::Stop {
            what: format!("the supervisor before this one (process {})", process.pid),
            seconds: PATIENCE.as_secs(),
            log: PathBuf::new(),
        }),
    }
}
