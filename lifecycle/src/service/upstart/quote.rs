//! Words that Upstart, the shell that it starts for a command, and cron understand as they are meant.
//!
//! Upstart reads a job in tokens (init(5)): quotes of either kind hold a word together, `\\` is a backslash also
//! within them, a backslash before anything else stays, and a line that ends within quotes goes on as one space. So
//! a line break cannot be written at all. In a command the quotes and backslashes stay, for the shell.

/// A character that no job can have in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineBreak;

/// The argument of a stanza.
pub(super) fn argument(text: &str) -> Result<String, LineBreak> {
    check(text)?;
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    let text = text.replace('\\', "\\\\").replace('\'', "'\"'\"'");
    Ok(format!("'{text}'"))
}

/// What is only read by people: without what a job cannot have.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    // One without line breaks can be written.
    argument(&text).unwrap_or_default()
}

/// A word of a command, which a shell runs. It begins with a quote: Upstart loses its place in a backslash behind a
/// space.
pub(super) fn word(text: &str) -> Result<String, LineBreak> {
    check(text)?;
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '\\' => quoted.push_str("'\\\\'"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

/// A command line.
pub(super) fn command<S: AsRef<str>>(words: &[S]) -> Result<String, LineBreak> {
    let words: Result<Vec<String>, LineBreak> =
        words.iter().map(|text| word(text.as_ref())).collect();
    Ok(words?.join(" "))
}

/// A command line of a crontab: `%` is a line break there (crontab(5)).
pub(super) fn cron_command<S: AsRef<str>>(words: &[S]) -> Result<String, LineBreak> {
    Ok(command(words)?.replace('%', "\\%"))
}

fn check(text: &str) -> Result<(), LineBreak> {
    match text.contains(['\n', '\0']) {
        true => Err(LineBreak),
        false => Ok(()),
    }
}

/// Whether it means itself everywhere, to Upstart, to the shell and to cron.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.,_-=:@+".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and what they are in a command, and as an argument.
    const CASES: [(&str, &str, &str); 8] = [
        ("/usr/bin/x-1", "/usr/bin/x-1", "/usr/bin/x-1"),
        ("", "''", "''"),
        ("a b", "'a b'", "'a b'"),
        ("it's", "'it'\\''s'", "'it'\"'\"'s'"),
        ("a\\b", "'a'\\\\'b'", "'a\\\\b'"),
        ("#x", "'#x'", "'#x'"),
        (
            "$HOME `id` \"q\"",
            "'$HOME `id` \"q\"'",
            "'$HOME `id` \"q\"'",
        ),
        ("end script", "'end script'", "'end script'"),
    ];

    #[test]
    fn words_are_quoted_for_the_shell_and_arguments_for_upstart() {
        for (text, in_command, as_argument) in CASES {
            assert_eq!(word(text).unwrap(), in_command, "{text}");
            assert_eq!(argument(text).unwrap(), as_argument, "{text}");
        }
        assert_eq!(word("a\nexec rm"), Err(LineBreak));
        assert_eq!(argument("a\nend script"), Err(LineBreak));
        assert_eq!(shown("a\nb\u{7}c d"), "'abc d'");
        assert_eq!(cron_command(&["x", "100%"]).unwrap(), "x '100\\%'");
    }

    #[test]
    fn the_shell_reads_back_what_was_meant() {
        for (text, ..) in CASES {
            let line = format!("printf %s {}", word(text).unwrap());
            let output = std::process::Command::new("sh")
                .args(["-c", &line])
                .output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), text);
        }
    }
}
