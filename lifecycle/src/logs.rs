//! Reading the logs of an instance.

pub(crate) mod search;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use metactl_bundles::bundle::EntryKind;

use crate::error::{OnPath, Result};
use crate::instance::{Instance, LineSink, LogFile, readable};
use crate::service::Journal;
use crate::tail::last_lines;
use crate::{files, status};

/// How often followed logs are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The most that is read of a log at once, and the longest line.
const CHUNK: u64 = 1 << 20;

/// The logs of all entry points of an instance, or of one.
pub(crate) fn files(instance: &Instance, entry: Option<&str>) -> Result<Vec<LogFile>> {
    let log = |name: &str, kind| LogFile {
        entry: name.to_owned(),
        kind: match kind {
            EntryKind::Daemon => status::EntryKind::Daemon,
            EntryKind::Cron => status::EntryKind::Cron,
        },
        path: instance.service_log_file(name),
    };
    match (entry, instance.known()?) {
        // Of the supervisor and of builds, by name.
        (Some(name), _) if name == "supervisor" || name.starts_with("build-") => {
            let name = files::name_of(name.as_ref()).to_owned();
            let path = instance.log_file(&name);
            let log = log(&name, EntryKind::Daemon);
            Ok(vec![LogFile { path, ..log }])
        }
        (Some(name), _) => {
            let entry = instance.entry(name)?;
            Ok(vec![log(&entry.name, entry.kind)])
        }
        (None, Some(known)) => {
            let entries = known.entries.iter();
            Ok(entries.map(|entry| log(&entry.name, entry.kind)).collect())
        }
        (None, None) => Err(instance.not_deployed()),
    }
}

/// The journal that has these logs, when it is no files that have them: those of builds always are.
pub(crate) fn journal(instance: &Instance, logs: &[LogFile]) -> Result<Option<Journal>> {
    let of_entries = logs.iter().all(|log| instance.entry(&log.entry).is_ok());
    if !of_entries {
        return Ok(None);
    }
    let entries: Vec<String> = logs.iter().map(|log| log.entry.clone()).collect();
    Ok(instance.service()?.journal(instance, &entries))
}

/// The last lines of each log; where each ended. `None`: nobody reads any more.
pub(crate) fn tail(
    logs: &[LogFile],
    lines: usize,
    sink: &mut LineSink<'_>,
) -> Result<Option<Vec<u64>>> {
    let mut ends = Vec::new();
    for log in logs {
        let (found, end) = readable(last_lines(&log.path, lines), &log.path)?;
        ends.push(end);
        for line in found {
            if !say(sink, log, &line)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(ends))
}

/// The last lines of each log, then every line that comes.
pub(crate) fn follow(logs: &[LogFile], lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
    let Some(ends) = tail(logs, lines, sink)? else {
        return Ok(());
    };
    follow_from(logs, ends, sink)
}

/// Every line that comes behind these places.
fn follow_from(logs: &[LogFile], ends: Vec<u64>, sink: &mut LineSink<'_>) -> Result<()> {
    let mut followed: Vec<Followed<'_>> = logs.iter().zip(ends).map(Followed::new).collect();
    loop {
        for log in &mut followed {
            for line in log.new_lines().on("read", &log.log.path)? {
                if !say(sink, log.log, &line)? {
                    return Ok(());
                }
            }
        }
        std::thread::sleep(TICK);
    }
}

/// `false`: nobody reads any more.
fn say(sink: &mut LineSink<'_>, log: &LogFile, line: &str) -> Result<bool> {
    match sink(&log.entry, line) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).on("print", &log.path),
    }
}

/// A log that is read as it grows.
pub(crate) struct Followed<'a> {
    pub(crate) log: &'a LogFile,
    /// Up to where it was read.
    at: u64,
    inode: u64,
    /// A line that has no end yet.
    begun: Vec<u8>,
}

impl<'a> Followed<'a> {
    /// From a length of it on.
    pub(crate) fn new((log, at): (&'a LogFile, u64)) -> Followed<'a> {
        let inode = std::fs::metadata(&log.path).map_or(0, |meta| meta.ino());
        Followed {
            log,
            at,
            inode,
            begun: Vec::new(),
        }
    }

    /// The lines that have come since.
    pub(crate) fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.log.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if meta.len() < self.at || meta.ino() != self.inode {
            // Rotated: it begins anew.
            self.at = 0;
            self.inode = meta.ino();
        }
        if meta.len() == self.at {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.at += file.take(CHUNK).read_to_end(&mut bytes)? as u64;
        self.begun.append(&mut bytes);
        let whole = match self.begun.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.begun.len() as u64 >= CHUNK => self.begun.len(),
            None => return Ok(Vec::new()),
        };
        let rest = self.begun.split_off(whole);
        let text = std::mem::replace(&mut self.begun, rest);
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::launcher::append;

    #[test]
    fn lines_are_followed_whole_and_through_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let log = LogFile {
            entry: "web".to_owned(),
            kind: status::EntryKind::Daemon,
            path,
        };
        let mut writer = append(&log.path).unwrap();
        writeln!(writer, "old").unwrap();
        let mut followed = Followed::new((&log, 4));
        assert!(followed.new_lines().unwrap().is_empty());
        write!(writer, "one\ntw").unwrap();
        assert_eq!(followed.new_lines().unwrap(), ["one"]);
        writeln!(writer, "o").unwrap();
        assert_eq!(followed.new_lines().unwrap(), ["two"]);
        writer.set_len(0).unwrap();
        writeln!(writer, "new").unwrap();
        assert_eq!(followed.new_lines().unwrap(), ["new"]);
    }

    #[test]
    fn who_no_longer_reads_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        let logs = [LogFile {
            entry: "web".to_owned(),
            kind: status::EntryKind::Daemon,
            path,
        }];
        let mut seen = Vec::new();
        let sink = &mut |_: &str, line: &str| {
            seen.push(line.to_owned());
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        };
        follow(&logs, 2, sink).unwrap();
        assert_eq!(seen, ["2"]);
    }
}
