//! Whether the daemons of an instance are healthy, looked at while it runs.

use std::time::Duration;

use metactl_bundles::app::Health;
use metactl_bundles::health::Check;
use metactl_runtime::ProcessId;
use serde::{Deserialize, Serialize};

use crate::health;

/// How often those are looked at that were healthy.
const CALM: Duration = Duration::from_secs(10);
/// How soon after a failure, and how often while they are ill.
const SUSPICION: Duration = Duration::from_secs(2);
/// How soon after a start.
const FIRST: Duration = Duration::from_millis(250);
/// Failures in a row that count: one may be a pause of a garbage collector.
const FAILURES: u32 = 2;

/// After so many looks at what is not healthy, the next ones are not awaited any more.
const RESTLESS: u32 = 15;

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

/// The same on disk, for looks that are processes of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Seen {
    processes: Vec<Option<ProcessId>>,
    failures: u32,
    looks: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    healthy: Option<bool>,
}

impl Watch {
    /// Goes on from what an earlier process has seen, if it was of the same processes.
    pub(super) fn resume(daemons: &[Watched], seen: &Seen) -> Watch {
        let mut watch = Watch {
            daemons: daemons.to_vec(),
            ..Watch::default()
        };
        if watch.processes() == seen.processes {
            watch.failures = seen.failures;
            watch.looks = seen.looks;
            watch.healthy = seen.healthy;
        }
        watch
    }

    /// For the next process.
    pub(super) fn remember(&self) -> Seen {
        Seen {
            processes: self.processes(),
            failures: self.failures,
            looks: self.looks,
            healthy: self.healthy,
        }
    }

    fn processes(&self) -> Vec<Option<ProcessId>> {
        let processes = self.daemons.iter().map(|daemon| daemon.process.clone());
        processes.collect()
    }

    /// Whether the next looks are likely to show something else: after a start or an end, but not for ever.
    pub(super) fn is_restless(&self) -> bool {
        let calm = self.healthy == Some(true) && self.failures == 0;
        !calm && self.looks < RESTLESS
    }

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
    fn looks_go_on_in_another_process() {
        let daemon = |process: Option<ProcessId>| Watched {
            process,
            port: None,
            health: Health::Tcp,
            checks: Vec::new(),
        };
        let own = [daemon(Some(ProcessId::current().unwrap()))];
        let mut watch = Watch::resume(&own, &Seen::default());
        assert!(watch.is_restless());
        watch.seen(false, false);
        let seen = watch.remember();
        let mut watch = Watch::resume(&own, &seen);
        assert_eq!(watch.healthy, None);
        watch.seen(false, false);
        assert_eq!((watch.healthy, watch.is_restless()), (Some(false), true));
        // Another process: what was seen of the one before does not count.
        let other = Watch::resume(&[daemon(None)], &watch.remember());
        assert_eq!((other.healthy, other.failures), (None, 0));
        for _ in 0..RESTLESS {
            watch.seen(false, false);
        }
        assert!(!watch.is_restless());
        watch.seen(true, false);
        assert!(!watch.is_restless());
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
