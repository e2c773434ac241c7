//! Waiting until an instance is up: for scripts, which would ask again and again otherwise.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::instance::Instance;
use crate::status::{HealthState, InstanceState, Status};

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(300);

impl Instance {
    /// [`status_and_health`](Instance::status_and_health) as soon as everything runs and answers well, or nothing is
    /// wanted that could; at the latest after `limit`. Whether it was so then.
    ///
    /// # Errors
    /// As [`status`](Instance::status).
    pub fn status_when_settled(&self, limit: Duration) -> Result<(Status, bool)> {
        let begun = Instant::now();
        let can_ask = nix::unistd::geteuid().is_root();
        loop {
            let status = self.status_and_health()?;
            let left = limit.saturating_sub(begun.elapsed());
            let settled = is_settled(&status, can_ask);
            if settled || left.is_zero() {
                return Ok((status, settled));
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }
}

/// Whether there is nothing to wait for any more. Who cannot ask the daemons waits until they run.
fn is_settled(status: &Status, can_ask: bool) -> bool {
    let mut answers = status.entries.iter().flat_map(|entry| &entry.health);
    match status.state {
        InstanceState::Running => {
            !can_ask || answers.all(|answer| answer.state == HealthState::Healthy)
        }
        InstanceState::Stopped | InstanceState::NotDeployed => true,
        InstanceState::Starting
        | InstanceState::Stopping
        | InstanceState::Partial
        | InstanceState::Failing
        | InstanceState::Unknown => false,
    }
}
