//! `metactl supervise`: what `start` leaves behind where no service manager runs; with `--all` what an init starts.

use super::Context;
use crate::args::Supervise;
use crate::failure::{Failure, Outcome};

/// Keeps instances running until they are told to stop.
pub fn run(context: &mut Context, args: &Supervise) -> Outcome {
    match (args.all, context.global.app.is_some()) {
        (true, true) => Err(Failure::usage(
            "supervise --all is for all instances, not for one",
        )),
        (true, false) => Ok(context.manager.supervise_all()?),
        (false, false) => Ok(context.manager.supervise()?),
        // As a metactl before this one calls it.
        (false, true) => Ok(context.instance()?.supervise()?),
    }
}
