//! A bundle as it is on disk: `config.json` of the runtime specification, read strictly.
//!
//! What this runtime does not understand or cannot enforce is an error that names the field,
//! never ignored: whoever wrote it relies on it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

/// A bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// The bytes of `config.json`.
    pub text: Vec<u8>,
    /// What they say; checked, so that the fields that are always needed are there.
    pub spec: Spec,
}

/// Why a bundle cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `config.json` could not be read.
    #[error("cannot read {}: {source}{}", path.display(), if source.kind() == io::ErrorKind::NotFound { "; is --bundle the directory of an OCI bundle?" } else { "" })]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON, or not in the form of the specification.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        source: serde_json::Error,
    },
    /// It has fields that the specification of this version does not have.
    #[error(
        "{}: unknown field{} {}; it would not be enforced, so nothing is started",
        path.display(), if fields.len() == 1 { "" } else { "s" }, fields.join(", ")
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Dotted paths.
        fields: Vec<String>,
    },
    /// It asks for something that is not done (yet).
    #[error("{}: {field} is not supported: {why}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Dotted path.
        field: String,
        /// What to do.
        why: &'static str,
    },
    /// A value makes no sense.
    #[error("{}: {field}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Dotted path.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Bundle {
    /// Reads `config.json` in `dir`.
    pub fn load(dir: &Path) -> Result<Bundle, SpecError> {
        let path = dir.join("config.json");
        let text = fs::read(&path).map_err(|source| SpecError::Read { path, source })?;
        let dir = std::path::absolute(dir).map_err(|source| SpecError::Read {
            path: dir.to_owned(),
            source,
        })?;
        Bundle::parse(&dir, text)
    }

    /// The bundle in `dir` (absolute), whose `config.json` is `text`.
    pub fn parse(dir: &Path, text: Vec<u8>) -> Result<Bundle, SpecError> {
        let path = dir.join("config.json");
        let spec: Spec = strict(&path, &text)?;
        check(&spec).map_err(|problem| problem.at(path))?;
        Ok(Bundle {
            dir: dir.to_owned(),
            text,
            spec,
        })
    }

    /// The root directory as an absolute host path.
    pub fn rootfs(&self) -> PathBuf {
        let path = self
            .spec
            .root()
            .as_ref()
            .map_or(Path::new("rootfs"), |r| r.path());
        self.dir.join(path)
    }

    /// `config.json`, for messages.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.spec
            .annotations()
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    /// The value of an annotation that holds JSON, read as strictly as everything else.
    pub fn json_annotation<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, SpecError> {
        let Some(text) = self.annotation(key) else {
            return Ok(None);
        };
        let value = strict(Path::new(key), text.as_bytes());
        let field = format!("annotations.{key}");
        value
            .map(Some)
            .map_err(|e| self.invalid(field, e.to_string()))
    }

    /// An error about a field of this bundle.
    pub fn invalid(&self, field: impl Into<String>, why: impl Into<String>) -> SpecError {
        SpecError::Invalid {
            path: self.config_path(),
            field: field.into(),
            why: why.into(),
        }
    }

    /// An error about a field of this bundle that is not supported.
    pub fn unsupported(&self, field: impl Into<String>, why: &'static str) -> SpecError {
        SpecError::Unsupported {
            path: self.config_path(),
            field: field.into(),
            why,
        }
    }
}

/// Reads the `process` object of `exec --process FILE`, as strictly as a whole bundle.
pub fn load_process(path: &Path) -> Result<Process, SpecError> {
    let read = |source| SpecError::Read {
        path: path.to_owned(),
        source,
    };
    let text = fs::read(path).map_err(read)?;
    let process: Process = strict(path, &text)?;
    check_process(&process).map_err(|problem| problem.at(path.to_owned()))?;
    Ok(process)
}

/// Parses JSON; every field that the type does not know is an error (`oci-spec` alone would drop
/// it silently).
pub(crate) fn strict<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &[u8],
) -> Result<T, SpecError> {
    let parse = |source| SpecError::Parse {
        path: path.to_owned(),
        source,
    };
    let mut fields = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_ignored::deserialize(&mut json, |field| fields.push(field.to_string()));
    let value = value.map_err(parse)?;
    json.end().map_err(parse)?;
    if fields.is_empty() {
        Ok(value)
    } else {
        // `?` stands for an Option in between.
        let fields = fields
            .iter()
            .map(|f| f.replace(".?", "").replace("?.", ""))
            .collect();
        Err(SpecError::Unknown {
            path: path.to_owned(),
            fields,
        })
    }
}

/// A problem before it is known in which file it is.
enum Problem {
    Unsupported(String, &'static str),
    Invalid(String, String),
}

impl Problem {
    fn at(self, path: PathBuf) -> SpecError {
        match self {
            Problem::Unsupported(field, why) => SpecError::Unsupported { path, field, why },
            Problem::Invalid(field, why) => SpecError::Invalid { path, field, why },
        }
    }
}

/// Refuses a field when it says something.
fn refuse(present: bool, field: &str, why: &'static str) -> Result<(), Problem> {
    if present {
        Err(Problem::Unsupported(field.to_owned(), why))
    } else {
        Ok(())
    }
}

fn invalid(field: impl Into<String>, why: impl Into<String>) -> Problem {
    Problem::Invalid(field.into(), why.into())
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

const OTHER_SYSTEM: &str = "this is the Linux runtime; remove the section";
const NO_USERNS: &str = "user namespaces are not supported yet; run the container without";
const NO_HOOKS: &str = "hooks are not supported yet; remove them";
const NOT_YET: &str = "not supported yet; remove it";

fn check(spec: &Spec) -> Result<(), Problem> {
    if !(spec.version() == "1" || spec.version().starts_with("1.")) {
        let why = format!(
            "{:?} is not a version 1 of the runtime specification",
            spec.version()
        );
        return Err(invalid("ociVersion", why));
    }
    refuse(spec.solaris().is_some(), "solaris", OTHER_SYSTEM)?;
    refuse(spec.windows().is_some(), "windows", OTHER_SYSTEM)?;
    refuse(spec.vm().is_some(), "vm", OTHER_SYSTEM)?;
    refuse(spec.zos().is_some(), "zos", OTHER_SYSTEM)?;
    #[allow(deprecated)]
    let stray = spec.uid_mappings().is_some() || spec.gid_mappings().is_some();
    refuse(stray, "uidMappings, gidMappings", "they belong below linux")?;
    check_hooks(spec)?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| invalid("root", "is missing"))?;
    if root.path().as_os_str().is_empty() {
        return Err(invalid("root.path", "is empty"));
    }
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| invalid("process", "is missing"))?;
    check_process(process)?;
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| invalid("linux", "is missing"))?;
    check_linux(linux)?;
    for (at, mount) in spec.mounts().iter().flatten().enumerate() {
        let mapped = filled(mount.uid_mappings()) || filled(mount.gid_mappings());
        refuse(
            mapped,
            &format!("mounts[{at}].uidMappings"),
            "idmapped mounts: not yet",
        )?;
        clean_path(mount.destination())
            .map_err(|why| invalid(format!("mounts[{at}].destination"), why))?;
    }
    check_name("hostname", spec.hostname().as_deref())?;
    check_name("domainname", spec.domainname().as_deref())
}

fn check_hooks(spec: &Spec) -> Result<(), Problem> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    #[allow(deprecated)]
    let all = [
        ("hooks.prestart", hooks.prestart()),
        ("hooks.createRuntime", hooks.create_runtime()),
        ("hooks.createContainer", hooks.create_container()),
        ("hooks.startContainer", hooks.start_container()),
        ("hooks.poststart", hooks.poststart()),
        ("hooks.poststop", hooks.poststop()),
    ];
    all.iter()
        .try_for_each(|(field, list)| refuse(filled(list), field, NO_HOOKS))
}

/// The kernel's limit for both names is 64 bytes (uts_namespaces(7)).
fn check_name(field: &str, name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if name.len() > 64 => Err(invalid(field, "is longer than 64 bytes")),
        _ => Ok(()),
    }
}

fn check_process(process: &Process) -> Result<(), Problem> {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    refuse(
        process.command_line().is_some(),
        "process.commandLine",
        "it is for Windows",
    )?;
    refuse(
        process.user().username().is_some(),
        "process.user.username",
        "it is for Windows",
    )?;
    refuse(
        said(process.apparmor_profile()),
        "process.apparmorProfile",
        NOT_YET,
    )?;
    refuse(
        said(process.selinux_label()),
        "process.selinuxLabel",
        NOT_YET,
    )?;
    refuse(
        process.io_priority().is_some(),
        "process.ioPriority",
        NOT_YET,
    )?;
    refuse(process.scheduler().is_some(), "process.scheduler", NOT_YET)?;
    refuse(
        process.exec_cpu_affinity().is_some(),
        "process.execCPUAffinity",
        NOT_YET,
    )?;
    check_user(process)?;
    let program = process.args().iter().flatten().next();
    if program.is_none_or(String::is_empty) {
        return Err(invalid("process.args", "needs at least the program to run"));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid("process.cwd", "must be an absolute path"));
    }
    if let Some(score) = process
        .oom_score_adj()
        .filter(|s| !(-1000..=1000).contains(s))
    {
        return Err(invalid(
            "process.oomScoreAdj",
            format!("{score} is not in -1000..=1000"),
        ));
    }
    for variable in process.env().iter().flatten() {
        if variable.starts_with('=') || !variable.contains('=') {
            return Err(invalid(
                "process.env",
                format!("{variable:?} is not NAME=value"),
            ));
        }
    }
    Ok(())
}

/// setresuid(2), setresgid(2) and chown(2) take 4294967295 as "leave it as it is", which would be
/// root; setgroups(2) refuses it only at the end.
fn check_id(field: impl Into<String>, id: u32) -> Result<(), Problem> {
    if id == u32::MAX {
        return Err(invalid(
            field,
            "4294967295 is no user or group: it means \"unchanged\"",
        ));
    }
    Ok(())
}

fn check_user(process: &Process) -> Result<(), Problem> {
    let user = process.user();
    check_id("process.user.uid", user.uid())?;
    check_id("process.user.gid", user.gid())?;
    for gid in user.additional_gids().iter().flatten() {
        check_id("process.user.additionalGids", *gid)?;
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Result<(), Problem> {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    refuse(filled(linux.uid_mappings()), "linux.uidMappings", NO_USERNS)?;
    refuse(filled(linux.gid_mappings()), "linux.gidMappings", NO_USERNS)?;
    let some = |m: bool, field| refuse(m, field, NOT_YET);
    some(
        linux.net_devices().as_ref().is_some_and(|m| !m.is_empty()),
        "linux.netDevices",
    )?;
    some(
        linux.time_offsets().as_ref().is_some_and(|m| !m.is_empty()),
        "linux.timeOffsets",
    )?;
    some(said(linux.mount_label()), "linux.mountLabel")?;
    some(linux.intel_rdt().is_some(), "linux.intelRdt")?;
    some(linux.memory_policy().is_some(), "linux.memoryPolicy")?;
    some(linux.personality().is_some(), "linux.personality")?;
    for device in linux.devices().iter().flatten() {
        for id in [device.uid(), device.gid()].into_iter().flatten() {
            check_id(format!("linux.devices {}", device.path().display()), id)?;
        }
    }
    let mut seen = Vec::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        let field = "linux.namespaces";
        refuse(
            kind == LinuxNamespaceType::User,
            "linux.namespaces: user",
            NO_USERNS,
        )?;
        refuse(
            kind == LinuxNamespaceType::Time,
            "linux.namespaces: time",
            NOT_YET,
        )?;
        if seen.contains(&kind) {
            return Err(invalid(field, format!("{kind} is there twice")));
        }
        if namespace.path().as_ref().is_some_and(|p| !p.is_absolute()) {
            return Err(invalid(
                field,
                format!("the path of {kind} must be absolute"),
            ));
        }
        seen.push(kind);
    }
    let mount = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|n| n.typ() == LinuxNamespaceType::Mount);
    match mount {
        None => Err(invalid(
            "linux.namespaces",
            "a mount namespace is needed; add {\"type\": \"mount\"}",
        )),
        Some(ns) if ns.path().is_some() => Err(Problem::Unsupported(
            "linux.namespaces: mount by path".into(),
            "use a new one",
        )),
        Some(_) => Ok(()),
    }
}

/// An absolute path without `.` and repeated slashes. `..` is refused: inside a root full of
/// symlinks its meaning depends on the moment.
pub fn clean_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{} is not absolute", path.display()));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("{} contains `..`", path.display()));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}}"#;

    fn parse(text: &str) -> Result<Bundle, SpecError> {
        Bundle::parse(Path::new("/b"), text.as_bytes().to_vec())
    }

    fn with(from: &str, to: &str) -> String {
        let text = MINIMAL.replace(from, to);
        assert_ne!(text, MINIMAL);
        parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn a_minimal_bundle_is_read() {
        let bundle = parse(MINIMAL).unwrap();
        assert_eq!(bundle.rootfs(), Path::new("/b/rootfs"));
    }

    #[test]
    fn unknown_fields_are_named() {
        let text = with(r#""cwd": "/""#, r#""cwd": "/", "cvd": "/", "user2": {}"#);
        assert!(
            text.contains("unknown fields process.cvd, process.user2"),
            "{text}"
        );
        let text = with(r#""linux": {"#, r#""freebsd": {}, "linux": {"#);
        assert!(text.contains("unknown field freebsd"), "{text}");
    }

    #[test]
    fn what_is_not_enforced_is_refused_by_name() {
        for (from, to, want) in [
            (
                r#""cwd": "/""#,
                r#""cwd": "/", "apparmorProfile": "x""#,
                "process.apparmorProfile",
            ),
            (r#""cwd": "/""#, r#""cwd": "x""#, "process.cwd"),
            (
                r#""linux": {"#,
                r#""linux": {"intelRdt": {}, "#,
                "linux.intelRdt",
            ),
            (
                r#"{"type": "pid"}"#,
                r#"{"type": "user"}"#,
                "linux.namespaces: user",
            ),
            (r#"{"type": "pid"}"#, r#"{"type": "mount"}"#, "twice"),
            (r#"{"type": "mount"}, "#, "", "a mount namespace is needed"),
            (r#""1.2.0""#, r#""2.0.0""#, "ociVersion"),
            // "Leave it as it is": root's.
            (r#""uid": 0"#, r#""uid": 4294967295"#, "process.user.uid"),
            (r#""gid": 0"#, r#""gid": 4294967295"#, "process.user.gid"),
            (
                r#""gid": 0"#,
                r#""gid": 0, "additionalGids": [4294967295]"#,
                "process.user.additionalGids",
            ),
            (
                r#""linux": {"#,
                r#""linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 4294967295}], "#,
                "linux.devices",
            ),
            (r#"["/bin/true"]"#, "[]", "process.args"),
            (
                r#""root":"#,
                r#""hooks": {"poststop": [{"path": "/x"}]}, "root":"#,
                "hooks.poststop",
            ),
            (
                r#""root":"#,
                r#""windows": {"layerFolders": []}, "root":"#,
                "windows",
            ),
            (
                r#""root":"#,
                r#""mounts": [{"destination": "/a/../../b", "source": "/x"}], "root":"#,
                "mounts[0].destination",
            ),
        ] {
            let text = with(from, to);
            assert!(text.contains(want), "{want}: {text}");
        }
    }

    #[test]
    fn broken_json_tells_the_line() {
        let text = parse("{\n  \"ociVersion\": 7\n}").unwrap_err().to_string();
        assert!(text.contains("line 2"), "{text}");
        assert!(parse(&format!("{MINIMAL} x")).is_err());
    }
}
