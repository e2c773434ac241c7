//! What a reference that leads nowhere looks like in a report.

use super::files::Files;
use super::merge::{Merging, Written};
use crate::diagnostics::{Diagnostic, Place};
use crate::interpolate::{Fault, FaultKind, MAX_DEPTH, Step};
use crate::keys::suggest;

/// The value that has a fault, and what is needed to tell it.
pub(super) struct Told<'a> {
    pub(super) files: &'a Files,
    /// `[env]`, if there is one.
    pub(super) env: Option<&'a Merging<'a>>,
    /// What the value is called: `build:repo`.
    pub(super) owner: String,
    pub(super) written: &'a Written<'a>,
}

impl Told<'_> {
    /// The fault with its whole chain; `names` are those that could be meant.
    pub(super) fn diagnostic<'n>(
        &self,
        fault: &Fault,
        names: impl Iterator<Item = &'n str>,
    ) -> Diagnostic {
        let (message, label, end) = match &fault.kind {
            FaultKind::Unknown(name) => {
                (format!("unknown name `{name}`"), "not in [env]", Some(name))
            }
            FaultKind::Cycle(name) => (
                format!("`{name}` refers to itself"),
                "leads back",
                Some(name),
            ),
            FaultKind::Syntax(problem) => (problem.clone(), "not a reference", None),
            FaultKind::TooDeep => (
                format!("more than {MAX_DEPTH} names in a chain"),
                "one too many",
                None,
            ),
            FaultKind::TooLong => (
                "the value becomes too long when its names are replaced".to_owned(),
                "grows too long",
                None,
            ),
        };
        let steps: Vec<(&str, Place)> = fault.chain.iter().map(|step| self.step(step)).collect();
        let mut chain: Vec<&str> = steps.iter().map(|(owner, _)| *owner).collect();
        let direct = chain.len() == 1 && matches!(fault.kind, FaultKind::Unknown(_));
        chain.extend(end.map(String::as_str));
        let shown = match chain.len() {
            1 => message,
            _ if direct => message,
            _ => format!("{message}: {}", chain.join(" -> ")),
        };
        let mut diagnostic = Diagnostic::error(shown)
            .label(label)
            .hint(hint(fault, &chain, names));
        let last = steps.len().saturating_sub(1);
        for (index, (owner, place)) in steps.into_iter().enumerate() {
            if index == last {
                diagnostic = diagnostic.at(place);
            } else {
                let next = chain.get(index + 1).copied().unwrap_or_default();
                diagnostic =
                    diagnostic.related(Some(place), format!("`{owner}` refers to `{next}`"));
            }
        }
        diagnostic
    }

    /// What a step of the chain is called, and where its reference stands.
    fn step<'s>(&'s self, step: &'s Step) -> (&'s str, Place) {
        let definition = step
            .name
            .as_deref()
            .and_then(|name| self.env?.slots.get(name)?.current.as_ref());
        let text = definition.unwrap_or(self.written);
        let place = self
            .files
            .place_in(text.source, text.text, step.range.clone());
        (step.name.as_deref().unwrap_or(&self.owner), place)
    }
}

fn hint<'n>(fault: &Fault, chain: &[&str], names: impl Iterator<Item = &'n str>) -> String {
    match &fault.kind {
        FaultKind::Unknown(name) => {
            let mut others: Vec<&str> = names.filter(|other| !chain.contains(other)).collect();
            others.sort_unstable();
            match suggest::nearest(name, others) {
                Some(near) => format!(
                    "did you mean %({near})? Else define {name}: metactl APP set env:{name}=..."
                ),
                None => format!(
                    "define {name} in [env] of this or a higher layer: metactl APP set env:{name}=..."
                ),
            }
        }
        FaultKind::Cycle(_) => "a value cannot contain itself; spell one of them out".to_owned(),
        FaultKind::Syntax(_) => {
            "close it with `)`, or write %%( for the characters themselves".to_owned()
        }
        FaultKind::TooDeep => "refer to fewer names".to_owned(),
        FaultKind::TooLong => "one value has 256 KiB at most, all together 16 MiB".to_owned(),
    }
}
