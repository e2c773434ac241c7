//! The one definition of the command line. [`crate::words`] brings both word orders into its form.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Manages the life of applications on this server, each in a sandbox with an address of its own.
#[derive(Debug, Parser)]
#[command(
    name = "metactl",
    version,
    disable_help_subcommand = true,
    override_usage = "metactl [APP] [COMMAND] [ARGUMENTS]\n       metactl COMMAND [APP] [ARGUMENTS]",
    after_help = "\
metactl alone lists the instances of this server, metactl APP says what runs of one.
First steps: metactl run examples/hello        More: metactl help COMMAND, help keys, help exit-codes"
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do; nothing means `list`, or `status` with an instance.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The instance, whatever it is called
    #[arg(short = 'a', long = "app", value_name = "APP", global = true)]
    pub app: Option<String>,
    /// Keep everything of this metactl below DIR, as METACTL_ROOT does
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// Print facts as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to colour; NO_COLOR in the environment means never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, global = true)]
    pub color: Color,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Everything that metactl can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the instances of this server
    #[command(override_usage = "metactl list")]
    List,
    /// Say what runs of an instance, since when, and what it uses
    #[command(
        override_usage = "metactl APP status",
        after_help = "Exit codes: 0 it runs, 3 it is stopped, 4 it runs in part or nobody can tell."
    )]
    Status,
    /// Print the merged configuration of an instance
    #[command(
        override_usage = "metactl APP show [SECTION[:KEY]] [--origin] [--secrets]",
        after_help = "Examples: metactl myapp show env:DB_HOST\n          metactl myapp show daemon.webapp --origin"
    )]
    Show(Show),
    /// Print the steps that would start an instance, without taking any
    #[command(override_usage = "metactl APP plan")]
    Plan,
    /// Write the bundle of an instance: everything that it sees, reaches and may do
    #[command(override_usage = "metactl APP bundle [--redacted DIR]")]
    Bundle(Bundle),
    /// Fetch, build and switch to a release
    #[command(
        override_usage = "metactl APP deploy [TAG]",
        after_help = "Without TAG: the tag of the configuration ([build] tag)."
    )]
    Deploy(Deploy),
    /// Start an instance, or one of its entry points
    #[command(override_usage = "metactl APP start [ENTRY]")]
    Start(Entry),
    /// Stop an instance, or one of its entry points
    #[command(override_usage = "metactl APP stop [ENTRY]")]
    Stop(Entry),
    /// Stop and start an instance, or one of its entry points
    #[command(override_usage = "metactl APP restart [ENTRY]")]
    Restart(Entry),
    /// Print what an instance wrote
    #[command(
        alias = "log",
        override_usage = "metactl APP logs [-f] [-n LINES] [ENTRY]"
    )]
    Logs(Logs),
    /// Show the policy of an instance, its counters, and what was refused
    #[command(override_usage = "metactl APP firewall")]
    Firewall,
    /// Open a shell in the sandbox of an instance
    #[command(override_usage = "metactl APP shell [ENTRY]")]
    Shell(Entry),
    /// Run a command in the sandbox of an instance
    #[command(
        override_usage = "metactl APP exec [ENTRY] -- COMMAND [ARGUMENTS]",
        after_help = "The exit code is the command's own; 128 and the signal's number when one ended it."
    )]
    Exec(Exec),
    /// Run an application in the foreground, from a directory or an instance, with nothing installed
    #[command(
        override_usage = "metactl run PATH|APP [ENTRY]",
        after_help = "\
Signals are passed on and the exit code is the application's own. When it ends, nothing is left.
A directory is meant when the word holds a slash or names a directory with a .metactl file."
    )]
    Run(Run),
    /// Turn configurations of jvmctl or systemd into instances, without running them
    #[command(
        override_usage = "metactl import jvmctl|systemd FILE|DIRECTORY [--dry-run]",
        after_help = "\
One table says what each file becomes, then every line that could not be carried over is listed.
The files stay as they are, and nothing that exists is overwritten. Exit code 2: some are refused."
    )]
    Import(Import),
    /// Explain a command or a topic
    #[command(
        override_usage = "metactl help [COMMAND]\n       metactl help exit-codes\n       metactl help keys [WORD]"
    )]
    Help(Help),
    /// Print the version
    #[command(override_usage = "metactl version")]
    Version,
    /// Keep an instance running (what `start` leaves behind where no service manager runs)
    #[command(hide = true, override_usage = "metactl -a APP supervise")]
    Supervise,
}

impl Command {
    /// The commands that are about the server as a whole: they come first, and take no instance.
    pub const SERVER_WIDE: [&'static str; 5] = ["list", "run", "import", "help", "version"];
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

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A section, or one key of it: `env`, `env:DB_HOST`, `daemon.webapp:jvm.heap.max`
    #[arg(value_name = "SECTION[:KEY]")]
    pub what: Option<String>,
    /// Say for each value which layer, file and line it comes from, and what it overrides
    #[arg(long)]
    pub origin: bool,
    /// Print values that hold a password in full
    #[arg(long)]
    pub secrets: bool,
}

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
    /// A tag, branch or commit
    #[arg(value_name = "TAG")]
    pub tag: Option<String>,
}

/// An entry point, or all of them.
#[derive(Debug, Args)]
pub struct Entry {
    /// A daemon of the instance (all of them if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Keep printing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    pub lines: usize,
    /// An entry point (all of them if left out)
    #[arg(value_name = "ENTRY")]
    pub entry: Option<String>,
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

/// Arguments of `help`.
#[derive(Debug, Args)]
pub struct Help {
    /// A command, `exit-codes`, or `keys` (of the configuration)
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// With `keys`: only those that have this word in them
    #[arg(value_name = "WORD")]
    pub word: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn server_wide_verbs_are_commands() {
        let command = Cli::command();
        for verb in Command::SERVER_WIDE {
            assert!(command.find_subcommand(verb).is_some(), "{verb}");
        }
    }
}
