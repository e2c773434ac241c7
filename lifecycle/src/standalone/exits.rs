//! How a process ended, in words.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use metactl_bundles::platforms::jvm::OUT_OF_MEMORY;
use metactl_runtime::cgroup;
use metactl_runtime::process::exit_status;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::entry::Silence;
use super::process::is_dead;
use crate::error::LifecycleError;
use crate::files;
use crate::status::Exit;

/// Why something was ended that tells by itself how it is.
const NOT_READY: &str = "it did not say in time that it is ready";
/// The same of one that was ready.
pub(crate) const NOT_ALIVE: &str = "watchdog: it did not say in time that it is alive";

/// The exit of the process behind `pidfd`; `None` while it runs. `cgroups` tell whether it ran out
/// of memory.
pub(crate) fn of(pidfd: BorrowedFd<'_>, cgroups: &[PathBuf], adopted: bool) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let (code, signal) = match waitid(WaitId::PidFd(pidfd), options) {
        Ok(Some(status)) => (status.exit_status(), status.terminating_signal()),
        Ok(None) => return None,
        // Not a child of this process: it was adopted. Newer kernels tell all the same, when it is buried.
        Err(_) if is_dead(pidfd) => exit_of_stranger(pidfd),
        Err(_) => return None,
    };
    let oom = cgroup::stats(cgroups)
        .oom_kills
        .is_some_and(|kills| kills > 0);
    Some(describe(code, signal, oom, adopted))
}

/// The exit code or signal of a process that is no child of this one, where the kernel tells (Linux 6.15). Its parent
/// buries it in a moment.
fn exit_of_stranger(pidfd: BorrowedFd<'_>) -> (Option<i32>, Option<i32>) {
    for _ in 0..20 {
        match exit_status(pidfd) {
            Ok(Some(status)) => return (status.exit_status(), status.terminating_signal()),
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            // The kernel is older.
            Err(_) => break,
        }
    }
    (None, None)
}

/// What could not even be launched.
pub(crate) fn not_launched(error: &LifecycleError) -> Exit {
    Exit {
        at: files::now(),
        code: None,
        signal: None,
        reason: format!("could not be launched: {error}"),
        failed: true,
    }
}

/// What ended while nobody could see it.
pub(crate) fn lost() -> Exit {
    describe(None, None, false, true)
}

/// The exit of what was killed because it did not stop in time.
pub(crate) fn too_late(exit: Exit, limit: Duration) -> Exit {
    Exit {
        reason: format!(
            "{} (it did not stop within {} s)",
            exit.reason,
            limit.as_secs_f64()
        ),
        ..exit
    }
}

/// The exit of what was ended because it did not say in time that it is ready, or alive. It is a failure, however it
/// ended.
pub(crate) fn silent(exit: Exit, silence: Silence) -> Exit {
    let why = match silence {
        Silence::NotReady => NOT_READY,
        Silence::NotAlive => NOT_ALIVE,
    };
    Exit {
        reason: format!("{} ({why})", exit.reason),
        failed: true,
        ..exit
    }
}

/// The exit of a JVM, with what its exit code means. `dumped`: it wrote its heap down.
pub(crate) fn of_jvm(exit: Exit, dumped: bool) -> Exit {
    let out = exit.code == Some(OUT_OF_MEMORY);
    let means = match (out, dumped) {
        (true, true) => " (OutOfMemoryError; the heap is in the data)",
        // A program may end so by itself.
        (true, false) => " (as after an OutOfMemoryError)",
        (false, true) => " (the heap is in the data)",
        (false, false) => "",
    };
    Exit {
        reason: exit.reason + means,
        ..exit
    }
}

pub(crate) fn describe(code: Option<i32>, signal: Option<i32>, oom: bool, adopted: bool) -> Exit {
    // A shell, and the small init of the sandbox, say 128 + the signal.
    let by = signal.or(code
        .filter(|code| (129..=159).contains(code))
        .map(|code| code - 128));
    let mut reason = match (code, signal) {
        (_, Some(signal)) => name(signal),
        (Some(code), None) => match by {
            Some(signal) => format!("exit code {code}, {}", name(signal)),
            None => format!("exit code {code}"),
        },
        (None, None) if adopted => "ended while nobody could see its exit code".to_owned(),
        (None, None) => "ended".to_owned(),
    };
    if oom && (by == Some(9) || (code, signal) == (None, None)) {
        reason.push_str(" (out of memory)");
    }
    // Asked to end by SIGTERM, and ended: a JVM says 143.
    let failed = !matches!(code, Some(0)) && by != Some(15);
    Exit {
        at: files::now(),
        code,
        signal,
        reason,
        failed,
    }
}

/// `SIGKILL`
fn name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_in_words() {
        for (code, signal, oom, words, failed) in [
            (Some(0), None, false, "exit code 0", false),
            (Some(3), None, true, "exit code 3", true),
            (Some(143), None, false, "exit code 143, SIGTERM", false),
            (None, Some(15), false, "SIGTERM", false),
            (None, Some(9), true, "SIGKILL (out of memory)", true),
            (
                Some(137),
                None,
                true,
                "exit code 137, SIGKILL (out of memory)",
                true,
            ),
            (None, Some(11), false, "SIGSEGV", true),
        ] {
            let exit = describe(code, signal, oom, false);
            assert_eq!((exit.reason.as_str(), exit.failed), (words, failed));
        }
        assert!(describe(None, None, false, true).failed);
    }

    #[test]
    fn a_jvm_says_three_when_it_is_out_of_memory() {
        let of = |code, dumped| of_jvm(describe(Some(code), None, false, false), dumped).reason;
        assert_eq!(
            of(3, true),
            "exit code 3 (OutOfMemoryError; the heap is in the data)"
        );
        assert_eq!(of(3, false), "exit code 3 (as after an OutOfMemoryError)");
        assert_eq!(of(143, false), "exit code 143, SIGTERM");
    }

    #[test]
    fn the_exit_of_a_child_is_seen() {
        use std::os::fd::AsFd;
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "read x; exit 4"])
            .stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(of(pidfd.as_fd(), &[], false).is_none());
        drop(child.stdin.take());
        metactl_runtime::process::wait_dead(&pidfd, None).unwrap();
        assert_eq!(of(pidfd.as_fd(), &[], false).unwrap().code, Some(4));
        // Buried: from Linux 6.15 on the kernel still tells, before that nobody can know.
        let code = of(pidfd.as_fd(), &[], true).unwrap().code;
        assert!(matches!(code, Some(4) | None), "{code:?}");
        child.wait().unwrap_err();
    }
}
