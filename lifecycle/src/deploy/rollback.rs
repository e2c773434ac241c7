//! The way back: a release that is still there runs again, with the configuration of now. Nothing is fetched or built.

use super::turn::Turn;
use super::{PATIENCE, first_config};
use crate::converge;
use crate::error::{LifecycleError, Result};
use crate::instance::{Deployed, Instance};
use crate::progress::Progress;
use crate::release::number;

/// Switches to the release `id` (or the newest of a tag), else to the newest one before that in use.
pub(crate) fn rollback(
    instance: &Instance,
    wanted: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Deployed> {
    let _lock = instance.lock_within("rollback", PATIENCE)?;
    for line in converge::converge(instance)? {
        progress.note(&line);
    }
    let current = instance.deployed()?;
    let in_use = current.manifest.release.clone();
    let id = match wanted {
        Some(word) => named(instance, word)?,
        None => before(instance, &in_use)?,
    };
    if id == in_use {
        return Err(LifecycleError::Unavailable {
            what: format!("{id} is in use already"),
            hint: format!("to start it anew: metactl {} restart", instance.name),
        });
    }
    let releases = instance.releases();
    let info = releases
        .info(&id)?
        .ok_or_else(|| LifecycleError::Unavailable {
            what: format!("the record of {id} is gone"),
            hint: format!("metactl {} releases", instance.name),
        })?;
    let config = first_config(instance)?;
    let configured = config.get("build", "tag").map(|value| value.text.clone());
    // Deployed without one, a tag is not the instance's own.
    let record = configured
        .filter(|tag| *tag != info.tag)
        .map(|_| info.tag.as_str());
    let turn = Turn::new(instance, Some(current), record, format!("rollback to {id}"))?;
    turn.understand(&releases.path(&id), &id)?;
    turn.carry_out(|underway| turn.run(underway, info.clone(), progress))
}

/// The release of that name, or the newest whose tag or commit it is.
fn named(instance: &Instance, word: &str) -> Result<String> {
    let mut fitting = Vec::new();
    for release in instance.releases().all()? {
        if release.id == word {
            return Ok(release.id);
        }
        let commit = word.len() >= 7 && release.commit.starts_with(word);
        if release.tag == word || commit {
            fitting.push(release.id);
        }
    }
    fitting.pop().ok_or_else(|| LifecycleError::Unavailable {
        what: format!("there is no release {word}"),
        hint: format!(
            "those that are there: metactl {0} releases; to build one: metactl {0} deploy TAG",
            instance.name
        ),
    })
}

/// The newest release before the one in use.
fn before(instance: &Instance, in_use: &str) -> Result<String> {
    let all = instance.releases().all()?;
    let own = number(in_use);
    let older = all.iter().rfind(|release| number(&release.id) < own);
    let older = older.ok_or_else(|| LifecycleError::Unavailable {
        what: format!("there is no release before {in_use}"),
        hint: match all.iter().rfind(|release| release.id != in_use) {
            Some(newer) => format!(
                "to a newer one: metactl {} rollback {}",
                instance.name, newer.id
            ),
            None => "it is the only one".to_owned(),
        },
    })?;
    Ok(older.id.clone())
}
