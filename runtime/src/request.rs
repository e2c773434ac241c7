//! What a caller asks for: [`LaunchRequest`].

use std::path::PathBuf;

use crate::id::ContainerId;
use crate::launch::handover::Notify;

/// Where the runtime keeps the state of containers when nothing else is said.
pub const DEFAULT_ROOT: &str = "/run/metactl/oci";

/// Where the counts of server-wide network effects are kept when nothing else is said.
pub const DEFAULT_SERVER_DIR: &str = "/run/metactl/server";

/// A container to launch.
#[derive(Debug, Clone)]
pub struct LaunchRequest {
    /// Its id, unique below `root`.
    pub id: ContainerId,
    /// The state root of the runtime, [`DEFAULT_ROOT`].
    pub root: PathBuf,
    /// The bundle: the directory that holds `config.json`.
    pub bundle: PathBuf,
    /// How far to go and who the parent is.
    pub mode: Mode,
    /// The network.
    pub network: Network,
    /// A file to write the pid of the container's first process to (decimal, no newline), in one
    /// step, before its program starts.
    pub pid_file: Option<PathBuf>,
    /// A socket that gets the outer end of the container's terminal, when nobody is in the
    /// foreground to use it (runc's documentation, "Terminals and Standard IO").
    pub console_socket: Option<PathBuf>,
    /// A socket that gets a descriptor (pidfd_open(2)) of its first process.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors of this process, from 3 on, the program keeps.
    pub preserve_fds: u32,
    /// How many of those are sockets that it is told of (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    /// Do without pivot_root(2), see [`crate::plan::Step::Pivot`].
    pub no_pivot: bool,
    /// Who makes its cgroups.
    pub cgroup_manager: CgroupManager,
    /// Without root and without a delegated cgroup, refuse a `linux.cgroupsPath` instead of leaving it out.
    pub cgroups_path_required: bool,
    /// What it gets to tell the service manager itself how it is.
    pub notify: Option<Notify>,
}

impl LaunchRequest {
    /// A container with nothing special: in the foreground, its network as `config.json` says,
    /// with a session keyring of its own.
    pub fn new(id: ContainerId, bundle: impl Into<PathBuf>) -> LaunchRequest {
        LaunchRequest {
            id,
            root: PathBuf::from(DEFAULT_ROOT),
            bundle: bundle.into(),
            mode: Mode::Foreground,
            network: Network::Config,
            pid_file: None,
            console_socket: None,
            pidfd_socket: None,
            preserve_fds: 0,
            listen_fds: 0,
            keyring: true,
            no_pivot: false,
            cgroup_manager: CgroupManager::Files,
            cgroups_path_required: false,
            notify: None,
        }
    }
}

/// Who makes the cgroups of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime, by the control files.
    #[default]
    Files,
    /// systemd; `linux.cgroupsPath` is `slice:prefix:name`.
    Systemd,
    /// Nobody: the container stays in the cgroup of the runtime. Limits are refused.
    Nobody,
    /// The unit of systemd that runs the runtime: the container stays in its cgroup, and its limits
    /// are properties of the unit.
    Unit,
}

/// How far a launch goes, and whose child the container becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The user's program runs as a child of the caller and dies with it.
    Foreground,
    /// The user's program runs as a child of the caller's *parent* (or of nobody, when that
    /// cannot be had) and survives the caller.
    Detached,
    /// Everything is prepared, the user's program waits for `start`. Otherwise
    /// like [`Mode::Detached`].
    Create,
}

/// Where the network of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// As `linux.namespaces` says: a new namespace with nothing but its loopback device, one by
    /// path, or the host's.
    Config,
    /// A new namespace that is set up from a `network.json` before the program starts and goes
    /// away with the container.
    Spec(NetworkFiles),
    /// An existing namespace: a file of `/proc/<pid>/ns/net` or a pin of it.
    Join(PathBuf),
}

/// The files that describe a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFiles {
    /// `network.json`, see [`metactl_bundles::network::NetworkSpec`].
    pub spec: PathBuf,
    /// The addresses of the host names in it: `{"db.example.org": ["10.2.0.20"]}`. A name
    /// without addresses is refused to the container, never looked up here.
    pub names: Option<PathBuf>,
    /// The device towards the physical network; the one of the default route when not said.
    pub uplink: Option<String>,
    /// Where the counts of server-wide effects are kept, [`DEFAULT_SERVER_DIR`].
    pub server_dir: PathBuf,
}
