//! What daemons tell by themselves (`notify = yes`): that they are ready, that they are alive, and how they are, as
//! lines of `NAME=value` in datagrams (sd_notify(3)).
//!
//! An application is hostile: whatever it sends and how much of it, costs this process little. Messages are read a
//! few at a time, with pauses; who sends faster waits. What it says of itself is short, one line, and shown anew at
//! most once a second.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::health::ready::listen_at;

/// The longest message that is read; of a longer one the rest is lost.
const MOST: usize = 4096;
/// How many messages are read at a time.
const AT_A_TIME: usize = 64;
/// The pause after that.
const PAUSE: Duration = Duration::from_millis(20);
/// How many characters of what it says of itself are kept.
const LENGTH: usize = 200;
/// How long that is shown at least.
const SHOWN: Duration = Duration::from_secs(1);

/// What was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `READY=1`
    pub(super) ready: bool,
    /// `WATCHDOG=1`
    pub(super) alive: bool,
    /// `WATCHDOG=trigger`: it has seen itself that it hangs.
    pub(super) hangs: bool,
    /// `WATCHDOG_USEC=...`: how often it says so from now on.
    pub(super) watchdog: Option<Duration>,
    /// `STATUS=...`
    status: Option<String>,
}

impl Told {
    fn read(&mut self, message: &[u8]) {
        for line in message.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => self.ready = true,
                b"WATCHDOG=1" => self.alive = true,
                b"WATCHDOG=trigger" => self.hangs = true,
                _ => self.read_value(line),
            }
        }
    }

    fn read_value(&mut self, line: &[u8]) {
        if let Some(text) = line.strip_prefix(b"STATUS=") {
            self.status = Some(clean(text));
        } else if let Some(number) = line.strip_prefix(b"WATCHDOG_USEC=") {
            let number = str::from_utf8(number)
                .ok()
                .and_then(|text| text.parse().ok());
            self.watchdog = number.map(Duration::from_micros).or(self.watchdog);
        }
    }
}

/// One short line without control characters, as it is shown.
pub(crate) fn clean(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let kept = text.trim().chars().filter(|c| !c.is_control());
    kept.take(LENGTH).collect()
}

/// Where one daemon is listened to.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
    /// Not listened to before this time.
    pause: Option<Instant>,
    status: Status,
}

impl Listener {
    /// Listens at a socket of this path, instead of whoever did before.
    pub(super) fn open(path: &Path) -> Result<Listener> {
        Ok(Listener {
            socket: listen_at(path)?,
            path: path.to_path_buf(),
            pause: None,
            status: Status::default(),
        })
    }

    /// What was told since the last time.
    pub(super) fn hear(&mut self, now: Instant) -> Told {
        let mut told = Told::default();
        if self.pause.is_none_or(|until| now >= until) {
            self.pause = None;
            let mut buffer = [0; MOST];
            for _ in 0..AT_A_TIME {
                // Nothing more to read, or nothing that can be: it is tried again either way.
                let Ok(length) = self.socket.recv(&mut buffer) else {
                    break;
                };
                told.read(&buffer[..length]);
                self.pause = Some(now + PAUSE);
            }
        }
        self.status.told(told.status.take(), now);
        told
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> Option<&str> {
        self.status.shown.as_deref().filter(|text| !text.is_empty())
    }

    /// To be waited for, but not in a pause.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pause.is_none().then(|| self.socket.as_fd())
    }

    /// When it is to be heard although nothing can be seen.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.pause, self.status.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // One that stays is removed by the next one.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// What a daemon says of itself, at the pace of people.
#[derive(Debug, Default)]
struct Status {
    shown: Option<String>,
    since: Option<Instant>,
    next: Option<String>,
}

impl Status {
    fn told(&mut self, text: Option<String>, now: Instant) {
        self.next = text.or(self.next.take());
        if self.next == self.shown {
            self.next = None;
        }
        if self.next.is_some() && self.since.is_none_or(|since| now >= since + SHOWN) {
            self.shown = self.next.take();
            self.since = Some(now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.next.is_some())?;
        Some(since + SHOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_message_are_understood() {
        let mut told = Told::default();
        told.read(b"READY=10\nSTATUS=READY=1\nMAINPID=1\nWATCHDOG_USEC=x\nnonsense");
        let status = Some("READY=1".to_owned());
        assert_eq!(
            told,
            Told {
                status,
                ..Told::default()
            }
        );
        told.read(b"READY=1\nWATCHDOG=1\nWATCHDOG_USEC=1500000\nSTATUS= 3\x1b[31m of\x00 5 \n");
        assert!(told.ready && told.alive && !told.hangs);
        assert_eq!(told.watchdog, Some(Duration::from_millis(1500)));
        assert_eq!(told.status.as_deref(), Some("3[31m of 5"));
        told.read(b"WATCHDOG=trigger");
        assert!(told.hangs);
        told.read(&[b"STATUS=".as_slice(), &[b'x'; 3000], &[0xff; 100]].concat());
        assert_eq!(told.status.map(|text| text.len()), Some(LENGTH));
    }

    #[test]
    fn a_flood_is_read_a_little_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web");
        let mut listener = Listener::open(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < 10_000 && sender.send_to(b"WATCHDOG=1", &path).is_ok() {
            sent += 1;
        }
        let now = Instant::now();
        assert!(listener.fd().is_some());
        assert!(listener.hear(now).alive);
        assert!(listener.fd().is_none() && listener.deadline() == Some(now + PAUSE));
        assert_eq!(listener.hear(now), Told::default());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn what_it_says_of_itself_changes_once_a_second() {
        let mut status = Status::default();
        let now = Instant::now();
        let say = |text: &str| Some(text.to_owned());
        status.told(say("a"), now);
        assert_eq!(
            (status.shown.as_deref(), status.deadline()),
            (Some("a"), None)
        );
        status.told(say("b"), now + SHOWN / 3);
        status.told(say("c"), now + SHOWN / 2);
        assert_eq!(status.shown.as_deref(), Some("a"));
        assert_eq!(status.deadline(), Some(now + SHOWN));
        status.told(None, now + SHOWN);
        assert_eq!(
            (status.shown.as_deref(), status.deadline()),
            (Some("c"), None)
        );
    }
}
