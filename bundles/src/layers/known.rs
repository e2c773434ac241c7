//! Texts that several instances have in common: what they say is found out once.
//!
//! Applications have several instances, and sites say the same about many. What a text says by itself
//! (sections and keys of the table, values without names in them and whether they are of their types)
//! does not depend on the file it stands in. Of a text with which something is wrong nothing is
//! kept: that is told to each who reads it, with the file.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::names::{self, Said};
use super::{LayerKind, Source};
use crate::diagnostics::Collector;
use crate::ini::{self, Content, Text};
use crate::interpolate::{MAX_LENGTH, Template, printable};
use crate::keys::values::split_words;
use crate::keys::{self, Key};
use crate::maps::{HashMap, List};
use crate::redact;
use crate::text::Str;

/// How long all texts that a reader keeps may be together, in bytes. Understood they take up to some
/// hundred times as much.
const MAX_KEPT: usize = 256 * 1024;

/// What a text says.
pub(super) struct Known {
    text: Arc<str>,
    /// Every character of it is one byte.
    pub(super) is_ascii: bool,
    pub(super) said: Vec<Said>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Known {
    /// What the text of `source` says; `None` when something is wrong with it, or when it takes other
    /// files to understand it.
    pub(super) fn of(source: &Source) -> Option<Known> {
        // Understood is what it would be without the mark that it may begin with.
        if source.text.starts_with('\u{feff}') {
            return None;
        }
        let mut out = Collector::default();
        let document = ini::parse_shared(&source.path, &source.text, &mut out);
        let mut sections = document.sections.iter();
        if !sections.all(|section| keys::spec(&section.name).is_some()) {
            return None;
        }
        let files = Files::new(vec![source.clone()]);
        let mut said = names::of_document(&files, 0, document, &List::default(), &mut out);
        for section in &mut said {
            section.settle();
        }
        let text = Arc::clone(&source.text);
        let is_ascii = text.is_ascii();
        out.is_empty().then_some(Known {
            text,
            is_ascii,
            said,
        })
    }

    /// Whether this is the text that it is about.
    pub(super) fn is_of(&self, text: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.text, text)
    }
}

/// What is known of a value.
pub(super) enum Settled {
    /// All there is to know.
    Plain(Plain),
    /// What it was with its names replaced, the first time.
    Template(Template),
}

impl Settled {
    /// Of the value `text` of a key of `section`.
    fn of(section: &str, key: &str, row: &Key, text: &Text) -> Option<Settled> {
        if let Some(plain) = Plain::of(section, key, row, text) {
            return Some(Settled::Plain(plain));
        }
        let may_have = text.text.len() <= MAX_LENGTH && section != redact::SECRETS;
        let template = may_have.then(|| Template::of(&text.text)).flatten();
        template.map(Settled::Template)
    }
}

/// A value in which no name is to be replaced, and which is of its type.
pub(super) struct Plain {
    /// The text without what must not be printed, when there is such.
    pub(super) shown: Option<Str>,
    /// The argument words of a key that holds some.
    pub(super) words: Option<Arc<[String]>>,
}

impl Plain {
    /// The value `text` of a key of `section`, if it is such a one.
    pub(super) fn of(section: &str, key: &str, row: &Key, text: &Text) -> Option<Plain> {
        let raw = &text.text;
        let has_names = memchr::memchr(b'%', raw.as_bytes()).is_some();
        if has_names || raw.len() > MAX_LENGTH || section == redact::SECRETS {
            return None;
        }
        let words = match row.has_words() {
            true => Some(split_words(raw).ok()?.into()),
            false => {
                row.kind.check(raw).ok()?;
                None
            }
        };
        let shown = match redact::is_secret_key(section, key) && !raw.is_empty() {
            true => Some(Str::built_in(redact::MASK)),
            false => Some(printable(raw.clone())).filter(|shown| shown != raw),
        };
        Some(Plain { shown, words })
    }
}

impl Said {
    /// Finds out what can be known of its values.
    fn settle(&mut self) {
        let section = &self.section;
        for line in self.lines.iter_mut() {
            if let Content::Value(text) = &line.content {
                line.settled = Settled::of(section, &line.key, line.row, text);
            }
        }
    }
}

/// The texts of app and site layers that a reader has come across, and what they say.
#[derive(Debug, Default)]
pub(super) struct Texts(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// `None`: it has to be understood with its other layers, each time.
    known: HashMap<Arc<str>, Option<Arc<Known>>>,
    /// How long they are together.
    length: usize,
}

impl Texts {
    /// The file `path` of the app layer or of a site with this content.
    pub(super) fn source(&self, layer: LayerKind, path: &Path, text: &str) -> Source {
        let mut kept = self.0.borrow_mut();
        if let Some((text, known)) = kept.known.get_key_value(text) {
            let known = known.clone();
            return Source {
                known,
                ..Source::new(layer, path, Arc::clone(text))
            };
        }
        let mut source = Source::new(layer, path, text);
        if kept.length + text.len() <= MAX_KEPT {
            kept.length += text.len();
            source.known = Known::of(&source).map(Arc::new);
            let text = Arc::clone(&source.text);
            kept.known.insert(text, source.known.clone());
        }
        source
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const APP: LayerKind = LayerKind::App;

    fn read(texts: &Texts, path: &str, text: &str) -> Source {
        texts.source(APP, Path::new(path), text)
    }

    #[test]
    fn the_same_text_is_understood_once() {
        let texts = Texts::default();
        let text =
            "[env]\nA = 1\nDB_PASSWORD = x\n[daemon.web]\ncommand = run 'a b' %(A)\nport = 80\n";
        let (first, second) = (read(&texts, "a", text), read(&texts, "b", text));
        let (one, other) = (first.known.clone().unwrap(), second.known.clone().unwrap());
        assert!(Arc::ptr_eq(&one, &other) && Arc::ptr_eq(&first.text, &second.text));
        // It says what it says when it is understood with its layers, but for the file.
        for source in [first, second] {
            let alone = Source::new(APP, Arc::clone(&source.path), text);
            let (known, alone) = (
                Config::from_sources(vec![source]).unwrap(),
                Config::from_sources(vec![alone]).unwrap(),
            );
            for section in alone.sections() {
                for (key, value) in alone.section(section).unwrap() {
                    assert_eq!(known.get(section, key), Some(value));
                    assert_eq!(known.shown(section, key), alone.shown(section, key));
                    assert_eq!(known.words(section, key), alone.words(section, key));
                }
            }
        }
    }

    #[test]
    fn others_may_use_the_short_name_of_a_daemon_that_is_known() {
        let texts = Texts::default();
        let app = read(&texts, "a", "[daemon.web]\ncommand = x\nport = 80\n");
        let local = Source::new(LayerKind::Local, Path::new("b"), "[web]\nport = 81\n");
        let config = Config::from_sources(vec![app, local]).unwrap();
        let port = config.get("daemon.web", "port").unwrap();
        assert_eq!((port.text.as_str(), port.overrides.len()), ("81", 1));
    }

    #[test]
    fn what_is_wrong_with_a_text_or_needs_others_is_not_kept() {
        let texts = Texts::default();
        for text in [
            "[bulid]\ntag = 1\n",
            "[build]\ntga = 1\n",
            "[server]\nsite = a\n",
            "[webapp]\nplatform = jetty9\n",
            "nonsense\n",
            "[app]\nname = a\n [env]\n",
            "\u{feff}[env]\nA = 1\n",
        ] {
            for path in ["a", "b"] {
                assert!(read(&texts, path, text).known.is_none(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let texts = Texts::default();
        let text = |number: usize| format!("[env]\nA = {number}{}\n", "x".repeat(1000));
        let count = MAX_KEPT / 1000 + 10;
        let known = |number: &usize| read(&texts, "a", &text(*number)).known.is_some();
        let kept = (0..count).filter(known).count();
        assert!(kept > 100 && kept < count, "{kept}");
        assert!(known(&0) && !known(&count));
    }

    #[test]
    fn a_value_with_names_is_checked_when_they_stand_for_something_else() {
        let texts = Texts::default();
        let text = "[env]\nHOST = a.example\n[firewall.out.accept]\ndb = %(HOST):80\n\
                    [daemon.web]\ncommand = run %(HOST)\nport = 80\n";
        let with = |host: &str| {
            let app = read(&texts, host, text);
            assert!(app.known().is_some());
            let local = format!("[env]\nHOST = {host}\n");
            let local = Source::new(LayerKind::Local, Path::new("local"), local);
            Config::from_sources(vec![app, local])
        };
        for host in ["a.example", "b.example", "a.example"] {
            let config = with(host).unwrap();
            let accepted = config.get("firewall.out.accept", "db").unwrap();
            assert_eq!(accepted.text, format!("{host}:80"));
            assert_eq!(
                config.words("daemon.web", "command").unwrap(),
                ["run", host]
            );
        }
        let wrong = with("http://c.example").unwrap_err().to_string();
        assert!(wrong.contains("not a URL"), "{wrong}");
        assert!(with("a.example").is_ok());
    }

    #[test]
    fn values_that_are_wrong_are_not_plain() {
        let text = |text: &str| {
            let (mut out, all) = (Collector::default(), format!("[env]\nA = {text}\n"));
            let document = ini::parse(Path::new(""), &all, &mut out);
            match &document.sections[0].entries[0].content {
                Content::Value(text) => text.clone(),
                Content::Unset => panic!("no value"),
            }
        };
        let plain = |section: &str, key: &str, value: &str| {
            let spec = if section.starts_with("daemon.") {
                "daemon.*"
            } else {
                section
            };
            let (row, _) = keys::find(spec, key).unwrap();
            Plain::of(section, key, row, &text(value))
        };
        assert!(plain("daemon.a", "port", "80").is_some());
        assert!(plain("daemon.a", "port", "eighty").is_none());
        assert!(plain("daemon.a", "command", "a 'b").is_none());
        assert!(plain("env", "A", "%(B)").is_none());
        assert!(plain("secrets", "a", "b").is_none());
        let shown = |key, value| plain("env", key, value).unwrap().shown.unwrap();
        assert_eq!(shown("A_TOKEN", "x"), redact::MASK);
        assert_eq!(shown("URL", "http://u:p@h/"), "http://u:***@h/");
    }
}
