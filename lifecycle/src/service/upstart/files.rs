//! The files of jobs on disk: written whole, and removed when they are no instance's any more. A file that metactl did
//! not write is never replaced, and of the `.override` beside a job only what is metactl's own is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metactl_bundles::paths::unfinished;

use super::names;
use super::render::{Job, MARK};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// Where the jobs are (init(5)).
pub(super) const DIR: &str = "/etc/init";
/// Where crontabs of packages are (cron(8)).
pub(super) const CRON_DIR: &str = "/etc/cron.d";
/// The link in the state of an instance to the bundle that its jobs start.
const LINK: &str = "upstart";
/// What keeps a job from starting by itself (init(5), "Override File Handling"), with a word about who says so.
const MANUAL: &str = "manual";
const DISABLED: &str =
    "# Written by `metactl disable`; `metactl enable` takes these two lines away.";

/// What a file of metactl says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) instance: Option<String>,
    /// The entry point, and whether it is a `daemon` or a `cron` job.
    pub(super) entry: Option<String>,
    pub(super) kind: Option<String>,
}

/// What the file says; `None`: it is not one of metactl's.
pub(super) fn own(text: &str) -> Option<Own> {
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let marks: Vec<(&str, &str)> = head
        .filter_map(|line| line.strip_prefix(MARK)?.split_once(": "))
        .collect();
    let mark = |name: &str| {
        let found = marks.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    (!marks.is_empty()).then(|| Own {
        instance: mark("instance"),
        entry: mark("entry"),
        kind: mark("kind"),
    })
}

/// The jobs of an instance, by name.
pub(super) fn of_instance(dir: &Path, instance: &str) -> Result<BTreeMap<String, Own>> {
    let mut found = BTreeMap::new();
    for path in files::entries(dir)? {
        let Some(name) = files::name_of(&path).strip_suffix(".conf") else {
            continue;
        };
        if !name.starts_with("metactl") || !name.contains(instance) {
            continue;
        }
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let own = match files::read(&path) {
            Ok(text) => own(&String::from_utf8_lossy(&text.unwrap_or_default())),
            // Those with an environment in them are for root; their names tell whose they are.
            Err(_) if !nix::unistd::geteuid().is_root() => by_name(name, instance),
            Err(error) => return Err(error),
        };
        if let Some(own) = own.filter(|own| own.instance.as_deref() == Some(instance)) {
            found.insert(name.to_owned(), own);
        }
    }
    Ok(found)
}

/// What the name of a job says, for who may not read it.
fn by_name(name: &str, instance: &str) -> Option<Own> {
    let entry = name.strip_prefix(&names::entry(instance, ""))?;
    let kind = match entry.starts_with("cron.") {
        true => "cron",
        false => "daemon",
    };
    Some(Own {
        instance: Some(instance.to_owned()),
        entry: Some(entry.to_owned()),
        kind: Some(kind.to_owned()),
    })
}

/// The link to the bundle that the jobs of an instance start.
pub(super) fn link(state_dir: &Path) -> PathBuf {
    state_dir.join(LINK)
}

/// The digest of that bundle.
pub(super) fn bundle(state_dir: &Path) -> Result<Option<String>> {
    let link = link(state_dir);
    match std::fs::read_link(&link) {
        Ok(target) => Ok(Some(files::name_of(&target).to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).on("read", &link),
    }
}

/// Leads the link to a bundle: to the old one or to the new one, also after a crash.
pub(super) fn lead_to(state_dir: &Path, digest: &str) -> Result<()> {
    let link = link(state_dir);
    let new = unfinished(&link);
    files::remove_file(&new)?;
    std::os::unix::fs::symlink(Path::new("bundles").join(digest), &new).on("make", &new)?;
    std::fs::rename(&new, &link).on("replace", &link)?;
    files::sync_dir(state_dir)
}

/// Writes the jobs and the crontab of an instance, and removes the jobs that it has no more. Whether any job was
/// another. An instance whose jobs are new is not started at boot until it is enabled.
pub(super) fn install(
    dirs: (&Path, &Path),
    instance: &str,
    jobs: &[Job],
    crontab: Option<&str>,
) -> Result<bool> {
    let (dir, cron_dir) = dirs;
    let crontab_file = cron_dir.join(names::crontab(instance));
    // All questions first: nothing is written when one cannot be.
    for job in jobs {
        check_ours(&dir.join(names::file(&job.name)), instance)?;
    }
    check_ours(&crontab_file, instance)?;
    let whole = names::instance(instance);
    if !dir.join(names::file(&whole)).exists() {
        enable(dir, instance, false)?;
    }
    let mut changed = false;
    for job in jobs {
        let path = dir.join(names::file(&job.name));
        let mode = if job.private { 0o600 } else { 0o644 };
        if files::read(&path)?.as_deref() != Some(job.text.as_bytes()) {
            files::replace(&path, job.text.as_bytes(), mode)?;
            changed = true;
        }
    }
    for name in of_instance(dir, instance)?.into_keys() {
        if !jobs.iter().any(|job| job.name == name) {
            changed |= files::remove_file(&dir.join(names::file(&name)))?;
        }
    }
    match crontab {
        Some(text) if files::read(&crontab_file)?.as_deref() != Some(text.as_bytes()) => {
            files::replace(&crontab_file, text.as_bytes(), 0o644)?;
        }
        Some(_) => {}
        None => remove_crontab(cron_dir, instance)?,
    }
    Ok(changed)
}

/// Removes all files of an instance; the job that answers for names with those of the last. Whether there were any.
pub(super) fn remove(dirs: (&Path, &Path), instance: &str) -> Result<bool> {
    let (dir, cron_dir) = dirs;
    remove_crontab(cron_dir, instance)?;
    let mut changed = false;
    for name in of_instance(dir, instance)?.into_keys() {
        changed |= files::remove_file(&dir.join(names::file(&name)))?;
    }
    if override_path(dir, instance).exists() {
        say_manual(dir, instance, false)?;
    }
    let is_instance = |path: &PathBuf| {
        let name = files::name_of(path);
        name.starts_with(names::INSTANCE) && name.ends_with(".conf")
    };
    if !files::entries(dir)?.iter().any(is_instance) {
        let path = dir.join(names::file(names::RESOLVER));
        let text = files::read(&path)?;
        if text.is_some_and(|text| own(&String::from_utf8_lossy(&text)).is_some()) {
            changed |= files::remove_file(&path)?;
        }
    }
    Ok(changed)
}

fn remove_crontab(cron_dir: &Path, instance: &str) -> Result<()> {
    let path = cron_dir.join(names::crontab(instance));
    let Some(text) = files::read(&path)? else {
        return Ok(());
    };
    let own = own(&String::from_utf8_lossy(&text));
    if own.is_some_and(|own| own.instance.as_deref() == Some(instance)) {
        files::remove_file(&path)?;
    }
    Ok(())
}

fn override_path(dir: &Path, instance: &str) -> PathBuf {
    dir.join(format!("{}.override", names::instance(instance)))
}

/// Whether the instance starts by itself: it has a job, and no `manual` beside it.
pub(super) fn is_enabled(dir: &Path, instance: &str) -> bool {
    let path = override_path(dir, instance);
    let says = files::read(&path).map(|text| is_manual(&text.unwrap_or_default()));
    dir.join(names::file(&names::instance(instance))).exists() && says.is_ok_and(|manual| !manual)
}

fn is_manual(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().any(|line| line.trim() == MANUAL)
}

/// Lets the instance start by itself, or not.
pub(super) fn enable(dir: &Path, instance: &str, enabled: bool) -> Result<()> {
    say_manual(dir, instance, !enabled)?;
    let path = override_path(dir, instance);
    if enabled && is_manual(&files::read(&path)?.unwrap_or_default()) {
        return Err(LifecycleError::ServiceManager {
            what: format!("enable {}", names::instance(instance)),
            why: format!(
                "`{MANUAL}` in {} is not metactl's; take the line away",
                path.display()
            ),
        });
    }
    Ok(())
}

/// Adds metactl's own two lines, or takes them away; what else is in the file stays.
fn say_manual(dir: &Path, instance: &str, manual: bool) -> Result<()> {
    let path = override_path(dir, instance);
    let had = files::read(&path)?.unwrap_or_default();
    let had = String::from_utf8_lossy(&had).into_owned();
    let ours = format!("{DISABLED}\n{MANUAL}\n");
    let mut text = had.replace(&ours, "");
    if manual {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&ours);
    }
    match text.is_empty() {
        true => files::remove_file(&path).map(drop),
        false if text == had => Ok(()),
        false => files::replace(&path, text.as_bytes(), 0o644),
    }
}

/// A file that somebody else made is not replaced: another instance's (`a-b` with `c`, and `a` with `b-c`), or the
/// administrator's.
fn check_ours(path: &Path, instance: &str) -> Result<()> {
    let taken = |by: String| LifecycleError::ServiceManager {
        what: format!("write {}", path.display()),
        why: format!("it is {by}; rename the one or the other"),
    };
    if path.is_symlink() {
        return Err(taken("a link, which metactl does not make".to_owned()));
    }
    let Some(text) = files::read(path)? else {
        return Ok(());
    };
    match own(&String::from_utf8_lossy(&text)) {
        None => Err(taken("not metactl's".to_owned())),
        Some(Own {
            instance: Some(other),
            ..
        }) if other != instance => Err(taken(format!("of instance {other}"))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
