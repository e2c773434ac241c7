//! A bundle as it is on disk: `config.json` of the runtime specification, read strictly.
//!
//! What this runtime does not understand or cannot enforce is an error that names the field,
//! never ignored: whoever wrote it relies on it.

mod capabilities;
mod check;
pub(crate) mod spelling;
#[cfg(test)]
mod tests;

pub(crate) use check::kinds_of_hooks;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

/// A bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// The bytes of `config.json`.
    pub text: Vec<u8>,
    /// What they say; checked, so that the fields that are always needed are there. Some KiB: not to be moved around
    /// on the stack.
    pub spec: Box<Spec>,
    /// What was left out of it, because it can only take something away from the process.
    pub warnings: Vec<String>,
    /// Sections that this specification does not have. Whatever they are for, nothing that restricts
    /// a container is in them; runtimes must ignore them (runtime-spec, config, "Extensibility").
    pub ignored: Vec<String>,
}

/// Why a bundle cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `config.json` could not be read.
    #[error("cannot read {}: {source}{}", path.display(), if source.kind() == io::ErrorKind::NotFound { "; is --bundle the directory of an OCI bundle? (`spec` writes a config.json to begin with)" } else { "" })]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON, or not in the form of the specification.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        source: serde_json::Error,
    },
    /// It has fields that the specification of this version does not have.
    #[error(
        "{}: unknown field{} {}; it would not be enforced, so nothing is started: correct or remove it",
        path.display(), if fields.len() == 1 { "" } else { "s" }, fields.join(", ")
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Dotted paths.
        fields: Vec<String>,
    },
    /// It asks for something that is not done (yet).
    #[error("{}: {field} is not supported: {why}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Dotted path.
        field: String,
        /// What to do.
        why: &'static str,
    },
    /// A value makes no sense.
    #[error("{}: {field}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Dotted path.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Bundle {
    /// Reads `config.json` in `dir`.
    pub fn load(dir: &Path) -> Result<Bundle, SpecError> {
        let path = dir.join("config.json");
        let text = read_whole(&path).map_err(|source| SpecError::Read { path, source })?;
        let dir = std::path::absolute(dir).map_err(|source| SpecError::Read {
            path: dir.to_owned(),
            source,
        })?;
        Bundle::parse(&dir, text)
    }

    /// The bundle in `dir` (absolute), whose `config.json` is `text`.
    pub fn parse(dir: &Path, text: Vec<u8>) -> Result<Bundle, SpecError> {
        let path = dir.join("config.json");
        let mut warnings = Vec::new();
        let mut ignored = Vec::new();
        let spec = match known(&path, &text, &mut ignored) {
            Err(error @ SpecError::Parse { .. }) => {
                let rest = capabilities::without_unknown(&text, &mut warnings);
                known(&path, &rest.ok_or(error)?, &mut ignored)?
            }
            Err(error @ SpecError::Unknown { .. }) => {
                known(&path, &respelled(&text).ok_or(error)?, &mut ignored)?
            }
            result => result?,
        };
        check::spec(&spec).map_err(|problem| problem.at(path))?;
        let process = spec.process().as_ref();
        let sets = process.and_then(|p| p.capabilities().as_ref());
        warnings.extend(
            crate::capabilities::not_raised(sets)
                .into_iter()
                .map(|name| {
                    format!(
                        "can't raise ambient capability {name}: it is not permitted and inheritable"
                    )
                }),
        );
        Ok(Bundle {
            dir: dir.to_owned(),
            text,
            spec,
            warnings,
            ignored,
        })
    }

    /// The root directory as an absolute host path.
    pub fn rootfs(&self) -> PathBuf {
        let path = self
            .spec
            .root()
            .as_ref()
            .map_or(Path::new("rootfs"), |r| r.path());
        self.dir.join(path)
    }

    /// `config.json`, for messages.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.spec
            .annotations()
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    /// The value of an annotation that holds JSON, read as strictly as everything else.
    pub fn json_annotation<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, SpecError> {
        let Some(text) = self.annotation(key) else {
            return Ok(None);
        };
        let value = strict(Path::new(key), text.as_bytes());
        let field = format!("annotations.{key}");
        value
            .map(Some)
            .map_err(|e| self.invalid(field, e.to_string()))
    }

    /// An error about a field of this bundle.
    pub fn invalid(&self, field: impl Into<String>, why: impl Into<String>) -> SpecError {
        SpecError::Invalid {
            path: self.config_path(),
            field: field.into(),
            why: why.into(),
        }
    }

    /// An error about a field of this bundle that is not supported.
    pub fn unsupported(&self, field: impl Into<String>, why: &'static str) -> SpecError {
        SpecError::Unsupported {
            path: self.config_path(),
            field: field.into(),
            why,
        }
    }
}

/// Reads the `process` object of `exec --process FILE`, as strictly as a whole bundle.
pub fn load_process(path: &Path) -> Result<Process, SpecError> {
    let read = |source| SpecError::Read {
        path: path.to_owned(),
        source,
    };
    // Also from a pipe: whoever gives a file here means it.
    let file = File::open(path).map_err(read)?;
    let mut text = up_to_the_limit(file).map_err(read)?;
    // Engines leave out what is zero.
    if let Ok(serde_json::Value::Object(mut object)) = serde_json::from_slice(&text)
        && !object.contains_key("user")
    {
        object.insert("user".into(), serde_json::json!({"uid": 0, "gid": 0}));
        text = serde_json::to_vec(&object).unwrap_or(text);
    }
    let process: Process = strict(path, &text)?;
    check::process(&process).map_err(|problem| problem.at(path.to_owned()))?;
    Ok(process)
}

/// The longest configuration that is read, in bytes.
const MOST: u64 = 16 << 20;

/// The content of a file that may be anything: a fifo would be waited for without end, a device read without end.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    up_to_the_limit(file)
}

fn up_to_the_limit(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(16 << 10);
    file.take(MOST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST {
        let why = format!("it is longer than {} MiB", MOST >> 20);
        return Err(io::Error::other(why));
    }
    Ok(text)
}

/// Reads a configuration. Unknown fields of its sections are errors, unknown sections are told.
fn known(path: &Path, text: &[u8], ignored: &mut Vec<String>) -> Result<Box<Spec>, SpecError> {
    let (spec, fields): (Box<Spec>, _) = parse_all(path, text)?;
    let (inside, sections): (Vec<String>, Vec<String>) =
        fields.into_iter().partition(|field| field.contains('.'));
    *ignored = sections;
    refuse_unknown(path, inside)?;
    Ok(spec)
}

/// The configuration with the keys of its resources as the specification writes them; none when
/// they are already.
fn respelled(text: &[u8]) -> Option<Vec<u8>> {
    let mut config: serde_json::Value = serde_json::from_slice(text).ok()?;
    let resources = config.pointer_mut("/linux/resources")?;
    let before = resources.clone();
    spelling::resources(resources);
    (*resources != before)
        .then(|| serde_json::to_vec(&config).ok())
        .flatten()
}

/// Parses JSON; every field that the type does not know is an error (`oci-spec` alone would drop
/// it silently).
pub(crate) fn strict<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &[u8],
) -> Result<T, SpecError> {
    let (value, fields) = parse_all(path, text)?;
    refuse_unknown(path, fields)?;
    Ok(value)
}

fn refuse_unknown(path: &Path, fields: Vec<String>) -> Result<(), SpecError> {
    if fields.is_empty() {
        return Ok(());
    }
    Err(SpecError::Unknown {
        path: path.to_owned(),
        fields,
    })
}

/// The value, and the fields that its type does not know.
fn parse_all<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &[u8],
) -> Result<(T, Vec<String>), SpecError> {
    let parse = |source| SpecError::Parse {
        path: path.to_owned(),
        source,
    };
    let mut fields = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_ignored::deserialize(&mut json, |field| fields.push(field.to_string()));
    let value = value.map_err(parse)?;
    json.end().map_err(parse)?;
    // `?` stands for an Option in between.
    let plain = |f: &String| f.replace(".?", "").replace("?.", "");
    Ok((value, fields.iter().map(plain).collect()))
}

/// An absolute path without `.` and repeated slashes. `..` is refused: inside a root full of
/// symlinks its meaning depends on the moment.
pub fn clean_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{} is not absolute", path.display()));
    }
    let mut clean = Vec::with_capacity(path.as_os_str().len());
    for name in path.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(format!("{} contains `..`", path.display())),
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(OsString::from_vec(clean).into())
}
