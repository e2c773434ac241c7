//! `python`: a Python program of the release, or a WSGI application in gunicorn.
//!
//! | key | meaning |
//! | --- | --- |
//! | `python.module` | a module and the program's arguments: `shop.worker --fast` |
//! | `python.script` | instead of a module: a file of the release and its arguments |
//! | `python.wsgi` | instead of both: `package.module:application`, served by gunicorn |
//! | `python.virtualenv` | a virtual environment in the release, whose Python and packages are used |
//! | `python.options` | options of `python3`, or with `python.wsgi` of gunicorn |
//!
//! Programs of a virtual environment name the folder that they were installed in, so gunicorn is
//! started as a module: the environment may be built anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError};
use crate::app::{Health, Launch};
use crate::keys::{self, Key, Kind};
use crate::view;

const PYTHON: &str = "/usr/bin/python3";
const PYTHON_HINT: &str = "apt-get install python3";

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        platforms: &["python"],
        ..keys::row("daemon.*", name, kind, doc)
    }
}

pub(super) const PLATFORM: Platform = Platform {
    names: &["python"],
    aliases: &[],
    keys: &[
        key(
            "python.module",
            Kind::Words,
            "The module to run, and its arguments.",
        ),
        key(
            "python.script",
            Kind::Words,
            "The file of the release to run, and its arguments; instead of `python.module`.",
        ),
        key(
            "python.wsgi",
            Kind::Text,
            "The WSGI application, `package.module:application`, that gunicorn serves; instead of `python.module`.",
        ),
        key(
            "python.virtualenv",
            Kind::RelativePath,
            "A virtual environment in the release, whose Python and packages are used.",
        ),
        key(
            "python.options",
            Kind::Words,
            "Options of `python3`; with `python.wsgi` those of gunicorn, `--workers 4`.",
        ),
    ],
    implied_by: &["python.module", "python.script", "python.wsgi"],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &["python.wsgi"],
    stop_signal: "TERM",
    is_init: false,
    launch: |_, daemon| launch(daemon),
};

fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let keys = ["python.module", "python.script", "python.wsgi"];
    let key = daemon.one_of("python", &keys, "python.script = app.py")?;
    let mut launch = Launch {
        cwd: PathBuf::from(APP_DIR),
        // What is printed is in the log at once; the release cannot be written to.
        env: BTreeMap::from([
            ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]),
        ..Launch::default()
    };
    let python = interpreter(daemon, key, &mut launch)?;
    launch.args.push(python);
    let options = daemon.all_words("python.options");
    match key {
        "python.wsgi" => {
            let application = wsgi(daemon)?;
            let port = daemon.web_port();
            launch.args.extend(["-m".to_owned(), "gunicorn".to_owned()]);
            launch
                .args
                .extend(["--bind".to_owned(), format!("0.0.0.0:{port}")]);
            // Workers show that they live by touching a file; a slow disk must not kill them.
            let beat = ["--worker-tmp-dir", "/dev/shm"];
            launch.args.extend(beat.map(str::to_owned));
            launch.args.extend(options);
            launch.args.push(application);
            if daemon.text("python.virtualenv").is_none() {
                launch.needs.push(daemon.program(
                    "/usr/bin/gunicorn",
                    "gunicorn",
                    key,
                    "apt-get install gunicorn, or name a virtual environment that has it with \
                     python.virtualenv",
                ));
            }
        }
        "python.module" => {
            let words = daemon.all_words(key);
            let module = words.first().map_or("", String::as_str);
            if module.is_empty() || !module.chars().all(is_of_module) {
                return Err(daemon.error(
                    key,
                    format!("`{module}` is not the name of a Python module"),
                    "write it like package.module, without .py".to_owned(),
                ));
            }
            launch.args.extend(options);
            launch.args.push("-m".to_owned());
            launch.args.extend(words);
        }
        _ => {
            let script = daemon.script(key)?;
            launch.args.extend(options);
            launch.args.extend(script.args);
            launch.release.push(script.need);
        }
    }
    Ok(launch)
}

/// The Python that runs: the host's, or that of the virtual environment, which leads to it.
fn interpreter(
    daemon: &DaemonSection<'_>,
    key: &str,
    launch: &mut Launch,
) -> Result<String, PlatformError> {
    launch
        .needs
        .push(daemon.program(PYTHON, "Python 3", key, PYTHON_HINT));
    let Some(folder) = daemon.text("python.virtualenv") else {
        return Ok(PYTHON.to_owned());
    };
    let key = "python.virtualenv";
    let (inside, _) = daemon.in_release(key, folder)?;
    let (python, mut need) = daemon.in_release(key, &format!("{folder}/bin/python"))?;
    "make it when the release is built: [build] command = python3 -m venv venv && venv/bin/pip \
     install -r requirements.txt"
        .clone_into(&mut need.hint);
    launch.release.push(need);
    let path = format!("{inside}/bin:{}", view::PATH);
    launch.env.insert("PATH".to_owned(), path);
    launch.env.insert("VIRTUAL_ENV".to_owned(), inside);
    Ok(python)
}

/// `python.wsgi` as one argument that is not an option.
fn wsgi(daemon: &DaemonSection<'_>) -> Result<String, PlatformError> {
    let key = "python.wsgi";
    let text = daemon.text(key).unwrap_or_default().trim();
    let module = text.split(':').next().unwrap_or_default();
    if !module.is_empty() && module.chars().all(is_of_module) {
        return Ok(text.to_owned());
    }
    Err(daemon.error(
        key,
        format!("`{text}` does not name a WSGI application"),
        "write it like package.module:application".to_owned(),
    ))
}

fn is_of_module(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}
