//! The times of a cron job as systemd writes them (systemd.time(7), "Calendar Events").

/// Months and days as crontab(5) names them; the place is the number, from the first.
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The calendar events of five fields, or of `@daily` and friends. Two of them when both days are restricted: then
/// either is enough (crontab(5)). `None`: that is no schedule.
pub(super) fn events(schedule: &str) -> Option<Vec<String>> {
    let fields = match schedule {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        fields => fields,
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return None;
    };
    let minutes = numbers(minute, 0, 59, &[], 0)?;
    let hours = numbers(hour, 0, 23, &[], 0)?;
    let months = numbers(month, 1, 12, &MONTHS, 1)?;
    let days = numbers(day, 1, 31, &[], 0)?;
    let weekdays = weekdays(weekday)?;
    let time = format!("{}:{}:00", list(&hours, 24), list(&minutes, 60));
    let date = |days: &[u32]| format!("*-{}-{} {time}", list(&months, 12), list(days, 31));
    let every: Vec<u32> = (1..=31).collect();
    let on_weekdays = |days: &[u32]| format!("{} {}", weekdays.join(","), date(days));
    Some(match (*day == "*", *weekday == "*") {
        (_, true) => vec![date(&days)],
        (true, false) => vec![on_weekdays(&every)],
        (false, false) => vec![date(&days), on_weekdays(&every)],
    })
}

/// `*` when all of `count` are in it.
fn list(numbers: &[u32], count: usize) -> String {
    if numbers.len() == count {
        return "*".to_owned();
    }
    let words: Vec<String> = numbers.iter().map(|n| format!("{n:02}")).collect();
    words.join(",")
}

/// `Mon`, `Tue`; 0 and 7 are both Sunday.
fn weekdays(field: &str) -> Option<Vec<String>> {
    let mut found: Vec<u32> = numbers(field, 0, 7, &DAYS, 0)?;
    found.iter_mut().for_each(|day| *day %= 7);
    found.sort_unstable();
    found.dedup();
    let name = |day: &u32| {
        let name = DAYS.get(usize::try_from(*day).ok()?)?;
        let (first, rest) = name.split_at(1);
        Some(first.to_ascii_uppercase() + rest)
    };
    found.iter().map(name).collect()
}

/// The numbers that a field of crontab(5) stands for: `*`, `a`, `a-b`, `*/n`, `a-b/n`, and lists of them.
fn numbers(field: &str, first: u32, last: u32, names: &[&str], base: u32) -> Option<Vec<u32>> {
    let value = |word: &str| -> Option<u32> {
        let lower = word.to_ascii_lowercase();
        let named = names.iter().position(|name| *name == lower);
        match named {
            Some(at) => u32::try_from(at).ok().map(|at| at + base),
            None => word.parse().ok(),
        }
    };
    let mut found = Vec::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, if names.len() == 7 { 6 } else { last }),
            Some((from, to)) => (value(from)?, value(to)?),
            None => (value(range)?, value(range)?),
        };
        if from < first || to > last || from > to {
            return None;
        }
        found.extend((from..=to).step_by(step));
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_become_calendar_events() {
        for (schedule, expected) in [
            ("5 0 * * *", &["*-*-* 00:05:00"][..]),
            ("10 0 * * 1", &["Mon *-*-* 00:10:00"]),
            ("* * * * *", &["*-*-* *:*:00"]),
            (
                "*/20 8-10 * * mon-fri",
                &["Mon,Tue,Wed,Thu,Fri *-*-* 08,09,10:00,20,40:00"],
            ),
            ("0 0 1 jan,JUL *", &["*-01,07-01 00:00:00"]),
            ("0 12 13 * 5", &["*-*-13 12:00:00", "Fri *-*-* 12:00:00"]),
            ("0 0 * * 7", &["Sun *-*-* 00:00:00"]),
            ("0 0 * * */2", &["Sun,Tue,Thu,Sat *-*-* 00:00:00"]),
            ("@daily", &["*-*-* 00:00:00"]),
            ("@weekly", &["Sun *-*-* 00:00:00"]),
            ("@yearly", &["*-01-01 00:00:00"]),
        ] {
            assert_eq!(events(schedule).unwrap(), expected, "{schedule}");
        }
        for wrong in [
            "",
            "5 0 * *",
            "61 * * * *",
            "@reboot",
            "5-1 * * * *",
            "*/0 * * * *",
        ] {
            assert_eq!(events(wrong), None, "{wrong}");
        }
    }
}
