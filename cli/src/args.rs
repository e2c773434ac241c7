//! The one definition of the command line. [`crate::words`] brings both word orders into its form.

mod change;
mod cron;
mod doctor;
mod edit;
mod examples;
mod explain;
mod inside;
mod instances;
mod mend;
mod network;
mod past;
mod service;

use std::path::PathBuf;

pub use change::{Bundle, Deploy, Entry, Rollback, Stop};
pub use cron::{Cron, CronAction};
pub use doctor::{Doctor, Topic};
pub use edit::{Allow, Get, Revert, Set, Unset};
pub use examples::definition;
pub use explain::{Check, Compare, Complete, Completion, Dump, Help, Manual, Shell, Show, Why};
pub use inside::{Exec, GcUtil, Run, Status, Watch};
pub use instances::{Delete, Import, New};
pub use mend::Mend;
pub use network::{Firewall, Net, Reload, Tcpdump};
pub use past::{Events, History, Logs, Top};
pub use service::{Step, Supervise, Unit};

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
        override_usage = "metactl APP status [--no-health] [--wait[=TIME]]",
        after_help = "\
As root it asks what [health.NAME] asks, for 2 s at most, and shows the answers. --wait goes on asking until all of
it runs and is healthy; what is stopped is not waited for.
Exit codes: 0 it runs, 3 it is stopped, 4 it runs in part or nobody can tell; after --wait also: it is not healthy."
    )]
    Status(Status),
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
    /// Print one effective value, for scripts
    #[command(
        override_usage = "metactl APP get KEY [--secrets]",
        after_help = "Examples: metactl myapp get env:DB_HOST\n          metactl myapp get jvm.heap.max"
    )]
    Get(Get),
    /// Change keys of the local layer, all of them or none
    #[command(
        override_usage = "metactl APP set KEY=VALUE... [--gone KEY]... [--inherit KEY]...",
        after_help = "\
KEY is SECTION:KEY (env:DB_HOST, daemon.webapp:port), or KEY alone where only one section can be meant.
Nothing is written when the configuration would be wrong. Comments and order of the file stay.
KEY=- reads the value from standard input, where no list of processes and no history of a shell has it.
Examples: metactl myapp set env:DB_HOST=mysql.example.org env:DB_PORT=3306
          metactl myapp set secrets:DB_PASSWORD=-
          metactl myapp set secrets:TLS_KEY=- < key.pem"
    )]
    Set(Set),
    /// Take keys of the local layer back
    #[command(
        override_usage = "metactl APP unset [--gone|--inherit] KEY...",
        after_help = "\
A value of the local layer is removed, so that what lower layers say counts again. When only lower layers say
something, `unset KEY` is written, which takes that away. --gone and --inherit want the one or the other."
    )]
    Unset(Unset),
    /// Allow connections to a destination: [firewall.out.accept] of the local layer
    #[command(
        override_usage = "metactl APP allow NAME=DESTINATION... [--later]",
        after_help = "\
What runs is allowed it at once: nothing is restarted, and open connections stay. What [firewall.out.reject] names stays
refused, and that is said.
Example: metactl myapp allow smtp=smtp.example.org:25"
    )]
    Allow(Allow),
    /// Edit the local layer in $VISUAL or $EDITOR; only what is valid replaces it
    #[command(override_usage = "metactl APP config")]
    Config,
    /// Say what differs between what runs and what is configured
    #[command(
        override_usage = "metactl APP changed",
        after_help = "Exit codes: 0 nothing, 2 something; a restart makes it run."
    )]
    Changed,
    /// Go back to the local layer that the bundle in use was made from
    #[command(override_usage = "metactl APP revert [--last] [--yes]")]
    Revert(Revert),
    /// Make an instance: write its local layer, with what its repository says
    #[command(
        override_usage = "metactl new APP [REPO] [--tag TAG]",
        after_help = "\
Without --tag: the tag of the site, else the newest one, else the branch of HEAD. Nothing of the repository is run.
Example:  metactl new myapp https://git.example.org/myapp.git"
    )]
    New(New),
    /// Stop an instance and remove it; its data and logs stay
    #[command(override_usage = "metactl APP delete [--data] [--yes]")]
    Delete(Delete),
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
    /// Switch back to a release that is still there, without fetching or building
    #[command(
        override_usage = "metactl APP rollback [RELEASE]",
        after_help = "\
Without RELEASE: the one before that in use. The configuration is that of now; when the release does not come up,
what ran before runs again.
Examples: metactl myapp rollback
          metactl myapp rollback 1.2.3"
    )]
    Rollback(Rollback),
    /// List the releases that are there
    #[command(override_usage = "metactl APP releases")]
    Releases,
    /// Say who did what, when, from where, and what came of it
    #[command(
        override_usage = "metactl [APP] history [-n LINES]",
        after_help = "\
Without APP: everything that was done on this server. What was refused is in it too; what was killed is `interrupted`.
Examples: metactl myapp history
          metactl history -n 100 --json"
    )]
    History(History),
    /// Print what happened to an instance: starts, exits and why, health, deployments, failures of cron jobs
    #[command(
        override_usage = "metactl APP events [-f] [--since TIME] [-n LINES]",
        after_help = "With --json an object on each line.\nExample: metactl myapp events -f --since yesterday"
    )]
    Events(Events),
    /// Show the processes of an instance by what they use
    #[command(
        override_usage = "metactl APP top [-d SECONDS] [-n LOOKS] [ENTRY]",
        after_help = "CPU is in per cent of one processor. With --json an object on a line for each look.\nExample: metactl myapp top -n 1 --json"
    )]
    Top(Top),
    /// Start an instance, or one of its entry points
    #[command(override_usage = "metactl APP start [ENTRY]")]
    Start(Entry),
    /// Stop an instance, or one of its entry points
    #[command(
        override_usage = "metactl APP stop [ENTRY] [--disable]",
        after_help = "Whether it is started at the next boot stays as it is, without --disable."
    )]
    Stop(Stop),
    /// Stop and start an instance, or one of its entry points
    #[command(override_usage = "metactl APP restart [ENTRY]")]
    Restart(Entry),
    /// Start an instance when the server boots
    #[command(
        override_usage = "metactl APP enable",
        after_help = "start and deploy do this too. Nothing is started now."
    )]
    Enable,
    /// Do not start an instance when the server boots
    #[command(
        override_usage = "metactl APP disable",
        after_help = "Nothing is stopped now; metactl APP stop --disable does both."
    )]
    Disable,
    /// Take over the firewall and the cron jobs as configured now, without stopping anything
    #[command(
        override_usage = "metactl APP reload [--cut]",
        after_help = "\
The firewall changes in one step: no packet is judged by anything but the old rules or the new ones, and open
connections stay. Those that it would refuse now are named; --cut ends them.
Exit codes: 0 done, 2 something else is configured too, which only a restart takes over: nothing was changed.
Example: metactl myapp set firewall.out:policy=reject && metactl myapp reload --cut"
    )]
    Reload(Reload),
    /// Print what an instance wrote
    #[command(
        alias = "log",
        override_usage = "metactl APP logs [-f] [-n LINES] [--since TIME] [--grep TEXT] [ENTRY]",
        after_help = "\
--since goes by the time that lines begin with; a line without one belongs to the line before.
Examples: metactl myapp logs -f web
          metactl myapp logs --since 2h --grep exception"
    )]
    Logs(Logs),
    /// List the cron jobs of an instance, with their next and last runs; or run one now
    #[command(
        override_usage = "metactl APP cron [list]\n       metactl APP cron run NAME",
        after_help = "\
run begins the job at once, in the sandbox of the running instance, prints what it writes, and ends with its exit code;
128 and the signal's number when one ended it. A job that runs already is refused. When metactl is interrupted, the
job goes on.
Examples: metactl myapp cron
          metactl myapp cron run 'daily housekeeping'"
    )]
    Cron(Cron),
    /// Show the policy of an instance, its counters, and what was refused; or learn what it needs
    #[command(
        override_usage = "metactl APP firewall [--watch]\n       metactl APP firewall learn [--for TIME] [--write]",
        after_help = "\
--watch shows it as it changes; where the output is no terminal, a line for every new refusal and when the instance stops
or runs again, and with --json an object on a line whenever something changed.
learn lets everything leave for a while, and enter where [firewall.in] restricts that, records it, and proposes the
smallest lists of entries that allow it. When the time is over the kernel itself goes back to the policy, also when this
command was killed. Ctrl-C ends it early. What a reject list names is refused all the while.
Examples: metactl myapp firewall --watch
          metactl myapp firewall learn --for 30m
          metactl myapp firewall learn --for 2h --write"
    )]
    Firewall(Firewall),
    /// Put back what others took away of the network of instances, and bring their names in the DNS up to date
    #[command(
        override_usage = "metactl [APP] mend\n       metactl mend --new",
        after_help = "\
Nothing is restarted. Without APP: all instances, and the names that deleted ones have left. A supervisor of metactl does
this by itself, and under systemd metactl-mend.timer asks for it; elsewhere a line of cron can:
* * * * * metactl mend --new
Exit codes: 0 all is as it should be, 2 something could not be put right.
Examples: metactl mend
          metactl myapp mend --json"
    )]
    Mend(Mend),
    /// Watch the packets of an instance, with the server's tcpdump
    #[command(
        override_usage = "metactl APP tcpdump [ARGUMENTS]",
        after_help = "\
ARGUMENTS are those of tcpdump(8), but for -i, -z and -Z. It runs as the person behind sudo. When the instance does
not run yet, it waits on every device, and sees the first packet that there is. The exit code is tcpdump's own.
Examples: metactl myapp tcpdump port 3306
          metactl myapp tcpdump -nn -w myapp.pcap"
    )]
    Tcpdump(Tcpdump),
    /// Run a command of the server in the network of an instance
    #[command(
        override_usage = "metactl APP net COMMAND [ARGUMENTS]",
        after_help = "\
The files and programs of the server; the addresses, routes, names and firewall of the instance. It runs as the person
behind sudo, and cannot change anything of the network. The exit code is the command's own.
Examples: metactl myapp net ss -tnp
          metactl myapp net ping -c 3 mysql.example.org
          metactl myapp net curl -sI http://localhost/"
    )]
    Net(Net),
    /// Open a shell in the sandbox of an instance
    #[command(override_usage = "metactl APP shell [ENTRY]")]
    Shell(Entry),
    /// Run a command in the sandbox of an instance
    #[command(
        override_usage = "metactl APP exec [ENTRY] -- COMMAND [ARGUMENTS]",
        after_help = "The exit code is the command's own; 128 and the signal's number when one ended it."
    )]
    Exec(Exec),
    /// List the processes of an instance
    #[command(
        override_usage = "metactl APP ps [ENTRY]",
        after_help = "PID is the server's number, INSIDE that of the sandbox. Exit code 3: nothing runs."
    )]
    Ps(Entry),
    /// Print the process id of what runs
    #[command(
        override_usage = "metactl APP pid [ENTRY]",
        after_help = "The number alone when one entry point runs. Exit code 3: nothing runs."
    )]
    Pid(Entry),
    /// Print the threads of a JVM, by jcmd of its own JDK in its sandbox
    #[command(override_usage = "metactl APP stack [ENTRY]")]
    Stack(Entry),
    /// Print how full the parts of a JVM's heap are, by jstat of its own JDK in its sandbox
    #[command(override_usage = "metactl APP gcutil [-i MS] [-n LINES] [ENTRY]")]
    Gcutil(GcUtil),
    /// Write the heap of a JVM into the data of its instance
    #[command(override_usage = "metactl APP heapdump [ENTRY]")]
    Heapdump(Entry),
    /// List what an instance has open, by lsof of the server
    #[command(
        override_usage = "metactl APP lsof [ENTRY] [-- OPTIONS]",
        after_help = "It runs as the user of the application.\nExample: metactl myapp lsof -- -i TCP"
    )]
    Lsof(Watch),
    /// Follow the system calls of an instance, by strace of the server
    #[command(
        override_usage = "metactl APP strace [ENTRY] [-- OPTIONS]",
        after_help = "It runs as the user of the application, outside the sandbox.\nExample: metactl myapp strace web -- -e trace=network"
    )]
    Strace(Watch),
    /// Run an application in the foreground, from a directory or an instance, with nothing installed
    #[command(
        override_usage = "metactl run PATH|APP [ENTRY]",
        after_help = "\
Signals are passed on and the exit code is the application's own. When it ends, nothing is left.
A directory is meant when the word holds a slash or names a directory with a .metactl file."
    )]
    Run(Run),
    /// Find what on this server would stop instances, and say the command that mends it
    #[command(
        override_usage = "metactl doctor [network]",
        after_help = "Nothing is changed. Exit codes: 0 nothing was found, 2 something was."
    )]
    Doctor(Doctor),
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
    /// A step that a unit of the service manager asks for
    #[command(hide = true, override_usage = "metactl -a APP unit STEP [WORD]")]
    Unit(Unit),
    /// Keep all instances running, where no service manager does
    #[command(
        override_usage = "metactl supervise --all",
        after_help = "\
Starts every instance that is enabled, as it was last started, and keeps it running; SIGTERM, SIGINT or SIGHUP stop all in
order. For an inittab (respawn), or as the first process of a container, whose orphans it buries then.
Without --all it is what `start` leaves behind: it ends with the last instance."
    )]
    Supervise(Supervise),
}

impl Command {
    /// The commands that are about the server as a whole: they come first, and take no instance.
    pub const SERVER_WIDE: [&'static str; 11] = [
        "list",
        "new",
        "check",
        "run",
        "doctor",
        "import",
        "help",
        "version",
        "completion",
        "complete",
        "manual",
    ];

    /// The commands whose arguments belong to another program, and are left as they are.
    pub const PASSING_ON: [&'static str; 2] = ["net", "tcpdump"];
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
    fn no_instance_can_be_called_like_a_command() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(metactl_lifecycle::names::check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn server_wide_verbs_are_commands() {
        let command = Cli::command();
        for verb in Command::SERVER_WIDE {
            assert!(command.find_subcommand(verb).is_some(), "{verb}");
        }
    }
}
