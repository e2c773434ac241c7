//! A real name server (BIND) on a host of the private network.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;
use crate::host::Host;
use crate::lan::Node;

const SOON: Duration = Duration::from_secs(15);

/// A name server with zones of its own; ends with this value.
#[derive(Debug)]
pub struct NameServer {
    dir: PathBuf,
    node: Node,
    address: String,
    process: Child,
    serial: u32,
}

impl NameServer {
    /// Starts one on `node`, which has `address`, and makes it the server's own in `/etc/resolv.conf`. `zones` are
    /// names with their records, in the syntax of zone files.
    pub fn start(host: &Host, node: &Node, address: &str, zones: &[(&str, &str)]) -> NameServer {
        let dir = host.work().join("named");
        fs::create_dir_all(&dir).unwrap();
        let mut conf = format!(
            "options {{\n directory \"{dir}\";\n recursion no;\n listen-on {{ any; }};\n listen-on-v6 {{ any; }};\n\
             \x20pid-file none;\n session-keyfile none;\n lock-file none;\n dnssec-validation no;\n notify no;\n minimal-responses no; max-records-per-type 0;\n\
             \x20empty-zones-enable no;\n}};\ncontrols {{}};\nlogging {{ category default {{ null; }}; }};\n",
            dir = dir.display()
        );
        for (zone, _) in zones {
            conf += &format!("zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; }};\n");
        }
        fs::write(dir.join("named.conf"), conf).unwrap();
        for (zone, records) in zones {
            write_zone(&dir, zone, 1, records);
        }
        let process = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", node.name()))
            .args(["named", "-f", "-n", "1", "-c"])
            .arg(dir.join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = NameServer {
            dir,
            node: node.clone(),
            address: address.to_owned(),
            process,
            serial: 1,
        };
        server.wait(zones[0].0);
        host.resolv_conf(&format!("nameserver {address}\n"));
        server
    }

    /// Other records for a zone.
    pub fn change(&mut self, zone: &str, records: &str) {
        self.serial += 1;
        write_zone(&self.dir, zone, self.serial, records);
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGHUP).unwrap();
        let serial = self.serial.to_string();
        eventually("the changed zone", SOON, || {
            self.soa(zone).contains(&serial).then_some(())
        });
    }

    fn wait(&self, zone: &str) {
        eventually("the name server", SOON, || {
            self.soa(zone).contains("hostmaster").then_some(())
        });
    }

    fn soa(&self, zone: &str) -> String {
        let at = format!("@{}", self.address);
        self.node
            .run(&["dig", "+short", "+time=1", "+tries=1", &at, zone, "SOA"])
            .stdout
    }
}

fn write_zone(dir: &std::path::Path, zone: &str, serial: u32, records: &str) {
    let head = format!(
        "$TTL 60\n@ IN SOA ns hostmaster {serial} 3600 600 86400 60\n@ IN NS ns\nns IN A 10.20.0.53\n"
    );
    fs::write(dir.join(format!("{zone}.zone")), head + records + "\n").unwrap();
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
