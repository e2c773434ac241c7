//! Arguments of the commands about the network of an instance.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// End open connections that the firewall would refuse now
    #[arg(long)]
    pub cut: bool,
}

/// Arguments of `firewall`.
#[derive(Debug, Args)]
pub struct Firewall {
    /// Accept and record for a while, then propose entries
    #[arg(value_name = "ACTION", value_enum)]
    pub action: Option<FirewallAction>,
    /// Go on showing it as it changes
    #[arg(short, long, conflicts_with = "action")]
    pub watch: bool,
    /// learn: for how long (30s, 10m, 2h)
    #[arg(
        long = "for",
        value_name = "TIME",
        default_value = "10m",
        requires = "action"
    )]
    pub time: String,
    /// learn: write the proposal to the local layer, and make it so
    #[arg(long, requires = "action")]
    pub write: bool,
}

/// What else `firewall` does than show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FirewallAction {
    /// Accept and record for a while, then propose entries.
    Learn,
}

/// Arguments of `tcpdump`.
#[derive(Debug, Args)]
pub struct Tcpdump {
    /// Options and expression of tcpdump(8)
    #[arg(value_name = "ARGUMENTS", last = true)]
    pub arguments: Vec<OsString>,
}

/// Arguments of `net`.
#[derive(Debug, Args)]
pub struct Net {
    /// A command of the server
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
}
