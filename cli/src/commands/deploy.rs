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
    let commit = short(&release.commit, 7);
    context.output.remark(clean(&format!(
        "{name} runs {} ({commit}){reach}",
        release.tag
    )))?;
    match undo(&release, previous.as_ref()) {
        Some(command) => Ok(context
            .output
            .undo(&clean(&format!("metactl {name} {command}")))?),
        None => Ok(()),
    }
}

/// What takes a deployment back; nothing when what ran before was the same commit. A branch, or a
/// tag that was moved, means something else now: then only the commit leads back.
fn undo(release: &ReleaseInfo, previous: Option<&ReleaseInfo>) -> Option<String> {
    let Some(before) = previous else {
        return Some("stop".to_owned());
    };
    if before.commit == release.commit {
        return None;
    }
    if before.tag == release.tag {
        return Some(format!("deploy {}", short(&before.commit, 12)));
    }
    Some(format!("deploy {}", before.tag))
}

fn short(commit: &str, length: usize) -> &str {
    commit.get(..length).unwrap_or(commit)
}
