//! What a command says when it cannot do what was asked: what failed, what to do, and the exit code.

use metactl_bundles::diagnostics::{DiagnosticFacts, Report};
use metactl_lifecycle::LifecycleError;

use crate::exit;
use crate::output::{self, Style};

/// The end of a command that did not go well.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell the person at the terminal.
    Said(Said),
    /// Everything has been printed already; only the exit code is left.
    Code(u8),
    /// Nobody reads the output any more (`metactl list | head -1`).
    BrokenPipe,
}

/// A message with its hints.
#[derive(Debug)]
pub struct Said {
    /// What failed, on what, and why.
    pub message: String,
    /// What to do next, one line each.
    pub hints: Vec<String>,
    /// The exit code, one of [`exit::TABLE`].
    pub code: u8,
    /// Faults in a configuration, which render themselves in place of the message.
    pub report: Option<Report>,
}

/// The result of a command.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with a message and no hint.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure::Said(Said {
            message: message.into(),
            hints: Vec::new(),
            code,
            report: None,
        })
    }

    /// A command line that was not understood.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }

    /// What lifecycle says: its message, the end of the log that belongs to it, its advice.
    pub fn lifecycle(error: &LifecycleError) -> Failure {
        let mut message = error.to_string();
        for line in error.tail() {
            message.push_str("\n  | ");
            message.push_str(line);
        }
        let mut hints: Vec<String> = error
            .log()
            .map(|log| format!("Log: {}", log.display()))
            .into_iter()
            .collect();
        hints.extend(error.hint());
        let report = error.report().cloned();
        Failure::Said(Said {
            message,
            hints,
            code: error.class().code(),
            report,
        })
    }

    /// The exit code of a command, and what it says when it failed.
    pub fn summary(outcome: &Outcome) -> (u8, Option<&str>) {
        match outcome {
            Ok(()) | Err(Failure::BrokenPipe) => (exit::OK, None),
            Err(Failure::Code(code)) => (*code, None),
            Err(Failure::Said(said)) => (said.code, Some(&said.message)),
        }
    }

    /// The same failure with one more line of advice.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Failure {
        if let Failure::Said(said) = &mut self {
            said.hints.push(line.into());
        }
        self
    }

    /// Prints the failure on standard error and gives the exit code.
    pub fn report(&self, style: Style, json: bool) -> u8 {
        match self {
            Failure::Said(said) if json => {
                output::eprint_line(&said.json());
                said.code
            }
            Failure::Said(said) => {
                output::eprint_line(&said.render(style));
                said.code
            }
            Failure::Code(code) => *code,
            Failure::BrokenPipe => exit::OK,
        }
    }
}

impl Said {
    fn render(&self, style: Style) -> String {
        let mut text = match &self.report {
            Some(report) => report.render(style.is_colored()).trim_end().to_owned(),
            None => format!("{} {}", style.bad("error:"), output::clean(&self.message)),
        };
        for hint in &self.hints {
            for line in hint.lines() {
                text.push_str("\n  ");
                text.push_str(&output::clean(line));
            }
        }
        text
    }

    fn json(&self) -> String {
        let message = output::clean(self.message.trim_end());
        let mut error = serde_json::json!({
            "message": message, "hints": self.hints, "exit": self.code,
        });
        if let Some(report) = &self.report {
            let found: Vec<_> = report
                .diagnostics()
                .iter()
                .map(DiagnosticFacts::from)
                .collect();
            error["diagnostics"] = serde_json::json!(found);
            error["total"] = report.total().into();
        }
        serde_json::json!({ "version": output::JSON_VERSION, "error": error }).to_string()
    }
}

impl From<std::io::Error> for Failure {
    /// For writing to standard output, the only I/O that the command line does by itself.
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Failure::BrokenPipe
        } else {
            Failure::new(
                exit::FAILED,
                format!("cannot write to standard output: {error}"),
            )
        }
    }
}

impl From<serde_json::Error> for Failure {
    /// For printing JSON: the values are our own, so only the writing can fail.
    fn from(error: serde_json::Error) -> Failure {
        Failure::from(std::io::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_below_the_message() {
        let failure = Failure::new(69, "no instance named x")
            .hint("metactl list")
            .hint("a\nb");
        let Failure::Said(said) = failure else {
            panic!("not said")
        };
        assert_eq!(
            said.render(Style::plain()),
            "error: no instance named x\n  metactl list\n  a\n  b"
        );
        assert!(said.json().contains(r#""exit":69"#));
    }

    #[test]
    fn a_reader_that_went_away_is_not_a_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(matches!(failure, Failure::BrokenPipe));
        assert_eq!(failure.report(Style::plain(), false), 0);
    }
}
