//! `metactl new APP [REPO]` and `metactl APP delete`: instances come and go.

use std::path::{Path, PathBuf};

use metactl_lifecycle::{Created, Deleted, Deletion};
use serde::Serialize;

use super::Context;
use super::edit::print_warnings;
use crate::args::{Delete, New};
use crate::failure::{Failure, Outcome};
use crate::output::clean;

#[derive(Serialize)]
struct NewFacts<'a> {
    instance: &'a str,
    file: &'a Path,
    repo: Option<&'a str>,
    tag: Option<&'a str>,
    entries: Vec<EntryFacts<'a>>,
    address: Option<std::net::IpAddr>,
    ports: Vec<PortFacts<'a>>,
    needed: Vec<NeededFacts<'a>>,
    requests: Vec<RequestFacts<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct EntryFacts<'a> {
    name: &'a str,
    platform: Option<&'a str>,
}

#[derive(Serialize)]
struct PortFacts<'a> {
    section: &'a str,
    asked: u16,
    port: u16,
}

#[derive(Serialize)]
struct NeededFacts<'a> {
    name: &'a str,
    origin: String,
}

#[derive(Serialize)]
struct RequestFacts<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    origin: String,
    grant: &'a str,
}

#[derive(Serialize)]
struct DeleteFacts<'a> {
    instance: &'a str,
    #[serde(flatten)]
    deleted: &'a Deleted,
}

/// Makes an instance.
pub fn new(context: &mut Context, args: &New) -> Outcome {
    // `metactl -a APP new REPO`, too: then what stands first is the repository.
    let (name, repo) = match (&context.global.app, &args.name, &args.repo) {
        (None, Some(name), repo) => (name.clone(), repo.clone()),
        (Some(app), repo, None) => (app.clone(), repo.clone()),
        (Some(_), _, Some(_)) => return Err(Failure::usage("the instance is named twice")),
        (None, None, _) => {
            return Err(Failure::usage("which instance?").hint("metactl new APP [REPO]"));
        }
    };
    let (repo, tag) = (repo.as_deref(), args.tag.as_deref());
    let mut steps = context.steps();
    let created = context.manager.create(&name, repo, tag, &mut steps)?;
    drop(steps);
    if context.output.json {
        return context.output.facts(&facts(&name, &created));
    }
    print_found(context, &created)?;
    let mut written = format!("wrote {}", created.file.display());
    if created.has_data {
        written.push_str(", with the data of an earlier instance of this name");
    }
    context.output.remark(clean(&written))?;
    print_chosen(context, &created)?;
    print_wanted(context, &created)?;
    print_warnings(context, &created.warnings)?;
    print_next(context, &name, &created)?;
    Ok(context.output.undo(&format!("metactl {name} delete"))?)
}

fn facts<'a>(name: &'a str, created: &'a Created) -> NewFacts<'a> {
    NewFacts {
        instance: name,
        file: &created.file,
        repo: created.repo.as_deref(),
        tag: created.tag.as_deref(),
        entries: created
            .entries
            .iter()
            .map(|entry| EntryFacts {
                name: &entry.name,
                platform: entry.platform.as_deref(),
            })
            .collect(),
        address: created.address,
        ports: created
            .ports
            .iter()
            .map(|(section, asked, port)| PortFacts {
                section,
                asked: *asked,
                port: *port,
            })
            .collect(),
        needed: created
            .needed
            .iter()
            .map(|needed| NeededFacts {
                name: &needed.name,
                origin: needed.origin.to_string(),
            })
            .collect(),
        requests: created
            .requests
            .iter()
            .map(|request| RequestFacts {
                section: &request.section,
                key: &request.key,
                value: &request.value,
                origin: request.origin.to_string(),
                grant: &request.grant,
            })
            .collect(),
        warnings: &created.warnings,
    }
}

/// `.metactl at 1.2.3: webapp (jetty9), jobmanager (jvm), 2 cron jobs`
fn print_found(context: &mut Context, created: &Created) -> Outcome {
    let at = match (&created.tag, &created.repo) {
        (Some(tag), _) => format!(" at {tag}"),
        (None, Some(repo)) => format!(" in {repo}"),
        (None, None) => return Ok(()),
    };
    let daemons = created.entries.iter().filter_map(|entry| {
        let platform = entry.platform.as_ref()?;
        Some(format!("{} ({platform})", entry.name))
    });
    let mut found: Vec<String> = daemons.collect();
    match created
        .entries
        .iter()
        .filter(|entry| entry.platform.is_none())
        .count()
    {
        0 => {}
        1 => found.push("1 cron job".to_owned()),
        count => found.push(format!("{count} cron jobs")),
    }
    let found = match found.is_empty() {
        true => "nothing to run".to_owned(),
        false => found.join(", "),
    };
    let line = match created.has_layer {
        true => format!(".metactl{at}: {found}"),
        false => format!("no .metactl{at}; the other layers have: {found}"),
    };
    Ok(context.output.remark(clean(&line))?)
}

fn print_chosen(context: &mut Context, created: &Created) -> Outcome {
    if let Some(address) = created.address {
        let line = format!("  ip {address}   from the pool, nobody answers there");
        context.output.remark(line)?;
    }
    for (section, asked, port) in &created.ports {
        let line = format!("  {section}:port {port}   because {asked} is taken");
        context.output.remark(clean(&line))?;
    }
    Ok(())
}

fn print_wanted(context: &mut Context, created: &Created) -> Outcome {
    for needed in &created.needed {
        let line = format!("needed from site: {}   ({})", needed.name, needed.origin);
        context.output.remark(clean(&line))?;
    }
    for request in &created.requests {
        let line = format!(
            "asked for, not granted: [{}] {} = {}   ({})\n  {}; granted by:",
            request.section, request.key, request.value, request.origin, request.reason
        );
        let style = context.output.style;
        for line in clean(&line).lines() {
            context.output.remark(style.warn(line))?;
        }
        for line in request.grant.lines() {
            context.output.remark(clean(&format!("    {line}")))?;
        }
    }
    Ok(())
}

fn print_next(context: &mut Context, name: &str, created: &Created) -> Outcome {
    let mut wanted: Vec<String> = Vec::new();
    if created.repo.is_none() {
        wanted.push("build:repo=...".to_owned());
    }
    if created.lacks_address {
        wanted.push("sandbox.net:ip=...".to_owned());
    }
    wanted.extend(
        created
            .needed
            .iter()
            .map(|needed| format!("env:{}=...", needed.name)),
    );
    if !wanted.is_empty() {
        let line = format!("Next: metactl {name} set {}", wanted.join(" "));
        context.output.remark(clean(&line))?;
    }
    let lead = if wanted.is_empty() { "Next:" } else { "then:" };
    Ok(context
        .output
        .remark(format!("{lead} metactl {name} deploy"))?)
}

/// Removes an instance.
pub fn delete(context: &mut Context, args: &Delete) -> Outcome {
    let instance = context.instance()?;
    let name = instance.name();
    let data = if args.data { " --data" } else { "" };
    if !args.yes {
        let deletion = instance.deletion(args.data)?;
        print_deletion(context, name, &deletion)?;
        context.confirm(
            &format!("Delete {name}?"),
            &format!("metactl {name} delete{data}"),
        )?;
    }
    let mut steps = context.steps();
    let deleted = instance.delete(args.data, &mut steps)?;
    drop(steps);
    if context.output.json {
        return context.output.facts(&DeleteFacts {
            instance: name,
            deleted: &deleted,
        });
    }
    context.output.remark(format!("{name} is deleted"))?;
    print_paths(context, "gone", &deleted.gone)?;
    print_paths(context, "stays", &deleted.stays)?;
    print_warnings(context, &deleted.warnings)?;
    match (&deleted.layer, args.data) {
        (Some(copy), _) => {
            let file = context.manager.paths.local_layer(name);
            let tag = deleted.tag.as_deref();
            let deploy = tag.map(|tag| format!(" && metactl {name} deploy {tag}"));
            let undo = format!(
                "install -m 600 {} {}{}",
                copy.display(),
                file.display(),
                deploy.unwrap_or_default()
            );
            Ok(context.output.undo(&clean(&undo))?)
        }
        (None, true) => Ok(context.output.remark("This cannot be undone.")?),
        (None, false) => Ok(context.output.undo(&format!("metactl new {name}"))?),
    }
}

fn print_deletion(context: &mut Context, name: &str, deletion: &Deletion) -> Outcome {
    if deletion.runs {
        context
            .output
            .remark(format!("{name} runs, and will be stopped"))?;
    }
    print_paths(context, "goes", &deletion.goes)?;
    print_paths(context, "stays", &deletion.stays)
}

fn print_paths(context: &mut Context, word: &str, paths: &[PathBuf]) -> Outcome {
    for path in paths {
        let line = format!("  {word:5}  {}", path.display());
        context.output.remark(clean(&line))?;
    }
    Ok(())
}
