//! `create`: everything up to the program, which waits for `start`.

use lexopt::Parser;

use crate::launch::launch;
use crate::request::Mode;
use crate::verbs::{Failure, Globals, LaunchOptions, next, unexpected, unless_exposed};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut options = LaunchOptions::default();
    while let Some(word) = next(parser)? {
        if !options.take(&word, parser)? {
            return Err(unexpected(&word));
        }
    }
    let request = options.request(globals, Mode::Create)?;
    let launched = unless_exposed(launch(&request)).inspect_err(|_| globals.warn_of(&request))?;
    globals.warn(&launched.warnings);
    globals.note_ignored(&launched.ignored);
    globals
        .log
        .stages(launched.process.pid, super::run::LAUNCHED);
    Ok(0)
}
