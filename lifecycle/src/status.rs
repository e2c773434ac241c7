//! What runs of an instance, since when, and what it uses: facts for people and for JSON.
//!
//! Times are RFC 3339 in UTC. Every field that is not known is left out.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An instance in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// There is a local layer, and no release.
    NotDeployed,
    /// Nothing runs, and nothing should.
    Stopped,
    /// Entry points are being started.
    Starting,
    /// Everything runs that should.
    Running,
    /// Some of its daemons run.
    Partial,
    /// Its daemons end again and again.
    Failing,
    /// Entry points are being stopped.
    Stopping,
    /// Nobody can tell.
    Unknown,
}

impl InstanceState {
    /// The word for it: `running`.
    pub fn word(self) -> &'static str {
        match self {
            InstanceState::NotDeployed => "not deployed",
            InstanceState::Stopped => "stopped",
            InstanceState::Starting => "starting",
            InstanceState::Running => "running",
            InstanceState::Partial => "partial",
            InstanceState::Failing => "failing",
            InstanceState::Stopping => "stopping",
            InstanceState::Unknown => "unknown",
        }
    }
}

/// An entry point in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// It does not run, and should not.
    Stopped,
    /// It waits for its turn, or is being launched.
    Starting,
    /// It runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// It ended, and will be started again in a moment.
    Waiting,
    /// It ended, and is not started again (`restart =` says so).
    Ended,
    /// A cron job between two runs.
    Scheduled,
}

impl EntryState {
    /// The word for it: `running`.
    pub fn word(self) -> &'static str {
        match self {
            EntryState::Stopped => "stopped",
            EntryState::Starting => "starting",
            EntryState::Running => "running",
            EntryState::Stopping => "stopping",
            EntryState::Waiting => "waiting",
            EntryState::Ended => "ended",
            EntryState::Scheduled => "scheduled",
        }
    }
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

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// When it was seen.
    pub at: String,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// In words: `exit code 3`, `SIGKILL (out of memory)`, `could not be launched: ...`.
    pub reason: String,
    /// Whether it counts as a failure (exit by SIGTERM does not).
    pub failed: bool,
}

/// What is known of one entry point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryStatus {
    /// Its name: a daemon's section, a cron job's key.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// How it is.
    pub state: EntryState,
    /// Its first process, as the server numbers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Since when it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How often it was started again since it was last started by somebody.
    pub restarts: u32,
    /// Bytes of memory that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// What it is asked, and answers; only of one that runs, when somebody asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthAnswer>,
    /// What it says of itself (`STATUS=`, sd_notify(3)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// The TCP port that it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How it ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Cron jobs: the five fields, or `@daily` and friends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Cron jobs: the next run. Waiting daemons: the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Its log: a file, or the command that prints it.
    pub log: PathBuf,
}

/// What a daemon is asked, and what it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthAnswer {
    /// The last part of the name of `[health.NAME]`; none for a daemon that only has a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The question: `GET /healthz`, `port 80`.
    pub question: String,
    /// The answer in one word.
    pub state: HealthState,
    /// The answer itself, or why there is none: `200`, `exit code 1: no database`.
    pub answer: String,
    /// When it was asked.
    pub at: String,
}

/// An answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// A good one.
    Healthy,
    /// A bad one, or none in time.
    Ill,
    /// Nobody could ask, or wait long enough.
    Unknown,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseInfo {
    /// The name of its directory: `1.2.3-9f2c1e4-1`.
    pub id: String,
    /// What was asked for: a tag, branch or commit.
    pub tag: String,
    /// The full commit.
    pub commit: String,
    /// When it was made.
    pub built: String,
}

/// `metactl APP status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The instance.
    pub instance: String,
    /// How it is.
    pub state: InstanceState,
    /// Its application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The release that it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseInfo>,
    /// The digest of the bundle in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The user that it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Since when the daemon that runs longest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Bytes of memory that all its entry points use together, with what is cached for them: what its limit is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The limit of that, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Whether its daemons answer well; not known when nobody asks, or has an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// The process that keeps it running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<i32>,
    /// Whether it is started when the server boots.
    pub enabled: bool,
    /// Its daemons, then its cron jobs.
    pub entries: Vec<EntryStatus>,
    /// Its names in the DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// What else is worth knowing: what was cleaned up, names that have no address.
    pub notes: Vec<String>,
}

/// How it stands with the names of an instance in the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// The records that there should be, and those that should be gone but may not be.
    pub records: Vec<DnsRecord>,
    /// Whether its daemons are healthy, which the name of the application is for; not known at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// What stands in the way, a sentence each.
    pub troubles: Vec<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A record of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecord {
    /// Its name.
    pub name: String,
    /// `A`, `AAAA` or `PTR`.
    pub kind: String,
    /// The address, or the name of the address.
    pub data: String,
    /// How it is.
    pub state: DnsState,
}

/// A record in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsState {
    /// A name server has said that it is there.
    Registered,
    /// It is not certain to be there yet.
    Waiting,
    /// It is not certain to be gone yet.
    Leaving,
}

impl DnsStatus {
    /// Its names that are registered, each once.
    pub fn names(&self) -> Vec<&str> {
        let is_name =
            |record: &&DnsRecord| record.state == DnsState::Registered && record.kind != "PTR";
        let names = self.records.iter().filter(is_name);
        let mut names: Vec<&str> = names.map(|record| record.name.as_str()).collect();
        names.dedup();
        names
    }
}

/// A line of `metactl list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The instance.
    pub instance: String,
    /// How it is.
    pub state: InstanceState,
    /// The tag of its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Since when it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Bytes of memory that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// How often its daemons were started again.
    pub restarts: u32,
    /// What is worth a second look, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Summary {
    /// The line of an instance that nothing can be said about.
    pub(crate) fn unknown(instance: String, error: &crate::LifecycleError) -> Summary {
        let note = error.to_string();
        Summary {
            instance,
            state: InstanceState::Unknown,
            release: None,
            addresses: Vec::new(),
            since: None,
            memory: None,
            restarts: 0,
            note: note.lines().next().map(str::to_owned),
        }
    }
}
