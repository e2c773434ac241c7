//! Argument words.

use crate::text::words;

/// Words that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quote is opened and not closed.
    #[error("must close the {quote} at character {at}")]
    Unclosed {
        /// The quote.
        quote: char,
        /// Which character of the text it is, from 1.
        at: usize,
    },
    /// A backslash stands at the end.
    #[error("must have a character behind the last backslash")]
    Backslash,
}

/// Splits at white space, like a shell would (POSIX shell, 2.2 "Quoting"), but with nothing else of
/// a shell: `'...'` and `"..."` keep spaces, a backslash keeps the next character (inside of
/// `"..."` only `"` and another backslash).
pub fn split_words(text: &str) -> Result<Vec<String>, WordsError> {
    // Mostly nothing is quoted.
    if memchr::memchr3(b'\'', b'"', b'\\', text.as_bytes()).is_none() {
        return Ok(words(text).map(str::to_owned).collect());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().enumerate().peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let current = word.get_or_insert_default();
                let unclosed = WordsError::Unclosed {
                    quote: c,
                    at: index + 1,
                };
                loop {
                    match chars.next() {
                        None => return Err(unclosed),
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) if c == '"' => match chars.peek() {
                            Some((_, '"' | '\\')) => current.extend(chars.next().map(|(_, c)| c)),
                            _ => current.push('\\'),
                        },
                        Some((_, inner)) => current.push(inner),
                    }
                }
            }
            '\\' => match chars.next() {
                Some((_, next)) => word.get_or_insert_default().push(next),
                None => return Err(WordsError::Backslash),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_a_shell_does() {
        for (text, expected) in [
            ("a  b\tc\nd", vec!["a", "b", "c", "d"]),
            ("'a b' \"c d\" e\\ f", vec!["a b", "c d", "e f"]),
            ("a'b c'd", vec!["ab cd"]),
            ("'' \"\"", vec!["", ""]),
            (r#""a\"b\\c\d" 'x\'"#, vec![r#"a"b\c\d"#, r"x\"]),
            ("", vec![]),
            ("$X *.c > y", vec!["$X", "*.c", ">", "y"]),
        ] {
            assert_eq!(split_words(text).unwrap(), expected, "{text}");
        }
        assert_eq!(
            split_words("a 'b").unwrap_err(),
            WordsError::Unclosed { quote: '\'', at: 3 }
        );
        assert_eq!(split_words("a\\").unwrap_err(), WordsError::Backslash);
    }
}
