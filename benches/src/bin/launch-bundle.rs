//! `launch-bundle DIRECTORY PROGRAM PAUSE`: makes the bundles of [`metactl_benches::standard`] in
//! DIRECTORY, with one root tree that holds the two static programs:
//!
//! * `plain`: PROGRAM, as `runc spec` has it; `seccomp`: with a filter as engines ask for;
//! * `pause`: PAUSE, a container to execute PROGRAM in;
//! * `filter.bpf`: the compiled filter.

#![forbid(unsafe_code)]

use metactl_benches::standard;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, program, pause] = words.as_slice() else {
        eprintln!("usage: launch-bundle DIRECTORY PROGRAM PAUSE");
        return ExitCode::from(64);
    };
    match make(Path::new(directory), Path::new(program), Path::new(pause)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("launch-bundle: {message}");
            ExitCode::FAILURE
        }
    }
}

fn make(directory: &Path, program: &Path, pause: &Path) -> Result<(), String> {
    let rootfs = directory.join("rootfs");
    // Mount points are there already, as in every image of an engine.
    for name in ["proc", "dev", "sys"] {
        let path = rootfs.join(name);
        fs::create_dir_all(&path).map_err(|error| wrong(&path, &error))?;
    }
    for (from, name) in [(program, "noop"), (pause, "pause")] {
        let to = rootfs.join(name);
        fs::copy(from, &to).map_err(|error| wrong(from, &error))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&to, mode).map_err(|error| wrong(&to, &error))?;
    }
    let seccomp = standard::seccomp()?;
    let plain = standard::config(&rootfs, "/noop");
    let mut filtered = plain.clone();
    filtered["linux"]["seccomp"] = seccomp.clone();
    for (name, config) in [
        ("plain", plain),
        ("seccomp", filtered),
        ("pause", standard::config(&rootfs, "/pause")),
    ] {
        let bundle = directory.join(name);
        fs::create_dir_all(&bundle).map_err(|error| wrong(&bundle, &error))?;
        write(&bundle.join("config.json"), config.to_string().as_bytes())?;
    }
    write(&directory.join("filter.bpf"), &standard::filter(&seccomp)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
