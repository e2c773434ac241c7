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
    pub env: BTreeMap<String, EnvValue>,
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
    pub value: String,
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

/// What the platform made of a daemon's or cron job's section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Launch {
    /// The canonical name of the platform, `jetty9` for example.
    pub platform: String,
    /// The command line as seen inside the sandbox. `args[0]` may be a bare name looked up in PATH.
    pub args: Vec<String>,
    /// Environment that the platform adds (below `[env]`, which wins).
    pub env: BTreeMap<String, String>,
    /// The working directory inside the sandbox.
    pub cwd: PathBuf,
    /// Paths of the host that the platform must see, besides the default view.
    pub needs: Vec<HostNeed>,
    /// Files that the platform generates, shown read-only inside at the key's path.
    pub files: BTreeMap<PathBuf, GeneratedFile>,
    /// Whether the program handles signals and reaps children as PID 1 by itself.
    pub is_init: bool,
    /// How one finds out that it is up, when it serves a port.
    pub health: Health,
    /// The Java that it needs. Which one is decided when the bundle is composed, by what the host
    /// has: `args[0]` is then replaced when it is `java`, and `JAVA_HOME` and `PATH` name it.
    pub java: Option<JavaNeed>,
    /// The web application that a servlet container serves, looked for in the release when the
    /// bundle is composed.
    pub webapp: Option<WebappNeed>,
    /// What bounds the memory of its JVM, when it is a platform on one.
    pub memory: Option<JvmMemory>,
    /// Programs of the host of which the first that is there starts it. Decided when the bundle is
    /// composed; `args` is empty until then.
    pub choice: Option<Choice>,
    /// Files and folders of the release that have to be there.
    pub release: Vec<ReleaseNeed>,
    /// Configuration of the host that is shown when it is there, as patterns relative to `/etc` in
    /// which `*` is any one name. Only what everybody may read.
    pub etc: Vec<PathBuf>,
}

/// Several ways to start an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The ways, the best one first.
    pub ways: Vec<Way>,
    /// What they have in common, as a person would say it: "a server for Rack".
    pub what: String,
    /// The key that made it necessary, for messages.
    pub origin: Option<Origin>,
    /// What to do when none of them is there.
    pub hint: String,
}

/// One of several ways to start an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What the host has to have for it.
    pub needs: Vec<PathBuf>,
    /// The command line.
    pub args: Vec<String>,
}

/// Something that the release has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseNeed {
    /// The path, relative to the release.
    pub path: PathBuf,
    /// The key that named it, for messages.
    pub origin: Option<Origin>,
    /// What to do when it is missing.
    pub hint: String,
}

/// A Java runtime that an entry point needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JavaNeed {
    /// `jvm.home`; `None`: the host's default Java.
    pub home: Option<PathBuf>,
    /// The key that made it necessary, for messages.
    pub origin: Option<Origin>,
    /// Where the garbage collector's log goes; the option for it depends on the Java.
    pub gc_log: Option<GcLog>,
    /// Whether the JVM ends when it is out of memory, with exit code 3.
    pub exit_on_oom: bool,
    /// The oldest Java that will do.
    pub at_least: Option<u32>,
}

/// Where the log of a garbage collector goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcLog {
    /// Into a file, a path inside.
    File(PathBuf),
    /// To standard output, the daemon's own log.
    Stdout,
}

/// What bounds the memory of a JVM; `None`: nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JvmMemory {
    /// The largest heap, in bytes.
    pub heap: Option<Bound>,
    /// The heap is a share of the memory limit, by an option: in thousandths.
    pub heap_share: Option<Bound>,
    /// What it begins with, in bytes.
    pub heap_min: Option<Bound>,
    /// Classes, in bytes.
    pub metaspace: Option<Bound>,
    /// Buffers outside of the heap, in bytes.
    pub direct: Option<Bound>,
    /// Compiled code, in bytes.
    pub code_cache: Option<Bound>,
    /// The stack of a thread, in bytes.
    pub stack: Option<Bound>,
    /// How many threads there are.
    pub threads: Option<Bound>,
}

/// A number that somebody wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The number.
    pub value: u64,
    /// What says so: `jvm.heap.max`, or `-Xmx512m` of `jvm.options`.
    pub by: String,
    /// Where that was written.
    pub origin: Option<Origin>,
}

/// A web application that a servlet container serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebappNeed {
    /// The archive or folder, relative to the release; `None`: the only `*.war` of the release.
    pub war: Option<PathBuf>,
    /// The key that names it, for messages.
    pub key: &'static str,
    /// The context file of the container; `@WAR@` in it stands for the path of the application.
    pub template: String,
    /// Where the context file is generated, inside.
    pub file: PathBuf,
    /// The key that made it necessary, for messages.
    pub origin: Option<Origin>,
}

/// A path of the host that an entry point needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNeed {
    /// The path, the same on the host and inside.
    pub path: PathBuf,
    /// A file below `path` that shows that the right thing is there: `start.jar`.
    pub probe: Option<PathBuf>,
    /// What for, as a person would say it: "Java 17", "Jetty 9".
    pub what: String,
    /// The key that made it necessary, for messages.
    pub origin: Option<Origin>,
    /// What to do when it is missing: `apt-get install jetty9`.
    pub hint: String,
}

/// A small file that the platform generates into the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// The content.
    pub text: String,
    /// The permission bits.
    pub mode: u32,
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

/// How one finds out that a daemon with a port is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It listens.
    #[default]
    Tcp,
    /// It also answers `GET /`, with a status below 500.
    Http,
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
