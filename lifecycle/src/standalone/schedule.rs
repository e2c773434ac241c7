//! When cron jobs run: by the clock of the server, in the time zone of `[cron] timezone`, else in that of the server.
//!
//! A job that is still running when its next time comes is not started a second time. Times that pass while
//! nobody supervises are left out, or made up for by one run (`[cron] missed`).

use std::hash::{BuildHasher, RandomState};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use metactl_bundles::bundle::EntryRef;
use metactl_bundles::schedule::{CronSettings, Missed, Schedule};

use super::calendar;
use super::jobs::JobRecord;
use crate::files;

/// The time that a machine may sleep through without a job being missed.
const GRACE: SignedDuration = SignedDuration::from_secs(90);
/// A clock that was set back by more than this was wrong before (cron(8)).
const SET_BACK: SignedDuration = SignedDuration::from_hours(3);

/// A cron job under supervision.
#[derive(Debug)]
pub(crate) struct Job {
    /// As the bundle has it.
    pub(crate) definition: EntryRef,
    schedule: Option<Schedule>,
    settings: CronSettings,
    /// What is remembered of it.
    pub(crate) record: JobRecord,
    next: Option<Next>,
    /// The time when `next` was found.
    planned: Timestamp,
    /// What stands in its way.
    pub(crate) trouble: Option<String>,
}

/// A time that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    /// By the schedule.
    due: Timestamp,
    /// With the random delay.
    begins: Timestamp,
}

impl Job {
    /// A job, with its next time after `now`. A schedule or time zone that cannot be understood, which the
    /// configuration should have refused, is told by `status`. `boot`: what the kernel calls this boot.
    pub(crate) fn new(
        definition: EntryRef,
        settings: &CronSettings,
        record: JobRecord,
        now: Timestamp,
        boot: &str,
    ) -> Job {
        let pattern = definition.schedule.clone().unwrap_or_default();
        let mut job = Job {
            schedule: None,
            settings: settings.clone(),
            record,
            next: None,
            planned: now,
            trouble: None,
            definition,
        };
        match Schedule::parse(&pattern).and_then(|schedule| job.zone().map(|_| schedule)) {
            Ok(schedule) => job.schedule = Some(schedule),
            Err(why) => {
                let title = &job.definition.title;
                job.trouble = Some(format!("cron job {title:?} ({pattern}) {why}"));
            }
        }
        job.begin(now, boot);
        job
    }

    /// What there is to do at first: what was missed, what comes after a boot, else the next time.
    fn begin(&mut self, now: Timestamp, boot: &str) {
        let attended = self.record.attended.as_ref().and_then(|at| at.parse().ok());
        let missed = match (self.schedule, self.zone()) {
            (Some(Schedule::Boot), _) => self.record.boot.as_deref() != Some(boot),
            (Some(Schedule::Times(times)), Ok(zone)) => {
                self.settings.missed == Missed::Once
                    && attended
                        .is_some_and(|since| calendar::any_between(&times, &zone, since, now))
            }
            _ => false,
        };
        self.record.boot = Some(boot.to_owned());
        self.record.attended = Some(files::rfc3339(now));
        match missed {
            true => self.next = Some(self.delayed(now)),
            false => self.plan(now, now),
        }
    }

    /// Whether it is due at `now`; then the next time after that is planned. The record has to be written when it is.
    pub(crate) fn is_due(&mut self, now: Timestamp) -> bool {
        if now.duration_since(self.planned) < -SET_BACK {
            self.plan(now, now);
        }
        let Some(next) = self.next.filter(|next| next.begins <= now) else {
            return false;
        };
        let late = now.duration_since(next.begins);
        let slept = late > GRACE;
        self.plan(if slept { now } else { next.due }, now);
        self.record.attended = Some(files::rfc3339(now));
        !slept || self.settings.missed == Missed::Once
    }

    /// The next time as RFC 3339.
    pub(crate) fn next_rfc3339(&self) -> Option<String> {
        self.next.map(|next| files::rfc3339(next.begins))
    }

    /// How many milliseconds until it is due.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<u64> {
        let next = self.next?.begins;
        Some(u64::try_from(next.as_millisecond() - now.as_millisecond()).unwrap_or(0))
    }

    /// One that was launched and has no process any more, although nobody saw its end.
    pub(crate) fn is_lost(&self) -> bool {
        self.record.started.is_some() && self.record.exit.is_none()
    }

    fn plan(&mut self, after: Timestamp, now: Timestamp) {
        self.planned = now;
        self.next = match (self.schedule, self.zone()) {
            (Some(Schedule::Times(times)), Ok(zone)) => {
                calendar::next(&times, &zone, after).map(|due| self.delayed(due))
            }
            _ => None,
        };
    }

    fn delayed(&self, due: Timestamp) -> Next {
        let most = self.settings.delay.as_millis();
        // Keyed anew for each value by the standard library.
        let random = u128::from(RandomState::new().hash_one(0));
        let delay = i64::try_from(random.checked_rem(most).unwrap_or(0)).unwrap_or(0);
        let begins = due.checked_add(SignedDuration::from_millis(delay));
        Next {
            due,
            begins: begins.unwrap_or(due),
        }
    }

    fn zone(&self) -> Result<TimeZone, String> {
        zone(self.settings.timezone.as_deref())
    }
}

/// The time zone of a name, else that of the server.
pub(crate) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        // Looked up again each time: somebody may change it.
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("has a time zone that this server does not know: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metactl_bundles::app::Restart;

    use super::*;
    use crate::standalone::entry::tests::definition;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(schedule: &str, settings: &CronSettings, record: JobRecord, now: &str) -> Job {
        let mut definition = definition("cron.x", Restart::Never);
        definition.schedule = Some(schedule.to_owned());
        Job::new(definition, settings, record, at(now), "boot-1")
    }

    fn in_utc() -> CronSettings {
        CronSettings {
            timezone: Some("UTC".to_owned()),
            ..CronSettings::default()
        }
    }

    fn attended(until: &str) -> JobRecord {
        JobRecord {
            attended: Some(until.to_owned()),
            boot: Some("boot-1".to_owned()),
            ..JobRecord::default()
        }
    }

    #[test]
    fn a_job_is_due_once_and_not_when_it_was_missed() {
        let mut job = job(
            "*/5 * * * *",
            &in_utc(),
            JobRecord::default(),
            "2026-11-22T12:01:00Z",
        );
        assert!(!job.is_due(at("2026-11-22T12:04:59Z")));
        assert!(job.is_due(at("2026-11-22T12:05:00Z")));
        assert!(!job.is_due(at("2026-11-22T12:05:01Z")));
        assert_eq!(job.due_in(at("2026-11-22T12:05:01Z")), Some(299_000));
        // A little late is no matter; the machine slept for an hour.
        assert!(job.is_due(at("2026-11-22T12:11:00Z")));
        assert!(!job.is_due(at("2026-11-22T13:12:01Z")));
        assert_eq!(job.next_rfc3339().unwrap(), "2026-11-22T13:15:00.000Z");
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_when_that_is_said() {
        let skip = in_utc();
        let once = CronSettings {
            missed: Missed::Once,
            ..in_utc()
        };
        let (since, now) = ("2026-11-20T00:05:00Z", "2026-11-22T12:00:00Z");
        let mut skipping = job("5 0 * * *", &skip, attended(since), now);
        assert!(!skipping.is_due(at(now)));
        let mut making_up = job("5 0 * * *", &once, attended(since), now);
        assert!(making_up.is_due(at(now)) && !making_up.is_due(at(now)));
        assert_eq!(
            making_up.next_rfc3339().unwrap(),
            "2026-11-23T00:05:00.000Z"
        );
        // Nothing was missed, or nobody knew it then.
        let mut fresh = job("5 0 * * *", &once, attended("2026-11-22T00:05:00Z"), now);
        assert!(!fresh.is_due(at(now)));
        let mut new = job("5 0 * * *", &once, JobRecord::default(), now);
        assert!(!new.is_due(at(now)));
        // A machine that slept is no different.
        assert!(fresh.is_due(at("2026-11-24T09:00:00Z")));
        assert!(!fresh.is_due(at("2026-11-24T09:00:01Z")));
    }

    #[test]
    fn once_after_each_boot() {
        let now = "2026-11-22T12:00:00Z";
        let mut first = job("@reboot", &in_utc(), JobRecord::default(), now);
        assert!(first.is_due(at(now)) && !first.is_due(at("2027-11-22T12:00:00Z")));
        let mut again = job("@reboot", &in_utc(), first.record.clone(), now);
        assert!(!again.is_due(at(now)));
        let before = JobRecord {
            boot: Some("boot-0".to_owned()),
            ..first.record
        };
        assert!(job("@reboot", &in_utc(), before, now).is_due(at(now)));
    }

    #[test]
    fn a_delay_is_less_than_said_and_no_run_is_lost() {
        let settings = CronSettings {
            delay: Duration::from_secs(600),
            ..in_utc()
        };
        let mut delays = std::collections::BTreeSet::new();
        let mut job = job(
            "0 * * * *",
            &settings,
            JobRecord::default(),
            "2026-11-22T12:01:00Z",
        );
        for hour in 13..23 {
            let due = at(&format!("2026-11-22T{hour}:00:00Z"));
            let next = job.next.unwrap();
            assert_eq!(next.due, due);
            let delay = next.begins.duration_since(due).as_millis();
            assert!((0..600_000).contains(&delay), "{delay}");
            delays.insert(delay);
            assert!(job.is_due(next.begins));
        }
        assert!(delays.len() > 5, "{delays:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut job = job(
            "0 * * * *",
            &in_utc(),
            JobRecord::default(),
            "2036-11-22T12:01:00Z",
        );
        assert!(!job.is_due(at("2026-11-22T12:59:00Z")));
        assert!(job.is_due(at("2026-11-22T13:00:00Z")));
        // Not for the hour of daylight saving time in a clock that keeps local time.
        assert!(!job.is_due(at("2026-11-22T12:30:00Z")));
        assert_eq!(job.next_rfc3339().unwrap(), "2026-11-22T14:00:00.000Z");
    }

    #[test]
    fn what_nobody_understands_is_told() {
        let now = "2026-11-22T12:01:00Z";
        let strange = CronSettings {
            timezone: Some("Europe/Nowhere".to_owned()),
            ..CronSettings::default()
        };
        for (schedule, settings) in [("61 * * * *", &in_utc()), ("@daily", &strange)] {
            let job = job(schedule, settings, JobRecord::default(), now);
            assert!(job.next.is_none() && job.trouble.is_some(), "{job:?}");
        }
    }
}
