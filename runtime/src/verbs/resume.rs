//! `resume`: lets the processes of a paused container go on.

use lexopt::Parser;

use crate::cgroup::freezer;
use crate::launch::LaunchError;
use crate::state::{State, StateDir, Status};
use crate::verbs::{Failure, Globals, only_id};
use crate::{ContainerId, Error};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let id = only_id(parser)?;
    let dir = StateDir::open(&globals.root, &ContainerId::new(&id)?)?;
    resume(&dir)?;
    Ok(0)
}

/// Thaws a paused container; anything else is refused.
fn resume(dir: &StateDir) -> Result<(), Error> {
    let state = dir.load()?;
    let status = state.as_ref().map_or(Status::Creating, State::status);
    let Some(state) = state.filter(|_| status == Status::Paused) else {
        return Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: status.to_string(),
            need: "only a paused one can be resumed",
        }
        .into());
    };
    freezer::thaw(&state.cgroups)?;
    Ok(())
}
