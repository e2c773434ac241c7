//! A real name server (BIND 9) on a host of the network, which takes signed updates.
//!
//! It is primary of [`ZONE`], of the reverse zone of 10.20.0.0/16 and of that of 2001:db8::/32, and asks
//! nobody else. The key is made by tsig-keygen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::command::{self, Background};
use crate::host::Host;
use crate::lan::{Lan, Node};

/// Where instances are registered.
pub const ZONE: &str = "apps.example.org";
/// The zones of the names of addresses.
pub const REVERSE: [&str; 2] = ["20.10.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"];
/// Its address.
pub const ADDRESS: &str = "10.20.0.53";

const LIMIT: Duration = Duration::from_secs(20);

/// A name server. It ends when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    node: Node,
    dir: PathBuf,
    process: Option<Background>,
}

impl NameServer {
    /// Makes the host `ns`, and what a name server there needs. It does not run yet. It takes updates of `zones`.
    pub fn make(host: &Host, lan: &Lan<'_>, zones: &[&str]) -> NameServer {
        let node = lan.node("ns", &["10.20.0.53/24"]);
        let dir = host.work().join("named");
        fs::create_dir_all(&dir).unwrap();
        let server = NameServer {
            node,
            dir,
            process: None,
        };
        server.make_key("metactl.key", "metactl-server1");
        server.configure(zones);
        server
    }

    /// Makes a key in a file that only root can read; its path.
    pub fn make_key(&self, file: &str, name: &str) -> PathBuf {
        let mut keygen = Command::new("tsig-keygen");
        keygen.arg(name);
        let key = command::run(keygen, LIMIT).ok().stdout;
        let path = self.dir.join(file);
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The key that it knows.
    pub fn key(&self) -> PathBuf {
        self.dir.join("metactl.key")
    }

    fn configure(&self, zones: &[&str]) {
        let dir = self.dir.display();
        let mut text = format!(
            "options {{ directory \"{dir}\"; pid-file none; session-keyfile none; recursion no;\n\
             listen-on {{ {ADDRESS}; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no; }};\n\
             controls {{ }};\ninclude \"{dir}/metactl.key\";\n"
        );
        for zone in zones {
            let file = format!("{zone}.zone");
            let content = format!(
                "$TTL 60\n@ SOA ns.{ZONE}. root.{ZONE}. 1 60 60 600 0\n@ NS ns.{ZONE}.\n{}",
                if *zone == ZONE {
                    "ns A 10.20.0.53\n"
                } else {
                    ""
                }
            );
            fs::write(self.dir.join(&file), content).unwrap();
            text.push_str(&format!(
                "zone \"{zone}\" {{ type primary; file \"{file}\"; allow-update {{ key metactl-server1; }}; }};\n"
            ));
        }
        fs::write(self.dir.join("named.conf"), text).unwrap();
    }

    /// Starts it, and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        let mut named = self.node.command(&["named", "-g", "-n", "1", "-c"]);
        named.arg(self.dir.join("named.conf"));
        let mut process = Background::spawn(named);
        process.wait_for("running", LIMIT);
        self.process = Some(process);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Makes it silent: it takes questions and connections, and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// What it has written.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Background::output)
            .unwrap_or_default()
    }

    /// Its answers to a question, as `dig +short` has them, sorted.
    pub fn ask(&self, name: &str, kind: &str) -> Vec<String> {
        let server = format!("@{ADDRESS}");
        let question = ["dig", "+short", "+time=2", "+tries=2", &server, name, kind];
        let mut lines: Vec<String> = self
            .node
            .run(&question)
            .ok()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    /// The name of an address, or nothing.
    pub fn name_of(&self, address: &str) -> Vec<String> {
        let server = format!("@{ADDRESS}");
        let question = [
            "dig", "+short", "+time=2", "+tries=2", &server, "-x", address,
        ];
        self.node
            .run(&question)
            .ok()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits until it answers so.
    #[track_caller]
    pub fn answers(&self, name: &str, kind: &str, expected: &[&str], limit: Duration) {
        let begun = Instant::now();
        loop {
            let found = self.ask(name, kind);
            if found == expected {
                return;
            }
            assert!(
                begun.elapsed() < limit,
                "{name} {kind}: {found:?} instead of {expected:?} after {limit:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The section `[dns]` that leads to it.
    pub fn section(&self) -> String {
        let key = self.key();
        format!(
            "[dns]\nzone = {ZONE}\nserver = {ADDRESS}\nkey.file = {}\n",
            key.display()
        )
    }
}
