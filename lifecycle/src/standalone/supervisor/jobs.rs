//! Cron jobs: those whose time has come, and those that somebody wants to run now.

use jiff::Timestamp;
use metactl_bundles::bundle::EntryRef;
use metactl_bundles::schedule::CronSettings;
use metactl_runtime::process::boot_id;

use super::super::exits;
use super::super::jobs::JobRecord;
use super::super::records::{Asked, FORMAT};
use super::super::schedule::Job;
use super::Supervisor;
use crate::error::Result;
use crate::events::{self, Event};
use crate::files;
use crate::status::Exit;

impl Supervisor {
    /// A job of the bundle, with what is remembered of it.
    pub(super) fn job(&self, entry: &EntryRef, settings: &CronSettings) -> Job {
        let mut is_new = false;
        let (record, trouble) = match self.job_records.read(&entry.name) {
            Ok(Some(record)) => (record, None),
            Ok(None) => {
                is_new = true;
                (JobRecord::default(), None)
            }
            // It is only what was before; from now on there is a new one.
            Err(error) => (JobRecord::default(), Some(error.to_string())),
        };
        // Without its name every boot is the same one.
        let boot = boot_id().unwrap_or_default();
        let mut job = Job::new(entry.clone(), settings, record, Timestamp::now(), &boot);
        // A job that never ran can be missed, too.
        let written = match is_new {
            true => self.job_records.write(&entry.name, &job.record).err(),
            false => None,
        };
        let trouble = trouble.or(written.map(|error| error.to_string()));
        job.trouble = job.trouble.or(trouble);
        job
    }

    /// Runs that a supervisor before this one began, and whose end nobody saw.
    pub(super) fn settle_jobs(&mut self) {
        let lost: Vec<String> = self
            .jobs
            .iter()
            .filter(|(name, job)| job.is_lost() && !self.alive.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            self.job_ended(&name, exits::lost());
        }
    }

    pub(super) fn start_jobs(&mut self) {
        if !self.wanted.as_ref().is_some_and(|wanted| wanted.cron) {
            return;
        }
        let now = Timestamp::now();
        let due: Vec<EntryRef> = self
            .jobs
            .values_mut()
            .filter_map(|job| job.is_due(now).then(|| job.definition.clone()))
            .collect();
        for definition in due {
            let name = &definition.name;
            if self.alive.contains_key(name) {
                self.say(&format!("{name} still runs; its next time is left out"));
                self.remember(name);
            } else {
                self.start_job(&definition, None);
            }
        }
        if let Err(error) = self.start_asked() {
            self.say(&error.to_string());
        }
    }

    fn start_asked(&mut self) -> Result<()> {
        for name in self.run.all_asked()? {
            let asked = match self.run.asked(&name) {
                Ok(Some(asked)) if asked.refused.is_none() => asked,
                Ok(_) => continue,
                Err(error) => {
                    self.say(&error.to_string());
                    self.run.remove_asked(&name)?;
                    continue;
                }
            };
            let refused = match self.jobs.get(&name) {
                None => "the bundle that runs has no such cron job",
                Some(_) if self.alive.contains_key(&name) => "it runs already",
                Some(job) => {
                    let definition = job.definition.clone();
                    self.run.remove_asked(&name)?;
                    self.start_job(&definition, Some(asked.word));
                    continue;
                }
            };
            let refusal = Asked {
                format: FORMAT,
                refused: Some(refused.to_owned()),
                word: asked.word,
            };
            self.run.write_asked(&name, &refusal)?;
        }
        Ok(())
    }

    fn start_job(&mut self, definition: &EntryRef, asked: Option<String>) {
        let name = &definition.name;
        if let Some(job) = self.jobs.get_mut(name) {
            job.record.begin(asked);
        }
        // Before it runs: a time that has been attended to is not made up for.
        self.remember(name);
        if let Err(error) = self.launch(definition, &files::now(), 0) {
            self.say(&format!("{name}: {error}"));
            let exit = exits::not_launched(&error);
            events::tell(&self.log_dir, &Event::not_started(definition, &exit));
            self.notify(definition, &exit, None);
            self.job_ended(name, exit);
        }
    }

    /// Writes down how a job ended, unless the bundle has no such job any more.
    pub(super) fn job_ended(&mut self, name: &str, exit: Exit) {
        match self.jobs.get_mut(name) {
            Some(job) => job.record.ended(exit),
            None => return,
        }
        self.remember(name);
    }

    fn remember(&self, name: &str) {
        if let Some(job) = self.jobs.get(name)
            && let Err(error) = self.job_records.write(name, &job.record)
        {
            self.say(&error.to_string());
        }
    }
}
