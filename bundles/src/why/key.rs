//! Does an instance have this setting, from where, and what does it override?

use super::{Allow, Answer, Because, Verdict};
use crate::keys::{self, Grant, SectionMeaning};
use crate::layers::{Config, LayerKind, Selector, Value};
use crate::redact;

/// The answer for a key, or for all keys of a section.
pub fn answer(config: &Config, selector: &Selector) -> Answer {
    match &selector.key {
        Some(key) => one(config, &selector.section, key),
        None => all(config, &selector.section),
    }
}

fn one(config: &Config, section: &str, key: &str) -> Answer {
    let Some(value) = config.get(section, key) else {
        return missing(config, section, Some(key));
    };
    let mut answer = Answer::new(Verdict::Yes, origin(config, section, key, value));
    answer.how = config.shown(section, key).map(str::to_owned);
    let open = config
        .needed()
        .iter()
        .filter(|needed| value.raw.contains(&format!("%({})", needed.name)));
    for needed in open {
        let text = format!("{} is not defined yet", needed.name);
        answer.because.push(Because::rule(text));
    }
    answer
}

fn all(config: &Config, section: &str) -> Answer {
    let values: Vec<(&str, &Value)> = config.section(section).into_iter().flatten().collect();
    if values.is_empty() {
        return missing(config, section, None);
    }
    let because = values
        .into_iter()
        .map(|(key, value)| origin(config, section, key, value));
    Answer {
        verdict: Verdict::Yes,
        how: None,
        because: because.collect(),
        allow: Vec::new(),
    }
}

/// Where a value was written, and what it replaced.
fn origin(config: &Config, section: &str, key: &str, value: &Value) -> Because {
    let shown = config.shown(section, key).unwrap_or_default();
    let text = format!("{key} = {shown}");
    if value.origin.layer == LayerKind::Defaults {
        return Because::rule(format!("{text} is built in"));
    }
    Because::value(config, value, format!("{text}{}", instead(key, value)))
}

fn instead(key: &str, value: &Value) -> String {
    let mut text = String::new();
    let mut lead = ", instead of ";
    for (origin, replaced) in value.overrides.iter().rev() {
        let replaced = match redact::is_secret_name(key) && !replaced.is_empty() {
            true => redact::MASK.into(),
            false => redact::redact(replaced),
        };
        text.push_str(&format!("{lead}{replaced} ({origin})"));
        lead = ", ";
    }
    text
}

/// Nobody says it, or nobody who may.
fn missing(config: &Config, section: &str, key: Option<&str>) -> Answer {
    let what = match key {
        Some(key) => format!("nobody says {key} of [{section}]"),
        None => format!("nobody says anything in [{section}]"),
    };
    let is_asked = |request: &&crate::layers::Denied| {
        request.section == section && key.is_none_or(|key| key == request.key)
    };
    let requests: Vec<_> = config.requests().iter().filter(is_asked).collect();
    let mut answer = Answer::new(Verdict::No, Because::rule(what));
    if !requests.is_empty() {
        answer.because.clear();
    }
    for request in requests {
        answer.because.push(Because::denied(request));
        answer.allow.push(Allow {
            command: set(section, &request.key, &request.value),
            lines: request.grant.clone(),
        });
    }
    if let (Some(key), true) = (key, answer.allow.is_empty()) {
        answer.allow.extend(would_set(section, key));
    }
    answer
}

/// What would set a key: with a word in the place of the value.
fn would_set(section: &str, key: &str) -> Option<Allow> {
    let SectionMeaning::Known(spec) = keys::section(section) else {
        return None;
    };
    let (row, _) = keys::find(spec, key)?;
    let lines = format!("[{section}]\n{key} = ...");
    let command = match row.grant {
        // The facts of the server are nothing that an instance sets.
        Grant::Server => Vec::new(),
        _ => set(section, key, "..."),
    };
    Some(Allow { command, lines })
}

fn set(section: &str, key: &str, value: &str) -> Vec<String> {
    // What is not printed cannot be typed either.
    if value.contains(redact::MASK) || value.contains('\n') {
        return Vec::new();
    }
    vec!["set".to_owned(), format!("{section}:{key}={value}")]
}
