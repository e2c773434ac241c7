//! The built-in init: PID 1 of a container whose program is not made to be one.
//!
//! It forwards signals to the program, reaps whatever is orphaned, and ends with the program, with
//! its exit code. It has the program's uid, capabilities and filter, and no descriptor at all.
//! Runs in the new process: allocates nothing.

use rustix::process::{WaitOptions, wait};

use crate::sys;

/// Lives until `child` has ended. All signals are blocked, and taken one by one.
pub fn watch(child: i32) -> ! {
    // Also the end of the report: while it is open the runtime would wait for an exec.
    if sys::close_everything().is_err() {
        sys::exit(1);
    }
    loop {
        match sys::wait_for_signal() {
            Ok(libc::SIGCHLD) => reap(child),
            // It may be gone in this very moment; then SIGCHLD comes next.
            Ok(signal) => {
                let _ = sys::kill(child, signal);
            }
            Err(rustix::io::Errno::INTR) => {}
            // A filter without rt_sigtimedwait: no signals then, but still an init.
            Err(_) => reap_blocking(child),
        }
    }
}

fn reap(child: i32) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        end_with(child, pid, status);
    }
}

fn reap_blocking(child: i32) {
    match wait(WaitOptions::empty()) {
        Ok(Some((pid, status))) => end_with(child, pid, status),
        Err(rustix::io::Errno::INTR) | Ok(None) => {}
        Err(_) => sys::exit(1),
    }
}

fn end_with(child: i32, pid: rustix::process::Pid, status: rustix::process::WaitStatus) {
    if pid.as_raw_nonzero().get() != child {
        return;
    }
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => sys::exit(code),
        (_, Some(signal)) => sys::exit(128 + signal),
        _ => {}
    }
}
