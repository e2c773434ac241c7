//! The status of an instance, put together from records, and checked against what really runs.

use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_runtime::cgroup;
use metactl_runtime::state::State;

use crate::error::{LifecycleError, Result};
use crate::instance::{Current, Instance, Known};
use crate::service::{Kept, Look, Seen};
use crate::standalone::records::{EntryReport, Report, Wanted};
use crate::status::{
    self, DnsStatus, EntryState, EntryStatus, InstanceState, ReleaseInfo, Status, Summary,
};
use crate::{allocation, dns, files};

/// What is told of an instance, before anybody says how much of it.
struct Looked {
    current: Option<Known>,
    containers: Vec<State>,
    entries: Vec<EntryStatus>,
    state: InstanceState,
    kept: Kept,
    dns: Option<DnsStatus>,
    notes: Vec<String>,
}

/// Everything that is known of an instance.
pub(crate) fn status(instance: &Instance, notes: Vec<String>) -> Result<Status> {
    let seen = Seen::now(instance)?;
    let enabled = seen.service.is_enabled(instance);
    let own_group = seen.service.group(&instance.name);
    let mut looked = look(instance, seen, None, notes)?;
    for entry in &mut looked.entries {
        let state = container(instance, &looked.containers, &entry.name);
        let runs = state.filter(|_| entry.pid.is_some());
        entry.memory = runs.and_then(|state| cgroup::memory_current(&state.cgroups));
    }
    let own = allocation::read(&instance.state_dir())?;
    let group = group_of(instance, &own_group, &looked.containers, &looked.entries);
    let current = looked.current;
    Ok(Status {
        instance: instance.name.clone(),
        state: looked.state,
        uid: current
            .as_ref()
            .map(|known| known.uid)
            .or(own.map(|own| own.uid)),
        since: since(&looked.entries),
        memory: group.memory,
        memory_limit: group.limit,
        healthy: None,
        supervisor: looked.kept.pid(),
        enabled,
        entries: looked.entries,
        app: current.as_ref().map(|known| known.app.clone()),
        bundle: current.as_ref().map(|known| known.bundle.clone()),
        addresses: current
            .as_ref()
            .map(|known| known.addresses.clone())
            .unwrap_or_default(),
        release: current.map(|known| known.release),
        dns: looked.dns,
        notes: looked.notes,
    })
}

/// What a line of `list` has room for: hundreds of instances are looked at for it. `known`: what is known to be true
/// of its bundle already.
pub(crate) fn summary(
    instance: &Instance,
    seen: Option<Seen>,
    known: Option<Known>,
    notes: Vec<String>,
) -> Result<Summary> {
    let seen = seen.map_or_else(|| Seen::now(instance), Ok)?;
    let own_group = seen.service.group(&instance.name);
    let looked = look(instance, seen, known, notes)?;
    let group = group_of(instance, &own_group, &looked.containers, &looked.entries);
    let failed = looked.entries.iter().find_map(|entry| {
        let exit = entry.last_exit.as_ref().filter(|exit| exit.failed)?;
        Some(format!("{}: {}", entry.name, exit.reason))
    });
    let (addresses, release) = match looked.current {
        Some(known) => (known.addresses, Some(known.release.tag)),
        None => (Vec::new(), None),
    };
    Ok(Summary {
        instance: instance.name.clone(),
        state: looked.state,
        release,
        addresses,
        since: since(&looked.entries),
        memory: group.memory,
        restarts: looked.entries.iter().map(|entry| entry.restarts).sum(),
        note: failed.or_else(|| looked.notes.into_iter().next()),
    })
}

fn look(
    instance: &Instance,
    seen: Seen,
    known: Option<Known>,
    mut notes: Vec<String>,
) -> Result<Looked> {
    let found = match known {
        Some(known) => Ok(Some(known)),
        None => instance.known(),
    };
    let (current, damaged) = match found {
        Err(error @ LifecycleError::Bundle(_)) => {
            notes.push(error.to_string());
            (None, true)
        }
        other => (other?, false),
    };
    let Look {
        wanted,
        report,
        kept,
    } = seen.look;
    let outdated = |known: &Known| instance.is_outdated(known);
    // Root has looked at the bundle itself.
    if !nix::unistd::geteuid().is_root() && current.as_ref().is_some_and(outdated) {
        notes
            .push("this is of an earlier bundle; `status` as root brings it up to date".to_owned());
    }
    let containers = containers(instance, current.as_ref());
    let entries: Vec<EntryStatus> = match &current {
        Some(current) => {
            let log = |entry: &EntryRef| seen.service.log(instance, &entry.name);
            let look = |entry| look_at(instance, entry, report.as_ref(), &containers, log(entry));
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
    Ok(Looked {
        current,
        containers,
        entries,
        state,
        kept,
        dns,
        notes,
    })
}

/// Since when the daemon that runs longest runs.
fn since(entries: &[EntryStatus]) -> Option<String> {
    let daemons = entries
        .iter()
        .filter(|entry| entry.kind == status::EntryKind::Daemon);
    daemons.filter_map(|entry| entry.since.clone()).min()
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

/// The one of an entry point.
fn container<'a>(instance: &Instance, containers: &'a [State], entry: &str) -> Option<&'a State> {
    containers.iter().find(|state| {
        let rest = state.id.strip_prefix(instance.name.as_str());
        rest.and_then(|rest| rest.strip_prefix('.')) == Some(entry)
    })
}

/// What all entry points of an instance use together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    memory: Option<u64>,
    limit: Option<u64>,
}

/// Measured in the cgroup above those of the entry points, which the limits are for, where the kernel counts those
/// below into it; else their sum. `own`: what the service manager calls it.
fn group_of(
    instance: &Instance,
    own: &str,
    containers: &[State],
    entries: &[EntryStatus],
) -> Group {
    let alive = || {
        let running = entries.iter().filter(|entry| entry.pid.is_some());
        running.filter_map(|entry| container(instance, containers, &entry.name))
    };
    let is_own = |dir: &&Path| [&instance.name, own].contains(&files::name_of(dir));
    let mut all = alive().flat_map(|state| &state.cgroups);
    let group = all.find_map(|dir| {
        let above = dir.parent().filter(is_own)?;
        cgroup::memory_of_all(above)
    });
    if let Some((memory, limit)) = group {
        return Group {
            memory: Some(memory),
            limit,
        };
    }
    let each = alive().filter_map(|state| cgroup::memory_current(&state.cgroups));
    Group {
        memory: each.reduce(|all, one| all + one),
        limit: None,
    }
}

fn look_at(
    instance: &Instance,
    entry: &EntryRef,
    report: Option<&Report>,
    containers: &[State],
    log: PathBuf,
) -> EntryStatus {
    let known = report.and_then(|report| report.entries.get(&entry.name));
    let container = container(instance, containers, &entry.name);
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
    EntryStatus {
        name: entry.name.clone(),
        kind,
        state,
        since: known
            .filter(|_| process.is_some())
            .and_then(|known| known.since.clone()),
        pid: process.map(|process| process.pid),
        restarts: known.map_or(0, |known| known.restarts),
        memory: None,
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
