//! `delete`: removes what is left of a container; with `--force` also a running one.

use lexopt::{Parser, ValueExt};

use crate::ContainerId;
use crate::launch::LaunchError;
use crate::state::{StateDir, StateError, Status};
use crate::verbs::{Failure, Globals, Word, next, unexpected};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut force = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--force" || name == "-f" => force = true,
            Word::Value(value) if id.is_none() => id = Some(value.clone().string()?),
            word => return Err(unexpected(word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    let dir = match StateDir::open(&globals.root, &ContainerId::new(&id)?) {
        // With --force the wish is that it is gone, and it is.
        Err(StateError::NotFound { .. }) if force => return Ok(0),
        result => result?,
    };
    if !force {
        let state = dir.load()?;
        let status = state.map_or(Status::Stopped, |state| state.status());
        if status != Status::Stopped {
            return Err(LaunchError::Status {
                id,
                status: status.to_string(),
                need: "only a stopped one is deleted without --force",
            }
            .into());
        }
    }
    dir.destroy()?;
    Ok(0)
}
