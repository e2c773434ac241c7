//! The times of a cron job as systemd writes them (systemd.time(7), "Calendar Events").

use metactl_bundles::schedule::Times;

/// The days of the week, by their numbers.
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The calendar events of a schedule, in a time zone or in that of the server. Two of them when either day is enough
/// (crontab(5)).
pub(super) fn events(times: &Times, zone: Option<&str>) -> Vec<String> {
    let [minutes, hours, days, months, weekdays] = times.numbers();
    let time = format!("{}:{}:00", list(&hours, 24), list(&minutes, 60));
    let zone = zone.map(|zone| format!(" {zone}")).unwrap_or_default();
    let date = |days: &str| format!("*-{}-{days} {time}{zone}", list(&months, 12));
    let days = list(&days, 31);
    let names: Vec<&str> = weekdays
        .iter()
        .filter_map(|day| DAYS.get(*day as usize).copied())
        .collect();
    let names = names.join(",");
    match (times.takes_either_day(), weekdays.len() == DAYS.len()) {
        (true, _) => vec![date(&days), format!("{names} {}", date("*"))],
        (false, true) => vec![date(&days)],
        (false, false) => vec![format!("{names} {}", date(&days))],
    }
}

/// `*` when all of `count` are in it.
fn list(numbers: &[u32], count: usize) -> String {
    if numbers.len() == count {
        return "*".to_owned();
    }
    let words: Vec<String> = numbers.iter().map(|n| format!("{n:02}")).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use metactl_bundles::schedule::Schedule;

    use super::*;

    fn of(text: &str, zone: Option<&str>) -> Vec<String> {
        match Schedule::parse(text) {
            Ok(Schedule::Times(times)) => events(&times, zone),
            other => panic!("{text}: {other:?}"),
        }
    }

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
            assert_eq!(of(schedule, None), expected, "{schedule}");
        }
        assert_eq!(
            of("30 2 */2 * mon", Some("Europe/Berlin")),
            ["Mon *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 02:30:00 Europe/Berlin"]
        );
    }
}
