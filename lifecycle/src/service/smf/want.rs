//! From what runs to what should: a plan of what to stop and to start, and the work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{self, EntryRef, Manifest, read_manifest};
use metactl_bundles::paths::Paths;

use super::control::{self, Programs, State, States};
use super::crontab::{self, Block, NoZone};
use super::render::{self, Input};
use super::{names, report};
use crate::error::{LifecycleError, Result};
use crate::files;
use crate::instance::Instance;
use crate::standalone::records::Wanted;

/// Where the zone of the system is set (init(8)).
const DEFAULT_INIT: &str = "/etc/default/init";

/// What has to be stopped and started, each in this order, by FMRI.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    stop: Vec<String>,
    /// Cron jobs that run and should not: their contracts end first.
    end: Vec<(String, Option<String>)>,
    start: Vec<String>,
}

pub(super) fn want(programs: &dyn Programs, instance: &Instance, wanted: &Wanted) -> Result<()> {
    let dir = instance.state_dir().join("bundles").join(&wanted.bundle);
    let manifest = read_manifest(&dir)?;
    // All questions first: nothing changes when something cannot be.
    let text = rendered(&manifest, &dir, &wanted.bundle)?;
    let now = control::look(programs, &instance.name)?;
    check_ours(instance, &now)?;
    let enabled = is_enabled(&now);
    let crontab = planned_crontab(programs, instance, &manifest, wanted.cron || enabled)?;
    let plan = plan(&instance.name, &now, wanted, &manifest);
    stop(programs, &plan)?;
    install(programs, instance, &manifest, &text, &now)?;
    let whole = names::whole(&instance.name);
    match wanted.cron {
        true => control::enable(programs, &whole)?,
        false => control::disable(programs, &whole)?,
    }
    write_crontab(programs, crontab)?;
    for fmri in &plan.start {
        control::enable(programs, fmri)?;
    }
    settle_boot(programs, instance, enabled)
}

/// Stops everything. What is started at boot is then the bundle that counts.
pub(super) fn nothing(programs: &dyn Programs, instance: &Instance) -> Result<()> {
    let now = control::look(programs, &instance.name)?;
    if now.is_empty() || check_ours(instance, &now).is_err() {
        // Nothing of this instance is there.
        return Ok(());
    }
    let none = Wanted {
        format: crate::standalone::records::FORMAT,
        change: String::new(),
        bundle: String::new(),
        daemons: Default::default(),
        cron: false,
        uplink: None,
    };
    // Stopping must work whatever happened to the bundle: without one there is no order.
    let current = instance.current().ok().flatten();
    let entries = current
        .as_ref()
        .map(|current| current.manifest.entries.as_slice());
    let plan = plan_of(&instance.name, &now, &none, entries.unwrap_or_default());
    stop(programs, &plan)?;
    control::disable(programs, &names::whole(&instance.name))?;
    if !is_enabled(&now) {
        forget_crontab(programs, instance)?;
    }
    agree(programs, instance)
}

/// While nothing runs: the service is that of the bundle that counts. Without one there is none.
pub(super) fn agree(programs: &dyn Programs, instance: &Instance) -> Result<()> {
    let now = control::look(programs, &instance.name)?;
    let Some(digest) = report::bundle(&now) else {
        return Ok(());
    };
    // A damaged one is no reason to fail; who repairs it writes the manifest again.
    let Ok(current) = bundle::current(&instance.state_dir()) else {
        return Ok(());
    };
    match current {
        Some(current) if files::name_of(&current) == digest => Ok(()),
        Some(current) => {
            let manifest = read_manifest(&current)?;
            let text = rendered(&manifest, &current, files::name_of(&current))?;
            let enabled = is_enabled(&now);
            let crontab = planned_crontab(programs, instance, &manifest, enabled)?;
            install(programs, instance, &manifest, &text, &now)?;
            write_crontab(programs, crontab)?;
            settle_boot(programs, instance, enabled)
        }
        None => forget(programs, instance),
    }
}

/// Nothing of the instance stays with SMF. Nothing of it runs.
pub(super) fn forget(programs: &dyn Programs, instance: &Instance) -> Result<()> {
    forget_crontab(programs, instance)?;
    let now = control::look(programs, &instance.name)?;
    if !now.is_empty() && check_ours(instance, &now).is_ok() {
        control::delete(programs, &names::service(&instance.name))?;
    }
    files::remove_file(&manifest_file(instance)).map(drop)
}

/// Starts it when the server boots, or no longer does.
pub(super) fn enable(programs: &dyn Programs, instance: &Instance, enabled: bool) -> Result<()> {
    let now = control::look(programs, &instance.name)?;
    check_ours(instance, &now)?;
    if now.is_empty() {
        let path = instance.state_dir();
        let current = instance.deployed()?;
        let text = rendered(&current.manifest, &current.dir, &current.digest)?;
        files::make_dir(&path, 0o755)?;
        install(programs, instance, &current.manifest, &text, &now)?;
    }
    settle_boot(programs, instance, enabled)?;
    if enabled || !report::has_cron(&now) {
        let current = instance.deployed()?;
        let crontab = planned_crontab(programs, instance, &current.manifest, enabled)?;
        write_crontab(programs, crontab)?;
    }
    Ok(())
}

pub(super) fn is_enabled(states: &States) -> bool {
    states.get(names::WHOLE).is_some_and(|state| state.at_boot)
}

/// The manifest, kept where the bundles are: SMF has what it says in its repository.
fn manifest_file(instance: &Instance) -> PathBuf {
    instance.state_dir().join("smf.xml")
}

fn rendered(manifest: &Manifest, dir: &Path, digest: &str) -> Result<String> {
    let mut entries = manifest.entries.iter();
    if let Some(entry) = entries.find(|entry| !entry.service.sockets.is_empty()) {
        return Err(LifecycleError::Setting {
            what: format!(
                "`socket` in [daemon.{}] needs systemd, and this server has SMF",
                entry.name
            ),
            hint: "let the daemon open its port itself, and say `port` instead of `socket`"
                .to_owned(),
        });
    }
    let processes = render::processes(manifest, dir)?;
    render::manifest(&Input {
        manifest,
        digest,
        processes: &processes,
    })
}

/// A service that somebody else made is not replaced.
fn check_ours(instance: &Instance, now: &States) -> Result<()> {
    let mut others = now
        .values()
        .filter(|state| state.instance.as_ref() != Some(&instance.name));
    match others.next() {
        None => Ok(()),
        Some(other) => Err(LifecycleError::ServiceManager {
            what: format!("replace {}", names::service(&instance.name)),
            why: match &other.instance {
                Some(other) => format!("it is that of instance {other}"),
                None => "it is not metactl's; svccfg delete would remove it".to_owned(),
            },
        }),
    }
}

fn plan(instance: &str, now: &States, wanted: &Wanted, manifest: &Manifest) -> Plan {
    plan_of(instance, now, wanted, &manifest.entries)
}

fn plan_of(instance: &str, now: &States, wanted: &Wanted, entries: &[EntryRef]) -> Plan {
    let order = start_order(entries);
    let fmri = |entry: &str| names::fmri(instance, entry);
    let mut plan = Plan::default();
    let mut goes_on: BTreeSet<&str> = BTreeSet::new();
    let mut stop: Vec<&str> = Vec::new();
    for state in now.values() {
        let Some(entry) = state.entry.as_deref() else {
            continue;
        };
        if state.kind == "daemon" {
            let by_same_word = wanted.daemons.get(entry) == Some(&state.word());
            match state.is_wanted() && by_same_word {
                true => drop(goes_on.insert(entry)),
                false if is_there(state) => stop.push(entry),
                false => {}
            }
        } else if state.is_starting() && !(wanted.cron && order.contains(&entry)) {
            plan.end.push((fmri(entry), state.method_contract.clone()));
        }
    }
    // Who came last goes first; what is no more, before all.
    let place = |entry: &str| order.iter().position(|name| *name == entry);
    stop.sort_by_key(|entry| std::cmp::Reverse(place(entry).unwrap_or(usize::MAX)));
    plan.stop = stop.into_iter().map(fmri).collect();
    let is_new = |entry: &&&str| wanted.daemons.contains_key(**entry) && !goes_on.contains(**entry);
    plan.start = order
        .iter()
        .filter(is_new)
        .map(|entry| fmri(entry))
        .collect();
    let boot = entries
        .iter()
        .filter(|entry| wanted.cron && render::is_boot_job(entry));
    for job in boot {
        // One that is not disabled has run since the server was booted.
        let state = now.get(&names::entry(&job.name));
        if state.is_none_or(|state| state.state == "disabled" && !state.is_wanted()) {
            plan.start.push(fmri(&job.name));
        }
    }
    plan
}

/// Whether there is something to stop, or to take out of maintenance.
fn is_there(state: &State) -> bool {
    state.is_wanted() || state.is_active() || state.state == "maintenance"
}

/// The daemons and jobs, those that others come after first.
fn start_order(entries: &[EntryRef]) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    // As many rounds as there are entries: a circle, which the configuration refuses, ends too.
    for _ in entries {
        for entry in entries {
            let others = entry.after.iter().chain(&entry.requires);
            let mut known = others.filter(|other| entries.iter().any(|one| one.name == **other));
            let ready = known.all(|other| order.contains(&other.as_str()));
            if ready && !order.contains(&entry.name.as_str()) {
                order.push(&entry.name);
            }
        }
    }
    let left = entries.iter().map(|entry| entry.name.as_str());
    let left: Vec<&str> = left.filter(|name| !order.contains(name)).collect();
    order.extend(left);
    order
}

fn stop(programs: &dyn Programs, plan: &Plan) -> Result<()> {
    for (fmri, contract) in &plan.end {
        if let Some(contract) = contract {
            control::end_contract(programs, contract)?;
        }
        control::disable(programs, fmri)?;
    }
    for fmri in &plan.stop {
        control::disable(programs, fmri)?;
    }
    Ok(())
}

/// Has SMF take over the manifest, and removes what it has no more.
fn install(
    programs: &dyn Programs,
    instance: &Instance,
    manifest: &Manifest,
    text: &str,
    now: &States,
) -> Result<()> {
    let path = manifest_file(instance);
    let before = files::read(&path)?;
    let names_of = manifest
        .entries
        .iter()
        .map(|entry| names::entry(&entry.name));
    let expected: BTreeSet<String> = names_of.chain([names::WHOLE.to_owned()]).collect();
    let complete = expected.iter().all(|name| now.contains_key(name));
    if !complete || before.as_deref() != Some(text.as_bytes()) {
        files::replace(&path, text.as_bytes(), 0o600)?;
        let taken =
            control::validate(programs, &path).and_then(|()| control::import(programs, &path));
        if let Err(error) = taken {
            // svccfg takes back what it has begun; the file has to be as what SMF has.
            match before {
                Some(before) => files::replace(&path, &before, 0o600)?,
                None => drop(files::remove_file(&path)?),
            }
            return Err(error);
        }
    }
    for name in now.keys().filter(|name| !expected.contains(*name)) {
        control::delete(
            programs,
            &format!("{}:{name}", names::service(&instance.name)),
        )?;
    }
    Ok(())
}

/// Has everything be enabled at boot, or nothing, and leaves as it is what runs now.
fn settle_boot(programs: &dyn Programs, instance: &Instance, enabled: bool) -> Result<()> {
    let now = control::look(programs, &instance.name)?;
    for (name, state) in &now {
        let wanted = enabled && state.kind != "cron";
        if state.at_boot == wanted {
            continue;
        }
        let fmri = format!("{}:{name}", names::service(&instance.name));
        if state.until_boot.is_none() {
            match state.is_wanted() {
                true => control::enable(programs, &fmri)?,
                false => control::disable(programs, &fmri)?,
            }
        }
        control::at_boot(programs, &fmri, wanted)?;
    }
    Ok(())
}

/// The crontab as it will be, when it is another; `None`: it stays.
fn planned_crontab(
    programs: &dyn Programs,
    instance: &Instance,
    manifest: &Manifest,
    wanted: bool,
) -> Result<Option<String>> {
    let block = match wanted {
        true => crontab::block(manifest, &instance.manager.metactl, &surroundings(instance)),
        false => Block {
            instance: instance.name.clone(),
            zone: None,
            lines: Vec::new(),
        },
    };
    let text = control::crontab(programs)?;
    let init = std::fs::read_to_string(DEFAULT_INIT).unwrap_or_default();
    let zone = crontab::zone_of_system(&init);
    let new = crontab::with(&text, &block, zone.as_deref()).map_err(|NoZone| {
        LifecycleError::Setting {
            what: format!(
                "the cron jobs of {} need a line TZ= in the crontab, and nobody can say which zone the lines below it go on with: {DEFAULT_INIT} names none",
                instance.name
            ),
            hint: format!("set TZ= in {DEFAULT_INIT}, or take `timezone` out of [cron]"),
        }
    })?;
    Ok((new != text).then_some(new))
}

fn write_crontab(programs: &dyn Programs, text: Option<String>) -> Result<()> {
    text.map_or(Ok(()), |text| control::write_crontab(programs, &text))
}

fn forget_crontab(programs: &dyn Programs, instance: &Instance) -> Result<()> {
    let text = control::crontab(programs)?;
    let new = crontab::without(&text, &instance.name);
    match new == text {
        true => Ok(()),
        false => control::write_crontab(programs, &new),
    }
}

/// Where metactl's directories are, for a line of the crontab.
fn surroundings(instance: &Instance) -> Vec<(String, String)> {
    let paths = &instance.manager.paths;
    if *paths == Paths::under(Path::new("/")) {
        return Vec::new();
    }
    let of = [
        ("METACTL_CONFIG_DIR", &paths.config),
        ("METACTL_STATE_DIR", &paths.state),
        ("METACTL_CACHE_DIR", &paths.cache),
        ("METACTL_LOG_DIR", &paths.log),
        ("METACTL_RUN_DIR", &paths.run),
    ];
    of.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
        .to_vec()
}

#[cfg(test)]
#[path = "want_tests.rs"]
mod tests;
