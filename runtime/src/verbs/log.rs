//! Where messages go: to standard error for people, and to the log for engines, in the form that
//! runc uses.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use crate::verbs::words::Words;
use crate::verbs::{Failure, shown};

/// Where messages go.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// `--log`.
    pub file: Option<PathBuf>,
    /// `--log-format json`.
    pub json: bool,
    /// `--debug`.
    pub debug: bool,
    /// In whose words.
    pub words: Words,
    /// Whose messages they are.
    verb: String,
}

impl Log {
    /// Makes the log, also when there will be nothing to say; with `--debug` says what is done.
    pub fn begin(&mut self, verb: &str) {
        verb.clone_into(&mut self.verb);
        if let Some(path) = &self.file {
            // That it cannot be written is seen when there is something to say.
            drop(OpenOptions::new().create(true).append(true).open(path));
        }
        if self.debug {
            self.say("debug", &format!("{verb}, process {}", std::process::id()));
        }
    }

    /// Says something to whoever asked for it: in the log, or with `--debug`.
    pub fn note(&self, text: &str) {
        if self.debug || self.file.is_some() {
            self.say("debug", text);
        }
    }

    /// With `--debug`, the stages of a launch that have been passed, in the words of runc: who
    /// debugs an engine looks for them.
    pub fn stages(&self, pid: i32, last: &str) {
        if self.debug {
            self.say("debug", &format!("nsexec container setup: process {pid}"));
            self.say("debug", &format!("child process in init(): process {pid}"));
            self.say("debug", last);
        }
    }

    /// Says something, `error` or `warning`.
    pub fn say(&self, level: &str, text: &str) {
        self.tell(level, text, None);
    }

    /// Says why the verb failed.
    pub fn fail(&self, failure: &Failure) {
        let text = self.words.failure(&self.verb, failure);
        self.tell("error", &text, self.words.seen(failure));
    }

    /// Writes a message to standard error, as it is `seen` there or in the usual form, and to the log.
    fn tell(&self, level: &str, text: &str, seen: Option<String>) {
        let seen = match (seen, self.words, &self.file) {
            (Some(line), ..) => Some(line),
            // Beside its log, runc says errors, and those as they are.
            (None, Words::Runc, Some(_)) => (level == "error").then(|| text.to_owned()),
            (None, Words::Own, Some(_)) if level == "debug" => None,
            _ => Some(self.words.line(level, text, self.json, false)),
        };
        // There is no third place to complain to.
        if let Some(line) = seen {
            writeln!(std::io::stderr(), "{}", shown(&line)).unwrap_or_default();
        }
        let Some(path) = &self.file else { return };
        let line = self.words.line(level, text, self.json, true);
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .unwrap_or_default();
    }
}
