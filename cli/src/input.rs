//! What comes in otherwise than on the command line: a value that nobody else shall read.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::exit;
use crate::failure::Failure;

/// The longest value that is read, in bytes: that of a variable of the environment (execve(2)).
const MOST: u64 = 128 * 1024;

/// A value from the standard input: all of it, but for a line end behind it; from a terminal one line, which is not shown.
///
/// # Errors
/// What is too long or no UTF-8; nothing at all; Ctrl-C.
pub fn value(what: &dyn Display) -> Result<String, Failure> {
    let bytes = match io::stdin().is_terminal() {
        true => typed(what),
        false => piped(),
    };
    let bytes = match bytes {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(Failure::new(exit::FAILED, "given up; nothing has changed")),
        Err(error) => {
            let message =
                format!("the value of {what} cannot be read from standard input: {error}");
            return Err(Failure::new(exit::FAILED, message));
        }
    };
    // The value is not repeated: it may be a password.
    if bytes.len() as u64 > MOST {
        return Err(Failure::usage(format!(
            "the value of {what} is longer than {MOST} bytes"
        )));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("the value of {what} is not UTF-8")))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    match text.is_empty() {
        false => Ok(text),
        true => Err(
            Failure::usage(format!("nothing came for {what} on standard input"))
                .hint("an empty value is written as KEY="),
        ),
    }
}

fn piped() -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // One byte more, and a line end: what is too long shows.
    io::stdin().lock().take(MOST + 3).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// One line from a terminal that does not show it; `None`: Ctrl-C, or Ctrl-D at its beginning.
fn typed(what: &dyn Display) -> io::Result<Option<Vec<u8>>> {
    let hidden = Hidden::begin()?;
    let mut err = io::stderr().lock();
    write!(err, "{what} (not shown): ").and_then(|()| err.flush())?;
    let line = line(&mut io::stdin().lock().take(MOST + 1));
    drop(hidden);
    // The Enter was not shown either.
    writeln!(err)?;
    line
}

/// A line as keys are pressed, without what was taken back.
fn line(keys: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for key in keys.bytes() {
        match key? {
            b'\r' | b'\n' => return Ok(Some(line)),
            // Ctrl-C, Ctrl-\
            3 | 28 => return Ok(None),
            // Ctrl-D
            4 if line.is_empty() => return Ok(None),
            4 => return Ok(Some(line)),
            // Backspace takes a whole character back.
            8 | 127 => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U
            21 => line.clear(),
            byte => line.push(byte),
        }
    }
    Ok(Some(line))
}

/// A terminal that shows nothing of what is typed, and sends no signals, which would leave it so. As before when dropped.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn begin() -> io::Result<Hidden> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        let off = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        quiet.local_modes.remove(off);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Hidden { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs it no more.
        let _gone = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_a_line() {
        let of = |keys: &[u8]| line(&mut &*keys).unwrap();
        assert_eq!(of(b"abc\rmore"), Some(b"abc".to_vec()));
        assert_eq!(of("aä\u{7f}b\n".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(of(b"\x7f\x7fwrong\x15right\r"), Some(b"right".to_vec()));
        assert_eq!(of(b"abc\x03"), None);
        assert_eq!(of(b"\x04"), None);
        assert_eq!(of(b"ab\x04"), Some(b"ab".to_vec()));
    }
}
