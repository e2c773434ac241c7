//! How units are: asked of systemd over its bus, since `systemctl show` is a process and makes systemd tell every property.

use std::collections::BTreeMap;

use metactl_runtime::systemd::bus::Bus;
use metactl_runtime::systemd::units::{self, Listed, Question};
use metactl_runtime::systemd::{SystemdError, Value, manager};

use super::names;
use crate::error::{LifecycleError, Result};
use crate::standalone::told::clean;

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitState {
    /// `loaded`, `not-found`.
    pub(super) load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub(super) active: String,
    /// `running`, `exited`, `auto-restart` and so on.
    pub(super) sub: String,
    /// Its main process.
    pub(super) pid: Option<i32>,
    /// Names this run of it.
    pub(super) invocation: String,
    /// How often it was started again by itself.
    pub(super) restarts: u32,
    /// `success`, `exit-code`, `start-limit-hit` and so on.
    pub(super) result: String,
    /// Since when it is active, in microseconds of the monotonic clock.
    pub(super) since: Option<u64>,
    /// What it says of itself (`STATUS=`, sd_notify(3)).
    pub(super) says: String,
}

impl UnitState {
    /// Whether it runs, is about to, or ends.
    pub(super) fn is_active(&self) -> bool {
        !matches!(self.active.as_str(), "" | "inactive" | "failed")
    }

    /// Whether a process of it is there, or is about to.
    pub(super) fn has_process(&self) -> bool {
        let waits = matches!(
            &*self.sub,
            "exited" | "auto-restart" | "auto-restart-queued"
        );
        self.is_active() && !waits
    }

    /// Whether somebody wants it to run: also when it has failed.
    pub(super) fn is_wanted(&self) -> bool {
        self.load != "not-found" && (self.is_active() || self.active == "failed")
    }
}

/// What is asked of a service beyond what every list of units says, with the interface that has it.
const DETAILS: [(&str, &str); 6] = [
    ("Service", "MainPID"),
    ("Service", "NRestarts"),
    ("Service", "Result"),
    ("Service", "StatusText"),
    ("Unit", "InvocationID"),
    ("Unit", "ActiveEnterTimestampMonotonic"),
];

/// What there is to ask of hundreds: each question takes a hundredth of a millisecond of systemd's time.
const SUMMARY: [(&str, &str); 2] = [
    ("Service", "NRestarts"),
    ("Unit", "ActiveEnterTimestampMonotonic"),
];
/// The units that count in there: what limits them is no news.
const KINDS: [&str; 4] = [
    "metactl-*.service",
    "metactl-*.socket",
    "metactl-*.target",
    "metactl-*.timer",
];

/// How these units are, by name.
pub(super) fn of(names: &[String]) -> Result<BTreeMap<String, UnitState>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    told(Bus::connect(false).and_then(|mut bus| {
        let listed = units::list_named(&mut bus, names)?;
        detailed(&mut bus, listed, |_| DETAILS.to_vec())
    }))
}

/// How all units are that are called like those of metactl, and that systemd has in memory. Of what runs there is no
/// word for this run of it, and no process unless somebody wants `processes`: hundreds of answers that a summary does
/// without.
pub(super) fn all(processes: bool) -> Result<BTreeMap<String, UnitState>> {
    told(Bus::connect(false).and_then(|mut bus| {
        let listed = units::list(&mut bus, &KINDS)?;
        detailed(&mut bus, listed, |unit| {
            let mut asked = SUMMARY.to_vec();
            asked.extend((unit.active == "failed").then_some(("Service", "Result")));
            asked.extend(processes.then_some(("Service", "MainPID")));
            asked
        })
    }))
}

fn detailed(
    bus: &mut Bus,
    listed: Vec<Listed>,
    details: impl Fn(&Listed) -> Vec<(&'static str, &'static str)>,
) -> std::result::Result<BTreeMap<String, UnitState>, SystemdError> {
    let mut found: BTreeMap<String, UnitState> = BTreeMap::new();
    let mut questions = Vec::new();
    for unit in &listed {
        let state = UnitState {
            load: unit.load.clone(),
            active: unit.active.clone(),
            sub: unit.sub.clone(),
            ..UnitState::default()
        };
        // Of one that does not run nothing more is of interest, nor of a network, which has no process.
        let is_network = unit.name.starts_with(names::NETWORK);
        if state.is_wanted() && unit.name.ends_with(".service") && !is_network {
            questions.extend(
                details(unit)
                    .into_iter()
                    .map(|(interface, property)| Question {
                        unit: &unit.name,
                        interface,
                        property,
                    }),
            );
        }
        found.insert(unit.name.clone(), state);
    }
    let answers = units::ask(bus, &questions)?;
    for (question, answer) in questions.iter().zip(answers) {
        if let (Some(state), Some(value)) = (found.get_mut(question.unit), answer) {
            state.learn(question.property, value);
        }
    }
    Ok(found)
}

impl UnitState {
    fn learn(&mut self, property: &str, value: Value) {
        match (property, value) {
            ("MainPID", Value::U32(pid)) => {
                self.pid = i32::try_from(pid).ok().filter(|pid| *pid != 0);
            }
            ("NRestarts", Value::U32(count)) => self.restarts = count,
            ("Result", Value::Str(result)) => self.result = result,
            ("InvocationID", Value::Bytes(id)) => self.invocation = hex(&id),
            ("StatusText", Value::Str(text)) => self.says = clean(text.as_bytes()),
            ("ActiveEnterTimestampMonotonic", Value::U64(since)) => {
                self.since = Some(since).filter(|since| *since != 0);
            }
            _ => {}
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether somebody wants a unit to stop, or to be started anew, just now.
pub(super) fn has_job(unit: &str) -> Result<bool> {
    let question = Question {
        unit,
        interface: "Unit",
        property: "Job",
    };
    let asked = Bus::connect(false).and_then(|mut bus| units::ask(&mut bus, &[question]));
    let job = told(asked)?.into_iter().next().flatten();
    Ok(matches!(job, Some(Value::U32(job)) if job != 0))
}

/// Whether the file of any of these is another than systemd has read.
pub(super) fn are_outdated<'a>(units: impl Iterator<Item = &'a str>) -> Result<bool> {
    let questions: Vec<Question<'a>> = units
        .map(|unit| Question {
            unit,
            interface: "Unit",
            property: "NeedDaemonReload",
        })
        .collect();
    let asked = Bus::connect(false).and_then(|mut bus| units::ask(&mut bus, &questions));
    Ok(told(asked)?.contains(&Some(Value::Bool(true))))
}

/// Forgets that services have failed, and how often they were started.
pub(super) fn forget_failures(services: &[String]) -> Result<()> {
    if services.is_empty() {
        return Ok(());
    }
    told(Bus::connect(false).and_then(|mut bus| {
        let mut each = services.iter();
        each.try_for_each(|service| manager::reset_failed(&mut bus, service))
    }))
}

/// The version of the systemd that runs: 252. `None`: it says none that can be understood.
pub(super) fn version() -> Result<Option<u32>> {
    told(Bus::connect(false).and_then(|mut bus| units::version(&mut bus)))
}

fn told<T>(result: std::result::Result<T, SystemdError>) -> Result<T> {
    result.map_err(|error| LifecycleError::ServiceManager {
        what: "ask systemd about its units".to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_is_understood() {
        let mut web = UnitState {
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            ..UnitState::default()
        };
        for (property, value) in [
            ("MainPID", Value::U32(31)),
            ("NRestarts", Value::U32(2)),
            ("Result", Value::Str("success".to_owned())),
            ("InvocationID", Value::Bytes(vec![0, 0xab])),
            ("ActiveEnterTimestampMonotonic", Value::U64(5_000_000)),
            ("StatusText", Value::Str(" 3\x1b[31m of 5\n".to_owned())),
        ] {
            web.learn(property, value);
        }
        assert_eq!(
            (web.pid, web.restarts, web.since, web.invocation.as_str()),
            (Some(31), 2, Some(5_000_000), "00ab")
        );
        assert!(web.is_active() && web.is_wanted());
        assert_eq!(web.says, "3[31m of 5");
        let mut none = UnitState {
            load: "not-found".to_owned(),
            active: "inactive".to_owned(),
            ..UnitState::default()
        };
        none.learn("MainPID", Value::U32(0));
        none.learn("ActiveEnterTimestampMonotonic", Value::U64(0));
        assert_eq!((none.pid, none.since), (None, None));
        assert!(!none.is_active() && !none.is_wanted());
    }
}
