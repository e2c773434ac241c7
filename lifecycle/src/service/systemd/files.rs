//! The unit files on disk: written whole, and removed when they are no instance's any more. Drop-ins of the
//! administrator (`<unit>.d/`) are never touched, and neither is a file that metactl did not write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::names;
use super::render::{SECTION, Unit};
use crate::error::{LifecycleError, Result};
use crate::files;

/// Where the administrator's units are, and those of whoever acts in their name (systemd.unit(5), "Unit File Load
/// Path").
pub(super) const DIR: &str = "/etc/systemd/system";

/// What a unit file of metactl says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) instance: Option<String>,
    /// The entry point, and whether it is a `daemon` or a `cron` job.
    pub(super) entry: Option<String>,
    pub(super) kind: Option<String>,
    /// The digest of the bundle that it is made from.
    pub(super) bundle: Option<String>,
}

/// What the file says; `None`: it is not one of metactl's.
pub(super) fn own(text: &str) -> Option<Own> {
    let mut found = Own::default();
    text.lines().find(|line| *line == SECTION)?;
    let section = text.lines().skip_while(|line| *line != SECTION).skip(1);
    for line in section.take_while(|line| !line.starts_with('[')) {
        match line.split_once('=') {
            Some(("Instance", value)) => found.instance = Some(value.to_owned()),
            Some(("Entry", value)) => found.entry = Some(value.to_owned()),
            Some(("Kind", value)) => found.kind = Some(value.to_owned()),
            Some(("Bundle", value)) => found.bundle = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(found)
}

/// The unit files of an instance, by name.
pub(super) fn of_instance(dir: &Path, instance: &str) -> Result<BTreeMap<String, Own>> {
    let mut found = BTreeMap::new();
    let begin = format!("metactl-{instance}");
    let others = [names::network(instance), names::slice(instance)];
    for name in files::names(dir, "metactl-")? {
        if !name.starts_with(&begin) && !others.contains(&name) {
            continue;
        }
        let path = dir.join(&name);
        // A directory of drop-ins, a link of `enable`.
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let text = files::read(&path)?.unwrap_or_default();
        if let Some(own) = own(&String::from_utf8_lossy(&text))
            && own.instance.as_deref() == Some(instance)
        {
            found.insert(name, own);
        }
    }
    Ok(found)
}

/// The unit files of all instances, by instance and name.
pub(super) fn of_all(dir: &Path) -> Result<BTreeMap<String, BTreeMap<String, Own>>> {
    let mut found: BTreeMap<String, BTreeMap<String, Own>> = BTreeMap::new();
    for name in files::names(dir, "metactl-")? {
        let is_unit = [".service", ".target", ".timer", ".socket"];
        if !is_unit.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        // Never through a link; of a directory nothing can be read.
        let Ok(Some(text)) = files::read(&dir.join(&name)) else {
            continue;
        };
        if let Some(own) = own(&String::from_utf8_lossy(&text))
            && let Some(instance) = own.instance.clone()
        {
            let of_instance = found.entry(instance).or_default();
            of_instance.insert(name, own);
        }
    }
    Ok(found)
}

/// The bundle that the units of an instance start.
pub(super) fn bundle(dir: &Path, instance: &str) -> Result<Option<String>> {
    let text = files::read(&dir.join(names::target(instance)))?;
    let own = text.and_then(|text| own(&String::from_utf8_lossy(&text)));
    Ok(own
        .filter(|own| own.instance.as_deref() == Some(instance))
        .and_then(|own| own.bundle))
}

/// What became of the unit files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// All were as they should be.
    Nothing,
    /// There are more than before.
    Added,
    /// There are others than before, or fewer.
    Replaced,
}

impl Change {
    /// Whether systemd of this version has to read everything again, which takes it the longer the more units there
    /// are. A unit that it has never seen it reads when it is asked for; from 247 on also when another one has named
    /// it before, as an administrator's may.
    pub(super) fn needs_reload(self, version: Option<u32>) -> bool {
        match self {
            Change::Nothing => false,
            Change::Added => version.is_none_or(|version| version < 247),
            Change::Replaced => true,
        }
    }
}

/// Writes the units of an instance, and removes those that it has no more.
pub(super) fn install(dir: &Path, instance: &str, units: &[Unit]) -> Result<Change> {
    // All questions first: nothing is written when one cannot be.
    for unit in units {
        check_ours(&dir.join(&unit.name), instance)?;
    }
    let mut change = Change::Nothing;
    for unit in units {
        let path = dir.join(&unit.name);
        let had = files::read(&path)?;
        if had.as_deref() != Some(unit.text.as_bytes()) {
            files::replace(&path, unit.text.as_bytes(), 0o644)?;
            change = change.max(match had {
                None => Change::Added,
                Some(_) => Change::Replaced,
            });
        }
    }
    for name in of_instance(dir, instance)?.into_keys() {
        if !units.iter().any(|unit| unit.name == name) && files::remove_file(&dir.join(name))? {
            change = Change::Replaced;
        }
    }
    Ok(change)
}

/// Removes all units of an instance; those that are for all instances with those of the last. Whether there were any.
pub(super) fn remove(dir: &Path, instance: &str) -> Result<bool> {
    let mut changed = false;
    for name in of_instance(dir, instance)?.into_keys() {
        changed |= files::remove_file(&dir.join(name))?;
    }
    let is_target = |path: &PathBuf| {
        let name = files::name_of(path);
        name.starts_with("metactl-") && name.ends_with(".target")
    };
    if !files::entries(dir)?.iter().any(is_target) {
        for unit in [names::RESOLVER, names::MEND_TIMER, names::MEND] {
            let path = dir.join(unit);
            let text = files::read(&path)?;
            if text.is_some_and(|text| own(&String::from_utf8_lossy(&text)).is_some()) {
                changed |= files::remove_file(&path)?;
            }
        }
    }
    Ok(changed)
}

/// A file that somebody else made is not replaced: another instance's (`a-b` with `c`, and `a` with `b-c`), or the
/// administrator's.
fn check_ours(path: &Path, instance: &str) -> Result<()> {
    let taken = |by: String| LifecycleError::ServiceManager {
        what: format!("write {}", path.display()),
        why: format!("it is {by}; rename the one or the other"),
    };
    if path.is_symlink() {
        return Err(taken(
            "a link, which metactl does not make (a masked unit?)".to_owned(),
        ));
    }
    let Some(text) = files::read(path)? else {
        return Ok(());
    };
    match own(&String::from_utf8_lossy(&text)) {
        None => Err(taken("not metactl's".to_owned())),
        Some(Own {
            instance: Some(other),
            ..
        }) if other != instance => Err(taken(format!("a unit of instance {other}"))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, instance: &str, bundle: &str) -> Unit {
        Unit {
            name: name.to_owned(),
            text: format!(
                "# x\n{SECTION}\nInstance={instance}\nBundle={bundle}\n\n[Unit]\nDescription=y\n"
            ),
        }
    }

    #[test]
    fn units_are_replaced_and_stale_ones_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let target = || unit("metactl-a.target", "a", "b1");
        let web = unit("metactl-a-web.service", "a", "b1");
        let first = install(dir, "a", &[target(), web.clone()]).unwrap();
        assert_eq!(first, Change::Added);
        let other = unit("metactl-a-web.service", "a", "b2");
        let again = install(dir, "a", &[target(), other]).unwrap();
        assert_eq!(again, Change::Replaced);
        install(dir, "a", &[target(), web.clone()]).unwrap();
        let same = install(dir, "a", &[target(), web]).unwrap();
        assert_eq!(same, Change::Nothing);
        assert_eq!(bundle(dir, "a").unwrap().as_deref(), Some("b1"));
        // Of another instance whose name begins alike, and of the administrator.
        install(dir, "a-b", &[unit("metactl-a-b.target", "a-b", "b9")]).unwrap();
        std::fs::write(dir.join("metactl-a-own.service"), "[Service]\n").unwrap();
        std::fs::create_dir(dir.join("metactl-a-web.service.d")).unwrap();
        let fewer = install(dir, "a", &[target()]).unwrap();
        assert_eq!(fewer, Change::Replaced);
        assert!(!dir.join("metactl-a-web.service").exists());
        assert!(remove(dir, "a").unwrap());
        for stays in [
            "metactl-a-b.target",
            "metactl-a-own.service",
            "metactl-a-web.service.d",
        ] {
            assert!(dir.join(stays).exists(), "{stays}");
        }
        assert!(!dir.join("metactl-a.target").exists());
    }

    #[test]
    fn what_systemd_has_never_seen_it_reads_by_itself() {
        assert!(!Change::Nothing.needs_reload(None));
        assert!(!Change::Added.needs_reload(Some(247)));
        assert!(Change::Added.needs_reload(Some(246)));
        assert!(Change::Added.needs_reload(None));
        assert!(Change::Replaced.needs_reload(Some(252)));
    }

    #[test]
    fn what_is_not_metactls_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::write(dir.join("metactl-a-web.service"), "[Service]\n").unwrap();
        let all = [
            unit("metactl-a.target", "a", "b"),
            unit("metactl-a-web.service", "a", "b"),
        ];
        let error = install(dir, "a", &all).unwrap_err().to_string();
        assert!(error.contains("not metactl's"), "{error}");
        assert!(!dir.join("metactl-a.target").exists());
        install(dir, "a-b", &[unit("metactl-a-b-c.service", "a-b", "b")]).unwrap();
        let error = install(dir, "a", &[unit("metactl-a-b-c.service", "a", "b")]).unwrap_err();
        assert!(error.to_string().contains("instance a-b"), "{error}");
    }
}
