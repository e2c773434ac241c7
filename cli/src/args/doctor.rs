//! Arguments of `doctor`.

use clap::{Args, ValueEnum};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// What to look at (everything if left out)
    #[arg(value_name = "TOPIC", value_enum)]
    pub topic: Option<Topic>,
}

/// What `doctor` knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// What on this server would stop the network of instances
    Network,
}
