//! `start`, `stop`, `restart`, and the switch from one bundle to another that deployments share.

use std::time::{Duration, Instant};

use metactl_bundles::bundle::{self, Manifest, read_manifest};

use crate::conflicts::{self, Look};
use crate::error::{LifecycleError, Result};
use crate::health::{self, LogMarks};
use crate::instance::{Change, Current, Instance};
use crate::progress::{Progress, Unstepped};
use crate::standalone::records::{Wanted, new_generation};
use crate::standalone::with_daemons;
use crate::status::EntryState;
use crate::{converge, dns};

/// Starts everything, or one daemon.
pub(crate) fn start(
    instance: &Instance,
    entry: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Change> {
    let _lock = instance.lock("start")?;
    say_all(converge::converge(instance)?, progress);
    let current = instance.deployed()?;
    let daemons = match entry {
        None => instance.daemon_names(&current.manifest),
        Some(name) => instance.daemon_and_required(name)?,
    };
    let change = match instance.wanted()? {
        Some(wanted) => start_missing(
            instance,
            &current,
            &wanted,
            daemons,
            entry.is_none(),
            progress,
        )?,
        None => start_anew(instance, &current, daemons, entry.is_none(), progress)?,
    };
    if entry.is_none() {
        enable(instance, progress);
    }
    Ok(change)
}

/// Nothing runs: a new bundle is made from the configuration of now.
fn start_anew(
    instance: &Instance,
    current: &Current,
    daemons: Vec<String>,
    whole: bool,
    progress: &mut dyn Progress,
) -> Result<Change> {
    progress.begin("bundle", "");
    let ingredients = instance.ingredients(current)?;
    let understood = ingredients.understand()?;
    conflicts::check(
        &instance.manager.paths,
        &instance.name,
        &understood,
        false,
        Look::Records,
    )?;
    let ready = ingredients.compose(understood)?;
    let written = ready.write()?;
    progress.end(true, &written.digest);
    say_all(ready.warnings(), progress);
    let manifest = read_manifest(&written.dir)?;
    let names = if whole {
        instance.daemon_names(&manifest)
    } else {
        daemons
    };
    progress.begin("start", &names.join(", "));
    let mut wanted = instance.everything(&written.digest, names.iter().cloned())?;
    wanted.cron = whole;
    let logs = LogMarks::now(instance, &manifest);
    let begun = instance.want(&wanted).and_then(|()| {
        bundle::activate(&instance.state_dir(), &written.digest)?;
        Ok(())
    });
    if let Err(error) = begun {
        let patience = health::stop_patience(&manifest);
        let tidied = instance
            .want_nothing(patience)
            .and_then(|()| instance.prune_bundles(&[]));
        if let Err(second) = tidied {
            progress.note(&second.to_string());
        }
        return Err(error);
    }
    health::wait_until_up(
        instance,
        &wanted,
        &manifest,
        health::GLANCE,
        &logs,
        progress,
    )?;
    progress.end(true, "");
    instance.prune_bundles(std::slice::from_ref(&current.digest))?;
    Ok(Change::Done(names))
}

/// Something runs already: what does not is started from the same bundle.
fn start_missing(
    instance: &Instance,
    current: &Current,
    before: &Wanted,
    daemons: Vec<String>,
    whole: bool,
    progress: &mut dyn Progress,
) -> Result<Change> {
    let report = instance.look()?.report;
    let runs = |name: &String| {
        let state = report
            .as_ref()
            .and_then(|r| r.entries.get(name))
            .map(|entry| entry.state);
        before.daemons.contains_key(name)
            && matches!(state, Some(EntryState::Running | EntryState::Starting))
    };
    let missing: Vec<String> = daemons.into_iter().filter(|name| !runs(name)).collect();
    if missing.is_empty() && (before.cron || !whole) {
        // Who says `start` of what runs may have met trouble.
        instance.service()?.look_again(instance);
        return Ok(Change::Already);
    }
    let mut daemons = before.daemons.clone();
    daemons.extend(missing.iter().map(|name| (name.clone(), new_generation())));
    let wanted = Wanted {
        cron: before.cron || whole,
        ..with_daemons(before, daemons)
    };
    progress.begin("start", &missing.join(", "));
    let logs = LogMarks::now(instance, &current.manifest);
    instance.want(&wanted)?;
    // Only those that are new have to prove themselves.
    let mut judged = wanted.clone();
    judged.daemons.retain(|name, _| missing.contains(name));
    health::wait_until_up(
        instance,
        &judged,
        &current.manifest,
        health::GLANCE,
        &logs,
        progress,
    )?;
    progress.end(true, "");
    Ok(Change::Done(missing))
}

/// Stops everything, or one daemon.
pub(crate) fn stop(
    instance: &Instance,
    entry: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Change> {
    let _lock = instance.lock("stop")?;
    let change = stop_locked(instance, entry, progress)?;
    say_all(dns::farewell(instance), progress);
    Ok(change)
}

fn stop_locked(
    instance: &Instance,
    entry: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Change> {
    say_all(converge::converge(instance)?, progress);
    let look = instance.look()?;
    let entry = entry.map(|name| instance.daemon(name)).transpose()?;
    let Some(wanted) = look.wanted else {
        if !look.kept.is_kept() {
            return Ok(Change::Already);
        }
        // A stop that was killed is still at work: this one waits for its end.
        progress.begin("stop", "");
        instance.want_nothing(patience(instance))?;
        progress.end(true, "");
        return Ok(Change::Done(Vec::new()));
    };
    match entry {
        None => {
            let names: Vec<String> = wanted.daemons.keys().cloned().collect();
            progress.begin("stop", &names.join(", "));
            instance.want_nothing(patience(instance))?;
            progress.end(true, "");
            Ok(Change::Done(names))
        }
        Some(entry) if !wanted.daemons.contains_key(&entry.name) => Ok(Change::Already),
        Some(entry) => {
            progress.begin("stop", &entry.name);
            let mut daemons = wanted.daemons.clone();
            daemons.remove(&entry.name);
            if daemons.is_empty() && !wanted.cron {
                instance.want_nothing(patience(instance))?;
            } else {
                let wanted = with_daemons(&wanted, daemons);
                instance.want(&wanted)?;
                await_stop(instance, &wanted, &entry.name, entry.stop_timeout)?;
            }
            progress.end(true, "");
            Ok(Change::Done(vec![entry.name]))
        }
    }
}

fn await_stop(instance: &Instance, wanted: &Wanted, name: &str, timeout: Duration) -> Result<()> {
    let limit = timeout + Duration::from_secs(15);
    let stopped = instance.await_report(wanted, limit, |report| {
        let state = report.entries.get(name).map(|entry| entry.state);
        Ok(matches!(state, None | Some(EntryState::Stopped)).then_some(()))
    })?;
    stopped.ok_or_else(|| LifecycleError::Stop {
        what: name.to_owned(),
        seconds: limit.as_secs(),
        log: instance.supervisor_log(),
    })
}

/// How long everything may take to stop.
pub(crate) fn patience(instance: &Instance) -> Duration {
    // Stopping must work whatever happened to the bundle.
    match instance.current() {
        Ok(Some(current)) => health::stop_patience(&current.manifest),
        _ => Duration::from_secs(60),
    }
}

/// Stops and starts: everything with the configuration of now, or one daemon as it is.
pub(crate) fn restart(
    instance: &Instance,
    entry: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Change> {
    let _lock = instance.lock("restart")?;
    say_all(converge::converge(instance)?, progress);
    let current = instance.deployed()?;
    let before = instance.wanted()?;
    match (entry, before) {
        (Some(name), Some(before)) => {
            let name = instance.daemon(name)?.name;
            let mut before = before;
            // Not running by this name, it is missing, and is started with a new word.
            before.daemons.remove(&name);
            start_missing(instance, &current, &before, vec![name], false, progress)
        }
        (Some(name), None) => {
            let name = instance.daemon(name)?.name;
            start_anew(instance, &current, vec![name], false, progress)
        }
        (None, None) => {
            let daemons = instance.daemon_names(&current.manifest);
            let change = start_anew(instance, &current, daemons, true, progress)?;
            enable(instance, progress);
            Ok(change)
        }
        (None, Some(before)) => restart_all(instance, &current, &before, progress),
    }
}

fn restart_all(
    instance: &Instance,
    current: &Current,
    before: &Wanted,
    progress: &mut dyn Progress,
) -> Result<Change> {
    progress.begin("bundle", "");
    let ingredients = instance.ingredients(current)?;
    let understood = ingredients.understand()?;
    conflicts::check(
        &instance.manager.paths,
        &instance.name,
        &understood,
        true,
        Look::Records,
    )?;
    let ready = ingredients.compose(understood)?;
    let written = ready.write()?;
    progress.end(true, &written.digest);
    say_all(ready.warnings(), progress);
    let manifest = read_manifest(&written.dir)?;
    let names = instance.daemon_names(&manifest);
    progress.begin("restart", &names.join(", "));
    let begun = Instant::now();
    let wanted = instance.everything(&written.digest, names.iter().cloned())?;
    let switched = switch(instance, &wanted, &manifest, health::GLANCE, progress);
    match switched {
        Ok(()) => {}
        // The same as before: there is nothing to go back to.
        Err(error) if written.digest == current.digest => return Err(error),
        Err(error) => {
            progress.end(false, "");
            let before = Some((before, current));
            return Err(go_back(instance, error, before, begun, progress));
        }
    }
    if let Err(error) = bundle::activate(&instance.state_dir(), &written.digest) {
        let before = Some((before, current));
        return Err(go_back(instance, error.into(), before, begun, progress));
    }
    progress.end(true, "");
    enable(instance, progress);
    instance.prune_bundles(std::slice::from_ref(&current.digest))?;
    Ok(Change::Done(names))
}

/// Starts an enabled instance from the bundle in use.
pub(crate) fn boot(instance: &Instance, progress: &mut dyn Progress) -> Result<Change> {
    let _lock = instance.lock("boot")?;
    converge::converge(instance)?;
    if !instance.service()?.is_enabled(instance) || instance.wanted()?.is_some() {
        // The names that it had before the reboot are nobody else's to remove.
        say_all(dns::tidy(instance), progress);
        return Ok(Change::Already);
    }
    let current = instance.deployed()?;
    let names = instance.daemon_names(&current.manifest);
    progress.begin("start", &names.join(", "));
    let wanted = instance.everything(&current.digest, names.iter().cloned())?;
    switch(
        instance,
        &wanted,
        &current.manifest,
        health::GLANCE,
        progress,
    )?;
    progress.end(true, "");
    Ok(Change::Done(names))
}

/// Runs a bundle in the place of whatever runs, and returns when it is up. It does not count yet:
/// that is for the caller to say, or to go back.
pub(crate) fn switch(
    instance: &Instance,
    wanted: &Wanted,
    manifest: &Manifest,
    window: Duration,
    progress: &mut dyn Progress,
) -> Result<()> {
    let logs = LogMarks::now(instance, manifest);
    instance.want(wanted)?;
    health::wait_until_up(instance, wanted, manifest, window, &logs, progress)
}

/// Runs again what ran before, and makes the error of the failure that led here. `begun`: when that was stopped.
pub(crate) fn go_back(
    instance: &Instance,
    cause: LifecycleError,
    before: Option<(&Wanted, &Current)>,
    begun: Instant,
    progress: &mut dyn Progress,
) -> LifecycleError {
    let back = match before {
        Some((_, current)) => current.manifest.release.clone(),
        None => "nothing".to_owned(),
    };
    progress.begin("back", &back);
    let mut told = Unstepped::of(progress);
    let result = match before {
        Some((wanted, current)) => run_again(instance, wanted, current, &mut told),
        None => instance.want_nothing(patience(instance)),
    };
    let answers = told.answers(&back);
    let result = result.and_then(|()| instance.prune_bundles(&[]));
    progress.end(result.is_ok(), &answers);
    let cause = Box::new(cause);
    match (result, before) {
        (Ok(()), Some((_, current))) => LifecycleError::RolledBack {
            cause,
            back: format!(
                "{} runs again ({} lost)",
                current.manifest.release,
                in_words(begun.elapsed())
            ),
        },
        // Nothing ran before: that nothing runs now is no news.
        (Ok(()), None) => *cause,
        (Err(why), _) => LifecycleError::NotRolledBack {
            cause,
            back,
            why: Box::new(why),
        },
    }
}

/// `0.4 s`, `33 s`
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{seconds} s"),
    }
}

fn run_again(
    instance: &Instance,
    before: &Wanted,
    current: &Current,
    progress: &mut dyn Progress,
) -> Result<()> {
    let wanted = anew(before, &current.digest);
    switch(
        instance,
        &wanted,
        &current.manifest,
        health::GLANCE,
        progress,
    )
}

/// To want the same daemons, started anew from a bundle.
pub(crate) fn anew(before: &Wanted, bundle: &str) -> Wanted {
    let generation = new_generation();
    let names = before.daemons.keys().cloned();
    let daemons = names.map(|name| (name, generation.clone())).collect();
    Wanted {
        bundle: bundle.to_owned(),
        ..with_daemons(before, daemons)
    }
}

/// Waits until nothing runs any more that `wanted` replaces. Whether what replaces it comes up is
/// another question.
pub(crate) fn await_launch(instance: &Instance, wanted: &Wanted) -> Result<()> {
    let limit = patience(instance) + Duration::from_secs(15);
    let launched = instance.await_report(wanted, limit, |report| {
        let replaced = |(name, generation): (&String, &String)| {
            let entry = report.entries.get(name);
            entry.and_then(|entry| entry.generation.as_ref()) == Some(generation)
        };
        Ok(wanted.daemons.iter().all(replaced).then_some(()))
    })?;
    launched.ok_or_else(|| LifecycleError::Stop {
        what: instance.name.clone(),
        seconds: limit.as_secs(),
        log: instance.supervisor_log(),
    })
}

/// Marks the instance for the next boot. On a full disk that is not worth a failure: it runs.
pub(crate) fn enable(instance: &Instance, progress: &mut dyn Progress) {
    let service = instance.service();
    if let Err(error) = service.and_then(|service| service.enable(instance, true)) {
        progress.note(&format!("not enabled at boot: {error}"));
    }
}

fn say_all(lines: Vec<String>, progress: &mut dyn Progress) {
    lines.iter().for_each(|line| progress.note(line));
}
