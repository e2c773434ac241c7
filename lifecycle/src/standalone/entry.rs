//! One daemon under supervision, as a machine of states: what happens and what time it is go in,
//! what to do comes out. It touches nothing, so everything about it can be tested.
//!
//! A daemon that ends is started again after 0.2 s, then after twice as long each time, at most
//! 30 s; when it has run for 10 s, the next time is 0.2 s again. With `restart.limit` it is given up after so
//! many short runs in a row.
//!
//! One that tells by itself (`notify = yes`) runs when it has said that it is ready, and with `watchdog` it is ended
//! when it does not say in time that it is alive.

use std::time::{Duration, Instant};

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::EntryRef;

use super::exits;
use super::records::EntryReport;
use crate::health;
use crate::status::{EntryState, Exit};

/// The first pause before a daemon is started again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest one.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who ran for so long is not failing.
pub(crate) const GOOD_RUN: Duration = Duration::from_secs(10);
/// How long a daemon may take until it says that it is ready, unless its checks have more patience. As under systemd.
const READY: Duration = Duration::from_secs(90);

/// What a daemon that tells by itself did not say in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// That it is ready.
    NotReady,
    /// That it is alive.
    NotAlive,
}

/// What a daemon does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing.
    Idle,
    /// It ended, and is started again at this time.
    Waiting(Instant),
    /// It was launched at this time, and has not said yet that it is ready.
    Beginning(Instant),
    /// It runs since this time.
    Running(Instant),
    /// It is ended because it was silent; it is killed at this time, or has been (`None`).
    Aborting(Silence, Option<Instant>),
    /// It was asked to stop; it is killed at this time, or has been (`None`).
    Stopping(Option<Instant>),
    /// It ended and stays so.
    Ended,
}

/// What to do with a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start it.
    Launch,
    /// Ask it to stop.
    Ask,
    /// End it: it was silent.
    Abort(Silence),
    /// Kill it.
    Kill,
}

/// A daemon.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    /// As the bundle has it that it was launched from, or will be.
    pub(crate) definition: EntryRef,
    /// What it does.
    pub(crate) phase: Phase,
    /// The generation that it was last launched for.
    pub(crate) generation: Option<String>,
    /// How often it was started again in that generation.
    pub(crate) restarts: u32,
    /// How it ended last.
    pub(crate) last_exit: Option<Exit>,
    /// Short runs in a row.
    short_runs: u32,
    /// How often it has to say that it is alive.
    watchdog: Option<Duration>,
    /// Until when it has to say so again.
    alive_until: Option<Instant>,
}

impl Daemon {
    /// One that does nothing yet.
    pub(crate) fn new(definition: EntryRef) -> Daemon {
        Daemon {
            definition,
            phase: Phase::Idle,
            generation: None,
            restarts: 0,
            last_exit: None,
            short_runs: 0,
            watchdog: None,
            alive_until: None,
        }
    }

    /// Whether it tells by itself how it is, and somebody can hear it.
    pub(crate) fn tells(&self) -> bool {
        self.definition.service.notify && self.definition.notify_socket.is_some()
    }

    /// What to do now, when `target` is the generation that should run (`None`: none should).
    pub(crate) fn next(&self, target: Option<&str>, now: Instant) -> Option<Action> {
        let is_current = target.is_some() && self.generation.as_deref() == target;
        let late = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match self.phase {
            Phase::Beginning(_) | Phase::Running(_) if !is_current => Some(Action::Ask),
            Phase::Beginning(_) => {
                late(self.deadline()).then_some(Action::Abort(Silence::NotReady))
            }
            Phase::Running(_) => late(self.alive_until).then_some(Action::Abort(Silence::NotAlive)),
            Phase::Stopping(at) | Phase::Aborting(_, at) => late(at).then_some(Action::Kill),
            Phase::Idle => target.map(|_| Action::Launch),
            // A new generation does not wait for the pauses of the old one.
            Phase::Waiting(at) => {
                (target.is_some() && (now >= at || !is_current)).then_some(Action::Launch)
            }
            Phase::Ended => (target.is_some() && !is_current).then_some(Action::Launch),
        }
    }

    /// When [`next`](Daemon::next) may have a new answer although nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Stopping(at) | Phase::Aborting(_, at) => at,
            Phase::Beginning(since) => {
                let patience = health::start_patience(&self.definition);
                Some(since + patience.max(READY))
            }
            Phase::Running(_) => self.alive_until,
            Phase::Idle | Phase::Ended => None,
        }
    }

    /// Whether it has a process.
    pub(crate) fn is_alive(&self) -> bool {
        match self.phase {
            Phase::Beginning(_)
            | Phase::Running(_)
            | Phase::Stopping(_)
            | Phase::Aborting(_, _) => true,
            Phase::Idle | Phase::Waiting(_) | Phase::Ended => false,
        }
    }

    /// It is about to be launched for `generation`.
    pub(crate) fn launching(&mut self, generation: &str) {
        if self.generation.as_deref() == Some(generation) {
            self.restarts += 1;
        } else {
            self.generation = Some(generation.to_owned());
            self.restarts = 0;
            self.short_runs = 0;
            self.last_exit = None;
        }
    }

    /// Its program was begun. One that tells by itself does not count as running yet.
    pub(crate) fn launched(&mut self, now: Instant) {
        self.watchdog = self
            .definition
            .service
            .watchdog_ms
            .map(Duration::from_millis);
        self.alive_until = None;
        self.phase = match self.tells() {
            true => Phase::Beginning(now),
            false => Phase::Running(now),
        };
    }

    /// It is ready: from now on it has to say that it is alive, when its watchdog is on.
    pub(crate) fn ready(&mut self, now: Instant) {
        if let Phase::Beginning(since) = self.phase {
            self.phase = Phase::Running(since);
            self.alive(now);
        }
    }

    /// It was adopted: nobody knows whether it has said that it is ready.
    pub(crate) fn believed(&mut self) {
        if let Phase::Beginning(since) = self.phase {
            self.phase = Phase::Running(since);
        }
    }

    /// It has said that it is alive.
    pub(crate) fn alive(&mut self, now: Instant) {
        if self.tells() && matches!(self.phase, Phase::Running(_)) {
            self.alive_until = self.watchdog.map(|time| now + time);
        }
    }

    /// It has said how often it says so from now on; never, when that is no time.
    pub(crate) fn set_watchdog(&mut self, time: Duration, now: Instant) {
        self.watchdog = Some(time).filter(|time| !time.is_zero());
        self.alive(now);
    }

    /// It has said itself that it hangs.
    pub(crate) fn hangs(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Running(_)) && self.watchdog.is_some() {
            self.alive_until = Some(now);
        }
    }

    /// It was silent, and is being ended.
    pub(crate) fn aborting(&mut self, silence: Silence, now: Instant) {
        self.phase = Phase::Aborting(silence, Some(now + self.definition.stop_timeout));
    }

    /// It was asked to stop.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.phase = Phase::Stopping(Some(now + self.definition.stop_timeout));
    }

    /// It was killed.
    pub(crate) fn killed(&mut self) {
        self.phase = match self.phase {
            Phase::Aborting(silence, _) => Phase::Aborting(silence, None),
            _ => Phase::Stopping(None),
        };
    }

    /// It is no longer wanted and has no process.
    pub(crate) fn rest(&mut self) {
        self.phase = Phase::Idle;
    }

    /// It ended, or could not be launched.
    pub(crate) fn ended(&mut self, exit: Exit, now: Instant) {
        let ran_well = matches!(self.phase, Phase::Running(since) if now - since >= GOOD_RUN);
        let again = match self.definition.restart {
            Restart::Always => true,
            Restart::OnFailure => exit.failed,
            Restart::Never => false,
        };
        let was_stopping = matches!(self.phase, Phase::Stopping(_));
        self.short_runs = if ran_well { 0 } else { self.short_runs + 1 };
        let limit = self.definition.restart_limit;
        let given_up = limit.is_some_and(|limit| self.short_runs > limit);
        let exit = match again && given_up && !was_stopping {
            true => Exit {
                reason: format!(
                    "{}; given up after {} short runs",
                    exit.reason, self.short_runs
                ),
                ..exit
            },
            false => exit,
        };
        self.phase = match (was_stopping, again && !given_up) {
            (true, _) => Phase::Idle,
            (false, true) => Phase::Waiting(now + pause(self.short_runs)),
            (false, false) => Phase::Ended,
        };
        self.last_exit = Some(exit);
    }

    /// What a supervisor before this one has told of it. One that ran then and does not now has ended while nobody
    /// looked.
    pub(crate) fn recall(&mut self, known: &EntryReport, now: Instant) {
        if self.is_alive() {
            if self.generation == known.generation {
                self.last_exit = known.last_exit.clone();
            }
            return;
        }
        if self.phase != Phase::Idle || known.generation.is_none() {
            return;
        }
        self.generation = known.generation.clone();
        self.restarts = known.restarts;
        self.last_exit = known.last_exit.clone();
        match known.state {
            EntryState::Ended => self.phase = Phase::Ended,
            EntryState::Running => {
                self.phase = Phase::Running(now);
                self.ended(exits::lost(), now);
            }
            _ => {}
        }
    }
}

/// The pause after so many short runs in a row.
fn pause(short_runs: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << short_runs.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
#[path = "entry_tests.rs"]
pub(crate) mod tests;
