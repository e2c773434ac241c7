//! `metactl -a APP supervise`: what `start` leaves behind where no service manager runs.

use super::Context;
use crate::failure::Outcome;

/// Keeps the instance running until it is told to stop.
pub fn run(context: &mut Context) -> Outcome {
    Ok(context.instance()?.supervise()?)
}
