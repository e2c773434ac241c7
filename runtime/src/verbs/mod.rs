//! The verbs of the command line, a file each. Each takes its own options and does its work
//! through the library.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::Error;
use crate::launch::LaunchError;
use crate::plan::PlanError;
use crate::request::{CgroupManager, DEFAULT_ROOT, LaunchRequest};
use crate::spec::Bundle;

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod log;
mod network;
mod options;
mod pause;
mod plan;
mod ps;
mod relay;
mod resolve;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;
pub mod words;

pub use log::Log;
use options::LaunchOptions;

/// What all verbs know.
#[derive(Debug, Clone)]
pub struct Globals {
    /// Where the state of containers is.
    pub root: PathBuf,
    /// Where messages go.
    pub log: Log,
    /// Who makes cgroups.
    pub cgroup_manager: CgroupManager,
}

/// Sets the soft limit of open files of this process, and so of what it launches.
///
/// # Errors
/// What is no number, and what the kernel refuses.
pub fn soft_files(text: &str) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let number: u64 = text
        .parse()
        .map_err(|_| Failure::Usage(format!("--soft-files {text:?} is not a number")))?;
    let limit = Rlimit {
        current: Some(number),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| Failure::Usage(format!("--soft-files {number}: {error}")))
}

impl Default for Globals {
    fn default() -> Globals {
        Globals {
            root: default_root(),
            log: Log::default(),
            cgroup_manager: CgroupManager::Files,
        }
    }
}

impl Globals {
    /// Tells, in the log, of sections that mean nothing here.
    fn note_ignored(&self, sections: &[String]) {
        for section in sections {
            self.log.note(&format!(
                "config.json: section {section} is unknown and means nothing"
            ));
        }
    }

    /// What was left out of a configuration is told also when nothing came of it: it may be why.
    fn warn_of(&self, request: &LaunchRequest) {
        if let Ok(bundle) = Bundle::load(&request.bundle) {
            self.warn(&bundle.warnings);
        }
    }

    /// Tells of what went wrong and does not matter for the result.
    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.log.say("warning", warning);
        }
    }
}

/// Root's containers are the server's; others have a directory of their own
/// (XDG Base Directory Specification, `XDG_RUNTIME_DIR`).
fn default_root() -> PathBuf {
    if !rustix::process::geteuid().is_root()
        && let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())
    {
        return PathBuf::from(dir).join("metactl/oci");
    }
    PathBuf::from(DEFAULT_ROOT)
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{0}; see `metactl-runtime --help`")]
    Usage(String),
    /// The work failed.
    #[error(transparent)]
    Error(#[from] Error),
    /// `exec` could not execute anything.
    #[error(transparent)]
    NotExecuted(Error),
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 64,
            Failure::Error(Error::Launch(LaunchError::Interrupted { signal })) => {
                u8::try_from(128 + signal).unwrap_or(1)
            }
            Failure::Error(error) => error.exit_code(),
            Failure::NotExecuted(_) => 255,
        }
    }

    /// A failure of `exec`: 1 and its like could as well be the code of the program, so it is told
    /// apart as by other runtimes (runc-exec(8), EXIT STATUS).
    fn not_executed(self) -> Failure {
        match self {
            Failure::Error(error)
                if !matches!(
                    error,
                    Error::Id(_) | Error::Launch(LaunchError::Interrupted { .. })
                ) =>
            {
                Failure::NotExecuted(error)
            }
            other => other,
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Failure {
        Failure::Usage(error.to_string())
    }
}

macro_rules! failure_from {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Error(error.into())
            }
        })*
    };
}

failure_from!(
    LaunchError,
    PlanError,
    crate::cgroup::CgroupError,
    crate::id::IdError,
    crate::journal::JournalError,
    crate::network::NetworkError,
    crate::spec::SpecError,
    crate::state::StateError,
    crate::systemd::SystemdError,
);

/// A verb: takes the rest of the command line, gives the exit code.
pub type Verb = fn(&Globals, &mut Parser) -> Result<u8, Failure>;

/// The verb with this name.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "create" => create::run,
        "delete" => delete::run,
        "events" => events::run,
        "exec" => exec::run,
        "features" => features::run,
        "kill" => kill::run,
        "list" => list::run,
        "network" => network::run,
        "pause" => pause::run,
        "plan" => plan::run,
        "ps" => ps::run,
        "resolve" => resolve::run,
        "resume" => resume::run,
        "run" => run::run,
        "spec" => spec::run,
        "start" => start::run,
        "state" => state::run,
        "update" => update::run,
        _ => return None,
    })
}

/// A command line argument, free of the borrow of its parser.
enum Word {
    Option(String),
    Value(OsString),
}

fn next(parser: &mut Parser) -> Result<Option<Word>, Failure> {
    Ok(match parser.next()? {
        None => None,
        Some(Arg::Long(name)) => Some(Word::Option(format!("--{name}"))),
        Some(Arg::Short(name)) => Some(Word::Option(format!("-{name}"))),
        Some(Arg::Value(value)) => Some(Word::Value(value)),
    })
}

/// The value of `--format`: json, or else a table.
fn wants_json(parser: &mut Parser) -> Result<bool, Failure> {
    match parser.value()?.string()?.as_str() {
        "json" => Ok(true),
        "table" => Ok(false),
        other => Err(Failure::Usage(format!(
            "--format is json or table, not {other:?}"
        ))),
    }
}

fn unexpected(word: &Word) -> Failure {
    Failure::Usage(match word {
        Word::Option(name) => format!("unknown option {name}"),
        Word::Value(value) => format!("unexpected argument {value:?}"),
    })
}

/// The only argument of a verb that takes a container and nothing else.
fn only_id(parser: &mut Parser) -> Result<String, Failure> {
    let mut id = None;
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(unexpected(&other)),
        }
    }
    id.ok_or_else(|| Failure::Usage("a container id is missing".into()))
}

/// CVE-2019-5736: when the container could get hold of the runtime's executable, run once more from
/// a read-only clone of its mount; then it is not writable any more, and this does nothing.
fn unless_exposed<T>(result: Result<T, Error>) -> Result<T, Failure> {
    match result {
        Err(Error::Plan(PlanError::Exposed)) => {
            let error = crate::shield::run_from_read_only_clone();
            Err(LaunchError::system("run from a read-only clone of the executable", error).into())
        }
        other => Ok(other?),
    }
}

/// Text of somebody else's for a terminal, which must not take it for commands of its own.
fn shown(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.contains(harmful) {
        true => text.replace(harmful, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(LaunchError::system("write to standard output", e).into())
        }
        _ => Ok(()),
    }
}

/// Writes JSON and a newline to standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| LaunchError::system("write JSON", std::io::Error::from(e)))?;
    print(&format!("{text}\n"))
}

/// The same on one line.
fn print_json_line(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|e| LaunchError::system("write JSON", std::io::Error::from(e)))?;
    print(&format!("{text}\n"))
}
