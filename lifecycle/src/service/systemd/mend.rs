//! The timer by which the networks and names of all instances are looked after, and the service that does it: a process
//! that ends, of the server and not of an instance.
//!
//! The timer comes with the first network, and ends when nothing is left to look after: no network, and no name that a
//! name server did not remove yet. What happens between two of its times (a start, an end) asks for the service at once.

use std::time::Duration;

use super::render::{Input, Text, Unit, command};
use super::states::{self, UnitState};
use super::{control, names};
use crate::dns;
use crate::error::Result;
use crate::instance::Instance;

/// How long there is nothing to do for it after the end of the last time.
const PAUSE: Duration = Duration::from_secs(30);
/// How soon the first time is after the start of the timer.
const FIRST: Duration = Duration::from_secs(5);
/// It may be late by this, so that systemd can do several things at once.
const LATE: Duration = Duration::from_secs(5);
/// How long it may take with hundreds of instances and silent name servers.
const LIMIT: Duration = Duration::from_secs(300);

/// The two units.
pub(super) fn units(input: &Input<'_>) -> [Unit; 2] {
    let mut service = Text::of_server("Networks and names of the instances of metactl");
    service.unlimited();
    service.section("Service");
    service.set("Type", "oneshot");
    let words = [&*input.metactl.to_string_lossy(), "mend", "--new"];
    service.set("ExecStart", &command(&words.map(str::to_owned)));
    service.surroundings(input);
    // Something is wrong that it cannot put right, and has said: it looks again all the same.
    service.set("SuccessExitStatus", "2");
    service.seconds("TimeoutStartSec", LIMIT);
    service.set("SyslogIdentifier", "metactl-mend");

    let mut timer = Text::of_server("Networks and names of the instances of metactl: times");
    timer.section("Timer");
    timer.seconds("OnActiveSec", FIRST);
    timer.seconds("OnUnitInactiveSec", PAUSE);
    timer.seconds("AccuracySec", LATE);
    [
        service.unit(names::MEND.to_owned()),
        timer.unit(names::MEND_TIMER.to_owned()),
    ]
}

/// Has an instance looked at now, and does not wait for it. Returns what is worth a line in the journal: the timer does
/// it a little later all the same.
pub(super) fn ask(instance: &Instance) -> Option<String> {
    let asked = dns::ask(instance).and_then(|()| wake());
    asked.err().map(|error| error.to_string())
}

/// Has all instances looked at now.
fn wake() -> Result<()> {
    let both = [names::MEND_TIMER, names::MEND];
    control::begin(&both.map(str::to_owned))
}

/// Nothing is left to look after: the timer ends. `is_left` is asked once more after that, since somebody may just have
/// come.
pub(super) fn rest(is_left: &dyn Fn() -> Result<bool>) -> Result<()> {
    if !is_active()? {
        return Ok(());
    }
    control::stop(&[names::MEND_TIMER.to_owned()])?;
    match is_left()? {
        true => control::begin(&[names::MEND_TIMER.to_owned()]),
        false => Ok(()),
    }
}

/// The last instance is deleted, and the files of both with it.
pub(super) fn rest_without_file() -> Result<()> {
    match super::dir().join(names::MEND_TIMER).exists() {
        true => Ok(()),
        false => rest(&|| Ok(false)),
    }
}

/// What keeps the timer from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A unit has no file: those of the instances are of an older metactl, or somebody removed it.
    Missing(&'static str),
    /// A unit may not be started.
    Masked(&'static str),
    /// The timer does not run.
    Stopped,
    /// The timer runs, and has no next time.
    Over,
    /// systemd does not say.
    Unknown {
        /// Why.
        why: String,
    },
    /// The service failed the last time.
    Failed {
        /// `exit-code`, `timeout` and so on.
        result: String,
    },
}

/// What keeps the timer from its work; nothing when it does it.
pub(super) fn trouble() -> Result<Option<Trouble>> {
    let units = [names::MEND_TIMER, names::MEND];
    if let Some(missing) = units
        .into_iter()
        .find(|unit| !super::dir().join(unit).exists())
    {
        return Ok(Some(Trouble::Missing(missing)));
    }
    let mut states = states::of(&units.map(str::to_owned))?;
    let mut state = |unit| states.remove(unit).unwrap_or_default();
    Ok(judge(&state(names::MEND_TIMER), &state(names::MEND)))
}

fn judge(timer: &UnitState, service: &UnitState) -> Option<Trouble> {
    let masked = [(names::MEND_TIMER, timer), (names::MEND, service)];
    if let Some((unit, _)) = masked.into_iter().find(|(_, unit)| unit.load == "masked") {
        return Some(Trouble::Masked(unit));
    }
    if !timer.is_active() {
        return Some(Trouble::Stopped);
    }
    if service.active == "failed" {
        let result = service.result.clone();
        return Some(Trouble::Failed { result });
    }
    (timer.sub == "elapsed" && !service.is_active()).then_some(Trouble::Over)
}

/// Whether the timer runs.
fn is_active() -> Result<bool> {
    let timer = names::MEND_TIMER.to_owned();
    let states = states::of(&[timer])?;
    Ok(states.values().any(UnitState::is_active))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_does_not_do_its_work_is_told() {
        let unit = |load: &str, active: &str, sub: &str, result: &str| UnitState {
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: result.to_owned(),
            ..UnitState::default()
        };
        let timer = |active, sub| unit("loaded", active, sub, "");
        let waiting = timer("active", "waiting");
        let service = |active, sub, result| unit("loaded", active, sub, result);
        let idle = service("inactive", "dead", "success");
        let busy = service("activating", "start", "success");
        let masked = unit("masked", "inactive", "dead", "");
        for (timer, service, expected) in [
            (&waiting, &idle, None),
            (&timer("active", "running"), &busy, None),
            (&timer("active", "elapsed"), &busy, None),
            (&timer("active", "elapsed"), &idle, Some(Trouble::Over)),
            (&timer("inactive", "dead"), &busy, Some(Trouble::Stopped)),
            (&timer("failed", "failed"), &idle, Some(Trouble::Stopped)),
            (&UnitState::default(), &idle, Some(Trouble::Stopped)),
            (&masked, &idle, Some(Trouble::Masked("metactl-mend.timer"))),
            (
                &waiting,
                &masked,
                Some(Trouble::Masked("metactl-mend.service")),
            ),
            (
                &waiting,
                &service("failed", "failed", "exit-code"),
                Some(Trouble::Failed {
                    result: "exit-code".to_owned(),
                }),
            ),
        ] {
            assert_eq!(judge(timer, service), expected, "{timer:?} {service:?}");
        }
    }
}
