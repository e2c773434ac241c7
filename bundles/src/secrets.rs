//! `[secrets]`: what an application may know and nobody else.
//!
//! ```ini
//! [secrets]
//! db.password = file:/etc/metactl/secrets/db
//! api.key = 8d7f%(not a reference)
//!
//! [secrets.env]
//! DB_PASSWORD = db.password
//! ```
//!
//! A value is the secret itself, taken as written, or `file:` and a path. Each is a file
//! `/run/secrets/NAME` inside, readable by the application alone. On the server the values stand in
//! `<state>/<instance>/secrets/<number>/`, a set for each change of them, outside of the immutable
//! bundle: config.json has only the mounts. `[secrets.env]` asks for variables of the environment,
//! which config.json has to have, so these are masked in a redacted bundle.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::app::{App, EnvValue, Secret, SecretSource};
use crate::diagnostics::{Collector, Diagnostic, Report};
use crate::keys::values;
use crate::layers::{Config, Origin};
use crate::redact::MASK;

/// What a value begins with that is the path of a file.
const FILE: &str = "file:";

/// Where they are inside.
pub const DIR: &str = "/run/secrets";

/// The largest secret, in bytes.
pub const MAX: u64 = 64 * 1024;

/// Bytes that no debugging output shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Hidden(Vec<u8>);

impl Hidden {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Hidden {
    fn from(bytes: &[u8]) -> Hidden {
        Hidden(bytes.to_vec())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The secrets of an instance, by name, with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(BTreeMap<String, Hidden>);

impl Secrets {
    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.bytes()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The path, when the value names a file.
pub fn file(value: &str) -> Option<&Path> {
    value.strip_prefix(FILE).map(Path::new)
}

/// The value as it may be printed: a path, but not a secret.
pub fn shown(value: &str) -> &str {
    match file(value) {
        Some(_) => value,
        None if value.is_empty() => value,
        None => MASK,
    }
}

/// Whether `value` can be said in `[secrets]`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check(value: &str) -> Result<(), String> {
    match value.strip_prefix(FILE) {
        Some(path) => values::absolute_path(path).map(drop).map_err(|_| {
            "must be `file:` and a path from the root: file:/etc/metactl/secrets/db".to_owned()
        }),
        None if value.is_empty() => Err("must not be empty".to_owned()),
        None => Ok(()),
    }
}

/// Reads the values of all secrets, and adds the variables that are asked for to `app.env`.
///
/// # Errors
/// Everything that is wrong with them, in one report without any of their content: files that
/// are not there, are too large, or that others can read or change.
pub fn read(app: &mut App, config: &Config) -> Result<Secrets, Report> {
    let mut out = Collector::default();
    let mut secrets = Secrets::default();
    let mut variables = Vec::new();
    for (name, secret) in &app.secrets {
        let value = match value_of(secret) {
            Ok(value) => value,
            Err((message, hint)) => {
                out.error(|| {
                    told(
                        config,
                        &secret.origin,
                        &format!("secret `{name}`: {message}"),
                        hint,
                    )
                });
                continue;
            }
        };
        for (variable, origin) in &secret.variables {
            match as_variable(value.bytes()) {
                Some(value) => variables.push((variable.clone(), value, origin.clone())),
                None => out.error(|| {
                    let message =
                        format!("secret `{name}` cannot be the variable {variable}: it is no text");
                    let hint = format!("the application finds it in {DIR}/{name}");
                    told(config, origin, &message, hint)
                }),
            }
        }
        secrets.0.insert(name.clone(), value);
    }
    out.finish()?;
    for (variable, value, origin) in variables {
        let value = EnvValue {
            value: value.into(),
            origin,
            sensitive: true,
        };
        app.env.insert(variable.into(), value);
    }
    Ok(secrets)
}

fn told(config: &Config, origin: &Origin, message: &str, hint: String) -> Diagnostic {
    Diagnostic::error(message)
        .at(config.place_of(origin, usize::MAX))
        .hint(hint)
}

/// The text without the line break at its end that editors make.
fn as_variable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    values::variable(text).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

type Refused = (String, String);

fn value_of(secret: &Secret) -> Result<Hidden, Refused> {
    match &secret.source {
        SecretSource::Inline(value) => {
            // The layer itself is then as secret as what is in it.
            if let Some(layer) = &secret.origin.file {
                let facts = std::fs::metadata(layer).map_err(|error| cannot_read(layer, &error))?;
                check_mode(layer, facts.mode())?;
            }
            Ok(value.clone())
        }
        SecretSource::File(path) => read_file(path),
    }
}

/// Reads a file that only root or the caller can read.
fn read_file(path: &Path) -> Result<Hidden, Refused> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| cannot_read(path, &error.into()))?;
    let facts = file.metadata().map_err(|error| cannot_read(path, &error))?;
    let shown = path.display();
    if !facts.is_file() {
        let hint = "name a file whose content is the secret".to_owned();
        return Err((format!("{shown} is not a regular file"), hint));
    }
    let own = rustix::process::geteuid().as_raw();
    if facts.uid() != 0 && facts.uid() != own {
        let message = format!(
            "{shown} belongs to uid {}, who could change it",
            facts.uid()
        );
        return Err((message, format!("chown root {shown}")));
    }
    check_mode(path, facts.mode())?;
    let mut bytes = Vec::new();
    file.take(MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot_read(path, &error))?;
    if bytes.len() as u64 > MAX {
        let hint = "what is larger belongs into the data of the application".to_owned();
        return Err((format!("{shown} is larger than 64 KiB"), hint));
    }
    if bytes.is_empty() {
        return Err((
            format!("{shown} is empty"),
            "write the secret into it".to_owned(),
        ));
    }
    Ok(Hidden(bytes))
}

fn check_mode(path: &Path, mode: u32) -> Result<(), Refused> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = path.display();
    let message = format!("others can read {shown} (mode {:04o})", mode & 0o7777);
    Err((message, format!("chmod go= {shown}")))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Refused {
    let hint = "make the file, mode 0600, or correct the path".to_owned();
    (format!("cannot read {}: {error}", path.display()), hint)
}
