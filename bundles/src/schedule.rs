//! When a line of `[crontab]` runs: five fields as crontab(5) has them, or `@daily` and the like, as sets of
//! numbers. It knows no clock: `metactl_lifecycle` finds the next time in the calendar.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The words that stand for five fields (crontab(5), "Extensions").
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The word for what runs once after each boot.
const BOOT: &str = "@reboot";

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The most days that each month can have.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// `[cron]`: how the lines of `[crontab]` are run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronSettings {
    /// The time zone of the schedules; that of the server without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What happens to a time that passed while nobody was there to run it.
    #[serde(skip_serializing_if = "is_default")]
    pub missed: Missed,
    /// Each run begins a random time later, less than this; milliseconds in the file.
    #[serde(
        rename = "delayMs",
        with = "crate::bundle::manifest::millis",
        skip_serializing_if = "Duration::is_zero"
    )]
    pub delay: Duration,
}

impl CronSettings {
    /// Whether everything is as it is without `[cron]`.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }
}

/// What happens to the times that passed while the server was off or the instance stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing, as cron(8) has it.
    #[default]
    Skip,
    /// The job runs once, however many they were, as anacron(8) has it.
    Once,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// When a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Once after each boot of the server, when its instance is started.
    Boot,
    /// At certain times.
    Times(Times),
}

/// The times of a job: bit `n` of each set stands for the number `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    /// Both the day of the month and that of the week are said: then one of them is enough.
    either_day: bool,
    /// The minute or the hour begins with `*`: it follows the clock when that is moved.
    follows_clock: bool,
}

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of the values, from `first`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day of the month", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    field("day of the week", 0, 7, &DAYS),
];

const fn field(name: &'static str, first: u32, last: u32, names: &'static [&'static str]) -> Field {
    Field {
        name,
        first,
        last,
        names,
    }
}

impl Schedule {
    /// Splits a line: the schedule as written, its fields separated by single spaces, and the rest.
    ///
    /// # Errors
    /// When there are too few fields: "must be ...".
    pub fn split(text: &str) -> Result<(Cow<'_, str>, &str), String> {
        const SHAPE: &str = "must be five fields and a command: 5 0 * * * curl http://localhost/";
        let text = text.trim_start();
        let wanted = if text.starts_with('@') { 1 } else { 5 };
        let (mut rest, mut end, mut single) = (text, 0, true);
        for number in 1..=wanted {
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            if length == 0 {
                return Err(SHAPE.to_owned());
            }
            end = text.len() - rest.len() + length;
            let tail = &rest[length..];
            rest = tail.trim_start();
            single &= number == wanted || (tail.starts_with(' ') && tail.len() == rest.len() + 1);
        }
        let fields = &text[..end];
        match single {
            true => Ok((Cow::Borrowed(fields), rest)),
            false => {
                let fields: Vec<&str> = fields.split_whitespace().collect();
                Ok((Cow::Owned(fields.join(" ")), rest))
            }
        }
    }

    /// Reads five fields, or a word like `@daily`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence: "must ...".
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text == BOOT {
            return Ok(Schedule::Boot);
        }
        let text = match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => {
                let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
                return Err(format!(
                    "must begin with five fields or one of {}, {BOOT}",
                    words.join(", ")
                ));
            }
            None => text,
        };
        let mut parts = text.split_whitespace();
        let five = std::array::from_fn(|_| parts.next());
        let (
            [
                Some(minute),
                Some(hour),
                Some(day),
                Some(month),
                Some(weekday),
            ],
            None,
        ) = (five, parts.next())
        else {
            return Err("must have five fields".to_owned());
        };
        let weekdays = set(weekday, &FIELDS[4])?;
        let times = Times {
            minutes: set(minute, &FIELDS[0])?,
            hours: set(hour, &FIELDS[1])?,
            days: set(day, &FIELDS[2])?,
            months: set(month, &FIELDS[3])?,
            // 7 is Sunday too.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            follows_clock: minute.starts_with('*') || hour.starts_with('*'),
        };
        times
            .comes()
            .then_some(Schedule::Times(times))
            .ok_or_else(|| format!("must be a day that comes: month {month} has no day {day}"))
    }
}

impl Times {
    /// Whether it runs on such a day; `weekday` 0 is Sunday.
    pub fn fits_day(&self, month: u32, day: u32, weekday: u32) -> bool {
        let (day, weekday) = (has(self.days, day), has(self.weekdays, weekday));
        let fits = match self.either_day {
            true => day || weekday,
            false => day && weekday,
        };
        self.fits_month(month) && fits
    }

    /// Whether it runs in such a month at all.
    pub fn fits_month(&self, month: u32) -> bool {
        has(self.months, month)
    }

    /// The hours and minutes of a day on which it runs, in their order.
    pub fn of_day(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| (hour, minute))
        })
    }

    /// Whether it goes by the clock also when that is moved for daylight saving time (cron(8)): it runs in a
    /// repeated hour again and has nothing to run in one that is left out. What is to run at certain hours runs
    /// once in both cases.
    pub fn follows_clock(&self) -> bool {
        self.follows_clock
    }

    /// The minutes, hours, days of the month, months, and days of the week (0 is Sunday) that are in it.
    pub fn numbers(&self) -> [Vec<u32>; 5] {
        let sets = [
            self.minutes,
            self.hours,
            self.days,
            self.months,
            self.weekdays,
        ];
        sets.map(|set| (0..60).filter(|number| has(set, *number)).collect())
    }

    /// Whether it runs on a day that fits one of the two, the day of the month and that of the week.
    pub fn takes_either_day(&self) -> bool {
        self.either_day
    }

    /// Whether there is any such day: `0 0 31 2 *` never comes.
    fn comes(&self) -> bool {
        let in_month = |month: u32| {
            let length = LENGTHS.get(month as usize - 1).copied().unwrap_or(31);
            has(self.months, month) && (1..=length).any(|day| has(self.days, day))
        };
        self.either_day || (1..=12).any(in_month)
    }
}

fn has(set: u64, number: u32) -> bool {
    set & 1 << number != 0
}

/// The numbers of a field.
fn set(text: &str, field: &Field) -> Result<u64, String> {
    text.split(',')
        .try_fold(0, |set, part| Ok(set | one(part, text, field)?))
}

/// `*`, `a`, `a-b`, each but a single number with `/n` behind it if wanted.
fn one(part: &str, text: &str, field: &Field) -> Result<u64, String> {
    let wrong = || {
        let Field {
            name, first, last, ..
        } = field;
        format!(
            "must have a {name} from {first} to {last} (`*`, `a-b`, `*/n`, `a,b`), not `{text}`"
        )
    };
    if part == "*" {
        return Ok(every(field));
    }
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        // `*` of the days of the week: 7 is 0 again, and would spoil `*/2`.
        _ if range == "*" => (
            field.first,
            field.last.min(if field.last == 7 { 6 } else { 59 }),
        ),
        Some((first, last)) => {
            let first = value(first, field).ok_or_else(wrong)?;
            let mut last = value(last, field).ok_or_else(wrong)?;
            // `fri-sun`: the Sunday behind Saturday.
            if field.last == 7 && last == 0 && first > 0 {
                last = 7;
            }
            (first, last)
        }
        None => {
            let single = value(range, field).ok_or_else(wrong)?;
            if step.is_some() {
                let last = field.last;
                return Err(format!(
                    "must have a range before `/`: {range}-{last}/n, not `{part}`"
                ));
            }
            (single, single)
        }
    };
    let step = match step {
        None => 1,
        Some(step) => number(step)
            .filter(|n| (1..=field.last).contains(n))
            .ok_or_else(wrong)?,
    };
    if first > last {
        return Err(wrong());
    }
    let mut set = 0;
    let mut at = first;
    while at <= last {
        set |= 1 << at;
        at += step;
    }
    Ok(set)
}

/// All numbers of a field; 7 of the days of the week is 0 again.
fn every(field: &Field) -> u64 {
    let last = if field.last == 7 { 6 } else { field.last };
    (1 << (last + 1)) - (1 << field.first)
}

fn value(text: &str, field: &Field) -> Option<u32> {
    let named = field
        .names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    let value = named
        .and_then(|index| u32::try_from(index).ok())
        .map(|index| index + field.first);
    value
        .or_else(|| number(text))
        .filter(|value| (field.first..=field.last).contains(value))
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str) -> Times {
        match Schedule::parse(text) {
            Ok(Schedule::Times(times)) => times,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn weekdays(text: &str) -> Vec<u32> {
        let times = times(&format!("0 0 * * {text}"));
        (0..7).filter(|day| times.fits_day(1, 1, *day)).collect()
    }

    #[test]
    fn lists_steps_ranges_and_names() {
        let of_day = |text: &str| times(text).of_day().collect::<Vec<_>>();
        assert_eq!(of_day("5,7-9,50-59/4 3 * * *").len(), 7);
        assert_eq!(of_day("0-30/15 8,9 * * *").len(), 6);
        assert_eq!(of_day("*/20,5 1 * * *"), [(1, 0), (1, 5), (1, 20), (1, 40)]);
        let quarters = times("0 0 1 Jan,apr,JUL,10 *");
        let months: Vec<u32> = (1..=12)
            .filter(|month| quarters.fits_month(*month))
            .collect();
        assert_eq!(months, [1, 4, 7, 10]);
        assert_eq!(weekdays("mon-fri"), [1, 2, 3, 4, 5]);
        assert_eq!(weekdays("7"), [0]);
        assert_eq!(weekdays("5-7"), [0, 5, 6]);
        assert_eq!(weekdays("fri-sun"), [0, 5, 6]);
        assert_eq!(weekdays("sun-tue"), [0, 1, 2]);
        assert_eq!(weekdays("*/2"), [0, 2, 4, 6]);
    }

    #[test]
    fn either_day_is_enough_when_both_are_said() {
        // crontab(5): 4:30 am on the 1st and 15th of each month, plus every Friday.
        let both = times("30 4 1,15 * 5");
        assert!(both.fits_day(3, 1, 2) && both.fits_day(3, 7, 5) && !both.fits_day(3, 7, 6));
        // One that begins with `*` only narrows.
        let narrow = times("30 4 */2 * 5");
        assert!(narrow.fits_day(3, 1, 5) && !narrow.fits_day(3, 2, 5) && !narrow.fits_day(3, 1, 4));
    }

    #[test]
    fn words_are_fields() {
        for (word, fields) in WORDS {
            assert_eq!(Schedule::parse(word), Schedule::parse(fields), "{word}");
        }
        assert_eq!(Schedule::parse("@reboot"), Ok(Schedule::Boot));
    }

    #[test]
    fn who_follows_the_clock() {
        for (text, follows) in [
            ("*/15 2 * * *", true),
            ("30 * * * *", true),
            ("30 2 * * *", false),
            ("@daily", false),
            ("@hourly", true),
        ] {
            assert_eq!(times(text).follows_clock(), follows, "{text}");
        }
    }

    #[test]
    fn settings_are_left_out_where_nothing_is_said() {
        let nothing = CronSettings::default();
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<CronSettings>("{}").unwrap(), nothing);
        let some = CronSettings {
            timezone: Some("Europe/Berlin".to_owned()),
            missed: Missed::Once,
            delay: Duration::from_secs(90),
        };
        let text = serde_json::to_string(&some).unwrap();
        assert!(text.contains("\"delayMs\":90000"), "{text}");
        assert_eq!(serde_json::from_str::<CronSettings>(&text).unwrap(), some);
    }
}
