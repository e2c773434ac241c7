//! The logs of an instance in the journal, by `journalctl` (systemd.journal-fields(7)).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{control, names};
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::LineSink;
use crate::logs::search::LogFilter;

/// The entry points whose lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journal {
    /// Their names, by unit.
    entries: BTreeMap<String, String>,
}

impl Journal {
    pub(super) fn of(instance: &str, entries: &[String]) -> Journal {
        let unit = |entry: &String| (names::service(instance, entry), entry.clone());
        Journal {
            entries: entries.iter().map(unit).collect(),
        }
    }

    /// The last lines of each.
    pub(crate) fn tail(&self, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        for unit in self.entries.keys() {
            let mut command = command(&lines.to_string());
            command.arg(format!("_SYSTEMD_UNIT={unit}"));
            if !self.read(command, sink)? {
                break;
            }
        }
        Ok(())
    }

    /// The last lines of all together, then every line that comes.
    pub(crate) fn follow(&self, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let command = self.following(&lines.to_string());
        self.read(command, sink).map(drop)
    }

    /// The lines that count of each, the older ones first; then those that come, if that is wanted.
    pub(crate) fn search(&self, filter: &LogFilter, sink: &mut LineSink<'_>) -> Result<()> {
        let counts = |line: &str| filter.has(line);
        for unit in self.entries.keys() {
            let mut command = command("all");
            command.arg(format!("_SYSTEMD_UNIT={unit}"));
            if let Some(since) = filter.since {
                command.arg(format!("--since=@{}", since.as_second()));
            }
            let mut kept: VecDeque<(String, String)> = VecDeque::new();
            let mut keep = |entry: &str, line: &str| -> io::Result<()> {
                match filter.lines {
                    _ if !counts(line) => {}
                    None => return sink(entry, line),
                    Some(most) => {
                        kept.push_back((entry.to_owned(), line.to_owned()));
                        if kept.len() > most {
                            kept.pop_front();
                        }
                    }
                }
                Ok(())
            };
            if !self.read(command, &mut keep)? {
                return Ok(());
            }
            for (entry, line) in kept {
                if !told(sink(&entry, &line))? {
                    return Ok(());
                }
            }
        }
        if !filter.follow {
            return Ok(());
        }
        let command = self.following("0");
        self.read(command, &mut |entry: &str, line: &str| match counts(line) {
            true => sink(entry, line),
            false => Ok(()),
        })
        .map(drop)
    }

    /// The command that shows what comes, of all together.
    fn following(&self, lines: &str) -> Command {
        let mut command = command(lines);
        command.arg("--follow");
        // Of one field, any of the values (journalctl(1)).
        let units = self.entries.keys();
        command.args(units.map(|unit| format!("_SYSTEMD_UNIT={unit}")));
        command
    }

    /// `false`: nobody reads any more.
    fn read(&self, mut command: Command, sink: &mut LineSink<'_>) -> Result<bool> {
        let child = command.stdout(Stdio::piped()).spawn();
        let child = child.map_err(|error| LifecycleError::Unavailable {
            what: format!("cannot read the journal: journalctl: {error}"),
            hint: "it is a part of systemd".to_owned(),
        })?;
        let mut child = Ending(child);
        let Some(output) = child.0.stdout.take() else {
            return Ok(true);
        };
        let place = Path::new("journalctl");
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).on("read", place)? == 0 {
                return Ok(true);
            }
            let Some((unit, message)) = message(&line) else {
                continue;
            };
            let Some(entry) = self.entries.get(&unit) else {
                continue;
            };
            for part in message.lines() {
                if !told(sink(entry, part))? {
                    return Ok(false);
                }
            }
        }
    }
}

/// Whether somebody still reads.
fn told(result: io::Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).on("print", Path::new("the lines of a log")),
    }
}

/// A process that does not outlive its reader.
#[derive(Debug)]
pub(super) struct Ending(pub(super) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended already is only buried.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn command(lines: &str) -> Command {
    let mut command = control::program("journalctl");
    command.args(["--quiet", "--no-pager", "--output=json", "--all"]);
    command.arg("--output-fields=MESSAGE,_SYSTEMD_UNIT");
    command.arg(format!("--lines={lines}"));
    command
}

/// The unit and the text of an entry. What is no UTF-8 comes as an array of bytes (systemd's "Journal JSON Format").
fn message(line: &[u8]) -> Option<(String, String)> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let unit = entry.get("_SYSTEMD_UNIT")?.as_str()?.to_owned();
    let text = match entry.get("MESSAGE")? {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    Some((unit, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_journal_are_understood() {
        let text = br#"{"_SYSTEMD_UNIT":"metactl-a-web.service","MESSAGE":"hello"}"#;
        let found = message(text).unwrap();
        assert_eq!(
            found,
            ("metactl-a-web.service".to_owned(), "hello".to_owned())
        );
        let bytes = br#"{"_SYSTEMD_UNIT":"u","MESSAGE":[104,255]}"#;
        assert_eq!(message(bytes).unwrap().1, "h\u{fffd}");
        assert_eq!(message(b"{}"), None);
    }
}
