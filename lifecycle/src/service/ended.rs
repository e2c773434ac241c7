//! The end of an entry point, where no process of metactl sees it: a step that the service manager asks for records it,
//! tidies up, and tells.

use std::path::PathBuf;

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::platforms::jvm;
use metactl_runtime::cgroup;
use serde::{Deserialize, Serialize};

use super::jobs;
use crate::error::Result;
use crate::events::{self, Event as LogEvent};
use crate::instance::Instance;
use crate::standalone::exits;
use crate::standalone::notify::{Event, Notifier};
use crate::status::{self, Exit};
use crate::{dumps, files};

/// The format number of the records.
const FORMAT: u32 = 1;
/// How long nothing more is told of an entry point that fails again and again, in seconds.
const QUIET: i64 = 600;

/// How an entry point ended last: `<run>/<instance>/ended/<entry>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ended {
    format: u32,
    pub(super) exit: Exit,
    /// How often it was started again since; only where the service manager does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) restarts: u32,
    /// When somebody was told of a failure of it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<i64>,
    /// Whether somebody wanted it to end; not in the records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<bool>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Ended {
    pub(super) fn read(instance: &Instance, entry: &str) -> Result<Option<Ended>> {
        files::read_json(&Ended::path(instance, entry))
    }

    pub(super) fn forget(instance: &Instance, entry: &str) -> Result<()> {
        files::remove_file(&Ended::path(instance, entry)).map(drop)
    }

    /// It is started again.
    pub(super) fn count_restart(instance: &Instance, entry: &str) -> Result<()> {
        let Some(mut ended) = Ended::read(instance, entry)? else {
            return Ok(());
        };
        ended.restarts = ended.restarts.saturating_add(1);
        ended.write(instance, entry)
    }

    /// Whether it ended by itself in a way after which it is started again, as long as that helps.
    pub(super) fn is_to_be_started_again(&self, entry: &EntryRef) -> bool {
        self.asked == Some(false)
            && match entry.restart {
                Restart::Always => true,
                Restart::OnFailure => self.exit.failed,
                Restart::Never => false,
            }
    }

    fn write(&self, instance: &Instance, entry: &str) -> Result<()> {
        let path = Ended::path(instance, entry);
        if let Some(dir) = path.parent() {
            files::make_dir(dir, 0o755)?;
        }
        files::replace_json(&path, self, 0o644)
    }

    fn path(instance: &Instance, entry: &str) -> PathBuf {
        let dir = instance.run_dir().0.join("ended");
        dir.join(format!("{entry}.json"))
    }
}

/// Records, tidies up and tells the end of an entry point, which `exit` puts into words: whether its program was begun,
/// and whether something in it was killed for memory. `asked` says whether somebody wanted it to end, where that is
/// known.
pub(super) fn settle(
    instance: &Instance,
    entry: &str,
    definition: Option<EntryRef>,
    asked: Option<bool>,
    exit: impl FnOnce(bool, bool) -> Exit,
) -> Result<Vec<String>> {
    let id = format!("{}.{entry}", instance.name);
    let runtime = instance.runtime();
    let state = runtime
        .containers(&id)?
        .into_iter()
        .find(|state| state.id == id);
    let cgroups = state
        .as_ref()
        .map(|state| state.cgroups.clone())
        .unwrap_or_default();
    let oom = cgroup::stats(&cgroups)
        .oom_kills
        .is_some_and(|kills| kills > 0);
    let mut exit = exit(state.is_some(), oom);
    let definition = definition.or_else(|| instance.entry(entry).ok());
    runtime.remove(&id)?;
    let tmp = files::empty_dir(&instance.state_dir().join("tmp").join(entry));
    let mut said: Vec<String> = tmp
        .err()
        .map(|error| error.to_string())
        .into_iter()
        .collect();
    let mut dump = None;
    if definition
        .as_ref()
        .is_some_and(|definition| jvm::is_jvm(&definition.platform))
    {
        let data = instance.state_dir().join("data");
        dump = dumps::keep(&data, entry)?.map(|name| data.join(name));
        exit = exits::of_jvm(exit, dump.is_some());
    }
    let before = Ended::read(instance, entry).ok().flatten();
    let asked = asked.unwrap_or(!exit.failed);
    let mut ended = Ended {
        format: FORMAT,
        asked: Some(asked),
        told: before.as_ref().and_then(|before| before.told),
        restarts: before.map_or(0, |before| before.restarts),
        exit,
    };
    let now = jiff::Timestamp::now().as_second();
    let quiet = ended.told.is_some_and(|told| now - told < QUIET);
    let tells = ended.exit.failed && !quiet;
    if tells {
        ended.told = Some(now);
    }
    ended.write(instance, entry)?;
    if let Some(definition) = &definition {
        let event = LogEvent::ended(definition, &ended.exit, asked);
        events::tell(&instance.log_dir(), &event);
        if definition.kind == EntryKind::Cron {
            jobs::remember(instance, definition, &ended.exit)?;
        }
    }
    if let Some(definition) = definition.filter(|_| tells) {
        let log = instance.service()?.log(instance, &definition.name);
        said.extend(tell(instance, &definition, &ended.exit, dump, log)?);
    }
    Ok(said)
}

/// Tells whoever wants to know of a failure. Returns what is worth a line in the log.
pub(super) fn tell(
    instance: &Instance,
    entry: &EntryRef,
    exit: &Exit,
    heap_dump: Option<PathBuf>,
    log: PathBuf,
) -> Result<Vec<String>> {
    let Some(current) = instance.current()? else {
        return Ok(Vec::new());
    };
    let event = Event {
        instance: &instance.name,
        entry: &entry.name,
        kind: match entry.kind {
            EntryKind::Cron => status::EntryKind::Cron,
            EntryKind::Daemon => status::EntryKind::Daemon,
        },
        exit,
        restarts: 0,
        heap_dump,
        log,
    };
    let mut notifier = Notifier::default();
    let now = std::time::Instant::now();
    let mut said = notifier.tell(&current.manifest.notify, &event, now);
    said.extend(notifier.finish());
    Ok(said)
}
