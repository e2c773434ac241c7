//! `kill`: sends a signal to the first process of a container, or to all.

use std::str::FromStr;

use lexopt::{Parser, ValueExt};
use nix::sys::signal::Signal;

use crate::verbs::{Failure, Globals, Word, next, unexpected};
use crate::{container, state};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut signal = None;
    let mut all = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--all" || name == "-a" => all = true,
            Word::Value(value) if id.is_none() => id = Some(value.clone().string()?),
            Word::Value(value) if signal.is_none() => {
                signal = Some(parse(&value.clone().string()?)?);
            }
            word => return Err(unexpected(word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    let signal = signal.unwrap_or(libc::SIGTERM);
    let state = state::read(&globals.root, &id)?;
    container::kill(&Some(state), &id, signal, all)?;
    Ok(0)
}

/// A number, or a name with or without `SIG`. 0 only asks whether the container can get signals
/// (kill(2)).
fn parse(text: &str) -> Result<i32, Failure> {
    if let Ok(number) = text.parse::<i32>() {
        if (0..=64).contains(&number) {
            return Ok(number);
        }
    } else {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        if let Ok(signal) = Signal::from_str(&name) {
            return Ok(signal as i32);
        }
    }
    Err(Failure::Usage(format!("{text:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("TERM", 15),
            ("sigusr1", 10),
            ("34", 34),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number);
        }
        for bad in ["65", "-1", "SIGNOT", "", "9x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
