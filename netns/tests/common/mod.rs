//! A small world of network namespaces: a server, its sandboxes, and another machine on the same wire. Nothing of
//! it touches the network of the machine that runs the tests, and it all vanishes with the process.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metactl_bundles::network::{
    Entry, Mode, NetworkSpec, Peer, Policy, PortRange, Protocol, Verdict,
};
use metactl_netns::apply::{Applied, apply};
use metactl_netns::plan::{LinkIds, NetPlan, plan};
use metactl_netns::{NetError, Resolved, facts};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub const SERVER: &str = "198.51.100.1";
pub const MACHINE: &str = "198.51.100.9";
pub const SERVER6: &str = "2001:db8:1::1";
pub const MACHINE6: &str = "2001:db8:1::9";

/// A network namespace, kept by its descriptor and by the services in it; dies with this value.
pub struct Ns {
    file: File,
    over: Arc<AtomicBool>,
    services: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Ns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for service in self.services.lock().unwrap().drain(..) {
            service.join().unwrap_or_default();
        }
    }
}

impl Ns {
    pub fn new() -> std::io::Result<Ns> {
        std::thread::spawn(|| {
            // SAFETY: a thread of its own, and descriptors stay shared: nothing else moves.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            let file = File::open("/proc/thread-self/ns/net")?;
            Ok(Ns {
                file,
                over: Arc::default(),
                services: Mutex::default(),
            })
        })
        .join()
        .unwrap()
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command line inside; its output, or a panic with it.
    pub fn sh(&self, line: &str) -> String {
        let (ok, text) = self.try_sh(line);
        assert!(ok, "{line}\n{text}");
        text
    }

    pub fn try_sh(&self, line: &str) -> (bool, String) {
        self.run(|| {
            let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        })
    }

    /// A TCP service that answers every connection with the address it sees.
    pub fn serve_tcp(&self, port: u16) {
        let listener = self.run(|| {
            TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        });
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        self.service(move || match listener.accept() {
            Ok((mut stream, peer)) => {
                stream
                    .write_all(peer.ip().to_canonical().to_string().as_bytes())
                    .unwrap_or_default();
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        });
    }

    /// Repeats `turn` until the namespace is dropped.
    fn service(&self, mut turn: impl FnMut() + Send + 'static) {
        let over = self.over.clone();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                turn();
            }
        });
        self.services.lock().unwrap().push(thread);
    }

    /// A UDP service that sends back what it gets.
    pub fn serve_udp(&self, port: u16) {
        let socket = self.run(|| UdpSocket::bind(("::", port)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        self.service(move || {
            let mut buffer = [0; 2048];
            if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], peer).unwrap_or_default();
            }
        });
    }

    /// Connects by TCP; what the service said, or the error, and how long it took.
    pub fn connect(&self, to: &str, port: u16) -> (std::io::Result<String>, Duration) {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(|| {
            let start = Instant::now();
            let result = TcpStream::connect_timeout(&to, Duration::from_millis(1500)).and_then(
                |mut stream| {
                    stream.set_read_timeout(Some(Duration::from_millis(1500)))?;
                    let mut text = String::new();
                    stream.read_to_string(&mut text)?;
                    Ok(text)
                },
            );
            (result, start.elapsed())
        })
    }

    /// Sends a datagram and waits for the answer.
    pub fn ask_udp(&self, to: &str, port: u16) -> std::io::Result<String> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(|| {
            let any: IpAddr = if to.is_ipv4() {
                [0, 0, 0, 0].into()
            } else {
                [0u16; 8].into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_millis(700)))?;
            socket.send(b"ping")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/{key}");
        self.run(|| {
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| format!("{path}: {error}"))
                .trim()
                .into()
        })
    }
}

/// Server and machine on one wire, 198.51.100.0/24 and 2001:db8:1::/64; the machine is the server's gateway.
pub struct World {
    pub server: Ns,
    pub machine: Ns,
    /// The record of what is shared on the server.
    pub dir: tempfile::TempDir,
}

/// None (after saying why) where namespaces cannot be made.
pub fn world(test: &str) -> Option<World> {
    let world = empty_world(test)?;
    world.server.sh("ip link set lo up");
    world.machine.sh("ip link set lo up");
    wire(&world, "eth0");
    world.server.sh(&format!(
        "ip route add default via {MACHINE}; ip -6 route add default via {MACHINE6}"
    ));
    Some(world)
}

/// Without the wire.
pub fn empty_world(test: &str) -> Option<World> {
    match (Ns::new(), Ns::new()) {
        (Ok(server), Ok(machine)) => Some(World {
            server,
            machine,
            dir: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
        }),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("SKIP {test}: no network namespaces: {error}");
            None
        }
    }
}

fn wire(world: &World, device: &str) {
    use std::os::fd::AsRawFd;
    let other = world.machine.fd().as_raw_fd();
    let netns = format!("/proc/{}/fd/{other}", std::process::id());
    world.server.sh(&format!(
        "ip link add {device} index 10 type veth peer name eth0 netns {netns}"
    ));
    // Index 10: the kernel takes up to a second to notice the carrier of a pair whose ends have the same index.
    // Without duplicate address detection, which would take two seconds.
    world.server.sh(&format!(
        "ip link set {device} addrgenmode none; ip addr add fe80::a/64 dev {device} nodad"
    ));
    world
        .machine
        .sh("ip link set eth0 addrgenmode none; ip addr add fe80::b/64 dev eth0 nodad");
    world.server.sh(&format!(
        "ip addr add {SERVER}/24 dev {device}; ip addr add {SERVER6}/64 dev {device} nodad; ip link set {device} up"
    ));
    world.machine.sh(&format!(
        "ip addr add {MACHINE}/24 dev eth0; ip addr add {MACHINE6}/64 dev eth0 nodad; ip link set eth0 up"
    ));
    world.ready(device);
}

/// A sandbox with its network.
pub struct Sandbox {
    pub ns: Ns,
    pub spec: NetworkSpec,
    pub plan: NetPlan,
    pub applied: Applied,
}

impl World {
    /// Waits until the kernel has noticed the carrier of a device of the server.
    pub fn ready(&self, device: &str) {
        for _ in 0..1000 {
            if self
                .server
                .sh(&format!("ip link show {device}"))
                .contains("state UP")
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{device} never had a carrier");
    }

    pub fn server_dir(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    pub fn plan(&self, spec: &NetworkSpec, names: &Resolved) -> NetPlan {
        self.server.run(|| {
            let facts = facts::gather(None).unwrap();
            plan(spec, names, &facts, &LinkIds::fresh(None)).unwrap()
        })
    }

    pub fn apply(&self, plan: &NetPlan, ns: &Ns, user: &str) -> Result<Applied, NetError> {
        self.server
            .run(|| apply(plan, ns.fd(), &self.server_dir(), user))
    }

    /// A running sandbox; its user is the instance.
    pub fn start(&self, spec: NetworkSpec, names: &Resolved) -> Sandbox {
        let plan = self.plan(&spec, names);
        let ns = Ns::new().unwrap();
        let applied = self.apply(&plan, &ns, &spec.instance).unwrap();
        Sandbox {
            ns,
            spec,
            plan,
            applied,
        }
    }

    /// Ends the sandbox as the death of its last process would.
    pub fn stop(&self, sandbox: Sandbox) {
        let user = sandbox.spec.instance.clone();
        drop(sandbox);
        self.server
            .run(|| metactl_netns::server::release(&self.server_dir(), &user))
            .unwrap();
    }

    /// Waits until the kernel has taken every outer device away.
    pub fn settle(&self) {
        self.settle_to(0);
    }

    /// Waits until so many are left.
    pub fn settle_to(&self, count: usize) {
        for _ in 0..200 {
            if self
                .server
                .run(|| metactl_netns::link::outer_links().unwrap())
                .len()
                == count
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("devices left: {}", self.server.sh("ip -d link"));
    }
}

pub fn spec(instance: &str, mode: Mode, addresses: &[&str]) -> NetworkSpec {
    let open = || Policy {
        policy: Verdict::Accept,
        accept: Vec::new(),
        reject: Vec::new(),
    };
    NetworkSpec {
        format: 1,
        instance: instance.into(),
        mode,
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        pool: (mode == Mode::Nat).then(|| "10.77.0.0/16".parse().unwrap()),
        pool6: (mode == Mode::Nat).then(|| "fd77:1:2::/64".parse().unwrap()),
        publish: Vec::new(),
        apart: false,
        out: open(),
        inbound: open(),
    }
}

/// `db = 10.2.0.20:3306/tcp`, `lan = 10.1.1.0/24`, `web = www.example.org:80-82,443`.
pub fn entry(line: &str) -> Entry {
    let (name, rest) = line.split_once(" = ").unwrap();
    let (rest, protocol) = match rest.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
        Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
        Some((rest, "icmp")) => (rest, Some(Protocol::Icmp)),
        _ => (rest, None),
    };
    if let Ok(net) = rest.parse() {
        return Entry {
            name: name.into(),
            peer: Peer::Net(net),
            ports: Vec::new(),
            protocol,
        };
    }
    let (peer, ports) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (peer, ports) = rest.split_once(']').unwrap();
            (peer, ports.trim_start_matches(':'))
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let number = |text: &str| text.parse::<u16>().unwrap();
    let ports = ports
        .split(',')
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            PortRange {
                first: number(first),
                last: number(last),
            }
        });
    let peer = match (peer.parse(), peer.parse::<IpAddr>()) {
        (Ok(net), _) => Peer::Net(net),
        (_, Ok(address)) => Peer::Net(address.into()),
        _ => Peer::Host(peer.into()),
    };
    Entry {
        name: name.into(),
        peer,
        ports: ports.collect(),
        protocol,
    }
}

pub fn reject(lines: &[&str]) -> Policy {
    Policy {
        policy: Verdict::Reject,
        accept: lines.iter().map(|line| entry(line)).collect(),
        reject: Vec::new(),
    }
}

pub fn names(list: &[(&str, &[&str])]) -> Resolved {
    list.iter()
        .map(|(name, addresses)| {
            (
                name.to_string(),
                addresses
                    .iter()
                    .map(|address| address.parse().unwrap())
                    .collect(),
            )
        })
        .collect::<BTreeMap<_, _>>()
}
