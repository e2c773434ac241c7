//! What an application sees of the file system, as typed entries.
//!
//! The default view is the operating system of the host, read-only: `/usr` with the links into it,
//! and a fixed list of `/etc`. Around it the sandbox's own: the release at `/app`, `/data`, a
//! private `/tmp`, `/proc`, `/dev`, small generated files in `/etc`. `[sandbox] rootfs` puts a
//! tree of the user's own in the place of the host's. `[sandbox.mounts]` adds to either.
//!
//! The root itself is a skeleton in the bundle: folders and files to mount over, links, generated
//! files. Everything else is mounted onto it, so nothing of the host is ever written to make
//! room for a mount. [`crate::oci`] turns the entries into `mounts`.

mod base;
mod host;
mod mounts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(crate) use base::normalized;
pub use host::{Access, Fact, HostView, Kind, NeedFacts, launches};

use crate::app::{App, Daemon, Launch};
use crate::bundle::{Placement, Problems};
use crate::network::{self, Mode, Peer, RESOLVER, RESOLVER6, Verdict};
use crate::platforms::APP_DIR;
use crate::secrets;

/// Where the data of the instance that survive deployments are shown.
pub const DATA_DIR: &str = "/data";

/// Where daemons say that they are ready, inside: a folder with a socket for each that does
/// (`notify = yes`, or `[health.NAME] kind = notify`).
pub const NOTIFY_DIR: &str = "/run/metactl";

/// The default `PATH`.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an instance sees. The same for all its entry points, but for `/tmp`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The skeleton of the root, by path relative to it.
    pub skeleton: BTreeMap<PathBuf, Node>,
    /// What is mounted onto it, in the order of mounting.
    pub entries: Vec<Entry>,
}

/// Something in the skeleton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder, 0755.
    Directory,
    /// A file with this text, 0644. Empty where it is only there to be mounted over.
    File(String),
    /// A symbolic link.
    Link(String),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where, inside.
    pub target: PathBuf,
    /// What.
    pub what: What,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The processes of the sandbox.
    Proc,
    /// A minimal `/dev`; the runtime makes the nodes.
    Dev,
    /// Terminals of the sandbox's own.
    DevPts,
    /// Shared memory.
    DevShm,
    /// POSIX message queues.
    DevMqueue,
    /// The private `/tmp` of the entry point: a folder on disk.
    Tmp,
    /// A folder or file of the host. Never with what is mounted below it.
    Bind {
        /// The path on the host, without symbolic links.
        source: PathBuf,
        /// Whether the application may write.
        writable: bool,
    },
}

/// Composes the view of an instance. `launches` are settled: their needs name real paths.
///
/// What is wrong goes into `problems`; the view is only of use when there are none.
pub fn compose(
    app: &App,
    place: &Placement,
    host: &HostView,
    launches: &[&Launch],
    problems: &mut Problems<'_>,
) -> View {
    let mut builder = mounts::Builder::default();
    kernel_entries(&mut builder);
    if host.root_exists {
        tree_entries(&mut builder, host);
    } else {
        problems.key(
            ("sandbox", "rootfs"),
            format!(
                "[sandbox] rootfs = {}: there is no such folder",
                host.root.display()
            ),
            "name the root folder of an unpacked system tree",
        );
    }
    own_entries(&mut builder, app, place);
    check_release(place, host, problems);
    for launch in launches {
        for need in &launch.needs {
            builder.need(host, need, problems);
        }
        for (path, file) in &launch.files {
            builder.file(path, &file.text);
        }
    }
    for mount in &app.sandbox.mounts {
        builder.host_mount(host, place, mount, problems);
    }
    builder.finish()
}

/// The text of `/etc/hosts` before any name of an accept list is known.
pub fn initial_hosts(place: &Placement) -> String {
    base::hosts(&place.hostname, &place.addresses)
}

/// What the kernel and the runtime provide.
fn kernel_entries(builder: &mut mounts::Builder) {
    builder.entry("/proc", What::Proc, Kind::Directory);
    builder.entry("/dev", What::Dev, Kind::Directory);
    builder.inner("/dev/pts", What::DevPts);
    builder.inner("/dev/shm", What::DevShm);
    builder.inner("/dev/mqueue", What::DevMqueue);
}

/// The operating system: the host's, or the user's own tree.
fn tree_entries(builder: &mut mounts::Builder, host: &HostView) {
    for (name, fact) in &host.top {
        builder.fact(&Path::new("/").join(name), fact);
    }
    for (name, fact) in &host.etc {
        let made_here = base::OWN_ETC.iter().any(|own| name.starts_with(own));
        if !made_here {
            builder.fact(&Path::new("/etc").join(name), fact);
        }
    }
}

/// A release that its own application cannot read ends in a message that nobody understands.
fn check_release(place: &Placement, host: &HostView, problems: &mut Problems<'_>) {
    let path = place.release.display();
    match host.release {
        Access::Open => {}
        Access::Missing => problems.at(
            None,
            format!("{path}: there is no such folder to be shown at {APP_DIR}"),
            "deploy the release again, or name an existing checkout",
        ),
        Access::Closed(mode) => problems.at(
            None,
            format!(
                "{path} has mode {mode:04o}: the application (uid {}) could not enter it",
                place.uid
            ),
            &format!("chmod a+rX {path}"),
        ),
    }
}

/// What belongs to the instance.
fn own_entries(builder: &mut mounts::Builder, app: &App, place: &Placement) {
    let bind = |source: PathBuf, writable| What::Bind { source, writable };
    builder.entry(APP_DIR, bind(place.release.clone(), false), Kind::Directory);
    builder.entry(DATA_DIR, bind(place.data_dir(), true), Kind::Directory);
    builder.entry("/tmp", What::Tmp, Kind::Directory);
    builder.entry("/etc/hosts", bind(place.hosts_file(), false), Kind::File);
    if app.daemons.values().any(Daemon::says_ready) {
        let shown = bind(place.notify_dir(), false);
        builder.entry(NOTIFY_DIR, shown, Kind::Directory);
    }
    for name in app.secrets.keys() {
        let target = Path::new(secrets::DIR).join(name);
        builder.entry(target, bind(place.secrets.join(name), false), Kind::File);
    }
    builder.directory("/run");
    builder.directory("/var");
    builder.link("/var/tmp", "../tmp");
    builder.link("/var/run", "../run");
    builder.link("/etc/mtab", "../proc/self/mounts");

    let name = app.sandbox.user.as_deref().unwrap_or(&place.instance);
    let account = base::Account {
        name,
        uid: place.uid,
        gid: place.gid,
    };
    let servers = nameservers(app, place);
    builder.file(Path::new("/etc/passwd"), &account.passwd());
    builder.file(Path::new("/etc/group"), &account.group());
    builder.file(Path::new("/etc/hostname"), &format!("{}\n", place.hostname));
    builder.file(Path::new("/etc/nsswitch.conf"), &base::nsswitch(&servers));
    builder.file(Path::new("/etc/resolv.conf"), &base::resolv_conf(&servers));
}

/// The name servers of the instance: metactl's own resolver, which knows the policy. Where an entry
/// names port 53 of a server's name servers, these: then the application may ask them anything.
fn nameservers(app: &App, place: &Placement) -> Vec<IpAddr> {
    let net = &app.sandbox.net;
    match net.mode {
        Mode::Host => return place.nameservers.clone(),
        Mode::None => return Vec::new(),
        Mode::Routed | Mode::Nat => {}
    }
    let out = &app.sandbox.out;
    let named = |server: &IpAddr| {
        let rejects = |entry: &network::Entry| {
            let whole = matches!(&entry.peer, Peer::Net(net) if net.contains(server))
                && entry.ports.is_empty();
            whole || names_dns(entry, server)
        };
        out.accept.iter().any(|entry| names_dns(entry, server)) && !out.reject.iter().any(rejects)
    };
    let asked: Vec<IpAddr> = match out.policy {
        Verdict::Accept => Vec::new(),
        _ => place.nameservers.iter().copied().filter(named).collect(),
    };
    if !asked.is_empty() {
        return asked;
    }
    // One is enough, it is the same process. Without addresses it gets one of the pool.
    if net.addresses.is_empty() || net.addresses.iter().any(IpAddr::is_ipv4) {
        vec![RESOLVER.into()]
    } else {
        vec![RESOLVER6.into()]
    }
}

fn names_dns(entry: &network::Entry, server: &IpAddr) -> bool {
    matches!(&entry.peer, Peer::Net(net) if net.contains(server)) && entry.names_port(53)
}
