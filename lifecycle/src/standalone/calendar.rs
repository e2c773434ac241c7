//! The next time of a schedule in the calendar of a time zone.
//!
//! When a clock is moved, it is as cron(8) has it. What follows the clock (`*` for the minute or the hour) goes on
//! by the new time: it runs in a repeated hour again, and not in one that is left out. What is to run at
//! certain times runs once: in a repeated hour the first time, and for an hour that is left out at once when the
//! clock has been moved.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use metactl_bundles::schedule::Times;

/// Days looked at: 29 February falls on each day of the week within 40 years.
const HORIZON: usize = 41 * 366;

/// The first time after `after`; none when there is none in a lifetime.
pub(crate) fn next(times: &Times, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // A day earlier: what a clock that is moved leaves out belongs to the day before.
    let begin = zone.to_datetime(after).date().yesterday().ok()?;
    let mut date = begin;
    for _ in 0..HORIZON {
        let (month, day) = (number(date.month()), number(date.day()));
        if !times.fits_month(month) {
            date = date.last_of_month().tomorrow().ok()?;
            continue;
        }
        let weekday = number(date.weekday().to_sunday_zero_offset());
        if times.fits_day(month, day, weekday)
            && let Some(found) = first_of_day(times, zone, date, after)
        {
            return Some(found);
        }
        date = date.tomorrow().ok()?;
    }
    None
}

fn number(small: i8) -> u32 {
    u32::try_from(small).unwrap_or_default()
}

fn first_of_day(times: &Times, zone: &TimeZone, date: Date, after: Timestamp) -> Option<Timestamp> {
    let of_day = times.of_day().filter_map(|(hour, minute)| {
        let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
        let at = date.at(hour, minute, 0, 0);
        instants(times, zone, at)
            .into_iter()
            .flatten()
            .filter(|at| *at > after)
            .min()
    });
    // A repeated hour comes before what the clock says after it: all of the day have to be compared.
    of_day.min()
}

/// When a time of the clock is: once, twice or never.
fn instants(times: &Times, zone: &TimeZone, at: DateTime) -> [Option<Timestamp>; 2] {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    let with = |offset: jiff::tz::Offset| offset.to_timestamp(at).ok();
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => [with(offset), None],
        AmbiguousOffset::Fold { before, after } => {
            [with(before), with(after).filter(|_| times.follows_clock())]
        }
        AmbiguousOffset::Gap { .. } if times.follows_clock() => [None, None],
        // By the new time it is before the clock was moved, by the old one after that.
        AmbiguousOffset::Gap { after, .. } => {
            let moved = with(after).and_then(|early| zone.following(early).next());
            [moved.map(|moved| moved.timestamp()), None]
        }
    }
}

/// Whether any time lies after `since` and not after `until`.
pub(crate) fn any_between(
    times: &Times,
    zone: &TimeZone,
    since: Timestamp,
    until: Timestamp,
) -> bool {
    // Not longer ago than anybody cares about: clocks of servers without a battery begin in 1970.
    let since = since.max(until.checked_sub(10_000.hours()).unwrap_or(until));
    next(times, zone, since).is_some_and(|at| at <= until)
}

#[cfg(test)]
mod tests {
    use metactl_bundles::schedule::Schedule;

    use super::*;

    fn times(text: &str) -> Times {
        match Schedule::parse(text) {
            Ok(Schedule::Times(times)) => times,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The next times after one, by the clock of the zone, with their offsets.
    fn following(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let times = times(text);
        let mut found = Vec::new();
        for _ in 0..count {
            at = next(&times, &zone, at).unwrap();
            found.push(
                at.to_zoned(zone.clone())
                    .strftime("%m-%d %H:%M %:z")
                    .to_string(),
            );
        }
        found
    }

    #[test]
    fn times_of_the_seed() {
        let sunday = "2026-11-22T11:00:00Z";
        let in_berlin = |text| following(text, "Europe/Berlin", sunday, 2);
        assert_eq!(
            in_berlin("5 0 * * *"),
            ["11-23 00:05 +01:00", "11-24 00:05 +01:00"]
        );
        assert_eq!(
            in_berlin("10 0 * * 1"),
            ["11-23 00:10 +01:00", "11-30 00:10 +01:00"]
        );
        assert_eq!(
            in_berlin("@monthly"),
            ["12-01 00:00 +01:00", "01-01 00:00 +01:00"]
        );
        assert_eq!(
            in_berlin("*/15 * * * *"),
            ["11-22 12:15 +01:00", "11-22 12:30 +01:00"]
        );
    }

    #[test]
    fn an_hour_that_is_left_out() {
        // 29 March 2026, 02:00 becomes 03:00.
        let begin = "2026-03-28T12:00:00Z";
        let in_berlin = |text, count| following(text, "Europe/Berlin", begin, count);
        // At once when the clock has been moved, and only once.
        assert_eq!(
            in_berlin("30 2 * * *", 2),
            ["03-29 03:00 +02:00", "03-30 02:30 +02:00"]
        );
        assert_eq!(
            in_berlin("0,15,45 2 * * *", 2),
            ["03-29 03:00 +02:00", "03-30 02:00 +02:00"]
        );
        // Another time at that very moment is the same run.
        assert_eq!(
            in_berlin("30 2,3 * * *", 3),
            [
                "03-29 03:00 +02:00",
                "03-29 03:30 +02:00",
                "03-30 02:30 +02:00"
            ]
        );
        let in_the_hour = |text, begin, count| following(text, "Europe/Berlin", begin, count);
        assert_eq!(
            in_the_hour("*/30 * * * *", "2026-03-29T00:15:00Z", 3),
            [
                "03-29 01:30 +01:00",
                "03-29 03:00 +02:00",
                "03-29 03:30 +02:00"
            ]
        );
        // One that only this hour has does not run on that day.
        assert_eq!(in_berlin("*/30 2 * * *", 1), ["03-30 02:00 +02:00"]);
    }

    #[test]
    fn an_hour_that_comes_twice() {
        // 25 October 2026, 03:00 becomes 02:00.
        let begin = "2026-10-24T12:00:00Z";
        assert_eq!(
            following("30 2 * * *", "Europe/Berlin", begin, 2),
            ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]
        );
        assert_eq!(
            following("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 4),
            [
                "10-25 02:30 +02:00",
                "10-25 02:30 +01:00",
                "10-25 03:30 +01:00",
                "10-25 04:30 +01:00"
            ]
        );
        // The first of them has passed: the second is not it.
        assert_eq!(
            following("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
            ["10-26 02:30 +01:00"]
        );
    }

    #[test]
    fn a_midnight_that_there_is_not() {
        // Cairo, 24 April 2026: 00:00 becomes 01:00.
        assert_eq!(
            following("@daily", "Africa/Cairo", "2026-04-23T12:00:00Z", 2),
            ["04-24 01:00 +03:00", "04-25 00:00 +03:00"]
        );
        // Half an hour: Lord Howe, 4 October 2026, 02:00 becomes 02:30.
        assert_eq!(
            following(
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T12:00:00Z",
                2
            ),
            ["10-04 02:30 +11:00", "10-05 02:15 +11:00"]
        );
    }

    #[test]
    fn rare_days() {
        let utc = |text, count| following(text, "UTC", "2026-11-22T12:00:00Z", count);
        assert_eq!(utc("0 0 29 2 *", 1), ["02-29 00:00 +00:00"]);
        // The 13th, or a Friday; only a Friday the 13th when a star narrows.
        assert_eq!(utc("0 0 13 * 5", 3).last().unwrap(), "12-11 00:00 +00:00");
        assert_eq!(utc("0 0 13-13 2 */5", 1).len(), 1);
        let zone = TimeZone::UTC;
        let far = next(
            &times("0 0 29 2 */7"),
            &zone,
            "2026-11-22T12:00:00Z".parse().unwrap(),
        );
        assert_eq!(far.unwrap().to_string(), "2032-02-29T00:00:00Z");
    }

    #[test]
    fn whether_a_time_was_missed() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let missed =
            |since, until| any_between(&times("5 0 * * *"), &TimeZone::UTC, at(since), at(until));
        assert!(missed("2026-11-22T00:05:00Z", "2026-11-23T00:05:00Z"));
        assert!(!missed("2026-11-22T00:05:00Z", "2026-11-23T00:04:59Z"));
        assert!(missed("1970-01-01T00:00:00Z", "2026-11-23T00:04:59Z"));
    }

    /// Where no clock is moved, another reader of schedules says the same.
    #[test]
    fn another_reader_agrees() {
        let mut seed: u32 = 1;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let mut compared = 0;
        for _ in 0..400 {
            let mut part = |first: u32, last: u32| match random(5) {
                0 | 1 => "*".to_owned(),
                2 => format!("{}", first + random(last - first + 1)),
                3 => format!("{first}-{}/{}", last - random(3), 1 + random(5)),
                _ => format!("{},{}", first + random(5), first + random(last - first + 1)),
            };
            let text = [
                part(0, 59),
                part(0, 23),
                part(1, 28),
                part(1, 12),
                part(0, 6),
            ]
            .join(" ");
            let other = croner::parser::CronParser::new().parse(&text).unwrap();
            let mut ours: Timestamp = "2026-11-22T12:00:30Z".parse().unwrap();
            let mut theirs = ours.to_zoned(TimeZone::UTC);
            for _ in 0..5 {
                ours = next(&times(&text), &TimeZone::UTC, ours).unwrap();
                theirs = other.find_next_occurrence(&theirs, false).unwrap();
                assert_eq!(ours, theirs.timestamp(), "{text}");
                compared += 1;
            }
        }
        assert_eq!(compared, 2000);
    }
}
