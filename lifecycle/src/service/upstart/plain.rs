//! The command of an entry point without its sandbox: what its config.json has the sandbox start, for the server
//! itself. Pure.
//!
//! In a sandbox the release is at `/app`, the data at `/data`; on the server they are elsewhere. So each of these
//! paths is replaced, where it stands as a path of its own, by the one that config.json mounts there.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// What is the same, or of the sandbox alone.
const OF_THE_SERVER: [&str; 9] = [
    "/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr",
];

/// What Upstart starts, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) args: Vec<String>,
    /// `NAME=value`.
    pub(super) env: Vec<String>,
    pub(super) dir: PathBuf,
    /// The most open files.
    pub(super) files: Option<u64>,
    /// umask(2).
    pub(super) umask: Option<u32>,
}

impl Plain {
    /// Reads a config.json (OCI runtime specification, "Configuration").
    pub(super) fn of(config: &Value) -> Option<Plain> {
        let process = config.get("process")?;
        let moved = moved(config);
        let texts = |key: &str| -> Option<Vec<String>> {
            let texts = process.get(key)?.as_array()?.iter();
            texts
                .map(|text| Some(on_server(text.as_str()?, &moved)))
                .collect()
        };
        let limits = process.get("rlimits").and_then(Value::as_array);
        let files = limits.into_iter().flatten().find_map(|limit| {
            (limit.get("type")? == "RLIMIT_NOFILE").then(|| limit.get("soft")?.as_u64())?
        });
        let umask = process.pointer("/user/umask").and_then(Value::as_u64);
        Some(Plain {
            args: texts("args").filter(|args| !args.is_empty())?,
            env: texts("env")?,
            dir: on_server(process.get("cwd")?.as_str()?, &moved).into(),
            files,
            umask: umask.and_then(|mask| u32::try_from(mask).ok()),
        })
    }
}

/// The paths of the sandbox that are others on the server, and these; the longest first.
fn moved(config: &Value) -> Vec<(String, String)> {
    let mounts = config.get("mounts").and_then(Value::as_array);
    let mut moved: Vec<(String, String)> = mounts
        .into_iter()
        .flatten()
        .filter(|mount| mount.get("type").is_some_and(|kind| kind == "bind"))
        .filter_map(|mount| {
            let inside = mount.get("destination")?.as_str()?;
            let source = mount.get("source")?.as_str()?;
            let own = OF_THE_SERVER
                .iter()
                .any(|dir| Path::new(inside).starts_with(dir));
            (!own && inside != source).then(|| (inside.to_owned(), source.to_owned()))
        })
        .collect();
    moved.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
    moved
}

/// Replaces paths of the sandbox in a word: `/app/x`, `-Dhome=/app`, `a:/app/lib`, but not `http://host/app` or `/apple`.
fn on_server(text: &str, moved: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some(c) = rest.chars().next() {
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && !"/._-~%+".contains(c));
        let ends = |tail: &str| {
            let next = tail.chars().next();
            next.is_none_or(|c| c == '/' || (!c.is_alphanumeric() && !"._-~%+".contains(c)))
        };
        let found = moved.iter().find_map(|(inside, source)| {
            let tail = rest.strip_prefix(inside.as_str())?;
            (begins && ends(tail)).then_some((tail, source))
        });
        match found {
            Some((tail, source)) => {
                out.push_str(source);
                before = source.chars().last();
                rest = tail;
            }
            None => {
                out.push(c);
                before = Some(c);
                let mut chars = rest.chars();
                chars.next();
                rest = chars.as_str();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_the_sandbox_become_those_of_the_server() {
        let config = json!({
            "process": {
                "args": ["/usr/bin/java", "-Djetty.base=/app/base", "-cp", "/app/a.jar:/app/lib/*", "http://h/app", "/apple", "it's"],
                "env": ["METACTL_APP_DIR=/app", "HOME=/data", "X=%/tmp y"],
                "cwd": "/app",
                "user": {"uid": 7, "gid": 7, "umask": 18},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 8}],
            },
            "mounts": [
                {"destination": "/app", "type": "bind", "source": "/var/lib/metactl/s/releases/1"},
                {"destination": "/data", "type": "bind", "source": "/var/lib/metactl/s/data"},
                {"destination": "/tmp", "type": "bind", "source": "/var/lib/metactl/s/tmp/web"},
                {"destination": "/usr", "type": "bind", "source": "/usr"},
                {"destination": "/etc/passwd", "type": "bind", "source": "/var/lib/metactl/s/etc/passwd"},
                {"destination": "/proc", "type": "proc", "source": "proc"},
            ],
        });
        let plain = Plain::of(&config).unwrap();
        let release = "/var/lib/metactl/s/releases/1";
        assert_eq!(
            plain.args,
            [
                "/usr/bin/java",
                &format!("-Djetty.base={release}/base"),
                "-cp",
                &format!("{release}/a.jar:{release}/lib/*"),
                "http://h/app",
                "/apple",
                "it's",
            ]
        );
        assert_eq!(
            plain.env,
            [
                &format!("METACTL_APP_DIR={release}"),
                "HOME=/var/lib/metactl/s/data",
                "X=%/tmp y"
            ]
        );
        assert_eq!(plain.dir, Path::new(release));
        assert_eq!((plain.files, plain.umask), (Some(8), Some(0o022)));
        assert_eq!(Plain::of(&json!({"process": {"args": []}})), None);
    }
}
