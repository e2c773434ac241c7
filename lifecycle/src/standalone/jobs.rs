//! What is remembered of cron jobs: `<state>/<instance>/cron/<entry>.json`, a file each. It outlives the supervisor
//! and the server, so that a missed time is known, and the last result can be told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{LifecycleError, Result};
use crate::files;
use crate::status::Exit;

/// The format number of these files.
const FORMAT: u32 = 1;
/// The folder.
pub(crate) const DIR: &str = "cron";

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRecord {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Up to when its times have been attended to: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attended: Option<String>,
    /// The boot in which it ran last, for `@reboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
    /// When it was last launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<String>,
    /// The word of whoever asked for that run; none when its time had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<String>,
    /// How that ended; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<Exit>,
    /// Failures in a row.
    #[serde(default)]
    pub(crate) failures: u32,
}

impl Default for JobRecord {
    fn default() -> JobRecord {
        JobRecord {
            format: FORMAT,
            attended: None,
            boot: None,
            started: None,
            asked: None,
            exit: None,
            failures: 0,
        }
    }
}

impl JobRecord {
    /// It has been launched, or cannot be (then `ended` follows).
    pub(crate) fn begin(&mut self, asked: Option<String>) {
        self.started = Some(files::now());
        self.asked = asked;
        self.exit = None;
    }

    /// It has ended.
    pub(crate) fn ended(&mut self, exit: Exit) {
        self.failures = match exit.failed {
            true => self.failures.saturating_add(1),
            false => 0,
        };
        self.exit = Some(exit);
    }
}

/// The records of an instance.
#[derive(Debug, Clone)]
pub(crate) struct JobRecords(PathBuf);

impl JobRecords {
    pub(crate) fn of(state_dir: &Path) -> JobRecords {
        JobRecords(state_dir.join(DIR))
    }

    /// What is known of a job; `None`: nothing yet.
    pub(crate) fn read(&self, entry: &str) -> Result<Option<JobRecord>> {
        let path = self.path(entry);
        let found: Option<JobRecord> = files::read_json(&path)?;
        match found {
            Some(record) if record.format != FORMAT => Err(LifecycleError::Record {
                path,
                why: format!("format {} is not known to this metactl", record.format),
            }),
            found => Ok(found),
        }
    }

    pub(crate) fn write(&self, entry: &str, record: &JobRecord) -> Result<()> {
        files::make_dir(&self.0, 0o755)?;
        files::replace_json(&self.path(entry), record, 0o644)
    }

    fn path(&self, entry: &str) -> PathBuf {
        self.0.join(format!("{entry}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again_and_later_formats_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let records = JobRecords::of(dir.path());
        assert!(records.read("cron.a").unwrap().is_none());
        let mut record = JobRecord::default();
        record.begin(Some("me".to_owned()));
        let exit = |failed| Exit {
            at: files::now(),
            code: Some(i32::from(failed)),
            signal: None,
            reason: "x".to_owned(),
            failed,
        };
        record.ended(exit(true));
        record.ended(exit(true));
        assert_eq!(record.failures, 2);
        records.write("cron.a", &record).unwrap();
        assert_eq!(records.read("cron.a").unwrap(), Some(record.clone()));
        record.ended(exit(false));
        assert_eq!(record.failures, 0);
        std::fs::write(dir.path().join("cron/cron.a.json"), "{\"format\": 7}").unwrap();
        let error = records.read("cron.a").unwrap_err().to_string();
        assert!(error.contains("format 7"), "{error}");
    }
}
