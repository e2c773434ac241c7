//! `manifest.json`: what is in a bundle. Enough to start, stop and supervise the instance without
//! reading any configuration again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BundleError;
use crate::app::{Dns, Health, Notify, Restart, ServiceTies, UnitSettings};
use crate::health::Check;
use crate::schedule::CronSettings;
use crate::smf;

/// The format number of `manifest.json`.
pub const FORMAT: u32 = 1;

/// The name of the file.
pub const FILE: &str = "manifest.json";

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The metactl that wrote it.
    pub version: String,
    /// The instance.
    pub instance: String,
    /// The application.
    pub app: String,
    /// The release.
    pub release: String,
    /// The release on the host, as shown at `/app`.
    pub release_path: PathBuf,
    /// The site, if the server is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The uid that it runs as.
    pub uid: u32,
    /// The gid that it runs as.
    pub gid: u32,
    /// The name of the host inside.
    pub hostname: String,
    /// The digest of the bundle: not in the file, but the name of its folder.
    #[serde(skip)]
    pub digest: Option<String>,
    /// The entry points: daemons by name, then cron jobs in the order of the configuration.
    pub entries: Vec<EntryRef>,
    /// Who is told when one of them fails.
    #[serde(default, skip_serializing_if = "Notify::is_empty")]
    pub notify: Notify,
    /// How its cron jobs are run.
    #[serde(default, skip_serializing_if = "CronSettings::is_default")]
    pub cron: CronSettings,
    /// Where it is registered by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// What else stands in the units of systemd.
    #[serde(default, skip_serializing_if = "UnitSettings::is_empty")]
    pub systemd: UnitSettings,
    /// What else is said to SMF.
    #[serde(default, skip_serializing_if = "smf::Settings::is_empty")]
    pub smf: smf::Settings,
    /// Whether Upstart starts the plain commands, without a sandbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// The folder with the values of its secrets, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
    /// The files of configuration it was made from, lowest layer first.
    pub layers: Vec<LayerRef>,
    /// Every setting with its origin. Passwords are masked.
    pub settings: Vec<Setting>,
}

/// What an entry point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Runs all the time.
    Daemon,
    /// Runs at certain times.
    Cron,
}

/// An entry point of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryRef {
    /// `webapp`, `cron.daily-housekeeping`: unique within the instance. `<instance>.<name>` is the
    /// container's id; logs and cgroups are called so too.
    pub name: String,
    /// The name as the configuration has it: `webapp`, `daily housekeeping`.
    pub title: String,
    /// Daemon or cron job.
    pub kind: EntryKind,
    /// The platform that starts it.
    pub platform: String,
    /// The folder of its config.json, relative to the bundle.
    pub dir: PathBuf,
    /// The private `/tmp` on the host.
    pub tmp: PathBuf,
    /// When it runs, for a cron job: five fields, or `@daily` and friends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The TCP port that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How one finds out that it is up, when it has a port.
    #[serde(default)]
    pub health: Health,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// How long it then has, in milliseconds in the file.
    #[serde(rename = "stopTimeoutMs", with = "millis")]
    pub stop_timeout: Duration,
    /// When it is started again.
    pub restart: Restart,
    /// Daemons that are started before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What it is asked before it counts as up; none: what `health` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Where it says that it is ready, on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<PathBuf>,
    /// Those of them without which it does not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// How often in a row it is started again before it is given up; for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_limit: Option<u32>,
    /// What it and the service manager do for each other.
    #[serde(default, skip_serializing_if = "ServiceTies::is_empty")]
    pub service: ServiceTies,
}

/// A file of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerRef {
    /// `app`, `site`, `server` or `local`.
    pub layer: String,
    /// The file.
    pub path: PathBuf,
    /// The SHA-256 of its text.
    pub sha256: String,
}

/// A setting and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, passwords masked.
    pub value: String,
    /// The layer that said it.
    pub layer: String,
    /// The file and line, short: `nodes/myapp.conf:3`; `default` for what is built in.
    pub origin: String,
}

/// The manifest of a bundle.
///
/// # Errors
/// When the file cannot be read, is not a manifest, or is of a format that this metactl does not
/// know.
pub fn read_manifest(bundle: &Path) -> Result<Manifest, BundleError> {
    let path = bundle.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BundleError::Missing {
                path: bundle.to_path_buf(),
            });
        }
        Err(error) => return Err(BundleError::io("read", &path)(error)),
    };
    let damaged = |reason: String| BundleError::Damaged {
        path: path.clone(),
        reason,
    };
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    // The number first: a newer format may differ in everything else.
    let Format { format } =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if format != FORMAT {
        return Err(damaged(format!(
            "format {format} is not one of this metactl ({FORMAT})"
        )));
    }
    let mut manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    // `bundle` is a link; the folder that it leads to has the digest as its name.
    let real = fs::canonicalize(bundle).map_err(BundleError::io("read", bundle))?;
    manifest.digest = real
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Ok(manifest)
}

/// Durations as milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
