//! Arguments of the commands that look at what runs, go inside, and run in the foreground.

use std::ffi::OsString;

use clap::Args;

/// Arguments of `status`.
#[derive(Debug, Default, Args)]
pub struct Status {
    /// Ask the daemons nothing: only say what is known
    #[arg(long)]
    pub no_health: bool,
    /// Wait until everything runs and answers well, for TIME at most (1m if left out)
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1m",
        conflicts_with = "no_health"
    )]
    pub wait: Option<String>,
}

/// Arguments of `gcutil`.
#[derive(Debug, Args)]
pub struct GcUtil {
    /// An entry point that is a JVM (the first that runs if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
    /// Milliseconds from line to line
    #[arg(short, long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub interval: u32,
    /// How many lines (until it is interrupted if left out)
    #[arg(short = 'n', long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
}

/// Arguments of `lsof` and `strace`.
#[derive(Debug, Args)]
pub struct Watch {
    /// An entry point (all that run if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
    /// More options for the program
    #[arg(value_name = "OPTIONS", last = true)]
    pub options: Vec<OsString>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// The entry point whose sandbox is entered (the first that runs if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
    /// The command, as seen inside the sandbox
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A directory with a `.metactl` file, or an instance
    #[arg(value_name = "PATH|APP")]
    pub target: OsString,
    /// The daemon to run; needed when there are several
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
}
