//! One daemon under supervision, as a machine of states: what happens and what time it is go in,
//! what to do comes out. It touches nothing, so everything about it can be tested.
//!
//! A daemon that ends is started again after 0.2 s, then after twice as long each time, at most
//! 30 s; when it has run for 10 s, the next time is 0.2 s again.

use std::time::{Duration, Instant};

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::EntryRef;

use crate::status::Exit;

/// The first pause before a daemon is started again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest one.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who ran for so long is not failing.
pub(crate) const GOOD_RUN: Duration = Duration::from_secs(10);

/// What a daemon does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing.
    Idle,
    /// It ended, and is started again at this time.
    Waiting(Instant),
    /// It runs since this time.
    Running(Instant),
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
        }
    }

    /// What to do now, when `target` is the generation that should run (`None`: none should).
    pub(crate) fn next(&self, target: Option<&str>, now: Instant) -> Option<Action> {
        let is_current = target.is_some() && self.generation.as_deref() == target;
        match self.phase {
            Phase::Running(_) => (!is_current).then_some(Action::Ask),
            Phase::Stopping(Some(at)) => (now >= at).then_some(Action::Kill),
            Phase::Stopping(None) => None,
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
            Phase::Waiting(at) | Phase::Stopping(Some(at)) => Some(at),
            _ => None,
        }
    }

    /// Whether it has a process.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Running(_) | Phase::Stopping(_))
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

    /// It runs.
    pub(crate) fn launched(&mut self, now: Instant) {
        self.phase = Phase::Running(now);
    }

    /// It was asked to stop.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.phase = Phase::Stopping(Some(now + self.definition.stop_timeout));
    }

    /// It was killed.
    pub(crate) fn killed(&mut self) {
        self.phase = Phase::Stopping(None);
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
        self.phase = match (was_stopping, again) {
            (true, _) => Phase::Idle,
            (false, true) => Phase::Waiting(now + pause(self.short_runs)),
            (false, false) => Phase::Ended,
        };
        self.last_exit = Some(exit);
    }
}

/// The pause after so many short runs in a row.
fn pause(short_runs: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << short_runs.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
pub(crate) mod tests {
    use metactl_bundles::bundle::EntryKind;

    use super::*;

    pub(crate) fn definition(name: &str, restart: Restart) -> EntryRef {
        EntryRef {
            name: name.to_owned(),
            title: name.to_owned(),
            kind: EntryKind::Daemon,
            platform: "exec".to_owned(),
            dir: name.into(),
            tmp: "/tmp".into(),
            schedule: None,
            port: None,
            health: Default::default(),
            stop_signal: 15,
            stop_timeout: Duration::from_secs(10),
            restart,
            after: Vec::new(),
            checks: Vec::new(),
            notify_socket: None,
        }
    }

    fn exit(failed: bool) -> Exit {
        let code = Some(i32::from(failed));
        Exit {
            at: String::new(),
            code,
            signal: None,
            reason: "exit".to_owned(),
            failed,
        }
    }

    fn started(restart: Restart, now: Instant) -> Daemon {
        let mut daemon = Daemon::new(definition("web", restart));
        assert_eq!(daemon.next(None, now), None);
        assert_eq!(daemon.next(Some("1"), now), Some(Action::Launch));
        daemon.launching("1");
        daemon.launched(now);
        assert_eq!(daemon.next(Some("1"), now), None);
        daemon
    }

    #[test]
    fn pauses_double_and_begin_anew_after_a_good_run() {
        let mut now = Instant::now();
        let mut daemon = started(Restart::Always, now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            daemon.ended(exit(true), now);
            let at = daemon.deadline().unwrap();
            pauses.push((at - now).as_millis());
            assert_eq!(daemon.next(Some("1"), now), None);
            now = at;
            assert_eq!(daemon.next(Some("1"), now), Some(Action::Launch));
            daemon.launching("1");
            daemon.launched(now);
        }
        assert_eq!(
            pauses,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
        );
        assert_eq!(daemon.restarts, 10);
        now += GOOD_RUN;
        daemon.ended(exit(true), now);
        assert_eq!(daemon.deadline(), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn restart_decides_who_is_started_again() {
        let now = Instant::now();
        for (restart, failed, again) in [
            (Restart::Always, false, true),
            (Restart::Always, true, true),
            (Restart::OnFailure, true, true),
            (Restart::OnFailure, false, false),
            (Restart::Never, true, false),
        ] {
            let mut daemon = started(restart, now);
            daemon.ended(exit(failed), now);
            assert_eq!(daemon.phase != Phase::Ended, again, "{restart:?} {failed}");
            // Somebody who starts it does start it.
            assert_eq!(daemon.next(Some("2"), now), Some(Action::Launch));
            assert_eq!(daemon.next(None, now), None);
        }
    }

    #[test]
    fn who_does_not_stop_is_killed() {
        let now = Instant::now();
        let mut daemon = started(Restart::Always, now);
        assert_eq!(daemon.next(None, now), Some(Action::Ask));
        daemon.asked(now);
        assert_eq!(daemon.next(None, now), None);
        let late = now + Duration::from_secs(10);
        assert_eq!(daemon.next(None, late), Some(Action::Kill));
        daemon.killed();
        assert_eq!(daemon.next(None, late), None);
        daemon.ended(exit(true), late);
        assert_eq!(
            (daemon.phase.clone(), daemon.next(None, late)),
            (Phase::Idle, None)
        );
    }

    #[test]
    fn a_new_generation_replaces_the_old_one() {
        let now = Instant::now();
        let mut daemon = started(Restart::Always, now);
        assert_eq!(daemon.next(Some("2"), now), Some(Action::Ask));
        daemon.asked(now);
        // Wanted again while it stops: it stops first.
        assert_eq!(daemon.next(Some("3"), now), None);
        daemon.ended(exit(false), now);
        assert_eq!(daemon.next(Some("3"), now), Some(Action::Launch));
        daemon.launching("3");
        assert_eq!((daemon.restarts, daemon.last_exit.clone()), (0, None));
    }
}
