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
}

impl Log {
    /// Says something, `error` or `warning`.
    pub fn say(&self, level: &str, text: &str) {
        // There is no third place to complain to.
        writeln!(std::io::stderr(), "{level}: {text}").unwrap_or_default();
        let Some(path) = &self.file else { return };
        let line = if self.json {
            let time = now_rfc3339();
            serde_json::json!({"level": level, "msg": text, "time": time}).to_string()
        } else {
            format!("{level}: {text}")
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .unwrap_or_default();
    }
}
