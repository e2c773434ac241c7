//! `events`: what a container uses, again and again, and when it runs out of memory.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lexopt::{Parser, ValueExt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cgroup::measure::measure;
use crate::cgroup::oom::OomWatch;
use crate::launch::LaunchError;
use crate::state::{self, State, Status};
use crate::verbs::{Failure, Globals, Word, next, unexpected};

/// How often the counter of killed processes is looked at where the kernel does not tell.
const LOOK: Duration = Duration::from_secs(1);
/// The OOM killer counts after it has sent the signal.
const SETTLE: Duration = Duration::from_millis(20);

/// One line of output, in the form of runc.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut once = false;
    let mut interval = Duration::from_secs(5);
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--stats" => once = true,
            Word::Option(name) if name == "--interval" => {
                let text = parser.value()?.string()?;
                interval = duration(&text).ok_or_else(|| {
                    let form = "a time above 0 such as 5s, 100ms or 1m30s";
                    Failure::Usage(format!("--interval {text:?} is not {form}"))
                })?;
            }
            Word::Value(value) if id.is_none() => id = Some(value.clone().string()?),
            _ => return Err(unexpected(&word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    let state = state::read(&globals.root, &id)?;
    let status = state.status();
    let process = state.process.as_ref().map(crate::ProcessId::open);
    let process = process.transpose();
    let process = process.map_err(|e| LaunchError::system("open the process", e))?;
    let Some(process) = process.flatten() else {
        return Err(LaunchError::Status {
            id,
            status: if status == Status::Creating {
                status
            } else {
                Status::Stopped
            }
            .to_string(),
            need: "only one that lives uses anything",
        }
        .into());
    };
    if once {
        tell(&stats(&state))?;
        return Ok(0);
    }
    follow(&state, &process, interval)?;
    Ok(0)
}

/// Tells until the container ends, or nobody listens any more.
fn follow(state: &State, process: &OwnedFd, interval: Duration) -> Result<(), Failure> {
    let mut watch = OomWatch::new(&state.cgroups)?;
    let mut due = Instant::now() + interval;
    loop {
        let mut wait = due.saturating_duration_since(Instant::now());
        if watch.fd().is_none() {
            wait = wait.min(LOOK);
        }
        let (ended, woken) = wait_for(process, &watch, wait)?;
        if woken || ended {
            std::thread::sleep(SETTLE);
        }
        for _ in 0..watch.news() {
            if !tell(&event("oom", state, None))? {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= due {
            if !tell(&stats(state))? {
                return Ok(());
            }
            due += interval;
            // No row of them after a machine was asleep.
            due = due.max(Instant::now());
        }
    }
}

/// Whether the container ended, and whether there may be news of the OOM killer.
fn wait_for(
    process: &OwnedFd,
    watch: &OomWatch,
    wait: Duration,
) -> Result<(bool, bool), LaunchError> {
    let mut fds = vec![PollFd::new(process, PollFlags::IN)];
    let oom = watch.fd();
    if let Some(oom) = &oom {
        fds.push(PollFd::new(oom, PollFlags::IN));
    }
    let limit = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(LaunchError::system("wait for events", e)),
    }
    let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    Ok((ready(fds.first()), ready(fds.get(1))))
}

fn event<'a>(kind: &'static str, state: &'a State, data: Option<Value>) -> Event<'a> {
    Event {
        r#type: kind,
        id: &state.id,
        data,
    }
}

fn stats(state: &State) -> Event<'_> {
    let mut data = measure(&state.cgroups);
    let pid = state.process.as_ref().map(|process| process.pid);
    data["network_interfaces"] = pid.map_or(Value::Null, interfaces);
    event("stats", state, Some(data))
}

/// The devices of the container's own network namespace (proc_pid_net(5), `dev`), but the
/// loopback; nothing when it has none of its own.
fn interfaces(pid: i32) -> Value {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = namespace(&pid.to_string());
    if own.is_none() || own == namespace("self") {
        return Value::Null;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let list: Vec<Value> = text.lines().filter_map(interface).collect();
    if list.is_empty() {
        Value::Null
    } else {
        list.into()
    }
}

fn interface(line: &str) -> Option<Value> {
    let (name, rest) = line.split_once(':')?;
    let name = name.trim();
    let n: Vec<u64> = rest.split_whitespace().flat_map(str::parse).collect();
    if name == "lo" || n.len() < 12 {
        return None;
    }
    Some(json!({
        "Name": name,
        "RxBytes": n[0], "RxPackets": n[1], "RxErrors": n[2], "RxDropped": n[3],
        "TxBytes": n[8], "TxPackets": n[9], "TxErrors": n[10], "TxDropped": n[11],
    }))
}

/// Writes a line; `false` when the reader went away.
fn tell(event: &Event<'_>) -> Result<bool, Failure> {
    let text = serde_json::to_string(event)
        .map_err(|e| LaunchError::system("write JSON", std::io::Error::from(e)))?;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(LaunchError::system("write to standard output", e).into()),
    }
}

/// A time as programs in Go write it: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    // No clock goes on for longer than that.
    let most = Duration::from_secs(100 * 365 * 24 * 3600);
    (total > Duration::ZERO && total <= most).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_go() {
        for (text, milliseconds) in [
            ("5s", Some(5000)),
            ("100ms", Some(100)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("0s", None),
            ("5000000000000000h", None),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("s", None),
            ("5x", None),
        ] {
            assert_eq!(
                duration(text),
                milliseconds.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn devices_are_counted() {
        let line = "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0";
        let found = interface(line).unwrap();
        assert_eq!(
            (&found["Name"], &found["RxDropped"]),
            (&json!("eth0"), &json!(4))
        );
        assert_eq!(
            (&found["TxBytes"], &found["TxDropped"]),
            (&json!(5), &json!(8))
        );
        assert!(interface("lo: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0").is_none());
        assert!(interface(" face |bytes    packets errs").is_none());
    }
}
