//! WHEN things run: deployments, supervision, cron jobs, logs.
#![forbid(unsafe_code)]

mod error;
mod instance;
mod launcher;
mod manager;
pub mod names;
mod progress;
pub mod status;

pub use error::{Class, LifecycleError, Result};
pub use instance::{Change, Deployed, Instance, LineSink, LogFile, Materialized};
pub use manager::{Manager, RunTarget};
pub use metactl_netns::policy::{Direction, FirewallStatus, Refused};
pub use progress::{Progress, Silent};
pub use status::{EntryState, EntryStatus, InstanceState, Status, Summary};

fn later() -> LifecycleError {
    LifecycleError::Unavailable {
        what: "this is not available yet".to_owned(),
        hint: String::new(),
    }
}
