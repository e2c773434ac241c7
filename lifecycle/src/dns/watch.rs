//! Whether the daemons of an instance are healthy, looked at while it runs.

use std::time::Duration;

use metactl_bundles::app::Health;
use metactl_bundles::health::Check;
use metactl_runtime::ProcessId;

use crate::health;

/// How often those are looked at that were healthy.
const CALM: Duration = Duration::from_secs(10);
/// How soon after a failure, and how often while they are ill.
const SUSPICION: Duration = Duration::from_secs(2);
/// How soon after a start.
const FIRST: Duration = Duration::from_millis(250);
/// Failures in a row that count: one may be a pause of a garbage collector.
const FAILURES: u32 = 2;

/// A daemon that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Its process; none: it does not run, or is being stopped.
    pub(crate) process: Option<ProcessId>,
    pub(crate) port: Option<u16>,
    pub(crate) health: Health,
    pub(crate) checks: Vec<Check>,
}

impl Watched {
    fn looks_good(&self) -> bool {
        let alive = self.process.as_ref().filter(|process| process.is_alive());
        alive.is_some_and(|process| health::serves(process, self.port, self.health, &self.checks))
    }
}

/// What the looks at some daemons have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watch {
    daemons: Vec<Watched>,
    failures: u32,
    looks: u32,
    /// Not known at first.
    pub(super) healthy: Option<bool>,
}

impl Watch {
    /// About these daemons; with others than before it begins anew.
    pub(super) fn of(&mut self, daemons: &[Watched]) {
        if self.daemons != daemons {
            *self = Watch {
                daemons: daemons.to_vec(),
                ..Watch::default()
            };
        }
    }

    /// Looks at all of them, which takes seconds when one hangs.
    pub(super) fn look(&mut self) {
        let stopped = self.daemons.iter().any(|daemon| daemon.process.is_none());
        let good = !stopped && self.daemons.iter().all(Watched::looks_good);
        self.seen(good, stopped);
    }

    fn seen(&mut self, good: bool, stopped: bool) {
        self.looks = self.looks.saturating_add(1);
        self.failures = match good {
            true => 0,
            false => self.failures.saturating_add(1),
        };
        if good {
            self.healthy = Some(true);
        } else if stopped || self.failures >= FAILURES {
            self.healthy = Some(false);
        }
    }

    /// When the next look is worth it.
    pub(super) fn pause(&self) -> Duration {
        match (self.healthy, self.failures) {
            (Some(true), 0) => CALM,
            (Some(true), _) => SUSPICION,
            _ => FIRST.saturating_mul(1 << self.looks.min(8)).min(SUSPICION),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_a_suspicion_and_the_second_counts() {
        let mut watch = Watch::default();
        watch.seen(false, false);
        assert_eq!(watch.healthy, None);
        watch.seen(false, false);
        assert_eq!(watch.healthy, Some(false));
        watch.seen(true, false);
        assert_eq!((watch.healthy, watch.pause()), (Some(true), CALM));
        watch.seen(false, false);
        assert_eq!((watch.healthy, watch.pause()), (Some(true), SUSPICION));
        watch.seen(false, false);
        assert_eq!((watch.healthy, watch.pause()), (Some(false), SUSPICION));
        watch.seen(true, false);
        assert_eq!(watch.healthy, Some(true));
        // A daemon that does not run needs no second look.
        watch.seen(false, true);
        assert_eq!(watch.healthy, Some(false));
    }

    #[test]
    fn other_daemons_are_looked_at_anew() {
        let daemon = |process: Option<ProcessId>| Watched {
            process,
            port: None,
            health: Health::Tcp,
            checks: Vec::new(),
        };
        let mut watch = Watch::default();
        let own = [daemon(Some(ProcessId::current().unwrap()))];
        watch.of(&own);
        watch.look();
        assert_eq!(watch.healthy, Some(true));
        watch.of(&own);
        assert_eq!(watch.healthy, Some(true));
        watch.of(&[daemon(None)]);
        assert_eq!((watch.healthy, watch.pause()), (None, FIRST));
        watch.look();
        assert_eq!(watch.healthy, Some(false));
        // Nothing but cron jobs: there is nobody who could be ill.
        watch.of(&[]);
        watch.look();
        assert_eq!(watch.healthy, Some(true));
    }
}
