//! One instance, and everything that can be done with it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use metactl_bundles::app::App;
use metactl_bundles::layers::Config;
use metactl_netns::policy::FirewallStatus;

use crate::error::Result;
use crate::manager::Manager;
use crate::progress::Progress;
use crate::status::{EntryKind, ReleaseInfo, Status};

/// One instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(crate) manager: Manager,
    pub(crate) name: String,
}

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    /// The directory: `<state>/<instance>/bundles/<digest>`.
    pub dir: PathBuf,
    /// Its digest.
    pub digest: String,
    /// Whether it is the one in use.
    pub in_use: bool,
    /// The directories of its entry points, each an OCI bundle, by name.
    pub entries: Vec<(String, PathBuf)>,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

/// What a deployment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The release that runs now.
    pub release: ReleaseInfo,
    /// The one that ran before.
    pub previous: Option<ReleaseInfo>,
}

/// What `start`, `stop` and `restart` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There was something to do, and it is done. The entry points that it was about.
    Done(Vec<String>),
    /// It was so already.
    Already,
}

/// The log of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The entry point.
    pub entry: String,
    /// What it is.
    pub kind: EntryKind,
    /// The file. It need not exist.
    pub path: PathBuf,
}

/// Gets the lines of logs: the name of the entry point, and the line without its end. An error ends
/// the reading.
pub type LineSink<'a> = dyn FnMut(&str, &str) -> io::Result<()> + 'a;

impl Instance {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The merged configuration, with the `.metactl` of the release in use (none yet: without).
    pub fn config(&self) -> Result<Config> {
        Err(crate::later())
    }

    /// The typed model of the configuration.
    pub fn app(&self) -> Result<App> {
        Err(crate::later())
    }

    /// Writes the bundle that `start` would run, without starting it.
    pub fn bundle(&self) -> Result<Materialized> {
        Err(crate::later())
    }

    /// Writes a copy of that bundle for auditors to `out`, which must not exist or be empty: without
    /// passwords, readable by whoever may read the directory. Nothing else changes.
    pub fn bundle_redacted(&self, out: &Path) -> Result<()> {
        let _ = out;
        Err(crate::later())
    }

    /// The steps that `start` would take, one a line, for every entry point.
    pub fn plan(&self) -> Result<String> {
        Err(crate::later())
    }

    /// Fetches `tag` (else `[build] tag`), builds it, makes a release and switches to it.
    pub fn deploy(&self, tag: Option<&str>, progress: &mut dyn Progress) -> Result<Deployed> {
        let _ = (tag, progress);
        Err(crate::later())
    }

    /// Starts all daemons and the cron jobs, or one daemon.
    pub fn start(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        let _ = (entry, progress);
        Err(crate::later())
    }

    /// Stops everything, or one daemon.
    pub fn stop(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        let _ = (entry, progress);
        Err(crate::later())
    }

    /// Stops and starts with the configuration of now. Also starts what is stopped.
    pub fn restart(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        let _ = (entry, progress);
        Err(crate::later())
    }

    /// What runs. As root this first cleans up after whatever was killed.
    pub fn status(&self) -> Result<Status> {
        Err(crate::later())
    }

    /// The logs of all entry points, or of one.
    pub fn log_files(&self, entry: Option<&str>) -> Result<Vec<LogFile>> {
        let _ = entry;
        Err(crate::later())
    }

    /// The last `lines` lines of each log, oldest log first.
    pub fn tail(&self, entry: Option<&str>, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let _ = (entry, lines, sink);
        Err(crate::later())
    }

    /// Like [`tail`](Instance::tail), then every line that comes, until `sink` fails. A failure of
    /// kind `BrokenPipe` is no error.
    pub fn follow(&self, entry: Option<&str>, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let _ = (entry, lines, sink);
        Err(crate::later())
    }

    /// Becomes a command in the sandbox of an entry point (the first daemon that runs): returns
    /// only when that fails. The exit code is the command's own. An empty `argv` is a shell.
    pub fn exec(&self, entry: Option<&str>, argv: &[OsString], tty: bool) -> Result<Infallible> {
        let _ = (entry, argv, tty);
        Err(crate::later())
    }

    /// What the firewall of the sandbox has seen.
    pub fn firewall(&self) -> Result<FirewallStatus> {
        Err(crate::later())
    }

    /// Cleans up after whatever was killed: adopts what runs without a supervisor, ends what was
    /// half done. Returns what was done, a sentence each. Every other method does this as root.
    pub fn converge(&self) -> Result<Vec<String>> {
        Err(crate::later())
    }

    /// Keeps the instance running: the body of `metactl -a APP supervise`. Returns when everything
    /// is stopped.
    pub fn supervise(&self) -> Result<()> {
        Err(crate::later())
    }
}
