//! Starting and stopping units, several at once, and waiting until that is done: the jobs of org.freedesktop.systemd1(5).
//! `systemctl` does the same, and is a process that takes longer to load than most units take to start.

use super::SystemdError;
use super::bus::Bus;
use super::units::WINDOW;
use super::wire::{Message, Target, Writer};

const MANAGER: Target<'_> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

/// What is to become of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// It runs, and so does what it needs.
    Start,
    /// It runs, whatever it needs or wants (`ignore-dependencies`).
    StartAlone,
    /// It does not run.
    Stop,
}

impl Aim {
    /// The method, and the mode of its job: what is wanted now counts more than what was wanted before.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Aim::Start => ("StartUnit", "replace"),
            Aim::StartAlone => ("StartUnit", "ignore-dependencies"),
            Aim::Stop => ("StopUnit", "replace"),
        }
    }
}

/// What became of the job of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The unit.
    pub unit: String,
    /// `done`, `failed`, `dependency`, `timeout`, `canceled` and so on.
    pub result: String,
}

impl Done {
    /// Whether it is as it was to be.
    pub fn is_good(&self) -> bool {
        // `skipped`: somebody wrote a condition that does not hold, or it had nothing to do.
        matches!(&*self.result, "done" | "skipped")
    }
}

/// Begins jobs for all of these units, and does not wait for their ends.
///
/// # Errors
/// When systemd refuses one of them: the others have begun all the same, and theirs is the error that is lost.
pub fn begin(bus: &mut Bus, aim: Aim, units: &[String]) -> Result<(), SystemdError> {
    queue(bus, aim, units).map(drop)
}

/// The same, and waits until all of them have ended, however long that takes. What became of each is told in the order of
/// the units.
///
/// # Errors
/// As [`begin`], and a connection that breaks.
pub fn run(bus: &mut Bus, aim: Aim, units: &[String]) -> Result<Vec<Done>, SystemdError> {
    bus.subscribe()?;
    let jobs = queue(bus, aim, units)?;
    let mut ends: Vec<Option<String>> = vec![None; jobs.len()];
    bus.be_patient(true)?;
    while ends.iter().any(Option::is_none) {
        if let Some((job, result)) = ended(&bus.signal()?)? {
            let own = ends.iter_mut().zip(&jobs).filter(|(_, own)| **own == job);
            own.for_each(|(end, _)| *end = Some(result.clone()));
        }
    }
    bus.be_patient(false)?;
    let done = units.iter().zip(ends).map(|(unit, end)| Done {
        unit: unit.clone(),
        result: end.unwrap_or_default(),
    });
    Ok(done.collect())
}

/// The objects of the jobs.
fn queue(bus: &mut Bus, aim: Aim, units: &[String]) -> Result<Vec<String>, SystemdError> {
    let mut jobs = Vec::with_capacity(units.len());
    for some in units.chunks(WINDOW) {
        queue_some(bus, aim, some, &mut jobs)?;
    }
    Ok(jobs)
}

fn queue_some(
    bus: &mut Bus,
    aim: Aim,
    units: &[String],
    jobs: &mut Vec<String>,
) -> Result<(), SystemdError> {
    let (member, mode) = aim.words();
    let serials: Vec<u32> = units
        .iter()
        .map(|unit| {
            let mut body = Writer::default();
            body.str(unit);
            body.str(mode);
            bus.prepare(Target { member, ..MANAGER }, "ss", &body.into_bytes())
        })
        .collect();
    bus.flush()?;
    let answers: Vec<Result<Message, SystemdError>> = serials
        .iter()
        .zip(units)
        .map(|(serial, unit)| bus.answer(*serial, member, unit))
        .collect();
    for answer in answers {
        let job = answer?.strings()?.into_iter().next();
        jobs.push(job.ok_or(SystemdError::Protocol("an answer that names no job"))?);
    }
    Ok(())
}

/// The job that a signal says has ended, and its result; `None`: it says something else.
fn ended(signal: &Message) -> Result<Option<(String, String)>, SystemdError> {
    if signal.member != "JobRemoved" {
        return Ok(None);
    }
    // uoss: number, job, unit, result
    match signal.strings()?.as_slice() {
        [job, _, result] => Ok(Some((job.clone(), result.clone()))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::call;
    use super::*;

    #[test]
    fn only_the_end_of_a_job_is_one() {
        let mut body = Writer::default();
        body.u32(7);
        body.str("/org/freedesktop/systemd1/job/7");
        body.str("a.service");
        body.str("failed");
        let body = body.into_bytes();
        let signal = |member| {
            let target = Target { member, ..MANAGER };
            Message::parse(&call(1, target, "uoss", &body)).unwrap()
        };
        let end = ended(&signal("JobRemoved")).unwrap();
        let job = "/org/freedesktop/systemd1/job/7".to_owned();
        assert_eq!(end, Some((job, "failed".to_owned())));
        assert_eq!(ended(&signal("JobNew")).unwrap(), None);
        let good = |result: &str| {
            let unit = String::new();
            let result = result.to_owned();
            Done { unit, result }.is_good()
        };
        assert!(good("done") && good("skipped"));
        assert!(!good("failed") && !good("dependency") && !good(""));
    }
}
