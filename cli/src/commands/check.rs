//! `metactl check [PATH]`: an application's repository on its own.

use std::path::Path;

use metactl_bundles::check::{Checked, Request};
use metactl_bundles::diagnostics::DiagnosticFacts;
use metactl_bundles::layers::Denied;
use serde::Serialize;

use super::Context;
use super::show::OriginFacts;
use crate::args::Check;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'a> {
    app: &'a str,
    file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    daemons: Vec<&'a str>,
    cron_jobs: usize,
    needed: Vec<NeededFacts<'a>>,
    requests: Vec<RequestFacts<'a>>,
    warnings: Vec<DiagnosticFacts<'a>>,
}

#[derive(Serialize)]
struct NeededFacts<'a> {
    name: &'a str,
    origin: OriginFacts,
}

#[derive(Serialize)]
struct RequestFacts<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    origin: OriginFacts,
    reason: &'a str,
    grant: &'a str,
}

/// Prints what was found. What is wrong is a failure, with exit code 78.
pub fn run(context: &mut Context, args: &Check) -> Outcome {
    let request = Request {
        path: &args.path,
        site: args.site.as_deref(),
        app: context.global.app.as_deref(),
    };
    let checked = context.manager.check(&request)?;
    if context.output.json {
        context.output.facts(&facts(&checked, args))?;
    } else {
        print(context, &checked, args)?;
    }
    // A repository alone may need what a site has; with the site it is missing.
    let missing = args.site.is_some() && !checked.config.needed().is_empty();
    if missing || !checked.config.warnings().is_empty() {
        return Err(Failure::Code(exit::FINDINGS));
    }
    Ok(())
}

fn print(context: &mut Context, checked: &Checked, args: &Check) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    let config = &checked.config;
    for warning in config.warnings() {
        output.line(warning.render(style.is_colored()).trim_end())?;
        output.line("")?;
    }
    if !config.needed().is_empty() {
        let from = match args.site {
            Some(_) => "still needed, from the local layer:",
            None => "needed from site:",
        };
        output.line(style.strong(from))?;
        let mut table = Table::new().indent(2);
        for needed in config.needed() {
            let origin = Cell::new(needed.origin.to_string()).tone(Tone::Faint);
            table.row(vec![Cell::new(&needed.name), origin]);
        }
        output.table(&table)?;
    }
    if !config.requests().is_empty() {
        output.line(style.strong("asked for, not granted:"))?;
    }
    for request in config.requests() {
        print_request(context, request)?;
    }
    let with_site = args.site.iter().map(|site| format!(" with site {site}"));
    let summary = format!(
        "{} is valid{}: {}",
        checked.file.display(),
        with_site.collect::<String>(),
        contents(checked)
    );
    Ok(context.output.remark(clean(&summary))?)
}

fn print_request(context: &mut Context, request: &Denied) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    let value = request.value.replace('\n', " ");
    let what = format!(
        "  {}  [{}] {} = {value}",
        request.origin, request.section, request.key
    );
    output.line(style.warn(&clean(&what)))?;
    let why = format!("    {}; a site or local layer grants it:", request.reason);
    output.line(clean(&why))?;
    for line in request.grant.lines() {
        output.line(clean(&format!("      {line}")))?;
    }
    Ok(())
}

/// `2 daemons (webapp, jobmanager), 2 cron jobs`
fn contents(checked: &Checked) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let daemons = checked.daemons();
    let mut text = count(daemons.len(), "daemon");
    if !daemons.is_empty() {
        text.push_str(&format!(" ({})", daemons.join(", ")));
    }
    if checked.cron_jobs() > 0 {
        text.push_str(&format!(", {}", count(checked.cron_jobs(), "cron job")));
    }
    text
}

fn facts<'a>(checked: &'a Checked, args: &'a Check) -> Facts<'a> {
    let config = &checked.config;
    let needed = config.needed().iter().map(|needed| NeededFacts {
        name: &needed.name,
        origin: (&needed.origin).into(),
    });
    let requests = config.requests().iter().map(|request| RequestFacts {
        section: &request.section,
        key: &request.key,
        value: &request.value,
        origin: (&request.origin).into(),
        reason: &request.reason,
        grant: &request.grant,
    });
    Facts {
        app: &checked.app,
        file: &checked.file,
        site: args.site.as_deref(),
        daemons: checked.daemons(),
        cron_jobs: checked.cron_jobs(),
        needed: needed.collect(),
        requests: requests.collect(),
        warnings: config
            .warnings()
            .iter()
            .map(DiagnosticFacts::from)
            .collect(),
    }
}
