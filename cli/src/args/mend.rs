//! Arguments of `mend`.

use clap::Args;

/// Arguments of `mend`.
#[derive(Debug, Args)]
pub struct Mend {
    /// For a timer: do what is due, say what was not said the last time, and wait for what is being started
    #[arg(long, conflicts_with = "app")]
    pub new: bool,
}
