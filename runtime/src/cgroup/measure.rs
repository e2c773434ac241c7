//! What a container uses, in the form of runc's `events`: all that the control files of v1 and v2
//! tell. What a host does not count is left out or 0.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Nanoseconds of one clock tick: USER_HZ is 100 everywhere.
const TICK: u64 = 10_000_000;

/// Everything there is about the cgroups of one container (one directory per hierarchy).
pub fn measure(directories: &[PathBuf]) -> Value {
    let files = Files(directories);
    json!({
        "cpu": cpu(&files),
        "cpuset": cpuset(&files),
        "memory": memory(&files),
        "pids": pids(&files),
        "blkio": block_io(&files),
        "hugetlb": hugetlb(&files),
        "intel_rdt": {},
    })
}

/// How often the kernel's OOM killer struck in the container.
pub fn oom_kills(directories: &[PathBuf]) -> u64 {
    let files = Files(directories);
    let v2 = files.field("memory.events", "oom_kill");
    v2.or_else(|| files.field("memory.oom_control", "oom_kill"))
        .unwrap_or(0)
}

/// The control files, wherever they are.
struct Files<'a>(&'a [PathBuf]);

impl Files<'_> {
    fn text(&self, file: &str) -> Option<String> {
        let mut dirs = self.0.iter();
        dirs.find_map(|dir| fs::read_to_string(dir.join(file)).ok())
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// A number, or "max" as the largest number.
    fn limit(&self, file: &str) -> Option<u64> {
        let text = self.text(file)?;
        match text.trim() {
            "max" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    }

    fn list(&self, file: &str) -> Vec<u64> {
        let text = self.text(file).unwrap_or_default();
        text.split_whitespace().flat_map(str::parse).collect()
    }

    /// Of a file of keys and values; looks on where the key is missing, since `cpu.stat` of v1 and
    /// of v2 tell different things.
    fn field(&self, file: &str, key: &str) -> Option<u64> {
        self.0.iter().find_map(|dir| {
            let text = fs::read_to_string(dir.join(file)).ok()?;
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(' ')?;
                (name == key).then(|| value.trim().parse().ok()).flatten()
            })
        })
    }

    fn fields(&self, file: &str) -> Map<String, Value> {
        let text = self.text(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(' ')?;
                Some((name.to_owned(), value.trim().parse::<u64>().ok()?.into()))
            })
            .collect()
    }
}

fn cpu(files: &Files<'_>) -> Value {
    let mut usage = Map::new();
    let microseconds = |key| files.field("cpu.stat", key).map(|us| us * 1000);
    let ticks = |key| files.field("cpuacct.stat", key).map(|ticks| ticks * TICK);
    let total = files.number("cpuacct.usage");
    let (user, kernel) = if total.is_some() {
        (ticks("user"), ticks("system"))
    } else {
        (microseconds("user_usec"), microseconds("system_usec"))
    };
    let total = total.or_else(|| microseconds("usage_usec"));
    usage.insert("total".into(), total.unwrap_or(0).into());
    usage.insert("kernel".into(), kernel.unwrap_or(0).into());
    usage.insert("user".into(), user.unwrap_or(0).into());
    let lists = [
        ("percpu", "cpuacct.usage_percpu"),
        ("percpu_kernel", "cpuacct.usage_percpu_sys"),
        ("percpu_user", "cpuacct.usage_percpu_user"),
    ];
    for (name, file) in lists {
        let list = files.list(file);
        if !list.is_empty() {
            usage.insert(name.into(), list.into());
        }
    }
    let stat = |key| files.field("cpu.stat", key);
    let throttled = stat("throttled_time").or_else(|| microseconds("throttled_usec"));
    let mut cpu = json!({
        "usage": usage,
        "throttling": {
            "periods": stat("nr_periods").unwrap_or(0),
            "throttledPeriods": stat("nr_throttled").unwrap_or(0),
            "throttledTime": throttled.unwrap_or(0),
        },
    });
    add_pressure(&mut cpu, files, "cpu.pressure");
    cpu
}

fn cpuset(files: &Files<'_>) -> Value {
    let mut set = Map::new();
    for (name, file) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
        let list = files.text(file).map(|text| numbers(&text));
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            set.insert(name.into(), list.into());
        }
    }
    for name in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
    ] {
        let value = files.number(&format!("cpuset.{name}")).unwrap_or(0);
        set.insert(name.into(), value.into());
    }
    let level = files.text("cpuset.sched_relax_domain_level");
    let level = level.and_then(|text| text.trim().parse::<i64>().ok());
    let name = "sched_relax_domain_level".to_owned();
    set.insert(name, level.unwrap_or(0).into());
    set.into()
}

/// A list such as `0-2,5`.
fn numbers(list: &str) -> Vec<u16> {
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        })
        .flatten()
        .collect()
}

fn memory(files: &Files<'_>) -> Value {
    if files.number("memory.current").is_some() {
        return memory_v2(files);
    }
    let entry = |infix: &str| {
        let number = |file: &str| files.number(&format!("memory.{infix}{file}")).unwrap_or(0);
        json!({
            "limit": number("limit_in_bytes"),
            "usage": number("usage_in_bytes"),
            "max": number("max_usage_in_bytes"),
            "failcnt": number("failcnt"),
        })
    };
    json!({
        "cache": files.field("memory.stat", "cache").unwrap_or(0),
        "usage": entry(""),
        "swap": entry("memsw."),
        "kernel": entry("kmem."),
        "kernelTCP": entry("kmem.tcp."),
        "raw": files.fields("memory.stat"),
    })
}

/// As in runc the entry for swap is memory and swap together, what it is on v1.
fn memory_v2(files: &Files<'_>) -> Value {
    let usage = files.number("memory.current").unwrap_or(0);
    let limit = files.limit("memory.max").unwrap_or(u64::MAX);
    let swap = files.number("memory.swap.current").unwrap_or(0);
    let swap_limit = files.limit("memory.swap.max").unwrap_or(0);
    let kernel = files.field("memory.stat", "kernel");
    let kernel = kernel.or_else(|| {
        let of = |key| files.field("memory.stat", key);
        Some(of("kernel_stack")? + of("slab")?)
    });
    let none = || json!({"limit": 0, "usage": 0, "max": 0, "failcnt": 0});
    let mut memory = json!({
        "cache": files.field("memory.stat", "file").unwrap_or(0),
        "usage": {
            "limit": limit,
            "usage": usage,
            "max": files.number("memory.peak").unwrap_or(0),
            "failcnt": files.field("memory.events", "max").unwrap_or(0),
        },
        "swap": {
            "limit": limit.saturating_add(swap_limit),
            "usage": usage + swap,
            "max": files.number("memory.swap.peak").unwrap_or(0),
            "failcnt": files.field("memory.swap.events", "fail").unwrap_or(0),
        },
        "kernel": none(),
        "kernelTCP": none(),
        "raw": files.fields("memory.stat"),
    });
    memory["kernel"]["usage"] = kernel.unwrap_or(0).into();
    add_pressure(&mut memory, files, "memory.pressure");
    memory
}

/// No limit is told as 0.
fn pids(files: &Files<'_>) -> Value {
    json!({
        "current": files.number("pids.current").unwrap_or(0),
        "limit": files.number("pids.max").unwrap_or(0),
    })
}

fn block_io(files: &Files<'_>) -> Value {
    let mut io = Map::new();
    if let Some(text) = files.text("io.stat") {
        let (bytes, operations) = io_stat(&text);
        io.insert("ioServiceBytesRecursive".into(), bytes.into());
        io.insert("ioServicedRecursive".into(), operations.into());
    }
    let stem = |file: &str| {
        let names = [
            format!("blkio.bfq.{file}_recursive"),
            format!("blkio.{file}_recursive"),
            format!("blkio.throttle.{file}_recursive"),
            format!("blkio.throttle.{file}"),
        ];
        let text = names.iter().find_map(|name| {
            let entries = entries(&files.text(name)?);
            (!entries.is_empty()).then_some(entries)
        });
        text.unwrap_or_default()
    };
    for (name, file) in [
        ("ioServiceBytesRecursive", "io_service_bytes"),
        ("ioServicedRecursive", "io_serviced"),
        ("ioQueueRecursive", "io_queued"),
        ("ioServiceTimeRecursive", "io_service_time"),
        ("ioWaitTimeRecursive", "io_wait_time"),
        ("ioMergedRecursive", "io_merged"),
        ("ioTimeRecursive", "time"),
        ("sectorsRecursive", "sectors"),
    ] {
        let found = stem(file);
        if !found.is_empty() {
            io.insert(name.into(), found.into());
        }
    }
    let mut io = Value::from(io);
    add_pressure(&mut io, files, "io.pressure");
    io
}

/// A line of v1: `8:0 Read 5`, or without the word.
fn entries(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let (first, second) = (words.next()?, words.next());
            let (op, value) = second.map_or(("", first), |value| (first, value));
            entry(major, minor, op, value)
        })
        .collect()
}

fn entry(major: &str, minor: &str, op: &str, value: &str) -> Option<Value> {
    Some(json!({
        "major": major.parse::<u64>().ok()?,
        "minor": minor.parse::<u64>().ok()?,
        "op": op,
        "value": value.parse::<u64>().ok()?,
    }))
}

/// A line of v2: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`. Bytes and operations.
fn io_stat(text: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.extend(entry(major, minor, op, value));
        }
    }
    (bytes, operations)
}

fn hugetlb(files: &Files<'_>) -> Value {
    let mut all = Map::new();
    for dir in files.0 {
        for size in page_sizes(dir) {
            let number = |names: [&str; 2]| {
                let names = names.map(|name| format!("hugetlb.{size}.{name}"));
                names
                    .iter()
                    .find_map(|name| files.number(name))
                    .unwrap_or(0)
            };
            let failures = files.field(&format!("hugetlb.{size}.events"), "max");
            let entry = json!({
                "usage": number(["usage_in_bytes", "current"]),
                "max": number(["max_usage_in_bytes", "peak"]),
                "failcnt": failures.unwrap_or_else(|| number(["failcnt", "failcnt"])),
            });
            all.insert(size, entry);
        }
    }
    all.into()
}

/// The sizes that have control files: `hugetlb.2MB.current` or `.usage_in_bytes`.
fn page_sizes(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("hugetlb.")?;
            let size = ["current", "usage_in_bytes"].iter();
            let mut size = size.filter_map(|end| rest.strip_suffix(end)?.strip_suffix('.'));
            // Not the `.rsvd` ones.
            size.next().filter(|s| !s.contains('.')).map(str::to_owned)
        })
        .collect()
}

/// Pressure stall information (kernel documentation, accounting/psi).
fn add_pressure(to: &mut Value, files: &Files<'_>, file: &str) {
    let Some(text) = files.text(file) else {
        return;
    };
    let psi = pressure(&text);
    if !psi.is_empty() {
        to["psi"] = psi.into();
    }
}

fn pressure(text: &str) -> Map<String, Value> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let values: Map<String, Value> = words
                .filter_map(|word| {
                    let (key, value) = word.split_once('=')?;
                    let value = match key {
                        "total" => Value::from(value.parse::<u64>().ok()?),
                        _ => Value::from(value.parse::<f64>().ok()?),
                    };
                    Some((key.to_owned(), value))
                })
                .collect();
            Some((name, values.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn v2_is_measured() {
        let dir = tree(&[
            (
                "cpu.stat",
                "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nnr_throttled 1\nthrottled_usec 5\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=99\n",
            ),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "5\n"),
            ("memory.stat", "anon 1\nfile 60\n"),
            ("memory.events", "low 0\nmax 3\noom 2\noom_kill 1\n"),
            ("pids.current", "4\n"),
            ("pids.max", "max\n"),
            (
                "io.stat",
                "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
            ),
            ("hugetlb.2MB.current", "8\n"),
            ("hugetlb.2MB.rsvd.current", "9\n"),
            ("hugetlb.2MB.events", "max 6\n"),
        ]);
        let dirs = [dir.path().to_owned()];
        let found = measure(&dirs);
        assert_eq!(
            found["cpu"]["usage"],
            json!({"total": 7000, "user": 4000, "kernel": 3000})
        );
        assert_eq!(found["cpu"]["throttling"]["throttledTime"], 5000);
        assert_eq!(
            found["cpu"]["psi"]["some"],
            json!({"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 99})
        );
        assert_eq!(found["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(found["memory"]["swap"]["usage"], 105);
        assert_eq!(found["memory"]["cache"], 60);
        assert_eq!(found["memory"]["usage"]["failcnt"], 3);
        assert_eq!(found["pids"], json!({"current": 4, "limit": 0}));
        let io = &found["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(
            io[1],
            json!({"major": 8, "minor": 0, "op": "Write", "value": 2})
        );
        assert_eq!(
            found["hugetlb"],
            json!({"2MB": {"usage": 8, "max": 0, "failcnt": 6}})
        );
        assert_eq!(oom_kills(&dirs), 1);
    }

    #[test]
    fn v1_is_measured() {
        let cpu = tree(&[
            ("cpuacct.usage", "900\n"),
            ("cpuacct.stat", "user 2\nsystem 1\n"),
            ("cpuacct.usage_percpu", "400 500 \n"),
            (
                "cpu.stat",
                "nr_periods 5\nnr_throttled 4\nthrottled_time 3\n",
            ),
        ]);
        let memory = tree(&[
            ("memory.usage_in_bytes", "10\n"),
            ("memory.limit_in_bytes", "20\n"),
            ("memory.memsw.limit_in_bytes", "30\n"),
            ("memory.stat", "cache 4\nrss 5\n"),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
        ]);
        let rest = tree(&[
            (
                "blkio.throttle.io_serviced",
                "8:0 Read 5\n8:0 Total 5\nTotal 5\n",
            ),
            ("cpuset.cpus", "0-2,5\n"),
            ("hugetlb.1GB.usage_in_bytes", "1\n"),
        ]);
        let dirs = [&cpu, &memory, &rest].map(|dir| dir.path().to_owned());
        let found = measure(&dirs);
        let usage =
            json!({"total": 900, "user": 20_000_000, "kernel": 10_000_000, "percpu": [400, 500]});
        assert_eq!(found["cpu"]["usage"], usage);
        assert_eq!(found["cpu"]["throttling"]["throttledTime"], 3);
        assert_eq!(found["memory"]["swap"]["limit"], 30);
        assert_eq!(found["memory"]["raw"], json!({"cache": 4, "rss": 5}));
        assert_eq!(
            found["blkio"]["ioServicedRecursive"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(found["cpuset"]["cpus"], json!([0, 1, 2, 5]));
        assert_eq!(found["hugetlb"]["1GB"]["usage"], 1);
        assert_eq!(oom_kills(&dirs), 2);
        // A container without any cgroup is measured, too.
        assert_eq!(measure(&[])["pids"], json!({"current": 0, "limit": 0}));
    }
}
