//! A resolver in the server of the tests' world, and a name server for it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metactl_bundles::network::NetworkSpec;
use metactl_netns::policy::status;
use metactl_netns::resolver::{Places, Resolver, Settings, running};

use crate::common::{Sandbox, World};

pub const APP: &str = "198.51.100.5";
/// The address of the name server, on the server's own loopback device.
pub const DNS: &str = "127.0.0.1";

/// Sandboxes by their names.
pub struct Here(pub Arc<Mutex<BTreeMap<String, (NetworkSpec, OwnedFd)>>>);

/// Another one for every policy.
fn version(spec: &NetworkSpec) -> String {
    format!("{:?} {:?}", spec.out, spec.inbound)
}

impl Places for Here {
    fn policy(&self, user: &str) -> io::Result<Option<(NetworkSpec, String)>> {
        let known = self.0.lock().unwrap();
        Ok(known
            .get(user)
            .map(|(spec, _)| (spec.clone(), version(spec))))
    }

    fn version(&self, user: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap()
            .get(user)
            .map(|(spec, _)| version(spec))
    }

    fn namespace(&self, user: &str) -> io::Result<OwnedFd> {
        let known = self.0.lock().unwrap();
        let (_, fd) = known.get(user).ok_or(io::ErrorKind::NotFound)?;
        fd.try_clone()
    }
}

/// Addresses by name: what the name server says, with a time of one second.
pub type Zone = Arc<Mutex<BTreeMap<&'static str, Vec<Ipv4Addr>>>>;

pub fn serve(world: &World, zone: &Zone) {
    let zone = zone.clone();
    serve_records(world, move |name, kind| Some(records(&zone, name, kind)));
}

/// What the name server says to a question.
pub fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
    answer_by(&|name, kind| Some(records(zone, name, kind)), question)
}

fn records(zone: &Zone, name: &str, kind: u8) -> Vec<Record> {
    // A, or whatever there is.
    let found = match kind {
        1 | ANY => zone.lock().unwrap().get(name).cloned(),
        _ => None,
    };
    let record = |one: Ipv4Addr| Record::of(name, 1, &one.octets());
    found.unwrap_or_default().into_iter().map(record).collect()
}

/// A record of the name server.
pub struct Record {
    pub owner: String,
    pub kind: u8,
    pub data: Vec<u8>,
    /// It stands behind the answers.
    pub additional: bool,
}

impl Record {
    pub fn of(owner: &str, kind: u8, data: &[u8]) -> Record {
        Record {
            owner: owner.to_owned(),
            kind,
            data: data.to_vec(),
            additional: false,
        }
    }
}

/// A name as it is in messages.
pub fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A name server that says this of a name and a type; none is SERVFAIL.
pub fn serve_records(
    world: &World,
    says: impl Fn(&str, u8) -> Option<Vec<Record>> + Send + 'static,
) {
    let socket = world.server.run(|| UdpSocket::bind((DNS, 53)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = answer_by(&says, &buffer[..length]);
            socket.send_to(&answer, from).unwrap_or_default();
        }
    });
}

fn answer_by(says: &impl Fn(&str, u8) -> Option<Vec<Record>>, question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap();
    let mut labels = Vec::new();
    let mut at = 12;
    while at < end {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    let name = labels.join(".");
    let found = says(&name, question[end + 2]);
    let code = if found.is_some() { 0x80 } else { 0x82 };
    let (behind, found): (Vec<_>, Vec<_>) = found
        .unwrap_or_default()
        .into_iter()
        .partition(|record| record.additional);
    let mut answer = question[..2].to_vec();
    let counts = [found.len() as u8, 0, 0, 0, behind.len() as u8];
    answer.extend([0x81, code, 0, 1, 0]);
    answer.extend(counts);
    answer.extend_from_slice(&question[12..end + 5]);
    for record in found.into_iter().chain(behind) {
        match record.owner == name {
            true => answer.extend([0xc0, 12]),
            false => answer.extend(wire(&record.owner)),
        }
        answer.extend([0, record.kind, 0, 1, 0, 0, 0, 1, 0, record.data.len() as u8]);
        answer.extend(record.data);
    }
    answer
}

pub struct Running {
    pub known: Arc<Mutex<BTreeMap<String, (NetworkSpec, OwnedFd)>>>,
    pub thread: std::thread::JoinHandle<()>,
    pub server_dir: PathBuf,
}

/// Starts a resolver with a short grace in the world's server.
pub fn resolver(world: &World, sandbox: &Sandbox, grace: Duration) -> Running {
    resolver_that(world, sandbox, grace, false)
}

/// `replace`: as on a kernel before 6.12.
pub fn resolver_that(world: &World, sandbox: &Sandbox, grace: Duration, replace: bool) -> Running {
    let known: Arc<Mutex<BTreeMap<_, _>>> = Arc::default();
    let fd = sandbox.ns.fd().try_clone_to_owned().unwrap();
    known
        .lock()
        .unwrap()
        .insert(sandbox.spec.instance.clone(), (sandbox.spec.clone(), fd));
    let server_dir = world.server_dir();
    let settings = Settings {
        resolv_conf: "/nonexistent".into(),
        hosts: "/nonexistent".into(),
        nameservers: vec![DNS.parse().unwrap()],
        grace,
        replace_elements: replace,
        ..Settings::of(&server_dir)
    };
    let places = known.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = world.server.run(|| {
        std::thread::spawn(move || {
            let opened = Resolver::open(settings, Box::new(Here(places))).unwrap();
            ready.send(()).unwrap();
            opened.expect("no other resolver").run().unwrap();
        })
    });
    is_ready.recv().unwrap();
    Running {
        known,
        thread,
        server_dir,
    }
}

impl Running {
    /// The sandbox is over: so is the resolver.
    pub fn end(self, world: &World, sandbox: Sandbox) {
        self.known.lock().unwrap().clear();
        world.stop(sandbox);
        let begun = Instant::now();
        while !self.thread.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(5), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.thread.join().unwrap();
        assert_eq!(running(&self.server_dir).unwrap(), None);
    }
}

/// The type of a question for everything.
pub const ANY: u8 = 255;

pub fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(wire(name));
    question.extend([0, kind, 0, 1]);
    question
}

/// Asks from inside, as an application does; the answer.
pub fn exchange(sandbox: &Sandbox, question: &[u8]) -> Vec<u8> {
    sandbox.ns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(("169.254.1.1", 53)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        socket.send(question).unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    })
}

/// The addresses in the answer.
pub fn ask(sandbox: &Sandbox, name: &str) -> Vec<Ipv4Addr> {
    let question = question(name, 1);
    let answer = exchange(sandbox, &question);
    let count = usize::from(answer[7]);
    let records = &answer[question.len()..];
    let address = |record: &[u8]| Ipv4Addr::new(record[12], record[13], record[14], record[15]);
    (0..count).map(|n| address(&records[n * 16..])).collect()
}

pub fn peers(sandbox: &Sandbox) -> Vec<String> {
    let status = status(sandbox.ns.fd(), &sandbox.spec).unwrap();
    status
        .entries
        .into_iter()
        .flat_map(|entry| entry.peers)
        .collect()
}

#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
