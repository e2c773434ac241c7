//! Kernels that lack system calls: the runtime is run below a seccomp filter that answers for them.
//!
//! `METACTL_TEST_WITHOUT=NAME[:ERRNO],...` does that to every test of this crate. A name is a
//! system call, one of the groups below, or a kernel: `5.4` and `5.10` lack what those lack.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The environment variable that all tests heed.
pub const VARIABLE: &str = "METACTL_TEST_WITHOUT";

/// The mount API of Linux 5.2 and 5.12.
pub const MOUNT_API: &str = "open_tree,move_mount,fsopen,fsconfig,fsmount,fspick,mount_setattr";

const GROUPS: &[(&str, &str)] = &[
    ("mount-api", MOUNT_API),
    (
        "everything",
        "openat2,clone3,mount-api,close_range,setns-many:EINVAL",
    ),
    // Its clone3 refuses our flags with EINVAL, but not those of the C library's threads.
    (
        "5.4",
        "openat2,clone3,mount_setattr,close_range,setns-many:EINVAL",
    ),
    ("5.10", "mount_setattr"),
    // No pidfds.
    ("4.18", "everything,pidfd_open,pidfd_send_signal"),
];

/// Their numbers; from 424 on they are the same on every architecture.
const CALLS: &[(&str, i64)] = &[
    ("openat2", 437),
    ("clone3", 435),
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fspick", 433),
    ("pidfd_open", 434),
    ("pidfd_send_signal", 424),
    ("close_range", 436),
    ("mount_setattr", 442),
    // See without.c.
    ("setns-many", -1),
];

const ERRORS: &[(&str, i32)] = &[("ENOSYS", 38), ("EPERM", 1), ("EINVAL", 22), ("E2BIG", 7)];

/// A command of the runtime `program` on a kernel without `calls`.
pub fn command(program: &std::path::Path, calls: &str) -> Command {
    let mut command = Command::new(wrapper());
    command.arg(numbers(calls)).arg(program);
    command
}

/// Whether `call` is one of `calls`.
pub fn includes(calls: &str, call: &str) -> bool {
    let wanted = numbers(call);
    let (wanted, _) = wanted.split_once(':').unwrap();
    numbers(calls)
        .split(',')
        .any(|each| each.split_once(':').unwrap().0 == wanted)
}

fn numbers(calls: &str) -> String {
    let each = calls.split(',').map(|word| {
        if let Some((_, group)) = GROUPS.iter().find(|(name, _)| *name == word) {
            return numbers(group);
        }
        let (name, error) = word.split_once(':').unwrap_or((word, "ENOSYS"));
        let call = CALLS.iter().find(|(n, _)| *n == name);
        let error = ERRORS.iter().find(|(n, _)| *n == error);
        let (Some((_, number)), Some((_, error))) = (call, error) else {
            panic!("{VARIABLE}: what is {word:?}?");
        };
        format!("{number}:{error}")
    });
    each.collect::<Vec<_>>().join(",")
}

/// The program that sets the filter up, compiled once.
fn wrapper() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/without.c");
    let text = fs::read(source).unwrap();
    // Another text is another program: no stale one is ever run.
    let digest = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let place = dir.join(format!("without-{digest:x}"));
    if !place.exists() {
        let new = tempfile::NamedTempFile::new_in(dir)
            .unwrap()
            .into_temp_path();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let status = Command::new(compiler)
            .args(["-Wall", "-Werror", "-O1", "-o"])
            .arg(&new)
            .arg(source)
            .status()
            .unwrap();
        assert!(status.success(), "cannot compile {source}");
        new.persist(&place).unwrap();
    }
    place
}
