//! Only some lines of the logs: those since a time, and those with a text in them.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::OFlags;

use super::{follow_from, say};
use crate::error::{OnPath, Result};
use crate::instance::{LineSink, LogFile, readable};
use crate::moment;
use crate::standalone::KEPT_LOGS;

/// The most that is read as one line.
const MAX_LINE: u64 = 1 << 20;

/// Which lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Not those before this time: the time that a line begins with, or that of the line before it that has one. Of a
    /// log without any times everything counts if it was written to since.
    pub since: Option<Timestamp>,
    /// Only those with this text in them; in any case if it has no capitals.
    pub grep: Option<String>,
    /// How many at most of each log: the last ones.
    pub lines: Option<usize>,
    /// Then every line that comes, too.
    pub follow: bool,
}

impl LogFilter {
    /// Whether the text that is wanted is in a line.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.grep.as_deref().is_none_or(|text| has(line, text))
    }
}

/// Whether lines count, one after the other.
struct Judge<'a> {
    filter: &'a LogFilter,
    zone: TimeZone,
    /// Whether the last line that had a time is not too old.
    recent: bool,
}

impl<'a> Judge<'a> {
    fn new(filter: &'a LogFilter, recent: bool) -> Judge<'a> {
        Judge {
            filter,
            zone: TimeZone::system(),
            recent,
        }
    }

    fn counts(&mut self, line: &str) -> bool {
        if let Some(since) = self.filter.since
            && let Some(time) = moment::of_line(line, &self.zone)
        {
            self.recent = time >= since;
        }
        self.recent && self.filter.has(line)
    }
}

/// Whether a text is in a line; in any case if it has no capitals.
fn has(line: &str, text: &str) -> bool {
    match text.chars().any(char::is_uppercase) {
        true => line.contains(text),
        false => line.to_lowercase().contains(text),
    }
}

/// The lines that count, of each log the older ones first; then those that come, if that is wanted.
pub(crate) fn search(logs: &[LogFile], filter: &LogFilter, sink: &mut LineSink<'_>) -> Result<()> {
    let mut ends = Vec::new();
    for log in logs {
        let end = readable(
            std::fs::metadata(&log.path)
                .map(|meta| meta.len())
                .or_else(absent),
            &log.path,
        )?;
        ends.push(end);
        let mut kept: VecDeque<String> = VecDeque::new();
        for path in parts(&log.path) {
            let limit = if path == log.path { end } else { u64::MAX };
            let Some(mut judge) = judge_of(&path, filter)? else {
                continue;
            };
            each_line(&path, limit, &mut |line| {
                if !judge.counts(&line) {
                    return Ok(true);
                }
                let Some(most) = filter.lines else {
                    return say(sink, log, &line);
                };
                kept.push_back(line);
                if kept.len() > most {
                    kept.pop_front();
                }
                Ok(true)
            })?;
        }
        for line in kept {
            if !say(sink, log, &line)? {
                return Ok(());
            }
        }
    }
    if !filter.follow {
        return Ok(());
    }
    // What comes now is recent.
    let mut judges: Vec<Judge<'_>> = logs.iter().map(|_| Judge::new(filter, true)).collect();
    let at = |name: &str| logs.iter().position(|log| log.entry == name);
    follow_from(logs, ends, &mut |name, line| {
        let judge = at(name).and_then(|at| judges.get_mut(at));
        match judge.is_none_or(|judge| judge.counts(line)) {
            true => sink(name, line),
            false => Ok(()),
        }
    })
}

fn absent(error: io::Error) -> io::Result<u64> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(0),
        _ => Err(error),
    }
}

/// A log and what was rotated away of it, the oldest first.
fn parts(log: &Path) -> Vec<PathBuf> {
    let numbered = |number: u32| {
        let mut path = log.as_os_str().to_owned();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    };
    let old = (1..=KEPT_LOGS).rev().map(numbered);
    old.chain([log.to_owned()]).collect()
}

/// Who judges the lines of a file; nobody when all of it is too old, or it is not there.
fn judge_of<'a>(path: &Path, filter: &'a LogFilter) -> Result<Option<Judge<'a>>> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(None);
    };
    let Some(since) = filter.since else {
        return Ok(Some(Judge::new(filter, true)));
    };
    let written = meta
        .modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    if written.is_some_and(|written| written < since) {
        return Ok(None);
    }
    let zone = TimeZone::system();
    let mut timed = false;
    each_line(path, u64::MAX, &mut |line| {
        timed = moment::of_line(&line, &zone).is_some();
        Ok(!timed)
    })?;
    // What stands before the first time is older than that.
    Ok(Some(Judge::new(filter, !timed)))
}

/// Reads lines until `take` has enough.
fn each_line(path: &Path, limit: u64, take: &mut dyn FnMut(String) -> Result<bool>) -> Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => readable(other, path)?,
    };
    let mut reader = BufReader::new(file.take(limit));
    let mut line = Vec::new();
    loop {
        line.clear();
        // An application may write a line without an end.
        let read = (&mut reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .on("read", path)?;
        if read == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !take(text.to_owned())? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::EntryKind;

    fn found(text: &str, old: &str, filter: &LogFilter) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        std::fs::write(&path, text).unwrap();
        if !old.is_empty() {
            std::fs::write(dir.path().join("web.log.1"), old).unwrap();
        }
        let logs = [LogFile {
            entry: "web".to_owned(),
            kind: EntryKind::Daemon,
            path,
        }];
        let mut all = Vec::new();
        search(&logs, filter, &mut |_, line| {
            all.push(line.to_owned());
            Ok(())
        })
        .unwrap();
        all
    }

    const LOG: &str =
        "header\n2026-11-25T10:00:00Z one\n  at x\n2026-11-25T11:00:00Z two ERROR\n  at y\n";

    #[test]
    fn lines_without_a_time_belong_to_the_one_before() {
        let since = |text: &str| LogFilter {
            since: Some(text.parse().unwrap()),
            ..LogFilter::default()
        };
        assert_eq!(
            found(LOG, "", &since("2026-11-25T10:30:00Z")),
            ["2026-11-25T11:00:00Z two ERROR", "  at y"]
        );
        assert_eq!(found(LOG, "", &since("2026-11-25T09:00:00Z")).len(), 4);
        assert_eq!(found(LOG, "", &LogFilter::default()).len(), 5);
        // Without any time, the file's own counts.
        assert_eq!(
            found("a\nb\n", "", &since("2020-01-01T00:00:00Z")),
            ["a", "b"]
        );
        assert!(found("a\nb\n", "", &since("2100-01-01T00:00:00Z")).is_empty());
    }

    #[test]
    fn texts_are_found_and_the_last_ones_counted() {
        let grep = |text: &str, lines| LogFilter {
            grep: Some(text.to_owned()),
            lines,
            ..LogFilter::default()
        };
        assert_eq!(
            found(LOG, "", &grep("error", None)),
            ["2026-11-25T11:00:00Z two ERROR"]
        );
        assert!(found(LOG, "", &grep("Error", None)).is_empty());
        assert_eq!(
            found(LOG, "old\n  at z\n", &grep("at", None)),
            ["  at z", "  at x", "  at y"]
        );
        assert_eq!(
            found(LOG, "old\n  at z\n", &grep("at", Some(2))),
            ["  at x", "  at y"]
        );
    }

    #[test]
    fn lines_have_an_end_even_if_nobody_wrote_one() {
        let endless = "x".repeat(3 << 20);
        assert_eq!(found(&endless, "", &LogFilter::default()).len(), 3);
    }
}
