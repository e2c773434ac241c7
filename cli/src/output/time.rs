//! Points in time as people say them: local, with the zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// `14:03:11 CEST` today, `23 Nov 14:03 CET` this year, `2025-11-23 14:03 CET` before. What is no
/// RFC 3339 time is printed as it is.
pub fn local(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<Timestamp>() else {
        return rfc3339.to_owned();
    };
    say(&time.to_zoned(TimeZone::system()), &Zoned::now())
}

fn say(time: &Zoned, now: &Zoned) -> String {
    let format = if time.date() == now.date() {
        "%H:%M:%S %Z"
    } else if time.year() == now.year() {
        "%-d %b %H:%M %Z"
    } else {
        "%Y-%m-%d %H:%M %Z"
    };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_short_as_possible() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let now = at("2026-11-23T12:00:00Z");
        assert_eq!(say(&at("2026-11-23T01:02:03Z"), &now), "01:02:03 UTC");
        assert_eq!(say(&at("2026-11-03T01:02:03Z"), &now), "3 Nov 01:02 UTC");
        assert_eq!(
            say(&at("2025-11-23T01:02:03Z"), &now),
            "2025-11-23 01:02 UTC"
        );
        assert_eq!(local("soon"), "soon");
    }
}
