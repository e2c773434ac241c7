//! Lines of `[crontab]`: five fields as crontab(5) has them, or `@daily` and the like.

/// The words that stand for five fields (crontab(5), "Extensions").
const WORDS: [&str; 7] = [
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@yearly",
    "@annually",
];

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of the values, from `first`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        first: 1,
        last: 31,
        names: &[],
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &MONTHS,
    },
    Field {
        name: "day of the week",
        first: 0,
        last: 7,
        names: &DAYS,
    },
];

/// The schedule, its fields separated by single spaces, and the command.
pub fn cron(text: &str) -> Result<(String, &str), String> {
    const SHAPE: &str = "must be five fields and a command: 5 0 * * * curl http://localhost/";
    let mut rest = text.trim_start();
    let mut fields = Vec::with_capacity(FIELDS.len());
    let wanted = if rest.starts_with('@') {
        1
    } else {
        FIELDS.len()
    };
    while fields.len() < wanted {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        if field.is_empty() {
            return Err(SHAPE.to_owned());
        }
        fields.push(field);
        rest = tail.trim_start();
    }
    if wanted == 1 {
        known_word(fields[0])?;
    } else {
        for (text, field) in fields.iter().zip(&FIELDS) {
            check_field(text, field)?;
        }
        // A day that no month has would never come: `0 0 31 2 *`.
        impossible_day(fields[2], fields[3], fields[4])?;
    }
    if rest.is_empty() {
        return Err("must have a command behind the schedule".to_owned());
    }
    let schedule = fields.join(" ");
    // Two words for the same time.
    let schedule = if schedule == "@midnight" {
        "@daily".to_owned()
    } else {
        schedule
    };
    Ok((schedule, rest))
}

fn known_word(word: &str) -> Result<(), String> {
    if word == "@reboot" {
        return Err("must be a time; what runs at every start is a [daemon.NAME]".to_owned());
    }
    if WORDS.contains(&word) {
        return Ok(());
    }
    Err(format!(
        "must begin with five fields or one of {}",
        WORDS.join(", ")
    ))
}

fn check_field(text: &str, field: &Field) -> Result<(), String> {
    // Mostly it is one of these.
    if text == "*" || number(text).is_some_and(|n| (field.first..=field.last).contains(&n)) {
        return Ok(());
    }
    let wrong = || {
        let Field {
            name, first, last, ..
        } = field;
        format!(
            "must have a {name} from {first} to {last} (`*`, `a-b`, `*/n`, `a,b`), not `{text}`"
        )
    };
    if text.contains(',') && text.contains('*') {
        return Err(format!(
            "must have `*` alone in a field, not in a list like `{text}`"
        ));
    }
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        if step.is_some_and(|step| number(step).is_none_or(|n| n == 0 || n > field.last)) {
            return Err(wrong());
        }
        let single = match range.split_once('-') {
            _ if range == "*" => false,
            Some((first, last)) => {
                let (first, last) = (value(first, field), value(last, field));
                if first.zip(last).is_none_or(|(first, last)| first > last) {
                    return Err(wrong());
                }
                false
            }
            None if value(range, field).is_some() => true,
            None => return Err(wrong()),
        };
        if single && step.is_some() {
            return Err(format!(
                "must have a range before `/`: {range}-{}/n, not `{part}`",
                field.last
            ));
        }
    }
    Ok(())
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
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn impossible_day(day: &str, month: &str, weekday: &str) -> Result<(), String> {
    const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (Some(day), Some(month)) = (number(day), value(month, &FIELDS[3])) else {
        return Ok(());
    };
    let length = LENGTHS.get(month as usize - 1).copied().unwrap_or(31);
    // With a day of the week as well, either of the two is enough (crontab(5)).
    if weekday == "*" && day > length {
        return Err(format!(
            "must be a day that comes: month {month} has no day {day}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_seed() {
        let (schedule, command) = cron("5 0 * * * curl http://localhost/housekeeping").unwrap();
        assert_eq!(
            (schedule.as_str(), command),
            ("5 0 * * *", "curl http://localhost/housekeeping")
        );
        assert_eq!(
            cron("10 0  * * 1\tjava -jar harvest.jar").unwrap().0,
            "10 0 * * 1"
        );
    }

    #[test]
    fn what_cron_understands() {
        for line in [
            "@daily x",
            "*/5 * * * * x",
            "0-30/10 8-18 1,15 jan-mar mon-fri date +%F",
            "0 0 29 2 * x",
            "0 0 31 2 1 x",
        ] {
            assert!(cron(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_it_does_not() {
        for line in [
            "",
            "x",
            "* * * * *",
            "60 * * * * x",
            "* 24 * * * x",
            "* * 0 * * x",
            "* * * 13 * x",
            "* * * * 8 x",
            "5/15 * * * * x",
            "*/0 * * * * x",
            "9-5 * * * * x",
            "a * * * * x",
            "@reboot x",
            "@often x",
            "@daily",
            "0 0 31 2 * x",
            "1, * * * * x",
            "+1 * * * * x",
        ] {
            let error = cron(line).unwrap_err();
            assert!(error.starts_with("must"), "{line}: {error}");
        }
    }
}
