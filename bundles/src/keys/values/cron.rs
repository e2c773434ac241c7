//! Lines of `[crontab]`, and what `[cron]` says about them.

use std::borrow::Cow;

use crate::schedule::Schedule;

/// The schedule, its fields separated by single spaces, and the command.
pub fn cron(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let (schedule, command) = checked_cron(text)?;
    Schedule::parse(&schedule)?;
    if command.is_empty() {
        return Err("must have a command behind the schedule".to_owned());
    }
    Ok((schedule, command))
}

/// The same of a line that was checked before.
pub(crate) fn checked_cron(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let (schedule, command) = Schedule::split(text)?;
    // Two words for the same time.
    let schedule = match &*schedule {
        "@midnight" => Cow::Borrowed("@daily"),
        _ => schedule,
    };
    Ok((schedule, command))
}

/// The name of a time zone. Whether the server knows it is seen where its data are.
pub fn time_zone(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-".contains(c);
    let part = |part: &str| !part.is_empty() && part.chars().all(allowed);
    if text.len() <= 64 && text.split('/').all(part) {
        return Ok(text.to_owned());
    }
    Err("must be the name of a time zone, like Europe/Berlin or UTC".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_seed() {
        let (schedule, command) = cron("5 0 * * * curl http://localhost/housekeeping").unwrap();
        assert_eq!(
            (&*schedule, command),
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
            "@reboot x",
            "*/20,5 * * * * x",
            "0 0 * * fri-sun x",
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

    #[test]
    fn time_zones_are_names() {
        for name in [
            "UTC",
            "Europe/Berlin",
            "America/Argentina/Buenos_Aires",
            "Etc/GMT+5",
        ] {
            assert_eq!(time_zone(name).unwrap(), name);
        }
        for name in [
            "",
            "/etc/passwd",
            "../UTC",
            "Europe/",
            "Europe Berlin",
            ":UTC",
        ] {
            assert!(time_zone(name).unwrap_err().starts_with("must"), "{name}");
        }
    }
}
