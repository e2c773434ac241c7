//! Arguments of the commands that explain, and of help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use metactl_bundles::layers::LayerKind;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A section, or one key of it: `env`, `env:DB_HOST`, `daemon.webapp:jvm.heap.max`
    #[arg(value_name = "SECTION[:KEY]")]
    pub what: Option<String>,
    /// Say for each value which layer, file and line it comes from, and what it overrides
    #[arg(long)]
    pub origin: bool,
    /// Only what this layer says on its own, as written, with its lines
    #[arg(long, value_name = "LAYER", value_enum)]
    pub layer: Option<Layer>,
    /// As written: names in values (`%(NAME)`) are not replaced
    #[arg(short = 'i', long = "as-written")]
    pub as_written: bool,
    /// Print values that hold a password in full
    #[arg(long)]
    pub secrets: bool,
}

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Say for each value which layer, file and line it comes from, and what it overrides
    #[arg(long)]
    pub origin: bool,
    /// As written: names in values (`%(NAME)`) are not replaced
    #[arg(short = 'i', long = "as-written")]
    pub as_written: bool,
    /// Print values that hold a password in full
    #[arg(long)]
    pub secrets: bool,
}

/// A layer of configuration, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layer {
    /// What is built in
    Default,
    /// `.metactl` of the release in use
    App,
    /// The site's files
    Site,
    /// `metactl.conf`
    Server,
    /// `nodes/APP.conf`
    Local,
}

impl From<Layer> for LayerKind {
    fn from(layer: Layer) -> LayerKind {
        match layer {
            Layer::Default => LayerKind::Defaults,
            Layer::App => LayerKind::App,
            Layer::Site => LayerKind::Site,
            Layer::Server => LayerKind::Server,
            Layer::Local => LayerKind::Local,
        }
    }
}

/// Arguments of `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// A host name, address or prefix (`:port`, `/tcp` or `/udp` behind it), a path, or SECTION:KEY
    #[arg(value_name = "DESTINATION|PATH|KEY")]
    pub what: String,
    /// May it connect to the instance? (Without: may the instance connect to it?)
    #[arg(long)]
    pub from: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// A folder with a `.metactl`, or such a file
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Merge the layers of this site on top
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// A site
    #[arg(value_name = "SITE")]
    pub left: String,
    /// Another site
    #[arg(value_name = "SITE")]
    pub right: String,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash, from 4.0
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Arguments of `complete`.
#[derive(Debug, Args)]
pub struct Complete {
    /// The command line up to the cursor, without the program
    #[arg(value_name = "WORDS", last = true)]
    pub words: Vec<OsString>,
}

/// Arguments of `manual`.
#[derive(Debug, Args)]
pub struct Manual {
    /// The page
    #[arg(value_name = "PAGE", value_parser = ["metactl.1", "metactl.conf.5", "metactl-keys.5"])]
    pub page: String,
}

/// Arguments of `help`.
#[derive(Debug, Args)]
pub struct Help {
    /// A command, `exit-codes`, or `keys` (of the configuration)
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// With `keys`: a key, explained in full, or a word that keys have in them
    #[arg(value_name = "KEY|WORD")]
    pub word: Option<String>,
}
