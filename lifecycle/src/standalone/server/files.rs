//! How many files the supervisor may have open: some for each instance. What it launches keeps the limit that the
//! supervisor was started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process has open without any instance.
const BASE: u64 = 100;
/// What an instance has open: its fifo, its processes, the resolver; and for a moment its records and the ends of
/// what is being launched.
const EACH: u64 = 12;

/// The limit at the beginning, when it has been raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the limit where so many instances need it, as far as that can be.
pub(super) fn allow_for(instances: usize) {
    let needed = BASE + EACH * u64::try_from(instances).unwrap_or(u64::MAX / EACH / 2);
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current.filter(|soft| *soft < needed) else {
        return;
    };
    let room = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        // In large steps, so that this is rare.
        current: Some(needed.next_power_of_two().min(room)),
        ..limit
    };
    // Where it cannot be raised, those fail for whom there is no room, and say so.
    if setrlimit(Resource::Nofile, raised).is_ok() {
        let _first = BEFORE.set(soft);
    }
}

/// The limit that what is launched gets instead of this process's own.
pub(crate) fn limit_before() -> Option<u64> {
    BEFORE.get().copied()
}
