//! Writing XML (XML 1.0, fifth edition), as much of it as a manifest needs: elements with attributes, and text.

use std::fmt::Write;

/// An element.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    inner: Inner,
}

#[derive(Debug, Clone)]
enum Inner {
    Elements(Vec<Element>),
    Text(String),
}

/// An element without anything in it.
pub(super) fn element(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        inner: Inner::Elements(Vec::new()),
    }
}

impl Element {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Element {
        self.attributes.push((name, value.into()));
        self
    }

    pub(super) fn containing(mut self, element: Element) -> Element {
        self.push(element);
        self
    }

    pub(super) fn push(&mut self, element: Element) {
        match &mut self.inner {
            Inner::Elements(elements) => elements.push(element),
            Inner::Text(_) => self.inner = Inner::Elements(vec![element]),
        }
    }

    pub(super) fn text(mut self, text: impl Into<String>) -> Element {
        self.inner = Inner::Text(text.into());
        self
    }

    /// Every value and text in it, with where it is: `envvar value`.
    pub(super) fn values(&self, each: &mut impl FnMut(&'static str, &'static str, &str)) {
        for (name, value) in &self.attributes {
            each(self.name, name, value);
        }
        match &self.inner {
            Inner::Text(text) => each(self.name, "text", text),
            Inner::Elements(elements) => {
                elements.iter().for_each(|element| element.values(each));
            }
        }
    }

    /// The text of it, each element on a line of its own.
    pub(super) fn write(&self, out: &mut String, depth: usize) {
        // Writing to a string cannot fail.
        write!(out, "{:1$}<{2}", "", depth * 2, self.name).unwrap_or_default();
        for (name, value) in &self.attributes {
            write!(out, " {name}=\"{}\"", escaped(value)).unwrap_or_default();
        }
        match &self.inner {
            Inner::Elements(elements) if elements.is_empty() => out.push_str("/>\n"),
            Inner::Elements(elements) => {
                out.push_str(">\n");
                for element in elements {
                    element.write(out, depth + 1);
                }
                writeln!(out, "{:1$}</{2}>", "", depth * 2, self.name).unwrap_or_default();
            }
            Inner::Text(text) => {
                writeln!(out, ">{}</{}>", escaped(text), self.name).unwrap_or_default();
            }
        }
    }
}

/// Whether XML can have the character at all (section 2.2).
pub(super) fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A value, so that a parser gives it back as it is: in an attribute a tab or the end of a line would become a space
/// (section 3.3.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                write!(out, "&#{};", u32::from(c)).unwrap_or_default();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_is_escaped() {
        let inner = element("b").with("c", "\"<&>'\n\t]]>");
        let mut text = String::new();
        let outer = element("a").containing(inner);
        outer
            .containing(element("d").text("x < y & z"))
            .write(&mut text, 0);
        assert_eq!(
            text,
            "<a>\n  <b c=\"&quot;&lt;&amp;&gt;'&#10;&#9;]]&gt;\"/>\n  <d>x &lt; y &amp; z</d>\n</a>\n"
        );
    }

    #[test]
    fn what_xml_cannot_have_is_known() {
        for (c, can) in [
            ('\0', false),
            ('\u{1b}', false),
            ('\n', true),
            ('ä', true),
            ('\u{fffe}', false),
            ('😀', true),
        ] {
            assert_eq!(is_character(c), can, "{c:?}");
        }
    }
}
