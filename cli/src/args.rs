//! The one definition of the command line. [`crate::words`] brings both word orders into its form.

mod explain;

use std::ffi::OsString;
use std::path::PathBuf;

pub use explain::{Check, Compare, Complete, Completion, Dump, Manual, Shell, Show, Why};

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
        override_usage = "metactl APP show [SECTION[:KEY]] [--origin] [--layer LAYER] [-i] [--secrets]",
        after_help = "\
Without SECTION what is built in is left out; dump has that too.
Examples: metactl myapp show env:DB_HOST
          metactl myapp show daemon.webapp --origin
          metactl myapp show --layer site"
    )]
    Show(Show),
    /// Print the merged configuration of an instance with everything that is built in
    #[command(override_usage = "metactl APP dump [--origin] [-i] [--secrets]")]
    Dump(Dump),
    /// Say whether an instance may reach, see or have something, and which line says so
    #[command(
        override_usage = "metactl APP why DESTINATION|PATH|KEY [--from]",
        after_help = "\
Exit codes: 0 yes, 2 no or only a part of it.
Examples: metactl myapp why mysql.example.org:3306
          metactl myapp why 10.1.1.7 --from
          metactl myapp why /srv/photos
          metactl myapp why env:DB_HOST"
    )]
    Why(Why),
    /// Judge an application's repository: what is wrong, what it needs, what it asks for
    #[command(
        override_usage = "metactl check [PATH] [--site SITE]",
        after_help = "\
Needs neither root nor an instance: for a pre-commit hook or a build server. The site's file is that of
`[app] name`, else of the folder's name; -a APP names another.
Exit codes: 0 it is valid, 2 it is, but with warnings (with --site also: names are still missing), 78 it is not."
    )]
    Check(Check),
    /// Say what differs between two sites, key by key
    #[command(override_usage = "metactl APP compare SITE SITE")]
    Compare(Compare),
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
    /// Explain a command or a topic
    #[command(
        override_usage = "metactl help [COMMAND]\n       metactl help exit-codes\n       metactl help keys [KEY|WORD]"
    )]
    Help(Help),
    /// Print the version
    #[command(override_usage = "metactl version")]
    Version,
    /// Print the completion script of a shell: commands, instances, sections and keys
    #[command(
        override_usage = "metactl completion SHELL",
        after_help = "make install puts them where the shells look. For one session: source <(metactl completion bash)"
    )]
    Completion(Completion),
    /// Print what the last of WORDS could become (for the completion scripts)
    #[command(hide = true, override_usage = "metactl complete -- WORDS")]
    Complete(Complete),
    /// Print a manual page as it is installed
    #[command(hide = true, override_usage = "metactl manual PAGE")]
    Manual(Manual),
    /// Keep an instance running (what `start` leaves behind where no service manager runs)
    #[command(hide = true, override_usage = "metactl -a APP supervise")]
    Supervise,
}

impl Command {
    /// The commands that are about the server as a whole: they come first, and take no instance.
    pub const SERVER_WIDE: [&'static str; 8] = [
        "list",
        "check",
        "run",
        "help",
        "version",
        "completion",
        "complete",
        "manual",
    ];
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
    /// With `keys`: a key, explained in full, or a word that keys have in them
    #[arg(value_name = "KEY|WORD")]
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
