//! When a daemon is started again, asked to stop, and killed.

use metactl_bundles::bundle::EntryKind;

use super::*;

pub(crate) fn definition(name: &str, restart: Restart) -> EntryRef {
    EntryRef {
        name: name.to_owned(),
        title: name.to_owned(),
        kind: EntryKind::Daemon,
        platform: "exec".to_owned(),
        dir: name.into(),
        tmp: "/tmp".into(),
        schedule: None,
        port: None,
        health: Default::default(),
        stop_signal: 15,
        stop_timeout: Duration::from_secs(10),
        restart,
        after: Vec::new(),
        checks: Vec::new(),
        notify_socket: None,
        requires: Vec::new(),
        restart_limit: None,
        service: Default::default(),
    }
}

fn exit(failed: bool) -> Exit {
    let code = Some(i32::from(failed));
    Exit {
        at: String::new(),
        code,
        signal: None,
        reason: "exit".to_owned(),
        failed,
    }
}

fn started(restart: Restart, now: Instant) -> Daemon {
    let mut daemon = Daemon::new(definition("web", restart));
    assert_eq!(daemon.next(None, now), None);
    assert_eq!(daemon.next(Some("1"), now), Some(Action::Launch));
    daemon.launching("1");
    daemon.launched(now);
    assert_eq!(daemon.next(Some("1"), now), None);
    daemon
}

#[test]
fn pauses_double_and_begin_anew_after_a_good_run() {
    let mut now = Instant::now();
    let mut daemon = started(Restart::Always, now);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        daemon.ended(exit(true), now);
        let at = daemon.deadline().unwrap();
        pauses.push((at - now).as_millis());
        assert_eq!(daemon.next(Some("1"), now), None);
        now = at;
        assert_eq!(daemon.next(Some("1"), now), Some(Action::Launch));
        daemon.launching("1");
        daemon.launched(now);
    }
    assert_eq!(
        pauses,
        [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
    );
    assert_eq!(daemon.restarts, 10);
    now += GOOD_RUN;
    daemon.ended(exit(true), now);
    assert_eq!(daemon.deadline(), Some(now + FIRST_PAUSE));
}

#[test]
fn restart_decides_who_is_started_again() {
    let now = Instant::now();
    for (restart, failed, again) in [
        (Restart::Always, false, true),
        (Restart::Always, true, true),
        (Restart::OnFailure, true, true),
        (Restart::OnFailure, false, false),
        (Restart::Never, true, false),
    ] {
        let mut daemon = started(restart, now);
        daemon.ended(exit(failed), now);
        assert_eq!(daemon.phase != Phase::Ended, again, "{restart:?} {failed}");
        // Somebody who starts it does start it.
        assert_eq!(daemon.next(Some("2"), now), Some(Action::Launch));
        assert_eq!(daemon.next(None, now), None);
    }
}

#[test]
fn who_ends_too_often_is_given_up() {
    let mut now = Instant::now();
    let mut daemon = started(Restart::Always, now);
    daemon.definition.restart_limit = Some(2);
    for _ in 0..2 {
        daemon.ended(exit(true), now);
        now = daemon.deadline().unwrap();
        assert_eq!(daemon.next(Some("1"), now), Some(Action::Launch));
        daemon.launching("1");
        daemon.launched(now);
    }
    daemon.ended(exit(true), now);
    assert_eq!(
        (daemon.phase.clone(), daemon.next(Some("1"), now)),
        (Phase::Ended, None)
    );
    let reason = daemon.last_exit.clone().unwrap().reason;
    assert_eq!(reason, "exit; given up after 3 short runs");
    // Somebody who starts it begins anew.
    assert_eq!(daemon.next(Some("2"), now), Some(Action::Launch));
    daemon.launching("2");
    daemon.launched(now);
    daemon.ended(exit(true), now);
    assert!(daemon.deadline().is_some());
}

#[test]
fn what_another_supervisor_told_is_known() {
    let now = Instant::now();
    let known = |state| EntryReport {
        state,
        generation: Some("1".to_owned()),
        process: None,
        since: None,
        restarts: 3,
        adopted: false,
        last_exit: Some(exit(true)),
        says: None,
        next: None,
    };
    let recall = |restart, state| {
        let mut daemon = Daemon::new(definition("web", restart));
        daemon.recall(&known(state), now);
        daemon
    };
    // It has ended for good, and does not begin again by itself.
    let ended = recall(Restart::Never, EntryState::Ended);
    assert_eq!((ended.next(Some("1"), now), ended.restarts), (None, 3));
    assert_eq!(ended.next(Some("2"), now), Some(Action::Launch));
    // It ended while nobody looked.
    let died = recall(Restart::Always, EntryState::Running);
    assert!(died.deadline().is_some() && died.last_exit.clone().unwrap().code.is_none());
    assert_eq!(
        recall(Restart::Never, EntryState::Running).phase,
        Phase::Ended
    );
    // It waits for its next start, which is one more.
    let mut waiting = recall(Restart::Always, EntryState::Waiting);
    assert_eq!(waiting.next(Some("1"), now), Some(Action::Launch));
    waiting.launching("1");
    assert_eq!(waiting.restarts, 4);
}

#[test]
fn who_does_not_stop_is_killed() {
    let now = Instant::now();
    let mut daemon = started(Restart::Always, now);
    assert_eq!(daemon.next(None, now), Some(Action::Ask));
    daemon.asked(now);
    assert_eq!(daemon.next(None, now), None);
    let late = now + Duration::from_secs(10);
    assert_eq!(daemon.next(None, late), Some(Action::Kill));
    daemon.killed();
    assert_eq!(daemon.next(None, late), None);
    daemon.ended(exit(true), late);
    assert_eq!(
        (daemon.phase.clone(), daemon.next(None, late)),
        (Phase::Idle, None)
    );
}

#[test]
fn one_that_tells_runs_when_it_is_ready_and_ends_when_it_is_silent() {
    let second = Duration::from_secs(1);
    let mut definition = definition("web", Restart::OnFailure);
    definition.service.notify = true;
    definition.service.watchdog_ms = Some(5000);
    definition.notify_socket = Some("/x".into());
    let mut daemon = Daemon::new(definition);
    let begun = Instant::now();
    daemon.launching("1");
    daemon.launched(begun);
    assert_eq!(daemon.phase, Phase::Beginning(begun));
    assert!(daemon.is_alive());
    // Who is not ready need not say that it is alive.
    daemon.alive(begun);
    let now = begun + READY;
    assert_eq!(daemon.next(Some("1"), now - second), None);
    assert_eq!(daemon.deadline(), Some(now));
    let silent = daemon.next(Some("1"), now);
    assert_eq!(silent, Some(Action::Abort(Silence::NotReady)));
    assert_eq!(daemon.next(Some("2"), now), Some(Action::Ask));

    daemon.ready(begun + second);
    assert_eq!(daemon.deadline(), Some(begun + 6 * second));
    daemon.alive(begun + 4 * second);
    assert_eq!(daemon.next(Some("1"), begun + 8 * second), None);
    let now = begun + 9 * second;
    let silent = daemon.next(Some("1"), now);
    assert_eq!(silent, Some(Action::Abort(Silence::NotAlive)));
    daemon.aborting(Silence::NotAlive, now);
    // It is not saved by what it says now, and killed after its time to stop.
    daemon.alive(now);
    daemon.ready(now);
    assert_eq!(daemon.next(Some("1"), now + 9 * second), None);
    let late = now + 10 * second;
    assert_eq!(daemon.next(Some("1"), late), Some(Action::Kill));
    daemon.killed();
    assert_eq!(daemon.next(Some("1"), late), None);
    let ended = exits::silent(exit(false), Silence::NotAlive);
    assert!(ended.failed && ended.reason.contains("watchdog"));
    daemon.ended(ended, late);
    assert!(matches!(daemon.phase, Phase::Waiting(_)));

    // Another watchdog, none, and one that says itself that it hangs.
    daemon.launching("1");
    daemon.launched(late);
    daemon.ready(late);
    daemon.set_watchdog(2 * second, late);
    assert_eq!(daemon.deadline(), Some(late + 2 * second));
    daemon.hangs(late);
    let silent = daemon.next(Some("1"), late);
    assert_eq!(silent, Some(Action::Abort(Silence::NotAlive)));
    daemon.set_watchdog(Duration::ZERO, late);
    daemon.hangs(late);
    assert_eq!(daemon.next(Some("1"), late + READY), None);
}

#[test]
fn a_new_generation_replaces_the_old_one() {
    let now = Instant::now();
    let mut daemon = started(Restart::Always, now);
    assert_eq!(daemon.next(Some("2"), now), Some(Action::Ask));
    daemon.asked(now);
    // Wanted again while it stops: it stops first.
    assert_eq!(daemon.next(Some("3"), now), None);
    daemon.ended(exit(false), now);
    assert_eq!(daemon.next(Some("3"), now), Some(Action::Launch));
    daemon.launching("3");
    assert_eq!((daemon.restarts, daemon.last_exit.clone()), (0, None));
}
