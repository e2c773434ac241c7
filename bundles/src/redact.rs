//! What must not be printed: passwords inside URLs, and values whose name says that they are secret.

use std::borrow::Cow;
use std::ops::Range;

use crate::platforms::jvm;

/// What stands for something that is not printed.
pub const MASK: &str = "***";

/// Query parameters whose value is a password (`jdbc:mysql://host/db?user=a&password=b`).
const SECRET_PARAMETERS: [&str; 6] = ["password", "passwd", "pwd", "secret", "token", "api_key"];

/// Parts of a variable's name that say that its value is secret.
const SECRET_NAMES: [&str; 8] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "PRIVATE_KEY",
    "API_KEY",
    "ACCESS_KEY",
];

/// `text` with every password of a URL replaced by `***`.
pub fn redact(text: &str) -> Cow<'_, str> {
    let ranges = password_ranges(text);
    // Often it was masked before, as a part of something else.
    if ranges.iter().all(|range| text[range.clone()] == *MASK) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        out.push_str(&text[at..range.start]);
        out.push_str(MASK);
        at = range.end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Whether `text` holds a URL with a password.
pub fn has_password(text: &str) -> bool {
    !password_ranges(text).is_empty()
}

/// Whether a variable of this name holds a secret, whatever it looks like: `DB_PASSWORD`.
pub fn is_secret_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_at = |at: usize, part: &str| {
        let found = bytes.get(at..at + part.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(part.as_bytes()))
    };
    // Mostly the first letter says no.
    bytes.iter().enumerate().any(|(at, first)| {
        matches!(first.to_ascii_uppercase(), b'P' | b'S' | b'T' | b'A')
            && SECRET_NAMES.iter().any(|part| is_at(at, part))
    })
}

/// Whether a key's value is secret by its name: a variable of `[env]`, a system property of a JVM.
pub fn is_secret_key(section: &str, key: &str) -> bool {
    match key.strip_prefix(jvm::PROPERTY) {
        Some(property) => is_secret_name(property),
        None => section == "env" && is_secret_name(key),
    }
}

/// The byte ranges of a line of configuration that must not be shown: passwords in URLs, and the
/// whole value of a variable whose name says that it is secret, but for the references in it.
pub fn hidden_ranges(line: &str) -> Vec<Range<usize>> {
    let Some((key, value)) = line.split_once('=') else {
        return password_ranges(line);
    };
    let key = key.trim();
    if key.contains(char::is_whitespace) || !is_secret_name(key) {
        return password_ranges(line);
    }
    let start = line.len() - value.trim_start().len();
    let end = line.trim_end().len().max(start);
    let mut ranges = Vec::new();
    let mut at = start;
    while let Some((open, close)) = reference(&line[at..end]) {
        ranges.push(at..at + open);
        at += close;
    }
    ranges.push(at..end);
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// The section whose values are secret, whatever their names.
pub const SECRETS: &str = "secrets";

/// Whether the line `number` (from 1) of the configuration `text` is one of `[secrets]`, or below a
/// header that may have been meant to be it: then nothing of it is shown but its key.
pub fn is_in_secrets(text: &str, number: usize) -> bool {
    let headers = text
        .lines()
        .take(number)
        .filter(|line| line.starts_with('['));
    headers.last().is_some_and(opens_secrets)
}

/// Whether this header is that of `[secrets]`, or one that is not closed.
pub fn opens_secrets(header: &str) -> bool {
    let name = header.trim().trim_start_matches('[');
    name.split_once(']')
        .is_none_or(|(name, _)| name.trim() == SECRETS)
}

/// A line of `[secrets]` as it may be shown: `key = ***`, and only `***` when it has no key.
pub fn secret_line(line: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    let is_name = |name: &str| name.len() <= 100 && name.chars().all(plain);
    let trimmed = line.trim();
    if let Some(header) = trimmed.strip_prefix('[') {
        let end = header.find(']').map_or(header.len(), |at| at + 1);
        let (header, rest) = header.split_at(end);
        return match (
            is_name(header.trim_end_matches(']').trim()),
            rest.is_empty(),
        ) {
            (true, true) => line.to_owned(),
            (true, false) => format!("[{header} {MASK}"),
            (false, _) => MASK.to_owned(),
        };
    }
    let says_nothing = trimmed.is_empty() || trimmed.starts_with(['#', ';']);
    let taken_back = trimmed.strip_prefix("unset ");
    if says_nothing || taken_back.is_some_and(|name| is_name(name.trim()) || name.trim() == "*") {
        return line.to_owned();
    }
    match line.split_once('=') {
        Some((key, value)) if is_name(key.trim_end()) => match value.trim() {
            "" => line.to_owned(),
            _ => format!("{key}= {MASK}"),
        },
        _ => MASK.to_owned(),
    }
}

/// Where the first `%(NAME)` begins and ends.
fn reference(text: &str) -> Option<(usize, usize)> {
    let open = text.find("%(")?;
    let close = open + text[open..].find(')')? + 1;
    is_reference(&text[open..close]).then_some((open, close))
}

/// The byte ranges of passwords in URLs, in order, not overlapping. Linear in `text`.
///
/// A password that is nothing but a reference (`%(DB_PASSWORD)`) says nothing and is left alone.
pub fn password_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(found) = url_mark(&text.as_bytes()[at..]) {
        let start = at + found + 3;
        let url = start..start + url_length(&text[start..]);
        let signs = text[url.clone()].as_bytes();
        // What has neither sign has neither a user nor a parameter.
        if memchr::memchr2(b'@', b'=', signs).is_none() {
            at = url.end;
            continue;
        }
        let has_parameters = signs.contains(&b'=');
        if let Some(password) = userinfo_password(text, url.clone()) {
            ranges.push(password);
        }
        let from = ranges
            .last()
            .map_or(url.start, |last: &Range<usize>| last.end.max(url.start));
        if has_parameters {
            parameter_passwords(text, from..url.end, &mut ranges);
        }
        at = url.end;
    }
    ranges.retain(|range| !is_reference(&text[range.clone()]));
    ranges
}

/// Where the first `://` is. Mostly there is none, and that is quickly seen.
pub(crate) fn url_mark(text: &[u8]) -> Option<usize> {
    let mut colons = memchr::memchr_iter(b':', text);
    colons.find(|at| text[*at..].starts_with(b"://"))
}

/// How long the URL is with which `text` begins. Its characters are looked at only when they are not
/// all ASCII.
fn url_length(text: &str) -> usize {
    let is_special = |byte: &u8| !byte.is_ascii_graphic() || ends_url(char::from(*byte));
    let plain = text.bytes().position(|byte| is_special(&byte));
    let Some(plain) = plain else {
        return text.len();
    };
    let rest = &text[plain..];
    plain + rest.find(ends_url).unwrap_or(rest.len())
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`')
}

/// `user:password@` at the start of `url`, which begins behind `://`.
fn userinfo_password(text: &str, url: Range<usize>) -> Option<Range<usize>> {
    let rest = &text[url.clone()];
    let authority = memchr::memchr3(b'/', b'?', b'#', rest.as_bytes()).unwrap_or(rest.len());
    let colon = memchr::memchr(b':', &rest.as_bytes()[..authority])?;
    let at = match rest[..authority].rfind('@') {
        Some(at) => at,
        // An unescaped `/`, `?` or `#` in the password; but `host:8080/a@b` is a port.
        None => {
            let behind = &rest[colon + 1..authority];
            if behind.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            rest.rfind('@')?
        }
    };
    (colon + 1 < at).then_some(url.start + colon + 1..url.start + at)
}

/// The values of `password=` and its like in the query of a URL.
fn parameter_passwords(text: &str, url: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let is_separator = |c: char| matches!(c, '?' | '&' | ';');
    let mut start = url.start;
    for part in text[url.clone()].split(is_separator) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let secret = SECRET_PARAMETERS
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        // The first part is the URL itself, not a parameter.
        if secret && start > url.start && !value.is_empty() {
            ranges.push(start + name.len() + 1..start + part.len());
        }
        start += part.len() + 1;
    }
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("%(")
        .and_then(|rest| rest.strip_suffix(')'))
        .is_some_and(|name| !name.contains(['(', ')', '%']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked() {
        for (text, expected) in [
            ("mysql://myapp:secret@db/x", "mysql://myapp:***@db/x"),
            (
                "a http://u:p@h b ftp://u:q@h",
                "a http://u:***@h b ftp://u:***@h",
            ),
            ("http://u:p@ss@host/", "http://u:***@host/"),
            ("http://u:pa/ss@host/", "http://u:***@host/"),
            (
                "jdbc:mysql://h:3306/d?user=a&password=b&x=y",
                "jdbc:mysql://h:3306/d?user=a&password=***&x=y",
            ),
            ("http://host:8080/a@b", "http://host:8080/a@b"),
            ("http://user@host/", "http://user@host/"),
            ("http://[2001:db8::1]:80/", "http://[2001:db8::1]:80/"),
            ("http://u:%(PW)@h", "http://u:%(PW)@h"),
            ("plain text: a@b", "plain text: a@b"),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn names_tell_secrets() {
        assert!(is_secret_name("DB_PASSWORD") && is_secret_name("github_token"));
        assert!(!is_secret_name("DB_HOST") && !is_secret_name("PASS_PORT"));
        for part in SECRET_NAMES {
            assert!(
                is_secret_name(&format!("ä{}x", part.to_lowercase())),
                "{part}"
            );
        }
    }
}
