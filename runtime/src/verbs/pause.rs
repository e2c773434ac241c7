//! `pause`: freezes the processes of a container.

use lexopt::Parser;

use crate::cgroup::{self, CgroupError, CgroupPath, CgroupPlan, Layout, freezer};
use crate::journal::{Intent, Journal};
use crate::launch::LaunchError;
use crate::launch::exec::saved_bundle;
use crate::process::{self, ProcessId};
use crate::spec::Bundle;
use crate::state::{State, StateDir, Status};
use crate::verbs::{Failure, Globals, only_id};
use crate::{ContainerId, Error};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let id = only_id(parser)?;
    let dir = StateDir::open(&globals.root, &ContainerId::new(&id)?)?;
    pause(&dir)?;
    Ok(0)
}

/// Freezes a container that is created or runs.
fn pause(dir: &StateDir) -> Result<(), Error> {
    let state = dir.load()?;
    let status = state.as_ref().map_or(Status::Creating, State::status);
    let ready = matches!(status, Status::Created | Status::Running);
    let Some(mut state) = state.filter(|_| ready) else {
        return Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: status.to_string(),
            need: "only a created or running one can be paused",
        }
        .into());
    };
    if freezer::can_freeze(&state.cgroups) {
        freezer::freeze(&state.cgroups)?;
        return Ok(());
    }
    let Some(first) = state.process.clone() else {
        return Ok(());
    };
    let plan = freezer_plan(dir, &state)?;
    Journal::open(&dir.journal())?.record_all(&intents(&plan))?;
    let old = state.cgroups.clone();
    // Saved before anybody is moved: `exec` has to join it too.
    state.cgroups.extend_from_slice(plan.directories());
    dir.save(&state)?;
    freezer::adopt(&plan, || members(&first, &old))?;
    Ok(())
}

fn freezer_plan(dir: &StateDir, state: &State) -> Result<CgroupPlan, Error> {
    let bundle = saved_bundle(dir, state)?;
    let plan = freezer::plan(
        &Layout::of_this_process()?,
        &cgroup_path(dir, state, &bundle)?,
    );
    Ok(plan.ok_or(CgroupError::NoFreezer)?)
}

/// Where the launch would have put the container.
pub(super) fn cgroup_path(
    dir: &StateDir,
    state: &State,
    bundle: &Bundle,
) -> Result<CgroupPath, CgroupError> {
    if let Some(scope) = &state.scope {
        return CgroupPath::new(&scope.path);
    }
    let linux = bundle.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let text = match path {
        Some(path) => path.to_string_lossy().into_owned(),
        None => CgroupPath::of_container(dir.id().as_str()),
    };
    CgroupPath::new(&text)
}

/// What [`CgroupPlan`] makes for a container that runs already.
pub(super) fn intents(plan: &CgroupPlan) -> Vec<Intent> {
    let ours = |path: &&std::path::PathBuf| cgroup::is_ours(path) || !path.exists();
    let shared = plan.parents().iter().filter(ours);
    let own = plan.directories().iter();
    shared
        .map(|path| Intent::SharedCgroup { path: path.clone() })
        .chain(own.map(|path| Intent::Cgroup { path: path.clone() }))
        .collect()
}

/// All processes of the container, also in pid namespaces that it made.
pub(super) fn members(
    first: &ProcessId,
    cgroups: &[std::path::PathBuf],
) -> std::io::Result<Vec<i32>> {
    if !first.is_alive() {
        return Ok(Vec::new());
    }
    let known = process::of_container(first.pid, cgroups)?;
    process::with_descendants(&known)
}
