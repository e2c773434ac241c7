//! Arguments of `cron`.

use clap::{Args, ValueEnum};

/// Arguments of `cron`.
#[derive(Debug, Args)]
pub struct Cron {
    /// What to do
    #[arg(value_name = "ACTION", value_enum, default_value = "list")]
    pub action: CronAction,
    /// With `run`: the name of the job, as configured or as `list` has it
    #[arg(value_name = "NAME", required_if_eq("action", "run"))]
    pub name: Option<String>,
}

/// What `cron` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CronAction {
    /// List them.
    List,
    /// Run one now.
    Run,
}
