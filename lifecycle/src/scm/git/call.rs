//! Calling git: with which environment and settings, and what its failures mean.

use std::process::Command;
use std::time::Duration;

use metactl_bundles::redact::redact;

use super::Git;
use crate::error::{LifecycleError, Result};
use crate::scm::{command, login, said};

/// What git may speak.
pub(super) const PROTOCOLS: &str = "file:git:http:https:ssh";

impl Git {
    /// git with nothing of the caller's environment but the way to the network and to keys.
    pub(super) fn command(&self) -> Command {
        let mut git = Command::new("git");
        git.env_clear();
        git.env("PATH", metactl_bundles::view::PATH);
        for name in [
            "HOME",
            "SSH_AUTH_SOCK",
            "http_proxy",
            "https_proxy",
            "HTTPS_PROXY",
            "no_proxy",
            "NO_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            if let Some(value) = std::env::var_os(name) {
                git.env(name, value);
            }
        }
        git.env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.config_file())
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("GIT_SSH_COMMAND", &self.ssh)
            .env("GIT_DIR", &self.cache)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_LFS_SKIP_SMUDGE", "1");
        git.args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ]);
        git.args(["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true"]);
        git.args(["-c", "core.autocrlf=false", "-c", "core.symlinks=true"]);
        git.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"]);
        git.args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0"]);
        if let Some(credentials) = &self.credentials {
            git.args(["-c", &credentials.setting()]);
        }
        if let Some(path) = &self.settings.tls_ca {
            git.args(["-c", &format!("http.sslCAInfo={}", path.display())]);
        }
        git
    }

    pub(super) fn run(
        &self,
        git: Command,
        timeout: Duration,
        action: &str,
    ) -> Result<command::Output> {
        command::run(git, timeout).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LifecycleError::Unavailable {
                what: "git is not installed".to_owned(),
                hint: "apt-get install git".to_owned(),
            },
            std::io::ErrorKind::TimedOut => self.failed(action, &error.to_string()),
            _ => self.failed(action, &format!("git: {error}")),
        })
    }

    pub(super) fn bytes(&self, git: Command, timeout: Duration, action: &str) -> Result<Vec<u8>> {
        let output = self.run(git, timeout, action)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let why = said(&output.stderr).unwrap_or_else(|| output.status.to_string());
        Err(self.failed(action, &why))
    }

    pub(super) fn output(&self, git: Command, timeout: Duration, action: &str) -> Result<String> {
        let bytes = self.bytes(git, timeout, action)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn failed(&self, action: &str, why: &str) -> LifecycleError {
        LifecycleError::Source {
            action: action.to_owned(),
            repo: self.shown(),
            why: redact(why).into_owned(),
            hint: login::advice(&self.settings, why, &self.address),
        }
    }
}
