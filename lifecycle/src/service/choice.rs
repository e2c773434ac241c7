//! Which service manager there is, and why it is this one.

use std::path::Path;

use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;
use metactl_bundles::server::ServiceManager as Configured;

use super::ServiceManager;
use super::smf::{self, Smf};
use super::standalone::Standalone;
use super::systemd::{self, Systemd};
use super::upstart::{self, Upstart};
use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::manager::Manager;

/// Names the service manager, whatever runs and whatever is configured: for tests.
const VARIABLE: &str = "METACTL_SERVICE_MANAGER";

/// A service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// metactl's own supervisor.
    Standalone,
    /// systemd.
    Systemd,
    /// Upstart.
    Upstart,
    /// SMF of Solaris and illumos.
    Smf,
}

impl Kind {
    /// Its name, as in `metactl.conf`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Standalone => "standalone",
            Kind::Systemd => "systemd",
            Kind::Upstart => "upstart",
            Kind::Smf => "smf",
        }
    }

    pub(crate) fn manager(self) -> &'static dyn ServiceManager {
        match self {
            Kind::Standalone => &Standalone,
            Kind::Systemd => &Systemd,
            Kind::Upstart => &Upstart,
            Kind::Smf => &Smf,
        }
    }
}

/// The service manager of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub kind: Kind,
    /// What made it so, in words.
    pub why: String,
}

impl Manager {
    /// Which service manager keeps the instances of this server running.
    ///
    /// # Errors
    /// A `metactl.conf` that is wrong, and a name in the environment that is none.
    pub fn service_manager(&self) -> Result<Choice> {
        let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        if let Some(name) = named {
            let kind = Configured::named(&name).map(kind_of);
            let kind = kind.ok_or_else(|| LifecycleError::Setting {
                what: format!("{VARIABLE}={name} names no service manager"),
                hint: format!("it is one of {}", Configured::NAMES.join(", ")),
            })?;
            return Ok(Choice {
                kind,
                why: format!("{VARIABLE} says so"),
            });
        }
        let conf = self.paths.server_conf();
        if let Some(configured) = Server::read(&self.paths)?.service_manager {
            return Ok(Choice {
                kind: kind_of(configured),
                why: format!("[server] service-manager in {} says so", conf.display()),
            });
        }
        Ok(detect(&self.paths))
    }
}

impl Instance {
    pub(crate) fn service_kind(&self) -> Result<Kind> {
        // Who keeps it running goes on with it until it is stopped.
        match self.is_supervised()? {
            true => Ok(Kind::Standalone),
            false => Ok(self.manager.service_manager()?.kind),
        }
    }

    /// Whether metactl's own supervisor keeps it running, or did.
    pub(super) fn is_supervised(&self) -> Result<bool> {
        let run = self.run_dir();
        Ok(run.wanted().is_ok_and(|wanted| wanted.is_some()) || run.supervisor()?.is_some())
    }
}

fn kind_of(configured: Configured) -> Kind {
    match configured {
        Configured::Standalone => Kind::Standalone,
        Configured::Systemd => Kind::Systemd,
        Configured::Upstart => Kind::Upstart,
        Configured::Smf => Kind::Smf,
    }
}

/// Units and jobs are the server's, and so are only for the metactl of the server: one of somebody's own, with its
/// directories elsewhere, keeps its instances running itself.
fn detect(paths: &Paths) -> Choice {
    let booted = Path::new(systemd::BOOTED);
    let run = Paths::under(Path::new("/")).run;
    let choice = |kind, why: String| Choice { kind, why };
    if let Some(why) = smf::runs_here()
        && paths.run == run
    {
        return choice(Kind::Smf, why);
    }
    let (kind, name, how) = if booted.is_dir() {
        let how = format!("there is {}", booted.display());
        (Kind::Systemd, "systemd", how)
    } else {
        match upstart::running() {
            Some((version, true)) => (Kind::Upstart, "Upstart", format!("process 1 is {version}")),
            Some((version, false)) => {
                let why = format!("process 1 is {version}, and metactl needs Upstart 1.5 or newer");
                return choice(Kind::Standalone, why);
            }
            None => {
                let why = format!(
                    "no other service manager runs here (there is no {}, and process 1 is not Upstart)",
                    booted.display()
                );
                return choice(Kind::Standalone, why);
            }
        }
    };
    if paths.run != run {
        let why = format!(
            "{name} runs here, but this metactl has {} instead of {}",
            paths.run.display(),
            run.display()
        );
        return choice(Kind::Standalone, why);
    }
    choice(kind, format!("{name} runs here ({how})"))
}
