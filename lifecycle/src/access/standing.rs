//! What a person may: from the sections `[access]` of site and local layers.

use std::ffi::CString;
use std::path::PathBuf;

use metactl_bundles::keys::values::{Somebody, persons};
use metactl_bundles::layers::{Config, LayerKind};
use metactl_bundles::paths::Paths;
use nix::unistd::{Gid, Group, User, getgrouplist};

use super::verbs::Kind;
use super::{Request, shared};
use crate::error::{LifecycleError, Result};
use crate::{files, materialize};

/// The name for "no instance": none can have it.
const SERVER: &str = "server";

/// Whether any layer of this server has a section `[access]`. What looks like one counts: this decides
/// whether others are restricted.
pub(super) fn delegates(paths: &Paths) -> Result<bool> {
    let mut layers = vec![paths.server_conf()];
    layers.extend(files::entries(&paths.config.join("nodes"))?);
    for site in files::entries(&paths.config.join("sites"))? {
        layers.extend(files::entries(&site)?);
    }
    let conf = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "conf")
    };
    for path in layers.into_iter().filter(conf) {
        // Links are followed, as they are when the layers are read.
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(LifecycleError::File {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_start_matches('\u{feff}');
        let is_section = |line: &str| {
            let name = line.trim_start().strip_prefix('[').map(str::trim_start);
            name.is_some_and(|name| name.starts_with("access"))
        };
        if text.lines().any(is_section) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The most that somebody may do with an instance, or with the server; `None`: nothing.
pub(super) fn standing(paths: &Paths, instance: Option<&str>, who: &User) -> Result<Option<Kind>> {
    let mut sources = materialize::sources(paths, instance.unwrap_or(SERVER), None, None)?;
    if instance.is_none() {
        sources.retain(|source| source.layer != LayerKind::Local);
    }
    let config = Config::check(sources)?;
    let groups = groups(who);
    for (key, kind) in [
        ("administer", Kind::Administer),
        ("deploy", Kind::Deploy),
        ("operate", Kind::Operate),
    ] {
        let Some(value) = config.get("access", key) else {
            continue;
        };
        // It was checked; what cannot be read lists nobody.
        let listed = persons(&value.text).unwrap_or_default();
        if listed.iter().any(|one| is_one(*one, who, &groups)) {
            return Ok(Some(kind));
        }
    }
    let looks = shared::group().is_some_and(|group| groups.contains(&group));
    Ok(looks.then_some(Kind::Read))
}

fn is_one(somebody: Somebody<'_>, who: &User, groups: &[Gid]) -> bool {
    match somebody {
        Somebody::Account(name) => {
            let account = User::from_name(name).ok().flatten();
            account.is_some_and(|account| account.uid == who.uid)
        }
        Somebody::Group(name) => {
            let group = Group::from_name(name).ok().flatten();
            group.is_some_and(|group| groups.contains(&group.gid))
        }
    }
}

/// Every group of an account, as the server knows them now: not those that the process came with.
fn groups(who: &User) -> Vec<Gid> {
    let all = CString::new(who.name.as_bytes()).map(|name| getgrouplist(&name, who.gid));
    match all {
        Ok(Ok(groups)) => groups,
        _ => vec![who.gid],
    }
}

/// What is said to somebody who may not.
pub(super) fn refusal(
    request: &Request<'_>,
    who: &User,
    kind: Kind,
    may: Option<Kind>,
) -> LifecycleError {
    let of = request
        .instance
        .map_or_else(String::new, |name| format!(" {name}"));
    let (name, verb, word) = (&who.name, request.verb, kind.word());
    let most = match may {
        None => "nothing".to_owned(),
        Some(may) => format!("`{}` at most", may.word()),
    };
    let hint = match kind {
        Kind::Read => format!(
            "root can make {name} a member of the group {}: usermod -aG {} {name}",
            shared::GROUP,
            shared::GROUP
        ),
        _ => format!("`{word} = {name}` in [access] of a site or local layer would allow it"),
    };
    LifecycleError::Refused {
        what: format!(
            "{name} may not {verb}{of}: that is `{word}`, and [access] grants them {most}"
        ),
        hint,
    }
}
