use super::*;
use crate::service::smf::render::tests::{job, manifest};

fn times(schedule: &str) -> Times {
    match Schedule::parse(schedule) {
        Ok(Schedule::Times(times)) => times,
        other => panic!("{schedule}: {other:?}"),
    }
}

fn of(instance: &str, zone: Option<&str>, lines: &[&str]) -> Block {
    Block {
        instance: instance.to_owned(),
        zone: zone.map(str::to_owned),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    }
}

const BEGIN: &str = "# metactl a: begin (written by metactl; what you change here is lost)\n";
const END: &str = "# metactl a: end\n";

#[test]
fn schedules_as_solaris_has_them() {
    for (schedule, expected) in [
        ("5 0 * * *", "5 0 * * *"),
        ("@daily", "0 0 * * *"),
        (
            "*/20 8-10 * jan-MAR mon-fri",
            "0,20,40 8,9,10 * 1,2,3 1,2,3,4,5",
        ),
        ("0 0 * * 7", "0 0 * * 0"),
        // Either day, in both.
        ("0 12 13 * 5", "0 12 13 * 5"),
        // Both days have to fit: Solaris would take either.
        ("0 12 */10 * 5", "0 12 1,11,21,31 * *"),
        ("0 0 * * */2", "0 0 * * 0,2,4,6"),
    ] {
        assert_eq!(fields(&times(schedule)), expected, "{schedule}");
    }
    let both = times("0 12 */10 * 5");
    assert!(fits_today(&both, 5) && !fits_today(&both, 4));
    let either = times("0 12 13 * 5");
    assert!(fits_today(&either, 4));
}

#[test]
fn lines_run_metactl() {
    let jobs = vec![
        job("cron.a-b", "@hourly"),
        job("cron.up", "@reboot"),
        job("cron.x", "nonsense"),
    ];
    let manifest = manifest("my.app", jobs);
    let block = block(&manifest, Path::new("/usr/bin/metactl"), &[]);
    assert_eq!(
        block.lines,
        ["0 * * * * /usr/bin/metactl -a my.app unit job cron.a-b >/dev/null 2>&1"]
    );
    let variables = [("A".to_owned(), "/x y/100%/it's".to_owned())];
    let block = super::block(&manifest, Path::new("/b/metactl"), &variables);
    // `%` would be the end of the line.
    assert_eq!(
        block.lines,
        [
            "0 * * * * env 'A=/x y/100\\%/it'\\''s' /b/metactl -a my.app unit job cron.a-b >/dev/null 2>&1"
        ]
    );
}

#[test]
fn everything_else_stays_byte_by_byte() {
    let others = "# mine\r\n10 3 * * * /usr/sbin/logadm\n\n\t# caf\u{e9}  \n30 3 * * * x%y\\%z";
    let one = of("a", None, &["0 0 * * * a"]);
    let with_one = with(others, &one, None).unwrap();
    assert_eq!(with_one, format!("{others}\n{BEGIN}0 0 * * * a\n{END}"));
    assert_eq!(without(&with_one, "a"), format!("{others}\n"));
    // Lines that somebody has added below stay below; another block comes behind.
    let more = format!("{with_one}1 1 * * * below\n");
    let two = with(&more, &of("b", None, &["0 0 * * * b"]), None).unwrap();
    let three = with(&two, &of("a", None, &["0 0 * * * c"]), None).unwrap();
    assert_eq!(three, two.replace("* a\n", "* c\n"));
    assert_eq!(without(&three, "b"), more.replace("* a\n", "* c\n"));
    assert_eq!(
        with(&three, &of("a", None, &[]), None).unwrap(),
        without(&three, "a")
    );
    assert_eq!(without(others, "a"), others);
    // The same again is the same.
    assert_eq!(with(&with_one, &one, None).unwrap(), with_one);
}

#[test]
fn a_block_that_was_torn_takes_nothing_of_others_along() {
    let torn = format!("{BEGIN}0 0 * * * a\n5 5 * * * mine\n");
    assert_eq!(without(&torn, "a"), "0 0 * * * a\n5 5 * * * mine\n");
    // A name that begins alike, and an end that stands alone.
    let text = format!("{END}{}", BEGIN.replace(" a:", " ab:"));
    assert_eq!(without(&text, "a"), text);
}

#[test]
fn a_zone_holds_for_the_block_alone() {
    let berlin = of("a", Some("Europe/Berlin"), &["0 0 * * * a"]);
    let text = with("1 1 * * * mine\n", &berlin, Some("UTC")).unwrap();
    assert_eq!(
        text,
        format!("1 1 * * * mine\n{BEGIN}TZ=Europe/Berlin\n0 0 * * * a\nTZ=UTC\n{END}")
    );
    // In a crontab with a zone of its own, jobs of no zone have that of the server.
    let text = with(
        "TZ=Iceland\n",
        &of("a", None, &["0 0 * * * a"]),
        Some("UTC"),
    )
    .unwrap();
    assert_eq!(
        text,
        format!("TZ=Iceland\n{BEGIN}TZ=UTC\n0 0 * * * a\nTZ=Iceland\n{END}")
    );
    // The zone in force, and that of the server, need no line.
    for (before, zone) in [("TZ=Europe/Berlin\n", "UTC"), ("", "Europe/Berlin")] {
        let text = with(before, &berlin, Some(zone)).unwrap();
        assert_eq!(text, format!("{before}{BEGIN}0 0 * * * a\n{END}"));
    }
    // Nobody knows the way back.
    assert_eq!(with("", &berlin, None), Err(NoZone));
    assert_eq!(
        with("TZ=Iceland\n", &of("a", None, &["x"]), None),
        Err(NoZone)
    );
    // What was written is taken away whole.
    let text = with("", &berlin, Some("UTC")).unwrap();
    assert_eq!(without(&text, "a"), "");
}

#[test]
fn the_zone_of_the_system() {
    let init = "# comment\nTZ=US/Pacific\nCMASK=022\n";
    assert_eq!(zone_of_system(init).as_deref(), Some("US/Pacific"));
    assert_eq!(zone_of_system("TZ=\"UTC\"\n").as_deref(), Some("UTC"));
    assert_eq!(zone_of_system("#TZ=x\n"), None);
}
