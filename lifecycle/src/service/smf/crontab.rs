//! The crontab of the zone, as Solaris has it (crontab(1)): five fields of numbers, lists and `*`; no names, no steps, no
//! `@daily`. Pure: from one text to another.
//!
//! metactl's lines stand between two lines of comment that name the instance. Everything else stays as it is, byte by
//! byte. A line runs `metactl -a APP unit job ENTRY`, which has the job started as a service, and waits for its end.
//!
//! A time zone is a line `TZ=` that holds for all lines below it (from Solaris 11 on, and on illumos). So a block with a
//! zone of its own ends with the one that was there before; where that cannot be known, there can be no zone.

use std::path::Path;

use metactl_bundles::bundle::{EntryKind, Manifest};
use metactl_bundles::schedule::{Schedule, Times};

/// The lines of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) instance: String,
    /// The zone that its times are of; `None`: that of the server.
    pub(super) zone: Option<String>,
    /// Without line ends.
    pub(super) lines: Vec<String>,
}

/// Why there is no crontab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoZone;

/// The lines for the cron jobs of a bundle, but for those of `@reboot`, which svc.startd runs.
pub(super) fn block(manifest: &Manifest, metactl: &Path, variables: &[(String, String)]) -> Block {
    let jobs = manifest
        .entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Cron);
    let mut lines = Vec::new();
    for job in jobs {
        // One that cannot be understood, which the configuration refuses, has no times.
        let schedule = job.schedule.as_deref().map(Schedule::parse);
        let Some(Ok(Schedule::Times(times))) = schedule else {
            continue;
        };
        let mut words: Vec<String> = Vec::new();
        if !variables.is_empty() {
            words.push("env".to_owned());
            words.extend(
                variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            );
        }
        words.push(metactl.to_string_lossy().into_owned());
        words.extend(["-a", &manifest.instance, "unit", "job", &job.name].map(str::to_owned));
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        // cron mails what a line prints; this is in the log of the job.
        lines.push(format!(
            "{} {} >/dev/null 2>&1",
            fields(&times),
            words.join(" ")
        ));
    }
    Block {
        instance: manifest.instance.clone(),
        zone: manifest.cron.timezone.clone(),
        lines,
    }
}

/// The five fields. Where both days are said but both have to fit, Solaris would take either: then every such day of
/// the month is taken, and `unit job` looks at the day of the week ([`fits_today`]).
pub(super) fn fields(times: &Times) -> String {
    let [minutes, hours, days, months, weekdays] = times.numbers();
    let weekdays = match needs_both_days(times) {
        true => "*".to_owned(),
        false => list(&weekdays, 7),
    };
    [
        list(&minutes, 60),
        list(&hours, 24),
        list(&days, 31),
        list(&months, 12),
        weekdays,
    ]
    .join(" ")
}

/// Whether a day is one of the schedule; of others cron may know better.
pub(super) fn fits_today(times: &Times, weekday: u32) -> bool {
    let [.., weekdays] = times.numbers();
    !needs_both_days(times) || weekdays.contains(&weekday)
}

fn needs_both_days(times: &Times) -> bool {
    let [_, _, days, _, weekdays] = times.numbers();
    !times.takes_either_day() && days.len() < 31 && weekdays.len() < 7
}

/// `*` when all of `count` are in it.
fn list(numbers: &[u32], count: usize) -> String {
    if numbers.len() == count {
        return "*".to_owned();
    }
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    words.join(",")
}

/// A word of a line: for the shell, and with `%`, which ends a line, behind a backslash.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // A backslash in quotes stays where cron does not take it away, which is before a `%` alone.
    format!("'{}'", word.replace('\'', "'\\''").replace('%', "\\%"))
}

fn begin(instance: &str) -> String {
    format!("# metactl {instance}: begin (written by metactl; what you change here is lost)")
}

fn end(instance: &str) -> String {
    format!("# metactl {instance}: end")
}

/// The text with this block in the place of the one that was there, or at the end; without it, if it has no lines.
/// `server_zone`: the zone of a crontab that says nothing.
///
/// # Errors
/// When a block needs a zone of its own, and nobody knows the one to go back to.
pub(super) fn with(text: &str, block: &Block, server_zone: Option<&str>) -> Result<String, NoZone> {
    let (before, after) = around(text, &block.instance);
    if block.lines.is_empty() {
        return Ok(format!("{before}{after}"));
    }
    let mut out = before.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    let in_force = zone_at_end(before);
    let wanted = block.zone.as_deref();
    let changes = match (in_force, wanted) {
        (None, None) => None,
        (in_force, wanted) if in_force.or(server_zone) == wanted.or(server_zone) => None,
        (in_force, wanted) => {
            let own = wanted.or(server_zone).ok_or(NoZone)?;
            let back = in_force.or(server_zone).ok_or(NoZone)?;
            Some((own, back))
        }
    };
    let mut line = |line: &str| {
        out.push_str(line);
        out.push('\n');
    };
    line(&begin(&block.instance));
    if let Some((own, _)) = changes {
        line(&format!("TZ={own}"));
    }
    block.lines.iter().for_each(|text| line(text));
    if let Some((_, back)) = changes {
        line(&format!("TZ={back}"));
    }
    line(&end(&block.instance));
    out.push_str(after);
    Ok(out)
}

/// The text without the block of an instance.
pub(super) fn without(text: &str, instance: &str) -> String {
    let (before, after) = around(text, instance);
    format!("{before}{after}")
}

/// What stands before the block, and behind it. One without an end was torn by somebody: only its first line is
/// metactl's.
fn around<'a>(text: &'a str, instance: &str) -> (&'a str, &'a str) {
    let Some((start, first)) = line_at(text, 0, &begin(instance)) else {
        return (text, "");
    };
    let rest = start + first;
    let stop = match line_at(text, rest, &end(instance)) {
        Some((at, length)) => at + length,
        None => rest,
    };
    let before = text.get(..start).unwrap_or(text);
    (before, text.get(stop..).unwrap_or(""))
}

/// Where a line begins, and its length with its end.
fn line_at(text: &str, from: usize, wanted: &str) -> Option<(usize, usize)> {
    let mut at = from;
    for line in text.get(from..)?.split_inclusive('\n') {
        if line.trim_end_matches(['\n', '\r']) == wanted {
            return Some((at, line.len()));
        }
        at += line.len();
    }
    None
}

/// The zone that holds behind these lines; `None`: that of the server.
fn zone_at_end(text: &str) -> Option<&str> {
    let mut zones = text.lines().filter_map(|line| line.strip_prefix("TZ="));
    zones
        .next_back()
        .map(str::trim)
        .filter(|zone| !zone.is_empty())
}

/// The zone that the system is in, by its `/etc/default/init` (init(8)).
pub(super) fn zone_of_system(default_init: &str) -> Option<String> {
    let mut zones = default_init
        .lines()
        .filter_map(|line| line.trim().strip_prefix("TZ="));
    let zone = zones.next_back()?.trim().trim_matches('"');
    (!zone.is_empty()).then(|| zone.to_owned())
}

#[cfg(test)]
#[path = "crontab_tests.rs"]
mod tests;
