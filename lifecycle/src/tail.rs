//! The last lines of a log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a log is looked at for its last lines.
const WINDOW: u64 = 256 * 1024;
/// How much of a line is kept.
const MAX_LINE: usize = 4096;

/// The last `count` lines of a file, and the length of it that they are from. A file that is not
/// there has none.
pub(crate) fn last_lines(path: &Path, count: usize) -> io::Result<(Vec<String>, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let window = WINDOW.max((count as u64).saturating_mul(200)).min(length);
    file.seek(SeekFrom::Start(length - window))?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    // The first one may be the end of a longer one.
    let whole = usize::from(window < length && lines.len() > 1);
    let first = lines.len().saturating_sub(count).max(whole);
    let last = lines.get(first..).unwrap_or_default();
    Ok((last.iter().map(|line| shorten(line)).collect(), length))
}

/// The last lines of what was written after `from` bytes, for the report of a failure. What cannot
/// be read is left out: there is a more important error to tell.
pub(crate) fn since(path: &Path, from: u64, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<String>> {
        let length = std::fs::metadata(path)?.len();
        // Rotated in between: all of it is new.
        let from = if length < from { 0 } else { from };
        let (mut lines, _) = last_lines(path, count)?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(WINDOW))))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        let new = String::from_utf8_lossy(&bytes).lines().count();
        lines.drain(..lines.len().saturating_sub(new));
        Ok(lines)
    };
    read().unwrap_or_default()
}

fn shorten(line: &str) -> String {
    without_colours(line).chars().take(MAX_LINE).collect()
}

/// Without the control sequences of terminals (ECMA-48, section 5.4), which some tools write into files too.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c));
        text.push_str(end.and_then(|end| part.get(end + 1..)).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_not_words() {
        for (line, expected) in [
            ("plain", "plain"),
            ("\u{1b}[0m\u{1b}[1;31m[ERROR]\u{1b}[m x", "[ERROR] x"),
            ("cut \u{1b}[1", "cut "),
        ] {
            assert_eq!(shorten(line), expected);
        }
    }

    #[test]
    fn the_last_lines_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(last_lines(&path, 3).unwrap(), (Vec::new(), 0));
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let (lines, length) = last_lines(&path, 2).unwrap();
        assert_eq!(lines, ["line 49998", "line 49999"]);
        assert_eq!(length, text.len() as u64);
        let (all, _) = last_lines(&path, 100_000).unwrap();
        assert_eq!(all.len(), 50_000);
        assert_eq!(since(&path, length - 11, 10), ["line 49999"]);
        assert!(since(&path, length, 10).is_empty());
    }
}
