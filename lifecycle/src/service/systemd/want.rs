//! From what runs to what should: a plan of units to stop and to start, and the work.

use std::path::Path;

use metactl_bundles::bundle::{self, EntryKind, Manifest, read_manifest};
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_runtime::systemd::jobs::Aim;
use serde_json::Value;

use super::control;
use super::files;
use super::render::{self, Input, Limits, Unit};
use super::report::Units;
use super::states::{self, UnitState};
use super::{dir, names};
use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::service::ended::Ended;
use crate::service::{input, network};
use crate::standalone::records::Wanted;
use crate::{converge, files as small};

/// How many lines of a log go into an error.
const TAIL: usize = 12;

/// The units that have to be stopped and started, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Before the unit files change: they are stopped by the rules that they were started by.
    stop: Vec<String>,
    daemons: Vec<String>,
    timers: Vec<String>,
}

/// What becomes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// It fits, or is made.
    Stays,
    /// Everything in it is stopped, and it is made anew.
    Anew,
}

pub(super) fn want(instance: &Instance, wanted: &Wanted) -> Result<()> {
    let bundle = instance.state_dir().join("bundles").join(&wanted.bundle);
    let manifest = read_manifest(&bundle)?;
    let units = rendered(
        instance,
        &bundle,
        &wanted.bundle,
        &manifest,
        wanted.uplink.as_deref(),
    )?;
    let now = Units::look(instance)?;
    let network = network(instance, &now, wanted, &bundle, &manifest)?;
    let others = other_sockets(dir(), &now, &units)?;
    let plan = plan(
        &instance.name,
        &now,
        wanted,
        &manifest,
        &units,
        network,
        &others,
    );
    control::stop(&plan.stop)?;
    install(instance, &units)?;
    start(instance, &plan, wanted, &units)
}

/// Stops everything. What is started at boot is then the bundle that counts.
pub(super) fn nothing(instance: &Instance) -> Result<()> {
    let now = Units::look(instance)?;
    let active: Vec<String> = of_state(&now, |state| state.is_active());
    control::stop(&active)?;
    let failed = of_state(&Units::look(instance)?, |state| state.active == "failed");
    states::forget_failures(&failed)?;
    instance.clear_run_dir()?;
    agree(instance)?;
    // What stays in a /tmp stands in nobody's way.
    let _left = converge::empty_all_tmp(&instance.state_dir());
    Ok(())
}

fn of_state(units: &Units, fits: impl Fn(&UnitState) -> bool) -> Vec<String> {
    let found = units.states.iter().filter(|(_, state)| fits(state));
    found.map(|(name, _)| name.clone()).collect()
}

/// While nothing runs: the units are those of the bundle that counts. Without one there are none.
pub(super) fn agree(instance: &Instance) -> Result<()> {
    let Some(digest) = files::bundle(dir(), &instance.name)? else {
        return Ok(());
    };
    // A damaged one is no reason to fail; who repairs it writes the units again.
    let Ok(current) = bundle::current(&instance.state_dir()) else {
        return Ok(());
    };
    match current {
        Some(current) if small::name_of(&current) == digest => Ok(()),
        Some(current) => {
            let counts = small::name_of(&current).to_owned();
            let manifest = read_manifest(&current)?;
            let uplink = instance.server()?.uplink;
            let path = instance.state_dir().join("bundles").join(&counts);
            let units = rendered(instance, &path, &counts, &manifest, uplink.as_deref())?;
            install(instance, &units)
        }
        None => {
            control::enable(&names::target(&instance.name), false)?;
            match files::remove(dir(), &instance.name)? {
                true => control::reload(),
                false => Ok(()),
            }
        }
    }
}

/// Writes the units, and has systemd know them.
fn install(instance: &Instance, units: &[Unit]) -> Result<()> {
    let change = files::install(dir(), &instance.name, units)?;
    // Written by one that was killed before it could say so.
    let missed = || states::are_outdated(units.iter().map(|unit| unit.name.as_str()));
    let needed = match change {
        // A start like the one before asks systemd nothing that cannot matter.
        files::Change::Nothing => missed()?,
        other => other.needs_reload(states::version()?) || missed()?,
    };
    match needed {
        true => control::reload(),
        false => Ok(()),
    }
}

fn rendered(
    instance: &Instance,
    bundle: &Path,
    digest: &str,
    manifest: &Manifest,
    uplink: Option<&str>,
) -> Result<Vec<Unit>> {
    let paths = &instance.manager.paths;
    let spec: Option<NetworkSpec> = small::read_json(&bundle.join("network.json"))?;
    let mut limits = Limits::default();
    let mut own_limits = Vec::new();
    for entry in &manifest.entries {
        let config = input::config(bundle, entry)?;
        own_limits.push(limits_of(config.pointer("/linux/resources")));
        let whole = config.pointer("/annotations/org.metactl.instance.resources");
        if let Some(text) = whole.and_then(Value::as_str) {
            limits = limits_of(serde_json::from_str(text).ok().as_ref());
        }
    }
    Ok(render::units(&Input {
        paths,
        metactl: &instance.manager.metactl,
        runtime: &input::runtime(&instance.manager)?,
        bundle,
        digest,
        manifest,
        mode: spec.map_or(Mode::None, |spec| spec.mode),
        limits,
        own_limits,
        uplink,
        nameservers: &instance.server()?.nameservers,
        version: states::version()?,
    }))
}

/// Limits from `linux.resources` of a config.json; negative numbers are none.
fn limits_of(resources: Option<&Value>) -> Limits {
    let number = |path: &str| resources?.pointer(path)?.as_u64();
    let quota = number("/cpu/quota");
    let period = number("/cpu/period").filter(|period| *period > 0);
    Limits {
        memory: number("/memory/limit"),
        tasks: number("/pids/limit"),
        cpu_millis: quota
            .zip(period)
            .map(|(quota, period)| quota.saturating_mul(1000) / period),
    }
}

/// What has to become of the network; one that differs in its firewall alone is changed now, when everybody in it
/// goes on.
fn network(
    instance: &Instance,
    now: &Units,
    wanted: &Wanted,
    bundle: &Path,
    manifest: &Manifest,
) -> Result<Network> {
    let unit = names::network(&instance.name);
    if !now.state(&unit).is_some_and(UnitState::is_active) {
        return Ok(Network::Stays);
    }
    let mut network = network::of(instance)?;
    if !network.adopt()? {
        return Ok(Network::Anew);
    }
    let running = || {
        now.services("daemon").filter_map(|(unit, entry)| {
            let state = now.state(unit).filter(|state| state.is_active())?;
            Some(wanted.daemons.get(entry) == Some(&state.invocation))
        })
    };
    if network.fits(bundle)? {
        // What somebody broke so that it cannot be put back is made anew, when nobody in it goes on.
        let whole = || network.mend_now(&instance.runtime(), wanted.uplink.as_deref());
        return Ok(match running().any(|goes_on| goes_on) || whole().is_ok() {
            true => Network::Stays,
            false => Network::Anew,
        });
    }
    match running().all(|goes_on| goes_on) && network.change(bundle, &manifest.hostname)? {
        true => Ok(Network::Stays),
        false => Ok(Network::Anew),
    }
}

/// The sockets that are not as the new units have them.
fn other_sockets(dir: &Path, now: &Units, units: &[Unit]) -> Result<Vec<String>> {
    // Which bundle a unit is of makes no other socket of it.
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("Bundle="));
        lines.map(str::to_owned).collect()
    };
    let mut others = Vec::new();
    for (name, _) in now.sockets() {
        let had = small::read(&dir.join(name))?.unwrap_or_default();
        let had = settings(&String::from_utf8_lossy(&had));
        let new = units.iter().find(|unit| unit.name == name);
        if new.is_none_or(|unit| settings(&unit.text) != had) {
            others.push(name.to_owned());
        }
    }
    Ok(others)
}

fn plan(
    instance: &str,
    now: &Units,
    wanted: &Wanted,
    manifest: &Manifest,
    units: &[Unit],
    network: Network,
    other_sockets: &[String],
) -> Plan {
    let is_active = |unit: &str| now.state(unit).is_some_and(UnitState::is_active);
    let anew = network == Network::Anew;
    let mut plan = Plan::default();
    for (unit, entry) in now.services("daemon") {
        let word = now.state(unit).map(|state| &state.invocation);
        let goes_on = wanted
            .daemons
            .get(entry)
            .is_some_and(|wanted| Some(wanted) == word);
        if is_active(unit) && (anew || !goes_on) {
            plan.stop.push(unit.to_owned());
        }
    }
    for (socket, entry) in now.sockets() {
        let stays =
            wanted.daemons.contains_key(entry) && !other_sockets.iter().any(|o| o == socket);
        if is_active(socket) && (anew || !stays) {
            // Before its daemon, which would only be started again by who connects.
            plan.stop.insert(0, socket.to_owned());
        }
    }
    let exists = |name: &str| units.iter().any(|unit| unit.name == name);
    for timer in now.timers() {
        if is_active(timer) && (anew || !wanted.cron || !exists(timer)) {
            plan.stop.push(timer.to_owned());
        }
    }
    for (unit, _) in now.services("cron") {
        if is_active(unit) && (anew || !wanted.cron || !exists(unit)) {
            plan.stop.push(unit.to_owned());
        }
    }
    if anew {
        plan.stop.push(names::network(instance));
    }
    for entry in &manifest.entries {
        let unit = names::service(instance, &entry.name);
        match entry.kind {
            EntryKind::Daemon => {
                let stays = is_active(&unit) && !plan.stop.contains(&unit);
                if wanted.daemons.contains_key(&entry.name) && !stays {
                    plan.daemons.push(unit);
                }
            }
            EntryKind::Cron if wanted.cron => plan.timers.push(names::timer(instance, &entry.name)),
            EntryKind::Cron => {}
        }
    }
    // A schedule that cannot be understood has none.
    plan.timers.retain(|timer| exists(timer));
    plan
}

fn start(instance: &Instance, plan: &Plan, wanted: &Wanted, units: &[Unit]) -> Result<()> {
    let name = &instance.name;
    for unit in &plan.daemons {
        if let Some(entry) = files::of_instance(dir(), name)?
            .get(unit)
            .and_then(|own| own.entry.clone())
        {
            Ended::forget(instance, &entry)?;
        }
    }
    let network = names::network(name);
    let has_network = units.iter().any(|unit| unit.name == network);
    let anything = !plan.daemons.is_empty() || !plan.timers.is_empty();
    // So that each begins to count anew: a restart by somebody is none of those that `restart.limit` is about.
    states::forget_failures(&plan.daemons)?;
    let mark = instance.service()?.log_mark(instance, "");
    let first = (has_network && anything).then(|| network.clone());
    // Each comes after the network by itself.
    let all: Vec<String> = first.iter().chain(&plan.daemons).cloned().collect();
    // A daemon that does not come up is told by its state.
    let done = control::start_each(&all)?;
    let made = done.iter().find(|done| done.unit == network);
    if let Some(made) = made.filter(|made| !made.is_good()) {
        return Err(LifecycleError::Start {
            entry: "the network".to_owned(),
            why: control::not_done(Aim::Start, made).to_string(),
            log: format!("journalctl --unit={network}").into(),
            tail: control::journal_since(&network, mark, TAIL),
        });
    }
    control::start(&plan.timers)?;
    if wanted.cron {
        control::start_alone(names::target(name))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "want_tests.rs"]
mod tests;
