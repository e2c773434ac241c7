//! `ruby`: a Ruby program of the release, or a Rack application in puma or WEBrick.
//!
//! | key | meaning |
//! | --- | --- |
//! | `ruby.script` | a file of the release and its arguments |
//! | `ruby.rack` | instead of a script: a `config.ru` of the release, served by puma, or by WEBrick where puma is not installed |
//! | `ruby.options` | options of `ruby` |

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError};
use crate::app::{Choice, Health, Launch, Way};
use crate::keys::{self, Key, Kind};

const RUBY: &str = "/usr/bin/ruby";
const PUMA: &str = "/usr/bin/puma";
const RACKUP: &str = "/usr/bin/rackup";

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        platforms: &["ruby"],
        ..keys::row("daemon.*", name, kind, doc)
    }
}

pub(super) const PLATFORM: Platform = Platform {
    names: &["ruby"],
    aliases: &[],
    keys: &[
        key(
            "ruby.script",
            Kind::Words,
            "The file of the release to run, and its arguments.",
        ),
        key(
            "ruby.rack",
            Kind::RelativePath,
            "The Rack application, a `config.ru` of the release, served by puma, or by WEBrick where there is no puma; instead of `ruby.script`.",
        ),
        key("ruby.options", Kind::Words, "Options of `ruby`."),
    ],
    implied_by: &["ruby.script", "ruby.rack"],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &["ruby.rack"],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let keys = ["ruby.script", "ruby.rack"];
    let key = daemon.one_of("ruby", &keys, "ruby.rack = config.ru")?;
    let mut ruby = vec![RUBY.to_owned()];
    ruby.extend(daemon.all_words("ruby.options"));
    let launch = Launch {
        cwd: PathBuf::from(APP_DIR),
        needs: vec![daemon.program(RUBY, "Ruby", key, "apt-get install ruby")],
        ..Launch::default()
    };
    if key == "ruby.script" {
        let script = daemon.script(key)?;
        ruby.extend(script.args);
        return Ok(Launch {
            args: ruby,
            release: vec![script.need],
            ..launch
        });
    }
    let (file, need) = daemon.in_release(key, daemon.text(key).unwrap_or_default())?;
    Ok(Launch {
        choice: Some(servers(daemon, &ruby, &file)),
        env: BTreeMap::from([("RACK_ENV".to_owned(), "production".to_owned())]),
        release: vec![need],
        ..launch
    })
}

/// The servers for a Rack application, `file` being its `config.ru`.
fn servers(daemon: &DaemonSection<'_>, ruby: &[String], file: &str) -> Choice {
    let port = daemon.web_port().to_string();
    let way = |program: &str, words: &[&str]| Way {
        needs: vec![PathBuf::from(program)],
        args: ruby
            .iter()
            .map(String::as_str)
            .chain([program])
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect(),
    };
    let bind = format!("tcp://0.0.0.0:{port}");
    let puma = ["--environment", "production", "--bind", &bind, file];
    let rackup = [
        "--server",
        "webrick",
        "--env",
        "production",
        "--host",
        "0.0.0.0",
        "--port",
        &port,
        file,
    ];
    Choice {
        ways: vec![way(PUMA, &puma), way(RACKUP, &rackup)],
        what: "a server for Rack".to_owned(),
        origin: daemon.origin("ruby.rack"),
        hint: "apt-get install puma (or ruby-rack and ruby-webrick)".to_owned(),
    }
}
