//! `state`: the state of a container as the runtime specification words it.

use lexopt::Parser;

use crate::state::{self, OciState};
use crate::verbs::{Failure, Globals, only_id};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let state = state::read(&globals.root, &only_id(parser)?)?;
    super::print_json(&OciState::of(&state))?;
    Ok(0)
}
