//! Further hosts, connected with the private host by a switch.
//!
//! ```text
//! server1 (the private host)   client, dbserver, ... (network namespaces of their own)
//!   eth0 10.20.0.1/24            eth0 10.20.0.x/24
//!     |                            |
//!     +---------- switch ----------+
//! ```
//!
//! The hosts know nothing of metactl: that they reach an instance at all shows that the server
//! answers for its address on the network, and forwards.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::command::{self, Outcome};
use crate::host::Host;

/// The server's address on the network.
pub const SERVER: &str = "10.20.0.1";

/// A network with the private host on it.
#[derive(Debug)]
pub struct Lan<'a> {
    host: &'a Host,
}

/// A host on the network.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
}

/// The answer to an HTTP request.
#[derive(Debug, Clone)]
pub struct Page {
    /// 200 and so on.
    pub status: u16,
    /// The text.
    pub body: String,
}

impl<'a> Lan<'a> {
    pub(crate) fn make(host: &'a Host) -> Lan<'a> {
        let lan = Lan { host };
        ip("netns add switch");
        ip("-n switch link add switch type bridge");
        ip("-n switch link set switch up");
        lan.plug("server1", None);
        ip(&format!("address add {SERVER}/24 dev eth0"));
        ip("link set eth0 up");
        ip("route add default via 10.20.0.254");
        lan.host.is_settled();
        lan
    }

    /// A further host, with an `eth0` that has these addresses (with prefix lengths), and a default
    /// route over the server when it is not on the server's own network.
    pub fn node(&self, name: &str, addresses: &[&str]) -> Node {
        ip(&format!("netns add {name}"));
        self.plug(name, Some(name));
        ip(&format!("-n {name} link set lo up"));
        for address in addresses {
            ip(&format!("-n {name} address add {address} dev eth0"));
        }
        ip(&format!("-n {name} link set eth0 up"));
        self.host.is_settled();
        Node {
            name: name.to_owned(),
        }
    }

    /// Gives the server a further address.
    pub fn server_address(&self, address: &str) {
        ip(&format!("address add {address} dev eth0"));
        self.host.is_settled();
    }

    /// A cable from the switch to a host; `None` is the server.
    fn plug(&self, port: &str, namespace: Option<&str>) {
        ip(&format!(
            "-n switch link add {port} type veth peer name plug"
        ));
        ip(&format!("-n switch link set {port} master switch up"));
        // Process 1 lives in the private host's own network.
        ip(&format!(
            "-n switch link set plug netns {}",
            namespace.unwrap_or("1")
        ));
        match namespace {
            Some(name) => ip(&format!("-n {name} link set plug name eth0")),
            None => ip("link set plug name eth0"),
        }
    }
}

impl Node {
    /// The private host itself.
    pub fn server() -> Node {
        Node {
            name: String::new(),
        }
    }

    /// One that was made before.
    pub fn named(name: &str) -> Node {
        Node {
            name: name.to_owned(),
        }
    }

    /// The name of its network namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Answers every datagram to a port with what `answers` makes of it, one datagram each, until the end of the test.
    pub fn serve_datagrams(
        &self,
        port: u16,
        mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) {
        let node = self.clone();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            node.enter();
            let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            ready.send(()).unwrap();
            let mut datagram = [0; 1500];
            while let Ok((size, from)) = udp.recv_from(&mut datagram) {
                for answer in answers(&datagram[..size]) {
                    udp.send_to(&answer, from).ok();
                }
            }
        });
        is_ready.recv().unwrap();
    }

    /// Takes one TCP connection, and sends `text` when the other end of the channel that is returned says so.
    pub fn hold_connection(&self, port: u16, text: &'static str) -> mpsc::Sender<()> {
        let node = self.clone();
        let (ready, is_ready) = mpsc::channel();
        let (go, when) = mpsc::channel();
        thread::spawn(move || {
            node.enter();
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            ready.send(()).unwrap();
            let (mut connection, _) = listener.accept().unwrap();
            when.recv().ok();
            connection.write_all(text.as_bytes()).ok();
        });
        is_ready.recv().unwrap();
        go
    }

    /// Adds a route, as `default via 10.1.1.1`.
    pub fn route(&self, route: &str) {
        ip(&format!("-n {} route add {route}", self.name));
    }

    /// Runs a command there.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Outcome {
        command::run(self.command(words), Duration::from_secs(60))
    }

    /// A command that runs there, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg(format!("--net=/run/netns/{}", self.name))
            .args(words);
        nsenter
    }

    /// Answers TCP connections to a port with one line that names this host and whom it sees, and
    /// every UDP datagram with itself, until the end of the test.
    pub fn listen(&self, port: u16) {
        let node = self.clone();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            node.enter();
            let tcp = TcpListener::bind(("::", port)).unwrap();
            let udp = UdpSocket::bind(("::", port)).unwrap();
            ready.send(()).unwrap();
            thread::spawn(move || {
                let mut datagram = [0; 1500];
                while let Ok((size, from)) = udp.recv_from(&mut datagram) {
                    udp.send_to(&datagram[..size], from).ok();
                }
            });
            for connection in tcp.incoming().flatten() {
                let peer = connection
                    .peer_addr()
                    .map(|peer| peer.ip().to_canonical().to_string());
                let peer = peer.unwrap_or_default();
                (&connection)
                    .write_all(format!("this is {}, you are {peer}\n", node.name).as_bytes())
                    .ok();
            }
        });
        is_ready.recv().unwrap();
    }

    /// Tries a TCP connection from there; the time it took, or the error.
    pub fn connect(&self, to: &str) -> Result<Duration, std::io::Error> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(move || {
            let start = Instant::now();
            TcpStream::connect_timeout(&to, Duration::from_secs(5)).map(|_| start.elapsed())
        })
    }

    /// Fetches `http://ADDRESS[:PORT]/PATH` from there.
    pub fn get(&self, url: &str) -> Result<Page, std::io::Error> {
        let rest = url.strip_prefix("http://").expect("an http URL").to_owned();
        let (host, path) = rest.split_once('/').unwrap_or((&rest, ""));
        let to = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let to: SocketAddr = to.parse().unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.inside(move || fetch(to, &request))
    }

    /// Fetches a page as soon as it is answered with status 200.
    #[track_caller]
    pub fn get_when_up(&self, url: &str, limit: Duration) -> String {
        let start = Instant::now();
        loop {
            let last = match self.get(url) {
                Ok(page) if page.status == 200 => return page.body,
                other => other,
            };
            assert!(
                start.elapsed() < limit,
                "{url} from {:?}: {last:?}",
                self.name
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Calls `action` on a thread that is in the network of this host.
    fn inside<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let node = self.clone();
        let thread = thread::spawn(move || {
            node.enter();
            action()
        });
        thread.join().unwrap()
    }

    fn enter(&self) {
        if !self.name.is_empty() {
            let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        }
    }
}

fn fetch(to: SocketAddr, request: &str) -> Result<Page, std::io::Error> {
    let mut connection = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    connection.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let bad = |what: &str| std::io::Error::other(format!("{what}: {line:?}"));
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| bad("no HTTP status"))?;
    let mut rest = String::new();
    reader.read_to_string(&mut rest)?;
    let body = rest
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    Ok(Page { status, body })
}

#[track_caller]
fn ip(words: &str) {
    let mut ip = Command::new("ip");
    ip.args(words.split(' '));
    command::run(ip, Duration::from_secs(20)).ok();
}
