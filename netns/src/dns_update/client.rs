//! Asks a name server: signed, over UDP, then over TCP; the answer has to be signed too.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::message::{self, Answer, code};
use super::{DnsError, Key, Name, Update};

/// The largest message that every server takes over UDP (RFC 1035 section 4.2.1).
const MAX_UDP: usize = 512;
/// How long a good answer is waited for after one that is not to be trusted: somebody who forges them has not
/// silenced the server.
const SECOND: Duration = Duration::from_millis(300);

/// How long is waited for a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For each time that the question is sent over UDP.
    pub udp: Vec<Duration>,
    /// For everything over TCP.
    pub tcp: Duration,
}

impl Patience {
    /// For somebody who works in the background: 6 s at most.
    pub fn long() -> Patience {
        Patience {
            udp: vec![Duration::from_secs(1), Duration::from_secs(2)],
            tcp: Duration::from_secs(3),
        }
    }

    /// For a command that somebody waits for: 1.5 s at most.
    pub fn short() -> Patience {
        Patience {
            udp: vec![Duration::from_millis(400), Duration::from_millis(500)],
            tcp: Duration::from_millis(600),
        }
    }
}

/// Who asks whom.
#[derive(Debug)]
pub struct Client<'a> {
    servers: &'a [SocketAddr],
    key: &'a Key,
    patience: Patience,
    /// The server that did what was asked last: it is asked first, so that a dead one is waited for once.
    good: Cell<Option<SocketAddr>>,
}

impl<'a> Client<'a> {
    /// `servers` are tried in this order until one does what is asked; `key` is what questions are signed with, and answers
    /// have to be; `patience` is had with each of them.
    pub fn new(servers: &'a [SocketAddr], key: &'a Key, patience: Patience) -> Client<'a> {
        Client {
            servers,
            key,
            patience,
            good: Cell::new(None),
        }
    }

    /// Carries out an update. `ttl` in seconds.
    ///
    /// # Errors
    /// Why no server has carried it out.
    pub fn update(&self, change: &Update, ttl: u32) -> Result<(), DnsError> {
        let what = format!("to change {} in {}", change.owner, change.zone);
        self.each(
            &what,
            |id| message::update(id, change, ttl),
            |answer| (answer.code == code::OK).then_some(()),
        )
    }

    /// The zone that a name is in, as the name server knows it.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub fn zone_of(&self, name: &Name) -> Result<Option<Name>, DnsError> {
        let what = format!("to say what zone {name} is in");
        self.each(
            &what,
            |id| message::zone_query(id, name),
            |answer| {
                let known = matches!(answer.code, code::OK | code::NXDOMAIN);
                known.then(|| answer.zone.clone().filter(|zone| name.is_in(zone)))
            },
        )
    }

    /// Asks one server after the other. Why one refuses is worth more than that others are silent.
    fn each<T>(
        &self,
        what: &str,
        question: impl Fn(u16) -> Vec<u8>,
        result: impl Fn(&Answer) -> Option<T>,
    ) -> Result<T, DnsError> {
        let mut worst = None;
        let good = self.good.get();
        let others = self.servers.iter().copied();
        for server in good
            .into_iter()
            .chain(others.filter(|other| Some(*other) != good))
        {
            let error = match self.ask(server, &question) {
                Ok(answer) => match result(&answer) {
                    Some(result) => {
                        self.good.set(Some(server));
                        return Ok(result);
                    }
                    None => self.refused(server, what, &answer),
                },
                Err(error) => error,
            };
            let silent = matches!(error, DnsError::NoAnswer { .. });
            if worst.is_none() || !silent {
                worst = Some(error);
            }
        }
        let nobody = || DnsError::NoAnswer {
            server: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            why: "none is named".to_owned(),
        };
        Err(worst.unwrap_or_else(nobody))
    }

    fn ask(
        &self,
        server: SocketAddr,
        question: impl Fn(u16) -> Vec<u8>,
    ) -> Result<Answer, DnsError> {
        let silent = |why: String| DnsError::NoAnswer { server, why };
        let mut number = [0; 2];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| silent(error.to_string()))?;
        let id = u16::from_ne_bytes(number);
        let mut bytes = question(id);
        let mac = self.key.sign(&mut bytes, now());
        let asked = Asked {
            key: self.key,
            id,
            mac,
            server,
        };
        let mut over_udp = None;
        if bytes.len() <= MAX_UDP {
            match asked.over_udp(&bytes, &self.patience.udp) {
                Ok(answer) if !answer.truncated => return Ok(answer),
                Ok(_) => {}
                Err(Failed::Untrusted(why)) => return Err(DnsError::Untrusted { server, why }),
                Err(Failed::Silent(why)) => over_udp = Some(why),
            }
        }
        asked
            .over_tcp(&bytes, self.patience.tcp)
            .map_err(|failed| match (failed, over_udp) {
                (Failed::Untrusted(why), _) => DnsError::Untrusted { server, why },
                (Failed::Silent(tcp), Some(udp)) => silent(format!("UDP: {udp}; TCP: {tcp}")),
                (Failed::Silent(tcp), None) => silent(format!("TCP: {tcp}")),
            })
    }

    fn refused(&self, server: SocketAddr, what: &str, answer: &Answer) -> DnsError {
        let signature = answer.signature.as_ref().map(|(signature, _)| signature);
        // What is wrong with the key stands in the signature's own record.
        let error = signature.map_or(0, |signature| signature.error);
        let code = if error == 0 { answer.code } else { error };
        let key = &self.key.name;
        let meaning = match code {
            code::BADTIME => match signature.and_then(|signature| signature.server_time()) {
                Some(time) => format!(
                    "the clocks differ: its one is {} s away from ours",
                    time.abs_diff(now())
                ),
                None => "the clocks differ".to_owned(),
            },
            16 => format!("the secret of the key {key} is another one there"),
            17 => format!("it knows no key {key}, or with another algorithm"),
            code::NOTAUTH | 10 => "it is not the primary of that zone".to_owned(),
            5 => format!("the key {key} may not do that (allow-update or update-policy there)"),
            4 => "it takes no updates".to_owned(),
            2 => "it failed to; its log says why".to_owned(),
            code::YXRRSET => "there is a CNAME of that name".to_owned(),
            _ => "RFC 6895 says what that means".to_owned(),
        };
        DnsError::Refused {
            server,
            what: what.to_owned(),
            why: format!("{}: {meaning}", code::word(code)),
            code,
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

enum Failed {
    Silent(String),
    Untrusted(String),
}

/// A question on its way.
struct Asked<'a> {
    key: &'a Key,
    id: u16,
    mac: Vec<u8>,
    server: SocketAddr,
}

impl Asked<'_> {
    fn over_udp(&self, question: &[u8], patience: &[Duration]) -> Result<Answer, Failed> {
        let silent = |error: io::Error| Failed::Silent(error.to_string());
        let any: IpAddr = match self.server.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A port of the kernel's choice. Connected: from others nothing is received.
        let socket = UdpSocket::bind((any, 0)).map_err(silent)?;
        socket.connect(self.server).map_err(silent)?;
        let mut total = Duration::ZERO;
        for wait in patience {
            socket.send(question).map_err(silent)?;
            if let Some(answer) = self.receive(&socket, *wait)? {
                return Ok(answer);
            }
            total += *wait;
        }
        Err(Failed::Silent(format!(
            "nothing within {} ms",
            total.as_millis()
        )))
    }

    /// The first good answer. One that is not lets wait for another a little longer.
    fn receive(&self, socket: &UdpSocket, wait: Duration) -> Result<Option<Answer>, Failed> {
        let mut deadline = Instant::now() + wait;
        let mut found = None;
        // More than the largest message over UDP without EDNS; what is longer is cut, and none.
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return found.transpose();
            }
            let received = socket
                .set_read_timeout(Some(left))
                .and_then(|()| socket.recv(&mut buffer));
            match received {
                Ok(length) => match self.judge(&buffer[..length]) {
                    Judged::Good(answer) => return Ok(Some(answer)),
                    Judged::Another => {}
                    Judged::Refusal(answer) => found = Some(Ok(answer)),
                    Judged::Bad(why) => found = Some(Err(Failed::Untrusted(why))),
                },
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(Failed::Silent(error.to_string())),
            }
            if found.is_some() {
                deadline = deadline.min(Instant::now() + SECOND);
            }
        }
    }

    fn over_tcp(&self, question: &[u8], patience: Duration) -> Result<Answer, Failed> {
        let deadline = Instant::now() + patience;
        let bytes = exchange(self.server, question, deadline).map_err(|error| {
            Failed::Silent(match is_timeout(&error) {
                true => format!("nothing within {} ms", patience.as_millis()),
                false => error.to_string(),
            })
        })?;
        match self.judge(&bytes) {
            Judged::Good(answer) | Judged::Refusal(answer) => Ok(answer),
            Judged::Bad(why) => Err(Failed::Untrusted(why)),
            Judged::Another => Err(Failed::Untrusted("it answers something else".to_owned())),
        }
    }

    fn judge(&self, bytes: &[u8]) -> Judged {
        let Some(answer) = message::read(bytes).filter(|answer| answer.id == self.id) else {
            return Judged::Another;
        };
        let verified = match &answer.signature {
            Some((signature, begin)) => self.key.verify(bytes, signature, *begin, &self.mac, now()),
            None => Err("it is not signed".to_owned()),
        };
        match verified {
            Ok(()) => Judged::Good(answer),
            // A server that does not know the key cannot sign (RFC 8945 section 5.2). That nothing was done
            // can be believed: it only leads to trying again.
            Err(_) if answer.code != code::OK && answer.code != code::NXDOMAIN => {
                Judged::Refusal(answer)
            }
            Err(why) => Judged::Bad(why),
        }
    }
}

/// What an answer is worth.
enum Judged {
    Good(Answer),
    /// It says that nothing was done, but not who says so.
    Refusal(Answer),
    Bad(String),
    /// None to this question.
    Another,
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// One message each way (RFC 1035 section 4.2.2).
fn exchange(server: SocketAddr, question: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), question].concat();
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(&framed)?;
    let mut bytes = Vec::new();
    let mut wanted = 2;
    let mut buffer = [0; 4096];
    while bytes.len() < wanted {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let [high, low, ..] = bytes.as_slice() {
            wanted = 2 + usize::from(u16::from_be_bytes([*high, *low]));
        }
    }
    bytes.truncate(wanted);
    bytes.drain(..2);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
