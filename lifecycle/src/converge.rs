//! The truth after a crash: whatever was killed, command, supervisor or application, the next
//! command that has the instance's lock comes through here first.
//!
//! - A deployment that was not finished is finished when its bundle counts, else undone.
//! - What runs without a supervisor gets one, which adopts it.
//! - What should run but does not, because everything was killed, is not started behind anybody's
//!   back: it is stopped now, and what is left of it is removed.

use std::path::Path;

use metactl_bundles::bundle::{self, BundleError};
use metactl_runtime::state::Status;

use crate::build::Workshop;
use crate::error::Result;
use crate::instance::{Current, Instance};
use crate::materialize::Ingredients;
use crate::service::Look;
use crate::standalone::records::Wanted;
use crate::{change, deploy, files};

/// Cleans up; the caller holds the lock. Returns what was done.
pub(crate) fn converge(instance: &Instance) -> Result<Vec<String>> {
    let mut done = deploy::recover(instance)?;
    done.extend(instance.service()?.converge(instance)?);
    agree(instance, instance.wanted()?.as_ref())?;
    Ok(done)
}

/// The same of an instance whose service manager has nothing to put right, and for which [`agrees`] says so. When
/// anything was done, it is to be looked at again.
pub(crate) fn converge_settled(instance: &Instance) -> Result<Vec<String>> {
    deploy::recover(instance)
}

/// Whether what was seen of an instance before its lock was taken fits the bundle that counts now: somebody may have
/// deployed in between.
pub(crate) fn agrees(instance: &Instance, look: &Look) -> bool {
    let wanted = look.wanted.as_ref();
    wanted.is_none_or(|wanted| counts(instance, &wanted.bundle))
}

fn counts(instance: &Instance, digest: &str) -> bool {
    // A damaged one is no longer what counts.
    let current = bundle::current(&instance.state_dir()).unwrap_or_default();
    current.as_deref().map(files::name_of) == Some(digest)
}

pub(crate) fn supervise_again(instance: &Instance) -> Result<Vec<String>> {
    let run = instance.run_dir();
    if let Some(record) = run.supervisor()? {
        return instance.be_replaced(&record);
    }
    let runtime = instance.runtime();
    let prefix = format!("{}.", instance.name);
    let ids = runtime.ids(&prefix)?;
    if ids.is_empty() && !run.exists() {
        return Ok(Vec::new());
    }
    let containers = runtime.containers(&prefix)?;
    let alive = containers
        .iter()
        .filter(|state| state.status() == Status::Running)
        .count();
    if let (Some(wanted), 1..) = (run.wanted()?, alive) {
        instance.want_supervised(&wanted)?;
        let what = if alive == 1 {
            "1 entry point".to_owned()
        } else {
            format!("{alive} entry points")
        };
        return Ok(vec![format!(
            "the supervisor had died; a new one has adopted {what}"
        )]);
    }
    // Nothing runs, or nothing should.
    run.clear_wanted()?;
    clear_leftovers(instance)
}

/// Removes what is left of an instance of which nothing runs.
pub(crate) fn clear_leftovers(instance: &Instance) -> Result<Vec<String>> {
    let runtime = instance.runtime();
    let ids = runtime.ids(&format!("{}.", instance.name))?;
    if ids.is_empty() && !instance.run_dir().exists() {
        return Ok(Vec::new());
    }
    for id in &ids {
        runtime.remove(id)?;
    }
    // The network and the run directory first: what stays in a /tmp stands in nobody's way.
    instance.clear_run_dir()?;
    let mut done = vec!["everything of it had been killed; what was left is removed".to_owned()];
    done.extend(empty_all_tmp(&instance.state_dir()));
    Ok(done)
}

/// Empties the `/tmp` of every entry point. Returns what could not be emptied: that is the next
/// command's, and no reason to fail.
pub(crate) fn empty_all_tmp(state_dir: &Path) -> Vec<String> {
    let dirs = match files::entries(&state_dir.join("tmp")) {
        Ok(dirs) => dirs,
        Err(error) => return vec![error.to_string()],
    };
    let emptied = dirs.iter().map(|dir| files::empty_dir(dir));
    emptied
        .filter_map(|emptied| emptied.err().map(|error| error.to_string()))
        .collect()
}

/// A start that was killed has its bundle running, but not counting.
fn agree(instance: &Instance, wanted: Option<&Wanted>) -> Result<()> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let state_dir = instance.state_dir();
    let exists = state_dir.join("bundles").join(&wanted.bundle).is_dir();
    if !counts(instance, &wanted.bundle) && exists {
        bundle::activate(&state_dir, &wanted.bundle)?;
    }
    Ok(())
}

/// Makes the bundle again of an instance that has none that can be read (somebody removed it): from
/// its newest release and the configuration of now. While something runs, that is no time for it.
pub(crate) fn repair(instance: &Instance, damage: BundleError) -> Result<Current> {
    let number = |id: &String| id.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
    let newest = instance.releases().ids()?.into_iter().max_by_key(number);
    let runs = instance.wanted()?.is_some();
    let (Some(id), false) = (newest, runs) else {
        return Err(damage.into());
    };
    let ingredients = Ingredients {
        paths: &instance.manager.paths,
        instance: &instance.name,
        state_dir: instance.state_dir(),
        release: instance.releases().path(&id),
        release_id: id,
        local: None,
        site_only: false,
    };
    let written = ingredients.compose(ingredients.understand()?)?.write()?;
    bundle::activate(&instance.state_dir(), &written.digest)?;
    instance.current()?.ok_or_else(|| damage.into())
}

/// Removes what a build that was killed left.
pub(crate) fn clear_workshop(instance: &Instance) -> Result<()> {
    let workshop = Workshop::of(instance);
    workshop.clear_container()?;
    workshop.clear()
}

/// Stops what a deployment that failed or was killed has started.
pub(crate) fn stop_everything(instance: &Instance) -> Result<()> {
    instance.want_nothing(change::patience(instance))?;
    instance.service()?.converge(instance).map(drop)
}
