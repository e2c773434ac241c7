//! `php`: a folder of PHP files in PHP's own web server, or a PHP program of the release.
//!
//! | key | meaning |
//! | --- | --- |
//! | `php.root` | the document root, a folder of the release: `public` |
//! | `php.router` | with `php.root`: the script that every request goes through first |
//! | `php.script` | instead of `php.root`: a file of the release and its arguments |
//! | `php.options` | options of `php`: `-d memory_limit=64M` |
//!
//! PHP's own server answers one request at a time unless the environment has
//! `PHP_CLI_SERVER_WORKERS`. SIGINT lets it finish what it is doing; SIGTERM would not.

use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError};
use crate::app::{Health, Launch};
use crate::keys::{self, Key, Kind};

const PHP: &str = "/usr/bin/php";

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        platforms: &["php"],
        ..keys::row("daemon.*", name, kind, doc)
    }
}

pub(super) const PLATFORM: Platform = Platform {
    names: &["php"],
    aliases: &[],
    keys: &[
        key(
            "php.root",
            Kind::RelativePath,
            "The folder of the release that PHP's own web server serves.",
        ),
        key(
            "php.router",
            Kind::RelativePath,
            "The script of the release that every request to `php.root` goes through first.",
        ),
        key(
            "php.script",
            Kind::Words,
            "The file of the release to run, and its arguments; instead of `php.root`.",
        ),
        key("php.options", Kind::Words, "Options of `php`."),
    ],
    implied_by: &["php.root", "php.script"],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &["php.root"],
    stop_signal: "INT",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let keys = ["php.root", "php.script"];
    let key = daemon.one_of("php", &keys, "php.root = public")?;
    let mut args = vec![PHP.to_owned()];
    args.extend(daemon.all_words("php.options"));
    let mut release = Vec::new();
    let router = daemon.text("php.router");
    if key == "php.script" {
        if router.is_some() {
            return Err(daemon.error(
                "php.router",
                "php.router has no effect beside php.script".to_owned(),
                "name a document root with php.root".to_owned(),
            ));
        }
        let script = daemon.script(key)?;
        args.extend(script.args);
        release.push(script.need);
    } else {
        let (root, need) = daemon.in_release(key, daemon.text(key).unwrap_or_default())?;
        release.push(need);
        let listen = format!("0.0.0.0:{}", daemon.web_port());
        args.extend(["-S".to_owned(), listen, "-t".to_owned(), root]);
        if let Some(router) = router {
            let (script, need) = daemon.in_release("php.router", router)?;
            args.push(script);
            release.push(need);
        }
    }
    Ok(Launch {
        args,
        cwd: PathBuf::from(APP_DIR),
        needs: vec![daemon.program(PHP, "PHP", key, "apt-get install php-cli")],
        // Without its configuration PHP has no extensions. What FPM is told is not for everybody.
        etc: vec!["php/*/cli".into(), "php/*/mods-available".into()],
        release,
        ..Launch::default()
    })
}
