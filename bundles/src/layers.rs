//! The layers of configuration: reading, merging, and where each value came from.

use std::path::PathBuf;

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

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The layer.
    pub layer: LayerKind,
    /// The file; `None` for built-in defaults.
    pub file: Option<PathBuf>,
    /// The line, from 1; 0 for built-in defaults.
    pub line: usize,
    /// The column of the value, from 1; 0 for built-in defaults.
    pub column: usize,
}
