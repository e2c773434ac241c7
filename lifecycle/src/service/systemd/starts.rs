//! When daemons were started, and given up: systemd writes that into the journal itself, with message numbers that never
//! change (sd-messages.h, systemd.journal-fields(7)). How they ended is in the events of the instance, by `steps`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use jiff::Timestamp;
use serde_json::Value;

use super::journal::Ending;
use super::{control, names};
use crate::error::Result;
use crate::events::{Event, EventKind};
use crate::files;

/// A unit was started: `SD_MESSAGE_UNIT_STARTED`.
const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
/// It is going to be started again, for which time: `SD_MESSAGE_UNIT_RESTART_SCHEDULED`.
const AGAIN: &str = "5eb03494b6584870a536b337290809b3";
/// It is not started any more. This has no number; its text, behind the name of the unit, has been the same since 2013
/// (unit_test_start_limit() of systemd's unit.c).
const GIVEN_UP: &str = "Start request repeated too quickly.";
/// For each start there are at most so many messages.
const MESSAGES: usize = 2;

/// The starts of daemons.
#[derive(Debug)]
pub(crate) struct Starts {
    /// Their names, by unit.
    entries: BTreeMap<String, String>,
    /// The restarts that are announced, by unit.
    again: BTreeMap<String, u32>,
    /// Up to where the journal was read.
    cursor: Option<String>,
}

impl Starts {
    pub(super) fn of(instance: &str, daemons: &[String]) -> Starts {
        let unit = |entry: &String| (names::service(instance, entry), entry.clone());
        Starts {
            entries: daemons.iter().map(unit).collect(),
            again: BTreeMap::new(),
            cursor: None,
        }
    }

    /// Those since a time, at least the last `most`. Without a journal, or for who may not read it, there are none.
    pub(crate) fn past(&mut self, since: Option<Timestamp>, most: usize) -> Result<Vec<Event>> {
        control::sync_journal();
        let mut command = self.command();
        if let Some(since) = since {
            command.arg(format!("--since=@{}", since.as_second()));
        }
        command.arg(match most.checked_mul(MESSAGES) {
            Some(lines) => format!("--lines={lines}"),
            None => "--lines=all".to_owned(),
        });
        let output = control::run(command)?;
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let mut events: Vec<Event> = lines.filter_map(|line| self.understand(line)).collect();
        if let Some(since) = since {
            let since = files::rfc3339(since);
            events.retain(|event| event.at >= since);
        }
        Ok(events)
    }

    /// Those that come after what was read.
    pub(crate) fn follow(self) -> Result<Following> {
        let mut command = self.command();
        command.args(["--follow", "--no-tail"]);
        command.arg(match &self.cursor {
            Some(cursor) => format!("--after-cursor={cursor}"),
            None => format!("--since=@{}", Timestamp::now().as_second()),
        });
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child
            .map(Ending)
            .map_err(|error| control::absent(&command, &error))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.0.stdout.take() {
            // Ends with the process, or when nobody wants its lines any more.
            std::thread::spawn(move || {
                let read = BufReader::new(output)
                    .split(b'\n')
                    .map_while(|line| line.ok());
                for line in read {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Following {
            starts: self,
            lines,
            _process: child,
        })
    }

    fn command(&self) -> Command {
        let mut command = control::program("journalctl");
        command.args(["--quiet", "--no-pager", "--output=json", "--all"]);
        command.arg("--output-fields=MESSAGE,MESSAGE_ID,UNIT,N_RESTARTS");
        // Of one field any value, of several fields all, then alternatives (journalctl(1)).
        let ids = [STARTED, AGAIN].map(|id| format!("MESSAGE_ID={id}"));
        let units = self.entries.keys();
        let given_up = units.map(|unit| format!("MESSAGE={unit}: {GIVEN_UP}"));
        self.narrow(command.args(ids));
        self.narrow(command.arg("+").args(given_up));
        command
    }

    /// Of these units alone, and by the first process, who alone can say so.
    fn narrow(&self, command: &mut Command) {
        command.args(["_PID=1", "_UID=0"]);
        let units = self.entries.keys();
        command.args(units.map(|unit| format!("UNIT={unit}")));
    }

    fn understand(&mut self, line: &[u8]) -> Option<Event> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        self.cursor = text("__CURSOR").map(str::to_owned).or(self.cursor.take());
        let micros = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
        let at = Timestamp::from_microsecond(micros).ok()?;
        let unit = text("UNIT")?;
        let entry = self.entries.get(unit)?;
        let event = match text("MESSAGE_ID").unwrap_or_default() {
            STARTED => Event::begun(entry, self.again.remove(unit).unwrap_or(0)),
            AGAIN => {
                let count = text("N_RESTARTS").and_then(|count| count.parse().ok());
                self.again.insert(unit.to_owned(), count.unwrap_or(1));
                return None;
            }
            _ if text("MESSAGE").is_some_and(|text| text.ends_with(GIVEN_UP)) => {
                self.again.remove(unit);
                Event {
                    entry: Some(entry.clone()),
                    ..Event::now(
                        EventKind::NotStarted,
                        "it was started again too often: it is given up",
                    )
                }
            }
            _ => return None,
        };
        Some(Event {
            at: files::rfc3339(at),
            ..event
        })
    }
}

/// The starts that come.
#[derive(Debug)]
pub(crate) struct Following {
    starts: Starts,
    lines: Receiver<Vec<u8>>,
    _process: Ending,
}

impl Following {
    /// Those that have come since.
    pub(crate) fn new_events(&mut self) -> Vec<Event> {
        let lines = self.lines.try_iter();
        let starts = &mut self.starts;
        lines.filter_map(|line| starts.understand(&line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, more: &str) -> String {
        format!(
            r#"{{"__CURSOR":"c{id}","__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE_ID":"{id}","UNIT":"metactl-a-web.service"{more}}}"#
        )
    }

    #[test]
    fn what_systemd_writes_down_becomes_events() {
        let mut starts = Starts::of("a", &["web".to_owned()]);
        let first = starts.understand(line(STARTED, "").as_bytes()).unwrap();
        assert_eq!(first.kind, EventKind::Started);
        assert_eq!(first.at, "2023-11-14T22:13:20.123Z");
        assert_eq!(first.entry.as_deref(), Some("web"));
        let announced = line(AGAIN, r#","N_RESTARTS":"3""#);
        assert_eq!(starts.understand(announced.as_bytes()), None);
        let again = starts.understand(line(STARTED, "").as_bytes()).unwrap();
        assert_eq!(
            (again.kind, again.detail.as_str()),
            (EventKind::Restarted, "for the 3. time")
        );
        // Somebody started it after that.
        let third = starts.understand(line(STARTED, "").as_bytes()).unwrap();
        assert_eq!(third.kind, EventKind::Started);
        let given_up = line(
            "",
            &format!(r#","MESSAGE":"metactl-a-web.service: {GIVEN_UP}""#),
        );
        let given_up = starts.understand(given_up.as_bytes()).unwrap();
        assert!(given_up.kind.is_bad(), "{given_up:?}");
        let other = line("", r#","MESSAGE":"Main process exited""#);
        assert_eq!(starts.understand(other.as_bytes()), None);
        assert_eq!(starts.understand(b"no json"), None);
        assert_eq!(starts.cursor.as_deref(), Some("c"));
    }
}
