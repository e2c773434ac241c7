//! What is known of an instance: from its bundle for root, who alone may read that; for members of the group
//! `metactl` from `facts.json`, which has of the bundle in use what is no secret.

use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use metactl_bundles::bundle::EntryRef;
use metactl_bundles::network::NetworkSpec;
use metactl_bundles::schedule::CronSettings;
use serde::{Deserialize, Serialize};

use super::{Current, Instance};
use crate::access::shared;
use crate::error::{LifecycleError, OnPath, Result};
use crate::status::ReleaseInfo;
use crate::{files, inspect};

const FORMAT: u32 = 1;

/// What is no secret of the bundle in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    format: u32,
    /// The digest of the bundle.
    pub(crate) bundle: String,
    pub(crate) app: String,
    pub(crate) uid: u32,
    pub(crate) release: ReleaseInfo,
    /// All that are there; only in the file, for who cannot look into their directory.
    pub(crate) releases: Vec<ReleaseInfo>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) entries: Vec<EntryRef>,
    /// How its cron jobs are run; not in the files of before.
    #[serde(default)]
    pub(crate) cron: CronSettings,
}

impl Instance {
    /// What is known of the bundle in use; none before the first deployment.
    pub(crate) fn known(&self) -> Result<Option<Known>> {
        if let Some(known) = self.known_already() {
            return Ok(Some(known));
        }
        match self.current() {
            Ok(Some(current)) => Ok(Some(self.known_of(&current)?)),
            Ok(None) => Ok(None),
            Err(LifecycleError::NotPermitted { .. }) => self.published().map(Some),
            Err(error) => Err(error),
        }
    }

    /// What root has published, while that is newer than all that it is about: a small file instead of several large
    /// ones, for `list` with hundreds of instances.
    pub(crate) fn known_already(&self) -> Option<Known> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = self.state_dir();
        let link = dir.join("bundle");
        let target = std::fs::read_link(&link).ok()?;
        let path = self.facts_file();
        let file = files::open(&path).ok().flatten()?;
        let facts = file.metadata().ok()?;
        // Root's alone to write: nobody else's word is taken.
        let own = facts.uid() == 0 && facts.mode() & 0o022 == 0;
        // A bundle never changes, unless somebody damages it; then it is read, and says so.
        let changed = |name: &str| std::fs::metadata(link.join(name)).and_then(|f| f.modified());
        let written = facts.modified().ok()?;
        let whole = ["manifest.json", "network.json"]
            .iter()
            .all(|name| changed(name).is_ok_and(|changed| changed < written));
        if !own || !whole || !self.is_published_in(&facts) {
            return None;
        }
        let text = files::read_open(&file, &path).ok()?;
        let known: Known = serde_json::from_slice(&text).ok()?;
        let counts = target == Path::new("bundles").join(&known.bundle);
        // Root looks at the releases themselves.
        let known = Known {
            releases: Vec::new(),
            ..known
        };
        (counts && known.format == FORMAT).then_some(known)
    }

    fn known_of(&self, current: &Current) -> Result<Known> {
        let spec: Option<NetworkSpec> = files::read_json(&current.dir.join("network.json"))?;
        Ok(Known {
            format: FORMAT,
            bundle: current.digest.clone(),
            app: current.manifest.app.clone(),
            uid: current.manifest.uid,
            release: inspect::release(self, current)?,
            releases: Vec::new(),
            addresses: spec.map(|spec| spec.addresses).unwrap_or_default(),
            entries: current.manifest.entries.clone(),
            cron: current.manifest.cron.clone(),
        })
    }

    fn facts_file(&self) -> PathBuf {
        self.state_dir().join("facts.json")
    }

    /// Whether the published facts are of another bundle than the one in use.
    pub(crate) fn is_outdated(&self, known: &Known) -> bool {
        let link = std::fs::read_link(self.state_dir().join("bundle"));
        link.is_ok_and(|link| files::name_of(&link) != known.bundle)
    }

    fn published(&self) -> Result<Known> {
        let path = self.facts_file();
        let known: Option<Known> = match files::read_json(&path) {
            Err(LifecycleError::File { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Err(LifecycleError::NoReader {
                    what: format!("looking at {}", self.name),
                });
            }
            other => other?,
        };
        known.ok_or_else(|| LifecycleError::NoReader {
            what: format!("looking at {} for the first time", self.name),
        })
    }

    /// Brings `facts.json` up to date. Does nothing for who is not root.
    pub(crate) fn publish(&self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let path = self.facts_file();
        if self.is_published() {
            return Ok(());
        }
        let Some(current) = self.current()? else {
            return files::remove_file(&path).map(drop);
        };
        let mut known = self.known_of(&current)?;
        known.releases = self.releases().all()?;
        // What is there and cannot be read is replaced.
        let there: Option<Known> = files::read_json(&path).unwrap_or_default();
        if there.as_ref() != Some(&known) {
            files::replace_json(&path, &known, 0o600)?;
        } else {
            // It may be of the same tick of the clock as what it is about, and then is not known to be newer.
            // Where that fails, only time is lost.
            let file = std::fs::File::options().write(true).open(&path);
            let _newer = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
        shared::share_file(&path)
    }

    /// Whether `facts.json` is newer than what it is about, and shared.
    fn is_published(&self) -> bool {
        let file = std::fs::symlink_metadata(self.facts_file());
        file.is_ok_and(|file| self.is_published_in(&file))
    }

    fn is_published_in(&self, file: &Metadata) -> bool {
        let look = |path: &Path| std::fs::symlink_metadata(path).ok();
        let changed = |name: &str| look(&self.state_dir().join(name))?.modified().ok();
        let is_older = |time| file.modified().is_ok_and(|written| time < written);
        let shared = shared::group().is_none_or(|group| file.gid() == group.as_raw());
        file.is_file()
            && shared
            && changed("bundle").is_some_and(is_older)
            && changed("releases").is_none_or(is_older)
    }

    /// The same after something that is done, or failed, in any case: that others see it is less than that.
    pub(crate) fn publish_after<T>(&self, done: Result<T>) -> Result<T> {
        // The next `status` or `list` as root does it again, and tells.
        let _later = self.publish();
        done
    }
}

/// A directory or file of logs that the group may read but this person may not.
pub(crate) fn readable<T>(result: io::Result<T>, path: &Path) -> Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(LifecycleError::NoReader {
                what: format!("reading {}", path.display()),
            })
        }
        other => other.on("read", path),
    }
}
