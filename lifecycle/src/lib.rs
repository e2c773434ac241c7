//! WHEN things run: deployments, supervision, cron jobs, logs.
//!
//! Everything that can be done with the applications of a server is a method of [`Manager`] (all
//! of them) or [`Instance`] (one). The command line asks, and prints what it is told.
//!
//! Three rules hold everywhere in here, and most of the code is about them:
//!
//! - **Whoever is killed, nothing is lost and nothing is left.** What should be is written down
//!   before it is made, each record is replaced as a whole, and the next command that has the
//!   instance's lock finds out what is true (`converge`) before it does its own work.
//! - **A failure changes nothing.** A bundle counts from the moment in which the link `bundle` is
//!   switched to it, and that happens when it runs. Until then every step is undone.
//! - **What a repository holds, what a build makes and what an application writes is hostile.**
//!   Names are checked, links are not followed, sandboxes end before their output is touched.
//!
//! May import `bundles` (what an instance is), `netns` (names, conflicts of addresses, counters of
//! the firewall), and of `runtime` the records of containers and processes; launching is left to
//! the program `metactl-runtime`, by its command line (`launcher`). It forbids `unsafe`.
//!
//! # Where to begin reading
//!
//! [`Instance`] has the verbs. `deploy` is the longest road and shows most of the others:
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`Manager`], [`Instance`] | the public face |
//! | `deploy` | from a tag to a running release, or back |
//! | `scm/`, `build`, `release` | source, build sandbox, immutable results |
//! | `allocation`, `accounts`, `conflicts` | user ids, addresses, ports, and who has them already |
//! | `materialize` | layers to bundle |
//! | `create`, `delete` | an instance comes and goes |
//! | `edit/` | the local layer changed, key by key or by hand; its history |
//! | `secrets` | the values of `[secrets]` on disk |
//! | `change` | start, stop, restart, and the switch between two bundles |
//! | `service/` | the service managers: who keeps instances running; one interface |
//! | `standalone/` | metactl's own service manager: one supervisor process per instance |
//! | `reload` | the configuration of now, as far as that needs no restart |
//! | `firewall`, `learn` | what a sandbox may reach, and what it tries to |
//! | `health` | whether what was started is up |
//! | `dns/` | the names of an instance in a DNS zone, while it runs |
//! | `converge` | the truth after a crash |
//! | `mend`, `tend` | the network of what runs, put back; that and the names of all instances for whom no process stays |
//! | `inspect`, [`status`], `logs`, `tail`, `moment` | what runs, what it wrote, and when |
//! | `cron` | the cron jobs, and running one now |
//! | `inside/` | the processes of what runs; thread and heap dumps, `lsof`, `strace`; tools of the server in its network |
//! | `foreground` | `metactl run` |
//! | `explain` | `why`, `check`, `compare` |
//! | `doctor` | what on this server would stop instances |
//! | `import` | configurations of others become instances |
//! | `events` | what happened to an instance |
//! | [`access`] | who may do what, and the trail of what was done |
//! | `launcher` | the command line of `metactl-runtime` |
//! | `files`, `lock`, `person`, `hosts`, `local`, `dumps` | small things on disk |
#![forbid(unsafe_code)]

pub mod access;
mod accounts;
mod allocation;
mod build;
mod change;
mod conflicts;
mod converge;
mod create;
mod cron;
mod delete;
mod deploy;
pub mod dns;
mod doctor;
mod dumps;
pub mod edit;
mod error;
mod events;
mod explain;
mod files;
mod firewall;
mod foreground;
mod health;
mod hosts;
mod import;
mod inside;
mod inspect;
mod instance;
mod interrupt;
mod launcher;
mod learn;
mod local;
mod lock;
mod logs;
mod manager;
mod materialize;
mod mend;
mod moment;
pub mod names;
mod person;
mod progress;
mod release;
mod reload;
mod resolver;
mod scm;
mod secrets;
mod service;
mod standalone;
pub mod status;
mod tail;
mod tend;
mod url;

pub use access::trail::{Deed, Outcome as DeedOutcome};
pub use create::{Created, EntryPoint};
pub use cron::CronJob;
pub use delete::{Deleted, Deletion};
pub use deploy::{DeployOptions, DeployPlan};
pub use doctor::{ChangedSetting, Diagnosis};
pub use edit::drift::{Drift, DriftedSetting};
pub use edit::editor::{Answer, Replaced};
pub use edit::{ChangedKey, Edit, EditedLayer, Effective};
pub use error::{Class, LifecycleError, Result};
pub use events::{Event, EventKind, EventSink};
pub use firewall::{Firewall, OpenConnection};
pub use import::{Foreign, Import};
pub use inside::{HeapDump, Process, Sampler, ThreadDump, Threads, Usage, Watcher};
pub use instance::{Change, Deployed, Instance, LineSink, LogFile, Materialized, UnitStep};
pub use interrupt::Interrupt;
pub use learn::{Lesson, Proposal};
pub use logs::search::LogFilter;
pub use manager::{Manager, RunTarget};
pub use metactl_netns::doctor::Finding;
pub use metactl_netns::policy::learn::Learned;
pub use metactl_netns::policy::{Direction, EntryStatus as FirewallEntry, FirewallStatus, Refused};
pub use metactl_netns::resolver::{NameAsked, NameRefused, NamesAsked};
pub use moment::since;
pub use progress::{Progress, Silent};
pub use reload::{Reload, Reloaded};
pub use service::{Choice as ServiceChoice, Kind as ServiceKind};
pub use status::{
    DnsRecord, DnsState, DnsStatus, EntryState, EntryStatus, HealthAnswer, HealthState,
    InstanceState, Status, Summary,
};
pub use tend::Mended;
