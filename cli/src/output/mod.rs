//! How things are printed: colours, tables, JSON, progress. Nothing here knows what it prints.

pub mod progress;
pub mod table;
pub mod time;

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use serde::Serialize;

use crate::args::{Color, Global};
use crate::failure::Outcome;

/// The version of everything that `--json` prints. It grows when a field changes its meaning or
/// goes away; new fields may appear at any time.
pub const JSON_VERSION: u32 = 1;

/// Whether and how to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    color: bool,
}

impl Style {
    /// No colour at all.
    #[cfg(test)]
    pub fn plain() -> Style {
        Style { color: false }
    }

    /// Whether anything is coloured.
    pub fn is_colored(self) -> bool {
        self.color
    }

    /// Decides from the option, the terminal and the environment (<https://no-color.org>).
    pub fn decide(choice: Color, terminal: bool) -> Style {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let color = match choice {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !set("NO_COLOR") && !dumb,
        };
        Style { color }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Something that went well or runs.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something that failed.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Something to look at.
    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A heading.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something in the background: an origin, a time.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Facts with the version of their form.
#[derive(Serialize)]
struct Envelope<'a, T> {
    version: u32,
    #[serde(flatten)]
    facts: &'a T,
}

impl<'a, T> Envelope<'a, T> {
    fn of(facts: &'a T) -> Envelope<'a, T> {
        Envelope {
            version: JSON_VERSION,
            facts,
        }
    }
}

/// Where the results of a command go.
pub struct Output {
    /// For standard output.
    pub style: Style,
    /// Whether `--json` was asked for.
    pub json: bool,
    /// Whether `--quiet` was asked for.
    pub quiet: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    writer: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Standard output, as the global options want it.
    pub fn new(global: &Global) -> Output {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        Output {
            style: Style::decide(global.color, terminal),
            json: global.json,
            quiet: global.quiet,
            terminal,
            writer: BufWriter::new(stdout),
        }
    }

    /// Prints a line.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.writer, "{}", text.as_ref())
    }

    /// Prints a line unless `--quiet` or `--json` was asked for.
    pub fn remark(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        if self.quiet || self.json {
            Ok(())
        } else {
            self.line(text)
        }
    }

    /// Says how to take back what has just been done.
    pub fn undo(&mut self, command: &str) -> io::Result<()> {
        self.remark(format!("Undo: {command}"))
    }

    /// Prints a table.
    pub fn table(&mut self, table: &table::Table) -> io::Result<()> {
        table
            .lines(self.style)
            .iter()
            .try_for_each(|line| self.line(line))
    }

    /// Writes a text as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Prints facts as one JSON object, the version first.
    pub fn facts<T: Serialize>(&mut self, facts: &T) -> Outcome {
        serde_json::to_writer_pretty(&mut self.writer, &Envelope::of(facts))?;
        writeln!(self.writer)?;
        Ok(())
    }

    /// The same on a line, where more are to come.
    pub fn facts_line<T: Serialize>(&mut self, facts: &T) -> Outcome {
        serde_json::to_writer(&mut self.writer, &Envelope::of(facts))?;
        writeln!(self.writer)?;
        Ok(())
    }

    /// Hands everything printed so far to the reader.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Prints a line on standard error. When nobody reads that either, there is nobody left to tell.
pub fn eprint_line(text: &str) {
    let _nobody_left_to_tell = writeln!(io::stderr().lock(), "{text}");
}

/// Whether there is somebody who could answer.
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks a question on the terminal; `None` when there is none, or no answer.
pub fn ask(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    let mut err = io::stderr().lock();
    // Who cannot see the question does not answer it.
    write!(err, "{question}").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(1..) => Some(line.trim().to_owned()),
        _ => None,
    }
}

/// A text without the characters that would move the cursor or change the terminal: configuration
/// and logs are written by others. Line feeds and tabs stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmless(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    Cow::Owned(safe)
}

/// A duration as people say it: `11 ms`, `2.1 s`, `1m 52s`, `3h 04m`, `2d 03h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis()),
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// An amount of memory as people say it, in binary units: `4.0 KiB`, `61.3 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Precise enough for three digits; a count of bytes never comes near 2^53 kibibytes.
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_people_say_them() {
        let say = |ms| duration(Duration::from_millis(ms));
        assert_eq!(say(11), "11 ms");
        assert_eq!(say(150), "0.1 s");
        assert_eq!(say(48_300), "48.3 s");
        assert_eq!(say(112_000), "1m 52s");
        assert_eq!(say(11_045_000), "3h 04m");
        assert_eq!(say(183_600_000), "2d 03h");
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(4096), "4.0 KiB");
        assert_eq!(size(64_277_000), "61.3 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn a_value_cannot_drive_the_terminal() {
        assert_eq!(clean("plain\ttext"), "plain\ttext");
        assert_eq!(clean("a\x1b[2Jb\r"), "a\\u{1b}[2Jb\\u{d}");
        assert_eq!(clean("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn colour_is_a_choice() {
        assert_eq!(
            Style::decide(Color::Always, false).good("x"),
            "\x1b[32mx\x1b[0m"
        );
        assert_eq!(Style::decide(Color::Never, true).good("x"), "x");
        assert_eq!(Style::decide(Color::Auto, false).bad("x"), "x");
    }
}
