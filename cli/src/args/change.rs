//! Arguments of the commands that change what runs.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `bundle`.
#[derive(Debug, Args)]
pub struct Bundle {
    /// Write a copy for auditors to DIR, without passwords
    #[arg(long, value_name = "DIR")]
    pub redacted: Option<PathBuf>,
}

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    /// A tag, branch, commit or revision
    #[arg(value_name = "TAG")]
    pub tag: Option<String>,
    /// Build without running tests
    #[arg(short = 's', long)]
    pub skip_tests: bool,
    /// Show every line of the build
    #[arg(short = 'x', long)]
    pub verbose: bool,
    /// A shell in the build sandbox, before the build
    #[arg(short = 'd', long)]
    pub shell: bool,
    /// Fetch and check, and tell what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// How many releases are kept besides the one in use and the one before
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Take a tag that means another commit than it did
    #[arg(long)]
    pub moved: bool,
    /// Build and start it anew, also when it runs already
    #[arg(long)]
    pub again: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The name of a release, its tag or the beginning of its commit
    #[arg(value_name = "RELEASE")]
    pub release: Option<String>,
}

/// An entry point, or all of them.
#[derive(Debug, Args)]
pub struct Entry {
    /// A daemon of the instance (all of them if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub entry: Entry,
    /// Nor start it when the server boots
    #[arg(long, conflicts_with = "entry")]
    pub disable: bool,
}
