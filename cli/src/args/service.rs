//! Arguments of what service managers and supervisors are started by.

use clap::{Args, ValueEnum};

/// Arguments of `supervise`.
#[derive(Debug, Args)]
pub struct Supervise {
    /// Start what is enabled, and stay until a signal
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `unit`.
#[derive(Debug, Args)]
pub struct Unit {
    /// What is to be done
    #[arg(value_name = "STEP", value_enum)]
    pub step: Step,
    /// The digest of a bundle, or an entry point
    #[arg(value_name = "WORD")]
    pub word: Option<String>,
    /// The device towards the network
    #[arg(long, value_name = "DEVICE")]
    pub uplink: Option<String>,
}

/// What a unit asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// The network of a bundle.
    NetworkUp,
    /// No network any more.
    NetworkDown,
    /// An entry point has ended.
    Ended,
    /// An entry point, or the instance, is about to start.
    Prepare,
    /// An entry point of Upstart has ended.
    Stopped,
    /// The same without a sandbox.
    Event,
    /// It may be time for a cron job: cron says so.
    Job,
    /// The instance has been started.
    Booted,
}
