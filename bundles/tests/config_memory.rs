//! What hostile configuration costs, in bytes of memory and not in time, which a busy machine would
//! falsify: every allocation is counted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use metactl_bundles::layers::{self, Config, LayerKind, Request, Source};
use metactl_bundles::model;
use metactl_bundles::paths::Paths;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// How often memory was asked for: with the bytes, a measure of the work that was done.
static CALLS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the block came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counters are of the whole process: one measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1024 * 1024;

/// What a call needed: at most so many bytes at once more than before, in so many pieces.
#[derive(Debug)]
struct Cost {
    peak: usize,
    calls: usize,
}

fn measured<T>(call: impl FnOnce() -> T) -> (T, Cost) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, calls) = (NOW.load(Relaxed), CALLS.load(Relaxed));
    PEAK.store(before, Relaxed);
    let result = call();
    let cost = Cost {
        peak: PEAK.load(Relaxed).saturating_sub(before),
        calls: CALLS.load(Relaxed) - calls,
    };
    (result, cost)
}

fn source(text: &str) -> Source {
    Source::new(LayerKind::App, PathBuf::from(".metactl"), text.to_owned())
}

/// The cost of everything that is done with a layer, and whether it is right.
fn cost(text: &str) -> (bool, Cost) {
    assert!(text.len() <= MIB, "{} bytes would not be read", text.len());
    let (right, loaded) = measured(|| match model::load(vec![source(text)], "a") {
        Ok(_) => true,
        Err(report) => {
            let told = report.to_string();
            assert!(told.len() < MIB, "a report of {} bytes", told.len());
            false
        }
    });
    let (_, checked) = measured(|| Config::check(vec![source(text)]).is_ok());
    let worse = if checked.peak > loaded.peak {
        checked
    } else {
        loaded
    };
    (right, worse)
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[track_caller]
fn assert_below(what: &str, text: &str, times: usize) -> bool {
    let (right, cost) = cost(text);
    println!(
        "{what}: {} bytes, peak {}, {} calls",
        text.len(),
        cost.peak,
        cost.calls
    );
    assert!(
        cost.peak < times * text.len().max(4096),
        "{what}: {} bytes of text took {cost:?}",
        text.len()
    );
    right
}

#[test]
fn ten_megabytes_are_refused_without_being_read() {
    let root = tempfile::TempDir::new().unwrap();
    let paths = Paths::under(root.path());
    std::fs::create_dir_all(&paths.config).unwrap();
    for path in [root.path().join(".metactl"), paths.server_conf()] {
        // Only its length is there: reading it would find zeros.
        File::create(&path)
            .unwrap()
            .set_len(10 * MIB as u64)
            .unwrap();
        let request = Request {
            instance: "a",
            app_layer: Some(&path),
        };
        let (text, cost) = measured(|| layers::read(&paths, &request).unwrap_err().to_string());
        assert!(text.contains("larger than 1 MiB"), "{text}");
        assert!(cost.peak < 64 * 1024, "{cost:?}");
    }
}

#[test]
fn a_file_of_one_mebibyte_is_read_once() {
    let root = tempfile::TempDir::new().unwrap();
    let paths = Paths::under(root.path());
    let path = root.path().join(".metactl");
    std::fs::write(&path, vec![b'#'; MIB]).unwrap();
    let request = Request {
        instance: "a",
        app_layer: Some(&path),
    };
    let (sources, cost) = measured(|| layers::read(&paths, &request).unwrap());
    assert_eq!(sources[0].text.len(), MIB);
    // As it is read, and as all that is made of it shares it.
    assert!(cost.peak < 2 * MIB + 64 * 1024, "{cost:?}");
}

#[test]
fn a_line_of_a_megabyte_costs_a_few_times_its_length() {
    let x = "x".repeat(1_000_000);
    assert!(assert_below("a comment", &format!("# {x}\n"), 4));
    assert!(!assert_below("a value", &format!("[env]\nA = {x}\n"), 12));
    assert!(!assert_below("a key", &format!("[env]\n{x} = 1\n"), 6));
    assert!(!assert_below("a section", &format!("[{x}]\n"), 6));
    assert!(!assert_below("no key", &format!("[env]\n{x}\n"), 6));
    let words = "x ".repeat(500_000);
    assert_below("words", &format!("[daemon.a]\ncommand = {words}\n"), 60);
}

#[test]
fn a_hundred_thousand_sections_cost_what_they_hold() {
    assert!(!assert_below(
        "unknown",
        &repeated(100_000, |n| format!("[x{n}]\n")),
        400
    ));
    assert!(assert_below("the same", &"[env]\n".repeat(100_000), 6));
    assert!(!assert_below(
        "daemons",
        &repeated(20_000, |n| format!("[daemon.d{n}]\n")),
        200
    ));
    assert!(assert_below(
        "keys",
        &format!("[env]\n{}", repeated(20_000, |n| format!("A{n}=1\n"))),
        200
    ));
    assert!(assert_below("comments", &"#\n".repeat(500_000), 20));
    let entries = repeated(10_000, |n| format!("e{n} = h{n}:1\n"));
    assert!(assert_below(
        "entries",
        &format!("[firewall.out.accept]\n{entries}"),
        200
    ));
}

#[test]
fn what_is_for_all_daemons_is_not_multiplied_without_bound() {
    let daemons = repeated(5_000, |n| format!("[daemon.d{n}]\n"));
    let long = "x".repeat(400_000);
    let text = format!("{daemons}[daemon.*]\ncommand = {long}\n");
    assert!(!assert_below("a long value for all", &text, 200));
    let many = "restart = never\nport = 1\ncommand = x\nstop.timeout = 1s\nlimits.files = 9\nlimits.pids = 7\n\
                platform = exec\nlimits.memory = 1m\nlimits.cpu = 1\nstop.signal = 1\njvm.home = /x\n";
    let text = format!("{daemons}[daemon.*]\n{many}");
    assert!(!assert_below("many values for all", &text, 400));
    let unset = "unset restart\nunset port\nunset command\nunset stop.timeout\nunset *\n";
    assert_below(
        "nothing for all",
        &format!("{daemons}[daemon.*]\n{unset}"),
        400,
    );
}

#[test]
fn names_in_names_stay_below_what_all_values_may_be() {
    // 16 MiB of text, which is also kept as it may be printed, and what the keys cost themselves.
    let bound = 160 * MIB;
    let mut bomb = String::from("[env]\nA0 = 0123456789\n");
    for n in 1..400 {
        let _ = writeln!(bomb, "A{n} = %(A{0})%(A{0})%(A{0})%(A{0})", n - 1);
    }
    let long = format!(
        "[env]\nB = {}\n{}",
        "x".repeat(100_000),
        repeated(5_000, |n| format!("A{n} = %(B)\n"))
    );
    let wide = format!(
        "[env]\nB = {}\nC = {}\n",
        "x".repeat(1000),
        "%(B)".repeat(50_000)
    );
    let deep: String = repeated(5_000, |n| format!("A{n} = %(A{})\n", n + 1));
    let missing = format!(
        "[env]\nB = {}\n{}",
        repeated(4_000, |n| format!("%(X{n})")),
        repeated(3_000, |n| format!("A{n} = %(B)\n"))
    );
    let accept = format!(
        "[env]\nB = {}\n[firewall.out.accept]\n{}",
        "h:1 ".repeat(20_000),
        repeated(3_000, |n| format!("A{n} = %(B)\n"))
    );
    let words = format!(
        "[env]\nB = {}\n{}",
        "y".repeat(60_000),
        repeated(2_000, |n| format!("[daemon.d{n}]\ncommand = x %(B) %(B)\n"))
    );
    for (what, text) in [
        ("a bomb", bomb),
        ("long", long),
        ("wide", wide),
        ("deep", format!("[env]\n{deep}")),
        ("missing", missing),
        ("accept", accept),
        ("words", words),
    ] {
        let (right, cost) = cost(&text);
        println!(
            "{what}: {} bytes, peak {}, {} calls",
            text.len(),
            cost.peak,
            cost.calls
        );
        assert!(!right, "{what}");
        assert!(cost.peak < bound, "{what}: {cost:?}");
        assert!(cost.calls < 6_000_000, "{what}: {cost:?}");
    }
}
