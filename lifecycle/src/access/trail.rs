//! The trail of who did what: `<log>/history.jsonl`, one JSON object a line, only ever written at its end.
//!
//! A command that changes something writes a line when it begins and one when it ends, with the same `id`; so
//! whatever was killed is in it too, as begun. What a crash tore is one line: the next writer begins a new one, and
//! readers leave it out. A file of 4 MiB is put aside, eight of them are kept. What is refused has files of its own,
//! `history-refused.jsonl`: who may nothing cannot crowd out what was done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::paths::Paths;
use metactl_bundles::redact::{MASK, is_secret_name, redact};
use metactl_runtime::ProcessId;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::{Request, origin, shared, verbs, who};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::person::login_uid;

const FORMAT: u32 = 1;
/// A file of this size is put aside.
const MAX_SIZE: u64 = 4 << 20;
/// How many of those are kept.
const KEPT: u32 = 8;
/// No argument or error is longer in here, and no command has more arguments.
const MAX_TEXT: usize = 300;
const MAX_WORDS: usize = 24;

/// The beginning of a command, or the whole of one that was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Begun {
    id: String,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    command: String,
    arguments: Vec<String>,
    person: String,
    uid: u32,
    /// Who logged in, when that is somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login_uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessId>,
}

/// How one ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct End {
    exit: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Begun {
        format: u32,
        #[serde(flatten)]
        begun: Begun,
    },
    Ended {
        format: u32,
        id: String,
        at: String,
        #[serde(flatten)]
        end: End,
    },
    Refused {
        format: u32,
        #[serde(flatten)]
        begun: Begun,
        #[serde(flatten)]
        end: End,
    },
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// A deployment failed; what ran before runs again.
    RolledBack,
    /// Whoever asked may not.
    Refused,
    /// It became another program, whose end is not known here.
    HandedOver,
    /// It goes on.
    UnderWay,
    /// It ended without a word: it was killed, or the server went down.
    Interrupted,
}

/// A command of the past.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// When it began, RFC 3339 in UTC.
    pub at: String,
    /// The instance that it was about; none for what is about the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The verb.
    pub command: String,
    /// Its other words, without passwords.
    pub arguments: Vec<String>,
    /// The account of who asked, behind sudo too.
    pub person: String,
    /// Its number.
    pub uid: u32,
    /// The number of who logged in, when that is somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The terminal: `pts/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// The machine that it was done from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// What it came to.
    pub result: Outcome,
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// How long it took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What was said when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Begun {
    /// A command of this process that begins now.
    pub(super) fn now(request: &Request<'_>) -> Begun {
        let (person, uid) = who();
        let terminal = origin::terminal();
        let at = files::now();
        Begun {
            id: format!("{at}-{}", std::process::id()),
            at,
            instance: request.instance.map(shorten),
            command: request.verb.to_owned(),
            arguments: harmless(request.verb, request.words),
            person,
            uid,
            login_uid: login_uid()
                .map(|login| login.as_raw())
                .filter(|login| *login != uid),
            machine: origin::machine(terminal.as_deref()),
            terminal,
            process: ProcessId::current().ok(),
        }
    }

    fn deed(self, result: Outcome, end: Option<End>) -> Deed {
        Deed {
            at: self.at,
            instance: self.instance,
            command: self.command,
            arguments: self.arguments,
            person: self.person,
            uid: self.uid,
            login_uid: self.login_uid,
            terminal: self.terminal,
            machine: self.machine,
            result,
            exit: end.as_ref().map(|end| end.exit),
            seconds: end.as_ref().and_then(|end| end.seconds),
            error: end.and_then(|end| end.error),
        }
    }
}

/// The words of a command line without what must not be read later: values of secrets, passwords in URLs, and the
/// arguments of other programs, whatever they mean there.
fn harmless(verb: &str, words: &[String]) -> Vec<String> {
    let end = words.iter().position(|word| word == "--");
    let (own, theirs) = words.split_at(end.unwrap_or(words.len()));
    let mut shown: Vec<String> = own
        .iter()
        .map(|word| shorten(&masked(verb, word)))
        .collect();
    if let [dashes, program, rest @ ..] = theirs {
        shown.push(dashes.clone());
        shown.push(shorten(program));
        if !rest.is_empty() {
            shown.push(format!("({} more)", rest.len()));
        }
    }
    let more = shown.len().saturating_sub(MAX_WORDS);
    shown.truncate(MAX_WORDS);
    if more > 0 {
        shown.push(format!("({more} more)"));
    }
    shown
}

fn masked(verb: &str, word: &str) -> String {
    if verb != "set" {
        return redact(word).into_owned();
    }
    let Some((key, value)) = word.split_once('=') else {
        return redact(word).into_owned();
    };
    // Without its section nobody knows yet whether the key is a secret.
    let open = key
        .split_once(':')
        .is_some_and(|(section, key)| !section.starts_with("secrets") && !is_secret_name(key));
    match open {
        true => format!("{key}={}", redact(value)),
        false => format!("{key}={MASK}"),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_TEXT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The file.
#[derive(Debug)]
pub(crate) struct Trail {
    path: PathBuf,
}

impl Trail {
    pub(crate) fn of(paths: &Paths) -> Trail {
        Trail {
            path: paths.log.join("history.jsonl"),
        }
    }

    /// Not yet on disk for certain: a crash of the server takes the command along, and its end is.
    pub(super) fn begin(&self, begun: &Begun) -> Result<()> {
        let begun = begun.clone();
        self.write(
            &Line::Begun {
                format: FORMAT,
                begun,
            },
            false,
        )
    }

    pub(super) fn end(
        &self,
        begun: &Begun,
        exit: u8,
        error: Option<&str>,
        took: Duration,
    ) -> Result<()> {
        let end = End {
            exit,
            error: error.map(|error| shorten(&redact(error))),
            seconds: Some((took.as_secs_f64() * 1000.0).round() / 1000.0),
        };
        let (id, at) = (begun.id.clone(), files::now());
        self.write(
            &Line::Ended {
                format: FORMAT,
                id,
                at,
                end,
            },
            true,
        )
    }

    pub(super) fn refused(&self, begun: &Begun, error: &LifecycleError) -> Result<()> {
        let end = End {
            exit: error.class().code(),
            error: Some(shorten(&redact(&error.to_string()))),
            seconds: None,
        };
        let begun = begun.clone();
        let refused = self.of_refused();
        refused.write(
            &Line::Refused {
                format: FORMAT,
                begun,
                end,
            },
            true,
        )
    }

    fn of_refused(&self) -> Trail {
        Trail {
            path: self.path.with_file_name("history-refused.jsonl"),
        }
    }

    fn write(&self, line: &Line, lasting: bool) -> Result<()> {
        let mut text = serde_json::to_vec(line)
            .map_err(io::Error::from)
            .on("write", &self.path)?;
        text.push(b'\n');
        if let Some(dir) = self.path.parent() {
            files::make_dir(dir, 0o755)?;
        }
        let mut file = self.open(text.len() as u64)?;
        shared::share(&file, &self.path)?;
        add(&mut file, &text, lasting).on("write", &self.path)
    }

    /// The file for writing, locked, with room for so many bytes.
    fn open(&self, room: u64) -> Result<File> {
        loop {
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            let mut options = OpenOptions::new();
            options
                .read(true)
                .append(true)
                .create(true)
                .mode(0o640)
                .custom_flags(flags);
            let file = options.open(&self.path).on("write", &self.path)?;
            // Closing it gives the lock back.
            flock(&file, FlockOperation::LockExclusive).on("lock", &self.path)?;
            let meta = file.metadata().on("write", &self.path)?;
            if !meta.is_file() {
                return Err(io::Error::from(io::ErrorKind::InvalidInput)).on("write", &self.path);
            }
            let there = fs::symlink_metadata(&self.path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) != (meta.dev(), meta.ino())) {
                // Another one has put it aside.
                continue;
            }
            if meta.len() == 0 || meta.len() + room <= MAX_SIZE {
                return Ok(file);
            }
            self.put_aside()?;
        }
    }

    fn put_aside(&self) -> Result<()> {
        for number in (1..KEPT).rev() {
            let from = self.aside(number);
            match fs::rename(&from, self.aside(number + 1)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).on("rename", &from),
            }
        }
        fs::rename(&self.path, self.aside(1)).on("rename", &self.path)
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }

    /// The files that there may be, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let aside = (1..=KEPT).rev().map(|number| self.aside(number));
        aside.chain([self.path.clone()]).collect()
    }

    /// What was done, the oldest first: of an instance, or all of it.
    pub(crate) fn read(&self, instance: Option<&str>) -> Result<Vec<Deed>> {
        let mut deeds: Vec<(String, Deed, Option<ProcessId>)> = Vec::new();
        for path in self.files().into_iter().chain(self.of_refused().files()) {
            let Some(text) = read(&path)? else { continue };
            let lines = text.split(|byte| *byte == b'\n');
            // Lines that a crash tore, and those of later versions, are none of ours.
            for line in lines.filter_map(|line| serde_json::from_slice(line).ok()) {
                take(&mut deeds, line, instance);
            }
        }
        deeds.sort_by(|a, b| a.1.at.cmp(&b.1.at));
        let done = |(_, mut deed, process): (String, Deed, Option<ProcessId>)| {
            if deed.result == Outcome::UnderWay && !process.is_some_and(|one| one.is_alive()) {
                deed.result = match verbs::hands_over(&deed.command) {
                    true => Outcome::HandedOver,
                    false => Outcome::Interrupted,
                };
            }
            deed
        };
        Ok(deeds.into_iter().map(done).collect())
    }
}

fn take(deeds: &mut Vec<(String, Deed, Option<ProcessId>)>, line: Line, instance: Option<&str>) {
    let ours = |begun: &Begun| instance.is_none() || begun.instance.as_deref() == instance;
    match line {
        Line::Begun { begun, .. } if ours(&begun) => {
            let (id, process) = (begun.id.clone(), begun.process.clone());
            deeds.push((id, begun.deed(Outcome::UnderWay, None), process));
        }
        Line::Refused { begun, end, .. } if ours(&begun) => {
            let id = begun.id.clone();
            deeds.push((id, begun.deed(Outcome::Refused, Some(end)), None));
        }
        Line::Ended { id, end, .. } => {
            // The latest ones end first, mostly.
            let begun = deeds.iter_mut().rev().find(|(begun, ..)| *begun == id);
            if let Some((_, deed, _)) = begun {
                deed.result = match end.exit {
                    0 => Outcome::Done,
                    10 => Outcome::RolledBack,
                    _ => Outcome::Failed,
                };
                deed.exit = Some(end.exit);
                deed.seconds = end.seconds;
                deed.error = end.error;
            }
        }
        _ => {}
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match files::read(path) {
        Err(LifecycleError::File { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Err(LifecycleError::NoReader {
                what: "reading the history".to_owned(),
            })
        }
        other => other,
    }
}

/// Adds a whole line, or nothing.
fn add(file: &mut File, line: &[u8], lasting: bool) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    let mut text = Vec::with_capacity(line.len() + 1);
    if last != [b'\n'] {
        text.push(b'\n');
    }
    text.extend_from_slice(line);
    let written = file.write_all(&text).and_then(|()| match lasting {
        true => file.sync_data(),
        false => Ok(()),
    });
    if written.is_err() {
        // A full disk takes a part of a line, perhaps; what it does not give back the next writer ends.
        let _cut = file.set_len(length);
    }
    written
}

#[cfg(test)]
#[path = "trail_tests.rs"]
mod tests;
