//! `metactl APP why DESTINATION|PATH|KEY`: may it, and which line says so.

use metactl_bundles::why::network::{Direction, text_of};
use metactl_bundles::why::{Allow, Answer, Because, Question, Verdict, quoted};
use serde::Serialize;

use super::Context;
use super::show::OriginFacts;
use crate::args::Why;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    kind: &'static str,
    question: String,
    answer: &'static str,
    /// `read-only`, or the value of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<&'a str>,
    because: Vec<BecauseFacts<'a>>,
    allow: Vec<AllowFacts<'a>>,
}

#[derive(Serialize)]
struct BecauseFacts<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginFacts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NameFacts<'a>>,
}

#[derive(Serialize)]
struct NameFacts<'a> {
    name: &'a str,
    origin: OriginFacts,
}

#[derive(Serialize)]
struct AllowFacts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    lines: &'a str,
}

/// Prints the answer. The exit code says it too.
pub fn run(context: &mut Context, args: &Why) -> Outcome {
    let instance = context.instance()?;
    let direction = args.from.then_some(Direction::In);
    let (question, answer) = instance.why(&args.what, direction)?;
    if context.output.json {
        context
            .output
            .facts(&facts(instance.name(), &question, &answer))?;
    } else {
        print(context, instance.name(), &question, &answer)?;
    }
    match answer.verdict {
        Verdict::Yes => Ok(()),
        Verdict::Partly | Verdict::No => Err(Failure::Code(exit::FINDINGS)),
    }
}

fn print(context: &mut Context, app: &str, question: &Question, answer: &Answer) -> Outcome {
    let style = context.output.style;
    let mut lead = answer.verdict.name().to_owned();
    if let (Some(how), Question::Path(_)) = (&answer.how, question) {
        lead.push_str(&format!(", {}", clean(how)));
    }
    let lead = match answer.verdict {
        Verdict::Yes => style.good(&lead),
        Verdict::Partly => style.warn(&lead),
        Verdict::No => style.bad(&lead),
    };
    let mut reasons = answer.because.iter().map(reason);
    let first = reasons.next().unwrap_or_default();
    context.output.line(format!("{lead}: {first}"))?;
    for reason in reasons {
        context.output.line(format!("  {reason}"))?;
    }
    for allow in &answer.allow {
        match command(app, allow) {
            Some(command) => context.output.line(format!("allow: {}", clean(&command)))?,
            None => {
                context.output.line("allow, in a site or local layer:")?;
                for line in allow.lines.lines() {
                    context.output.line(format!("  {}", clean(line)))?;
                }
            }
        }
    }
    Ok(())
}

/// `.metactl:20 database, with DB_HOST from sites/prod/myapp.conf:2`
fn reason(because: &Because) -> String {
    let mut text = match &because.origin {
        Some(origin) => format!("{origin} {}", because.text),
        None => because.text.clone(),
    };
    let mut lead = ", with ";
    for (name, origin) in &because.names {
        text.push_str(&format!("{lead}{name} from {origin}"));
        lead = ", ";
    }
    clean(&text.replace('\n', "\n    ")).into_owned()
}

/// The whole command line, for a shell.
fn command(app: &str, allow: &Allow) -> Option<String> {
    if allow.command.is_empty() {
        return None;
    }
    let words: Vec<String> = allow.command.iter().map(|word| quoted(word)).collect();
    Some(format!("metactl {app} {}", words.join(" ")))
}

fn facts<'a>(app: &'a str, question: &Question, answer: &'a Answer) -> Facts<'a> {
    let (kind, question) = match question {
        Question::Destination(entry) => ("destination", text_of(entry)),
        Question::Path(path) => ("path", path.display().to_string()),
        Question::Key(selector) => {
            let key = selector.key.iter().map(|key| format!(":{key}"));
            (
                "key",
                format!("{}{}", selector.section, key.collect::<String>()),
            )
        }
    };
    let because = answer.because.iter().map(|because| BecauseFacts {
        text: &because.text,
        origin: because.origin.as_ref().map(OriginFacts::from),
        names: because
            .names
            .iter()
            .map(|(name, origin)| NameFacts {
                name,
                origin: origin.into(),
            })
            .collect(),
    });
    let allow = answer.allow.iter().map(|allow| AllowFacts {
        command: command(app, allow),
        lines: &allow.lines,
    });
    Facts {
        instance: app,
        kind,
        question,
        answer: answer.verdict.name(),
        how: answer.how.as_deref(),
        because: because.collect(),
        allow: allow.collect(),
    }
}
