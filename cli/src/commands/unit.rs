//! `metactl -a APP unit STEP`: what a unit of the service manager asks for.

use metactl_lifecycle::UnitStep;

use super::Context;
use crate::args::{Step, Unit};
use crate::failure::{Failure, Outcome};
use crate::output::clean;

/// Does the step. What there is to say goes where the unit's output goes.
pub fn run(context: &mut Context, args: &Unit) -> Outcome {
    let instance = context.instance()?;
    let word = || {
        let word = args.word.as_deref();
        word.ok_or_else(|| Failure::usage("a word is missing behind the step"))
    };
    let step = match args.step {
        Step::NetworkUp => UnitStep::NetworkUp {
            bundle: word()?,
            uplink: args.uplink.as_deref(),
        },
        Step::NetworkDown => UnitStep::NetworkDown,
        Step::Ended => UnitStep::Ended { entry: word()? },
        Step::Job => UnitStep::Job { entry: word()? },
    };
    for line in instance.unit_step(step)? {
        context.output.remark(clean(&line))?;
    }
    Ok(())
}
