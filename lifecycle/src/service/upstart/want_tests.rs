use std::collections::BTreeMap;

use super::*;
use crate::service::sample;
use crate::service::upstart::control::JobState;
use crate::service::upstart::files::Own;
use crate::standalone::entry::tests::definition;
use crate::standalone::records::FORMAT;
use metactl_bundles::app::Restart;

/// Instance `a` with daemons `db` and `web`, which needs it, and cron job `cron.x`, of which `active` runs.
fn jobs(active: &[&str]) -> Jobs {
    let mut jobs = Jobs::default();
    let all = [
        ("metactl@a", None),
        ("metactl-a-db", Some(("db", "daemon"))),
        ("metactl-a-web", Some(("web", "daemon"))),
        ("metactl-a-cron.x", Some(("cron.x", "cron"))),
    ];
    for (name, entry) in all {
        let own = Own {
            instance: Some("a".to_owned()),
            entry: entry.map(|(entry, _)| entry.to_owned()),
            kind: entry.map(|(_, kind)| kind.to_owned()),
        };
        jobs.files.insert(name.to_owned(), own);
        let runs = active.contains(&name);
        let state = JobState {
            start: runs,
            state: if runs { "running" } else { "waiting" }.to_owned(),
            pid: None,
        };
        jobs.states.insert(name.to_owned(), state);
    }
    jobs
}

/// The word of a job that runs without a process.
const RUNS: &str = "start/running";
const ALL: [&str; 4] = [
    "metactl@a",
    "metactl-a-db",
    "metactl-a-web",
    "metactl-a-cron.x",
];

fn planned(now: &Jobs, daemons: &[(&str, &str)], cron: bool, network: Network) -> Plan {
    let mut web = definition("web", Restart::Always);
    web.requires = vec!["db".to_owned()];
    let mut job = definition("cron.x", Restart::Never);
    job.kind = EntryKind::Cron;
    let manifest = sample::manifest("a", "a", vec![web, definition("db", Restart::Always), job]);
    let word = |(name, word): &(&str, &str)| ((*name).to_owned(), (*word).to_owned());
    let wanted = Wanted {
        format: FORMAT,
        change: "c".to_owned(),
        bundle: "b".to_owned(),
        daemons: daemons.iter().map(word).collect::<BTreeMap<_, _>>(),
        cron,
        uplink: None,
    };
    plan("a", now, &wanted, &manifest, network)
}

fn names(groups: &[&[&str]]) -> Vec<Vec<String>> {
    let group = |group: &&[&str]| group.iter().map(|name| (*name).to_owned()).collect();
    groups.iter().map(group).collect()
}

#[test]
fn everything_is_started_in_its_order() {
    let plan = planned(
        &jobs(&[]),
        &[("web", "n"), ("db", "n")],
        true,
        Network::Stays,
    );
    assert_eq!(plan.stop, names(&[]));
    assert!(plan.instance);
    assert_eq!(plan.daemons, ["metactl-a-db", "metactl-a-web"]);
    // One daemon alone has no cron jobs beside it.
    let plan = planned(&jobs(&[]), &[("db", "n")], false, Network::Stays);
    assert!(!plan.instance);
    assert_eq!(plan.daemons, ["metactl-a-db"]);
}

#[test]
fn what_goes_on_is_left_alone() {
    let wanted = [("web", RUNS), ("db", RUNS)];
    assert_eq!(
        planned(&jobs(&ALL), &wanted, true, Network::Stays),
        Plan::default()
    );
    let plan = planned(
        &jobs(&ALL),
        &[("web", "new"), ("db", RUNS)],
        true,
        Network::Stays,
    );
    assert_eq!(plan.stop, names(&[&["metactl-a-web"]]));
    assert_eq!(
        (plan.daemons, plan.instance),
        (vec!["metactl-a-web".to_owned()], false)
    );
    let plan = planned(&jobs(&ALL), &[("db", RUNS)], true, Network::Stays);
    assert_eq!(plan.stop, names(&[&["metactl-a-web"]]));
    assert!(plan.daemons.is_empty());
}

#[test]
fn another_network_stops_everything_the_instance_last() {
    let wanted = [("web", RUNS), ("db", RUNS)];
    let plan = planned(&jobs(&ALL), &wanted, true, Network::Anew);
    let order = names(&[
        &["metactl-a-web"],
        &["metactl-a-cron.x", "metactl-a-db"],
        &["metactl@a"],
    ]);
    assert_eq!(plan.stop, order);
    assert!(plan.instance);
    assert_eq!(plan.daemons, ["metactl-a-db", "metactl-a-web"]);
    // Without cron jobs the instance as a whole does not run, and takes its daemons along.
    let plan = planned(&jobs(&ALL), &wanted, false, Network::Stays);
    assert_eq!(plan.stop.last(), Some(&vec!["metactl@a".to_owned()]));
    assert_eq!((plan.daemons.len(), plan.instance), (2, false));
}
