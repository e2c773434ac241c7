//! `KEY=value` lines as a shell has them: `export`, quotes, arrays, comments. Nothing is run, and
//! what a shell would have to run to know is refused.

/// A line, or several of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line where it begins, from 1.
    pub line: usize,
    /// The last header before it, `systemd.service.Service`.
    pub section: Option<String>,
    /// What it says.
    pub content: Content,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `KEY=value`, quotes taken away; an array is its words with spaces between.
    Value(String, String),
    /// Something else, and why it is of no use.
    Other(String, &'static str),
}

const NOT_RUN: &str =
    "a command would have to be run to know the value, and none is: write the value itself";
const NO_ASSIGNMENT: &str = "not `KEY=value`; what a shell would do here is not done";

/// The statements of a file. Below a header such as `[systemd.service.Service]` values are taken as
/// they stand.
pub fn parse(text: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut section: Option<String> = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut add = |content| {
            statements.push(Statement {
                line: index + 1,
                section: section.clone(),
                content,
            });
        };
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = header(trimmed) {
            section = Some(name.to_owned());
            continue;
        }
        let assignment = trimmed
            .strip_prefix("export ")
            .unwrap_or(trimmed)
            .trim_start();
        let Some((key, value)) = assignment.split_once('=').filter(|(key, _)| is_key(key)) else {
            add(Content::Other(trimmed.to_owned(), NO_ASSIGNMENT));
            continue;
        };
        let (key, value) = (key.trim().to_owned(), value.trim());
        if section.is_some() {
            add(Content::Value(key, value.to_owned()));
            continue;
        }
        let mut whole = value.to_owned();
        // An array goes on to its `)`, and a quotation to its end.
        while is_open(&whole) {
            let Some((_, more)) = lines.next() else { break };
            whole.push('\n');
            whole.push_str(more);
        }
        add(match words(&whole) {
            Some(_) if runs_something(&whole) => Content::Other(format!("{key}={whole}"), NOT_RUN),
            Some(words) => Content::Value(key, words),
            None => Content::Other(
                format!("{key}={whole}"),
                "a quotation or an array is not closed",
            ),
        });
    }
    statements
}

fn header(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!name.is_empty() && name.chars().all(good)).then_some(name)
}

fn is_key(key: &str) -> bool {
    let key = key.trim_end();
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_open(value: &str) -> bool {
    // What comes from a stranger may be long: no more than an ordinary value is joined.
    value.len() < 65_536 && (words(value).is_none())
}

fn runs_something(value: &str) -> bool {
    value.contains("$(") || value.contains('`') || value.contains("<(") || value.contains("$((")
}

/// The value without its quotes; the words of an array, those with spaces in quotes again. `None`
/// when a quotation or array is not closed.
fn words(value: &str) -> Option<String> {
    let (body, is_array) = match value.strip_prefix('(') {
        Some(body) => (body, true),
        None => (value, false),
    };
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = body.chars().peekable();
    let mut closed = !is_array;
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ')') if is_array => {
                closed = true;
                break;
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), _) if c == open => quote = None,
            (Some('"') | None, '\\') => match chars.next()? {
                '\n' => {}
                next => word.get_or_insert_default().push(next),
            },
            (None, '#') if word.is_none() => {
                // A comment to the end of its line.
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if !closed || quote.is_some() {
        return None;
    }
    words.extend(word);
    match (is_array, words.len()) {
        (false, 0 | 1) => Some(words.concat()),
        _ => Some(
            words
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" "),
        ),
    }
}

/// A word as metactl and a shell read it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '\'' | '"' | '\\');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
