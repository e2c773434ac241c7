//! May an instance reach this, see this, or have this? And which line of which file says so?
//!
//! Answered from the configuration, not from what runs: [`network`] judges as the
//! firewall does, [`path`] walks the view that a start would make, [`key`]
//! tells a setting with everything that it comes from.
//!
//! What is asked may be a word of any of these kinds; [`Question::understand`] decides.

pub mod key;
pub mod network;
pub mod path;

use std::path::PathBuf;

use crate::diagnostics::{Diagnostic, Report};
use crate::keys::{self, SectionMeaning};
use crate::layers::{Config, Denied, Origin, Selector, Value};
use crate::network::{Entry, parse_entry};

/// Something that is asked about an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `mysql.example.org:3306`: another end of the network.
    Destination(Entry),
    /// `/srv/photos`: a path.
    Path(PathBuf),
    /// `env:DB_HOST`: a key, or all keys of a section.
    Key(Selector),
}

/// What is said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it.
    Yes,
    /// A part of what was asked: one of two ports, some addresses of a prefix.
    Partly,
    /// Nothing of it.
    No,
}

impl Verdict {
    /// The word for it: `yes`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Yes => "yes",
            Verdict::Partly => "partly",
            Verdict::No => "no",
        }
    }
}

/// An answer with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether.
    pub verdict: Verdict,
    /// In a word or two, when there is more to say than the verdict: `read-only`, or a value.
    pub how: Option<String>,
    /// Why, the deciding reason first.
    pub because: Vec<Because>,
    /// What would allow it, best first. Empty where nothing can.
    pub allow: Vec<Allow>,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// The line that says so; `None` where it is a rule of the sandbox.
    pub origin: Option<Origin>,
    /// What stands there, or what the rule is.
    pub text: String,
    /// The names of `[env]` in it, and where they come from.
    pub names: Vec<(String, Origin)>,
}

/// Something to do about a "no".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// What stands behind `metactl APP`: a command and its arguments. Empty where none does it.
    pub command: Vec<String>,
    /// The same as lines of a local or site layer.
    pub lines: String,
}

impl Because {
    fn rule(text: impl Into<String>) -> Because {
        Because {
            origin: None,
            text: text.into(),
            names: Vec::new(),
        }
    }

    fn value(config: &Config, value: &Value, text: impl Into<String>) -> Because {
        Because {
            origin: Some(value.origin.clone()),
            text: text.into(),
            names: config.names_of(value),
        }
    }

    /// A request of the app layer that nobody granted.
    fn denied(request: &Denied) -> Because {
        Because {
            origin: Some(request.origin.clone()),
            text: format!(
                "{} = {} is asked for, not granted: {}",
                request.key, request.value, request.reason
            ),
            names: Vec::new(),
        }
    }
}

impl Answer {
    fn new(verdict: Verdict, because: Because) -> Answer {
        Answer {
            verdict,
            how: None,
            because: vec![because],
            allow: Vec::new(),
        }
    }
}

impl Question {
    /// What a word means: a path begins with `/`; `SECTION:KEY`, a section, and a name of `[env]` or
    /// of the key table that is set somewhere are keys; everything else is a destination.
    ///
    /// # Errors
    /// What is none of these, and a key that there cannot be.
    pub fn understand(config: &Config, text: &str) -> Result<Question, Report> {
        let text = text.trim();
        if text.starts_with('/') {
            return Ok(Question::Path(PathBuf::from(text)));
        }
        if let Some(key) = as_key(config, text) {
            return Ok(Question::Key(config.select(&key)?));
        }
        Ok(Question::Destination(destination(text)?))
    }
}

/// One destination.
///
/// # Errors
/// None, several, or something else.
pub fn destination(text: &str) -> Result<Entry, Report> {
    let hint = "ask for a host name, address or prefix (:port, /tcp or /udp behind it), a path from \
                the root, or SECTION:KEY";
    match parse_entry("", text) {
        Ok(mut entries) if entries.len() == 1 => Ok(entries.remove(0)),
        Ok(_) => Err(
            Diagnostic::error(format!("`{text}` is several destinations"))
                .hint("ask for one after the other")
                .into(),
        ),
        Err(error) => {
            let message = format!("what is asked for {error}");
            Err(Diagnostic::error(message).hint(hint).into())
        }
    }
}

/// The selector that a word means, if it means one.
fn as_key(config: &Config, text: &str) -> Option<String> {
    let is_section = |name: &str| {
        matches!(keys::section(name), SectionMeaning::Known(_))
            || config.section(&format!("daemon.{name}")).is_some()
    };
    if let Some((section, key)) = text.split_once(':') {
        let port = key.starts_with(|c: char| c.is_ascii_digit());
        return (is_section(section) && !port).then(|| text.to_owned());
    }
    if is_section(text) {
        return Some(text.to_owned());
    }
    if config.get("env", text).is_some() {
        return Some(format!("env:{text}"));
    }
    // `jvm.heap.max`, where only one section has it.
    let has = |section: &&str| {
        let SectionMeaning::Known(spec) = keys::section(section) else {
            return false;
        };
        keys::find(spec, text).is_some_and(|(row, name)| {
            !row.name.contains('*') && config.get(section, &name).is_some()
        })
    };
    let mut sections = config.sections().filter(has);
    match (sections.next(), sections.next()) {
        (Some(section), None) => Some(format!("{section}:{text}")),
        _ => None,
    }
}

/// A word for a shell, quoted when it needs to be.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
