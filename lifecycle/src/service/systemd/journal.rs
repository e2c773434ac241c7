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
            let mut command = command(lines);
            command.arg(format!("_SYSTEMD_UNIT={unit}"));
            if !self.read(command, sink)? {
                break;
            }
        }
        Ok(())
    }

    /// The last lines of all together, then every line that comes.
    pub(crate) fn follow(&self, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let mut command = command(lines);
        command.arg("--follow");
        // Of one field, any of the values (journalctl(1)).
        command.args(
            self.entries
                .keys()
                .map(|unit| format!("_SYSTEMD_UNIT={unit}")),
        );
        self.read(command, sink).map(drop)
    }

    /// The lines of all together that count, then every one that comes, if that is wanted.
    pub(crate) fn search(&self, filter: &LogFilter, sink: &mut LineSink<'_>) -> Result<()> {
        let units = self.entries.keys();
        let units: Vec<String> = units.map(|unit| format!("_SYSTEMD_UNIT={unit}")).collect();
        let mut kept: VecDeque<(String, String)> = VecDeque::new();
        let most = filter.lines.unwrap_or(usize::MAX);
        let mut since = command("all");
        if let Some(time) = filter.since {
            since.arg(format!("--since=@{}", time.as_second()));
        }
        since.args(&units);
        self.read(since, &mut |entry, line| {
            if filter.has(line) {
                kept.push_back((entry.to_owned(), line.to_owned()));
                if kept.len() > most {
                    kept.pop_front();
                }
            }
            Ok(())
        })?;
        for (entry, line) in kept {
            match sink(&entry, &line) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.on("print", Path::new("journalctl"))?,
            }
        }
        if !filter.follow {
            return Ok(());
        }
        let mut coming = command(0);
        coming.arg("--follow").args(&units);
        let only = &mut |entry: &str, line: &str| match filter.has(line) {
            true => sink(entry, line),
            false => Ok(()),
        };
        self.read(coming, only).map(drop)
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
                match sink(entry, part) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                    Err(error) => return Err(error).on("print", place),
                }
            }
        }
    }
}

/// A process that does not outlive its reader.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended already is only buried.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn command(lines: impl std::fmt::Display) -> Command {
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
