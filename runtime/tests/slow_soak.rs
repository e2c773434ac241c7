//! Thousands of containers, eight at a time: nothing fails, hangs or is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Host, enter};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

const AT_A_TIME: usize = 8;
const CYCLES: usize = 2_000;
const RUNS: usize = 10_000;

/// A share of that for a quick look: `METACTL_SOAK=10` does a tenth.
fn share(of: usize) -> usize {
    let said = std::env::var("METACTL_SOAK").ok();
    of / said.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// How long one command may take before it counts as hanging, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a command, but not for ever.
fn ended(mut child: Child, what: &str) -> Option<i32> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: hangs");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// A command whose errors are kept in a file: a pipe would be held open by the container.
fn must(mut command: Command, log: &Path, what: &str) {
    let errors = fs::File::create(log).unwrap();
    command.stdout(Stdio::null()).stderr(errors);
    let code = ended(command.spawn().unwrap(), what);
    let said = || fs::read_to_string(log).unwrap();
    assert_eq!(code, Some(0), "{what}: {}", said());
}

/// What a leak would change: counted, by name.
fn counts(host: &Host) -> BTreeMap<&'static str, usize> {
    let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    let lines = |path: &str| fs::read_to_string(path).unwrap().lines().count();
    let namespaces = |kind: &str| {
        let mut all: Vec<_> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path().join("ns").join(kind)).ok())
            .collect();
        all.sort();
        all.dedup();
        all.len()
    };
    let entries_here = fs::read_dir(host.path("")).unwrap().flatten();
    let is_log = |name: std::ffi::OsString| name.to_string_lossy().starts_with("log-");
    let files = entries_here
        .filter(|entry| !is_log(entry.file_name()))
        .count();
    BTreeMap::from([
        ("descriptors of the test", entries("/proc/self/fd")),
        ("mounts", lines("/proc/self/mountinfo")),
        ("interfaces", lines("/proc/net/dev")),
        ("network namespaces", namespaces("net")),
        ("mount namespaces", namespaces("mnt")),
        ("cgroup directories", host.cgroups().len()),
        (
            "containers",
            fs::read_dir(host.root()).map_or(0, Iterator::count),
        ),
        ("files", files),
    ])
}

/// Eight workers take numbers from one counter. A failure of one stops all.
fn in_parallel(total: usize, work: impl Fn(usize, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|worker| {
                let (next, work) = (&next, &work);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= total {
                            return;
                        }
                        work(worker, number);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let result = worker.join();
                if result.is_err() {
                    next.store(total, Ordering::Relaxed);
                }
                result
            })
            .collect();
        for result in ended {
            result.unwrap();
        }
    });
}

fn config(host: &Host, id: &str, args: &Value) -> Value {
    let mut config = host.config(id, "");
    config["process"]["args"] = args.clone();
    config
}

/// 2,000 containers are created, started and deleted, eight at a time; a third of them while they
/// still run.
#[test]
fn slow_cycles_leak_nothing() {
    let Some(host) = enter() else { return };
    fs::create_dir_all(host.root()).unwrap();
    // The directory of the test's cgroups is shared by all; whoever comes first makes it.
    let bundles = |worker: usize, lives: bool| {
        let args = if lives {
            json!(["sleep", "1000"])
        } else {
            json!(["true"])
        };
        // A directory of its own, and a cgroup of its own.
        let id = format!("w{worker}");
        host.bundle(&format!("{id}-{lives}"), &config(&host, &id, &args))
    };
    for worker in 0..AT_A_TIME {
        bundles(worker, true);
        bundles(worker, false);
    }
    let before = counts(&host);
    let begun = Instant::now();
    in_parallel(share(CYCLES), |worker, number| {
        let lives = number % 3 == 0;
        let id = format!("c{number}");
        let what = |verb: &str| format!("{verb} {number}");
        let pid_file = host.path(&format!("pid-{worker}"));
        let log = host.path(&format!("log-{worker}"));
        let mut create = host.runtime(&["create", "--bundle"]);
        create.arg(host.path(&format!("bundle-w{worker}-{lives}")));
        create.arg("--pid-file").arg(&pid_file).arg(&id);
        must(create, &log, &what("create"));
        must(host.runtime(&["start", &id]), &log, &what("start"));
        let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        let wait = || waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
        if !lives {
            let (_, status) = wait().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{}", what("true"));
            must(host.runtime(&["delete", &id]), &log, &what("delete"));
        } else {
            must(
                host.runtime(&["delete", "--force", &id]),
                &log,
                &what("delete"),
            );
            wait();
        }
        fs::remove_file(&pid_file).unwrap();
    });
    println!("{} cycles in {:.1?}", share(CYCLES), begun.elapsed());
    assert_eq!(counts(&host), before);
    host.assert_clean();
}

/// 10,000 runs of a process that ends at once, eight at a time: none hangs, and each gives the
/// exit code of its process.
#[test]
fn slow_processes_that_end_at_once_hang_nothing() {
    let Some(host) = enter() else { return };
    fs::create_dir_all(host.root()).unwrap();
    let codes = [0, 1, 7, 126, 127, 255];
    for worker in 0..AT_A_TIME {
        for code in codes {
            let args = match code {
                0 => json!(["true"]),
                1 => json!(["false"]),
                code => json!(["sh", "-c", format!("exit {code}")]),
            };
            let id = format!("w{worker}");
            host.bundle(&format!("{id}-{code}"), &config(&host, &id, &args));
        }
    }
    let before = counts(&host);
    let begun = Instant::now();
    let slowest = Mutex::new(Duration::ZERO);
    in_parallel(share(RUNS), |worker, number| {
        // Mostly those that are the quickest to end.
        let code = if number % 8 == 7 {
            codes[2 + number / 8 % 4]
        } else {
            number as i32 % 2
        };
        let mut run = host.runtime(&["run", "--bundle"]);
        run.arg(host.path(&format!("bundle-w{worker}-{code}")))
            .arg(format!("r{number}"));
        run.stdout(Stdio::null());
        let begun = Instant::now();
        let got = ended(run.spawn().unwrap(), &format!("run {number}"));
        assert_eq!(got, Some(code), "run {number}");
        let mut slowest = slowest.lock().unwrap();
        *slowest = begun.elapsed().max(*slowest);
    });
    let slowest = slowest.into_inner().unwrap();
    println!(
        "{} runs in {:.1?}, the slowest {slowest:.1?}",
        share(RUNS),
        begun.elapsed()
    );
    assert_eq!(counts(&host), before);
    host.assert_clean();
}
