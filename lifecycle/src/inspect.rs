//! The status of an instance, put together from records, and checked against what really runs.

use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_runtime::cgroup;
use metactl_runtime::state::State;

use crate::error::{LifecycleError, Result};
use crate::instance::{Current, Instance, Known};
use crate::service::{Kept, Look, Seen};
use crate::standalone::records::{EntryReport, Report, Wanted};
use crate::status::{self, DnsStatus, EntryState, EntryStatus, InstanceState, ReleaseInfo, Status};
use crate::{allocation, dns, files};

/// Everything that is known of an instance.
pub(crate) fn status(
    instance: &Instance,
    seen: Option<Seen>,
    mut notes: Vec<String>,
) -> Result<Status> {
    let (current, damaged) = match instance.known() {
        Err(error @ LifecycleError::Bundle(_)) => {
            notes.push(error.to_string());
            (None, true)
        }
        other => (other?, false),
    };
    let seen = seen.map_or_else(|| Seen::now(instance), Ok)?;
    let Look {
        wanted,
        report,
        kept,
    } = seen.look;
    if current
        .as_ref()
        .is_some_and(|known| instance.is_outdated(known))
    {
        notes
            .push("this is of an earlier bundle; `status` as root brings it up to date".to_owned());
    }
    let containers = containers(instance, current.as_ref());
    let entries = match &current {
        Some(current) => {
            let log = |entry: &EntryRef| seen.service.log(instance, &entry.name);
            let look = |entry| look(instance, entry, report.as_ref(), &containers, log(entry));
            current.entries.iter().map(look).collect()
        }
        None => Vec::new(),
    };
    notes.extend(report.iter().flat_map(|report| report.notes.clone()));
    let dns = match kept.is_kept() {
        true => report.as_ref().and_then(|report| report.dns.clone()),
        false => dns::leftovers(&instance.dns_journal()),
    };
    let in_trouble = |status: &&DnsStatus| !kept.is_kept() || !status.troubles.is_empty();
    notes.extend(dns.as_ref().filter(in_trouble).map(dns::note));
    notes.extend(crate::learn::note(instance)?);
    if let (Some(wanted), Kept::No) = (&wanted, kept) {
        let since = &wanted.change;
        notes.push(format!(
            "its supervisor is gone (wanted since {since}); a command as root puts that right"
        ));
    }
    let state = judge(
        current.as_ref(),
        wanted.as_ref(),
        kept.is_kept(),
        report.as_ref(),
        &entries,
    );
    let state = if damaged && state == InstanceState::NotDeployed {
        InstanceState::Unknown
    } else {
        state
    };
    let own = allocation::read(&instance.state_dir())?;
    let group = group_of(
        &[&instance.name, &seen.service.group(&instance.name)],
        &containers,
        &entries,
    );
    Ok(Status {
        instance: instance.name.clone(),
        state,
        uid: current
            .as_ref()
            .map(|known| known.uid)
            .or(own.map(|own| own.uid)),
        since: entries
            .iter()
            .filter(|entry| entry.kind == status::EntryKind::Daemon)
            .filter_map(|entry| entry.since.clone())
            .min(),
        memory: group.memory,
        memory_limit: group.limit,
        healthy: None,
        supervisor: kept.pid(),
        enabled: seen.enabled,
        entries,
        app: current.as_ref().map(|known| known.app.clone()),
        bundle: current.as_ref().map(|known| known.bundle.clone()),
        addresses: current
            .as_ref()
            .map(|known| known.addresses.clone())
            .unwrap_or_default(),
        release: current.map(|known| known.release),
        dns,
        notes,
    })
}

/// The release in use, also when its record is gone.
pub(crate) fn release(instance: &Instance, current: &Current) -> Result<ReleaseInfo> {
    let id = &current.manifest.release;
    Ok(instance
        .releases()
        .info(id)?
        .unwrap_or_else(|| ReleaseInfo {
            id: id.clone(),
            tag: id.clone(),
            commit: String::new(),
            built: String::new(),
        }))
}

/// The containers of the entry points; none for who may not look.
fn containers(instance: &Instance, current: Option<&Known>) -> Vec<State> {
    let runtime = instance.runtime();
    let entries = current.iter().flat_map(|current| &current.entries);
    entries
        .filter_map(|entry| runtime.container(&format!("{}.{}", instance.name, entry.name)))
        .collect()
}

/// What all entry points of an instance use together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    memory: Option<u64>,
    limit: Option<u64>,
}

/// Measured in the cgroup above those of the entry points, which the limits are for, where the kernel counts those
/// below into it; else their sum. `names`: what it may be called.
fn group_of(names: &[&str], containers: &[State], entries: &[EntryStatus]) -> Group {
    let counted: Vec<u64> = entries.iter().filter_map(|entry| entry.memory).collect();
    if counted.is_empty() {
        return Group::default();
    }
    let is_own = |dir: &&Path| names.contains(&files::name_of(dir));
    let mut all = containers.iter().flat_map(|state| &state.cgroups);
    let group = all.find_map(|dir| {
        let above = dir.parent().filter(is_own)?;
        cgroup::memory_of_all(above)
    });
    let (memory, limit) = group.unwrap_or((counted.iter().sum(), None));
    Group {
        memory: Some(memory),
        limit,
    }
}

fn look(
    instance: &Instance,
    entry: &EntryRef,
    report: Option<&Report>,
    containers: &[State],
    log: PathBuf,
) -> EntryStatus {
    let known = report.and_then(|report| report.entries.get(&entry.name));
    let id = format!("{}.{}", instance.name, entry.name);
    let container = containers.iter().find(|state| state.id == id);
    let kind = match entry.kind {
        EntryKind::Daemon => status::EntryKind::Daemon,
        EntryKind::Cron => status::EntryKind::Cron,
    };
    let process = known
        .and_then(|known| known.process.clone())
        .or_else(|| container.and_then(|state| state.process.clone()))
        .filter(|process| process.is_alive());
    let state = match known {
        // It ended a moment ago, and the supervisor has not told yet.
        Some(known) if known.state == EntryState::Running && process.is_none() => {
            EntryState::Waiting
        }
        Some(known) => known.state,
        None if process.is_some() => EntryState::Running,
        None => EntryState::Stopped,
    };
    let usage = container.filter(|_| process.is_some());
    EntryStatus {
        name: entry.name.clone(),
        kind,
        state,
        since: known
            .filter(|_| process.is_some())
            .and_then(|known| known.since.clone()),
        pid: process.map(|process| process.pid),
        restarts: known.map_or(0, |known| known.restarts),
        memory: usage.and_then(|state| cgroup::memory_current(&state.cgroups)),
        health: Vec::new(),
        says: known
            .filter(|known| known.process.is_some())
            .and_then(|known| known.says.clone()),
        port: entry.port,
        last_exit: known.and_then(|known| known.last_exit.clone()),
        schedule: entry.schedule.clone(),
        next: known.and_then(|known: &EntryReport| known.next.clone()),
        log,
    }
}

fn judge(
    current: Option<&Known>,
    wanted: Option<&Wanted>,
    supervised: bool,
    report: Option<&Report>,
    entries: &[EntryStatus],
) -> InstanceState {
    let runs = entries.iter().any(|entry| entry.pid.is_some());
    if current.is_none() {
        return if runs {
            InstanceState::Unknown
        } else {
            InstanceState::NotDeployed
        };
    }
    let Some(wanted) = wanted else {
        return match (supervised, runs) {
            (true, _) | (false, true) => InstanceState::Stopping,
            (false, false) => InstanceState::Stopped,
        };
    };
    if !supervised {
        return if runs {
            InstanceState::Unknown
        } else {
            InstanceState::Stopped
        };
    }
    let seen = report.is_some_and(|report| report.change.as_ref() == Some(&wanted.change));
    if !seen {
        return InstanceState::Starting;
    }
    judge_daemons(wanted, entries)
}

fn judge_daemons(wanted: &Wanted, entries: &[EntryStatus]) -> InstanceState {
    let daemons: Vec<&EntryStatus> = entries
        .iter()
        .filter(|entry| entry.kind == status::EntryKind::Daemon)
        .collect();
    let count = |state: EntryState| daemons.iter().filter(|entry| entry.state == state).count();
    let ended_well = |entry: &&&EntryStatus| {
        entry.state == EntryState::Ended
            && !entry.last_exit.as_ref().is_some_and(|exit| exit.failed)
    };
    let good = count(EntryState::Running) + daemons.iter().filter(ended_well).count();
    if good == daemons.len() {
        // Without daemons, the cron jobs are what runs.
        return if daemons.is_empty() && !wanted.cron {
            InstanceState::Stopped
        } else {
            InstanceState::Running
        };
    }
    if count(EntryState::Starting) > 0 {
        return InstanceState::Starting;
    }
    if count(EntryState::Stopping) > 0 {
        return InstanceState::Stopping;
    }
    if good > 0 {
        return InstanceState::Partial;
    }
    if count(EntryState::Stopped) == daemons.len() {
        // Only its cron jobs run.
        return if wanted.cron {
            InstanceState::Partial
        } else {
            InstanceState::Stopped
        };
    }
    InstanceState::Failing
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::standalone::records::FORMAT;

    fn entry(state: EntryState, failed: bool) -> EntryStatus {
        let exit = status::Exit {
            at: String::new(),
            code: None,
            signal: None,
            reason: String::new(),
            failed,
        };
        EntryStatus {
            name: "x".to_owned(),
            kind: status::EntryKind::Daemon,
            state,
            pid: None,
            since: None,
            restarts: 0,
            memory: None,
            health: Vec::new(),
            says: None,
            port: None,
            last_exit: Some(exit),
            schedule: None,
            next: None,
            log: "/x".into(),
        }
    }

    #[test]
    fn an_instance_in_one_word() {
        use EntryState::{Ended, Running, Starting, Stopped, Stopping, Waiting};
        let wanted = Wanted {
            format: FORMAT,
            change: "1".to_owned(),
            bundle: "b".to_owned(),
            daemons: BTreeMap::new(),
            cron: true,
            uplink: None,
        };
        for (states, expected) in [
            (vec![], InstanceState::Running),
            (vec![Running, Running], InstanceState::Running),
            (vec![Running, Stopped], InstanceState::Partial),
            (vec![Running, Waiting], InstanceState::Partial),
            (vec![Waiting], InstanceState::Failing),
            (vec![Ended], InstanceState::Failing),
            (vec![Running, Starting], InstanceState::Starting),
            (vec![Stopping, Running], InstanceState::Stopping),
        ] {
            let entries: Vec<EntryStatus> =
                states.iter().map(|state| entry(*state, true)).collect();
            assert_eq!(judge_daemons(&wanted, &entries), expected, "{states:?}");
        }
        assert_eq!(
            judge_daemons(&wanted, &[entry(Ended, false)]),
            InstanceState::Running
        );
    }
}
