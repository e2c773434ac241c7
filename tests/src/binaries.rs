//! The binaries under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where `metactl` and `metactl-runtime` are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The command line.
    pub metactl: PathBuf,
    /// The launcher.
    pub runtime: PathBuf,
}

impl Binaries {
    /// Those that `METACTL_BIN` and `METACTL_RUNTIME_BIN` name, else those of the target directory
    /// that this test was built into, brought up to date first.
    pub fn get() -> Binaries {
        static BINARIES: OnceLock<Binaries> = OnceLock::new();
        BINARIES.get_or_init(find).clone()
    }
}

fn find() -> Binaries {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    if let (Some(metactl), Some(runtime)) = (named("METACTL_BIN"), named("METACTL_RUNTIME_BIN")) {
        for binary in [&metactl, &runtime] {
            assert!(binary.is_file(), "{} is not there", binary.display());
        }
        return Binaries { metactl, runtime };
    }
    // <target>/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().unwrap();
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test stands in <target>/<profile>/deps");
    build_once(profile);
    Binaries {
        metactl: profile.join("metactl"),
        runtime: profile.join("metactl-runtime"),
    }
}

/// Builds the binaries: `cargo nextest` and `cargo test` of this package alone do not. Every test
/// is a process of its own, so a stamp of the run keeps the others from asking cargo again.
fn build_once(profile: &Path) {
    let target = profile
        .parent()
        .expect("a profile stands in the target directory");
    let lock = File::create(target.join("metactl-tests.lock")).unwrap();
    lock.lock().unwrap();
    let stamp = target.join("metactl-tests.built");
    let run =
        std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("pid {}", std::process::id()));
    let run = format!("{run} {}", profile.display());
    if fs::read_to_string(&stamp).is_ok_and(|built| built == run) {
        return;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--bins",
        "-p",
        "metactl",
        "-p",
        "metactl-runtime",
    ]);
    cargo
        .arg("--target-dir")
        .arg(target)
        .current_dir(crate::apps::top());
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    let status = cargo.status().unwrap();
    assert!(
        status.success(),
        "cargo could not build metactl and metactl-runtime"
    );
    fs::write(&stamp, run).unwrap();
}
