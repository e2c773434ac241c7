//! What is measured: one command, or several one after the other.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A named sequence of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// How it is called in the report.
    pub name: String,
    commands: Vec<Timed>,
}

/// One command, and whether its time counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Timed {
    words: Vec<String>,
    counts: bool,
}

impl Contender {
    /// Understands `NAME=COMMAND`. Words are separated by blanks, commands by the word `;`; the
    /// time of a command that begins with the word `@` does not count.
    ///
    /// # Errors
    /// When there is no name, or an empty command.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not NAME=COMMAND"))?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let commands = words
            .split(|word| *word == ";")
            .map(|words| {
                let (counts, words) = match words {
                    ["@", rest @ ..] => (false, rest),
                    all => (true, all),
                };
                if words.is_empty() {
                    return Err(format!("an empty command in {text:?}"));
                }
                let words = words.iter().map(|&word| word.to_owned()).collect();
                Ok(Timed { words, counts })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            commands,
        })
    }

    /// Runs its commands, with `number` for each `{n}`, and tells how long those took whose time
    /// counts.
    ///
    /// # Errors
    /// When one of them cannot be started or fails.
    pub fn run(&self, number: usize) -> Result<Duration, String> {
        let mut sum = Duration::ZERO;
        for command in &self.commands {
            let taken = timed(&numbered(&command.words, "{n}", number))?;
            if command.counts {
                sum += taken;
            }
        }
        Ok(sum)
    }

    /// The words of its only command; nothing when it is a sequence.
    pub fn single(&self, number: usize) -> Option<Vec<String>> {
        match self.commands.as_slice() {
            [one] => Some(numbered(&one.words, "{n}", number)),
            _ => None,
        }
    }
}

/// The words with `number` for each `placeholder`.
pub fn numbered(words: &[String], placeholder: &str, number: usize) -> Vec<String> {
    let number = number.to_string();
    words
        .iter()
        .map(|word| word.replace(placeholder, &number))
        .collect()
}

/// Runs a command without input and output.
///
/// # Errors
/// When it cannot be started or fails.
pub fn timed(words: &[String]) -> Result<Duration, String> {
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status();
    let taken = start.elapsed();
    match status {
        Ok(status) if status.success() => Ok(taken),
        Ok(status) => Err(format!("{} ended with {status}", words.join(" "))),
        Err(error) => Err(format!("{}: {error}", words.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_split_and_numbered() {
        let one = Contender::parse("x=run --id a{n}=b{n}").unwrap();
        assert_eq!(one.name, "x");
        assert_eq!(one.single(7).unwrap(), ["run", "--id", "a7=b7"]);
        let two = Contender::parse("x=create {n} ; @ sleep 1 ; delete {n}").unwrap();
        assert_eq!(two.single(1), None);
        let counts: Vec<bool> = two.commands.iter().map(|c| c.counts).collect();
        assert_eq!(counts, [true, false, true]);
        for wrong in ["run", "x=", "x=a ;", "x=@"] {
            assert!(Contender::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_counts_is_timed_and_failure_is_an_error() {
        let contender = Contender::parse("x=true ; @ sleep 0.3 ; true").unwrap();
        assert!(contender.run(1).unwrap() < Duration::from_millis(300));
        let failing = Contender::parse("x=@ true ; false").unwrap();
        assert!(failing.run(1).unwrap_err().contains("false"));
    }
}
