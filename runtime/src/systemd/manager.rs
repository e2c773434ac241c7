//! What is asked of systemd: start a scope, change it, stop it (org.freedesktop.systemd1(5)).

use super::bus::Bus;
use super::wire::{Message, Target, Writer};
use super::{Property, Scope, SystemdError, Value};
use crate::sys;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// systemd's answer to a property that it does not know (yet).
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// A scope that is there, with a process in it that does nothing. It goes when this is dropped:
/// by then the container has to be in the scope, or systemd removes it.
#[derive(Debug)]
pub struct Started {
    placeholder: sys::Placeholder,
}

impl Started {
    /// The process that keeps the scope alive.
    pub fn pid(&self) -> i32 {
        self.placeholder.pid()
    }
}

/// Start a scope for a container that is not there yet.
///
/// # Errors
/// When systemd cannot be reached, refuses or fails.
pub fn start(scope: &Scope) -> Result<Started, SystemdError> {
    let placeholder = sys::Placeholder::new().map_err(|e| SystemdError::Placeholder(e.into()))?;
    let pid = u32::try_from(placeholder.pid()).unwrap_or_default();
    start_with(scope, pid)?;
    Ok(Started { placeholder })
}

/// Start a scope with a process in it, and wait until it is there.
///
/// # Errors
/// As [`start`]. A failed unit of the same name, left behind by somebody, is removed.
pub fn start_with(scope: &Scope, pid: u32) -> Result<(), SystemdError> {
    let mut bus = Bus::connect(scope.user)?;
    bus.subscribe()?;
    let mut properties = scope.properties.clone();
    properties.push(Property::new("PIDs", Value::U32s(vec![pid])));
    let mut again = true;
    let job = loop {
        match start_transient(&mut bus, &scope.unit, &properties) {
            Err(e) if e.is(UNIT_EXISTS) && again => {
                again = false;
                reset_failed(&mut bus, &scope.unit)?;
            }
            // An older systemd does without what only says again what the control files say.
            Err(e) if without_unknown(&e, &mut properties) => {}
            result => break result?,
        }
    };
    match wait_for(&mut bus, &job)?.as_str() {
        "done" => Ok(()),
        result => {
            reset_failed(&mut bus, &scope.unit)?;
            Err(SystemdError::Job {
                unit: scope.unit.clone(),
                result: result.to_owned(),
            })
        }
    }
}

/// Stop a scope, and forget about it should it have failed. One that is gone is fine, and so is a
/// systemd that is gone.
///
/// # Errors
/// When systemd refuses, or does not answer.
pub fn stop(unit: &str, user: bool) -> Result<(), SystemdError> {
    let mut bus = match Bus::connect(user) {
        // A host without a running systemd has no units.
        Err(SystemdError::NoBus { .. }) => return Ok(()),
        result => result?,
    };
    bus.subscribe()?;
    let mut body = Writer::default();
    body.str(unit);
    body.str("replace");
    match call(&mut bus, "StopUnit", "ss", body, unit) {
        Ok(reply) => {
            wait_for(&mut bus, &first(&reply)?)?;
        }
        Err(e) if e.is(NO_SUCH_UNIT) => return Ok(()),
        Err(e) => return Err(e),
    }
    reset_failed(&mut bus, unit)
}

/// Change properties of a scope that runs, until it ends.
///
/// # Errors
/// When systemd cannot be reached or refuses.
pub fn set_properties(unit: &str, user: bool, list: &[Property]) -> Result<(), SystemdError> {
    let mut bus = Bus::connect(user)?;
    let mut list = list.to_vec();
    loop {
        if list.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.str(unit);
        body.bool(true);
        body.properties(&list);
        match call(&mut bus, "SetUnitProperties", "sba(sv)", body, unit) {
            Err(e) if without_unknown(&e, &mut list) => {}
            result => return result.map(drop),
        }
    }
}

/// Where the manager's own cgroup is: empty for that of the system, and something like
/// `/user.slice/user-1000.slice/user@1000.service` for that of a user. Slices are below it.
///
/// # Errors
/// When systemd cannot be reached or refuses.
pub fn control_group(user: bool) -> Result<String, SystemdError> {
    if !user {
        return Ok(String::new());
    }
    let mut bus = Bus::connect(user)?;
    let mut body = Writer::default();
    body.str(MANAGER.interface);
    body.str("ControlGroup");
    let target = Target {
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        ..MANAGER
    };
    first(&bus.call(target, "ss", &body.into_bytes(), "the manager")?)
}

const MANAGER: Target<'_> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

fn call(
    bus: &mut Bus,
    member: &'static str,
    signature: &str,
    body: Writer,
    unit: &str,
) -> Result<Message, SystemdError> {
    let target = Target { member, ..MANAGER };
    bus.call(target, signature, &body.into_bytes(), unit)
}

/// The job's object path.
fn start_transient(
    bus: &mut Bus,
    unit: &str,
    properties: &[Property],
) -> Result<String, SystemdError> {
    let mut body = Writer::default();
    body.str(unit);
    body.str("replace");
    body.properties(properties);
    // No auxiliary units.
    body.array(8, |_| {});
    let signature = "ssa(sv)a(sa(sv))";
    first(&call(bus, "StartTransientUnit", signature, body, unit)?)
}

/// Forget that a unit has failed, and how often it was started. One that systemd does not have in memory has nothing to
/// forget.
///
/// # Errors
/// When systemd refuses, or does not answer.
pub fn reset_failed(bus: &mut Bus, unit: &str) -> Result<(), SystemdError> {
    let mut body = Writer::default();
    body.str(unit);
    match call(bus, "ResetFailedUnit", "s", body, unit) {
        Err(e) if !e.is(NO_SUCH_UNIT) => Err(e),
        _ => Ok(()),
    }
}

/// Wait until a job is over; its result.
fn wait_for(bus: &mut Bus, job: &str) -> Result<String, SystemdError> {
    loop {
        let signal = bus.signal()?;
        if signal.member != "JobRemoved" {
            continue;
        }
        // uoss: number, job, unit, result
        let words = signal.strings()?;
        if let [path, _, result] = words.as_slice()
            && path == job
        {
            return Ok(result.clone());
        }
    }
}

fn first(message: &Message) -> Result<String, SystemdError> {
    let text = message.strings()?.into_iter().next();
    text.ok_or(SystemdError::Protocol("an answer without a value"))
}

/// Takes the property out that this systemd does not know, if it can be done without.
fn without_unknown(error: &SystemdError, properties: &mut Vec<Property>) -> bool {
    let SystemdError::Refused { name, message, .. } = error else {
        return false;
    };
    let before = properties.len();
    if name == UNKNOWN_PROPERTY {
        properties.retain(|p| !p.optional || !message.contains(&p.name));
    }
    properties.len() < before
}
