//! When a daemon is started again, and when it is given up (systemd.service(5), systemd.unit(5)).

use std::time::Duration;

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef};

use super::{Input, Text};
use crate::standalone::entry::{FIRST_PAUSE, GOOD_RUN, LONGEST_PAUSE};

/// From this version of systemd on the pauses can grow.
const GROWING: u32 = 254;
/// After so many restarts the pause is the longest one.
const STEPS: u32 = 8;
/// The pause before that version.
const PAUSE: Duration = Duration::from_secs(2);
/// Without a limit of its own a daemon that was started so often within [`LIMIT_WITHIN`] is given up: with pauses that
/// grow it never is.
const LIMIT: u32 = 300;
const LIMIT_WITHIN: Duration = Duration::from_secs(3600);

/// `StartLimit...=` of a daemon, in the section of the unit.
pub(super) fn limit(text: &mut Text, input: &Input<'_>, entry: &EntryRef) {
    let Some(limit) = entry.restart_limit else {
        text.seconds("StartLimitIntervalSec", LIMIT_WITHIN);
        text.set("StartLimitBurst", &LIMIT.to_string());
        return;
    };
    // The short runs that make it be given up, with the pauses after them, take less than this; as many good ones
    // take more.
    let runs = limit.saturating_add(1);
    let pauses = (1..=runs).map(|count| pause(input.grows(), count));
    let pauses = pauses.fold(Duration::ZERO, Duration::saturating_add);
    text.seconds(
        "StartLimitIntervalSec",
        GOOD_RUN.saturating_mul(runs).saturating_add(pauses),
    );
    text.set("StartLimitBurst", &runs.to_string());
}

/// `Restart=` and what belongs to it, in the section of the service.
pub(super) fn again(text: &mut Text, input: &Input<'_>, entry: &EntryRef) {
    let (word, stays) = match (entry.kind, entry.restart) {
        (EntryKind::Cron, _) => ("no", false),
        (EntryKind::Daemon, Restart::Always) => ("always", false),
        // One that has ended, as it may, is not stopped.
        (EntryKind::Daemon, Restart::OnFailure) => ("on-failure", true),
        (EntryKind::Daemon, Restart::Never) => ("no", true),
    };
    text.set("Restart", word);
    if stays {
        text.set("RemainAfterExit", "yes");
    }
    if word == "no" {
        return;
    }
    if input.grows() {
        text.seconds("RestartSec", FIRST_PAUSE);
        text.set("RestartSteps", &STEPS.to_string());
        text.seconds("RestartMaxDelaySec", LONGEST_PAUSE);
    } else {
        text.seconds("RestartSec", PAUSE);
    }
}

impl Input<'_> {
    /// Whether the pauses grow: an older systemd warns of settings that it does not know.
    fn grows(&self) -> bool {
        self.version.is_some_and(|version| version >= GROWING)
    }
}

/// The pause before a daemon is started again for the `count`th time: systemd multiplies it by the same each time
/// (service_restart_usec_next() of its service.c).
fn pause(grows: bool, count: u32) -> Duration {
    match (grows, count) {
        (false, _) => PAUSE,
        (true, ..=1) => FIRST_PAUSE,
        (true, count) if count > STEPS => LONGEST_PAUSE,
        (true, count) => {
            let whole = LONGEST_PAUSE.as_secs_f64() / FIRST_PAUSE.as_secs_f64();
            let part = f64::from(count - 1) / f64::from(STEPS);
            FIRST_PAUSE.mul_f64(whole.powf(part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let pauses: Vec<u128> = (1..=10).map(|n| pause(true, n).as_millis()).collect();
        assert_eq!(
            pauses,
            [200, 374, 699, 1309, 2449, 4582, 8572, 16036, 30000, 30000]
        );
        assert_eq!(pause(false, 9), PAUSE);
    }
}
