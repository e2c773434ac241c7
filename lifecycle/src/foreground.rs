//! `metactl run`: one entry point in the foreground, with nothing installed and nothing left.
//!
//! A checkout becomes an instance of its own for as long as it runs: `run-<name>-<pid>`, with a
//! bundle, data and `/tmp` below the cache, and an address of the pool. An installed instance runs
//! from its bundle in use, with its own data, user and address.
//!
//! Who kills this process with SIGKILL takes the sandbox along (the runtime asks for a signal at
//! its parent's death); the directories are removed by [`sweep`], with the next command.

mod looked;
mod signals;

use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest, read_manifest};
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_runtime::ProcessId;
use metactl_runtime::resolver::OnDisk;
use serde::{Deserialize, Serialize};

use crate::conflicts::{self, Look};
use crate::error::{LifecycleError, OnPath, Result};
use crate::health::ready::Unheard;
use crate::launcher::Net;
use crate::manager::{Manager, RunTarget, require_root};
use crate::materialize::Ingredients;
use crate::mend::{self, Mender};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::standalone::needs_resolver;
use crate::{converge, files, hosts};
use looked::Looked;
use signals::{Signals, run_to_end};

/// The format number of `owner.json`.
const FORMAT: u32 = 1;
/// Whose a foreground run is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Owner {
    format: u32,
    process: ProcessId,
    /// The container.
    id: String,
}

impl Manager {
    /// Runs one entry point in the foreground, with nothing installed and nothing left; returns its
    /// exit code, 128 and the number of the signal when one ended it. Without an entry, the only
    /// daemon that there is. To be called from the main thread: the sandbox ends with the thread
    /// that started it.
    ///
    /// # Errors
    /// Whatever keeps it from being started; and what cannot be removed afterwards.
    pub fn run_foreground(
        &self,
        target: &RunTarget,
        entry: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<i32> {
        require_root("running an application in a sandbox")?;
        let signals = Signals::take_over()?;
        for line in sweep(self)? {
            progress.note(&line);
        }
        match target {
            RunTarget::Path(path) => self.run_checkout(path, entry, signals, progress),
            RunTarget::App(name) => self.run_instance(name, entry, signals, progress),
        }
    }

    fn run_checkout(
        &self,
        path: &Path,
        entry: Option<&str>,
        signals: Signals,
        progress: &mut dyn Progress,
    ) -> Result<i32> {
        let checkout = find_checkout(path)?;
        let name = instance_name(&checkout);
        let id = format!("run-{name}-{}", std::process::id());
        let run = Run {
            manager: self,
            id: id.clone(),
            dir: self.paths.run.join(&id),
            signals,
        };
        let state_dir = self.paths.cache.join("run").join(&id);
        // From here on something may be left, and is removed whatever happens.
        let result = run.claim().and_then(|()| {
            let ingredients = Ingredients {
                paths: &self.paths,
                instance: &name,
                state_dir: state_dir.clone(),
                release: checkout.clone(),
                release_id: "checkout".to_owned(),
                local: None,
                site_only: true,
            };
            progress.begin("bundle", &checkout.display().to_string());
            let understood = ingredients.understand()?;
            conflicts::check(&self.paths, &id, &understood, false, Look::Records)?;
            // The sandbox is called by the run, so that two of them do not meet; people see the name.
            let ready = ingredients.compose_as(understood, &id)?;
            let written = ready.write()?;
            progress.end(true, "");
            for warning in ready.warnings() {
                progress.note(&warning);
            }
            for request in ready.understood.config.requests() {
                progress.note(&format!(
                    "asked for, not granted ({}): [{}] {} = {}",
                    request.origin, request.section, request.key, request.value
                ));
            }
            let hosts = state_dir.join("etc/hosts");
            let uplink = ready.understood.server.uplink.as_deref();
            run.launch(&written.dir, &hosts, uplink, (&name, entry), progress)
        });
        run.finish(&state_dir, result)
    }

    fn run_instance(
        &self,
        name: &str,
        entry: Option<&str>,
        signals: Signals,
        progress: &mut dyn Progress,
    ) -> Result<i32> {
        let instance = self.instance(name)?;
        let _lock = instance.lock("run")?;
        for line in converge::converge(&instance)? {
            progress.note(&line);
        }
        let current = instance.deployed()?;
        if instance.wanted()?.is_some() {
            return Err(LifecycleError::Taken {
                what: format!("the address and the data of {name}"),
                holder: "it runs already".to_owned(),
                hint: format!("metactl {name} stop, then run it; or metactl {name} logs -f"),
            });
        }
        let id = format!("run-{name}-{}", std::process::id());
        let run = Run {
            manager: self,
            id: id.clone(),
            dir: self.paths.run.join(&id),
            signals,
        };
        let nothing = self.paths.cache.join("run").join(&id);
        let server = instance.server()?;
        let hosts = instance.state_dir().join("etc/hosts");
        let uplink = server.uplink.as_deref();
        let result = run
            .claim()
            .and_then(|()| run.launch(&current.dir, &hosts, uplink, (name, entry), progress));
        for line in converge::empty_all_tmp(&instance.state_dir()) {
            progress.note(&line);
        }
        run.finish(&nothing, result)
    }
}

/// A foreground run.
struct Run<'a> {
    manager: &'a Manager,
    /// `run-<name>-<pid>`
    id: String,
    /// Its run directory.
    dir: PathBuf,
    signals: Signals,
}

impl Run<'_> {
    /// Writes down whose it is, before anything is made.
    fn claim(&self) -> Result<()> {
        files::make_dir(&self.dir, 0o755)?;
        let process = ProcessId::current().on("read", "/proc/self".as_ref())?;
        let owner = Owner {
            format: FORMAT,
            process,
            id: self.id.clone(),
        };
        files::replace_json(&self.dir.join("owner.json"), &owner, 0o644)
    }

    fn launch(
        &self,
        bundle: &Path,
        hosts_file: &Path,
        uplink: Option<&str>,
        (name, entry): (&str, Option<&str>),
        progress: &mut dyn Progress,
    ) -> Result<i32> {
        let manifest = read_manifest(bundle)?;
        let entry = choose(name, &manifest, entry)?;
        let spec_file = bundle.join("network.json");
        let spec: NetworkSpec =
            files::read_json(&spec_file)?.ok_or_else(|| LifecycleError::Record {
                path: spec_file.clone(),
                why: "it is missing".to_owned(),
            })?;
        let (names, missing) = metactl_netns::names::resolve(&spec.host_names());
        for unresolved in &missing {
            progress.note(&format!(
                "{} has no address ({}); nothing is accepted for it",
                unresolved.name, unresolved.reason
            ));
        }
        let names_file = self.dir.join("names.json");
        files::replace_json(&names_file, &names, 0o644)?;
        hosts::write(hosts_file, &hosts::text(&manifest.hostname, &spec, &names))?;
        // The resolver finds the policy there.
        let record = self.dir.join("network.json");
        files::replace_json(&record, &spec, 0o644)?;
        let mut resolver = self.manager.resolver()?;
        if needs_resolver(&spec) {
            resolver.ensure();
            if let Some(why) = resolver.trouble() {
                progress.note(&format!("names have no answer: {why}"));
            }
        }
        let net = match spec.mode {
            Mode::Host => Net::AsConfigured,
            _ => Net::Own {
                spec: &spec_file,
                names: &names_file,
                uplink,
            },
        };
        let addresses: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
        let at = addresses.join(", ");
        progress.note(&format!(
            "{name} {} runs {}; Ctrl-C ends it",
            entry.name,
            reach(&at)
        ));
        let runtime = self.manager.runtime();
        let command = runtime.foreground(&self.id, &bundle.join(&entry.dir), net);
        let socket = entry.notify_socket.as_deref();
        let _unheard = socket.map(Unheard::open).transpose()?;
        let unannounced = metactl_netns::announce::beside(&spec, uplink);
        let text = files::read(&record)?.unwrap_or_default();
        let mut network = Looked {
            resolver: &mut resolver,
            mender: Mender::new(),
            places: OnDisk {
                run: self.manager.paths.run.clone(),
                root: self.manager.paths.runtime_root(),
            },
            network: mend::Network {
                spec: &spec,
                record: (&record, &text),
                names: &names_file,
                user: &self.id,
                server_dir: runtime.server_dir(),
                uplink,
            },
        };
        let code = run_to_end(command, &runtime, &self.signals, &mut network);
        for error in unannounced.try_iter() {
            progress.note(&error.to_string());
        }
        code
    }

    /// Removes everything of the run. The first failure is the one to tell.
    fn finish(&self, state_dir: &Path, result: Result<i32>) -> Result<i32> {
        let tidied = remove(self.manager, &self.id, state_dir);
        let code = result?;
        tidied?;
        Ok(code)
    }
}

fn reach(addresses: &str) -> String {
    if addresses.is_empty() {
        "without an address".to_owned()
    } else {
        format!("at {addresses}")
    }
}

/// The directory of a checkout, without symbolic links.
fn find_checkout(path: &Path) -> Result<PathBuf> {
    let unusable = |why: String, hint: &str| LifecycleError::Unavailable {
        what: format!("cannot run {}: {why}", path.display()),
        hint: hint.to_owned(),
    };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) => return Err(unusable(error.to_string(), "")),
    };
    if !real.is_dir() {
        return Err(unusable(
            "it is no directory".to_owned(),
            "name the directory of a checkout",
        ));
    }
    if !real.join(APP_LAYER).is_file() {
        let hint =
            format!("a directory that can be run has a file {APP_LAYER} with a [daemon.NAME]");
        return Err(unusable(format!("there is no {APP_LAYER} in it"), &hint));
    }
    Ok(real)
}

/// A name that an instance could have, from that of the directory.
fn instance_name(checkout: &Path) -> String {
    let name: String = files::name_of(checkout)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        "app".to_owned()
    } else {
        name.to_owned()
    }
}

/// The entry point to run: the named one, else the only daemon.
fn choose(name: &str, manifest: &Manifest, entry: Option<&str>) -> Result<EntryRef> {
    let entries = &manifest.entries;
    let unknown = |entry: &str| LifecycleError::UnknownEntry {
        instance: name.to_owned(),
        entry: entry.to_owned(),
        known: entries.iter().map(|entry| entry.name.clone()).collect(),
    };
    if let Some(wanted) = entry {
        let fits = |entry: &&EntryRef| entry.name == wanted || entry.title == wanted;
        return entries
            .iter()
            .find(fits)
            .cloned()
            .ok_or_else(|| unknown(wanted));
    }
    let daemons: Vec<&EntryRef> = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Daemon)
        .collect();
    match daemons.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(unknown("(none named, and it has no daemon)")),
        several => {
            let names: Vec<&str> = several.iter().map(|entry| entry.name.as_str()).collect();
            Err(LifecycleError::SeveralDaemons {
                instance: name.to_owned(),
                first: names[0].to_owned(),
                names: names.join(", "),
            })
        }
    }
}

/// Removes what foreground runs left that were killed. What cannot be removed stays for the next
/// command, and is told: it is no reason to refuse this one.
pub(crate) fn sweep(manager: &Manager) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for dir in files::entries(&manager.paths.run)? {
        let name = files::name_of(&dir);
        if !name.starts_with("run-") {
            continue;
        }
        let owner: Option<Owner> = files::read_json(&dir.join("owner.json")).unwrap_or(None);
        if owner.is_none_or(|owner| !owner.process.is_alive()) {
            let state_dir = manager.paths.cache.join("run").join(name);
            if let Err(error) = remove(manager, name, &state_dir) {
                kept.push(format!("{name} is not removed: {error}"));
            }
        }
    }
    // The state of a run without its run directory: after a reboot.
    for dir in files::entries(&manager.paths.cache.join("run"))? {
        let gone = !manager.paths.run.join(files::name_of(&dir)).is_dir();
        if gone && let Err(error) = files::remove_tree(&dir) {
            kept.push(error.to_string());
        }
    }
    Ok(kept)
}

fn remove(manager: &Manager, id: &str, state_dir: &Path) -> Result<()> {
    manager.runtime().remove(id)?;
    files::remove_tree(state_dir)?;
    if let Some(parent) = state_dir.parent() {
        files::remove_empty_dir(parent);
    }
    // Last: it is what the next command finds when this one is killed now.
    files::remove_tree(&manager.paths.run.join(id)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_directories() {
        for (dir, name) in [
            ("/srv/hello", "hello"),
            ("/srv/my app.git", "my-app-git"),
            ("/srv/--x--", "x"),
            ("/", "app"),
        ] {
            assert_eq!(instance_name(Path::new(dir)), name);
            assert!(crate::names::check(&format!("x{name}")).is_ok());
        }
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = find_checkout(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains(".metactl") && error.class().code() == 69,
            "{error}"
        );
        assert!(find_checkout(Path::new("/no/such/place")).is_err());
    }
}
