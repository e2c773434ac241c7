//! `address [--rounds N] --spec network.json --bundle DIRECTORY --runtime PROGRAM --dir DIRECTORY [--record FILE]
//! [--podman COMMAND] [--first] SIZE...`
//!
//! What an address and a firewall with SIZE accept entries add to a start: the time until the program runs with them,
//! less that with an empty network namespace; beside the command lines that people type for the same (`ip`, `sysctl`
//! and one `iptables` for each entry), and beside what podman's bridge adds to podman. In turn, in each round.
//!
//! Has to be called in network, mount and process namespaces of its own, with a device `eth0`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use metactl_benches::contender::timed;
use metactl_benches::record::{self, Row};
use metactl_benches::statistics::{median, quantile};
use serde_json::{Value, json};

/// The same distance of every measurement from what the one before left to the kernel.
const GAP: Duration = Duration::from_millis(60);
/// Rounds of the command lines: thousands of programs take seconds, and vary little.
const LINES_MOST: usize = 10_000;
/// The address of the sandbox, as in `bench-bundle`.
const ADDRESS: &str = "198.51.100.77";

struct Options {
    rounds: usize,
    spec: PathBuf,
    bundle: PathBuf,
    runtime: String,
    dir: PathBuf,
    record: Option<PathBuf>,
    podman: Option<String>,
    /// There is no other instance.
    first: bool,
    sizes: Vec<usize>,
}

fn main() -> ExitCode {
    match options().and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("address: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rounds: 40,
        spec: PathBuf::new(),
        bundle: PathBuf::new(),
        runtime: String::new(),
        dir: PathBuf::new(),
        record: None,
        podman: None,
        first: false,
        sizes: Vec::new(),
    };
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("rounds") => {
                options.rounds = string(&mut parser)?
                    .parse()
                    .map_err(|_| "--rounds wants a number")?;
            }
            Arg::Long("spec") => options.spec = string(&mut parser)?.into(),
            Arg::Long("bundle") => options.bundle = string(&mut parser)?.into(),
            Arg::Long("runtime") => options.runtime = string(&mut parser)?,
            Arg::Long("dir") => options.dir = string(&mut parser)?.into(),
            Arg::Long("record") => options.record = Some(string(&mut parser)?.into()),
            Arg::Long("first") => options.first = true,
            Arg::Long("podman") => options.podman = Some(string(&mut parser)?),
            Arg::Value(size) => options.sizes.push(size.parse().map_err(text)?),
            other => return Err(text(other.unexpected())),
        }
    }
    Ok(options)
}

fn string(parser: &mut Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.string().map_err(|error| error.to_string())
}

fn measure(options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for size in &options.sizes {
        rows.push(beside_command_lines(options, *size)?);
    }
    if let Some(podman) = &options.podman {
        rows.push(beside_podman(options, podman)?);
    }
    match &options.record {
        Some(file) => record::append(file, &rows),
        None => Ok(()),
    }
}

/// One start, with the network of `spec` or with an empty namespace.
struct Starts<'a> {
    options: &'a Options,
    number: usize,
}

impl Starts<'_> {
    fn one(&mut self, spec: Option<&Path>) -> Result<f64, String> {
        sleep(GAP);
        self.number += 1;
        let options = self.options;
        let path = |path: &Path| path.display().to_string();
        let id = format!("address{}", self.number);
        let runtime = [
            options.runtime.clone(),
            "--root".into(),
            path(&options.dir.join("run")),
        ];
        let mut words = runtime.to_vec();
        // It returns when the program runs.
        words.extend(["run", "--detach", "--bundle"].map(str::to_owned));
        words.push(path(&options.bundle));
        if let Some(spec) = spec {
            words.extend(["--server-dir".into(), path(&options.dir.join("server"))]);
            words.extend(["--network".into(), path(spec)]);
        }
        words.push(id.clone());
        let taken = timed(&words)?;
        let delete = [&runtime[..], &["delete".into(), "--force".into(), id]].concat();
        timed(&delete)?;
        Ok(milliseconds(taken))
    }

    /// What the network of `spec` adds.
    fn added(&mut self, spec: &Path) -> Result<f64, String> {
        // In turn, which one is first.
        let first = self.number % 4 < 2;
        let early = if first { Some(self.one(None)?) } else { None };
        let with = self.one(Some(spec))?;
        let without = match early {
            Some(without) => without,
            None => self.one(None)?,
        };
        Ok(with - without)
    }
}

fn beside_command_lines(options: &Options, size: usize) -> Result<Row, String> {
    let spec = spec(options, size)?;
    let script = script(options, size)?;
    let mut starts = Starts { options, number: 0 };
    let lines_rounds = (LINES_MOST / size.max(1)).clamp(1, options.rounds);
    let (mut added, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        starts.added(&spec)?;
    }
    for round in 0..options.rounds {
        added.push(starts.added(&spec)?);
        if round < lines_rounds {
            lines.push(command_lines(&script)?);
        }
    }
    let target = if size < 100 { 15.0 } else { 100.0 };
    let row = row(
        &format!(
            "address and {size} accept entries{}, added to a start",
            if options.first {
                ", first instance"
            } else {
                ""
            }
        ),
        "ip, sysctl, iptables",
        &added,
        &lines,
        target,
    );
    println!(
        "  {size:>6} entries: {:.2} ms added to a start (p10 {:.2}, p90 {:.2}; {} rounds); ip, sysctl and iptables {:.1} ms ({} rounds): 1/{:.1}, wanted 1/{target}",
        row.ours,
        quantile(&added, 0.1).unwrap_or(f64::NAN),
        quantile(&added, 0.9).unwrap_or(f64::NAN),
        added.len(),
        row.theirs,
        lines.len(),
        row.theirs / row.ours,
    );
    Ok(row)
}

fn beside_podman(options: &Options, podman: &str) -> Result<Row, String> {
    let spec = spec(options, 10)?;
    let mut starts = Starts {
        options,
        number: 100_000,
    };
    let run = |network: &str| -> Result<f64, String> {
        sleep(GAP);
        let words = podman.replace("{network}", network);
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Ok(milliseconds(timed(&words)?))
    };
    run("bridge")?;
    run("none")?;
    let (mut added, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(20) {
        added.push(starts.added(&spec)?);
        theirs.push(run("bridge")? - run("none")?);
    }
    let row = row(
        "address and 10 accept entries, added to a start",
        "podman, bridge less none",
        &added,
        &theirs,
        50.0,
    );
    println!(
        "  podman: {:.2} ms added to a start; its bridge, without any firewall, adds {:.0} ms to podman: 1/{:.1}, wanted 1/50",
        row.ours,
        row.theirs,
        row.theirs / row.ours,
    );
    Ok(row)
}

/// Of medians: what is added is a difference, and that of a single round says little.
fn row(task: &str, peer: &str, added: &[f64], theirs: &[f64], target: f64) -> Row {
    let (ours, theirs) = (
        median(added).unwrap_or(f64::NAN),
        median(theirs).unwrap_or(f64::NAN),
    );
    Row {
        task: task.to_owned(),
        peer: peer.to_owned(),
        unit: "ms".to_owned(),
        ours,
        theirs,
        ratio: ours / theirs,
        target: Some(1.0 / target),
    }
}

fn entries(size: usize) -> impl Iterator<Item = (String, usize)> {
    (0..size).map(|n| {
        (
            format!("10.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250),
            3000 + n % 1000,
        )
    })
}

/// The network of the bundle with so many entries.
fn spec(options: &Options, size: usize) -> Result<PathBuf, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", options.spec.display());
    let text = std::fs::read_to_string(&options.spec).map_err(|error| failed(&error))?;
    let mut spec: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    let entry = |(n, (address, port)): (usize, (String, usize))| {
        json!({"name": format!("peer{n}"), "peer": {"net": format!("{address}/32")},
               "ports": [{"first": port, "last": port}], "protocol": "tcp"})
    };
    spec["out"] = json!({"policy": "reject", "accept": entries(size).enumerate().map(entry).collect::<Vec<_>>()});
    let path = options.dir.join(format!("network-{size}.json"));
    std::fs::write(&path, spec.to_string()).map_err(|error| failed(&error))?;
    Ok(path)
}

/// The command lines, one program each; `$1` is the process whose network it is.
fn script(options: &Options, size: usize) -> Result<PathBuf, String> {
    let mut text = format!(
        "set -e\n\
         ip link add pid$1 type veth peer name veth0 netns $1\n\
         ip link set pid$1 up\n\
         ip route add {ADDRESS}/32 dev pid$1\n\
         nsenter -t $1 -n ip link set lo up\n\
         nsenter -t $1 -n ip link set veth0 up\n\
         nsenter -t $1 -n ip addr add {ADDRESS}/32 dev veth0\n\
         nsenter -t $1 -n ip route add default dev veth0\n\
         sysctl -qw net.ipv4.ip_forward=1\n\
         sysctl -qw net.ipv4.conf.eth0.proxy_arp=1\n"
    );
    for (address, port) in entries(size) {
        text.push_str(&format!(
            "iptables -A FORWARD -i pid$1 -d {address} -p tcp --dport {port} -j ACCEPT\n"
        ));
    }
    text.push_str("iptables -A FORWARD -i pid$1 -j REJECT\n");
    let path = options.dir.join(format!("lines-{size}.sh"));
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// How long the command lines take, for a process that is there already.
fn command_lines(script: &Path) -> Result<f64, String> {
    sleep(GAP);
    let process = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn();
    let mut process = process.map_err(|error| format!("unshare: {error}"))?;
    let taken = is_apart(&process).and_then(|()| {
        timed(&[
            "sh".into(),
            script.display().to_string(),
            process.id().to_string(),
        ])
    });
    let ended = process.kill().and_then(|()| process.wait());
    ended.map_err(|error| format!("unshare: {error}"))?;
    timed(&["iptables".into(), "-F".into(), "FORWARD".into()])?;
    Ok(milliseconds(taken?))
}

/// Waits until a process has a network namespace of its own.
fn is_apart(process: &Child) -> Result<(), String> {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    for _ in 0..1000 {
        if of(&process.id().to_string()) != of("self") {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    Err("unshare made no network namespace".to_owned())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
