//! What is found wrong while a bundle is composed, with the lines of configuration behind it.

use std::path::Path;

use crate::diagnostics::{Collector, Diagnostic, Place, Report};
use crate::layers::{Config, Origin};

/// How much of a line is marked at most, in bytes.
const LONGEST_MARK: usize = 4096;

/// Collects problems, so that all of them are reported in one go.
pub struct Problems<'a> {
    config: &'a Config,
    found: Collector,
}

impl<'a> Problems<'a> {
    /// None yet. `config` knows the lines.
    pub fn new(config: &'a Config) -> Problems<'a> {
        Problems {
            config,
            found: Collector::default(),
        }
    }

    /// A problem that the line at `origin` makes.
    pub fn at(&mut self, origin: Option<&Origin>, message: String, hint: &str) {
        let place = origin.and_then(|origin| self.place(origin));
        self.found
            .error(|| Diagnostic::error(message).at(place).hint(hint));
    }

    /// A problem of a key.
    pub fn key(&mut self, (section, key): (&str, &str), message: String, hint: &str) {
        let place = self
            .config
            .get(section, key)
            .and_then(|value| self.config.place(value));
        self.found
            .error(|| Diagnostic::error(message).at(place).hint(hint));
    }

    /// The place of an origin, to the end of its line; without the text of the line when the source
    /// is not at hand.
    fn place(&self, origin: &Origin) -> Option<Place> {
        let known = self.config.place_of(origin, LONGEST_MARK);
        known.or_else(|| {
            let file: &Path = origin.file.as_deref()?;
            let mut place = Place::new(file, origin.line, "", 0..0);
            place.column = origin.column;
            Some(place)
        })
    }

    /// All of them, if there are any.
    ///
    /// # Errors
    /// The report.
    pub fn finish(self) -> Result<(), Report> {
        self.found.finish().map(drop)
    }
}
