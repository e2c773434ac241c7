//! Points in time as people type them, and as programs write them at the beginning of a line.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use metactl_bundles::keys::values;

use crate::error::{LifecycleError, Result};

/// `2h` ago, `10:30` today, `yesterday`, `2026-11-25`, `2026-11-25 10:30`, RFC 3339. Without a zone it is the server's.
///
/// # Errors
/// What is none of these.
pub fn since(text: &str) -> Result<Timestamp> {
    parse(text.trim(), &Zoned::now()).ok_or_else(|| LifecycleError::Usage {
        what: format!("{text:?} is no point in time"),
        hint: "30m, 2h or 3d (ago), 10:30, yesterday, 2026-11-25, \"2026-11-25 10:30\"".to_owned(),
    })
}

fn parse(text: &str, now: &Zoned) -> Option<Timestamp> {
    let zone = now.time_zone();
    let at = |time: DateTime| Some(time.to_zoned(zone.clone()).ok()?.timestamp());
    if let Ok(ago) = values::duration(text.strip_suffix(" ago").unwrap_or(text)) {
        return now.timestamp().checked_sub(ago).ok();
    }
    match text {
        "today" => return at(now.date().at(0, 0, 0, 0)),
        "yesterday" => return at(now.date().yesterday().ok()?.at(0, 0, 0, 0)),
        _ => {}
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return at(time);
    }
    if let Ok(date) = text.parse::<Date>() {
        return at(date.at(0, 0, 0, 0));
    }
    let time = text.parse::<Time>().ok()?;
    at(now.date().to_datetime(time))
}

/// The time that a line of a log begins with, perhaps in brackets: RFC 3339 and its like (`2026-11-25 10:03:11,123`),
/// or that of web servers (`[25/Nov/2026:10:03:11 +0000]`, also behind an address). Without a zone it is `zone`'s.
pub(crate) fn of_line(line: &str, zone: &TimeZone) -> Option<Timestamp> {
    let head: String = line.chars().take(100).collect();
    let head = head.trim_start();
    if let Some(time) = head.find('[').and_then(|at| of_web_server(&head[at + 1..])) {
        return Some(time);
    }
    let head = head.trim_start_matches(['[', '(']);
    let bytes = head.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let is_date = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7) && digits(8..10);
    let is_time = matches!(bytes.get(10), Some(b' ' | b'T')) && digits(11..13) && digits(17..19);
    if !(is_date && is_time) {
        return None;
    }
    let whole: DateTime = head.get(..19)?.replace(' ', "T").parse().ok()?;
    let rest = head.get(19..)?;
    let fraction = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let offset = rest.trim_start_matches(fraction).trim_start_matches(' ');
    let end = offset.find(|c: char| !(c.is_ascii_digit() || "Z+-:".contains(c)));
    let offset = &offset[..end.unwrap_or(offset.len())];
    let stamp = format!("{whole}{}", offset.trim_end_matches(':'));
    let with_offset = stamp.parse::<Timestamp>().ok();
    with_offset.or_else(|| Some(whole.to_zoned(zone.clone()).ok()?.timestamp()))
}

fn of_web_server(text: &str) -> Option<Timestamp> {
    let end = text.find(']')?;
    let time = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", &text[..end]).ok()?;
    time.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        let now: Zoned = "2026-11-25T12:00:00+11:00[Australia/Sydney]"
            .parse()
            .unwrap();
        for (text, wanted) in [
            ("2h", "2026-11-24T23:00:00Z"),
            ("1h30m ago", "2026-11-24T23:30:00Z"),
            ("10:30", "2026-11-24T23:30:00Z"),
            ("today", "2026-11-24T13:00:00Z"),
            ("yesterday", "2026-11-23T13:00:00Z"),
            ("2026-11-20", "2026-11-19T13:00:00Z"),
            ("2026-11-20 01:02", "2026-11-19T14:02:00Z"),
            ("2026-11-20T01:02:03Z", "2026-11-20T01:02:03Z"),
        ] {
            let found = parse(text, &now).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found, wanted.parse::<Timestamp>().unwrap(), "{text}");
        }
        for bad in ["", "soon", "25:00", "2026-13-01", "-1h", "999999d"] {
            assert!(parse(bad, &now).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_programs_write() {
        for (line, wanted) in [
            (
                "2026-11-25T10:03:11.123Z hello",
                Some("2026-11-25T10:03:11Z"),
            ),
            (
                "2026-11-25 10:03:11,123 INFO x",
                Some("2026-11-25T10:03:11Z"),
            ),
            (
                "[2026-11-25 10:03:11 +0100] x",
                Some("2026-11-25T09:03:11Z"),
            ),
            (
                "2026-11-25 10:03:11.5+11:00: x",
                Some("2026-11-24T23:03:11Z"),
            ),
            (
                "2026-11-25 10:03:11.5:INFO:oejs",
                Some("2026-11-25T10:03:11Z"),
            ),
            (
                "10.0.0.1 - - [25/Nov/2026:10:03:11 +0000] \"GET\"",
                Some("2026-11-25T10:03:11Z"),
            ),
            ("\tat org.example.Jobs.load(Jobs.java:88)", None),
            ("2026-11-25 is a date", None),
            ("äöü [ä", None),
            ("", None),
        ] {
            let wanted = wanted.map(|time| time.parse::<Timestamp>().unwrap());
            assert_eq!(of_line(line, &TimeZone::UTC), wanted, "{line}");
        }
    }
}
