//! Changing the local layer of an instance: `set`, `unset`, `allow`, and reading one value for scripts.
//!
//! Every change goes the same way: under the instance's lock the text is changed in memory
//! (`bundles::edit`), the whole merged configuration with it is checked, and only then the file is
//! replaced, whole. With one fault anywhere nothing has changed.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `layer` | the file: read, checked with the other layers, replaced; what it was before |
//! | `history` | the commit, where `/etc/metactl` is a git repository |
//! | `editor` | the whole file in somebody's editor |
//! | `drift` | what runs compared with what is configured, and the way back |
//! | `undo` | the command that takes a change back |

pub mod drift;
pub mod editor;
pub(crate) mod history;
pub(crate) mod layer;
mod undo;

use std::path::PathBuf;

use metactl_bundles::edit::{self, Address, Said, Wish};
use metactl_bundles::layers::{Config, LayerKind, Needed, Origin};
use metactl_bundles::{diagnostics, redact, secrets};

use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::manager::require_root;
use layer::Layer;

/// What shall become of a key, as somebody named it (`env:DB_HOST`, or `DB_HOST` when that is clear).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The local layer says this value.
    Set {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Takes one word back: the value of the local layer; else, with `unset`, what lower layers say.
    Unset {
        /// The key.
        key: String,
    },
    /// The local layer says `unset KEY`, whatever it said before.
    Gone {
        /// The key.
        key: String,
    },
    /// The local layer says nothing of it, whatever it said before: lower layers count.
    Inherit {
        /// The key.
        key: String,
    },
}

impl Edit {
    fn key(&self) -> &str {
        match self {
            Edit::Set { key, .. }
            | Edit::Unset { key }
            | Edit::Gone { key }
            | Edit::Inherit { key } => key,
        }
    }
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedKey {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The line of the file where it stands now; `None` when it stands there no more.
    pub line: Option<usize>,
    /// The line as it is now, as it may be printed; `None` when it stands there no more.
    pub written: Option<String>,
    /// What is effective now and where that was written, when it is not what was written.
    pub effective: Option<(String, Origin)>,
    /// Whether the file says something else than before.
    pub changed: bool,
}

/// A change of the local layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedLayer {
    /// The file.
    pub file: PathBuf,
    /// The keys, in the order in which they were named.
    pub keys: Vec<ChangedKey>,
    /// Whether the file is another one now.
    pub changed: bool,
    /// The arguments of `metactl APP` that take it back; none when nothing changed.
    pub undo: Option<String>,
    /// Names that a layer still has to define.
    pub needed: Vec<Needed>,
    /// Whether something runs that does not know of it yet.
    pub runs: bool,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// The value, in full.
    pub value: String,
    /// Whether it must not be printed unless that was asked for.
    pub sensitive: bool,
    /// Where it was written.
    pub origin: Origin,
}

impl Instance {
    /// Changes keys of the local layer: all of them, or none.
    ///
    /// # Errors
    /// Keys that there cannot be, values that cannot be written, and everything that is wrong with the
    /// merged configuration as it would be: then nothing has changed.
    pub fn edit(&self, edits: &[Edit], doing: &str) -> Result<EditedLayer> {
        require_root("changing the configuration")?;
        let _lock = self.lock(doing)?;
        let layer = Layer::open(self)?;
        let before = layer.config_as_it_is()?;
        let mut text = layer.text.clone();
        let mut done: Vec<Done> = Vec::new();
        for edit in edits {
            let address = Address::find(&before, edit.key())?;
            if done.iter().any(|other| other.address == address) {
                return Err(LifecycleError::Edit {
                    what: format!("{address} is named twice"),
                    hint: "name each key once".to_owned(),
                });
            }
            let made = apply(&layer, &text, &address, edit, &before)?;
            text = made.text;
            done.push(Done {
                address,
                before: made.before,
                wrote: made.wrote,
            });
        }
        let checked = layer.check(&text)?;
        let changed = text != layer.text;
        let mut warnings = checked.warnings;
        if changed {
            warnings.extend(layer.replace(&text, &subject(self, doing, &done))?);
        }
        let keys = done
            .iter()
            .map(|done| done.told(&layer, &text, &checked.config));
        Ok(EditedLayer {
            keys: keys.collect::<Result<_>>()?,
            changed,
            undo: undo::command(&done).filter(|_| changed),
            needed: checked.config.needed().to_vec(),
            runs: changed && self.wanted()?.is_some(),
            warnings,
            file: layer.path,
        })
    }

    /// The effective value of a key.
    ///
    /// # Errors
    /// A key that there cannot be, or that has no value; everything that is wrong in the layers.
    pub fn value(&self, key: &str) -> Result<Effective> {
        let config = self.config()?;
        let found = Address::find(&config, key).map_err(LifecycleError::Question)?;
        let Address { section, key } = found;
        let Some(value) = config.get(&section, &key) else {
            return Err(LifecycleError::NoValue { section, key });
        };
        Ok(Effective {
            value: value.text.to_string(),
            sensitive: value.sensitive || is_secret(&section, &key, &value.text),
            origin: value.origin.clone(),
            section,
            key,
        })
    }
}

/// What was done with a key.
pub(crate) struct Done {
    pub(crate) address: Address,
    pub(crate) before: Option<Said>,
    /// What the file says now.
    pub(crate) wrote: Option<Said>,
}

struct Made {
    text: String,
    before: Option<Said>,
    wrote: Option<Said>,
}

/// Changes one key of the text.
fn apply(
    layer: &Layer<'_>,
    text: &str,
    address: &Address,
    edit: &Edit,
    config: &Config,
) -> Result<Made> {
    let Address { section, key } = address;
    let there = edit::said(&layer.path, text, section, key)?;
    let below = layer.is_said_below(config, address);
    let wish = match edit {
        Edit::Set { value, .. } => Wish::Say(value),
        Edit::Gone { .. } => Wish::Unset,
        Edit::Inherit { .. } => Wish::Nothing,
        Edit::Unset { .. } => match (&there, below) {
            // First the own word; what lower layers say is taken away by a second `unset`.
            (Some(Said::Value(_)), _) => Wish::Nothing,
            (None, true) | (Some(Said::Unset), _) => Wish::Unset,
            (None, false) => {
                return Err(LifecycleError::NoValue {
                    section: section.clone(),
                    key: key.clone(),
                });
            }
        },
    };
    let wrote = match wish {
        Wish::Say(value) => Some(Said::Value(value.to_owned())),
        Wish::Unset => Some(Said::Unset),
        Wish::Nothing => None,
    };
    if wrote == there {
        return Ok(Made {
            text: text.to_owned(),
            before: there,
            wrote,
        });
    }
    let edited = edit::edit(&layer.path, text, section, key, wish)?;
    Ok(Made {
        text: edited.text,
        before: edited.before,
        wrote,
    })
}

impl Done {
    fn told(&self, layer: &Layer<'_>, text: &str, config: &Config) -> Result<ChangedKey> {
        let Address { section, key } = &self.address;
        let line = edit::line_of(&layer.path, text, section, key)?;
        let raw = line.and_then(|line| text.lines().nth(line - 1));
        let hides = match &self.wrote {
            Some(Said::Value(value)) => is_secret(section, key, value),
            _ => false,
        };
        let written = raw.map(|raw| match hides {
            true => masked(key, raw),
            false => redact::redact(raw.trim_end()).into_owned(),
        });
        let value = config.get(section, key);
        let effective = value.filter(|value| value.origin.layer != LayerKind::Local);
        let shown = config.shown(section, key).unwrap_or_default();
        Ok(ChangedKey {
            line,
            written: written.map(|text| diagnostics::printable(&text)),
            effective: effective.map(|value| {
                let shown = diagnostics::printable(shown);
                (shown, value.origin.clone())
            }),
            changed: self.before != self.wrote,
            section: section.clone(),
            key: key.clone(),
        })
    }
}

/// A line whose value must not be printed, with the key as it is spelt there.
fn masked(key: &str, line: &str) -> String {
    let spelt = line.split_once('=').map_or(key, |(spelt, _)| spelt.trim());
    format!("{spelt} = {}", redact::MASK)
}

/// Whether a value of a key must not be printed.
pub fn is_secret(section: &str, key: &str, value: &str) -> bool {
    if section == redact::SECRETS {
        // Where one is, is none.
        return !value.is_empty() && secrets::shown(value) != value;
    }
    let name = match section {
        "env" => key,
        "build" => key.strip_prefix("env.").unwrap_or_default(),
        _ => "",
    };
    !value.is_empty() && (redact::is_secret_name(name) || redact::has_password(value))
}

/// The first line of a commit: `myapp: set env:DB_HOST env:DB_PORT`. Never a value.
fn subject(instance: &Instance, doing: &str, done: &[Done]) -> String {
    let keys: Vec<String> = done.iter().map(|done| done.address.to_string()).collect();
    format!("{}: {doing} {}", instance.name, keys.join(" "))
}
