//! `run`: a container from beginning to end, or with `--detach` until its program runs.

use std::path::{Path, PathBuf};

use lexopt::Parser;

use crate::launch::signals::Signals;
use crate::launch::{LaunchError, launch_interruptibly};
use crate::request::{CgroupManager, Mode};
use crate::state::write_atomically;
use crate::verbs::{
    Failure, Globals, LaunchOptions, Word, next, relay, unexpected, unless_exposed,
};

/// The last stage of a launch.
pub(super) const LAUNCHED: &str = "init: closing the pipe to signal completion";

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut options = LaunchOptions::default();
    let mut mode = Mode::Foreground;
    let mut keep = false;
    let mut exit_file = None;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--detach" || name == "-d" => mode = Mode::Detached,
            Word::Option(name) if name == "--keep" => keep = true,
            Word::Option(name) if name == "--exit-file" => {
                exit_file = Some(PathBuf::from(parser.value()?));
            }
            // There is none: a container in the foreground is waited for by its pidfd.
            Word::Option(name) if name == "--no-subreaper" => {}
            word if options.take(word, parser)? => {}
            word => return Err(unexpected(word)),
        }
    }
    let request = options.request(globals, mode)?;
    if mode != Mode::Detached && request.cgroup_manager == CgroupManager::Unit {
        let why = "--cgroup-manager unit hands over and goes away: it belongs to run --detach";
        return Err(Failure::Usage(why.into()));
    }
    if mode == Mode::Detached && exit_file.is_some() {
        let why = "--exit-file: run --detach does not see the end of the container";
        return Err(Failure::Usage(why.into()));
    }
    let mut signals = Signals::take_over()?;
    if mode == Mode::Detached {
        let launched = unless_exposed(launch_interruptibly(&request, Some(&mut signals)))
            .inspect_err(|_| globals.warn_of(&request))?;
        globals.warn(&launched.warnings);
        globals.note_ignored(&launched.ignored);
        globals.log.stages(launched.process.pid, LAUNCHED);
        return Ok(0);
    }
    // The chain: who started this dies, this is asked to end; this dies, the sandbox dies.
    let parent = relay::Parent::watch()?;
    let mut container = unless_exposed(launch_interruptibly(&request, Some(&mut signals)))
        .inspect_err(|_| globals.warn_of(&request))?;
    globals.warn(&container.warnings);
    globals.note_ignored(&container.ignored);
    globals.log.stages(container.process.pid, LAUNCHED);
    let console = container.console.take();
    let ended = relay::until_end(&container.pidfd, Some(&parent), console, &mut signals);
    let told = match (&exit_file, &ended) {
        (Some(path), Ok(ended)) => write_exit(path, ended.code()),
        _ => Ok(()),
    };
    if !keep {
        globals.warn(&container.remove_interruptibly(Some(&mut signals))?.warnings);
    }
    let code = ended?.code();
    told.map_err(crate::Error::from)?;
    Ok(u8::try_from(code).unwrap_or(255))
}

/// Leaves the exit code for who comes later, as a shell tells it: whole or not at all.
fn write_exit(path: &Path, code: i32) -> Result<(), LaunchError> {
    let written = write_atomically(path, format!("{code}\n").as_bytes(), 0o644);
    written.map_err(|error| {
        LaunchError::system(format!("write the exit code to {}", path.display()), error)
    })
}
