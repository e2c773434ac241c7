//! One file for each command: it asks lifecycle, and prints what lifecycle says.

mod asked;
mod bundle;
mod change;
mod check;
mod compare;
mod completion;
mod cron;
mod deploy;
mod doctor;
mod drift;
mod edit;
mod editor;
mod exec;
mod firewall;
pub(crate) mod help;
mod import;
mod inside;
mod instances;
mod learn;
mod list;
mod logs;
mod network;
mod plan;
mod reload;
mod run;
mod show;
mod status;
mod supervise;
mod why;

use std::path::PathBuf;

use clap::CommandFactory;
use metactl_bundles::paths::Paths;
use metactl_lifecycle::{Instance, LifecycleError, Manager};

use crate::args::{Cli, Command, Global};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::progress::Steps;
use crate::output::{self, Output};
use crate::words;

/// What every command gets.
pub struct Context {
    global: Global,
    manager: Manager,
    /// Whether no command was named: then the word that is no instance may have been meant for one.
    bare: bool,
    /// Where results go.
    pub output: Output,
}

/// Does what the command line says.
pub fn dispatch(cli: Cli) -> Outcome {
    let named = cli.global.app.is_some();
    let bare = cli.command.is_none();
    let command = cli.command.unwrap_or(if named {
        Command::Status
    } else {
        Command::List
    });
    let mut context = Context::new(cli.global, bare)?;
    let outcome = match &command {
        Command::List => list::run(&mut context),
        Command::Status => status::run(&mut context),
        Command::Show(args) => show::run(&mut context, args),
        Command::Dump(args) => show::dump(&mut context, args),
        Command::Why(args) => why::run(&mut context, args),
        Command::Check(args) => check::run(&mut context, args),
        Command::Compare(args) => compare::run(&mut context, args),
        Command::Get(args) => edit::get(&mut context, args),
        Command::Set(args) => edit::set(&mut context, args),
        Command::Unset(args) => edit::unset(&mut context, args),
        Command::Allow(args) => edit::allow(&mut context, args),
        Command::Config => editor::config(&mut context),
        Command::Revert(args) => editor::revert(&mut context, args),
        Command::Changed => drift::run(&mut context),
        Command::New(args) => instances::new(&mut context, args),
        Command::Delete(args) => instances::delete(&mut context, args),
        Command::Plan => plan::run(&mut context),
        Command::Bundle(args) => bundle::run(&mut context, args),
        Command::Deploy(args) => deploy::run(&mut context, args),
        Command::Rollback(args) => deploy::rollback(&mut context, args),
        Command::Releases => deploy::releases(&mut context),
        Command::Start(args) => change::start(&mut context, args),
        Command::Stop(args) => change::stop(&mut context, args),
        Command::Restart(args) => change::restart(&mut context, args),
        Command::Cron(args) => cron::run(&mut context, args),
        Command::Logs(args) => logs::run(&mut context, args),
        Command::Reload(args) => reload::run(&mut context, args),
        Command::Firewall(args) => firewall::run(&mut context, args),
        Command::Tcpdump(args) => network::tcpdump(&mut context, args),
        Command::Net(args) => network::net(&mut context, args),
        Command::Shell(args) => exec::shell(&mut context, args),
        Command::Exec(args) => exec::run(&mut context, args),
        Command::Ps(args) => inside::ps(&mut context, args),
        Command::Pid(args) => inside::pid(&mut context, args),
        Command::Stack(args) => inside::stack(&mut context, args),
        Command::Gcutil(args) => inside::gcutil(&mut context, args),
        Command::Heapdump(args) => inside::heapdump(&mut context, args),
        Command::Lsof(args) => inside::lsof(&mut context, args),
        Command::Strace(args) => inside::strace(&mut context, args),
        Command::Run(args) => run::run(&mut context, args),
        Command::Doctor(args) => doctor::run(&mut context, args),
        Command::Import(args) => import::run(&mut context, args),
        Command::Help(args) => help::run(&mut context, args),
        Command::Version => help::version(&mut context),
        Command::Completion(args) => completion::script(&mut context, args),
        Command::Complete(args) => completion::complete(&mut context, args),
        Command::Manual(args) => help::manual(&mut context, &args.page),
        Command::Supervise(args) => supervise::run(&mut context, args),
    };
    // What was printed before a failure is worth reading too.
    context.output.flush()?;
    outcome
}

impl Context {
    fn new(global: Global, bare: bool) -> Result<Context, Failure> {
        let mut manager = Manager::from_env()?;
        if let Some(root) = &global.root {
            manager.paths = Paths::under(&absolute(root)?);
        }
        let output = Output::new(&global);
        Ok(Context {
            global,
            manager,
            bare,
            output,
        })
    }

    /// The instance that the command is about.
    fn instance(&self) -> Result<Instance, Failure> {
        let Some(name) = &self.global.app else {
            let failure = Failure::usage("which instance?");
            return Err(match self.manager.instances() {
                Ok(names) if !names.is_empty() => {
                    failure.hint(format!("there are: {}", names.join(", ")))
                }
                _ => failure.hint("metactl APP COMMAND, see metactl help"),
            });
        };
        self.manager.instance(name).map_err(|error| {
            let unknown = matches!(error, LifecycleError::UnknownInstance { .. });
            let failure = Failure::from(error);
            match words::nearest_command(&Cli::command(), name) {
                Some(command) if unknown && self.bare => {
                    failure.hint(format!("or the command: metactl {command}"))
                }
                _ => failure,
            }
        })
    }

    /// Asks before something that cannot be done by accident. Without anybody to ask it is refused.
    fn confirm(&mut self, question: &str, command: &str) -> Outcome {
        self.output.flush()?;
        match output::ask(&format!("{question} [y/N] ")) {
            Some(answer) if matches!(answer.as_str(), "y" | "yes" | "Y") => Ok(()),
            Some(_) => Err(Failure::new(exit::FAILED, "nothing was changed")),
            None => Err(
                Failure::usage(format!("there is nobody to ask: {question}"))
                    .hint(format!("to do it without a question: {command} --yes")),
            ),
        }
    }

    /// Somebody who watches the steps of a change.
    fn steps(&self) -> Steps {
        Steps::new(&self.global)
    }
}

/// Directories are handed on to processes that run elsewhere.
fn absolute(path: &PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("--root {}: {error}", path.display())))
}

impl From<LifecycleError> for Failure {
    fn from(error: LifecycleError) -> Failure {
        Failure::lifecycle(&error)
    }
}
