//! `timeline PROGRAM...`: where the time of a launch goes. Reads what `perf script -F
//! comm,tid,time,event,trace --ns` prints of launches by each PROGRAM (a path as it was executed), one
//! launch after the other, and prints medians for the parts of a launch. See `side-by-side/timeline.sh`.

#![forbid(unsafe_code)]

use metactl_benches::statistics::median;
use std::process::ExitCode;

/// The system calls by which a process makes another, and waits for its end (x86_64).
const CLONES: [&str; 3] = ["NR 56 ", "NR 57 ", "NR 435 "];
const WAITS: [&str; 2] = ["NR 61 ", "NR 247 "];
const UNSHARE: &str = "NR 272 ";

/// The parts of a launch; each begins where the one before ends.
const PARTS: [&str; 6] = [
    "the program's start: C library, relocations",
    "configuration, plan, state, cgroup",
    "the new process",
    "the sandbox in it, up to execve of what it runs",
    "what it runs, and the end of the namespaces",
    "clearing away, and the end of the program",
];

/// One line of perf.
struct Event<'t> {
    comm: &'t str,
    tid: u32,
    micros: f64,
    name: &'t str,
    rest: &'t str,
}

impl<'t> Event<'t> {
    fn parse(line: &'t str) -> Option<Event<'t>> {
        let (head, tail) = line.split_once(": ")?;
        let (head, seconds) = head.trim().rsplit_once(' ')?;
        let (comm, tid) = head.trim().rsplit_once(' ')?;
        let seconds: f64 = seconds.parse().ok()?;
        let tid = tid.parse().ok()?;
        let (name, rest) = tail.trim_start().split_once(": ")?;
        Some(Event {
            comm: comm.trim(),
            tid,
            micros: seconds * 1e6,
            name,
            rest,
        })
    }

    fn is(&self, name: &str) -> bool {
        self.name.ends_with(name)
    }

    fn executes(&self, path: &str) -> bool {
        let file = self.rest.strip_prefix("filename=");
        let file = file.and_then(|rest| rest.split(' ').next());
        self.is("sched_process_exec") && file.is_some_and(|file| file.ends_with(path))
    }

    fn calls(&self, numbers: &[&str]) -> bool {
        numbers.iter().any(|number| self.rest.starts_with(number))
    }
}

/// One launch: the ends of its parts, in microseconds from its beginning, and how long the network
/// namespace took where it is made by itself.
fn launch(events: &[Event<'_>]) -> Option<([f64; 6], Option<f64>)> {
    let first = events.first()?;
    let own = |event: &&Event<'_>| event.tid == first.tid;
    let program = events.iter().position(|event| event.executes("/noop"))?;
    let (before, after) = events.split_at(program);
    let runs = after.first()?;
    let begun = before.iter().filter(own).find(|e| e.is("sys_enter"))?;
    let clones = |e: &&Event<'_>| e.calls(&CLONES);
    let mut calls = before.iter().filter(own).filter(clones);
    let cloned = calls.rfind(|e| e.is("sys_exit"))?;
    let cloning = calls.rfind(|e| e.is("sys_enter"))?;
    let mut waited = after.iter().filter(own).filter(|e| e.calls(&WAITS));
    let waited = waited.rfind(|e| e.is("sys_exit"))?;
    let ended = after
        .iter()
        .filter(own)
        .find(|e| e.is("sched_process_exit"))?;
    let unshare = |name: &str| {
        let ours = before.iter().filter(|e| e.comm == begun.comm);
        let mut calls = ours.filter(|e| e.calls(&[UNSHARE]));
        calls.find(|e| e.is(name)).map(|event| event.micros)
    };
    let network = unshare("sys_enter").zip(unshare("sys_exit"));
    let ends = [begun, cloning, cloned, runs, waited, ended];
    let ends = ends.map(|event| event.micros - first.micros);
    Some((ends, network.map(|(from, to)| to - from)))
}

/// The column of one program.
fn column(events: &[Event<'_>], path: &str) -> Result<Vec<f64>, String> {
    let begins = |event: &Event<'_>| event.is("sched_process_exec") && !event.executes("/noop");
    let mut launches = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if event.executes(path) {
            let rest = events.get(at..).unwrap_or_default();
            let length = rest
                .iter()
                .skip(1)
                .position(|e| begins(e) && e.executes(path));
            launches.extend(launch(length.map_or(rest, |n| rest.split_at(n + 1).0)));
        }
    }
    // The first ones read files that nobody has read before.
    let launches: Vec<_> = launches.into_iter().skip(3).collect();
    if launches.is_empty() {
        return Err(format!("no launch by {path} in what perf has seen"));
    }
    let of = |values: Vec<f64>| median(&values).unwrap_or(0.0);
    let mut rows: Vec<f64> = (0..PARTS.len())
        .map(|part| {
            let took = launches.iter().map(|(ends, _)| {
                let from = part.checked_sub(1).map_or(0.0, |before| ends[before]);
                ends[part] - from
            });
            of(took.collect())
        })
        .collect();
    rows.push(of(launches.iter().map(|(ends, _)| ends[5]).collect()));
    rows.push(of(launches
        .iter()
        .filter_map(|(_, network)| *network)
        .collect()));
    Ok(rows)
}

fn main() -> ExitCode {
    let programs: Vec<String> = std::env::args().skip(1).collect();
    let text = match std::io::read_to_string(std::io::stdin()) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("timeline: standard input: {error}");
            return ExitCode::FAILURE;
        }
    };
    let events: Vec<_> = text.lines().filter_map(Event::parse).collect();
    let columns: Result<Vec<_>, _> = programs.iter().map(|path| column(&events, path)).collect();
    let columns = match columns {
        Ok(columns) if !columns.is_empty() => columns,
        Ok(_) => {
            eprintln!("usage: timeline PROGRAM...");
            return ExitCode::FAILURE;
        }
        Err(message) => {
            eprintln!("timeline: {message}");
            return ExitCode::FAILURE;
        }
    };
    let names = PARTS
        .iter()
        .chain(&["all of it", "(the network namespace, beside it)"]);
    for (row, name) in names.enumerate() {
        let values = columns
            .iter()
            .map(|column| format!("{:8.0} us", column[row]));
        println!("  {name:50} {}", values.collect::<String>());
    }
    ExitCode::SUCCESS
}
