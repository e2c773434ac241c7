//! Diagnostics as JSON: what `--json` prints of them, with the names of [`Diagnostic`]'s fields.

use std::path::Path;

use serde::Serialize;

use super::{Diagnostic, Place, Related, Severity};

/// A [`Diagnostic`] as it is printed.
#[derive(Debug, Serialize)]
pub struct DiagnosticFacts<'a> {
    severity: &'static str,
    message: &'a str,
    #[serde(flatten)]
    place: Option<PlaceFacts<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    related: Vec<RelatedFacts<'a>>,
}

#[derive(Debug, Serialize)]
struct RelatedFacts<'a> {
    text: &'a str,
    #[serde(flatten)]
    place: PlaceFacts<'a>,
}

/// Where: `line` and `column` from 1, `length` in characters; a file as a whole has none of these.
#[derive(Debug, Serialize)]
struct PlaceFacts<'a> {
    file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
    /// The line, or an excerpt of it, without passwords.
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
}

impl Severity {
    /// The word for it: `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl<'a> From<&'a Place> for PlaceFacts<'a> {
    fn from(place: &'a Place) -> PlaceFacts<'a> {
        let known = place.line > 0;
        PlaceFacts {
            file: &place.file,
            line: known.then_some(place.line),
            column: (known && place.column > 0).then_some(place.column),
            length: (known && place.column > 0).then_some(place.length),
            source: &place.source,
        }
    }
}

impl<'a> From<&'a Related> for RelatedFacts<'a> {
    fn from(related: &'a Related) -> RelatedFacts<'a> {
        RelatedFacts {
            text: &related.text,
            place: (&related.place).into(),
        }
    }
}

impl<'a> From<&'a Diagnostic> for DiagnosticFacts<'a> {
    fn from(diagnostic: &'a Diagnostic) -> DiagnosticFacts<'a> {
        DiagnosticFacts {
            severity: diagnostic.severity.name(),
            message: &diagnostic.message,
            place: diagnostic.place.as_ref().map(PlaceFacts::from),
            label: &diagnostic.label,
            hint: diagnostic.hint.as_deref(),
            related: diagnostic.related.iter().map(RelatedFacts::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_object() {
        let line = "url = http://me:hunter2@h/ bad";
        let start = line.find("bad").unwrap_or_default();
        let place = Place::new(Path::new(".metactl"), 3, line, start..start + 3);
        let diagnostic = Diagnostic::error("wrong")
            .at(place.clone())
            .label("here")
            .hint("mend it")
            .related(Some(Place::file(Path::new("other"))), "also");
        let json = serde_json::to_value(DiagnosticFacts::from(&diagnostic)).unwrap();
        let expected = serde_json::json!({
            "severity": "error", "message": "wrong", "file": ".metactl", "line": 3, "column": 28,
            "length": 3, "source": "url = http://me:***@h/ bad", "label": "here", "hint": "mend it",
            "related": [{ "text": "also", "file": "other" }],
        });
        assert_eq!(json, expected);
        let bare = serde_json::to_value(DiagnosticFacts::from(&Diagnostic::warning("w"))).unwrap();
        assert_eq!(bare["severity"], "warning");
        assert!(bare.get("file").is_none());
    }
}
