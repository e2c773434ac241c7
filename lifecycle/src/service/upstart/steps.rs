//! What the jobs of an instance, and cron, ask of metactl: `metactl -a APP unit STEP`. Each is a process that ends.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest, read_manifest};
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_bundles::schedule::{Missed, Schedule};

use super::{control, crontab, dir, exit_file, files, names};
use crate::error::{LifecycleError, Result};
use crate::files as small;
use crate::instance::Instance;
use crate::service::ended::{Ended, settle};
use crate::service::jobs::boot_mark;
use crate::service::network;
use crate::standalone::jobs::JobRecords;
use crate::standalone::{calendar, exits, schedule};
use crate::status::Exit;

/// The pause before a daemon is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// The bundle that the jobs start.
pub(super) fn manifest(instance: &Instance) -> Result<Manifest> {
    let state_dir = instance.state_dir();
    let digest = files::bundle(&state_dir)?.ok_or_else(|| instance.not_deployed())?;
    Ok(read_manifest(&state_dir.join("bundles").join(digest))?)
}

fn entry_of(manifest: &Manifest, entry: &str) -> Option<EntryRef> {
    let mut entries = manifest.entries.iter();
    entries.find(|one| one.name == entry).cloned()
}

/// Before an entry point, or the instance, starts: there is a network, and nothing is left of the last run. Returns
/// what is worth a line in the log.
pub(crate) fn prepare(instance: &Instance, entry: Option<&str>) -> Result<Vec<String>> {
    let state_dir = instance.state_dir();
    let digest = files::bundle(&state_dir)?.ok_or_else(|| instance.not_deployed())?;
    let spec: Option<NetworkSpec> =
        small::read_json(&state_dir.join("bundles").join(&digest).join("network.json"))?;
    let said = network_of(instance, &digest)?;
    if spec.is_some_and(|spec| matches!(spec.mode, Mode::Routed | Mode::Nat)) {
        control::begin(names::RESOLVER)?;
    }
    if let Some(entry) = entry {
        instance
            .runtime()
            .remove(&format!("{}.{entry}", instance.name))?;
        let file = exit_file(&instance.run_dir().0, entry);
        if let Some(dir) = file.parent() {
            small::make_dir(dir, 0o755)?;
        }
        small::remove_file(&file)?;
    }
    Ok(said)
}

/// Several daemons start at the same time: the first one makes it, and the others find it.
fn network_of(instance: &Instance, digest: &str) -> Result<Vec<String>> {
    let bundle = instance.state_dir().join("bundles").join(digest);
    let mut there = network::of(instance)?;
    if there.adopt()? && !there.fits(&bundle)? {
        let prefix = format!("{}.", instance.name);
        let containers = instance.runtime().containers(&prefix)?;
        let runs = |process: &metactl_runtime::ProcessId| process.is_alive();
        if containers
            .iter()
            .any(|state| state.process.as_ref().is_some_and(runs))
        {
            return Err(LifecycleError::Unavailable {
                what: format!("what runs of {} has another network", instance.name),
                hint: format!("metactl {} restart", instance.name),
            });
        }
    }
    let uplink = instance.server()?.uplink;
    network::up(instance, digest, uplink.as_deref()).map(|made| made.said)
}

/// An entry point in a sandbox has ended: it is recorded, tidied up, and told. Before it is started again is a pause.
pub(crate) fn stopped(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    let job = names::entry(&instance.name, entry);
    let again = control::list()?.get(&job).is_some_and(|job| job.start);
    let file = exit_file(&instance.run_dir().0, entry);
    let code = small::read(&file)?.and_then(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        text.trim().parse::<i32>().ok()
    });
    let definition = manifest(instance).ok().and_then(|m| entry_of(&m, entry));
    let limit = definition.as_ref().map(|entry| entry.stop_timeout);
    // What Upstart starts again has ended by itself.
    let asked = again.then_some(false);
    let said = settle(
        instance,
        entry,
        definition.clone(),
        asked,
        |launched, oom| exit(code, again, limit, launched, oom),
    )?;
    small::remove_file(&file)?;
    if again && definition.is_none_or(|entry| entry.kind == EntryKind::Daemon) {
        Ended::count_restart(instance, entry)?;
        std::thread::sleep(PAUSE);
    }
    Ok(said)
}

/// How it ended. `code`: what the runtime has left; without it the runtime was killed. `again`: Upstart starts it
/// again.
fn exit(
    code: Option<i32>,
    again: bool,
    limit: Option<Duration>,
    launched: bool,
    oom: bool,
) -> Exit {
    match (code, launched) {
        (Some(code), _) => exits::describe(Some(code), None, oom, false),
        (None, false) => Exit {
            reason: "could not be launched; its log says why".to_owned(),
            ..exits::lost()
        },
        (None, true) if again => exits::lost(),
        (None, true) => exits::too_late(
            exits::describe(None, Some(9), oom, false),
            limit.unwrap_or_default(),
        ),
    }
}

/// A job without a sandbox has ended, with what Upstart tells in the environment (stopped(7)).
pub(crate) fn event(instance: &Instance) -> Result<Vec<String>> {
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    let jobs = files::of_instance(dir(), &instance.name)?;
    // The pattern also fits jobs of instances whose names begin alike.
    let entry = jobs.get(&get("JOB")).and_then(|own| own.entry.clone());
    let Some(entry) = entry else {
        return Ok(Vec::new());
    };
    let definition = manifest(instance).ok().and_then(|m| entry_of(&m, &entry));
    let is_job = definition
        .as_ref()
        .is_some_and(|entry| entry.kind == EntryKind::Cron);
    let told = Told {
        result: get("RESULT"),
        process: get("PROCESS"),
        status: get("EXIT_STATUS"),
        signal: get("EXIT_SIGNAL"),
    };
    settle(instance, &entry, definition, None, |_, _| told.exit(is_job))
}

/// What Upstart tells of the end of a job.
#[derive(Debug, Default)]
struct Told {
    result: String,
    process: String,
    status: String,
    signal: String,
}

impl Told {
    /// In metactl's words.
    fn exit(&self, is_job: bool) -> Exit {
        if self.result == "ok" {
            return match is_job {
                true => exits::describe(Some(0), None, false, false),
                // Stopped by somebody, or as `restart =` has it.
                false => Exit {
                    reason: "stopped".to_owned(),
                    failed: false,
                    ..exits::lost()
                },
            };
        }
        let code = self.status.parse().ok();
        let number = self.signal.parse::<i32>().ok();
        let named = format!("SIG{}", self.signal).parse::<nix::sys::signal::Signal>();
        let signal = named.ok().map(|signal| signal as i32).or(number);
        let known = exits::describe(code, signal, false, false);
        let reason = match self.process.as_str() {
            "respawn" => "was started again too often: it is given up".to_owned(),
            "main" => known.reason.clone(),
            other => format!("{other}: {}", known.reason),
        };
        Exit {
            reason,
            failed: true,
            ..known
        }
    }
}

/// Whether an entry point that does not run has ended by itself, and was not stopped by somebody.
pub(super) fn is_ended(ended: &Ended, restart: Restart) -> bool {
    let exit = &ended.exit;
    let by_sigterm = exit.signal == Some(15) || exit.code == Some(143);
    exit.failed || (restart != Restart::Always && !by_sigterm)
}

/// Cron says that it may be time for a job. Returns what is worth a line.
pub(crate) fn job(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    let states = control::list()?;
    let is_there = |job: &str| states.get(job).is_some_and(control::JobState::is_active);
    // The jobs of an instance run while it does.
    if !is_there(&names::instance(&instance.name)) {
        return Ok(Vec::new());
    }
    let manifest = manifest(instance)?;
    let definition = entry_of(&manifest, entry).filter(|entry| entry.kind == EntryKind::Cron);
    let Some(definition) = definition else {
        return Ok(Vec::new());
    };
    if !is_due(instance, &manifest, &definition, Timestamp::now())? {
        return Ok(Vec::new());
    }
    let most = manifest.cron.delay.as_millis();
    // Keyed anew for each value by the standard library.
    let random = u128::from(RandomState::new().hash_one(0)).checked_rem(most);
    std::thread::sleep(Duration::from_millis(
        random
            .and_then(|pause| u64::try_from(pause).ok())
            .unwrap_or(0),
    ));
    if is_there(&names::entry(&instance.name, entry)) || !begin(instance, &definition)? {
        let title = &definition.title;
        return Ok(vec![format!(
            "{title}: it still runs, and is not started again"
        )]);
    }
    Ok(Vec::new())
}

/// Whether it is time, where cron cannot tell for certain.
fn is_due(
    instance: &Instance,
    manifest: &Manifest,
    entry: &EntryRef,
    now: Timestamp,
) -> Result<bool> {
    let zone = manifest.cron.timezone.as_deref();
    let Some(times) = crontab::times(entry) else {
        return Ok(false);
    };
    if !crontab::looks_itself(&times, zone.is_some()) {
        return Ok(true);
    }
    let zone = schedule::zone(zone).map_err(|why| LifecycleError::Setting {
        what: format!("[cron] timezone {why}"),
        hint: "names are those below /usr/share/zoneinfo".to_owned(),
    })?;
    let record = JobRecords::of(&instance.state_dir()).read(&entry.name)?;
    let attended = record.and_then(|record| record.attended?.parse::<Timestamp>().ok());
    Ok(comes_between(&times, &zone, attended, now))
}

/// Whether a time has come since metactl was last told: a quarter of an hour ago, when clocks may have been moved
/// since.
fn comes_between(
    times: &metactl_bundles::schedule::Times,
    zone: &jiff::tz::TimeZone,
    attended: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let this_minute = now.as_second().div_euclid(60) * 60 - 1;
    let quarter = SignedDuration::from_secs(15 * 60 - 1);
    let before = |span| Timestamp::from_second(this_minute).and_then(|at| at.checked_sub(span));
    let since = match attended {
        Some(attended) => before(quarter).map(|quarter| attended.max(quarter)),
        None => before(SignedDuration::ZERO),
    };
    since.is_ok_and(|since| calendar::any_between(times, zone, since, now))
}

/// Starts a job, and remembers that. `false`: it runs already.
pub(super) fn begin(instance: &Instance, entry: &EntryRef) -> Result<bool> {
    let records = JobRecords::of(&instance.state_dir());
    let before = records.read(&entry.name)?;
    let mut record = before.clone().unwrap_or_default();
    record.begin(None);
    record.attended = Some(small::now());
    records.write(&entry.name, &record)?;
    match control::begin(&names::entry(&instance.name, &entry.name)) {
        Ok(true) => Ok(true),
        Ok(false) => {
            if let Some(before) = before {
                records.write(&entry.name, &before)?;
            }
            Ok(false)
        }
        Err(error) => {
            record.ended(exits::not_launched(&error));
            records.write(&entry.name, &record)?;
            Err(error)
        }
    }
}

/// The instance has been started: the jobs that run once after a boot, and those that missed a time.
pub(crate) fn booted(instance: &Instance) -> Result<Vec<String>> {
    let manifest = manifest(instance)?;
    let records = JobRecords::of(&instance.state_dir());
    let mut said = Vec::new();
    for entry in manifest
        .entries
        .iter()
        .filter(|e| e.kind == EntryKind::Cron)
    {
        let schedule = Schedule::parse(entry.schedule.as_deref().unwrap_or_default());
        let runs = match schedule {
            Ok(Schedule::Boot) => {
                !boot_mark(&instance.manager.paths, &instance.name, &entry.name).exists()
            }
            Ok(Schedule::Times(times)) if manifest.cron.missed == Missed::Once => {
                let mut record = records.read(&entry.name)?.unwrap_or_default();
                let since = record.attended.as_ref().and_then(|at| at.parse().ok());
                let zone = schedule::zone(manifest.cron.timezone.as_deref());
                let now = Timestamp::now();
                if since.is_none() {
                    // From now on times can be missed.
                    record.attended = Some(small::now());
                    records.write(&entry.name, &record)?;
                }
                since
                    .zip(zone.ok())
                    .is_some_and(|(since, zone)| calendar::any_between(&times, &zone, since, now))
            }
            _ => false,
        };
        if runs && let Err(error) = begin(instance, entry) {
            said.push(error.to_string());
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_words() {
        let limit = Some(Duration::from_secs(30));
        for (code, again, launched, words, failed) in [
            (Some(0), false, true, "exit code 0", false),
            (Some(143), false, true, "exit code 143, SIGTERM", false),
            (Some(3), true, true, "exit code 3", true),
            (
                None,
                false,
                true,
                "SIGKILL (it did not stop within 30 s)",
                true,
            ),
            (
                None,
                true,
                true,
                "ended while nobody could see its exit code",
                true,
            ),
            (
                None,
                true,
                false,
                "could not be launched; its log says why",
                true,
            ),
        ] {
            let exit = exit(code, again, limit, launched, false);
            assert_eq!((exit.reason.as_str(), exit.failed), (words, failed));
        }
        let told = |words: [&str; 4], is_job| {
            let [result, process, status, signal] = words.map(str::to_owned);
            let exit = Told {
                result,
                process,
                status,
                signal,
            }
            .exit(is_job);
            (exit.reason, exit.failed)
        };
        for (words, is_job, reason, failed) in [
            (["ok", "", "", ""], true, "exit code 0", false),
            (["ok", "", "", ""], false, "stopped", false),
            (["failed", "main", "7", ""], true, "exit code 7", true),
            (["failed", "main", "", "KILL"], false, "SIGKILL", true),
            (
                ["failed", "respawn", "", ""],
                false,
                "was started again too often: it is given up",
                true,
            ),
        ] {
            assert_eq!(
                told(words, is_job),
                (reason.to_owned(), failed),
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_time_in_another_zone_comes_once() {
        let Ok(Schedule::Times(times)) = Schedule::parse("5 0 * * *") else {
            panic!();
        };
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(5)).clone();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let comes =
            |attended: Option<&str>, now| comes_between(&times, &zone, attended.map(at), at(now));
        assert!(comes(None, "2026-03-01T19:05:00Z"));
        assert!(!comes(None, "2026-03-01T19:20:00Z"));
        assert!(!comes(None, "2026-03-01T00:05:00Z"));
        // Told a quarter later, it has run already; or it has not, and is made up for.
        assert!(!comes(Some("2026-03-01T19:05:01Z"), "2026-03-01T19:19:30Z"));
        assert!(comes(Some("2026-02-28T19:05:01Z"), "2026-03-01T19:19:30Z"));
        assert!(comes(Some("2026-02-28T19:05:01Z"), "2026-03-01T19:05:02Z"));
    }
}
