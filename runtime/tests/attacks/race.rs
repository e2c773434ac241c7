//! Races: somebody with access to the root tree, or to a directory that is shared with another
//! container, exchanges what lies there while the runtime mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rustix::fs::{RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::add_mount;
use crate::common::{Host, both, enter, put, stdout};

/// Launches in all, over the scenes, unless `METACTL_RACE_LAUNCHES` says how many.
const LAUNCHES: u64 = 10_000;

fn launches_wanted() -> u64 {
    let said = std::env::var("METACTL_RACE_LAUNCHES").ok();
    said.and_then(|n| n.parse().ok()).unwrap_or(LAUNCHES)
}

/// How many launch at the same time.
const LAUNCHERS: u64 = 3;

/// What no container may touch: names, inodes, sizes and times of a tree.
fn picture(dir: &Path) -> Vec<(PathBuf, u64, u32, u64, i64, i64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let m = fs::symlink_metadata(entry.path()).unwrap();
        all.push((
            entry.path(),
            m.ino(),
            m.mode(),
            m.dev(),
            m.ctime(),
            m.ctime_nsec(),
        ));
        if m.is_dir() {
            all.extend(picture(&entry.path()));
        }
    }
    all.sort();
    all
}

/// A directory in which `here` and `there` are exchanged all the time.
struct Swap {
    dir: PathBuf,
    here: &'static str,
    there: &'static str,
}

/// Exchanges until told to stop. How often it did.
fn exchange(swaps: &[Swap], stop: &AtomicBool, count: &AtomicU64) {
    let dirs: Vec<_> = swaps
        .iter()
        .map(|swap| (fs::File::open(&swap.dir).unwrap(), swap))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for (dir, swap) in &dirs {
            renameat_with(dir, swap.here, dir, swap.there, RenameFlags::EXCHANGE).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A small container, quick to launch, that counts its mounts.
fn config(host: &Host, id: &str) -> Value {
    let mut config = host.config(id, "");
    config["process"]["args"] = json!(["wc", "-l", "/proc/self/mountinfo"]);
    config["root"]["readonly"] = json!(false);
    config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}]);
    config.as_object_mut().unwrap().remove("hostname");
    let linux = config["linux"].as_object_mut().unwrap();
    for needless in [
        "seccomp",
        "resources",
        "cgroupsPath",
        "maskedPaths",
        "readonlyPaths",
    ] {
        linux.remove(needless);
    }
    config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "options": ["mode=755", "size=64k"]},
    ]);
    config
}

/// The root, procfs and /dev.
const MOUNTS: usize = 3;

/// A scene: what is added to the configuration, and how many mounts that makes.
type Scene = (&'static str, fn(&Host, &mut Value), usize);

fn bind(to: &str, from: PathBuf) -> Value {
    json!({"destination": to, "source": from, "options": ["bind"]})
}

fn tmpfs(to: &str) -> Value {
    json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]})
}

const SCENES: &[Scene] = &[
    (
        "mounts in the root tree",
        |_, c| add_mount(c, tmpfs("/swap/here")),
        1,
    ),
    (
        "mounts below it that are made",
        |_, c| add_mount(c, tmpfs("/swap/here/made/deep")),
        1,
    ),
    (
        "files that are made",
        |h, c| add_mount(c, bind("/swap/here/made-file", h.path("file"))),
        1,
    ),
    (
        "mounts by a relative link",
        |_, c| add_mount(c, tmpfs("/relative/here/made/deep")),
        1,
    ),
    (
        "mounts in a shared directory",
        |h, c| {
            add_mount(c, bind("/vol", h.path("share")));
            add_mount(c, tmpfs("/vol/here/made/deep"));
            add_mount(c, bind("/vol/here/made-file", h.path("file")));
        },
        3,
    ),
    (
        "masks and read-only paths",
        |_, c| {
            c["linux"]["maskedPaths"] = json!(["/swap/here/secret", "/relative/here/secret"]);
            c["linux"]["readonlyPaths"] = json!(["/swap/here/keep"]);
        },
        3,
    ),
    (
        "devices",
        |_, c| {
            c["linux"]["devices"] =
                json!([{"path": "/swap/here/null", "type": "c", "major": 1, "minor": 3}]);
        },
        0,
    ),
    (
        "the working directory",
        |_, c| c["process"]["cwd"] = json!("/swap/here/task/here"),
        0,
    ),
];

/// The trees of the attack: `here` is a directory, `there` a symlink to the outside.
fn scenery(host: &Host) -> (PathBuf, Vec<Swap>) {
    let outside = host.path("outside");
    for name in ["secret", "keep/file"] {
        put(&outside.join(name), "host");
    }
    put(&host.path("file"), "file");
    let absolute = outside.clone();
    // As many levels as lead to the top from anywhere, and down again.
    let relative = PathBuf::from(format!("{}{}", "../".repeat(12), outside.display()));
    let mut swaps = Vec::new();
    for (dir, link) in [
        ("rootfs/swap", &absolute),
        ("rootfs/relative", &relative),
        ("share", &absolute),
    ] {
        let dir = host.path(dir);
        put(&dir.join("here/secret"), "inside");
        put(&dir.join("here/keep/file"), "inside");
        symlink(link, dir.join("there")).unwrap();
        swaps.push(Swap {
            dir,
            here: "here",
            there: "there",
        });
    }
    fs::create_dir_all(host.path("rootfs/vol")).unwrap();
    (outside, swaps)
}

/// CVE-2021-30465, CVE-2024-45310, and CVE-2026-41579 as races: 10,000 launches while mount points
/// and symlinks to the outside are exchanged in the root tree and in a directory that another
/// container shares. Nothing outside is mounted upon, created or changed. That a mount came to lie
/// outside would show inside: there it would be missing.
#[test]
fn slow_exchanging_symlinks_during_mounts_wins_nothing() {
    let Some(host) = enter() else { return };
    let (outside, swaps) = scenery(&host);
    let wanted = launches_wanted();
    let before = picture(&outside);
    let (stop, exchanges) = (AtomicBool::new(false), AtomicU64::new(0));
    let (launches, won) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| exchange(&swaps, &stop, &exchanges));
        let launchers: Vec<_> = (0..LAUNCHERS)
            .map(|launcher| {
                let (host, outside, before) = (&host, &outside, &before);
                let (launches, won) = (&launches, &won);
                scope.spawn(move || {
                    loop {
                        let round = launches.fetch_add(1, Ordering::Relaxed);
                        if round >= wanted {
                            return;
                        }
                        let (what, change, more) = SCENES[(round as usize) % SCENES.len()];
                        let id = format!("race-{launcher}");
                        let mut config = config(host, &id);
                        change(host, &mut config);
                        let output = host.run(&id, &config);
                        if output.status.success() {
                            won.fetch_add(1, Ordering::Relaxed);
                            let want = format!("{} /proc/self/mountinfo\n", MOUNTS + more);
                            // What a mask would cover may be a dangling link at that moment.
                            let fewer = what.starts_with("masks");
                            assert!(
                                stdout(&output) == want || fewer,
                                "{round} {what}: {}",
                                both(&output)
                            );
                        } else {
                            assert_eq!(output.status.code(), Some(1), "{what}: {}", both(&output));
                        }
                        assert_eq!(
                            &picture(outside),
                            before,
                            "{round} {what}: {}",
                            both(&output)
                        );
                    }
                })
            })
            .collect();
        let ended: Vec<_> = launchers.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        attacker.join().unwrap();
        for result in ended {
            result.unwrap();
        }
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("outside"), "{mounts}");
    let (exchanges, won) = (exchanges.into_inner(), won.into_inner());
    println!(
        "{wanted} launches ({won} went on, {} were refused) during {exchanges} exchanges, in {:.0?}",
        wanted - won,
        begun.elapsed()
    );
    // Both outcomes must have been seen, or nobody raced.
    assert!(won > wanted / 20 && wanted - won > wanted / 50, "{won}");
    assert!(exchanges > wanted, "{exchanges}");
    host.assert_clean();
}
