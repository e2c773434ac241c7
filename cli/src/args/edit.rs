//! Arguments of the commands that read and change keys of the local layer.

use clap::Args;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// `env:DB_HOST`, `daemon.webapp:port`, or a key alone
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Also print a value that holds a password
    #[arg(long)]
    pub secrets: bool,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// What to write
    #[arg(value_name = "KEY=VALUE", required_unless_present_any = ["gone", "inherit"])]
    pub values: Vec<String>,
    /// Write `unset KEY`: what lower layers say does not count
    #[arg(long, value_name = "KEY")]
    pub gone: Vec<String>,
    /// Remove what the local layer says: what lower layers say counts
    #[arg(long, value_name = "KEY")]
    pub inherit: Vec<String>,
}

/// Arguments of `unset`.
#[derive(Debug, Args)]
pub struct Unset {
    /// `env:DB_HOST`, `daemon.webapp:port`, or a key alone
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<String>,
    /// Write `unset KEY` in any case: what lower layers say does not count
    #[arg(long, conflicts_with = "inherit")]
    pub gone: bool,
    /// Only remove what the local layer says: what lower layers say counts
    #[arg(long)]
    pub inherit: bool,
}

/// Arguments of `allow`.
#[derive(Debug, Args)]
pub struct Allow {
    /// A name of your own and a host name, address or prefix, with `:PORT` if wanted
    #[arg(value_name = "NAME=DESTINATION", required = true)]
    pub entries: Vec<String>,
    /// Only write it; `metactl APP reload` makes it so
    #[arg(long)]
    pub later: bool,
}

/// Arguments of `revert`.
#[derive(Debug, Args)]
pub struct Revert {
    /// To what it was before the last change
    #[arg(long)]
    pub last: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
