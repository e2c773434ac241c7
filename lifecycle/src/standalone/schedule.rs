//! When cron jobs run: the five fields and `@daily` and friends, by the clock and the time zone of
//! the server.
//!
//! A job that is still running when its next time comes is not started a second time; times that
//! pass while nobody supervises are not made up for.

use croner::Cron;
use croner::parser::CronParser;
use jiff::{Timestamp, Zoned};
use metactl_bundles::bundle::EntryRef;

use crate::status::Exit;

/// The time that a machine may sleep through without a job being missed.
const GRACE: i64 = 90;

/// A cron job under supervision.
#[derive(Debug)]
pub(crate) struct Job {
    /// As the bundle has it.
    pub(crate) definition: EntryRef,
    cron: Option<Cron>,
    /// The next time.
    pub(crate) next: Option<Zoned>,
    /// How the last run ended.
    pub(crate) last_exit: Option<Exit>,
}

impl Job {
    /// A job, with its next time after `now`. An unreadable schedule, which the configuration
    /// should have refused, is a failure that `status` shows.
    pub(crate) fn new(definition: EntryRef, now: &Zoned) -> Job {
        let pattern = definition.schedule.clone().unwrap_or_default();
        let (cron, last_exit) = match CronParser::new().parse(&pattern) {
            Ok(cron) => (Some(cron), None),
            Err(error) => {
                let reason = format!("its times ({pattern}) cannot be understood: {error}");
                let at = crate::files::rfc3339(now.timestamp());
                (
                    None,
                    Some(Exit {
                        at,
                        code: None,
                        signal: None,
                        reason,
                        failed: true,
                    }),
                )
            }
        };
        let mut job = Job {
            definition,
            cron,
            next: None,
            last_exit,
        };
        job.plan(now);
        job
    }

    /// Whether it is due at `now`; then the next time after that is planned.
    pub(crate) fn is_due(&mut self, now: &Zoned) -> bool {
        let Some(next) = &self.next else { return false };
        let late = now.timestamp().as_second() - next.timestamp().as_second();
        if late < 0 {
            return false;
        }
        self.plan(now);
        late <= GRACE
    }

    /// The next time as RFC 3339.
    pub(crate) fn next_rfc3339(&self) -> Option<String> {
        self.next
            .as_ref()
            .map(|next| crate::files::rfc3339(next.timestamp()))
    }

    /// How many milliseconds until it is due.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<u64> {
        let next = self.next.as_ref()?.timestamp();
        Some(u64::try_from(next.as_millisecond() - now.as_millisecond()).unwrap_or(0))
    }

    fn plan(&mut self, now: &Zoned) {
        self.next = self
            .cron
            .as_ref()
            .and_then(|cron| cron.find_next_occurrence(now, false).ok());
    }
}

#[cfg(test)]
mod tests {
    use metactl_bundles::app::Restart;

    use super::*;
    use crate::standalone::entry::tests::definition;

    fn job(schedule: &str, now: &str) -> (Job, Zoned) {
        let now: Zoned = now.parse().unwrap();
        let mut definition = definition("cron.x", Restart::Never);
        definition.schedule = Some(schedule.to_owned());
        (Job::new(definition, &now), now)
    }

    fn next(schedule: &str, now: &str) -> String {
        job(schedule, now).0.next.unwrap().to_string()
    }

    #[test]
    fn times_of_the_seed() {
        let sunday = "2026-11-22T12:00:00+01:00[Europe/Berlin]";
        assert_eq!(
            next("5 0 * * *", sunday),
            "2026-11-23T00:05:00+01:00[Europe/Berlin]"
        );
        assert_eq!(
            next("10 0 * * 1", sunday),
            "2026-11-23T00:10:00+01:00[Europe/Berlin]"
        );
        assert_eq!(
            next("@daily", sunday),
            "2026-11-23T00:00:00+01:00[Europe/Berlin]"
        );
        assert_eq!(
            next("*/15 * * * *", sunday),
            "2026-11-22T12:15:00+01:00[Europe/Berlin]"
        );
    }

    #[test]
    fn a_job_is_due_once_and_not_when_it_was_missed() {
        let (mut job, now) = job("*/5 * * * *", "2026-11-22T12:01:00+00:00[UTC]");
        let at = |seconds: i64| now.checked_add(jiff::Span::new().seconds(seconds)).unwrap();
        assert!(!job.is_due(&at(239)));
        assert!(job.is_due(&at(240)));
        assert!(!job.is_due(&at(241)));
        assert_eq!(job.due_in(at(241).timestamp()), Some(299_000));
        // The machine slept for an hour.
        assert!(!job.is_due(&at(4001)));
        assert!(job.due_in(at(4001).timestamp()).unwrap() <= 300_000);
    }

    #[test]
    fn a_schedule_that_nobody_understands_is_told() {
        let (job, _) = job("61 * * * *", "2026-11-22T12:01:00+00:00[UTC]");
        assert!(job.next.is_none() && job.last_exit.unwrap().failed);
    }
}
