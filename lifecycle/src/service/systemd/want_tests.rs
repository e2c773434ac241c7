use std::collections::BTreeMap;

use super::*;
use crate::service::sample;
use crate::service::systemd::files::Own;
use crate::standalone::entry::tests::definition;
use crate::standalone::records::FORMAT;
use metactl_bundles::app::Restart;

/// Instance `a` with daemons `web` and `jobs` and cron job `cron.x`, of which `active` runs; the word for a run is `1`.
fn units(active: &[&str]) -> Units {
    let mut units = Units::default();
    let all = [
        ("metactl-a.target", None),
        ("metactl-net@a.service", None),
        ("metactl-a-web.service", Some(("web", "daemon"))),
        ("metactl-a-jobs.service", Some(("jobs", "daemon"))),
        ("metactl-a-cron.x.service", Some(("cron.x", "cron"))),
        ("metactl-a-cron.x.timer", Some(("cron.x", "cron"))),
    ];
    for (name, entry) in all {
        let own = Own {
            instance: Some("a".to_owned()),
            entry: entry.map(|(entry, _)| entry.to_owned()),
            kind: entry.map(|(_, kind)| kind.to_owned()),
            bundle: Some("b1".to_owned()),
        };
        units.files.insert(name.to_owned(), own);
        let word = if active.contains(&name) {
            "active"
        } else {
            "inactive"
        };
        let state = UnitState {
            load: "loaded".to_owned(),
            active: word.to_owned(),
            invocation: "1".to_owned(),
            ..UnitState::default()
        };
        units.states.insert(name.to_owned(), state);
    }
    units
}

fn wanted(daemons: &[(&str, &str)], cron: bool) -> Wanted {
    let word = |(name, word): &(&str, &str)| ((*name).to_owned(), (*word).to_owned());
    Wanted {
        format: FORMAT,
        change: "c".to_owned(),
        bundle: "b2".to_owned(),
        daemons: daemons.iter().map(word).collect::<BTreeMap<_, _>>(),
        cron,
        uplink: None,
    }
}

fn planned(now: &Units, wanted: &Wanted, network: Network) -> Plan {
    let mut entries = vec![
        definition("jobs", Restart::Always),
        definition("web", Restart::Always),
    ];
    let mut job = definition("cron.x", Restart::Never);
    job.kind = EntryKind::Cron;
    entries.push(job);
    let manifest = sample::manifest("a", "a", entries);
    let unit = |name: &str| Unit {
        name: name.to_owned(),
        text: String::new(),
    };
    let units = [
        unit("metactl-a-cron.x.timer"),
        unit("metactl-a-cron.x.service"),
    ];
    plan("a", now, wanted, &manifest, &units, network, &[])
}

const ALL: [&str; 5] = [
    "metactl-a.target",
    "metactl-net@a.service",
    "metactl-a-web.service",
    "metactl-a-jobs.service",
    "metactl-a-cron.x.timer",
];

#[test]
fn what_runs_by_the_same_word_goes_on() {
    let plan = planned(
        &units(&ALL),
        &wanted(&[("web", "1"), ("jobs", "1")], true),
        Network::Stays,
    );
    assert!(plan.stop.is_empty() && plan.daemons.is_empty(), "{plan:?}");
}

#[test]
fn another_word_is_a_restart_and_none_a_stop() {
    let plan = planned(&units(&ALL), &wanted(&[("web", "2")], true), Network::Stays);
    assert_eq!(
        plan.stop,
        ["metactl-a-jobs.service", "metactl-a-web.service"]
    );
    assert_eq!(plan.daemons, ["metactl-a-web.service"]);
}

#[test]
fn another_network_stops_everything_in_the_old_one() {
    let plan = planned(
        &units(&ALL),
        &wanted(&[("web", "1"), ("jobs", "1")], true),
        Network::Anew,
    );
    assert_eq!(plan.stop.last().unwrap(), "metactl-net@a.service");
    assert_eq!(plan.stop.len(), 4, "{plan:?}");
    assert_eq!(plan.daemons.len(), 2);
    assert_eq!(plan.timers, ["metactl-a-cron.x.timer"]);
}

#[test]
fn one_daemon_alone_starts_no_cron_jobs() {
    let plan = planned(&units(&[]), &wanted(&[("web", "2")], false), Network::Stays);
    assert_eq!(plan.daemons, ["metactl-a-web.service"]);
    assert!(plan.stop.is_empty() && plan.timers.is_empty(), "{plan:?}");
}

#[test]
fn limits_are_those_of_config_json() {
    let text = r#"{"memory":{"limit":1048576},"pids":{"limit":-1},"cpu":{"quota":150000,"period":100000}}"#;
    let limits = limits_of(Some(&serde_json::from_str(text).unwrap()));
    assert_eq!(
        (limits.memory, limits.tasks, limits.cpu_millis),
        (Some(1 << 20), None, Some(1500))
    );
    assert_eq!(limits_of(None), Limits::default());
}
