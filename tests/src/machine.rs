//! What a host has that metactl could leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Everything of a host that a sandbox touches, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine(BTreeMap<&'static str, BTreeSet<String>>);

impl Machine {
    /// The host as it is now. `run` is metactl's directory for what a reboot may take away.
    pub fn now(run: &Path) -> Machine {
        let ip = |args: &str| lines(Command::new("ip").args(args.split(' ')));
        let mut routes = ip("-4 route");
        routes.extend(ip("-6 route"));
        let mut proxies = ip("-4 neigh show proxy");
        proxies.extend(ip("-6 neigh show proxy"));
        Machine(BTreeMap::from([
            ("mount", mounts()),
            ("link", children(Path::new("/sys/class/net"))),
            ("route", routes),
            ("proxy neighbour", proxies),
            (
                "nftables rule",
                lines(Command::new("nft").args(["-s", "list", "ruleset"])),
            ),
            ("cgroup", cgroups()),
            ("process", processes()),
            ("sysctl", sysctls()),
            ("run file", files(run)),
        ]))
    }

    /// Fails the test unless the host comes to be like this within some seconds (a network
    /// namespace dies a moment after its last process).
    #[track_caller]
    pub fn assert_restored(&self, run: &Path) {
        let start = Instant::now();
        loop {
            let differences = self.differences(&Machine::now(run));
            if differences.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "left behind (+) or gone (-):\n{}",
                differences.join("\n")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What is more (`+`) or less (`-`) in `now`.
    pub fn differences(&self, now: &Machine) -> Vec<String> {
        let mut differences = Vec::new();
        for (kind, was) in &self.0 {
            let is = &now.0[kind];
            differences.extend(is.difference(was).map(|line| format!("+ {kind}: {line}")));
            // Mounts of the machine go when somebody removes the directories that they are on.
            let gone = was.difference(is).filter(|_| *kind != "mount");
            differences.extend(gone.map(|line| format!("- {kind}: {line}")));
        }
        differences
    }
}

/// The processes of this host, as `pid command line`, without this one, the first one and zombies.
pub fn processes() -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let pids = children(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok());
    pids.filter(|pid| *pid != own && pid != "1")
        .filter_map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let words = text.replace('\0', " ");
            // A zombie has no command line.
            (!words.is_empty()).then(|| format!("{pid} {}", words.trim_end()))
        })
        .collect()
}

/// The pids of the processes whose command line contains all of `words`.
pub fn pids_of(words: &[&str]) -> Vec<i32> {
    let all = processes();
    let found = all
        .iter()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    found
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}

/// Every cgroup of this host.
pub fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    directories(Path::new("/sys/fs/cgroup"), &mut found);
    found
}

fn directories(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path().display().to_string());
            directories(&entry.path(), found);
        }
    }
}

/// Device, root, mount point and file system of each mount. (The numbers of mounts are never the same.)
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut seen = BTreeMap::<String, usize>::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or("?");
        *seen
            .entry(format!(
                "{} {} ({kind}) {}",
                fields[4], fields[3], fields[2]
            ))
            .or_default() += 1;
    }
    seen.into_iter()
        .map(|(mount, times)| format!("{mount} x{times}"))
        .collect()
}

fn sysctls() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let conf = format!("/proc/sys/net/{family}/conf");
        for link in children(Path::new(&conf)) {
            for key in [
                "forwarding",
                "proxy_arp",
                "proxy_ndp",
                "rp_filter",
                "accept_ra",
                "proxy_delay",
            ] {
                let path = format!("{conf}/{link}/{key}");
                if let Ok(value) = fs::read_to_string(&path) {
                    found.insert(format!("{path} = {}", value.trim()));
                }
            }
        }
    }
    found
}

fn children(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Files below `dir`; empty directories and lock files are nobody's leftovers.
fn files(dir: &Path) -> BTreeSet<String> {
    let tree = crate::tree::Tree::of(dir);
    let is_leftover =
        |path: &Path| !dir.join(path).is_dir() && !path.to_string_lossy().ends_with("lock");
    tree.paths()
        .filter(|path| is_leftover(path))
        .map(|path| path.display().to_string())
        .collect()
}

/// The lines of a command's output; none when there is no such command.
fn lines(command: &mut Command) -> BTreeSet<String> {
    let Ok(output) = command.output() else {
        return BTreeSet::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}
