//! `metactl supervise --all` as the first process of a container or machine.
//!
//! The first process of a pid namespace gets the orphans of all others, and has to bury them. So it does nothing
//! else: the supervisor is its child, gets its signals, and is begun again if it should be killed; what ran is
//! adopted then.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{LifecycleError, OnPath, Result};
use crate::manager::Manager;

/// How long it waits before a supervisor that was killed is begun again.
const PAUSE: Duration = Duration::from_secs(1);
/// The signals that are passed on.
const PASSED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

pub(super) fn supervise(manager: &Manager) -> Result<()> {
    let wrong = |error: Errno| LifecycleError::Unavailable {
        what: format!("signals cannot be held back: {error}"),
        hint: String::new(),
    };
    let mut held = SigSet::empty();
    PASSED.iter().for_each(|signal| held.add(*signal));
    held.add(Signal::SIGCHLD);
    held.thread_block().map_err(wrong)?;
    let mut child = begin(manager)?;
    let mut stopping = false;
    loop {
        match held.wait().map_err(wrong)? {
            Signal::SIGCHLD => {}
            signal => {
                stopping = true;
                let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
                // One that has just ended is buried below.
                let _passed_on = kill(Pid::from_raw(pid), signal);
            }
        }
        let Some(ended) = bury_all(&mut child)? else {
            continue;
        };
        if stopping {
            return Ok(());
        }
        eprintln!(
            "{} the supervisor ended ({ended}), and is begun again",
            crate::files::now()
        );
        std::thread::sleep(PAUSE);
        child = begin(manager)?;
    }
}

fn begin(manager: &Manager) -> Result<Child> {
    let mut command = Command::new(&manager.metactl);
    command.args(["supervise", "--all"]);
    // Also when they were moved by an option.
    let paths = &manager.paths;
    command.env("METACTL_CONFIG_DIR", &paths.config);
    command.env("METACTL_STATE_DIR", &paths.state);
    command.env("METACTL_CACHE_DIR", &paths.cache);
    command.env("METACTL_LOG_DIR", &paths.log);
    command.env("METACTL_RUN_DIR", &paths.run);
    command.env("METACTL_RUNTIME", &manager.runtime);
    command.spawn().on("run", &manager.metactl)
}

/// Buries everybody who has ended. How the child did, if it is among them.
fn bury_all(child: &mut Child) -> Result<Option<ExitStatus>> {
    use std::os::unix::process::ExitStatusExt;
    let own = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == own => {
                ended = Some(ExitStatus::from_raw(code << 8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == own => {
                ended = Some(ExitStatus::from_raw(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                return Err(std::io::Error::from(error)).on("wait for", "/proc".as_ref());
            }
        }
    }
}
