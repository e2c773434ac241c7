//! How it stands with the names of an instance that has no supervisor: a file, `<run>/<instance>/dns.json`, from one
//! look to the next. It goes with the network of the instance, and with a reboot. It holds no key.

use std::collections::BTreeSet;
use std::path::PathBuf;

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::Record;
use serde::{Deserialize, Serialize};

use super::watch::Seen;
use crate::error::Result;
use crate::files;
use crate::instance::Instance;
use crate::status::DnsStatus;

/// The format number of the file.
const FORMAT: u32 = 1;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Standing {
    format: u32,
    /// What a name server has said is there.
    pub(super) confirmed: BTreeSet<Record>,
    /// What the last round was to reach, and with whom.
    pub(super) reached: Option<(Dns, BTreeSet<Record>)>,
    /// What the looks at the daemons have come to.
    pub(super) seen: Seen,
    /// Failures in a row.
    pub(super) tries: u32,
    /// When the next round is due, whatever is wanted; in milliseconds since 1970.
    pub(super) due: i64,
    /// When everything is said again.
    pub(super) again: i64,
    /// As it is told.
    pub(super) status: DnsStatus,
}

impl Standing {
    /// What the last look has left; as good as nothing when that is of another metactl, or damaged: all it costs is that
    /// everything is said again.
    pub(super) fn read(instance: &Instance) -> Standing {
        let found = files::read_json::<Standing>(&path(instance));
        let found = found.ok().flatten().filter(|found| found.format == FORMAT);
        found.unwrap_or_else(|| Standing {
            format: FORMAT,
            confirmed: BTreeSet::new(),
            reached: None,
            seen: Seen::default(),
            tries: 0,
            due: 0,
            again: 0,
            status: DnsStatus {
                records: Vec::new(),
                healthy: None,
                troubles: Vec::new(),
                next: None,
            },
        })
    }

    /// Writes what differs from `before`.
    pub(super) fn write(&self, instance: &Instance, before: &Standing) -> Result<()> {
        if self == before {
            return Ok(());
        }
        files::replace_json(&path(instance), self, 0o644)
    }

    pub(super) fn forget(instance: &Instance) -> Result<()> {
        files::remove_file(&path(instance)).map(drop)
    }

    /// Whether there was a look.
    pub(super) fn exists(instance: &Instance) -> bool {
        path(instance).exists()
    }
}

fn path(instance: &Instance) -> PathBuf {
    instance.run_dir().0.join("dns.json")
}

/// How it stood at the last look; none: there was none, or there is nothing to tell.
pub(crate) fn status(instance: &Instance) -> Option<DnsStatus> {
    if !Standing::exists(instance) {
        return None;
    }
    let status = Standing::read(instance).status;
    let quiet = status.records.is_empty() && status.troubles.is_empty();
    (!quiet).then_some(status)
}
