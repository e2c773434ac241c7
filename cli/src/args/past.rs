//! Arguments of the commands that look back.

use clap::Args;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// How many of the last
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 30)]
    pub lines: usize,
}
