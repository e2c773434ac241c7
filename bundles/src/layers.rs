//! The layers of configuration: reading, merging, and where each value came from.
//!
//! [`read()`] finds the files of an instance, [`Config::from_sources`] merges and interpolates them,
//! [`Config::rows`] and [`render`] print the result. A [`Value`] never forgets where it was written
//! and what it replaced.
//!
//! | room | what happens there |
//! | --- | --- |
//! | `read` | which files there are, and what makes one unreadable |
//! | `all` | the same for many instances, by all processors |
//! | `trust` | whether somebody else could have written one |
//! | `known` | texts that several instances have in common are understood once |
//! | `files`, `faults` | places in their texts, and what a bad reference looks like |
//! | `names` | sections and keys get their canonical names; unknown ones are errors |
//! | `merge` | later layers win; `unset`; what the app layer may not say |
//! | `finish` | `%(NAME)`, types |
//! | `defaults` | what is built in for what no layer sets |
//! | `show` | the result as rows and text |
//! | `own` | what one layer says, as written |
//!
//! # Taking back
//!
//! In any layer, `unset KEY` takes away what lower layers say about a key and `unset *` what they say
//! in the whole section, a daemon included. Built-in defaults stay. What the same file sets itself is
//! not touched.
//!
//! # All daemons at once
//!
//! `[daemon.*]` is for every daemon, below what the same file says about one. Keys that a daemon's
//! platform does not know are left out there: `jvm.home` stands once in `metactl.conf`.

mod all;
mod config;
mod defaults;
mod faults;
mod files;
mod finish;
mod known;
mod merge;
mod names;
mod own;
mod read;
mod show;
mod trust;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use known::Known;

pub use all::of_all;
pub(crate) use config::Section;
pub use config::{Config, Denied, Needed, Value};
pub use own::{Line, Said, own};
pub use read::{MAX_FILE, Reader, read, site_name};
pub(crate) use read::{app_name, read_trusted, read_untrusted};
pub use show::{Row, Selector, render};
pub(crate) use trust::Trust;

/// The layers, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerKind {
    /// Built in.
    Defaults,
    /// `.metactl` in the application's repository.
    App,
    /// The site store.
    Site,
    /// Defaults of this server, from `metactl.conf`.
    Server,
    /// `nodes/<instance>.conf`.
    Local,
}

impl LayerKind {
    /// The word for it in messages: `app`.
    pub fn name(self) -> &'static str {
        match self {
            LayerKind::Defaults => "default",
            LayerKind::App => "app",
            LayerKind::Site => "site",
            LayerKind::Server => "server",
            LayerKind::Local => "local",
        }
    }

    /// All of them, lowest first.
    pub const ALL: [LayerKind; 5] = [
        LayerKind::Defaults,
        LayerKind::App,
        LayerKind::Site,
        LayerKind::Server,
        LayerKind::Local,
    ];

    /// Whether those who run the server write this layer, not those who write the application.
    pub fn is_trusted(self) -> bool {
        self != LayerKind::App
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The layer.
    pub layer: LayerKind,
    /// The file; `None` for built-in defaults.
    pub file: Option<Arc<Path>>,
    /// The line, from 1; 0 for built-in defaults.
    pub line: usize,
    /// The column of the value, from 1; 0 for built-in defaults.
    pub column: usize,
}

impl Origin {
    /// The origin of what is built in.
    pub fn default_value() -> Origin {
        Origin {
            layer: LayerKind::Defaults,
            file: None,
            line: 0,
            column: 0,
        }
    }
}

/// `.metactl:18`, `nodes/myapp.conf:3`, `default`: as short as people say it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(file) = &self.file else {
            return f.write_str(self.layer.name());
        };
        let levels = match self.layer {
            LayerKind::Site => 3,
            LayerKind::Local => 2,
            _ => 1,
        };
        let parts: Vec<_> = file.components().collect();
        let short: PathBuf = parts[parts.len().saturating_sub(levels)..].iter().collect();
        write!(
            f,
            "{}:{}",
            crate::diagnostics::printable(&short.to_string_lossy()),
            self.line
        )
    }
}

/// One file of configuration.
#[derive(Debug, Clone)]
pub struct Source {
    /// The layer that it belongs to.
    pub layer: LayerKind,
    /// Where it is, for messages.
    pub path: Arc<Path>,
    /// Its content.
    pub text: Arc<str>,
    /// What its text says, when that was found out for several instances and nothing is wrong with it.
    known: Option<Arc<Known>>,
}

impl Source {
    /// The file `path` with this content.
    pub fn new(layer: LayerKind, path: impl Into<Arc<Path>>, text: impl Into<Arc<str>>) -> Source {
        Source {
            layer,
            path: path.into(),
            text: text.into(),
            known: None,
        }
    }

    /// Understands it at once, for those that have it in common. What is wrong with it is told to each
    /// of them, when they understand it themselves.
    fn understood(mut self) -> Source {
        self.known = Known::of(&self).map(Arc::new);
        self
    }

    /// What it says, unless it was given another text since.
    fn known(&self) -> Option<&Known> {
        let known = self.known.as_deref()?;
        known.is_of(&self.text).then_some(known)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        (self.layer, &self.path, &self.text) == (other.layer, &other.path, &other.text)
    }
}

impl Eq for Source {}

/// Whose configuration is read.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The name of the instance.
    pub instance: &'a str,
    /// The `.metactl` file of the release or checkout. It need not exist.
    pub app_layer: Option<&'a Path>,
}
