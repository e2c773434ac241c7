//! `update`: changes the limits of a running container.

use std::io::Read;
use std::path::Path;

use lexopt::{Parser, ValueExt};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use crate::cgroup::Layout;
use crate::cgroup::update::{self, UpdateRequest};
use crate::journal::Journal;
use crate::launch::LaunchError;
use crate::launch::exec::saved_bundle;
use crate::spec::{SpecError, spelling, strict};
use crate::state::{State, StateDir, Status};
use crate::verbs::pause::{cgroup_path, intents, members};
use crate::verbs::{Failure, Globals, Word, next, unexpected};
use crate::{ContainerId, Error, systemd};

/// The options that are one number of `LinuxResources`: name, section, key, and how it is read.
const NUMBERS: &[(&str, &str, &str, Kind)] = &[
    ("--blkio-weight", "blockIO", "weight", Kind::Number),
    ("--cpu-burst", "cpu", "burst", Kind::Number),
    ("--cpu-idle", "cpu", "idle", Kind::Signed),
    ("--cpu-period", "cpu", "period", Kind::Number),
    ("--cpu-quota", "cpu", "quota", Kind::Signed),
    ("--cpu-rt-period", "cpu", "realtimePeriod", Kind::Number),
    ("--cpu-rt-runtime", "cpu", "realtimeRuntime", Kind::Signed),
    ("--cpu-share", "cpu", "shares", Kind::Number),
    ("--cpuset-cpus", "cpu", "cpus", Kind::Text),
    ("--cpuset-mems", "cpu", "mems", Kind::Text),
    ("--kernel-memory", "memory", "kernel", Kind::Bytes),
    ("--kernel-memory-tcp", "memory", "kernelTCP", Kind::Bytes),
    ("--memory", "memory", "limit", Kind::Bytes),
    ("--memory-reservation", "memory", "reservation", Kind::Bytes),
    ("--memory-swap", "memory", "swap", Kind::Bytes),
    ("--pids-limit", "pids", "limit", Kind::Signed),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Number,
    Signed,
    Bytes,
    Text,
}

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut file = None;
    let mut given = json!({});
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) => match name.as_str() {
                "--resources" | "-r" => file = Some(parser.value()?.string()?),
                "--l3-cache-schema" | "--mem-bw-schema" => {
                    let text = format!("{name}: Intel RDT is not supported; leave it out");
                    if !parser.value()?.is_empty() {
                        return Err(Failure::Usage(text));
                    }
                }
                name => {
                    let known = NUMBERS.iter().find(|(option, ..)| *option == name);
                    let Some((option, section, key, kind)) = known else {
                        return Err(unexpected(&word));
                    };
                    let text = parser.value()?.string()?;
                    // Engines pass what they have, also nothing.
                    if !text.is_empty() {
                        given[section][key] = value(option, *kind, &text)?;
                    }
                }
            },
            Word::Value(value) if id.is_none() => id = Some(value.clone().string()?),
            _ => return Err(unexpected(&word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    if let Some(file) = file.filter(|file| !file.is_empty()) {
        given = load(&file)?;
    }
    warn(&given);
    let dir = StateDir::open(&globals.root, &ContainerId::new(&id)?)?;
    update_container(&dir, given)?;
    Ok(0)
}

/// Changes the limits of a container, and what is remembered of them.
fn update_container(dir: &StateDir, mut given: Value) -> Result<(), Error> {
    let state = dir.load()?;
    let status = state.as_ref().map_or(Status::Creating, State::status);
    let lives = !matches!(status, Status::Creating | Status::Stopped);
    let Some(mut state) = state.filter(|_| lives) else {
        return Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: status.to_string(),
            need: "only one that lives has limits to change",
        }
        .into());
    };
    let bundle = saved_bundle(dir, &state)?;
    let config = dir.path().join("config.json");
    let parse = |source| SpecError::Parse {
        path: config.clone(),
        source,
    };
    let mut spec: Value = serde_json::from_slice(&bundle.text).map_err(parse)?;
    let mut resources = spec["linux"]["resources"].take();
    if !resources.is_object() {
        resources = json!({});
    }
    spelling::resources(&mut resources);
    let old: LinuxResources = serde_json::from_value(resources.clone()).map_err(parse)?;
    update::merge(&mut resources, &mut given);
    let new: LinuxResources = strict(Path::new("resources"), resources.to_string().as_bytes())?;
    spec["linux"]["resources"] = resources;
    let text = serde_json::to_vec(&spec).map_err(parse)?;

    let path = cgroup_path(dir, &state, &bundle)?;
    let layout = Layout::of_this_process()?;
    let update = update::plan(
        &layout,
        &UpdateRequest {
            directories: &state.cgroups,
            path: &path,
            old: &old,
            new: &new,
            given: &given,
        },
    )?;
    let joined = state.cgroups.clone();
    if !update.missing().is_empty() {
        let mut journal = Journal::open(&dir.journal())?;
        for plan in update.missing() {
            journal.record_all(&intents(plan))?;
            state.cgroups.extend_from_slice(plan.directories());
        }
        dir.save(&state)?;
    }
    update.apply(|| match &state.process {
        Some(first) => members(first, &joined),
        None => Ok(Vec::new()),
    })?;
    if let Some(scope) = &state.scope {
        // systemd writes its properties again when it reloads. The old ones are not put back
        // should this fail: the next update says all of them once more.
        let v2 = matches!(layout, Layout::V2(_));
        let properties = systemd::scope::resource_properties(&new, v2)?;
        systemd::set_properties(&scope.unit, scope.user, &properties)?;
    }
    // `exec` and the next update begin with what holds now.
    dir.write("config.json", &text)?;
    Ok(())
}

/// Resources from a file, or from standard input.
fn load(file: &str) -> Result<Value, Failure> {
    let path = Path::new(file);
    let read = |source| SpecError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    if file == "-" {
        std::io::stdin().read_to_end(&mut text).map_err(read)?;
    } else {
        text = std::fs::read(path).map_err(read)?;
    }
    let parse = |source| SpecError::Parse {
        path: path.to_owned(),
        source,
    };
    let mut value: Value = serde_json::from_slice(&text).map_err(parse)?;
    spelling::resources(&mut value);
    // As strictly as a bundle, but limits of processes may be left out of `pids`.
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, section| !section.is_null() && *section != json!({}));
    }
    strict::<LinuxResources>(path, value.to_string().as_bytes())?;
    Ok(value)
}

/// What is accepted and does nothing.
fn warn(given: &Value) {
    let memory = &given["memory"];
    for key in ["kernel", "kernelTCP"] {
        if memory[key].as_i64().is_some_and(|value| value != 0) {
            eprintln!(
                "warning: memory.{key} is ignored: no kernel since Linux 5.16 has such a limit"
            );
        }
    }
}

fn value(option: &str, kind: Kind, text: &str) -> Result<Value, Failure> {
    let parsed = match kind {
        Kind::Text => Some(Value::from(text)),
        Kind::Number => text.parse::<u64>().ok().map(Value::from),
        Kind::Signed => text.parse::<i64>().ok().map(Value::from),
        Kind::Bytes => bytes(text).map(Value::from),
    };
    parsed.ok_or_else(|| {
        let form = match kind {
            Kind::Bytes => "a number of bytes such as 52428800 or 50M, or -1 for no limit",
            _ => "a number",
        };
        Failure::Usage(format!("{option} {text:?} is not {form}"))
    })
}

/// Bytes, with the units that runc takes: `k`, `m`, `g`, `t`, `p`, each a power of 1024, in either
/// case, with `b` or `iB` behind it if somebody likes; fractions are rounded down.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = ["ib", "b"]
        .iter()
        .find_map(|end| unit.strip_suffix(end))
        .unwrap_or(&unit);
    let power = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|u| *u == letter)?;
    let factor = 1i64.checked_shl(u32::try_from(10 * power).ok()?)?;
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    let fraction: f64 = number.parse().ok().filter(|n: &f64| n.is_finite())?;
    let bytes = fraction * factor as f64;
    #[allow(clippy::cast_possible_truncation)] // rounded down, and in range
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("67108864", Some(67_108_864)),
            ("50M", Some(50 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2KiB", Some(2048)),
            ("7 kb", Some(7168)),
            ("3b", Some(3)),
            ("", None),
            ("-2", None),
            ("5x", None),
            ("M", None),
            ("99999999P", None),
        ] {
            assert_eq!(bytes(text), want, "{text:?}");
        }
    }
}
