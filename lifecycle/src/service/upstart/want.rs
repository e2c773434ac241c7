//! From what runs to what should: a plan of jobs to stop and to start, and the work.

use std::path::Path;
use std::time::Duration;

use metactl_bundles::bundle::{self, EntryKind, Manifest, read_manifest};
use metactl_bundles::network::{Mode, NetworkSpec};
use nix::unistd::{Group, User};

use super::plain::Plain;
use super::render::{self, Account, Input, Job, Unwritable};
use super::report::{Jobs, word};
use super::{control, crontab, dir, dirs, files, kernel, names, order};
use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::service::ended::Ended;
use crate::service::{input, network};
use crate::standalone::records::Wanted;
use crate::{converge, files as small, tail};

/// How many lines of a log go into an error.
const TAIL: usize = 12;
/// How long jobs may take beyond the stop timeout of their entry points: Upstart and the steps of metactl.
const MARGIN: Duration = Duration::from_secs(30);

/// The jobs that have to be stopped and started, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Before the files change: they are stopped by the rules that they were started by. In groups, one after the
    /// other.
    stop: Vec<Vec<String>>,
    /// The job of the instance, for the network and the cron jobs.
    instance: bool,
    daemons: Vec<String>,
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
    let state_dir = instance.state_dir();
    let bundle = state_dir.join("bundles").join(&wanted.bundle);
    let manifest = read_manifest(&bundle)?;
    check(instance, &manifest)?;
    let (jobs, crontab) = rendered(instance, &bundle, &manifest)?;
    let now = Jobs::look(instance)?;
    let network = network_of(instance, &now, wanted, &bundle, &manifest)?;
    let plan = plan(&instance.name, &now, wanted, &manifest, network);
    stop(instance, &now, &plan.stop, &manifest)?;
    if network == Network::Anew {
        network::down(instance)?;
    }
    small::make_dir(&instance.run_dir().0, 0o755)?;
    files::lead_to(&state_dir, &wanted.bundle)?;
    if files::install(dirs(), &instance.name, &jobs, crontab.as_deref())? {
        control::reload()?;
        check_known(&jobs)?;
    }
    start(instance, &plan)
}

/// What Upstart cannot do, and what this kernel cannot.
fn check(instance: &Instance, manifest: &Manifest) -> Result<()> {
    let sockets = |entry: &&metactl_bundles::bundle::EntryRef| !entry.service.sockets.is_empty();
    if let Some(entry) = manifest.entries.iter().find(sockets) {
        return Err(LifecycleError::Setting {
            what: format!(
                "`socket` in [daemon.{}] needs systemd, and this server has Upstart",
                entry.name
            ),
            hint: "let the daemon open its port itself, and say `port` instead of `socket`"
                .to_owned(),
        });
    }
    if !manifest.plain && kernel::is_too_old() {
        return Err(LifecycleError::Setting {
            what: format!(
                "this kernel ({}) is too old for a sandbox, and so for the firewall of {}",
                kernel::release(),
                instance.name
            ),
            hint: "boot Linux 5.4 or newer; or, to run without sandbox and firewall, say so in the site or local \
                   layer: [upstart] sandbox = no, [sandbox.net] mode = host, [firewall.out] policy = accept, [sandbox] user = ACCOUNT"
                .to_owned(),
        });
    }
    Ok(())
}

/// Stops everything. What is started at boot is then the bundle that counts.
pub(super) fn nothing(instance: &Instance) -> Result<()> {
    let now = Jobs::look(instance)?;
    let manifest = super::steps::manifest(instance).ok();
    let all: Vec<String> = now.active().cloned().collect();
    let groups = ordered(&instance.name, all, manifest.as_ref());
    let patience = patience(manifest.as_ref());
    for group in groups {
        control::stop(&group, patience)?;
    }
    instance.clear_run_dir()?;
    agree(instance)?;
    // What stays in a /tmp stands in nobody's way.
    let _left = converge::empty_all_tmp(&instance.state_dir());
    Ok(())
}

fn patience(manifest: Option<&Manifest>) -> Duration {
    let entries = manifest.iter().flat_map(|manifest| &manifest.entries);
    let longest = entries.map(|entry| entry.stop_timeout).max();
    longest.unwrap_or(Duration::from_secs(60)) + MARGIN
}

/// Jobs in the groups in which they are stopped: what needs others first, the instance last.
fn ordered(instance: &str, jobs: Vec<String>, manifest: Option<&Manifest>) -> Vec<Vec<String>> {
    let whole = names::instance(instance);
    let mut left: Vec<String> = jobs;
    let mut groups = Vec::new();
    let mut known = manifest
        .map(|manifest| order::groups(&manifest.entries))
        .unwrap_or_default();
    known.reverse();
    let last: Vec<String> = left.extract_if(.., |job| *job == whole).collect();
    let of_group: Vec<Vec<String>> = known
        .into_iter()
        .map(|group| {
            let is_in = |job: &mut String| {
                group
                    .iter()
                    .any(|entry| *job == names::entry(instance, entry))
            };
            left.extract_if(.., is_in).collect()
        })
        .collect();
    // What the bundle knows nothing of any more.
    groups.push(left);
    groups.extend(of_group);
    groups.push(last);
    groups.retain(|group| !group.is_empty());
    groups
}

fn stop(
    instance: &Instance,
    now: &Jobs,
    groups: &[Vec<String>],
    manifest: &Manifest,
) -> Result<()> {
    let before = super::steps::manifest(instance).ok();
    let patience = patience(Some(manifest)).max(patience(before.as_ref()));
    for group in groups {
        control::stop(group, patience)?;
    }
    // Whoever was stopped has not ended by itself.
    for (job, entry) in now.entries("daemon") {
        if groups.iter().flatten().any(|stopped| stopped == job) {
            Ended::forget(instance, entry)?;
        }
    }
    Ok(())
}

/// While nothing runs: the jobs are those of the bundle that counts. Without one there are none.
pub(super) fn agree(instance: &Instance) -> Result<()> {
    let state_dir = instance.state_dir();
    let Some(digest) = files::bundle(&state_dir)? else {
        return Ok(());
    };
    // A damaged one is no reason to fail; who repairs it writes the jobs again.
    let Ok(current) = bundle::current(&state_dir) else {
        return Ok(());
    };
    let changed = match current {
        Some(current) if small::name_of(&current) == digest => false,
        Some(current) => {
            let counts = small::name_of(&current).to_owned();
            let path = state_dir.join("bundles").join(&counts);
            let manifest = read_manifest(&path)?;
            let (jobs, crontab) = rendered(instance, &path, &manifest)?;
            files::lead_to(&state_dir, &counts)?;
            files::install(dirs(), &instance.name, &jobs, crontab.as_deref())?
        }
        None => {
            small::remove_file(&files::link(&state_dir))?;
            files::remove(dirs(), &instance.name)?
        }
    };
    match changed {
        true => control::reload(),
        false => Ok(()),
    }
}

/// The jobs and the crontab of a bundle.
fn rendered(
    instance: &Instance,
    bundle: &Path,
    manifest: &Manifest,
) -> Result<(Vec<Job>, Option<String>)> {
    let spec: Option<NetworkSpec> = small::read_json(&bundle.join("network.json"))?;
    let mode = spec.map_or(Mode::None, |spec| spec.mode);
    let plain = match manifest.plain {
        true => Some(plain(instance, bundle, manifest, mode)?),
        false => None,
    };
    let runtime = input::runtime(&instance.manager)?;
    let link = files::link(&instance.state_dir());
    let input = Input {
        paths: &instance.manager.paths,
        metactl: &instance.manager.metactl,
        runtime: &runtime,
        link: &link,
        manifest,
        mode,
        nameservers: &instance.server()?.nameservers,
        plain: plain.as_ref().map(|(account, all)| (account, all.clone())),
    };
    let unwritable = |entry: &str| LifecycleError::Setting {
        what: match entry.is_empty() {
            true => "a path of metactl has a line break in it, which no job of Upstart can have"
                .to_owned(),
            false => format!(
                "the command or environment of {entry} has a line break in it, which no job of Upstart can have"
            ),
        },
        hint: "put it into a file of the application".to_owned(),
    };
    let jobs = render::jobs(&input).map_err(|Unwritable { entry }| unwritable(&entry))?;
    let crontab = crontab::text(&input).map_err(|_| unwritable(""))?;
    Ok((jobs, crontab))
}

/// Without a sandbox: the account, and the command of each entry point. Only where the configuration says all of it.
fn plain(
    instance: &Instance,
    bundle: &Path,
    manifest: &Manifest,
    mode: Mode,
) -> Result<(Account, Vec<Plain>)> {
    if mode != Mode::Host {
        return Err(LifecycleError::Setting {
            what: format!(
                "[upstart] sandbox = no leaves {} in the network of the server, without a firewall; its configuration \
                 asks for another network",
                instance.name
            ),
            hint: "if that is meant, say in the site or local layer: [sandbox.net] mode = host"
                .to_owned(),
        });
    }
    let user = User::from_uid(manifest.uid.into()).ok().flatten();
    let group = Group::from_gid(manifest.gid.into()).ok().flatten();
    let Some((user, group)) = user.zip(group) else {
        return Err(LifecycleError::Setting {
            what: format!(
                "Upstart starts commands as an account of the server, and user id {} of {} has none",
                manifest.uid, instance.name
            ),
            hint: format!(
                "useradd --system --no-create-home {0}, and in the local layer: [sandbox] user = {0}",
                instance.name
            ),
        });
    };
    let mut all = Vec::new();
    for entry in &manifest.entries {
        let command = Plain::of(&input::config(bundle, entry)?);
        all.push(command.ok_or_else(|| LifecycleError::Record {
            path: input::config_path(bundle, entry),
            why: "it has no command".to_owned(),
        })?);
    }
    let account = Account {
        user: user.name,
        group: group.name,
    };
    Ok((account, all))
}

/// A file that Upstart cannot read is told in the log of the server alone.
fn check_known(jobs: &[Job]) -> Result<()> {
    let known = control::list()?;
    match jobs.iter().find(|job| !known.contains_key(&job.name)) {
        None => Ok(()),
        Some(job) => Err(LifecycleError::ServiceManager {
            what: format!(
                "have Upstart read {}/{}",
                files::DIR,
                names::file(&job.name)
            ),
            why: "it does not know the job; the log of the server (syslog) says why".to_owned(),
        }),
    }
}

/// What has to become of the network; one that differs in its firewall alone is changed now, when everybody in it
/// goes on.
fn network_of(
    instance: &Instance,
    now: &Jobs,
    wanted: &Wanted,
    bundle: &Path,
    manifest: &Manifest,
) -> Result<Network> {
    if manifest.plain || now.active().next().is_none() {
        // One that somebody has left is made anew by the first job.
        return Ok(Network::Stays);
    }
    let mut network = network::of(instance)?;
    if !network.adopt()? {
        return Ok(Network::Anew);
    }
    if network.fits(bundle)? {
        return Ok(Network::Stays);
    }
    let mut running = now.entries("daemon").filter_map(|(job, entry)| {
        let state = now.state(job);
        state.is_active().then_some((entry, state))
    });
    let goes_on = running.all(|(entry, state)| wanted.daemons.get(entry) == Some(&word(&state)));
    match goes_on && network.change(bundle, &manifest.hostname)? {
        true => Ok(Network::Stays),
        false => Ok(Network::Anew),
    }
}

fn plan(
    instance: &str,
    now: &Jobs,
    wanted: &Wanted,
    manifest: &Manifest,
    network: Network,
) -> Plan {
    let whole = names::instance(instance);
    let anew = network == Network::Anew;
    let exists = |entry: &str, kind| {
        let mut entries = manifest.entries.iter();
        entries.any(|one| one.name == entry && one.kind == kind)
    };
    let mut stops = Vec::new();
    for (job, entry) in now.entries("daemon") {
        let state = now.state(job);
        let goes_on = state.is_running() && wanted.daemons.get(entry) == Some(&word(&state));
        if state.is_active() && (anew || !goes_on) {
            stops.push(job.to_owned());
        }
    }
    for (job, entry) in now.entries("cron") {
        let stays = wanted.cron && exists(entry, EntryKind::Cron);
        if now.state(job).is_active() && (anew || !stays) {
            stops.push(job.to_owned());
        }
    }
    let runs = now.state(&whole).is_active();
    let ends = runs && (anew || !wanted.cron || !now.state(&whole).is_running());
    if ends {
        // It takes its daemons along.
        let daemons = now.entries("daemon").map(|(job, _)| job.to_owned());
        let active = daemons.filter(|job| now.state(job).is_active());
        stops.extend(active);
        stops.push(whole);
        stops.sort();
        stops.dedup();
    }
    let mut daemons = Vec::new();
    for entry in order::groups(&manifest.entries).into_iter().flatten() {
        let job = names::entry(instance, entry);
        let stays = now.state(&job).is_active() && !stops.contains(&job);
        if wanted.daemons.contains_key(entry) && exists(entry, EntryKind::Daemon) && !stays {
            daemons.push(job);
        }
    }
    Plan {
        stop: ordered(instance, stops, Some(manifest)),
        instance: wanted.cron && (ends || !runs),
        daemons,
    }
}

fn start(instance: &Instance, plan: &Plan) -> Result<()> {
    let jobs = files::of_instance(dir(), &instance.name)?;
    for job in &plan.daemons {
        if let Some(entry) = jobs.get(job).and_then(|own| own.entry.as_deref()) {
            Ended::forget(instance, entry)?;
        }
    }
    if plan.instance {
        // Which daemons, and in which order, is said below.
        begin(
            &names::instance(&instance.name),
            "the network",
            &["BOOT=no"],
        )?;
    }
    for job in &plan.daemons {
        let entry = jobs.get(job).and_then(|own| own.entry.as_deref());
        begin(job, entry.unwrap_or(job), &[])?;
    }
    Ok(())
}

fn begin(job: &str, what: &str, variables: &[&str]) -> Result<()> {
    let log = names::log(job);
    let mark = std::fs::metadata(&log).map_or(0, |meta| meta.len());
    control::start(job, variables).map_err(|error| LifecycleError::Start {
        entry: what.to_owned(),
        why: error.to_string(),
        tail: tail::since(&log, mark, TAIL),
        log,
    })
}

#[cfg(test)]
#[path = "want_tests.rs"]
mod tests;
