//! `perl`: a Perl program of the release, or a PSGI application in plackup.
//!
//! | key | meaning |
//! | --- | --- |
//! | `perl.script` | a file of the release and its arguments |
//! | `perl.psgi` | instead of a script: an `app.psgi` of the release, served by plackup |
//! | `perl.options` | options of `perl`, or with `perl.psgi` of plackup: `--server Starman` |

use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError};
use crate::app::{Health, Launch};
use crate::keys::{self, Key, Kind};

const PERL: &str = "/usr/bin/perl";
const PLACKUP: &str = "/usr/bin/plackup";

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        platforms: &["perl"],
        ..keys::row("daemon.*", name, kind, doc)
    }
}

pub(super) const PLATFORM: Platform = Platform {
    names: &["perl"],
    aliases: &[],
    keys: &[
        key(
            "perl.script",
            Kind::Words,
            "The file of the release to run, and its arguments.",
        ),
        key(
            "perl.psgi",
            Kind::RelativePath,
            "The PSGI application, an `app.psgi` of the release, served by plackup; instead of `perl.script`.",
        ),
        key(
            "perl.options",
            Kind::Words,
            "Options of `perl`; with `perl.psgi` those of plackup, `--server Starman`.",
        ),
    ],
    implied_by: &["perl.script", "perl.psgi"],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &["perl.psgi"],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let keys = ["perl.script", "perl.psgi"];
    let key = daemon.one_of("perl", &keys, "perl.script = server.pl")?;
    let mut args = vec![PERL.to_owned()];
    let mut needs = vec![daemon.program(PERL, "Perl", key, "apt-get install perl")];
    let need = if key == "perl.script" {
        let script = daemon.script(key)?;
        args.extend(daemon.all_words("perl.options"));
        args.extend(script.args);
        script.need
    } else {
        let (file, need) = daemon.in_release(key, daemon.text(key).unwrap_or_default())?;
        let port = daemon.web_port().to_string();
        let words = [
            PLACKUP,
            "--env",
            "deployment",
            "--host",
            "0.0.0.0",
            "--port",
            &port,
        ];
        args.extend(words.map(str::to_owned));
        args.extend(daemon.all_words("perl.options"));
        args.push(file);
        needs.push(daemon.program(PLACKUP, "plackup", key, "apt-get install libplack-perl"));
        need
    };
    Ok(Launch {
        args,
        cwd: PathBuf::from(APP_DIR),
        needs,
        release: vec![need],
        ..Launch::default()
    })
}
