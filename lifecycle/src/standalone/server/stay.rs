//! `metactl supervise --all`: for an inittab, a container or whoever starts services and is no service manager.
//!
//! It starts what is enabled, from the last good bundle: nothing is merged, resolved or built. SIGTERM, SIGINT and
//! SIGHUP stop everything in order; what was enabled stays so.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::displaced_if_idle;
use super::{Loop, PATIENCE, Server};
use crate::converge;
use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::lock::Lock;

/// How many instances are begun at a time: one that takes long does not hold up the others.
const AT_A_TIME: usize = 4;

pub(super) fn supervise(server: Server) -> Result<()> {
    // Before there is any other thread: each inherits it, and none is interrupted.
    let signals = hold_signals()?;
    if let Some(other) = server.running()? {
        if other.stays {
            return Err(LifecycleError::Unavailable {
                what: format!(
                    "all instances are supervised already, by process {} since {}",
                    other.process.pid, other.since
                ),
                hint: format!(
                    "kill {} stops it with everything that it runs",
                    other.process.pid
                ),
            });
        }
        // One that a command has left behind; what it runs is adopted.
        super::displace(&other.process)?;
    }
    let lock = Lock::acquire(&server.lock_file(), "supervise --all", PATIENCE)?;
    let lock = lock.map_err(|held| LifecycleError::Unavailable {
        what: format!("all instances are supervised already: {}", held.0),
        hint: String::new(),
    })?;
    for name in server.supervised()? {
        if let Err(error) = displaced_if_idle(&server.instance(&name)) {
            eprintln!("{} {name}: {error}", crate::files::now());
        }
    }
    let begun = Loop::begin(server.clone(), Some(signals), lock)?;
    begun.say("supervises all instances");
    std::thread::spawn(move || boot(&server));
    begun.run()
}

fn hold_signals() -> Result<SignalFd> {
    let wrong = |error: nix::Error| LifecycleError::Unavailable {
        what: format!("signals cannot be held back: {error}"),
        hint: String::new(),
    };
    let mut held = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        held.add(signal);
    }
    held.thread_block().map_err(wrong)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&held, flags).map_err(wrong)
}

/// Begins everything that is enabled.
fn boot(server: &Server) {
    let names = match server.manager.instances() {
        Ok(names) => names,
        Err(error) => return eprintln!("{} {error}", crate::files::now()),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = begin(&server.instance(name)) {
                        eprintln!("{} {name}: {error}", crate::files::now());
                    }
                }
            });
        }
    });
}

/// Begins an instance, if it is enabled and nothing is wanted of it. Whether it comes up is for `status` to say.
fn begin(instance: &Instance) -> Result<()> {
    let _lock = instance.lock("boot")?;
    for line in converge::converge(instance)? {
        eprintln!("{} {}: {line}", crate::files::now(), instance.name());
    }
    if !instance.enabled_mark().exists() || instance.run_dir().wanted()?.is_some() {
        return Ok(());
    }
    let Some(current) = instance.current()? else {
        return Ok(());
    };
    let daemons = instance.daemon_names(&current.manifest);
    instance.want_supervised(&instance.everything(&current.digest, daemons.into_iter())?)
}

impl Loop {
    /// Whoever sends one of the signals wants everything to stop. From then on nothing begins.
    pub(super) fn hear_signals(&mut self) {
        let Some(signals) = &self.signals else { return };
        let mut heard = false;
        while let Ok(Some(_)) = signals.read_signal() {
            heard = true;
        }
        if heard && !self.stopping {
            self.say("stops everything");
            self.stopping = true;
        }
    }

    /// Wants nothing of these any more; also of who was only just begun.
    pub(super) fn stop_all(&self, names: &[String]) {
        for name in names {
            let run = self.server.instance(name).run_dir();
            match run.clear_wanted() {
                Ok(_) => run.wake(),
                Err(error) => self.say(&format!("{name}: {error}")),
            }
        }
    }

    /// After everything has stopped: the run directories of those that have.
    pub(super) fn tidy(&self, name: &str) {
        if !self.stopping {
            return;
        }
        if let Err(error) = self.server.instance(name).clear_run_dir() {
            self.say(&format!("{name}: {error}"));
        }
    }
}
