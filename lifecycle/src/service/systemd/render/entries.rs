//! The units of an entry point: its service, the sockets of a daemon, the timer of a cron job.

use std::path::PathBuf;
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::network::Mode;
use metactl_bundles::schedule::{Missed, Schedule};

use super::super::{calendar, names};
use super::{BEGIN, Input, Limits, Text, Unit, command, escaped, restarts};
use crate::service::jobs::boot_mark;

pub(super) fn service(input: &Input<'_>, entry: &EntryRef, limits: Limits) -> Unit {
    let instance = input.instance();
    let is_daemon = entry.kind == EntryKind::Daemon;
    let release = &input.manifest.release;
    let description = format!("{instance} {} ({release})", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    let ties = &entry.service;
    let mut requires = input.below();
    if !ties.sockets.is_empty() {
        requires.push(names::socket(instance, &entry.name));
    }
    let mut after = requires.clone();
    let needed = entry.requires.iter();
    requires.extend(needed.map(|other| names::service(instance, other)));
    text.list("Requires", &requires);
    if input.needs_resolver() {
        after.push(names::RESOLVER.to_owned());
    }
    after.extend(
        entry
            .after
            .iter()
            .map(|other| names::service(instance, other)),
    );
    text.list("After", &after);
    if is_daemon {
        restarts::limit(&mut text, input, entry);
    } else {
        // Its times are its limit.
        text.unlimited();
    }
    text.settings(input, "unit");
    text.section("Service");
    text.set("Type", "notify");
    // Behind the small init of the sandbox it is not the main process that tells.
    text.set("NotifyAccess", if ties.notify { "all" } else { "main" });
    // The main process is the application: the runtime hands over and is gone.
    text.set("ExecStart", &launch(input, entry));
    text.surroundings(input);
    let ended = [
        &*input.metactl.to_string_lossy(),
        "-a",
        instance,
        "unit",
        "ended",
        &entry.name,
    ];
    text.set("ExecStopPost", &command(&ended.map(str::to_owned)));
    restarts::again(&mut text, input, entry);
    text.set("SuccessExitStatus", "143");
    text.set("KillMode", "mixed");
    text.set("KillSignal", &entry.stop_signal.to_string());
    text.seconds("TimeoutStartSec", BEGIN);
    text.seconds("TimeoutStopSec", entry.stop_timeout);
    if let Some(time) = ties.watchdog_ms {
        text.seconds("WatchdogSec", Duration::from_millis(time));
    }
    text.set("Slice", &names::slice(instance));
    text.limits(limits);
    // One process that is too large does not end the others.
    text.set("OOMPolicy", "continue");
    text.set("StandardOutput", "journal");
    text.set("StandardError", "journal");
    text.set("SyslogIdentifier", &format!("{instance}-{}", entry.name));
    text.settings(input, "service");
    text.unit(names::service(instance, &entry.name))
}

fn launch(input: &Input<'_>, entry: &EntryRef) -> String {
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut words = vec![
        shown(input.runtime.to_path_buf()),
        "--root".to_owned(),
        shown(input.paths.runtime_root()),
        "--cgroup-manager".to_owned(),
        "unit".to_owned(),
        "run".to_owned(),
        "--detach".to_owned(),
        "--bundle".to_owned(),
        shown(input.bundle.join(&entry.dir)),
    ];
    if input.mode != Mode::Host {
        words.push("--netns".to_owned());
        words.push(shown(
            input.paths.instance_run(input.instance()).join("netns"),
        ));
    }
    if entry.service.notify {
        words.push("--notify".to_owned());
    }
    words.push(format!("{}.{}", input.instance(), entry.name));
    command(&words)
}

/// The sockets that a daemon gets. They are made in the network of the instance: one of the server's would lead around
/// its firewall.
pub(super) fn socket(input: &Input<'_>, entry: &EntryRef) -> Option<Unit> {
    if entry.service.sockets.is_empty() {
        return None;
    }
    let instance = input.instance();
    let description = format!("{instance} {}: sockets", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    let below = input.below();
    text.list("Requires", &below);
    text.list("After", &below);
    text.unlimited();
    text.section("Socket");
    for socket in &entry.service.sockets {
        text.set("ListenStream", socket);
    }
    if input.mode != Mode::Host {
        let pin = input.paths.instance_run(instance).join("netns");
        text.set("NetworkNamespacePath", &escaped(&pin.to_string_lossy()));
    }
    Some(text.unit(names::socket(instance, &entry.name)))
}

/// The timer of a cron job. A schedule that cannot be understood, which the configuration refuses, has none.
pub(super) fn timer(input: &Input<'_>, entry: &EntryRef) -> Option<Unit> {
    let instance = input.instance();
    let settings = &input.manifest.cron;
    let schedule = Schedule::parse(entry.schedule.as_deref()?).ok()?;
    let description = format!("{instance} {}: times", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    // The network stays between two runs.
    let below = input.below();
    text.list("Requires", &below);
    text.list("After", &below);
    text.unlimited();
    if schedule == Schedule::Boot {
        // Its end is marked, and the mark lasts until the next boot.
        let mark = boot_mark(input.paths, instance, &entry.name);
        text.set(
            "ConditionPathExists",
            &format!("!{}", escaped(&mark.to_string_lossy())),
        );
    }
    text.section("Timer");
    match &schedule {
        Schedule::Boot => text.set("OnBootSec", "1s"),
        Schedule::Times(times) => {
            for event in calendar::events(times, settings.timezone.as_deref()) {
                text.set("OnCalendar", &event);
            }
            if settings.missed == Missed::Once {
                text.set("Persistent", "yes");
            }
        }
    }
    if !settings.delay.is_zero() {
        text.seconds("RandomizedDelaySec", settings.delay);
    }
    text.set("AccuracySec", "1s");
    Some(text.unit(names::timer(instance, &entry.name)))
}
