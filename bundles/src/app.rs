//! The typed model of an application: what the merged configuration says, with every word understood.
//!
//! [`crate::model`] makes it from a configuration; everything behind it reads only these types.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::{Check, Question};
use crate::layers::Origin;
use crate::network::{Entry, Mode, Policy, Published};
use crate::schedule::CronSettings;
use crate::secrets::Hidden;
use crate::text::Str;

mod launch;

pub use launch::{
    Bound, Choice, GcLog, GeneratedFile, Health, HostNeed, JavaNeed, JvmMemory, Launch,
    ReleaseNeed, Way, WebappNeed,
};

/// One instance's application.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The name of the application (`[app] name`, else the instance's).
    pub name: String,
    /// Who is told when an entry point fails.
    pub notify: Notify,
    /// Where it is registered by name.
    pub dns: Option<Dns>,
    /// `[env]`: what every entry point gets, interpolated.
    pub env: BTreeMap<Str, EnvValue>,
    /// `[secrets]`, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// How a release is made.
    pub build: Build,
    /// What runs all the time, by name.
    pub daemons: BTreeMap<String, Daemon>,
    /// What runs at certain times, in the order of the configuration.
    pub cron: Vec<CronJob>,
    /// How that is run.
    pub cron_settings: CronSettings,
    /// The sandbox that all entry points share.
    pub sandbox: Sandbox,
    /// `[systemd.*]`: what else stands in the units of systemd.
    pub systemd: UnitSettings,
    /// `[smf.*]`: what else is said to SMF.
    pub smf: crate::smf::Settings,
    /// `[upstart] sandbox = no`: Upstart starts the plain commands.
    pub plain: bool,
}

/// `[app] notify.*`: who is told when an entry point fails.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notify {
    /// A program of the server and its arguments; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Addresses that get a mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<String>,
}

impl Notify {
    /// Whether nobody is told.
    pub fn is_empty(&self) -> bool {
        self.command.is_empty() && self.mail.is_empty()
    }
}

/// `[dns]`: the zone in which an instance with addresses of its own gets names (RFC 2136).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// The zone, in lower case and without a dot at its end.
    pub zone: String,
    /// What all healthy instances of the application are called in it. Never what only the app layer
    /// says: whoever can push could take the name of another application.
    pub app: String,
    /// The name servers that take updates, in the order in which they are tried.
    pub servers: Vec<SocketAddr>,
    /// The file with the key (TSIG, RFC 8945). Its content is read when it is used, and is in no
    /// bundle.
    pub key_file: PathBuf,
    /// What this server is called in names; `None`: as its host name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How long others may remember the names, in seconds.
    pub ttl: u32,
    /// The zones of the names of addresses; `None`: the name server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse: Option<Vec<String>>,
}

/// A value of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvValue {
    /// The value after interpolation.
    pub value: Str,
    /// Where it was written.
    pub origin: Origin,
    /// Whether it must not be printed whole (a URL with a password).
    pub sensitive: bool,
}

/// `[secrets]`: what the application gets as `/run/secrets/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where its value is.
    pub source: SecretSource,
    /// The variables of the environment that get it too, by name, and where that was written.
    pub variables: BTreeMap<String, Origin>,
    /// Where it was written.
    pub origin: Origin,
}

/// Where the value of a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Inline(Hidden),
    /// In this file of the server.
    File(PathBuf),
}

/// `[build]`: from version control to a release.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Build {
    /// Where the source is: a git URL or path.
    pub repo: Option<String>,
    /// The tag, branch or commit to deploy when the command line names none.
    pub tag: Option<String>,
    /// Other repositories, by the folder of the checkout that each is put into.
    pub more: BTreeMap<String, Repository>,
    /// A shell command that fetches the source instead of metactl.
    pub fetch: Option<String>,
    /// Who asks the repository for its source.
    pub user: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<PathBuf>,
    /// Which submodules of git are fetched.
    pub submodules: Submodules,
    /// Who has to have signed the tag.
    pub verify: Verify,
    /// A shell command, run in the checkout. None: as `tool` says.
    pub command: Option<String>,
    /// What builds when there is no command.
    pub tool: Tool,
    /// What the build reaches.
    pub network: BuildNetwork,
    /// What of the server and of other instances it reaches all the same.
    pub accept: Vec<Entry>,
    /// The memory of a build, in bytes; `None`: unlimited.
    pub memory: Option<u64>,
    /// The folder of the checkout that becomes the release (`.` by default).
    pub output: PathBuf,
    /// How long the build may take.
    pub timeout: Option<Duration>,
    /// How many releases are kept besides the one in use and the one before.
    pub keep: Option<usize>,
    /// How long a new release is watched before it counts, when there is one to go back to.
    pub watch: Duration,
    /// Extra environment of the build (`[build] env.NAME =`).
    pub env: BTreeMap<String, String>,
    /// Where `command` was written, for messages.
    pub command_origin: Option<Origin>,
    /// Where `repo` was written, for messages.
    pub repo_origin: Option<Origin>,
    /// Where `tag` was written, for messages.
    pub tag_origin: Option<Origin>,
}

/// `[build] repo.NAME` and `tag.NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Where the source is.
    pub repo: String,
    /// The tag, branch or commit.
    pub tag: String,
}

/// `[build] verify.*`: files with the keys of those who may sign tags. Nothing named: nothing is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verify {
    /// Public keys for GPG, as `gpg --export` writes them.
    pub gpg: Option<PathBuf>,
    /// Allowed signers (ssh-keygen(1)).
    pub ssh: Option<PathBuf>,
}

/// `[build] submodules`: who writes `.gitmodules` decides what a server fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Submodules {
    /// From the host that the repository is on, or from beside it.
    #[default]
    SameHost,
    /// From everywhere.
    Any,
    /// Not at all.
    None,
}

/// `[build] network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildNetwork {
    /// One of its own, masqueraded outward; nothing of the server.
    #[default]
    Nat,
    /// None at all.
    None,
    /// That of the server.
    Host,
}

/// `[build] tool`: what builds when there is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tool {
    /// As the files of the checkout tell.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// `nla-deploy.sh TARGET ENV APPS`, the contract of metactl's ancestor.
    Nla,
    /// `pom.xml`.
    Maven,
    /// `build.gradle`, `build.gradle.kts`.
    Gradle,
    /// `package.json`.
    Npm,
    /// `Cargo.toml`.
    Cargo,
    /// `Makefile`.
    Make,
    /// `setup.py`, `pyproject.toml`.
    Python,
}

impl Tool {
    /// As the key has them.
    pub const NAMES: &[&str] = &[
        "auto", "none", "nla", "maven", "gradle", "npm", "cargo", "make", "python",
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Tool {
        match name {
            "none" => Tool::None,
            "nla" => Tool::Nla,
            "maven" => Tool::Maven,
            "gradle" => Tool::Gradle,
            "npm" => Tool::Npm,
            "cargo" => Tool::Cargo,
            "make" => Tool::Make,
            "python" => Tool::Python,
            _ => Tool::Auto,
        }
    }
}

/// `[daemon.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// The last part of the section's name.
    pub name: String,
    /// What starts the process: the platform's command line, environment and needs.
    pub launch: Launch,
    /// The TCP port that it serves, if it does (`port =`, or the platform's default).
    pub port: Option<u16>,
    /// Limits of this entry point alone, inside those of the instance.
    pub limits: Limits,
    /// How it is asked to stop.
    pub stop: Stop,
    /// When it is started again.
    pub restart: Restart,
    /// Names of daemons that are started before this one.
    pub after: Vec<String>,
    /// What it is asked before it counts as up (`[health.NAME]`).
    pub checks: Vec<Check>,
    /// Those of them that it cannot do without: it runs while they do.
    pub requires: Vec<String>,
    /// How often in a row it is started again; for ever without it.
    pub restart_limit: Option<u32>,
    /// What it and the service manager do for each other.
    pub service: ServiceTies,
    /// Where the section was first written.
    pub origin: Origin,
}

impl Daemon {
    /// Whether somebody waits for it to say that it is ready (sd_notify(3)).
    pub fn says_ready(&self) -> bool {
        let mut checks = self.checks.iter();
        self.service.notify || checks.any(|check| check.question == Question::Notify)
    }
}

/// A line of `[crontab]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CronJob {
    /// The name as written: `daily housekeeping`.
    pub name: String,
    /// The name as a file name: `daily-housekeeping`. Unique within the instance.
    pub slug: String,
    /// The five fields, or `@daily` and friends.
    pub schedule: String,
    /// The command, run by `/bin/sh -c` in the sandbox.
    pub command: String,
    /// How it is launched.
    pub launch: Launch,
    /// Where the line is.
    pub origin: Origin,
}

/// How a daemon is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The number of the signal (15 by default).
    pub signal: i32,
    /// How long it has before SIGKILL.
    pub timeout: Duration,
}

/// When a daemon that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whatever the reason (the default).
    Always,
    /// Only after a failure: an exit code other than 0 and 143, or a signal other than SIGTERM.
    OnFailure,
    /// Never.
    Never,
}

/// What a daemon and the service manager of the server do for each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTies {
    /// It tells by itself that it is ready (sd_notify(3)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notify: bool,
    /// How often it tells that it is alive, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_ms: Option<u64>,
    /// The TCP sockets that it gets: ports, or addresses with a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
}

impl ServiceTies {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == ServiceTies::default()
    }
}

/// Settings of units of systemd, as the configuration has them: by section (`service`), then by name.
pub type UnitSettings = BTreeMap<String, BTreeMap<String, String>>;

/// Limits of resources. `None` is "no limit of its own".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors, in thousandths of one (1500 is one and a half).
    pub cpu_millis: Option<u64>,
    /// Open files (RLIMIT_NOFILE).
    pub files: Option<u64>,
}

/// `[sandbox]` and its subsections, `[firewall.*]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// A root tree of the user's own, instead of the view of the host.
    pub rootfs: Option<PathBuf>,
    /// An existing account instead of an allocated uid.
    pub user: Option<String>,
    /// Limits of the instance as a whole.
    pub limits: Limits,
    /// `[sandbox.mounts]`: what else the instance sees of the host.
    pub mounts: Vec<HostMount>,
    /// Capabilities that stay (none by default), as `CAP_NET_BIND_SERVICE`.
    pub capabilities: Vec<String>,
    /// The network.
    pub net: Net,
    /// What may go out.
    pub out: Policy,
    /// What may come in.
    pub inbound: Policy,
}

/// One `[sandbox.mounts]` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    /// The path on the host.
    pub source: PathBuf,
    /// The path inside.
    pub target: PathBuf,
    /// Whether the application may write.
    pub writable: bool,
    /// Where the line is.
    pub origin: Origin,
}

/// `[sandbox.net]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    /// How the instance reaches the network.
    pub mode: Mode,
    /// The addresses, from `ip =`. Empty in `nat` mode: one is taken from the pool.
    pub addresses: Vec<IpAddr>,
    /// Where `ip` was written.
    pub ip_origin: Option<Origin>,
    /// Ports of the server that lead to the instance, from `publish =`.
    pub publish: Vec<Published>,
    /// Where `publish` was written.
    pub publish_origin: Option<Origin>,
    /// See [`NetworkSpec::apart`](crate::network::NetworkSpec::apart).
    pub apart: bool,
}
