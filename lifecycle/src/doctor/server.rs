//! What else on this server would stop instances, or let others into them: directories, room, programs,
//! configuration, names of `[access]`.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use metactl_bundles::keys::suggest;
use metactl_bundles::keys::values::{Somebody, persons};
use metactl_bundles::layers::Config;
use metactl_bundles::server::Server;
use metactl_netns::doctor::Finding;
use nix::unistd::{Group, User};

use super::Diagnosis;
use crate::error::Result;
use crate::manager::Manager;
use crate::{files, materialize, names};

/// With less room than this a deployment will not get far.
const ROOM: u64 = 256 << 20;
/// The same for what is only small: records of what runs.
const RUN_ROOM: u64 = 4 << 20;

impl Manager {
    /// Looks at the whole server: as [`doctor_network`](Manager::doctor_network), and what else instances need.
    /// Nothing is changed.
    ///
    /// # Errors
    /// Not root, or what cannot be found out at all.
    pub fn doctor(&self) -> Result<Diagnosis> {
        let mut diagnosis = self.doctor_network()?;
        let found = &mut diagnosis.findings;
        for (dir, least) in self.places() {
            found.extend(owned(&dir));
            found.extend(room(&dir, least));
        }
        found.extend(self.runtime_runs());
        found.extend(git());
        found.extend(misnamed(&self.paths.config.join("nodes"))?);
        found.extend(self.service_manager()?.kind.manager().findings(self)?);
        // What else is wrong with that file is told with each instance.
        let server = Server::read(&self.paths).ok();
        found.extend(server.and_then(|server| self.lost_site(&server)));
        let names = self.instances()?;
        let examined = materialize::of_all(&self.paths, &names, |name, config| {
            self.examine(name, config)
        });
        found.extend(examined.into_iter().flatten());
        Ok(diagnosis)
    }

    /// The site that this server is said to belong to, where others have layers and it has none: by a slip of the pen
    /// everything that the site says would be missing without a word.
    pub(crate) fn lost_site(&self, server: &Server) -> Option<Finding> {
        let site = server.site.as_ref()?;
        let sites = self.sites();
        if sites.is_empty() || sites.contains(site) {
            return None;
        }
        let near = suggest::nearest(site, sites.iter().map(String::as_str));
        let lasting = match near {
            Some(near) => format!("did you mean `site = {near}`?"),
            None => format!("there are layers of {}", sites.join(", ")),
        };
        Some(Finding {
            check: "site",
            what: format!("there is no layer of site {site}, which [server] site names"),
            place: self.paths.server_conf().display().to_string(),
            why: "nothing that a site says of its instances is in force: limits, firewall, grants"
                .to_owned(),
            mend: vec![format!("ls {}", self.paths.config.join("sites").display())],
            lasting,
        })
    }

    /// Its directories, and how much room each needs.
    fn places(&self) -> [(PathBuf, u64); 5] {
        let paths = &self.paths;
        [
            (paths.config.clone(), RUN_ROOM),
            (paths.state.clone(), ROOM),
            (paths.cache.clone(), ROOM),
            (paths.log.clone(), RUN_ROOM),
            (paths.run.clone(), RUN_ROOM),
        ]
    }

    fn runtime_runs(&self) -> Option<Finding> {
        let shown = self.runtime.display();
        let ran = Command::new(&self.runtime).arg("--version").output();
        let why = match ran {
            Ok(output) if output.status.success() => return None,
            Ok(output) => output.status.to_string(),
            Err(error) => error.to_string(),
        };
        Some(Finding {
            check: "runtime",
            what: format!("{shown} does not run: {why}"),
            place: shown.to_string(),
            why: "it launches every sandbox".to_owned(),
            mend: vec!["command -v metactl metactl-runtime".to_owned()],
            lasting:
                "both programs belong side by side, as the package and `make install` put them"
                    .to_owned(),
        })
    }

    /// One instance: its layers as they are now, and whom they name.
    fn examine(&self, name: &str, config: Result<Config>) -> Vec<Finding> {
        let mut found = Vec::new();
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                found.push(Finding {
                    check: "configuration",
                    what: format!("the configuration of {name} is wrong: {first}"),
                    place: self.paths.local_layer(name).display().to_string(),
                    why: "what runs goes on, but nothing can be started or deployed".to_owned(),
                    mend: vec![format!("metactl {name} config")],
                    lasting: String::new(),
                });
                return found;
            }
        };
        for key in ["operate", "deploy", "administer"] {
            let Some(value) = config.get("access", key) else {
                continue;
            };
            for who in unknown(&value.text) {
                found.push(Finding {
                    check: "access",
                    what: format!(
                        "there is no {who} on this server, but `{key}` of {name} names it"
                    ),
                    place: value.origin.to_string(),
                    why: "whoever gets that name later gets the right".to_owned(),
                    mend: vec![format!("metactl {name} show access:{key} --origin")],
                    lasting: "take it out of the list".to_owned(),
                });
            }
        }
        found
    }
}

/// Local layers whose names no instance can have: nobody reads them.
fn misnamed(nodes: &Path) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for path in files::entries(nodes)? {
        let Some(stem) = files::name_of(&path).strip_suffix(".conf") else {
            continue;
        };
        let Err(error) = names::check(stem) else {
            continue;
        };
        found.push(Finding {
            check: "name",
            what: format!("{} is of no instance: {error}", path.display()),
            place: path.display().to_string(),
            why: "list and all other commands pass it over".to_owned(),
            mend: vec![format!("ls {}", nodes.display())],
            lasting: "give it another name, or take it away".to_owned(),
        });
    }
    Ok(found)
}

/// The names in a list that nobody has.
fn unknown(list: &str) -> BTreeSet<String> {
    let listed = persons(list).unwrap_or_default().into_iter();
    listed
        .filter_map(|somebody| match somebody {
            Somebody::Account(name) => {
                matches!(User::from_name(name), Ok(None)).then(|| format!("account {name}"))
            }
            Somebody::Group(name) => {
                matches!(Group::from_name(name), Ok(None)).then(|| format!("group {name}"))
            }
        })
        .collect()
}

/// A directory of metactl's that others could put something into.
fn owned(dir: &Path) -> Option<Finding> {
    let meta = std::fs::symlink_metadata(dir).ok()?;
    let shown = dir.display();
    let what = match () {
        () if !meta.is_symlink() && !meta.is_dir() => format!("{shown} is no directory"),
        () if meta.uid() != 0 => format!("{shown} belongs to user id {}, not to root", meta.uid()),
        () if !meta.is_symlink() && meta.mode() & 0o022 != 0 => {
            format!("others than root may write to {shown}")
        }
        () => return None,
    };
    Some(Finding {
        check: "directory",
        what,
        place: shown.to_string(),
        why: "what stands in it decides what root does".to_owned(),
        mend: vec![
            format!("chown root: {shown}"),
            format!("chmod go-w {shown}"),
        ],
        lasting: "look at what is in it first".to_owned(),
    })
}

/// Too little room where a directory is, or will be.
fn room(dir: &Path, least: u64) -> Option<Finding> {
    let there = dir.ancestors().find(|path| path.is_dir())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let full = stat.f_files > 0 && stat.f_favail == 0;
    if free >= least && !full {
        return None;
    }
    let what = match full {
        true => format!("no more files can be made in {}", dir.display()),
        false => format!("only {} MiB are free for {}", free >> 20, dir.display()),
    };
    Some(Finding {
        check: "room",
        what,
        place: there.display().to_string(),
        why: "deployments and records need some; `stop` and `rollback` do without".to_owned(),
        mend: vec![format!("du -xsh {}/* | sort -h", dir.display())],
        lasting: String::new(),
    })
}

/// The program that fetches most sources.
fn git() -> Option<Finding> {
    let path = std::env::split_paths(metactl_bundles::view::PATH).map(|dir| dir.join("git"));
    if path.into_iter().any(|git| git.is_file()) {
        return None;
    }
    Some(Finding {
        check: "git",
        what: "git is not installed".to_owned(),
        place: metactl_bundles::view::PATH.to_owned(),
        why: "`new` and `deploy` fetch sources with it".to_owned(),
        mend: vec!["apt-get install git".to_owned()],
        lasting: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_that_nobody_has_are_found() {
        let found = unknown("root, @root no-such-account @no-such-group");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["account no-such-account", "group no-such-group"]);
    }

    #[test]
    fn local_layers_that_nobody_reads_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["shop.conf", "my.shop.conf", "list.conf", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = misnamed(dir.path()).unwrap();
        let found: Vec<&str> = found.iter().map(|one| one.what.as_str()).collect();
        let [command, dotted] = found[..] else {
            panic!("{found:?}");
        };
        assert!(command.contains("list.conf is of no instance"), "{command}");
        assert!(command.contains("it is a command"), "{command}");
        assert!(dotted.contains("my.shop.conf"), "{dotted}");
        assert_eq!(misnamed(&dir.path().join("none")).unwrap(), []);
    }

    #[test]
    fn directories_of_others_and_without_room_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let root = nix::unistd::geteuid().is_root();
        let found = owned(&open).unwrap();
        assert!(
            found
                .what
                .contains(if root { "may write" } else { "belongs" }),
            "{found:?}"
        );
        assert_eq!(owned(&dir.path().join("none")), None);
        assert_eq!(room(&open, 1), None);
        let found = room(&open.join("not/yet"), u64::MAX).unwrap();
        assert!(found.what.contains("MiB"), "{found:?}");
    }
}
