//! `firewall learn`: everything may leave for a while, and enter where `[firewall.in]` says who may; what did becomes
//! lists of entries.
//!
//! The kernel ends it at its time, whatever becomes of this process (`netns::policy::learn`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use jiff::Timestamp;
use metactl_bundles::network::{Entry, Rejects, Verdict, parse_entry};
use metactl_netns::policy::learn::{self, Learned};
use metactl_netns::policy::{Direction, status};
use serde::{Deserialize, Serialize};

use crate::error::{LifecycleError, Result};
use crate::files;
use crate::instance::Instance;
use crate::interrupt::Interrupt;
use crate::manager::require_root;
use crate::standalone::records::{FORMAT, RunDir};

/// How often what was learned is looked at.
const LOOK: Duration = Duration::from_millis(400);
/// The longest learning: nobody forgets it for longer than that.
const MOST: Duration = Duration::from_secs(86_400);

/// An entry that would accept what was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lesson {
    /// Of `[firewall.out.accept]` or of `[firewall.in.accept]`.
    pub direction: Direction,
    /// Its key.
    pub name: String,
    /// Its value: `smtp.example.org:25/tcp`.
    pub destination: String,
    /// How many connections (for others than TCP: packets) it would have accepted.
    pub count: u64,
}

/// What learning came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The smallest lists that accept all of it, what leaves first.
    pub lessons: Vec<Lesson>,
    /// Whether the configured policy accepts everything anyway, so that the entries have no effect yet.
    pub open: bool,
    /// Whether it ended before its time.
    pub early: bool,
}

/// In the run directory while it learns, for those who may not look into the sandbox, and for the resolver, which
/// answers everything meanwhile (`runtime/src/resolver.rs`).
#[derive(Debug, Serialize, Deserialize)]
struct LearningRecord {
    format: u32,
    /// Seconds since 1970.
    until: i64,
}

fn record(run: &RunDir) -> std::path::PathBuf {
    run.0.join("learning.json")
}

/// What `status` says while it learns.
pub(crate) fn note(instance: &Instance) -> Result<Option<String>> {
    let Some(record) = files::read_json::<LearningRecord>(&record(&instance.run_dir()))? else {
        return Ok(None);
    };
    let left = record.until - Timestamp::now().as_second();
    Ok((left > 0).then(|| {
        format!("its firewall learns for another {left} s: everything may pass, and is recorded")
    }))
}

impl Instance {
    /// Accepts everything that leaves for `time`, or until `interrupt` says so; `told` gets every destination when it is
    /// seen first, with its name if that is known. Then the configured policy counts again, and what it would
    /// have refused becomes a proposal. Nothing is written.
    ///
    /// # Errors
    /// When the instance does not run or learns already; what `told` says.
    pub fn learn(
        &self,
        time: Duration,
        interrupt: &Interrupt,
        told: &mut dyn FnMut(&Learned, Option<&str>) -> std::io::Result<()>,
    ) -> Result<Proposal> {
        require_root("changing the firewall")?;
        if time > MOST {
            return Err(LifecycleError::Usage {
                what: "a firewall that learns is open: for a day at most".to_owned(),
                hint: "--for 8h".to_owned(),
            });
        }
        self.begin_learning(time)?;
        let mut seen = BTreeMap::new();
        let watched = self.watch(interrupt, &mut seen, told);
        let ended = self.end_learning();
        let early = watched?;
        ended?;
        self.proposal(seen.into_values().collect(), early)
    }

    fn begin_learning(&self, time: Duration) -> Result<()> {
        let _lock = self.lock("firewall learn")?;
        let live = self.live_network()?;
        if let Some(left) = status(live.netns.as_fd(), &live.spec)?.learning {
            return Err(LifecycleError::Unavailable {
                what: format!("{} learns already, for another {left} s", self.name),
                hint: "wait for its end, or end it with Ctrl-C where it was begun".to_owned(),
            });
        }
        let until = Timestamp::now().checked_add(time).unwrap_or(Timestamp::MAX);
        let learning = LearningRecord {
            format: FORMAT,
            until: until.as_second(),
        };
        files::replace_json(&record(&live.run), &learning, 0o644)?;
        let started = learn::start(live.netns.as_fd(), &live.spec, &live.names()?, time);
        if started.is_err() {
            files::remove_file(&record(&live.run))?;
        }
        Ok(started?)
    }

    /// True when it was interrupted.
    fn watch(
        &self,
        interrupt: &Interrupt,
        seen: &mut BTreeMap<(Direction, IpAddr, String, u16), Learned>,
        told: &mut dyn FnMut(&Learned, Option<&str>) -> std::io::Result<()>,
    ) -> Result<bool> {
        let mut over = false;
        loop {
            // Opened anew every time: a namespace whose instance is stopped must not live on for this.
            let live = match self.live_network() {
                Err(LifecycleError::NotRunning { .. }) => return Ok(true),
                live => live?,
            };
            let (learned, left) = learn::read(live.netns.as_fd())?;
            let names = live.known_names()?;
            for one in learned {
                let key = (one.direction, one.dst, one.proto.clone(), one.port);
                if seen.insert(key, one.clone()).is_none() {
                    let name = names.get(&one.dst).map(String::as_str);
                    told(&one, name).map_err(|source| LifecycleError::File {
                        action: "write",
                        path: "standard output".into(),
                        source,
                    })?;
                }
            }
            drop(live);
            if over {
                return Ok(true);
            }
            let Some(left) = left else { return Ok(false) };
            over = interrupt.wait(left.min(LOOK))?;
        }
    }

    fn end_learning(&self) -> Result<()> {
        let _lock = self.lock("firewall learn")?;
        match self.live_network() {
            Ok(live) => {
                learn::stop(live.netns.as_fd(), &live.spec, &live.names()?)?;
                files::remove_file(&record(&live.run)).map(drop)
            }
            Err(LifecycleError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn proposal(&self, learned: Vec<Learned>, early: bool) -> Result<Proposal> {
        let taken_of = |entries: &[Entry]| -> BTreeSet<String> {
            entries.iter().map(|entry| entry.name.clone()).collect()
        };
        let (names, out, inbound, open, rejects) = match self.live_network() {
            Ok(live) => {
                let open = live.spec.out.policy == Verdict::Accept;
                let (out, inbound) = (&live.spec.out.accept, &live.spec.inbound.accept);
                let taken = (taken_of(out), taken_of(inbound));
                let known = live.known_names()?;
                let rejects = [live.spec.out.reject, live.spec.inbound.reject];
                (known, taken.0, taken.1, open, rejects)
            }
            Err(LifecycleError::NotRunning { .. }) => Default::default(),
            Err(error) => return Err(error),
        };
        let mut all = lessons(Direction::Out, &learned, &names, out);
        all.extend(lessons(Direction::In, &learned, &names, inbound));
        let [out, inbound] = rejects.each_ref().map(|list| Rejects::of(list));
        all.retain(|lesson| {
            let list = match lesson.direction {
                Direction::Out => &out,
                Direction::In => &inbound,
            };
            !is_rejected(lesson, list)
        });
        Ok(Proposal {
            lessons: all,
            open,
            early,
        })
    }
}

/// A reject list names all of it: it passed by another name, or before the list said so.
fn is_rejected(lesson: &Lesson, rejects: &Rejects<'_>) -> bool {
    let entries = parse_entry(&lesson.name, &lesson.destination).unwrap_or_default();
    let rejected = |entry| rejects.covering(entry).is_some();
    !entries.is_empty() && entries.iter().all(rejected)
}

/// What was used of one destination.
#[derive(Debug, Default)]
struct Used {
    tcp: BTreeSet<u16>,
    udp: BTreeSet<u16>,
    icmp: bool,
    /// A protocol that entries have no word for: only the destination as a whole would do.
    whole: bool,
    count: BTreeMap<&'static str, u64>,
}

/// One line for each destination (or source) and protocol; several addresses of a name are one.
fn lessons(
    direction: Direction,
    learned: &[Learned],
    names: &BTreeMap<IpAddr, String>,
    mut taken: BTreeSet<String>,
) -> Vec<Lesson> {
    let mut used: BTreeMap<(Option<&str>, Option<IpAddr>), Used> = BTreeMap::new();
    for one in learned.iter().filter(|one| one.direction == direction) {
        let name = names.get(&one.dst).map(String::as_str);
        let key = (name, name.is_none().then_some(one.dst));
        let entry = used.entry(key).or_default();
        let word = match one.proto.as_str() {
            "tcp" => {
                entry.tcp.insert(one.port);
                "tcp"
            }
            "udp" => {
                entry.udp.insert(one.port);
                "udp"
            }
            "icmp" | "icmpv6" => {
                entry.icmp = true;
                "icmp"
            }
            _ => {
                entry.whole = true;
                ""
            }
        };
        *entry.count.entry(word).or_default() += one.count;
    }
    let mut lessons = Vec::new();
    for ((name, address), used) in &used {
        let host = match (name, address) {
            (Some(name), _) => (*name).to_owned(),
            (None, Some(address)) => address.to_string(),
            (None, None) => continue,
        };
        let with_ports = match address {
            Some(IpAddr::V6(_)) => format!("[{host}]"),
            _ => host.clone(),
        };
        for (destination, service, words) in lines(&host, &with_ports, used) {
            let label = match name {
                Some(name) => name.split('.').next().unwrap_or(name).to_owned(),
                None => format!("{service}-{host}"),
            };
            let count = words.iter().filter_map(|word| used.count.get(word)).sum();
            let name = free_name(&label, &mut taken);
            lessons.push(Lesson {
                direction,
                name,
                destination,
                count,
            });
        }
    }
    lessons
}

/// Destination, a word for the service, and the protocols it stands for.
fn lines(host: &str, with_ports: &str, used: &Used) -> Vec<(String, String, Vec<&'static str>)> {
    if used.whole {
        return vec![(
            host.to_owned(),
            "all".to_owned(),
            vec!["", "tcp", "udp", "icmp"],
        )];
    }
    let mut lines = Vec::new();
    let mut one = |ports: &BTreeSet<u16>, suffix: &str, words: Vec<&'static str>| {
        if let Some(first) = ports.first() {
            let service = service(*first).map_or_else(|| format!("port-{first}"), str::to_owned);
            let text = format!("{with_ports}:{}{suffix}", ranges(ports));
            lines.push((text, service, words));
        }
    };
    // Without a protocol an entry means both.
    if used.tcp == used.udp {
        one(&used.tcp, "", vec!["tcp", "udp"]);
    } else {
        one(&used.tcp, "/tcp", vec!["tcp"]);
        one(&used.udp, "/udp", vec!["udp"]);
    }
    if used.icmp {
        lines.push((format!("{host}/icmp"), "ping".to_owned(), vec!["icmp"]));
    }
    lines
}

/// `80,443,8000-8005`: what was seen, and nothing in between.
fn ranges(ports: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some(run) if run.1.checked_add(1) == Some(*port) => run.1 = *port,
            _ => runs.push((*port, *port)),
        }
    }
    let text = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

/// What people call the service of a port.
fn service(port: u16) -> Option<&'static str> {
    Some(match port {
        22 => "ssh",
        25 | 465 | 587 => "smtp",
        53 => "dns",
        80 => "http",
        123 => "ntp",
        143 | 993 => "imap",
        389 | 636 => "ldap",
        443 => "https",
        514 => "syslog",
        1433 => "mssql",
        1521 => "oracle",
        2049 => "nfs",
        3306 => "mysql",
        5432 => "postgresql",
        5672 => "amqp",
        6379 => "redis",
        8983 => "solr",
        9092 => "kafka",
        9200 => "elasticsearch",
        11211 => "memcached",
        27017 => "mongodb",
        _ => return None,
    })
}

/// A key that no entry has yet.
fn free_name(label: &str, taken: &mut BTreeSet<String>) -> String {
    let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let label = label.trim_matches('-');
    let numbered = (2u32..).map(|number| format!("{label}-{number}"));
    let mut all = std::iter::once(label.to_owned()).chain(numbered);
    let name = all
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| label.to_owned());
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(dst: &str, proto: &str, port: u16) -> Learned {
        Learned {
            direction: Direction::Out,
            dst: dst.parse().unwrap(),
            proto: proto.to_owned(),
            port,
            count: 2,
        }
    }

    #[test]
    fn the_list_is_as_small_as_it_can_be() {
        let names = [
            ("10.2.0.20", "mysql.example.org"),
            ("10.2.0.21", "mysql.example.org"),
        ];
        let names = names.map(|(address, name)| (address.parse().unwrap(), name.to_owned()));
        let let_in = |dst: &str, port| Learned {
            direction: Direction::In,
            ..learned(dst, "tcp", port)
        };
        let seen = [
            let_in("10.9.2.9", 80),
            let_in("10.9.2.9", 443),
            learned("10.2.0.20", "tcp", 3306),
            learned("10.2.0.21", "tcp", 3306),
            learned("10.2.0.21", "icmp", 0),
            learned("10.9.2.9", "tcp", 25),
            learned("10.9.2.9", "tcp", 8000),
            learned("10.9.2.9", "tcp", 8001),
            learned("10.9.2.9", "tcp", 8002),
            learned("10.9.2.9", "udp", 514),
            learned("10.0.0.53", "udp", 53),
            learned("10.0.0.53", "tcp", 53),
            learned("2001:db8::9", "tcp", 443),
            learned("2001:db8::9", "icmpv6", 0),
            learned("10.0.0.47", "47", 0),
        ];
        let taken = BTreeSet::from(["mysql".to_owned()]);
        let names = BTreeMap::from(names);
        let found = lessons(Direction::Out, &seen, &names, taken);
        let lines: Vec<String> = found
            .iter()
            .map(|one| format!("{} = {}", one.name, one.destination))
            .collect();
        assert_eq!(
            lines,
            [
                "all-10-0-0-47 = 10.0.0.47",
                "dns-10-0-0-53 = 10.0.0.53:53",
                "smtp-10-9-2-9 = 10.9.2.9:25,8000-8002/tcp",
                "syslog-10-9-2-9 = 10.9.2.9:514/udp",
                "https-2001-db8--9 = [2001:db8::9]:443/tcp",
                "ping-2001-db8--9 = 2001:db8::9/icmp",
                "mysql-2 = mysql.example.org:3306/tcp",
                "mysql-3 = mysql.example.org/icmp",
            ]
        );
        assert_eq!(found.iter().map(|one| one.count).sum::<u64>(), 26);
        let inbound = lessons(Direction::In, &seen, &names, BTreeSet::new());
        let lines: Vec<&str> = inbound.iter().map(|one| one.destination.as_str()).collect();
        assert_eq!(lines, ["10.9.2.9:80,443/tcp"]);
        for one in &found {
            assert!(
                parse_entry(&one.name, &one.destination).is_ok(),
                "{}",
                one.destination
            );
        }
    }
}
