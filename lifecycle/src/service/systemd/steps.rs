//! What the units of an instance ask of metactl: `metactl -a APP unit STEP`. Each is a process that ends.

use std::path::PathBuf;
use std::time::Duration;

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, read_manifest};
use metactl_bundles::paths::Paths;
use metactl_bundles::platforms::jvm;
use metactl_runtime::cgroup;
use serde::{Deserialize, Serialize};

use super::files as units;
use super::{mend, names, states};
use crate::error::{LifecycleError, Result};
use crate::events::{self, Event as LogEvent};
use crate::instance::Instance;
use crate::lock::Lock;
use crate::standalone::exits;
use crate::standalone::jobs::JobRecords;
use crate::standalone::network::Network;
use crate::standalone::notify::{Event, Notifier};
use crate::status::{self, Exit};
use crate::{dns, dumps, files};

/// The format number of the records.
const FORMAT: u32 = 1;
/// How long nothing more is told of an entry point that fails again and again, in seconds.
const QUIET: i64 = 600;
/// How long the network of an instance may be mended, which takes milliseconds.
const MENDING: Duration = Duration::from_secs(10);

/// How an entry point ended last: `<run>/<instance>/ended/<entry>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::service) struct Ended {
    format: u32,
    pub(in crate::service) exit: Exit,
    /// How often it was started again since; only where the service manager does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(in crate::service) restarts: u32,
    /// When somebody was told of a failure of it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<i64>,
    /// Whether somebody wanted it to end; not in the records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<bool>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Ended {
    pub(in crate::service) fn read(instance: &Instance, entry: &str) -> Result<Option<Ended>> {
        files::read_json(&Ended::path(instance, entry))
    }

    pub(in crate::service) fn forget(instance: &Instance, entry: &str) -> Result<()> {
        files::remove_file(&Ended::path(instance, entry)).map(drop)
    }

    /// It is started again.
    pub(in crate::service) fn count_restart(instance: &Instance, entry: &str) -> Result<()> {
        let Some(mut ended) = Ended::read(instance, entry)? else {
            return Ok(());
        };
        ended.restarts = ended.restarts.saturating_add(1);
        ended.write(instance, entry)
    }

    /// Whether it ended by itself in a way after which it is started again, as long as that helps.
    pub(super) fn is_to_be_started_again(&self, entry: &EntryRef) -> bool {
        self.asked == Some(false)
            && match entry.restart {
                Restart::Always => true,
                Restart::OnFailure => self.exit.failed,
                Restart::Never => false,
            }
    }

    fn write(&self, instance: &Instance, entry: &str) -> Result<()> {
        let path = Ended::path(instance, entry);
        if let Some(dir) = path.parent() {
            files::make_dir(dir, 0o755)?;
        }
        files::replace_json(&path, self, 0o644)
    }

    fn path(instance: &Instance, entry: &str) -> PathBuf {
        let dir = instance.run_dir().0.join("ended");
        dir.join(format!("{entry}.json"))
    }
}

/// The network of an instance, whose names a unit has answered.
pub(in crate::service) fn network(instance: &Instance) -> Result<Network> {
    Network::unattended(instance)
}

/// Waits for whoever mends the network.
fn network_lock(instance: &Instance, doing: &str) -> Result<Lock> {
    let lock = Lock::acquire(&instance.network_lock(), doing, MENDING)?;
    lock.map_err(|held| LifecycleError::Locked {
        instance: instance.name.clone(),
        holder: held.0,
    })
}

/// Makes the network of a bundle. Returns what is worth a line in the journal.
pub(crate) fn network_up(
    instance: &Instance,
    digest: &str,
    uplink: Option<&str>,
) -> Result<Vec<String>> {
    let mut made = make_network(instance, digest, uplink)?;
    if made.has_names {
        made.said.extend(mend::ask(instance));
    }
    Ok(made.said)
}

/// A network that is there now.
pub(in crate::service) struct Made {
    /// What is worth a line in the log.
    pub(in crate::service) said: Vec<String>,
    /// Whether its addresses are to have names in the DNS.
    has_names: bool,
}

/// Makes the network of a bundle, unless it is there.
pub(in crate::service) fn make_network(
    instance: &Instance,
    digest: &str,
    uplink: Option<&str>,
) -> Result<Made> {
    let bundle = instance
        .state_dir()
        .join("bundles")
        .join(files::name_of(digest.as_ref()));
    let manifest = read_manifest(&bundle)?;
    files::make_dir(&instance.run_dir().0, 0o755)?;
    let lock = network_lock(instance, "network-up")?;
    let mut network = network(instance)?;
    network.adopt()?;
    network.up(&instance.runtime(), &bundle, &manifest, uplink)?;
    drop(lock);
    let mut said = network.notes();
    said.extend(network.announced());
    Ok(Made {
        said,
        has_names: manifest.dns.is_some(),
    })
}

/// Takes it away, and its names with it. Returns what is worth a line in the journal.
pub(crate) fn network_down(instance: &Instance) -> Result<Vec<String>> {
    let lock = network_lock(instance, "network-down")?;
    network(instance)?.down(&instance.runtime())?;
    drop(lock);
    let mut said = Vec::new();
    // A name server that is silent is no reason for a stop to fail: the names are written down.
    match dns::leave(instance) {
        Ok(lines) => said.extend(lines),
        Err(error) => said.push(error.to_string()),
    }
    Ok(said)
}

/// There when a job of `@reboot` has run since the server was booted.
pub(in crate::service) fn boot_mark(paths: &Paths, instance: &str, entry: &str) -> PathBuf {
    paths.run.join("booted").join(format!("{instance}.{entry}"))
}

/// Forgets the boot jobs of an instance that is no more.
pub(in crate::service) fn forget_boots(instance: &Instance) -> Result<()> {
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

/// What is remembered of a run of a cron job: the same as without a service manager.
fn remember(instance: &Instance, entry: &EntryRef, exit: &Exit) -> Result<()> {
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

/// What systemd tells of the end of a service (systemd.exec(5), `$SERVICE_RESULT`, `$EXIT_CODE`, `$EXIT_STATUS`).
#[derive(Debug, Default)]
struct Told {
    result: String,
    code: String,
    status: String,
}

impl Told {
    fn of_environment() -> Told {
        let get = |name: &str| std::env::var(name).unwrap_or_default();
        Told {
            result: get("SERVICE_RESULT"),
            code: get("EXIT_CODE"),
            status: get("EXIT_STATUS"),
        }
    }

    /// In metactl's words. `launched`: the program of the application was begun.
    fn exit(&self, launched: bool, oom: bool) -> Exit {
        let number = self.status.parse::<i32>().ok();
        let signal = || {
            let name = format!("SIG{}", self.status);
            let named = name.parse::<nix::sys::signal::Signal>().ok();
            named.map(|signal| signal as i32).or(number)
        };
        let (code, signal) = match self.code.as_str() {
            "exited" => (number, None),
            "killed" | "dumped" => (None, signal()),
            _ => (None, None),
        };
        let mut exit = exits::describe(code, signal, oom || self.result == "oom-kill", false);
        match self.result.as_str() {
            "timeout" => exit.reason.push_str(" (not in time)"),
            "watchdog" => exit.reason.push_str(&format!(" ({})", exits::NOT_ALIVE)),
            "protocol" => exit.reason.push_str(" (before it said that it is ready)"),
            _ => {}
        }
        if !launched && exit.failed {
            exit.reason = format!("could not be launched ({})", exit.reason);
        }
        // As the unit's SuccessExitStatus= and the way it was stopped have it.
        exit.failed = self.result != "success";
        exit
    }
}

/// The entry point as the units have it. While an instance is deployed that bundle is not yet the one in use.
fn of_units(instance: &Instance, entry: &str) -> Option<EntryRef> {
    let digest = units::bundle(super::dir(), &instance.name).ok()??;
    let bundle = instance.state_dir().join("bundles").join(digest);
    let entries = read_manifest(&bundle).ok()?.entries;
    entries.into_iter().find(|one| one.name == entry)
}

/// An entry point has ended: it is recorded, tidied up, and told.
pub(crate) fn ended(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    let definition = of_units(instance, entry);
    // Who ends by itself has no job that wants it to.
    let asked = states::has_job(&names::service(&instance.name, entry)).ok();
    let mut said = settle(instance, entry, definition, asked, |launched, oom| {
        Told::of_environment().exit(launched, oom)
    })?;
    if dns::status(instance).is_some() {
        said.extend(mend::ask(instance));
    }
    Ok(said)
}

/// Records, tidies up and tells the end of an entry point, which `exit` puts into words: whether its program was begun,
/// and whether something in it was killed for memory. `asked` says whether somebody wanted it to end, where that is
/// known.
pub(in crate::service) fn settle(
    instance: &Instance,
    entry: &str,
    definition: Option<EntryRef>,
    asked: Option<bool>,
    exit: impl FnOnce(bool, bool) -> Exit,
) -> Result<Vec<String>> {
    let id = format!("{}.{entry}", instance.name);
    let runtime = instance.runtime();
    let state = runtime
        .containers(&id)?
        .into_iter()
        .find(|state| state.id == id);
    let cgroups = state
        .as_ref()
        .map(|state| state.cgroups.clone())
        .unwrap_or_default();
    let oom = cgroup::stats(&cgroups)
        .oom_kills
        .is_some_and(|kills| kills > 0);
    let mut exit = exit(state.is_some(), oom);
    let definition = definition.or_else(|| instance.entry(entry).ok());
    runtime.remove(&id)?;
    let tmp = files::empty_dir(&instance.state_dir().join("tmp").join(entry));
    let mut said: Vec<String> = tmp
        .err()
        .map(|error| error.to_string())
        .into_iter()
        .collect();
    let mut dump = None;
    if definition
        .as_ref()
        .is_some_and(|definition| jvm::is_jvm(&definition.platform))
    {
        let data = instance.state_dir().join("data");
        dump = dumps::keep(&data, entry)?.map(|name| data.join(name));
        exit = exits::of_jvm(exit, dump.is_some());
    }
    let before = Ended::read(instance, entry).ok().flatten();
    let asked = asked.unwrap_or(!exit.failed);
    let mut ended = Ended {
        format: FORMAT,
        asked: Some(asked),
        told: before.as_ref().and_then(|before| before.told),
        restarts: before.map_or(0, |before| before.restarts),
        exit,
    };
    let now = jiff::Timestamp::now().as_second();
    let quiet = ended.told.is_some_and(|told| now - told < QUIET);
    let tells = ended.exit.failed && !quiet;
    if tells {
        ended.told = Some(now);
    }
    ended.write(instance, entry)?;
    if let Some(definition) = &definition {
        let event = LogEvent::ended(definition, &ended.exit, asked);
        events::tell(&instance.log_dir(), &event);
        if definition.kind == EntryKind::Cron {
            remember(instance, definition, &ended.exit)?;
        }
    }
    if let Some(definition) = definition.filter(|_| tells) {
        said.extend(tell(instance, &definition, &ended.exit, dump)?);
    }
    Ok(said)
}

fn tell(
    instance: &Instance,
    entry: &EntryRef,
    exit: &Exit,
    heap_dump: Option<PathBuf>,
) -> Result<Vec<String>> {
    let Some(current) = instance.current()? else {
        return Ok(Vec::new());
    };
    let event = Event {
        instance: &instance.name,
        entry: &entry.name,
        kind: match entry.kind {
            EntryKind::Cron => status::EntryKind::Cron,
            EntryKind::Daemon => status::EntryKind::Daemon,
        },
        exit,
        restarts: 0,
        heap_dump,
        log: instance.service()?.log(instance, &entry.name),
    };
    let mut notifier = Notifier::default();
    let now = std::time::Instant::now();
    let mut said = notifier.tell(&current.manifest.notify, &event, now);
    said.extend(notifier.finish());
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(result: &str, code: &str, status: &str) -> Told {
        Told {
            result: result.to_owned(),
            code: code.to_owned(),
            status: status.to_owned(),
        }
    }

    #[test]
    fn ends_in_words() {
        for (result, code, status, oom, words, failed) in [
            ("success", "exited", "0", false, "exit code 0", false),
            ("success", "killed", "TERM", false, "SIGTERM", false),
            (
                "success",
                "exited",
                "143",
                false,
                "exit code 143, SIGTERM",
                false,
            ),
            ("exit-code", "exited", "3", false, "exit code 3", true),
            (
                "signal",
                "killed",
                "KILL",
                true,
                "SIGKILL (out of memory)",
                true,
            ),
            (
                "oom-kill",
                "killed",
                "KILL",
                false,
                "SIGKILL (out of memory)",
                true,
            ),
            (
                "timeout",
                "killed",
                "KILL",
                false,
                "SIGKILL (not in time)",
                true,
            ),
            ("core-dump", "dumped", "SEGV", false, "SIGSEGV", true),
        ] {
            let exit = told(result, code, status).exit(true, oom);
            assert_eq!((exit.reason.as_str(), exit.failed), (words, failed));
        }
        let exit = told("exit-code", "exited", "78").exit(false, false);
        assert_eq!(exit.reason, "could not be launched (exit code 78)");
    }
}
