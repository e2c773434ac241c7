//! A connection to a systemd manager: its private socket, or a bus.

use std::io::{self, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use super::SystemdError;
use super::wire::{self, FIXED, Kind, Message, Target};

/// How long systemd may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest line of the authentication.
const MAX_LINE: usize = 4096;

const BUS: Target<'_> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
};

/// An open, authenticated connection.
#[derive(Debug)]
pub struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// Calls that are not written yet.
    unsent: Vec<u8>,
    /// Signals that came while an answer was awaited.
    signals: Vec<Message>,
    /// Nobody is between us and systemd, who sends us all its signals then.
    direct: bool,
}

impl Bus {
    /// The manager of the system, or with `user` that of the calling user.
    ///
    /// # Errors
    /// [`SystemdError::NoBus`] when there is none.
    pub fn connect(user: bool) -> Result<Bus, SystemdError> {
        let addresses = addresses(user, |name| std::env::var(name).ok());
        let mut problem = io::Error::from(io::ErrorKind::NotFound);
        for address in &addresses {
            match open(&address.path) {
                Ok(stream) => return Bus::greet(stream, address.direct),
                Err(error) => problem = error,
            }
        }
        let tried: Vec<_> = addresses.into_iter().map(|a| a.path).collect();
        Err(SystemdError::NoBus {
            tried: if tried.is_empty() {
                "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set".into()
            } else {
                tried.join(", ")
            },
            source: problem,
        })
    }

    /// Connect to a socket that is known to be a bus (`unix:` addresses without their prefix).
    ///
    /// # Errors
    /// When there is none.
    pub fn connect_to(path: &str) -> Result<Bus, SystemdError> {
        let stream = open(path).map_err(|source| SystemdError::NoBus {
            tried: path.to_owned(),
            source,
        })?;
        Bus::greet(stream, false)
    }

    fn greet(stream: UnixStream, direct: bool) -> Result<Bus, SystemdError> {
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(TIMEOUT)).map_err(|source| SystemdError::Io {
                action: "set up the connection to",
                source,
            })?;
        }
        let mut bus = Bus {
            stream: BufReader::new(stream),
            serial: 0,
            unsent: Vec::new(),
            signals: Vec::new(),
            direct,
        };
        bus.authenticate()?;
        if !direct {
            bus.call(BUS, "", &[], "the bus")?;
        }
        Ok(bus)
    }

    /// SASL EXTERNAL (D-Bus specification, "Authentication Protocol"): the kernel tells who we
    /// are. No uid is said, since inside of a user namespace ours is not the one outside.
    ///
    /// All of it is sent at once. Were BEGIN sent last, together with the first call, systemd
    /// could read both with one read(2), and wait for more with the call in its hands.
    fn authenticate(&mut self) -> Result<(), SystemdError> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        if !self.line()?.starts_with(b"DATA") {
            let why = "the bus does not offer the authentication EXTERNAL";
            return Err(SystemdError::Protocol(why));
        }
        if self.line()?.starts_with(b"OK ") {
            Ok(())
        } else {
            Err(SystemdError::Protocol("the bus does not accept this user"))
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, SystemdError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > MAX_LINE {
                return Err(SystemdError::Protocol("an endless line"));
            }
        }
        Ok(line)
    }

    /// Ask a bus for the signals of systemd's manager. On a direct connection they come anyway.
    ///
    /// # Errors
    /// When the bus refuses.
    pub fn subscribe(&mut self) -> Result<(), SystemdError> {
        if self.direct {
            return Ok(());
        }
        let mut body = wire::Writer::default();
        body.str(
            "type='signal',sender='org.freedesktop.systemd1',\
             interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
        );
        let target = Target {
            member: "AddMatch",
            ..BUS
        };
        self.call(target, "s", &body.into_bytes(), "JobRemoved")?;
        let target = Target {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "Subscribe",
        };
        self.call(target, "", &[], "JobRemoved").map(drop)
    }

    /// Call a method and wait for the answer. `unit` is for messages.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub fn call(
        &mut self,
        target: Target<'_>,
        signature: &str,
        body: &[u8],
        unit: &str,
    ) -> Result<Message, SystemdError> {
        let serial = self.prepare(target, signature, body);
        self.flush()?;
        self.answer(serial, target.member, unit)
    }

    /// Prepare a call, whose number this is: [`flush`](Bus::flush) sends it with all others, and
    /// [`answer`](Bus::answer) waits.
    pub(super) fn prepare(&mut self, target: Target<'_>, signature: &str, body: &[u8]) -> u32 {
        self.serial += 1;
        let bytes = wire::call(self.serial, target, signature, body);
        self.unsent.extend(bytes);
        self.serial
    }

    /// Send all calls that are prepared.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) fn flush(&mut self) -> Result<(), SystemdError> {
        let bytes = std::mem::take(&mut self.unsent);
        self.write(&bytes)
    }

    /// The answer to a call. Answers to earlier ones are lost; systemd gives them in order.
    pub(super) fn answer(
        &mut self,
        serial: u32,
        member: &str,
        unit: &str,
    ) -> Result<Message, SystemdError> {
        loop {
            let message = self.receive()?;
            match message.kind {
                Some(Kind::Signal) => self.signals.push(message),
                Some(Kind::Return) if message.reply_serial == serial => return Ok(message),
                Some(Kind::Error) if message.reply_serial == serial => {
                    let text = message.strings()?.into_iter().next();
                    return Err(SystemdError::Refused {
                        member: known(member),
                        unit: unit.to_owned(),
                        name: message.error,
                        message: text.unwrap_or_default(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Waits as long as it takes, or as usual no longer than a busy systemd needs for an answer.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) fn be_patient(&mut self, patient: bool) -> Result<(), SystemdError> {
        let limit = (!patient).then_some(TIMEOUT);
        let set = self.stream.get_ref().set_read_timeout(limit);
        set.map_err(|source| SystemdError::Io {
            action: "set up the connection to",
            source,
        })
    }

    /// The next signal.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn signal(&mut self) -> Result<Message, SystemdError> {
        if !self.signals.is_empty() {
            return Ok(self.signals.remove(0));
        }
        loop {
            let message = self.receive()?;
            if message.kind == Some(Kind::Signal) {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> Result<Message, SystemdError> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(wire::length(&fixed)?, 0);
        self.read(&mut bytes[FIXED..])?;
        Message::parse(&bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), SystemdError> {
        self.stream.read_exact(into).map_err(|e| SystemdError::Io {
            action: "hear from",
            source: late(e),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SystemdError> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .map_err(|e| SystemdError::Io {
                action: "write to",
                source: late(e),
            })
    }
}

/// A timeout of a socket shows as "would block".
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(io::ErrorKind::TimedOut, "no answer for 30 s")
    } else {
        error
    }
}

/// The methods that are called, for messages.
fn known(member: &str) -> &'static str {
    [
        "StartTransientUnit",
        "StartUnit",
        "StopUnit",
        "ResetFailedUnit",
        "SetUnitProperties",
        "Subscribe",
        "AddMatch",
        "Hello",
        "Get",
        "ListUnitsByPatterns",
        "ListUnitsByNames",
    ]
    .into_iter()
    .find(|name| *name == member)
    .unwrap_or("a call")
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// A path, or with a leading `@` an abstract name.
    path: String,
    direct: bool,
}

/// Where the manager can be, best first. A user's private socket is not asked: a runtime in a
/// user namespace finds the bus of its user there, but not always that.
fn addresses(user: bool, env: impl Fn(&str) -> Option<String>) -> Vec<Address> {
    let address = |path: String, direct| Address { path, direct };
    if !user {
        return vec![
            address("/run/systemd/private".into(), true),
            address("/run/dbus/system_bus_socket".into(), false),
        ];
    }
    let mut all = Vec::new();
    for one in env("DBUS_SESSION_BUS_ADDRESS")
        .unwrap_or_default()
        .split(';')
    {
        let Some(keys) = one.strip_prefix("unix:") else {
            continue;
        };
        for pair in keys.split(',') {
            match pair.split_once('=') {
                Some(("path", value)) => all.push(address(unescape(value), false)),
                Some(("abstract", value)) => {
                    all.push(address(format!("@{}", unescape(value)), false));
                }
                _ => {}
            }
        }
    }
    if let Some(dir) = env("XDG_RUNTIME_DIR").filter(|dir| dir.starts_with('/')) {
        all.push(address(format!("{dir}/bus"), false));
    }
    all
}

/// `%2f` and the like in addresses.
fn unescape(value: &str) -> String {
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn open(path: &str) -> io::Result<UnixStream> {
    match path.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found() {
        let env = |name: &str| match name {
            "DBUS_SESSION_BUS_ADDRESS" => {
                Some("tcp:host=x;unix:path=/run/a%20b/bus,guid=5;unix:abstract=/tmp/x".to_owned())
            }
            _ => Some("/run/user/7".to_owned()),
        };
        let found: Vec<String> = addresses(true, env).into_iter().map(|a| a.path).collect();
        assert_eq!(found, ["/run/a b/bus", "@/tmp/x", "/run/user/7/bus"]);
        assert!(addresses(true, |_| None).is_empty());
        assert!(addresses(false, |_| None)[0].direct);
    }
}
