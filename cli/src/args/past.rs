//! Arguments of the commands that look back.

use clap::Args;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// How many of the last
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 30)]
    pub lines: usize,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Keep printing what happens
    #[arg(short, long)]
    pub follow: bool,
    /// Only since TIME: 2h (ago), 10:30, yesterday, 2026-11-25
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// How many of the last (30; all with --since)
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<usize>,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Keep printing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines (100; all with --since or --grep)
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<usize>,
    /// Only since TIME: 2h (ago), 10:30, yesterday, 2026-11-25
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only lines with TEXT in them, in any case if it has no capitals
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// The log of a deployment, by its number
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "entry", "entrypoint", "since", "grep"])]
    pub deploy: Option<u64>,
    /// An entry point, as if it stood alone
    #[arg(long, value_name = "ENTRY", conflicts_with = "entry")]
    pub entrypoint: Option<String>,
    /// An entry point (all of them if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds from look to look
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2.0)]
    pub delay: f64,
    /// How often (once where the output is no terminal, else until it is interrupted)
    #[arg(short = 'n', long, value_name = "LOOKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// An entry point (all that run if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
}
