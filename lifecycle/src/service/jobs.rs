//! Cron jobs, as far as they are alike under all service managers: one that somebody wants to run now, what is remembered
//! of a run, and those that have run since the server was booted.

use std::io;
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::EntryRef;
use metactl_bundles::paths::Paths;

use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Instance, LineSink};
use crate::standalone::jobs::JobRecords;
use crate::status::Exit;
use crate::{converge, files};

/// The most lines of a run that are printed.
pub(super) const LINES: usize = 100_000;

/// Somebody wants a job to run now: `begin` has the service manager start it.
pub(super) fn begin_now<T>(instance: &Instance, begin: impl FnOnce() -> Result<T>) -> Result<T> {
    let _lock = instance.lock("cron run")?;
    converge::converge(instance)?;
    instance.check_has_cron()?;
    begin()
}

/// It runs already; `since`, where that is known.
pub(super) fn runs_already(
    instance: &Instance,
    entry: &EntryRef,
    since: Option<&str>,
) -> LifecycleError {
    let since = since.map_or_else(String::new, |since| format!(", since {since}"));
    LifecycleError::Unavailable {
        what: format!("cron job {:?} runs already{since}", entry.title),
        hint: format!("metactl {} cron list", instance.name),
    }
}

/// Gives `sink` what a run has written to `log`.
pub(super) fn print<'a>(
    entry: &EntryRef,
    lines: impl IntoIterator<Item = &'a String>,
    log: &Path,
    sink: &mut LineSink<'_>,
) -> Result<()> {
    for line in lines {
        match sink(&entry.name, line) {
            // Nobody reads any more: the exit code is still wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.on("print", log)?,
        }
    }
    Ok(())
}

/// What is remembered of a run of a cron job: the same as without a service manager.
pub(super) fn remember(instance: &Instance, entry: &EntryRef, exit: &Exit) -> Result<()> {
    let records = JobRecords::of(&instance.state_dir());
    let mut record = records.read(&entry.name)?.unwrap_or_default();
    record.ended(exit.clone());
    records.write(&entry.name, &record)?;
    if entry.schedule.as_deref() == Some("@reboot") {
        let mark = boot_mark(&instance.manager.paths, &instance.name, &entry.name);
        if let Some(dir) = mark.parent() {
            files::make_dir(dir, 0o755)?;
        }
        files::replace(&mark, b"", 0o644)?;
    }
    Ok(())
}

/// There when a job of `@reboot` has run since the server was booted.
pub(super) fn boot_mark(paths: &Paths, instance: &str, entry: &str) -> PathBuf {
    paths.run.join("booted").join(format!("{instance}.{entry}"))
}

/// Forgets the boot jobs of an instance that is no more.
pub(super) fn forget_boots(instance: &Instance) -> Result<()> {
    let marks = boot_mark(&instance.manager.paths, &instance.name, "");
    let (Some(dir), beginning) = (marks.parent(), files::name_of(&marks)) else {
        return Ok(());
    };
    for mark in files::entries(dir)? {
        if files::name_of(&mark).starts_with(beginning) {
            files::remove_file(&mark)?;
        }
    }
    Ok(())
}
