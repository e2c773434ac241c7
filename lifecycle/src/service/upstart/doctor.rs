//! What `metactl doctor` says about a server that Upstart runs.

use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{EntryKind, read_manifest};
use metactl_netns::doctor::Finding;

use super::{dir, files, kernel};
use crate::error::Result;
use crate::files as small;
use crate::manager::Manager;

/// Where cron(8) is, as Debian and as others call it.
const CRONS: [&str; 3] = ["/usr/sbin/cron", "/usr/sbin/crond", "/usr/sbin/fcron"];

/// What stands in the way of instances, or of those who believe that they are alone.
pub(super) fn findings(manager: &Manager) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut has_cron = false;
    for name in manager.instances()? {
        let bundle = manager.paths.instance_state(&name).join("bundle");
        // A damaged one is told by whoever needs it.
        let Ok(manifest) = read_manifest(&bundle) else {
            continue;
        };
        has_cron |= manifest
            .entries
            .iter()
            .any(|entry| entry.kind == EntryKind::Cron);
        if manifest.plain {
            found.push(without_sandbox(&name, &manager.paths.local_layer(&name)));
        }
    }
    if kernel::is_too_old() {
        found.push(old_kernel());
    }
    if has_cron && !CRONS.iter().any(|cron| Path::new(cron).exists()) {
        found.push(no_cron());
    }
    found.extend(unreadable()?);
    Ok(found)
}

fn without_sandbox(name: &str, layer: &Path) -> Finding {
    Finding {
        check: "sandbox",
        what: format!("{name} runs without a sandbox: [upstart] sandbox = no"),
        place: layer.display().to_string(),
        why: "it has no firewall and no limits of its own, and sees whatever its account does"
            .to_owned(),
        mend: vec![format!(
            "metactl {name} unset upstart:sandbox sandbox.net:mode && metactl {name} restart"
        )],
        lasting: "that needs Linux 5.4 or newer".to_owned(),
    }
}

fn old_kernel() -> Finding {
    Finding {
        check: "kernel",
        what: format!("this kernel ({}) is too old for a sandbox", kernel::release()),
        place: "/proc/sys/kernel/osrelease".to_owned(),
        why: "no instance can be started but those with [upstart] sandbox = no, which have no firewall".to_owned(),
        mend: Vec::new(),
        lasting: "boot Linux 5.4 or newer".to_owned(),
    }
}

fn no_cron() -> Finding {
    Finding {
        check: "cron",
        what: "there is no cron on this server".to_owned(),
        place: files::CRON_DIR.to_owned(),
        why: "under Upstart it is what starts cron jobs when it is time".to_owned(),
        mend: vec!["apt-get install cron".to_owned()],
        lasting: String::new(),
    }
}

/// Jobs of metactl that Upstart does not take.
fn unreadable() -> Result<Vec<Finding>> {
    let known = super::control::list()?;
    let mut found = Vec::new();
    let files: Vec<PathBuf> = small::entries(dir())?;
    for path in files {
        let Some(name) = small::name_of(&path).strip_suffix(".conf") else {
            continue;
        };
        if name.starts_with("metactl") && !known.contains_key(name) {
            found.push(Finding {
                check: "job",
                what: format!("Upstart does not know {name}, whose file is there"),
                place: path.display().to_string(),
                why: "it cannot be started".to_owned(),
                mend: vec!["initctl reload-configuration".to_owned()],
                lasting: "if it stays so, the log of the server (syslog) says why".to_owned(),
            });
        }
    }
    Ok(found)
}
