//! `metactl [APP] mend`.

use metactl_lifecycle::Mended;
use serde::Serialize;

use super::Context;
use crate::args::Mend;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;

#[derive(Serialize)]
struct Facts<'a> {
    instances: &'a [Mended],
}

/// Prints what was put back, and what could not be; the exit code says whether there is such.
pub fn run(context: &mut Context, args: &Mend) -> Outcome {
    if args.new {
        return again(context);
    }
    let looked = match context.global.app {
        Some(_) => vec![context.instance()?.mend()?],
        None => context.manager.mend()?,
    };
    if context.output.json {
        context.output.facts(&Facts { instances: &looked })?;
    } else {
        for one in &looked {
            told(context, one, &one.troubles)?;
        }
        if looked
            .iter()
            .all(|one| one.done.is_empty() && one.troubles.is_empty())
        {
            context.output.remark("nothing was missing")?;
        }
    }
    match looked.iter().all(|one| one.troubles.is_empty()) {
        true => Ok(()),
        false => Err(Failure::Code(exit::FINDINGS)),
    }
}

fn again(context: &mut Context) -> Outcome {
    let manager = context.manager.clone();
    let mut troubled = false;
    manager.mend_again::<Failure>(&mut |one| {
        troubled |= !one.troubles.is_empty();
        told(context, one, &one.new)?;
        // A look may stay for a while.
        Ok(context.output.flush()?)
    })?;
    match troubled {
        false => Ok(()),
        true => Err(Failure::Code(exit::FINDINGS)),
    }
}

fn told(context: &mut Context, one: &Mended, troubles: &[String]) -> Outcome {
    let output = &mut context.output;
    for line in &one.done {
        output.line(clean(&format!("{}: {line}", one.instance)))?;
    }
    for line in troubles {
        let line = format!("{}: {line}", one.instance);
        output.line(output.style.warn(&clean(&line)))?;
    }
    Ok(())
}
