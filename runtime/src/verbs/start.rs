//! `start`: lets the program of a created container run.

use lexopt::Parser;

use crate::Container;
use crate::verbs::{Failure, Globals, only_id, unless_exposed};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let id = only_id(parser)?;
    let container = Container::open(&globals.root, &id)?;
    unless_exposed(container.start())?;
    Ok(0)
}
