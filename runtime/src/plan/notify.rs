//! A program that tells the service manager itself how it is gets the socket for that, and the
//! variables that name it (sd_notify(3), sd_watchdog_enabled(3)).

use oci_spec::OciSpecError;
use oci_spec::runtime::{MountBuilder, Spec};

use super::PlanError;
use crate::launch::handover::{INSIDE, Notify};

/// Puts both into `spec`.
///
/// # Errors
/// When the specification's own builder refuses the mount.
pub fn show(spec: &mut Spec, notify: &Notify) -> Result<(), PlanError> {
    let refused = |e: OciSpecError| PlanError::Request(format!("show {INSIDE}: {e}"));
    let options = ["bind", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let mount = MountBuilder::default()
        .destination(INSIDE)
        .source(notify.socket.clone())
        .typ("bind")
        .options(options)
        .build()
        .map_err(refused)?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    let Some(mut process) = spec.process().clone() else {
        return Ok(());
    };
    let mut environment = process.env().clone().unwrap_or_default();
    let ours = ["NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID="];
    environment.retain(|set| !ours.iter().any(|name| set.starts_with(name)));
    environment.push(format!("NOTIFY_SOCKET={INSIDE}"));
    // Without WATCHDOG_PID it is for every process: which pid the program has is its own affair.
    environment.extend(notify.watchdog.map(|usec| format!("WATCHDOG_USEC={usec}")));
    process.set_env(Some(environment));
    spec.set_process(Some(process));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_the_socket_and_its_name() {
        let mut spec = Spec::default();
        let mut process = spec.process().clone().unwrap();
        process.set_env(Some(vec!["NOTIFY_SOCKET=/x".into(), "A=b".into()]));
        spec.set_process(Some(process));
        let notify = Notify {
            socket: "/run/systemd/notify".into(),
            watchdog: Some(2_000_000),
        };
        show(&mut spec, &notify).unwrap();
        let mounts = spec.mounts().as_ref().unwrap();
        assert_eq!(
            mounts.last().unwrap().destination(),
            std::path::Path::new("/dev/notify")
        );
        let process = spec.process().as_ref().unwrap();
        assert_eq!(
            process.env().as_ref().unwrap(),
            &["A=b", "NOTIFY_SOCKET=/dev/notify", "WATCHDOG_USEC=2000000"]
        );
    }
}
