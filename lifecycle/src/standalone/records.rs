//! What the supervisor of an instance is told, and what it tells: small files in the instance's
//! run directory, each replaced as a whole.
//!
//! ```text
//! <run>/<instance>/
//!   wanted.json        what should run; without it: nothing. Written by commands.
//!   supervisor.json    the supervisor's process; the same for all instances
//!   status.json        what runs. Written by the supervisor.
//!   launched/<entry>   from which bundle an entry point was launched, written before it is
//!   wake               a fifo: a byte in it makes the supervisor look at wanted.json
//!   asked/<entry>      somebody wants a cron job to run now
//!   netns              the pinned network namespace
//!   network.json       what the network in there was made from
//!   names.json         the addresses of the names in it
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use metactl_runtime::ProcessId;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::status::{DnsStatus, EntryState, Exit};

/// The format number of these files.
pub(crate) const FORMAT: u32 = 1;

/// What should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Wanted {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Names this version of the file.
    pub(crate) change: String,
    /// The digest of the bundle.
    pub(crate) bundle: String,
    /// The daemons that should run, each with a word that changes when it is to be started anew.
    pub(crate) daemons: BTreeMap<String, String>,
    /// Whether cron jobs run.
    pub(crate) cron: bool,
    /// The device towards the network, when `metactl.conf` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uplink: Option<String>,
}

/// The supervisor's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SupervisorRecord {
    pub(crate) format: u32,
    pub(crate) process: ProcessId,
    pub(crate) since: String,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Report {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// The [`Wanted::change`] that it is about; none when nothing is wanted.
    pub(crate) change: Option<String>,
    /// By entry point.
    pub(crate) entries: BTreeMap<String, EntryReport>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
    /// Its names in the DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dns: Option<DnsStatus>,
}

impl Report {
    /// Nothing is known.
    pub(crate) fn nothing() -> Report {
        Report {
            format: FORMAT,
            change: None,
            entries: BTreeMap::new(),
            notes: Vec::new(),
            dns: None,
        }
    }
}

/// What is known of an entry point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EntryReport {
    pub(crate) state: EntryState,
    /// The word of [`Wanted::daemons`] that it was last launched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<ProcessId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// Started again since that generation began.
    pub(crate) restarts: u32,
    /// Launched, but by a supervisor that died: its exit code cannot be known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) adopted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_exit: Option<Exit>,
    /// What it says of itself (`STATUS=`, sd_notify(3)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) says: Option<String>,
    /// The next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Written before an entry point is launched, so that whoever adopts it knows what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Launched {
    pub(crate) format: u32,
    pub(crate) generation: String,
    /// The digest of the bundle.
    pub(crate) bundle: String,
    pub(crate) at: String,
    pub(crate) restarts: u32,
}

/// Somebody wants a cron job to run now. Written by `metactl APP cron run`, and taken by the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) format: u32,
    /// Names this request: it stands in the record of the run.
    pub(crate) word: String,
    /// Why it is not run; written by the supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// A word that no other change has.
pub(crate) fn new_generation() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{count}", files::now(), std::process::id())
}

/// The run directory of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunDir(pub(crate) PathBuf);

impl RunDir {
    pub(crate) fn wanted(&self) -> Result<Option<Wanted>> {
        known_format(&self.wanted_file())
    }

    pub(crate) fn write_wanted(&self, wanted: &Wanted) -> Result<()> {
        files::make_dir(&self.0, 0o755)?;
        files::replace_json(&self.wanted_file(), wanted, 0o644)
    }

    /// Wants nothing from now on. Removing needs no room on a full disk.
    pub(crate) fn clear_wanted(&self) -> Result<bool> {
        files::remove_file(&self.wanted_file())
    }

    fn wanted_file(&self) -> PathBuf {
        self.0.join("wanted.json")
    }

    /// The supervisor, when it is alive.
    pub(crate) fn supervisor(&self) -> Result<Option<SupervisorRecord>> {
        self.supervisor_but(None)
    }

    /// The same for who looks at hundreds of them: `living` is not looked at again.
    pub(crate) fn supervisor_but(
        &self,
        living: Option<&ProcessId>,
    ) -> Result<Option<SupervisorRecord>> {
        let path = self.0.join("supervisor.json");
        let found: Option<SupervisorRecord> = known_format(&path)?;
        let lives = |process: &ProcessId| living == Some(process) || process.is_alive();
        Ok(found.filter(|record| lives(&record.process)))
    }

    pub(crate) fn write_supervisor(&self, record: &SupervisorRecord) -> Result<()> {
        files::replace_json(&self.0.join("supervisor.json"), record, 0o644)
    }

    /// Removes the record of the supervisor, at its end.
    pub(crate) fn remove_supervisor(&self) -> Result<()> {
        files::remove_file(&self.0.join("supervisor.json")).map(drop)
    }

    pub(crate) fn report(&self) -> Result<Option<Report>> {
        known_format(&self.0.join("status.json"))
    }

    pub(crate) fn write_report(&self, report: &Report) -> Result<()> {
        files::replace_json(&self.0.join("status.json"), report, 0o644)
    }

    pub(crate) fn launched(&self, entry: &str) -> Result<Option<Launched>> {
        known_format(&self.launched_file(entry))
    }

    pub(crate) fn write_launched(&self, entry: &str, launched: &Launched) -> Result<()> {
        files::make_dir(&self.0.join("launched"), 0o755)?;
        files::replace_json(&self.launched_file(entry), launched, 0o644)
    }

    pub(crate) fn remove_launched(&self, entry: &str) -> Result<()> {
        files::remove_file(&self.launched_file(entry)).map(drop)
    }

    fn launched_file(&self, entry: &str) -> PathBuf {
        self.0.join("launched").join(format!("{entry}.json"))
    }

    /// The jobs that somebody wants to run now.
    pub(crate) fn all_asked(&self) -> Result<Vec<String>> {
        let paths = files::entries(&self.0.join("asked"))?;
        let names = paths.iter().map(|path| files::name_of(path));
        Ok(names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect())
    }

    pub(crate) fn asked(&self, entry: &str) -> Result<Option<Asked>> {
        known_format(&self.asked_file(entry))
    }

    pub(crate) fn write_asked(&self, entry: &str, asked: &Asked) -> Result<()> {
        files::make_dir(&self.0.join("asked"), 0o755)?;
        files::replace_json(&self.asked_file(entry), asked, 0o644)
    }

    pub(crate) fn remove_asked(&self, entry: &str) -> Result<()> {
        files::remove_file(&self.asked_file(entry)).map(drop)
    }

    fn asked_file(&self, entry: &str) -> PathBuf {
        self.0.join("asked").join(format!("{entry}.json"))
    }

    /// Where the network namespace is pinned.
    pub(crate) fn netns(&self) -> PathBuf {
        self.0.join("netns")
    }

    /// What the pinned network was made from.
    pub(crate) fn network(&self) -> PathBuf {
        self.0.join("network.json")
    }

    /// The addresses of names.
    pub(crate) fn names(&self) -> PathBuf {
        self.0.join("names.json")
    }

    /// Opens the fifo that wakes the supervisor, for the supervisor. (Open for writing too, so that
    /// it never sees its end: fifo(7).)
    pub(crate) fn open_wake(&self) -> Result<File> {
        let path = self.wake_file();
        match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from(0o600), 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).on("make", &path),
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).on("open", &path)?;
        Ok(fd.into())
    }

    /// Wakes the supervisor, if it is there.
    pub(crate) fn wake(&self) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Nobody reads: then nobody has to be woken. The fifo is full: then somebody is awake.
        if let Ok(fd) = rustix::fs::open(self.wake_file(), flags, Mode::empty()) {
            let _written = rustix::io::write(&fd, b"!");
        }
    }

    fn wake_file(&self) -> PathBuf {
        self.0.join("wake")
    }

    /// Whether there is anything.
    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }
}

/// Reads all bytes that somebody has woken a supervisor with. Whether there were any.
pub(super) fn drain(wake: &mut File) -> bool {
    let mut buffer = [0; 64];
    let mut woken = false;
    loop {
        match wake.read(&mut buffer) {
            Ok(64) => woken = true,
            Ok(some) => return woken || some > 0,
            // Nothing to read.
            Err(_) => return woken,
        }
    }
}

/// A file with the number of its format in it.
trait Record: serde::de::DeserializeOwned {
    fn format(&self) -> u32;
}

macro_rules! records {
    ($($name:ident),*) => {
        $(impl Record for $name {
            fn format(&self) -> u32 {
                self.format
            }
        })*
    };
}
records!(Wanted, SupervisorRecord, Report, Launched, Asked);

/// Reads a record, and refuses one of a version that this metactl does not know.
fn known_format<T: Record>(path: &Path) -> Result<Option<T>> {
    let Some(text) = files::read(path)? else {
        return Ok(None);
    };
    let why = match serde_json::from_slice::<T>(&text) {
        Ok(found) if found.format() == FORMAT => return Ok(Some(found)),
        Ok(found) => unknown_format(found.format()),
        // One of a later version may differ in everything but the number.
        Err(error) => match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format }) if format != FORMAT => unknown_format(format),
            _ => error.to_string(),
        },
    };
    Err(LifecycleError::Record {
        path: path.to_path_buf(),
        why,
    })
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn unknown_format(number: u32) -> String {
    format!("format {number} is not known to this metactl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().join("a"));
        assert_eq!(run.wanted().unwrap(), None);
        let wanted = Wanted {
            format: FORMAT,
            change: new_generation(),
            bundle: "b".to_owned(),
            daemons: BTreeMap::from([("web".to_owned(), new_generation())]),
            cron: true,
            uplink: None,
        };
        assert_ne!(wanted.change, wanted.daemons["web"]);
        run.write_wanted(&wanted).unwrap();
        assert_eq!(run.wanted().unwrap(), Some(wanted));
        assert!(run.clear_wanted().unwrap());
        assert!(!run.clear_wanted().unwrap());
    }

    #[test]
    fn formats_of_later_versions_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().to_path_buf());
        std::fs::write(dir.path().join("wanted.json"), r#"{"format": 9, "new": 1}"#).unwrap();
        let error = run.wanted().unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn only_a_living_supervisor_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().to_path_buf());
        assert!(run.supervisor().unwrap().is_none());
        let mut process = ProcessId::current().unwrap();
        let record = |process: &ProcessId| SupervisorRecord {
            format: FORMAT,
            process: process.clone(),
            since: files::now(),
        };
        run.write_supervisor(&record(&process)).unwrap();
        assert!(run.supervisor().unwrap().is_some());
        process.start_time += 1;
        run.write_supervisor(&record(&process)).unwrap();
        assert!(run.supervisor().unwrap().is_none());
    }

    #[test]
    fn waking_nobody_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().to_path_buf());
        run.wake();
        let fifo = run.open_wake().unwrap();
        run.wake();
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&fifo, &mut buffer).unwrap(), 1);
    }
}
