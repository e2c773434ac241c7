//! `node`: a JavaScript program of the release in Node.js.
//!
//! | key | meaning |
//! | --- | --- |
//! | `node.script` | a file of the release and its arguments: `server.js --quiet` |
//! | `node.options` | options of `node`: `--max-old-space-size=256` |
//!
//! The program listens where it likes; it is told the port as `PORT`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError};
use crate::app::{Health, Launch};
use crate::keys::{self, Key, Kind};

const NODE: &str = "/usr/bin/node";

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key {
        platforms: &["node"],
        ..keys::row("daemon.*", name, Kind::Words, doc)
    }
}

pub(super) const PLATFORM: Platform = Platform {
    names: &["node"],
    aliases: &[],
    keys: &[
        key(
            "node.script",
            "The file of the release to run, and its arguments.",
        ),
        key("node.options", "Options of `node`."),
    ],
    implied_by: &["node.script"],
    port: None,
    health: Health::Tcp,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let key = daemon.one_of("node", &["node.script"], "node.script = server.js")?;
    let script = daemon.script(key)?;
    let mut args = vec![NODE.to_owned()];
    args.extend(daemon.all_words("node.options"));
    args.extend(script.args);
    Ok(Launch {
        args,
        cwd: PathBuf::from(APP_DIR),
        env: BTreeMap::from([("NODE_ENV".to_owned(), "production".to_owned())]),
        needs: vec![daemon.program(NODE, "Node.js", key, "apt-get install nodejs")],
        release: vec![script.need],
        ..Launch::default()
    })
}
