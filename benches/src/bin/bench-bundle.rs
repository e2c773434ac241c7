//! `bench-bundle DIRECTORY NOOP INSTANCE`: writes the bundle of an application that does nothing,
//! as metactl makes it, and variants of its config.json beside it for other runtimes:
//!
//! * `noop`: as metactl wrote it;
//! * `no-network`: no network namespace;
//! * `no-limits`: no network namespace and no cgroup limits (for v2 without controllers);
//! * `hook`, `batch`: a network that the scripts `hook.sh` and `batch.sh` in DIRECTORY set up.
//!
//! Prints the directory that holds the variants.

#![forbid(unsafe_code)]

use metactl_benches::sample;
use metactl_bundles::bundle;
use metactl_bundles::view::HostView;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, noop, instance] = words.as_slice() else {
        eprintln!("usage: bench-bundle DIRECTORY NOOP INSTANCE");
        return ExitCode::from(64);
    };
    match make(Path::new(directory), Path::new(noop), instance) {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bench-bundle: {message}");
            ExitCode::FAILURE
        }
    }
}

fn make(directory: &Path, noop: &Path, instance: &str) -> Result<PathBuf, String> {
    let release = directory.join("release");
    let state = directory.join("state");
    let io = |error: std::io::Error| error.to_string();
    for new in [&release, &state] {
        fs::create_dir_all(new).map_err(io)?;
    }
    fs::copy(noop, release.join("noop")).map_err(io)?;
    fs::set_permissions(release.join("noop"), fs::Permissions::from_mode(0o755)).map_err(io)?;

    let text = |report: metactl_bundles::diagnostics::Report| report.to_string();
    let config = sample::config().map_err(text)?;
    let app = sample::app(&config, instance).map_err(text)?;
    let place = sample::placement(instance, &state, &release);
    let host = HostView::gather(&app, &place);
    let composition = sample::compose(&app, &config, &place, &host)?;
    let written = bundle::write(&composition, &state).map_err(|error| error.to_string())?;

    let original = fs::read_to_string(written.dir.join("noop/config.json")).map_err(io)?;
    let original: Value = serde_json::from_str(&original).map_err(|error| error.to_string())?;
    let variant = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut config = original.clone();
        change(&mut config);
        let dir = written.dir.join(name);
        fs::create_dir_all(&dir).map_err(io)?;
        fs::write(dir.join("config.json"), config.to_string()).map_err(io)
    };
    variant("no-network", &without_network)?;
    variant("no-limits", &|config| {
        without_network(config);
        without_limits(config);
    })?;
    for script in ["hook", "batch"] {
        let path = directory.join(format!("{script}.sh"));
        variant(script, &|config| {
            config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", path]}]});
        })?;
    }
    Ok(written.dir)
}

fn without_network(config: &mut Value) {
    if let Some(namespaces) = config
        .pointer_mut("/linux/namespaces")
        .and_then(Value::as_array_mut)
    {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    if let Some(sysctl) = config
        .pointer_mut("/linux/sysctl")
        .and_then(Value::as_object_mut)
    {
        sysctl.retain(|name, _| !name.starts_with("net."));
    }
}

fn without_limits(config: &mut Value) {
    if let Some(linux) = config.pointer_mut("/linux").and_then(Value::as_object_mut) {
        linux.remove("resources");
    }
    if let Some(notes) = config
        .pointer_mut("/annotations")
        .and_then(Value::as_object_mut)
    {
        notes.remove("org.metactl.instance.resources");
    }
}
