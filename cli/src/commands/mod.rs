//! One file for each command: it asks lifecycle, and prints what lifecycle says.

mod asked;
mod asked_for;
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
mod events;
mod exec;
mod firewall;
pub(crate) mod help;
mod history;
mod import;
mod inside;
mod instances;
mod learn;
mod list;
mod logs;
mod mend;
mod network;
mod plan;
mod reload;
mod run;
mod show;
mod status;
mod supervise;
mod top;
mod unit;
mod why;

use std::path::PathBuf;

pub use asked_for::Asked;
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
pub fn dispatch(cli: Cli, asked: &Asked) -> Outcome {
    let named = cli.global.app.is_some();
    let bare = cli.command.is_none();
    let command = cli.command.unwrap_or(if named {
        Command::Status(Default::default())
    } else {
        Command::List
    });
    let mut context = Context::new(cli.global, bare)?;
    let turn = context.manager.begin(&asked.request())?;
    let outcome = run(&mut context, &command);
    // What was printed before a failure is worth reading too.
    let outcome = context.output.flush().map_err(Failure::from).and(outcome);
    let (code, message) = Failure::summary(&outcome);
    turn.end(code, message);
    outcome
}

fn run(context: &mut Context, command: &Command) -> Outcome {
    match command {
        Command::List => list::run(context),
        Command::Status(args) => status::run(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Dump(args) => show::dump(context, args),
        Command::Why(args) => why::run(context, args),
        Command::Check(args) => check::run(context, args),
        Command::Compare(args) => compare::run(context, args),
        Command::Get(args) => edit::get(context, args),
        Command::Set(args) => edit::set(context, args),
        Command::Unset(args) => edit::unset(context, args),
        Command::Allow(args) => edit::allow(context, args),
        Command::Config => editor::config(context),
        Command::Revert(args) => editor::revert(context, args),
        Command::Changed => drift::run(context),
        Command::New(args) => instances::new(context, args),
        Command::Delete(args) => instances::delete(context, args),
        Command::Plan => plan::run(context),
        Command::Bundle(args) => bundle::run(context, args),
        Command::Deploy(args) => deploy::run(context, args),
        Command::Rollback(args) => deploy::rollback(context, args),
        Command::Releases => deploy::releases(context),
        Command::Events(args) => events::run(context, args),
        Command::Top(args) => top::run(context, args),
        Command::History(args) => history::run(context, args),
        Command::Start(args) => change::start(context, args),
        Command::Stop(args) => change::stop(context, args),
        Command::Enable => change::enable(context),
        Command::Disable => change::disable(context),
        Command::Restart(args) => change::restart(context, args),
        Command::Cron(args) => cron::run(context, args),
        Command::Logs(args) => logs::run(context, args),
        Command::Reload(args) => reload::run(context, args),
        Command::Firewall(args) => firewall::run(context, args),
        Command::Tcpdump(args) => network::tcpdump(context, args),
        Command::Mend(args) => mend::run(context, args),
        Command::Net(args) => network::net(context, args),
        Command::Shell(args) => exec::shell(context, args),
        Command::Exec(args) => exec::run(context, args),
        Command::Ps(args) => inside::ps(context, args),
        Command::Pid(args) => inside::pid(context, args),
        Command::Stack(args) => inside::stack(context, args),
        Command::Gcutil(args) => inside::gcutil(context, args),
        Command::Heapdump(args) => inside::heapdump(context, args),
        Command::Lsof(args) => inside::lsof(context, args),
        Command::Strace(args) => inside::strace(context, args),
        Command::Run(args) => run::run(context, args),
        Command::Doctor(args) => doctor::run(context, args),
        Command::Import(args) => import::run(context, args),
        Command::Help(args) => help::run(context, args),
        Command::Version => help::version(context),
        Command::Completion(args) => completion::script(context, args),
        Command::Complete(args) => completion::complete(context, args),
        Command::Manual(args) => help::manual(context, &args.page),
        Command::Supervise(args) => supervise::run(context, args),
        Command::Unit(args) => unit::run(context, args),
    }
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
