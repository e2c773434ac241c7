//! What the tests of units, jobs and manifests are made from.

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};

use crate::standalone::entry::tests::definition;

/// A daemon, or a cron job without a time.
pub(super) fn entry(name: &str, kind: EntryKind) -> EntryRef {
    EntryRef {
        title: name.trim_start_matches("cron.").replace('-', " "),
        kind,
        dir: name.replace("cron.", "cron/").into(),
        ..definition(name, Restart::Always)
    }
}

/// An instance of `app` with these entry points, and nothing else.
pub(super) fn manifest(instance: &str, app: &str, entries: Vec<EntryRef>) -> Manifest {
    Manifest {
        format: 1,
        version: "0".to_owned(),
        instance: instance.to_owned(),
        app: app.to_owned(),
        release: "1.2-abc-3".to_owned(),
        release_path: "/r".into(),
        site: None,
        uid: 66000,
        gid: 66000,
        hostname: instance.to_owned(),
        digest: None,
        entries,
        notify: Default::default(),
        cron: Default::default(),
        dns: None,
        secrets: None,
        systemd: Default::default(),
        smf: Default::default(),
        plain: false,
        layers: Vec::new(),
        settings: Vec::new(),
    }
}
