//! `run`: a container from beginning to end, or with `--detach` until its program runs.

use lexopt::Parser;

use crate::launch::launch_interruptibly;
use crate::launch::signals::Signals;
use crate::request::{CgroupManager, Mode};
use crate::verbs::{
    Failure, Globals, LaunchOptions, Word, next, relay, unexpected, unless_exposed,
};

/// The last stage of a launch.
pub(super) const LAUNCHED: &str = "init: closing the pipe to signal completion";

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut options = LaunchOptions::default();
    let mut mode = Mode::Foreground;
    let mut keep = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--detach" || name == "-d" => mode = Mode::Detached,
            Word::Option(name) if name == "--keep" => keep = true,
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
    if !keep {
        globals.warn(&container.remove_interruptibly(Some(&mut signals))?.warnings);
    }
    Ok(u8::try_from(ended?.code()).unwrap_or(255))
}
