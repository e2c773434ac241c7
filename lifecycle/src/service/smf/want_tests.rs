use metactl_bundles::bundle::EntryKind;

use super::*;
use crate::service::smf::render::tests::{entry, job, manifest};
use crate::standalone::records::FORMAT;

/// Instance `a`: daemons `db`, `web` (which needs it), and `old`, which is no more; cron jobs.
fn now(running: &[&str]) -> States {
    let mut states = States::new();
    for (name, kind) in [
        ("db", "daemon"),
        ("web", "daemon"),
        ("old", "daemon"),
        ("cron.x", "cron"),
        ("cron.gone", "cron"),
        ("cron.up", "boot"),
    ] {
        let runs = running.contains(&name);
        let state = match (kind, runs) {
            ("daemon", true) => ("online", ""),
            (_, true) => ("offline", "online"),
            _ => ("disabled", ""),
        };
        let state = State {
            state: state.0.to_owned(),
            next: state.1.to_owned(),
            contract: runs.then(|| "1".to_owned()),
            method_contract: (runs && kind != "daemon").then(|| "7".to_owned()),
            until_boot: Some(runs),
            entry: Some(name.to_owned()),
            kind: kind.to_owned(),
            ..State::default()
        };
        states.insert(names::entry(name), state);
    }
    states
}

fn planned(now: &States, daemons: &[(&str, &str)], cron: bool) -> Plan {
    let mut web = entry("web", EntryKind::Daemon);
    web.after = vec!["db".to_owned()];
    let mut entries = vec![web, entry("db", EntryKind::Daemon)];
    entries.extend([job("cron.x", "@daily"), job("cron.up", "@reboot")]);
    let wanted = Wanted {
        format: FORMAT,
        change: "c".to_owned(),
        bundle: "b".to_owned(),
        daemons: daemons
            .iter()
            .map(|(name, word)| ((*name).to_owned(), (*word).to_owned()))
            .collect(),
        cron,
        uplink: None,
    };
    plan("a", now, &wanted, &manifest("a", entries))
}

const GOES_ON: &str = "contract 1";

#[test]
fn what_runs_by_the_same_word_goes_on() {
    let plan = planned(
        &now(&["db", "web", "cron.up"]),
        &[("db", GOES_ON), ("web", GOES_ON)],
        true,
    );
    assert_eq!(plan, Plan::default());
}

#[test]
fn another_word_is_a_restart_in_order() {
    let plan = planned(
        &now(&["db", "web", "old"]),
        &[("db", "new"), ("web", "new")],
        false,
    );
    let fmri = |name: &str| format!("svc:/site/metactl/a:{name}");
    assert_eq!(plan.stop, [fmri("old"), fmri("web"), fmri("db")]);
    assert_eq!(plan.start, [fmri("db"), fmri("web")]);
}

#[test]
fn one_that_was_given_up_is_taken_out_of_maintenance_first() {
    let mut states = now(&["db"]);
    let web = states.get_mut("web").unwrap();
    web.state = "maintenance".to_owned();
    web.until_boot = Some(true);
    let plan = planned(&states, &[("db", GOES_ON), ("web", "new")], false);
    assert_eq!(plan.stop, ["svc:/site/metactl/a:web"]);
    assert_eq!(plan.start, ["svc:/site/metactl/a:web"]);
}

#[test]
fn jobs_end_when_they_should_not_run() {
    let running = now(&["cron.x", "cron.gone"]);
    let ends = |cron| -> Vec<String> {
        let plan = planned(&running, &[], cron);
        assert!(
            plan.end
                .iter()
                .all(|(_, contract)| contract.as_deref() == Some("7"))
        );
        plan.end.into_iter().map(|(fmri, _)| fmri).collect()
    };
    let fmri = |name: &str| format!("svc:/site/metactl/a:{name}");
    assert_eq!(ends(true), [fmri("cron_2egone")]);
    assert_eq!(ends(false), [fmri("cron_2egone"), fmri("cron_2ex")]);
}

#[test]
fn jobs_of_a_boot_run_once() {
    assert_eq!(
        planned(&now(&[]), &[], true).start,
        ["svc:/site/metactl/a:cron_2eup"]
    );
    let mut states = now(&[]);
    let up = states.get_mut("cron_2eup").unwrap();
    up.state = "maintenance".to_owned();
    up.until_boot = Some(true);
    assert_eq!(planned(&states, &[], true), Plan::default());
}

#[test]
fn a_circle_has_an_order_too() {
    let mut a = entry("a", EntryKind::Daemon);
    a.after = vec!["b".to_owned(), "unknown".to_owned()];
    let mut b = entry("b", EntryKind::Daemon);
    b.requires = vec!["a".to_owned()];
    assert_eq!(
        start_order(&[a, b, entry("c", EntryKind::Daemon)]),
        ["c", "a", "b"]
    );
}
