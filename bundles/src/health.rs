//! `[health.NAME]`: questions whose answers tell whether a daemon is healthy.
//!
//! What is asked is decided here; who asks, and when, is another crate's.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kinds of questions, as `kind =` has them.
pub const KINDS: &[&str] = &["http", "tcp", "command", "notify"];

/// A question to a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The last part of the section's name.
    pub name: String,
    /// What is asked.
    #[serde(flatten)]
    pub question: Question,
    /// The time from one try to the next, in milliseconds in the file.
    #[serde(rename = "intervalMs", with = "millis")]
    pub interval: Duration,
    /// How long one answer may take.
    #[serde(rename = "timeoutMs", with = "millis")]
    pub timeout: Duration,
    /// How long after a start a failure does not count.
    #[serde(rename = "graceMs", with = "millis")]
    pub grace: Duration,
    /// How many failures in a row make it ill.
    pub tries: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Question {
    /// `GET path` on a port, answered with one of these statuses.
    Http {
        /// The port.
        port: u16,
        /// The path, with its query.
        path: String,
        /// The statuses that are healthy.
        status: Statuses,
    },
    /// Something listens on this port.
    Tcp {
        /// The port.
        port: u16,
    },
    /// `/bin/sh -c` of this in the daemon's sandbox ends with exit code 0.
    Command {
        /// The command.
        command: String,
    },
    /// The daemon itself has said `READY=1` (sd_notify(3)).
    Notify,
}

/// How it is said in a line: `GET /healthz`, `port 80`.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Http { path, .. } => write!(f, "GET {path}"),
            Question::Tcp { port } => write!(f, "port {port}"),
            Question::Command { command } => write!(f, "{command}"),
            Question::Notify => f.write_str("READY=1"),
        }
    }
}

/// Statuses of HTTP (RFC 9110, section 15): `200 204 300-399`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Whether `status` is one of them.
    pub fn has(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            match first == last {
                true => write!(f, "{gap}{first}")?,
                false => write!(f, "{gap}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Understands `200 204 300-399`.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn statuses(text: &str) -> Result<Statuses, String> {
    const WRONG: &str = "must be statuses of HTTP from 100 to 599, like 200-399 or 200 204";
    let status = |word: &str| match word.parse::<u16>() {
        Ok(status) if word.len() == 3 && (100..600).contains(&status) => Ok(status),
        _ => Err(WRONG.to_owned()),
    };
    let mut all = Vec::new();
    for word in text.split_whitespace() {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (status(first)?, status(last)?);
        if last < first {
            return Err(WRONG.to_owned());
        }
        all.push((first, last));
    }
    match all.is_empty() {
        true => Err(WRONG.to_owned()),
        false => Ok(Statuses(all)),
    }
}

/// Understands the path of a request (RFC 9112, section 3.2.1): nothing that would end the line.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn path(text: &str) -> Result<&str, String> {
    let good = |c: char| c.is_ascii_graphic() && c != '#';
    if text.starts_with('/') && text.len() <= 1024 && text.chars().all(good) {
        return Ok(text);
    }
    Err("must be a path of a URL, like /healthz".to_owned())
}

/// Durations as milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_ones_and_ranges() {
        let some = statuses("200 300-399").unwrap();
        assert!(some.has(200) && some.has(302) && !some.has(201) && !some.has(400));
        assert_eq!(some.to_string(), "200 300-399");
        for bad in ["", "0200", "99", "600", "399-200", "2xx", "-1", "200,204"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_cannot_end_the_request() {
        assert!(path("/a?b=c&d").is_ok());
        for bad in ["", "a", "/a b", "/a\r\nHost: x", "/é", "/a#b", "http://x/"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
