//! Whether there is a sandbox to look into; where there is none, who can look instead.

use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::service::{Kind, smf};

/// Refuses to look into a sandbox that an instance has not, whether it runs or not.
///
/// # Errors
/// Under SMF, whose zone is the sandbox, and under Upstart with `sandbox = no`.
pub(crate) fn require_sandbox(instance: &Instance) -> Result<()> {
    let name = instance.name();
    match instance.service_kind()? {
        Kind::Smf => Err(of_zone(name)),
        Kind::Upstart => match instance.current() {
            Ok(Some(current)) if current.manifest.plain => Err(plain(name, current.manifest.uid)),
            // A bundle that cannot be read here is told of by what needs it.
            _ => Ok(()),
        },
        Kind::Systemd | Kind::Standalone => Ok(()),
    }
}

fn of_zone(name: &str) -> LifecycleError {
    let service = smf::service(name);
    LifecycleError::Unavailable {
        what: format!("{name} has no sandbox of its own: under SMF the zone is the sandbox"),
        hint: format!(
            "zlogin ZONE (in the global zone) goes into it; there svcs -p '{service}:*' lists the processes, and pfiles, \
             pstack and truss -p look at one"
        ),
    }
}

fn plain(name: &str, uid: u32) -> LifecycleError {
    LifecycleError::Unavailable {
        what: format!("{name} runs without a sandbox ([upstart] sandbox = no)"),
        hint: format!(
            "it sees what its account sees: ps -fu {uid}, and sudo -u '#{uid}' COMMAND runs something as it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_sandbox_is_told_who_can_look() {
        let hint = |error: LifecycleError| error.hint().unwrap_or_default();
        let zone = hint(of_zone("my.app"));
        assert!(
            zone.contains("zlogin") && zone.contains("'svc:/site/metactl/my_2eapp:*'"),
            "{zone}"
        );
        let plain = hint(plain("app", 1007));
        assert!(plain.contains("ps -fu 1007"), "{plain}");
    }
}
