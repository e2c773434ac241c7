//! A bundle in memory: its files, its digest, and a copy of it without secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::manifest::{LayerRef, Manifest, Setting};
use crate::app::App;
use crate::layers::Config;
use crate::network::NetworkSpec;
use crate::oci::json;
use crate::redact::{self, MASK};

/// How many characters of the digest name a bundle.
const DIGEST_LENGTH: usize = 16;

/// Something in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A folder.
    Directory {
        /// Its permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its content.
        text: String,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        target: String,
    },
}

/// A composed bundle: everything that [`super::write()`] puts on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Composition {
    /// The content of the bundle's folder, by relative path; what is above comes first.
    pub items: BTreeMap<PathBuf, Item>,
    /// The content of manifest.json.
    pub manifest: Manifest,
    /// The content of network.json.
    pub network: NetworkSpec,
    /// What is beside the bundle and changes.
    pub mutable: Mutable,
    /// What must not be printed, and what stands for it.
    pub(super) secrets: Vec<(String, String)>,
}

/// Folders and files beside the bundle that the instance, or metactl, writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutable {
    /// `data/`, the application's own.
    pub data: PathBuf,
    /// `tmp/<entry>`, writable for all, one for each entry point.
    pub tmp: Vec<PathBuf>,
    /// `etc/notify`, when a daemon says that it is ready.
    pub notify: Option<PathBuf>,
    /// `etc/hosts`.
    pub hosts: PathBuf,
    /// What is in it at first.
    pub hosts_text: String,
    /// Who owns `data/`.
    pub uid: u32,
    /// The group of `data/`.
    pub gid: u32,
}

impl Composition {
    /// The digest: SHA-256 of every path, kind, mode and content, the first characters of it.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            // With its length before it, no content can look like the next field.
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for (path, item) in &self.items {
            field(path.as_os_str().as_encoded_bytes());
            match item {
                Item::Directory { mode } => field(format!("d{mode:o}").as_bytes()),
                Item::File { mode, text } => {
                    field(format!("f{mode:o}").as_bytes());
                    field(text.as_bytes());
                }
                Item::Link { target } => {
                    field(b"l");
                    field(target.as_bytes());
                }
            }
        }
        let mut text = hex(&hash.finalize());
        text.truncate(DIGEST_LENGTH);
        text
    }

    /// The text of a file of the bundle.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<&str> {
        match self.items.get(path.as_ref()) {
            Some(Item::File { text, .. }) => Some(text),
            _ => None,
        }
    }

    /// The same bundle for an auditor: every value that must not be printed is masked, wherever
    /// it stands. It tells everything else, but starts with a wrong password.
    pub fn redacted(&self) -> Composition {
        let mut copy = self.clone();
        for (path, item) in &mut copy.items {
            if let Item::File { text, .. } = item {
                *text = if path == Path::new(super::LOCAL_COPY) {
                    // A comment of it can hold what nothing else knows to be a password.
                    "# left out of this copy; its settings are in manifest.json\n".to_owned()
                } else if path
                    .extension()
                    .is_some_and(|extension| extension == "json")
                {
                    masked_json(text, &self.secrets)
                } else {
                    masked(text, &self.secrets)
                };
            }
        }
        copy.secrets.clear();
        copy
    }
}

/// Masks in the strings of a JSON text, not in its keys.
fn masked_json(text: &str, secrets: &[(String, String)]) -> String {
    fn walk(value: &mut Json, secrets: &[(String, String)]) {
        match value {
            Json::String(text) => *text = masked(text, secrets),
            Json::Array(items) => items.iter_mut().for_each(|item| walk(item, secrets)),
            Json::Object(map) => map.values_mut().for_each(|item| walk(item, secrets)),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str::<Json>(text) else {
        return masked(text, secrets);
    };
    walk(&mut value, secrets);
    json::to_text(&value).unwrap_or_else(|_| masked(text, secrets))
}

fn masked(text: &str, secrets: &[(String, String)]) -> String {
    let replace = |text: String, (secret, mask): &(String, String)| text.replace(secret, mask);
    redact::redact(&secrets.iter().fold(text.to_owned(), replace)).into_owned()
}

/// Everything in the configuration that must not be printed: whole values, and the passwords in
/// them alone, since a value may be put together from parts. The longest first.
pub(super) fn secrets(app: &App, config: &Config) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    let mut add = |text: &str, shown: &str| {
        if !text.is_empty() && text != shown {
            found.insert(text.to_owned(), shown.to_owned());
            for range in redact::password_ranges(text) {
                found.insert(text[range].to_owned(), MASK.to_owned());
            }
        }
    };
    for (name, value) in app.env.iter().filter(|(_, value)| value.sensitive) {
        match redact::redact(&value.value) {
            shown if redact::is_secret_name(name) || *shown == *value.value => {
                add(&value.value, MASK);
            }
            shown => add(&value.value, &shown),
        }
    }
    for section in config.sections() {
        for (key, value) in config.section(section).into_iter().flatten() {
            if value.sensitive {
                add(&value.text, config.shown(section, key).unwrap_or(MASK));
            }
        }
    }
    let mut found: Vec<(String, String)> = found.into_iter().collect();
    found.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    found
}

/// The files of configuration with their digests.
pub(super) fn layers(config: &Config) -> Vec<LayerRef> {
    let layer = |source: &crate::layers::Source| LayerRef {
        layer: source.layer.name().to_owned(),
        path: source.path.to_path_buf(),
        sha256: hex(&Sha256::digest(source.text.as_bytes())),
    };
    config.sources().iter().map(layer).collect()
}

/// Every setting with its origin.
pub(super) fn settings(config: &Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    for section in config.sections() {
        for (key, value) in config.section(section).into_iter().flatten() {
            settings.push(Setting {
                section: section.to_owned(),
                key: key.to_owned(),
                value: config.shown(section, key).unwrap_or(MASK).to_owned(),
                layer: value.origin.layer.name().to_owned(),
                origin: value.origin.to_string(),
            });
        }
    }
    settings
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
