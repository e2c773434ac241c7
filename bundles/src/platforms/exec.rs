//! `exec`: any program.
//!
//! | key | meaning |
//! | --- | --- |
//! | `command` | the program and its arguments, as words; no shell in between |
//!
//! A program with a `/` in its name is looked for in the release, another one in `PATH`. It is
//! not trusted to be a good PID 1, so it gets the small init of the runtime.

use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError, in_app};
use crate::app::{Health, JavaNeed, Launch};
use crate::keys::{self, Key, Kind};

pub(super) const PLATFORM: Platform = Platform {
    names: &["exec"],
    aliases: &[],
    keys: &[Key {
        platforms: &["exec"],
        ..keys::row(
            "daemon.*",
            "command",
            Kind::Words,
            "The program and its arguments, without a shell.",
        )
    }],
    implied_by: &["command"],
    port: None,
    health: Health::Tcp,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let mut args = (daemon.words)("command").unwrap_or_default();
    let Some(program) = args.first().filter(|word| !word.is_empty()).cloned() else {
        return Err(daemon.error(
            "command",
            format!(
                "[daemon.{}] says platform = exec but not what to run",
                daemon.name
            ),
            "add a line like `command = ./server --port 80`".to_owned(),
        ));
    };
    if program.contains('/') {
        let inside = in_app(&program).ok_or_else(|| {
            daemon.error(
                "command",
                format!("`{program}` leads out of the release"),
                "name a path of the release, or an absolute path".to_owned(),
            )
        })?;
        args[0] = inside.to_string_lossy().into_owned();
    }
    // `java` by its bare name is found through /etc/alternatives and needs its files in /etc.
    let java = (program == "java").then(|| JavaNeed {
        origin: daemon.origin("command"),
        ..JavaNeed::default()
    });
    Ok(Launch {
        args,
        cwd: PathBuf::from(APP_DIR),
        java,
        ..Launch::default()
    })
}
