//! Where messages go: to standard error for people, and to the log for engines, in the form that
//! runc uses.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use crate::state::now_rfc3339;

/// Where messages go.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// `--log`.
    pub file: Option<PathBuf>,
    /// `--log-format json`.
    pub json: bool,
    /// `--debug`.
    pub debug: bool,
}

impl Log {
    /// Makes the log, also when there will be nothing to say; with `--debug` says what is done.
    pub fn begin(&self, verb: &str) {
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
        let line = match level {
            "debug" => format!("time={:?} level=debug msg={text:?}", now_rfc3339()),
            _ => format!("{level}: {text}"),
        };
        // There is no third place to complain to.
        if level != "debug" || self.file.is_none() {
            writeln!(std::io::stderr(), "{line}").unwrap_or_default();
        }
        let Some(path) = &self.file else { return };
        let line = if self.json {
            let time = now_rfc3339();
            serde_json::json!({"level": level, "msg": text, "time": time}).to_string()
        } else {
            line
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .unwrap_or_default();
    }
}
