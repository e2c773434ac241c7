//! `GET` to a daemon, from inside its own network: no firewall, route or proxy is in between, and
//! what listens on localhost only can be asked too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use metactl_runtime::ProcessId;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::checks::Good;

/// How long a connection may take; it is one of the same machine.
const CONNECT: Duration = Duration::from_secs(2);
/// How much of an answer is read, so that the application does not see a broken connection.
const MOST: usize = 1 << 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    /// How long the whole answer may take. The first page of many applications is slow.
    pub(super) timeout: Duration,
    pub(super) good: Good,
}

impl Request {
    fn text(&self) -> String {
        let path = &self.path;
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: metactl\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        )
    }
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// This status, a good one.
    Healthy(u16),
    /// Another status.
    Bad(u16),
    /// No status, and why.
    None(String),
    /// Nobody could be asked: this process may not enter the network.
    CannotAsk(String),
}

/// Asks the daemon whose first process is `process` at one of the addresses where it listens.
pub(super) fn ask(process: &ProcessId, listening: &[SocketAddr], request: &Request) -> Answer {
    let path = format!("/proc/{}/ns/net", process.pid);
    let network = match File::open(&path) {
        Ok(network) => network,
        // It has just ended; the next report says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Answer::None("it ended".to_owned());
        }
        Err(error) => return Answer::CannotAsk(format!("{path}: {error}")),
    };
    let addresses: Vec<SocketAddr> = listening.iter().flat_map(reachable).collect();
    let request = request.clone();
    // Only this thread changes its network, and it ends here.
    let asking = thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            let typ = Some(LinkNameSpaceType::Network);
            if let Err(error) = move_into_link_name_space(network.as_fd(), typ) {
                return Answer::CannotAsk(format!("{path}: {error}"));
            }
            let mut last = Answer::None("nobody listens".to_owned());
            for address in addresses {
                last = match get(address, &request) {
                    Ok(status) if request.good.has(status) => return Answer::Healthy(status),
                    Ok(status) => Answer::Bad(status),
                    Err(error) => Answer::None(error.to_string()),
                };
            }
            last
        });
    match asking.map(thread::JoinHandle::join) {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::CannotAsk("the thread that asks ended early".to_owned()),
        Err(error) => Answer::CannotAsk(format!("no thread to ask with: {error}")),
    }
}

/// Where to connect to: somebody who listens everywhere does so on localhost.
fn reachable(listening: &SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, listening.port());
    match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
        // Nearly always for both families, and there may be no IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![
                at(Ipv4Addr::LOCALHOST.into()),
                at(Ipv6Addr::LOCALHOST.into()),
            ]
        }
        _ => vec![*listening],
    }
}

/// The status of the answer.
fn get(address: SocketAddr, request: &Request) -> io::Result<u16> {
    let deadline = Instant::now() + request.timeout;
    let connect = CONNECT.min(request.timeout);
    let mut stream = TcpStream::connect_timeout(&address, connect)?;
    stream.set_write_timeout(Some(connect))?;
    stream.write_all(request.text().as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What is there is enough when it has a status: a page may go on for ever.
            Err(_) if !answer.is_empty() => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        if answer.len() >= MOST {
            break;
        }
    }
    if answer.is_empty() {
        let seconds = request.timeout.as_secs_f32();
        return Err(io::Error::other(format!("no answer within {seconds} s")));
    }
    status(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// The status of an answer (RFC 9112, section 4): `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line.get(..12)?).ok()?;
    let (version, code) = line.split_once(' ')?;
    let code: u16 = code.parse().ok()?;
    (version.starts_with("HTTP/1.") && (100..600).contains(&code)).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn request() -> Request {
        Request {
            path: "/up?x=1".to_owned(),
            timeout: Duration::from_secs(10),
            good: Good::Below500,
        }
    }

    /// What `get` makes of a server that answers so.
    fn answered(text: &'static str) -> io::Result<u16> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /up?x=1 HTTP/1.1\r\nHost: "));
            stream.write_all(text.as_bytes()).unwrap();
        });
        let result = get(address, &request());
        serving.join().unwrap();
        result
    }

    #[test]
    fn the_status_is_read() {
        assert_eq!(answered("HTTP/1.1 404 Not Found\r\n\r\nno").unwrap(), 404);
        assert_eq!(answered("HTTP/1.0 503 Later\r\n\r\n").unwrap(), 503);
        let error = answered("220 mail.example.org ESMTP\r\n").unwrap_err();
        assert!(error.to_string().contains("not HTTP"), "{error}");
        let error = answered("").unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }

    #[test]
    fn nobody_there_is_an_error() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        assert!(get(address, &request()).is_err());
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_localhost() {
        let at = |text: &str| reachable(&text.parse().unwrap());
        assert_eq!(at("0.0.0.0:80"), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(at("[::]:80").len(), 2);
        assert_eq!(at("10.77.0.2:80"), ["10.77.0.2:80".parse().unwrap()]);
    }
}
