//! `static`: the files of a folder of the release.
//!
//! | key | meaning |
//! | --- | --- |
//! | `static.root` | the folder: `public` |
//!
//! They are served by Python's own HTTP server, which nearly every host has, with the rules of
//! `static_files/server.py` around it: no folder is listed, no hidden file is served, and no link
//! leads out of the root. (busybox httpd would serve `.metactl` and run what is in `cgi-bin/`; PHP's
//! server would run every .php file.)

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, GENERATED_DIR, Platform, PlatformError};
use crate::app::{GeneratedFile, Health, Launch};
use crate::keys::{self, Key, Kind};

const PYTHON: &str = "/usr/bin/python3";
const SERVER: &str = include_str!("static_files/server.py");

pub(super) const PLATFORM: Platform = Platform {
    names: &["static"],
    aliases: &[],
    keys: &[Key {
        platforms: &["static"],
        ..keys::row(
            "daemon.*",
            "static.root",
            Kind::RelativePath,
            "The folder of the release whose files are served; hidden ones are not, and folders are not listed.",
        )
    }],
    implied_by: &["static.root"],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let key = daemon.one_of("static", &["static.root"], "static.root = public")?;
    let (root, need) = daemon.in_release(key, daemon.text(key).unwrap_or_default())?;
    let server = PathBuf::from(GENERATED_DIR)
        .join(daemon.name)
        .join("static.py");
    let file = GeneratedFile {
        text: SERVER.to_owned(),
        mode: 0o644,
    };
    // -I: nothing of the environment or the working folder becomes part of the server.
    let args = [
        PYTHON,
        "-I",
        &server.to_string_lossy(),
        &root,
        &daemon.web_port().to_string(),
    ]
    .map(str::to_owned);
    Ok(Launch {
        args: args.to_vec(),
        cwd: PathBuf::from(APP_DIR),
        needs: vec![daemon.program(PYTHON, "Python 3", key, "apt-get install python3")],
        files: BTreeMap::from([(server, file)]),
        release: vec![need],
        ..Launch::default()
    })
}
