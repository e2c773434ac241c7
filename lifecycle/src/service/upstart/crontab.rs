//! The lines for cron(8), in `/etc/cron.d`: when it is time, cron tells metactl, which starts the task. Pure.
//!
//! Which cron it is makes no difference. What it does not know, such as time zones (`CRON_TZ` is cronie's alone),
//! metactl looks at itself ([`looks_itself`]): it is told at every time that could be the one.

use std::collections::BTreeSet;

use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::schedule::{Schedule, Times};

use super::quote::{LineBreak, cron_command};
use super::render::{Input, MARK};

/// Time zones differ by quarters of an hour.
const QUARTERS: [u32; 4] = [0, 15, 30, 45];

/// The crontab of an instance; `None`: nothing of it runs at certain times.
pub(super) fn text(input: &Input<'_>) -> Result<Option<String>, LineBreak> {
    let manifest = input.manifest;
    let mut lines = Vec::new();
    for entry in manifest
        .entries
        .iter()
        .filter(|e| e.kind == EntryKind::Cron)
    {
        let Some(times) = times(entry) else { continue };
        let command = cron_command(&input.step_words(&["job", &entry.name]))?;
        let fields = fields(&times, manifest.cron.timezone.is_some());
        lines.push(format!("{fields} root {command}"));
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let mut text = String::from("# Written by metactl, which replaces it as a whole.\n");
    text.push_str(&format!("{MARK}instance: {}\n", manifest.instance));
    // What a job says is in its log; what fails is told by metactl.
    text.push_str("SHELL=/bin/sh\nMAILTO=\"\"\n");
    text.push_str("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    Ok(Some(text))
}

/// The times of a job that has some: `@reboot` and what cannot be understood have none.
pub(super) fn times(entry: &EntryRef) -> Option<Times> {
    match Schedule::parse(entry.schedule.as_deref()?) {
        Ok(Schedule::Times(times)) => Some(times),
        _ => None,
    }
}

/// Whether metactl has to look whether it is time: with a time zone, and when both days have to fit, where cron takes
/// either.
pub(super) fn looks_itself(times: &Times, zoned: bool) -> bool {
    let [_, _, days, _, weekdays] = times.numbers();
    let both = !times.takes_either_day() && days.len() < 31 && weekdays.len() < 7;
    zoned || both
}

/// The five fields (crontab(5)).
fn fields(times: &Times, zoned: bool) -> String {
    let [minutes, hours, days, months, weekdays] = times.numbers();
    if zoned {
        let minutes: BTreeSet<u32> = minutes
            .iter()
            .flat_map(|minute| QUARTERS.map(|quarter| (minute + quarter) % 60))
            .collect();
        let minutes: Vec<u32> = minutes.into_iter().collect();
        return format!("{} * * * *", list(&minutes, 60));
    }
    let [minutes, hours, months] =
        [(minutes, 60), (hours, 24), (months, 12)].map(|(numbers, count)| list(&numbers, count));
    let (days, weekdays) = match times.takes_either_day() {
        // `*` for one of the two would make the other one alone count.
        true => (list(&days, usize::MAX), list(&weekdays, usize::MAX)),
        false if looks_itself(times, zoned) => (list(&days, 31), "*".to_owned()),
        false => (list(&days, 31), list(&weekdays, 7)),
    };
    format!("{minutes} {hours} {days} {months} {weekdays}")
}

/// `*` when all of `count` are in it.
fn list(numbers: &[u32], count: usize) -> String {
    if numbers.len() == count {
        return "*".to_owned();
    }
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, zoned: bool) -> (String, bool) {
        match Schedule::parse(text) {
            Ok(Schedule::Times(times)) => (fields(&times, zoned), looks_itself(&times, zoned)),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn schedules_become_lines_that_every_cron_knows() {
        for (schedule, expected) in [
            ("5 0 * * *", "5 0 * * *"),
            ("10 0 * * 1", "10 0 * * 1"),
            ("*/20 8-10 * * mon-fri", "0,20,40 8,9,10 * * 1,2,3,4,5"),
            ("@daily", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@yearly", "0 0 1 1 *"),
            ("0 12 13 * 5", "0 12 13 * 5"),
            ("0 12 13 * 0-6", "0 12 13 * 0,1,2,3,4,5,6"),
        ] {
            assert_eq!(
                of(schedule, false),
                (expected.to_owned(), false),
                "{schedule}"
            );
        }
    }

    #[test]
    fn what_cron_does_not_know_metactl_looks_at_itself() {
        // Both days have to fit: `*/2` is not a day that is said.
        let days = "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31";
        assert_eq!(of("0 0 */2 * 1", false), (format!("0 0 {days} * *"), true));
        assert_eq!(
            of("5 0 * * *", true),
            ("5,20,35,50 * * * *".to_owned(), true)
        );
        assert_eq!(of("* 3 * * *", true), ("* * * * *".to_owned(), true));
    }
}
