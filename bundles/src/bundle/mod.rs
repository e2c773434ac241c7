//! The bundle: the folder that an instance is materialized into.
//!
//! ```text
//! <state>/<instance>/bundles/<digest>/
//!   manifest.json          what is in it, and where every setting came from
//!   local.conf             the local layer that it was made from, to go back to
//!   network.json           addresses, firewall, names
//!   rootfs/                the skeleton of the root
//!   <daemon>/config.json   an OCI bundle: root.path = ../rootfs
//!   cron/<job>/config.json another one:   root.path = ../../rootfs
//! ```
//!
//! [`compose`] is a pure function of the application, the placement and the facts of the host; the
//! digest is that of its result, so the same input gives the same folder. [`write()`] puts it on
//! disk, whole or not at all; [`activate`] switches the link `bundle` to it, which is the only
//! commit point of a deployment. A folder that was written once is never changed.

mod error;
mod items;
pub mod manifest;
mod problems;
mod store;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

pub use error::BundleError;
pub use items::{Composition, Item, Mutable};
pub use manifest::{EntryKind, EntryRef, LayerRef, Manifest, Setting, read_manifest};
pub use problems::Problems;
pub use store::{activate, current, prune};
pub use write::{Written, write, write_redacted};

use crate::app::{App, CronJob, Daemon, Launch, Limits, Restart};
use crate::layers::{Config, LayerKind, Value};
use crate::network::{self, Mode, NetworkSpec};
use crate::oci::{self, EntryPoint, effective_limits, json};
use crate::platforms::settle::settle;
use crate::redact;
use crate::view::{self, HostView, Node, View};

/// The copy of the local layer in a bundle.
pub const LOCAL_COPY: &str = "local.conf";

/// How a cron job is asked to stop (SIGTERM), and how long it has.
const CRON_STOP: (i32, std::time::Duration) = (15, std::time::Duration::from_secs(10));

/// Where an instance is: what the server decided for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The name of the instance.
    pub instance: String,
    /// `<state>/<instance>`.
    pub state_dir: PathBuf,
    /// The folder of the host that is shown at `/app`.
    pub release: PathBuf,
    /// The name of the release, for people.
    pub release_id: String,
    /// The uid that it runs as.
    pub uid: u32,
    /// The gid that it runs as.
    pub gid: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The pool of `nat` mode.
    pub pool: Option<IpNet>,
    /// The pool of IPv6 addresses, too, if the server has one.
    pub pool6: Option<IpNet>,
    /// The name of the host inside.
    pub hostname: String,
    /// Name servers that an instance can ask if its policy allows it: those of the host, without
    /// loopback addresses.
    pub nameservers: Vec<IpAddr>,
    /// The site.
    pub site: Option<String>,
    /// The folder of the host with the values of `[secrets]`, a file each.
    pub secrets: PathBuf,
}

impl Placement {
    /// Where the data that survive deployments are.
    pub fn data_dir(&self) -> PathBuf {
        self.state_dir.join("data")
    }

    /// The private `/tmp` of an entry point.
    pub fn tmp_dir(&self, entry: &str) -> PathBuf {
        self.state_dir.join("tmp").join(entry)
    }

    /// The sockets at which daemons say that they are ready; bound only while somebody listens.
    pub fn notify_dir(&self) -> PathBuf {
        self.state_dir.join("etc/notify")
    }

    /// `/etc/hosts` of the instance: it changes while the instance runs, in place.
    pub fn hosts_file(&self) -> PathBuf {
        self.state_dir.join("etc/hosts")
    }
}

/// An entry point on its way into a bundle.
struct Composed<'a> {
    name: String,
    dir: PathBuf,
    rootfs: &'static str,
    launch: Launch,
    port: Option<u16>,
    limits: Limits,
    source: SourceOf<'a>,
}

/// What it was made from.
enum SourceOf<'a> {
    Daemon(&'a Daemon),
    Cron(&'a CronJob),
}

/// Composes a bundle: every file of it, with its content. Pure.
///
/// # Errors
/// [`BundleError::Refused`] with everything that does not fit at once: what a platform needs and
/// the host does not have, a release without a web application, mounts that cannot be.
pub fn compose(
    app: &App,
    config: &Config,
    place: &Placement,
    host: &HostView,
) -> Result<Composition, BundleError> {
    for path in [&place.state_dir, &place.release] {
        if !path.is_absolute() {
            return Err(BundleError::Relative { path: path.clone() });
        }
    }
    let mut problems = Problems::new(config);
    let entries = entries(app, host, &mut problems)?;
    let launches: Vec<&Launch> = entries.iter().map(|entry| &entry.launch).collect();
    let view = view::compose(app, place, host, &launches, &mut problems);
    problems.finish()?;

    let mut items = BTreeMap::new();
    items.insert(PathBuf::from("rootfs"), Item::Directory { mode: 0o755 });
    for (path, node) in &view.skeleton {
        items.insert(Path::new("rootfs").join(path), item(node));
    }
    for entry in &entries {
        for dir in entry.dir.ancestors().filter(|dir| *dir != Path::new("")) {
            items.insert(dir.to_path_buf(), Item::Directory { mode: 0o700 });
        }
        let point = EntryPoint {
            name: &entry.name,
            rootfs: entry.rootfs,
            launch: &entry.launch,
            port: entry.port,
            limits: &entry.limits,
        };
        let text = oci::config_json(app, place, &view, &point)?;
        items.insert(
            entry.dir.join("config.json"),
            Item::File { mode: 0o600, text },
        );
    }
    let network = network_spec(app, place);
    let manifest = manifest(app, config, place, &entries);
    for (name, text) in [
        ("network.json", json::to_text(&network)?),
        (manifest::FILE, json::to_text(&manifest)?),
    ] {
        items.insert(PathBuf::from(name), Item::File { mode: 0o600, text });
    }
    if let Some(local) = local_layer(config) {
        let (mode, text) = (0o600, local.to_owned());
        items.insert(PathBuf::from(LOCAL_COPY), Item::File { mode, text });
    }
    let tmp = entries
        .iter()
        .map(|entry| place.tmp_dir(&entry.name))
        .collect();
    Ok(Composition {
        items,
        manifest,
        network,
        mutable: Mutable {
            data: place.data_dir(),
            tmp,
            notify: app
                .daemons
                .values()
                .any(Daemon::says_ready)
                .then(|| place.notify_dir()),
            hosts: place.hosts_file(),
            hosts_text: view::initial_hosts(place),
            uid: place.uid,
            gid: place.gid,
        },
        secrets: items::secrets(app, config),
    })
}

/// What the entry points would see, without the rest of the bundle. Pure.
///
/// # Errors
/// As [`compose`].
pub fn view(
    app: &App,
    config: &Config,
    place: &Placement,
    host: &HostView,
) -> Result<View, BundleError> {
    let mut problems = Problems::new(config);
    let entries = entries(app, host, &mut problems)?;
    let launches: Vec<&Launch> = entries.iter().map(|entry| &entry.launch).collect();
    let view = view::compose(app, place, host, &launches, &mut problems);
    problems.finish()?;
    Ok(view)
}

/// The text of the local layer; none where there is no such file, and none of one with secrets in it:
/// bundles hold no secrets.
fn local_layer(config: &Config) -> Option<&str> {
    let mut secrets = config.section(redact::SECRETS).into_iter().flatten();
    let is_inside =
        |value: &Value| value.origin.layer == LayerKind::Local && !value.raw.starts_with("file:");
    if secrets.any(|(_, value)| is_inside(value)) {
        return None;
    }
    let mut sources = config.sources().iter();
    let local = sources.find(|source| source.layer == LayerKind::Local)?;
    Some(&local.text)
}

fn item(node: &Node) -> Item {
    match node {
        Node::Directory => Item::Directory { mode: 0o755 },
        Node::File(text) => Item::File {
            mode: 0o644,
            text: text.clone(),
        },
        Node::Link(target) => Item::Link {
            target: target.clone(),
        },
    }
}

fn entries<'a>(
    app: &'a App,
    host: &HostView,
    problems: &mut Problems<'_>,
) -> Result<Vec<Composed<'a>>, BundleError> {
    let mut entries = Vec::new();
    for daemon in app.daemons.values() {
        check_name("a daemon", &daemon.name)?;
        let limits = effective_limits(&daemon.limits, &app.sandbox.limits);
        entries.push(Composed {
            name: daemon.name.clone(),
            dir: PathBuf::from(&daemon.name),
            rootfs: "../rootfs",
            launch: settle(&daemon.launch, &limits, host, problems),
            port: daemon.port,
            limits: daemon.limits.clone(),
            source: SourceOf::Daemon(daemon),
        });
    }
    let mut slugs = BTreeSet::new();
    for job in &app.cron {
        check_name("a cron job", &job.slug)?;
        if !slugs.insert(&job.slug) {
            let reason = "another one has it already";
            return Err(BundleError::Name {
                what: "a cron job",
                name: job.slug.clone(),
                reason,
            });
        }
        entries.push(Composed {
            name: format!("cron.{}", job.slug),
            dir: Path::new("cron").join(&job.slug),
            rootfs: "../../rootfs",
            launch: settle(&job.launch, &app.sandbox.limits, host, problems),
            port: None,
            limits: Limits::default(),
            source: SourceOf::Cron(job),
        });
    }
    Ok(entries)
}

/// Names become folders of the bundle, cgroups and parts of container ids.
fn check_name(what: &'static str, name: &str) -> Result<(), BundleError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    let reason = if name.is_empty() || name.len() > 100 {
        "it has to have between 1 and 100 characters"
    } else if name.starts_with(['.', '-']) || !name.chars().all(allowed) {
        "only letters, digits and _.+- are possible, and no . or - at the beginning"
    } else if what == "a daemon" && is_taken(name) {
        "the bundle has something else of that name"
    } else {
        return Ok(());
    };
    Err(BundleError::Name {
        what,
        name: name.to_owned(),
        reason,
    })
}

fn is_taken(name: &str) -> bool {
    let files = ["rootfs", "cron", "network.json", manifest::FILE];
    files.contains(&name) || name.starts_with("cron.")
}

fn network_spec(app: &App, place: &Placement) -> NetworkSpec {
    let net = &app.sandbox.net;
    let addresses = match net.mode {
        Mode::None | Mode::Host => Vec::new(),
        _ if place.addresses.is_empty() => net.addresses.clone(),
        _ => place.addresses.clone(),
    };
    NetworkSpec {
        format: network::FORMAT,
        instance: place.instance.clone(),
        mode: net.mode,
        addresses,
        pool: place.pool.filter(|_| net.mode == Mode::Nat),
        pool6: place.pool6.filter(|_| net.mode == Mode::Nat),
        publish: net.publish.clone(),
        apart: net.apart,
        out: app.sandbox.out.clone(),
        inbound: app.sandbox.inbound.clone(),
    }
}

fn manifest(app: &App, config: &Config, place: &Placement, entries: &[Composed<'_>]) -> Manifest {
    Manifest {
        format: manifest::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: place.instance.clone(),
        app: app.name.clone(),
        release: place.release_id.clone(),
        release_path: place.release.clone(),
        site: place.site.clone(),
        uid: place.uid,
        gid: place.gid,
        hostname: place.hostname.clone(),
        digest: None,
        entries: entries
            .iter()
            .map(|entry| entry_ref(entry, place))
            .collect(),
        notify: app.notify.clone(),
        cron: app.cron_settings.clone(),
        dns: app.dns.clone(),
        systemd: app.systemd.clone(),
        smf: app.smf.clone(),
        plain: app.plain,
        secrets: (!app.secrets.is_empty()).then(|| place.secrets.clone()),
        layers: items::layers(config),
        settings: items::settings(config),
    }
}

fn entry_ref(entry: &Composed<'_>, place: &Placement) -> EntryRef {
    let common = EntryRef {
        name: entry.name.clone(),
        title: entry.name.clone(),
        kind: EntryKind::Daemon,
        platform: entry.launch.platform.to_string(),
        dir: entry.dir.clone(),
        tmp: place.tmp_dir(&entry.name),
        schedule: None,
        port: entry.port,
        health: entry.launch.health,
        stop_signal: CRON_STOP.0,
        stop_timeout: CRON_STOP.1,
        restart: Restart::Never,
        after: Vec::new(),
        checks: Vec::new(),
        notify_socket: None,
        requires: Vec::new(),
        restart_limit: None,
        service: Default::default(),
    };
    match entry.source {
        SourceOf::Daemon(daemon) => EntryRef {
            stop_signal: daemon.stop.signal,
            stop_timeout: daemon.stop.timeout,
            restart: daemon.restart,
            after: daemon.after.clone(),
            checks: daemon.checks.clone(),
            notify_socket: daemon
                .says_ready()
                .then(|| place.notify_dir().join(&daemon.name)),
            requires: daemon.requires.clone(),
            restart_limit: daemon.restart_limit,
            service: daemon.service.clone(),
            ..common
        },
        SourceOf::Cron(job) => EntryRef {
            title: job.name.clone(),
            kind: EntryKind::Cron,
            schedule: Some(job.schedule.clone()),
            ..common
        },
    }
}
