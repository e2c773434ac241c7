//! `delete`: removes what is left of a container; with `--force` also a running one.

use lexopt::{Parser, ValueExt};

use crate::state::StateError;
use crate::verbs::{Failure, Globals, Word, next, unexpected};
use crate::{Container, Error};

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
    if force {
        crate::container::end_by_force(&globals.root, &id)?;
    }
    let container = match Container::open(&globals.root, &id) {
        // With --force the wish is that it is gone, and it is.
        Err(Error::State(StateError::NotFound { .. })) if force => return Ok(0),
        result => result?,
    };
    globals.warn(&container.delete(force)?.warnings);
    Ok(0)
}
