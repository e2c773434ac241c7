//! What commands do about names that a supervisor has left: it was killed, or the name server did not answer in
//! time.

use std::path::Path;
use std::time::Duration;

use metactl_netns::dns_update::Patience;

use super::journal::{Journal, name_of_instance};
use super::registrar::{broken, records, remember};
use super::rounds::Rounds;
use crate::error::Result;
use crate::files;
use crate::instance::Instance;
use crate::lock::Lock;
use crate::manager::Manager;
use crate::status::{DnsState, DnsStatus};

/// Removes the names of an instance that has no supervisor, when it is time to try that. Returns what was done,
/// or what stands in the way, in sentences. Never takes long.
pub(crate) fn tidy(instance: &Instance) -> Vec<String> {
    try_to(instance, false).unwrap_or_else(|error| vec![error.to_string()])
}

/// The same, also when it is not time: somebody asks for it.
pub(crate) fn tidy_now(instance: &Instance) -> Vec<String> {
    try_to(instance, true).unwrap_or_else(|error| vec![error.to_string()])
}

fn try_to(instance: &Instance, now: bool) -> Result<Vec<String>> {
    let path = instance.dns_journal();
    if !Journal::exists(&path) {
        return Ok(Vec::new());
    }
    // Whoever supervises, or is about to, keeps the names itself.
    let lock = Lock::acquire(&instance.supervisor_lock(), "names", Duration::ZERO)?;
    let Ok(_lock) = lock else {
        return Ok(Vec::new());
    };
    // It runs, and no process of metactl stays for it: its names are true.
    if !instance.service()?.has_supervisor() && super::tend::is_up(instance) {
        return Ok(Vec::new());
    }
    let journal = Journal::read(&path)?;
    let failure = journal.content.failure.clone();
    // Times in this form are in the order of their text.
    if failure
        .as_ref()
        .is_some_and(|failure| !now && failure.next > files::now())
    {
        return Ok(Vec::new());
    }
    let count = journal.records().count();
    let mut rounds = Rounds::new(journal, Patience::short());
    let troubles = rounds.round(None);
    let tries = failure.map_or(0, |failure| failure.tries).saturating_add(1);
    remember(&mut rounds.journal, &troubles, tries)?;
    Ok(match rounds.journal.is_empty() {
        true => vec![format!("{count} records of it are removed from the DNS")],
        false => Vec::new(),
    })
}

/// After a stop: what could not be removed, in a sentence.
pub(crate) fn farewell(instance: &Instance) -> Vec<String> {
    let mut lines = tidy(instance);
    let left = leftovers(&instance.dns_journal()).filter(|_| {
        // Somebody else's daemons may still run.
        !matches!(instance.run_dir().supervisor(), Ok(Some(_)))
    });
    lines.extend(left.map(|left| note(&left)));
    lines
}

/// How it stands, in a sentence for people.
pub(crate) fn note(status: &DnsStatus) -> String {
    let why = match status.troubles.is_empty() {
        true => "the name server has not answered yet".to_owned(),
        false => status.troubles.join("; "),
    };
    let leaving = status
        .records
        .iter()
        .filter(|r| r.state == DnsState::Leaving)
        .count();
    let what = match leaving {
        0 => "trouble with its names in the DNS".to_owned(),
        count => format!("{count} records of it are still in the DNS"),
    };
    let next = status
        .next
        .as_deref()
        .and_then(|next| next.parse::<jiff::Timestamp>().ok());
    let next = next.map_or_else(String::new, |next| {
        let local = next.to_zoned(jiff::tz::TimeZone::system());
        format!("; it is tried again at {}", local.strftime("%H:%M:%S"))
    });
    format!("{what}: {why}{next}")
}

/// The names that an instance without a supervisor may still have.
pub(crate) fn leftovers(path: &Path) -> Option<DnsStatus> {
    if !Journal::exists(path) {
        return None;
    }
    let journal = match Journal::read(path) {
        Ok(journal) => journal,
        Err(error) => return Some(broken(&error.to_string())),
    };
    let failure = journal.content.failure.as_ref();
    Some(DnsStatus {
        records: records(journal.records(), |_| DnsState::Leaving),
        healthy: None,
        troubles: failure
            .map(|failure| failure.why.clone())
            .into_iter()
            .collect(),
        next: failure.map(|failure| failure.next.clone()),
    })
}

/// Removes the names of instances that are deleted. Returns what was done, in sentences.
pub(crate) fn sweep(manager: &Manager, instances: &[String]) -> Result<Vec<String>> {
    let deleted = |found: &Instance| !instances.contains(&found.name);
    sweep_some(manager, deleted)
}

/// Removes the names that other instances have left, those that were stopped in order: of one whose supervisor was
/// killed something may still run, and the next command about it finds out.
pub(super) fn sweep_for(own: &Instance) -> Result<Vec<String>> {
    let stopped = |found: &Instance| found.name != own.name && !found.run_dir().exists();
    sweep_some(&own.manager, stopped)
}

fn sweep_some(manager: &Manager, which: impl Fn(&Instance) -> bool) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let probe = manager.paths.instance_dns("x");
    let Some(dir) = probe.parent() else {
        return Ok(done);
    };
    for path in files::entries(dir)? {
        let Some(name) = name_of_instance(&path) else {
            continue;
        };
        let found = Instance {
            manager: manager.clone(),
            name: name.to_owned(),
        };
        if which(&found) {
            let lines = tidy(&found).into_iter();
            done.extend(lines.map(|line| format!("{}: {line}", found.name)));
        }
    }
    Ok(done)
}
