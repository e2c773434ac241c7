//! What starts an entry point: its command line, and what it needs of the host and of the release.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::layers::Origin;
use crate::text::Str;

/// What the platform made of a daemon's or cron job's section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Launch {
    /// The canonical name of the platform, `jetty9` for example.
    pub platform: Str,
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
    pub memory: Option<Box<JvmMemory>>,
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
    pub by: Cow<'static, str>,
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
    pub what: Cow<'static, str>,
    /// The key that made it necessary, for messages.
    pub origin: Option<Origin>,
    /// What to do when it is missing: `apt-get install jetty9`.
    pub hint: Cow<'static, str>,
}

/// A small file that the platform generates into the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// The content.
    pub text: String,
    /// The permission bits.
    pub mode: u32,
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
