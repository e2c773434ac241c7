//! Arguments of the commands by which instances come and go.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `new`.
#[derive(Debug, Args)]
pub struct New {
    /// The name of the instance
    #[arg(value_name = "APP")]
    pub name: Option<String>,
    /// Where its source is: a URL or a folder
    #[arg(value_name = "REPO")]
    pub repo: Option<String>,
    /// A tag, branch or commit
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Remove its data, logs and user id too
    #[arg(long)]
    pub data: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Whose configuration it is
    #[arg(value_name = "FROM", value_enum)]
    pub from: Origin,
    /// A file, or a directory of them
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Only say what each would become
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose configuration can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// NAME.conf of jvmctl.
    Jvmctl,
    /// NAME.service of systemd.
    Systemd,
}

impl From<Origin> for metactl_lifecycle::Foreign {
    fn from(origin: Origin) -> metactl_lifecycle::Foreign {
        match origin {
            Origin::Jvmctl => metactl_lifecycle::Foreign::Jvmctl,
            Origin::Systemd => metactl_lifecycle::Foreign::Systemd,
        }
    }
}
