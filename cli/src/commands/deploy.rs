//! `metactl APP deploy [TAG]`.

use metactl_lifecycle::Deployed;
use metactl_lifecycle::status::ReleaseInfo;
use serde::Serialize;

use super::{Context, status};
use crate::args::Deploy;
use crate::failure::Outcome;
use crate::output::clean;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    release: &'a ReleaseInfo,
    previous: Option<&'a ReleaseInfo>,
}

/// Fetches, builds, switches and starts.
pub fn run(context: &mut Context, args: &Deploy) -> Outcome {
    let instance = context.instance()?;
    let mut steps = context.steps();
    let Deployed { release, previous } = instance.deploy(args.tag.as_deref(), &mut steps)?;
    drop(steps);
    let name = instance.name();
    if context.output.json {
        let facts = Facts {
            instance: name,
            release: &release,
            previous: previous.as_ref(),
        };
        return context.output.facts(&facts);
    }
    if context.output.quiet {
        return Ok(());
    }
    // The addresses are only known when it runs; not to know them is no failure of the deployment.
    let reach = instance
        .status()
        .map(|now| status::addresses(&now.addresses))
        .unwrap_or_default();
    let reach = if reach.is_empty() {
        reach
    } else {
        format!(" at {reach}")
    };
    let commit: String = release.commit.chars().take(7).collect();
    context.output.remark(clean(&format!(
        "{name} runs {} ({commit}){reach}",
        release.tag
    )))?;
    let undo = match &previous {
        Some(before) if before.id != release.id => format!("metactl {name} deploy {}", before.tag),
        _ => format!("metactl {name} stop"),
    };
    Ok(context.output.undo(&clean(&undo))?)
}
