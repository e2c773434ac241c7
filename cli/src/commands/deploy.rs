//! `metactl APP deploy [TAG]`, `rollback` and `releases`.

use metactl_lifecycle::status::ReleaseInfo;
use metactl_lifecycle::{DeployOptions, DeployPlan, Deployed, DnsStatus, Instance};
use serde::Serialize;

use super::{Context, status};
use crate::args::{Deploy, Rollback};
use crate::failure::Outcome;
use crate::output::table::{Cell, Table, Tone};
use crate::output::{clean, time};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    release: &'a ReleaseInfo,
    previous: Option<&'a ReleaseInfo>,
    unchanged: bool,
}

/// Fetches, builds, switches and starts.
pub fn run(context: &mut Context, args: &Deploy) -> Outcome {
    let instance = context.instance()?;
    let options = DeployOptions {
        skip_tests: args.skip_tests,
        verbose: args.verbose,
        shell: args.shell,
        keep: args.keep,
        moved: args.moved,
        again: args.again,
    };
    let mut steps = context.steps();
    if args.dry_run {
        let plan = instance.deploy_plan(args.tag.as_deref(), &options, &mut steps)?;
        drop(steps);
        return tell_plan(context, instance.name(), &plan);
    }
    let deployed = instance.deploy(args.tag.as_deref(), &options, &mut steps)?;
    drop(steps);
    tell(context, &instance, &deployed, undo)
}

/// Switches to a release that is still there.
pub fn rollback(context: &mut Context, args: &Rollback) -> Outcome {
    let instance = context.instance()?;
    let mut steps = context.steps();
    let deployed = instance.rollback(args.release.as_deref(), &mut steps)?;
    drop(steps);
    tell(context, &instance, &deployed, |_, previous| {
        previous.map(|release| format!("rollback {}", release.id))
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanFacts<'a> {
    instance: &'a str,
    tag: &'a str,
    commit: &'a str,
    repo: &'a str,
    current: Option<&'a str>,
    build: Option<&'a str>,
    output: String,
    entries: &'a [String],
    removed: &'a [String],
    unchanged: bool,
}

/// Says what a deployment would do.
fn tell_plan(context: &mut Context, name: &str, plan: &DeployPlan) -> Outcome {
    let output = plan.output.display().to_string();
    if context.output.json {
        return context.output.facts(&PlanFacts {
            instance: name,
            tag: &plan.tag,
            commit: &plan.commit,
            repo: &plan.repo,
            current: plan.current.as_deref(),
            build: plan.build.as_deref(),
            output,
            entries: &plan.entries,
            removed: &plan.removed,
            unchanged: plan.unchanged,
        });
    }
    let commit = short(&plan.commit, 7);
    if plan.unchanged {
        let line = format!(
            "would change nothing: {name} already runs {} ({commit})",
            plan.tag
        );
        return Ok(context.output.line(clean(&line))?);
    }
    let mut lines = vec![format!(
        "would deploy {} ({commit}) of {}",
        plan.tag, plan.repo
    )];
    lines.push(match &plan.build {
        Some(build) => format!("  build    {build}"),
        None => "  build    nothing: the checkout is the release".to_owned(),
    });
    lines.push(format!("  release  {output}"));
    lines.push(format!("  run      {}", plan.entries.join(", ")));
    lines.push(match &plan.current {
        Some(current) => format!("  instead  {current}"),
        None => "  instead  nothing".to_owned(),
    });
    if !plan.removed.is_empty() {
        lines.push(format!("  remove   {}", plan.removed.join(", ")));
    }
    for line in lines {
        context.output.line(clean(&line))?;
    }
    Ok(context
        .output
        .remark("Nothing was changed: this was --dry-run")?)
}

/// Says what runs now, and what takes it back.
fn tell(
    context: &mut Context,
    instance: &Instance,
    deployed: &Deployed,
    undo: impl Fn(&ReleaseInfo, Option<&ReleaseInfo>) -> Option<String>,
) -> Outcome {
    let Deployed {
        release,
        previous,
        unchanged,
    } = deployed;
    let name = instance.name();
    if context.output.json {
        let facts = Facts {
            instance: name,
            release,
            previous: previous.as_ref(),
            unchanged: *unchanged,
        };
        return context.output.facts(&facts);
    }
    if context.output.quiet {
        return Ok(());
    }
    let reach = reach(instance);
    let commit = short(&release.commit, 7);
    let already = if *unchanged { "already " } else { "" };
    context.output.remark(clean(&format!(
        "{name} {already}runs {} ({commit}){reach}",
        release.tag
    )))?;
    if *unchanged {
        let again = format!(
            "Nothing was changed; to build and start it anew: metactl {name} deploy --again"
        );
        return Ok(context.output.remark(clean(&again))?);
    }
    match undo(release, previous.as_ref()) {
        Some(command) => Ok(context
            .output
            .undo(&clean(&format!("metactl {name} {command}")))?),
        None => Ok(()),
    }
}

/// Where it can be reached: a page by its URL, else its names; and its addresses.
fn reach(instance: &Instance) -> String {
    // They are only known when it runs; not to know them is no failure of the deployment.
    let Ok(now) = instance.status() else {
        return String::new();
    };
    let addresses = status::addresses(&now.addresses);
    let names = now.dns.as_ref().map(DnsStatus::names).unwrap_or_default();
    let mut ways: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if let Some(url) = instance.url(&now) {
        // It has the first of the names already.
        ways.splice(..ways.len().min(1), [url]);
    }
    match (ways.is_empty(), addresses.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!(" at {addresses}"),
        (false, _) => format!(" at {} ({addresses})", ways.join(" ")),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Releases<'a> {
    instance: &'a str,
    releases: &'a [ReleaseInfo],
    in_use: Option<&'a str>,
}

/// Lists the releases that are there, the newest first.
pub fn releases(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let (mut releases, in_use) = instance.all_releases()?;
    releases.reverse();
    let name = instance.name();
    if context.output.json {
        return context.output.facts(&Releases {
            instance: name,
            releases: &releases,
            in_use: in_use.as_deref(),
        });
    }
    if releases.is_empty() {
        let next = format!("{name} has no release yet: metactl {name} deploy TAG");
        return Ok(context.output.remark(next)?);
    }
    let mut table = Table::new();
    if !context.output.quiet {
        table.head(&["RELEASE", "TAG", "COMMIT", "BUILT", ""]);
    }
    for release in &releases {
        let used = in_use.as_deref() == Some(release.id.as_str());
        table.row(vec![
            Cell::new(&release.id),
            Cell::new(&release.tag),
            Cell::new(short(&release.commit, 7)),
            Cell::new(time::local(&release.built)),
            Cell::new(if used { "in use" } else { "" }).tone(Tone::Good),
        ]);
    }
    context.output.table(&table)?;
    let older = releases
        .iter()
        .skip_while(|release| in_use.as_deref() != Some(release.id.as_str()))
        .nth(1);
    match older {
        Some(older) => {
            let next = format!("To go back to {}: metactl {name} rollback", older.id);
            Ok(context.output.remark(clean(&next))?)
        }
        None => Ok(()),
    }
}

/// What takes a deployment back. A branch, a folder or a tag that was moved means something else now, and the same commit
/// may have been built otherwise: then only the release leads back.
fn undo(release: &ReleaseInfo, previous: Option<&ReleaseInfo>) -> Option<String> {
    let Some(before) = previous else {
        return Some("stop".to_owned());
    };
    if before.tag == release.tag || before.commit == release.commit {
        return Some(format!("rollback {}", before.id));
    }
    Some(format!("deploy {}", before.tag))
}

fn short(commit: &str, length: usize) -> &str {
    commit.get(..length).unwrap_or(commit)
}
