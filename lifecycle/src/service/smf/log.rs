//! What svc.startd writes into the log of a service, between what the application does: `[ Nov 26 12:00:00 Enabled. ]`.
//! SMF keeps no count of restarts and no last exit; they are read here.

use std::path::Path;

use super::method;
use crate::standalone::exits;
use crate::status::Exit;
use crate::tail;

/// How many lines of a log are looked at.
const LINES: usize = 2000;

/// What a log says of a service since it was last enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How often it was started again.
    pub(super) restarts: u32,
    /// How it ended last, if it did.
    pub(super) last_exit: Option<Exit>,
    /// Its program has ended since it was last started; what is online is the shell that waits to be stopped.
    pub(super) has_ended: bool,
    /// svc.startd has given it up.
    pub(super) gave_up: bool,
}

/// Reads the end of a log. One that cannot be read says nothing.
pub(super) fn read(path: &Path) -> Told {
    let lines = tail::last_lines(path, LINES);
    lines.map(|(lines, _)| told(&lines)).unwrap_or_default()
}

fn told(lines: &[String]) -> Told {
    let mut told = Told::default();
    let mut starts = 0_u32;
    for line in lines {
        if let Some(code) = exit_code(line) {
            told.last_exit = Some(exits::describe(Some(code), None, false, false));
            told.has_ended = true;
            continue;
        }
        let Some(event) = event(line) else { continue };
        if event == "Enabled." {
            told = Told::default();
            starts = 0;
        } else if event.starts_with("Executing start method") {
            starts += 1;
            told.has_ended = false;
        } else if let Some(why) = event.strip_prefix("Stopping because ") {
            match why.trim_end_matches('.') {
                "service restarting" => starts = 0,
                "service disabled" | "dependency activity requires stop" => {}
                // The method has said more.
                _ if told.has_ended => {}
                "all processes in service exited" => {
                    told.last_exit = Some(exits::describe(Some(0), None, false, false));
                }
                why => told.last_exit = Some(failure(why)),
            }
        } else if event.starts_with("Restarting too quickly") {
            told.gave_up = true;
        } else if event.starts_with("Method \"stop\"") && event.contains("timed out")
            || event.starts_with("Method or service exit timed out")
        {
            told.last_exit = Some(failure("killed: it did not stop in time"));
        }
    }
    told.restarts = starts.saturating_sub(1);
    told
}

/// What a line of svc.startd says; `None`: it is one of the application.
pub(super) fn event(line: &str) -> Option<&str> {
    let inside = line.strip_prefix("[ ")?.strip_suffix(" ]")?;
    // `Nov 26 12:00:00 `: a month, a day in two places, a time.
    let (stamp, event) = inside.split_at_checked(16)?;
    let is_stamp = stamp.chars().enumerate().all(|(at, c)| match at {
        0..3 => c.is_ascii_alphabetic(),
        3 | 6 | 15 => c == ' ',
        4 => c == ' ' || c.is_ascii_digit(),
        9 | 12 => c == ':',
        _ => c.is_ascii_digit(),
    });
    is_stamp.then_some(event)
}

/// The exit code that a method tells.
pub(super) fn exit_code(line: &str) -> Option<i32> {
    line.strip_prefix(method::ENDED)?.parse().ok()
}

fn failure(why: &str) -> Exit {
    Exit {
        reason: why.to_owned(),
        failed: true,
        ..exits::describe(None, None, false, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Told {
        told(
            &lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    const ENABLED: &str = "[ Nov 26 12:00:00 Enabled. ]";
    const START: &str = "[ Nov  6 12:00:00 Executing start method (\"exec\"). ]";

    #[test]
    fn restarts_are_counted_since_it_was_enabled() {
        let exited = "[ Nov 26 12:00:09 Stopping because all processes in service exited. ]";
        let told = of(&[ENABLED, START, exited, START, "hello", ENABLED, START]);
        assert_eq!(told, Told::default());
        let told = of(&[ENABLED, START, exited, START, exited, START]);
        assert_eq!(told.restarts, 2);
        assert!(!told.last_exit.unwrap().failed && !told.has_ended);
    }

    #[test]
    fn ends_have_reasons() {
        for (line, reason) in [
            (
                "service exited with an error",
                "service exited with an error",
            ),
            ("process dumped core", "process dumped core"),
        ] {
            let line = format!("[ Nov 26 12:00:09 Stopping because {line}. ]");
            let exit = of(&[ENABLED, START, &line]).last_exit.unwrap();
            assert_eq!((exit.reason.as_str(), exit.failed), (reason, true));
        }
        let told = of(&[ENABLED, START, "metactl: exit code 3"]);
        assert!(told.has_ended);
        assert_eq!(told.last_exit.unwrap().code, Some(3));
        let quick = "[ Nov 26 12:00:09 Restarting too quickly, changing state to maintenance. ]";
        assert!(of(&[ENABLED, START, quick]).gave_up);
        // Stopped as somebody wanted: that is no exit.
        let disabled = "[ Nov 26 12:00:09 Stopping because service disabled. ]";
        assert_eq!(of(&[ENABLED, START, disabled]).last_exit, None);
    }

    #[test]
    fn lines_of_the_application_are_none_of_svc_startd() {
        for line in [
            "[ x ]",
            "[ Nov 26 Enabled. ]",
            "[ Nov 26 12:00:00 ü",
            "",
            "[ ",
            "[  ]",
        ] {
            assert_eq!(event(line), None, "{line}");
        }
        assert_eq!(event(ENABLED), Some("Enabled."));
    }
}
