//! The network of what runs is looked after, and put back when somebody took something away: by the supervisor and by
//! `metactl run` alike.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::Resolved;

use crate::error::Result;
use crate::files;

/// How often it is looked after.
const PAUSE: Duration = Duration::from_secs(30);

/// When it was looked after, and what there was to say.
#[derive(Debug)]
pub(crate) struct Mender {
    last: Instant,
    /// What could not be mended, or had to be, the last time: it is told once.
    trouble: Vec<String>,
}

/// A network that is there.
pub(crate) struct Network<'a> {
    /// What it was made from.
    pub(crate) spec: &'a NetworkSpec,
    /// The same as a file, by which the resolver notices changes, and its text.
    pub(crate) record: (&'a Path, &'a [u8]),
    /// The file with the addresses that names had at the start.
    pub(crate) names: &'a Path,
    /// Who uses it, in the record of the server at `server_dir`.
    pub(crate) user: &'a str,
    pub(crate) server_dir: &'a Path,
    pub(crate) uplink: Option<&'a str>,
}

impl Mender {
    /// For a network that was made just now.
    pub(crate) fn new() -> Mender {
        Mender {
            last: Instant::now(),
            trouble: Vec::new(),
        }
    }

    /// The next look comes at once: a command has been given, and who gave it may just have met the trouble.
    pub(crate) fn soon(&mut self) {
        if let Some(past) = Instant::now().checked_sub(PAUSE) {
            self.last = past;
        }
    }

    /// When the next look is due.
    pub(crate) fn due(&self) -> Instant {
        self.last + PAUSE
    }

    /// Looks, when it is time, with what `mend` does. Returns what is worth a line in the log.
    pub(crate) fn look(&mut self, mend: impl FnOnce() -> Result<Vec<String>>) -> Vec<String> {
        if Instant::now() < self.due() {
            return Vec::new();
        }
        self.last = Instant::now();
        let found = mend().unwrap_or_else(|error| vec![error.to_string()]);
        if found == self.trouble {
            return Vec::new();
        }
        self.trouble = found;
        let lines = self.trouble.iter();
        lines.map(|line| format!("network: {line}")).collect()
    }
}

impl Network<'_> {
    /// Puts back what somebody took away (a flushed table, a changed sysctl, a route, a device that was set down), and
    /// says what it was.
    ///
    /// # Errors
    /// What cannot be put back.
    pub(crate) fn mend(&self, netns: BorrowedFd<'_>) -> Result<Vec<String>> {
        if self.spec.mode == Mode::Host {
            return Ok(Vec::new());
        }
        let names: Resolved = files::read_json(self.names)?.unwrap_or_default();
        let (dir, user) = (self.server_dir, self.user);
        let found = metactl_netns::mend::mend(self.spec, &names, netns, dir, user, self.uplink)?;
        if !found.is_empty() {
            // The resolver looks again what is there: addresses that it added may be gone.
            files::replace(self.record.0, self.record.1, 0o644)?;
        }
        Ok(found)
    }
}
