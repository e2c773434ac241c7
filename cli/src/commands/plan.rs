//! `metactl APP plan`: every step of a start, without taking any.

use serde::Serialize;

use super::Context;
use crate::failure::Outcome;
use crate::output::clean;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    steps: Vec<&'a str>,
}

/// Prints the steps.
pub fn run(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let plan = instance.plan()?;
    if context.output.json {
        let facts = Facts {
            instance: instance.name(),
            steps: plan.lines().collect(),
        };
        return context.output.facts(&facts);
    }
    Ok(context.output.line(clean(plan.trim_end()))?)
}
