//! Mounts of config.json as typed steps: what the option words of mount(8) mean.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::plan::attributes::{Attributes, RDONLY, times};
use crate::plan::values::IdMaps;
use crate::spec::{Bundle, SpecError, clean_path};

/// One mount inside the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Absolute path inside the root, without `.` and `..`.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// With which attributes.
    pub attributes: Attributes,
    /// What the root has there is copied into it first.
    pub copy_up: bool,
    /// The option `idmap` or `ridmap` was given.
    pub idmap: bool,
    /// The ids that it shows, see [`crate::plan::step::IdMaps`].
    pub ids: Option<IdMaps>,
    /// The runtime opens the source, see [`crate::plan::step::Step::Root`].
    pub prepared: bool,
    /// Where a source that lies below the root's host path is inside the root.
    pub inside: Option<PathBuf>,
    /// That is where it is looked for, among what is mounted there by then; of what the runtime
    /// opens only the ids are left.
    pub from_inside: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute host path.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new instance of a file system.
    New {
        /// Its type.
        fstype: String,
        /// Its source, for those that have one.
        source: Option<String>,
        /// Its own parameters, for fsconfig(2).
        parameters: Vec<(String, Option<String>)>,
    },
}

/// The other words that are understood, for whoever asks.
pub const OPTION_WORDS: &[&str] = &["bind", "rbind", "defaults", "tmpcopyup", "idmap", "ridmap"];

/// Parameters of file systems that mean nothing for a bind mount (mount(2): "data is ignored").
const DECORATION: &[&str] = &["mode", "size", "uid", "gid", "nr_inodes", "nr_blocks"];

/// File systems whose superblock is shared between mounts: `ro` is an attribute of the mount
/// only.
const SHARED_SUPERBLOCK: &[&str] = &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// The step for `mounts[index]`.
pub fn step(bundle: &Bundle, index: usize, mount: &Mount) -> Result<MountStep, SpecError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    // A relative one is taken from the root (runtime-spec, config, "Mounts").
    let target = inside(bundle, mount.destination()).unwrap_or(mount.destination().clone());
    let target = clean_path(&Path::new("/").join(target))
        .map_err(|why| bundle.invalid(field("destination"), why))?;
    if target == Path::new("/") {
        // pivot_root(2) would go to what lies below it, and nobody would ever see it.
        let why = "is the root itself; root.path says what that is";
        return Err(bundle.invalid(field("destination"), why));
    }
    let mut attributes = Attributes::default();
    let mut bind = (mount.typ().as_deref() == Some("bind")).then_some(false);
    let mut parameters = Vec::new();
    let (mut copy_up, mut idmap, mut deep_idmap) = (false, false, false);
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "bind" => bind = bind.or(Some(false)),
            "rbind" => bind = Some(true),
            "defaults" | "" => {}
            "tmpcopyup" => copy_up = true,
            "idmap" => idmap = true,
            "ridmap" => deep_idmap = true,
            "copy-symlink" => {
                let why = "mounting a copy of a symbolic link is not supported; mount a file";
                return Err(bundle.unsupported(format!("{}: {option}", field("options")), why));
            }
            word if attributes.word(word) => {}
            word => parameters.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }),
        }
    }
    let kind = match bind {
        Some(recursive) => {
            // Engines write what suits a tmpfs also where they put a directory of the host.
            parameters.retain(|(key, _)| !DECORATION.contains(&key.as_str()));
            if let Some((key, _)) = parameters.first() {
                let why = format!("{key} is no option of a bind mount");
                return Err(bundle.invalid(field("options"), why));
            }
            let words = mount.options().iter().flatten().map(String::as_str);
            attributes.of_bind(&times(words));
            let source = mount.source().as_deref();
            let source = source.ok_or_else(|| bundle.invalid(field("source"), "is missing"))?;
            MountKind::Bind {
                source: bundle.dir.join(source),
                recursive,
            }
        }
        None => {
            let fstype = mount.typ().clone().filter(|t| !t.is_empty() && t != "none");
            let fstype = fstype.ok_or_else(|| {
                bundle.invalid(field("type"), "is missing, and the options do not say bind")
            })?;
            attributes.unsaid = 0;
            if attributes.own.set & RDONLY != 0 && owns_superblock(&fstype) {
                parameters.push(("ro".to_owned(), None));
            }
            New::of(fstype, mount.source().as_deref(), parameters)
        }
    };
    if copy_up && !matches!(&kind, MountKind::New { fstype, .. } if fstype == "tmpfs") {
        return Err(bundle.invalid(field("options"), "tmpcopyup is an option of tmpfs"));
    }
    attributes.deep_ids = deep_idmap;
    let inside = match &kind {
        MountKind::Bind { source, .. } => inside(bundle, source),
        MountKind::New { .. } => None,
    };
    Ok(MountStep {
        target,
        inside,
        from_inside: false,
        kind,
        attributes,
        copy_up,
        idmap: idmap || deep_idmap,
        ids: None,
        prepared: false,
    })
}

/// A path inside the root, when it is written as the host sees it. runc takes destinations like that
/// too (its libcontainer, `rootfs_linux.go`).
fn inside(bundle: &Bundle, path: &Path) -> Option<PathBuf> {
    let root = bundle.rootfs();
    let rest = path.strip_prefix(&root).ok()?;
    let rest = Path::new("/").join(rest);
    // Everything lies below the host's own root.
    let named = root != Path::new("/") && rest != Path::new("/");
    named.then(|| clean_path(&rest).ok()).flatten()
}

/// A tmpfs is filled by us after it was mounted, so its superblock stays writable.
fn owns_superblock(fstype: &str) -> bool {
    !SHARED_SUPERBLOCK.contains(&fstype) && fstype != "tmpfs"
}

struct New;

impl New {
    fn of(
        fstype: String,
        source: Option<&Path>,
        parameters: Vec<(String, Option<String>)>,
    ) -> MountKind {
        // Virtual file systems show it (proc_pid_mounts(5)) and make nothing of it.
        let source = source.map(|s| s.to_string_lossy().into_owned());
        MountKind::New {
            fstype,
            source,
            parameters,
        }
    }
}

/// A mount that this runtime adds itself.
pub fn plain(target: &Path, fstype: &str, words: &[&str]) -> MountStep {
    let mut attributes = Attributes::default();
    let mut parameters = Vec::new();
    for word in words {
        if !attributes.word(word) {
            match word.split_once('=') {
                Some((k, v)) => parameters.push((k.to_owned(), Some(v.to_owned()))),
                None => parameters.push(((*word).to_owned(), None)),
            }
        }
    }
    attributes.unsaid = 0;
    let kind = New::of(fstype.to_owned(), Some(Path::new(fstype)), parameters);
    MountStep {
        target: target.to_owned(),
        kind,
        inside: None,
        from_inside: false,
        attributes,
        copy_up: false,
        idmap: false,
        ids: None,
        prepared: false,
    }
}

impl fmt::Display for MountStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match &self.kind {
            MountKind::Bind { source, recursive } => {
                let how = if *recursive { "bind the tree" } else { "bind" };
                write!(f, "{how} {} on {}", source.display(), self.target.display())?;
            }
            MountKind::New {
                fstype, parameters, ..
            } => {
                write!(f, "mount {fstype} on {}", self.target.display())?;
                words.extend(parameters.iter().map(|(k, v)| match v {
                    Some(v) => format!("{k}={v}"),
                    None => k.clone(),
                }));
            }
        }
        words.splice(0..0, self.attributes.words());
        if self.copy_up {
            words.push("with a copy of what is there".to_owned());
        }
        if let Some(ids) = &self.ids {
            words.push(format!("ids: {ids}"));
        }
        words.dedup();
        if words.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", words.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::attributes::{ATIME, NOSUID, STRICTATIME};

    fn bundle() -> Bundle {
        let text = r#"{"ociVersion": "1.2.0", "root": {"path": "r"}, "linux": {"namespaces":
            [{"type": "mount"}]}, "process": {"user": {}, "args": ["x"], "cwd": "/"}}"#;
        Bundle::parse(Path::new("/b"), text.as_bytes().to_vec()).unwrap()
    }

    fn parse(json: &str) -> Result<MountStep, SpecError> {
        step(&bundle(), 3, &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn options_become_attributes_and_parameters() {
        let dev = r#"{"destination": "/dev//", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}"#;
        let dev = parse(dev).unwrap();
        assert_eq!(
            dev.to_string(),
            "mount tmpfs on /dev (nosuid, strictatime, mode=755, size=65536k)"
        );
        assert_eq!(dev.attributes.own.set, NOSUID | STRICTATIME);
        assert_eq!(dev.attributes.own.clear, ATIME);

        let bind =
            r#"{"destination": "/usr", "source": "/usr", "options": ["ro", "bind", "nodev"]}"#;
        assert_eq!(
            parse(bind).unwrap().to_string(),
            "bind /usr on /usr (ro, nodev)"
        );
        let tree = r#"{"destination": "/x", "type": "none", "source": "data",
            "options": ["rbind", "rro", "rslave", "rw", "ro", "rw"]}"#;
        let tree = parse(tree).unwrap();
        assert_eq!(
            tree.to_string(),
            "bind the tree /b/data on /x (rw, rro, rslave)"
        );
        assert_eq!(tree.attributes.own.set, 0);
    }

    #[test]
    fn ro_of_a_file_system_of_its_own_is_also_said_to_it() {
        let mount =
            r#"{"destination": "/m", "type": "ext4", "source": "/dev/vdb", "options": ["ro"]}"#;
        let MountKind::New {
            source, parameters, ..
        } = parse(mount).unwrap().kind
        else {
            panic!()
        };
        assert_eq!((source.as_deref(), parameters.len()), (Some("/dev/vdb"), 1));
        let mount =
            r#"{"destination": "/m", "type": "sysfs", "source": "sysfs", "options": ["ro"]}"#;
        let MountKind::New {
            source, parameters, ..
        } = parse(mount).unwrap().kind
        else {
            panic!()
        };
        assert_eq!((source.as_deref(), parameters.len()), (Some("sysfs"), 0));
    }

    #[test]
    fn paths_below_the_root_on_the_host_are_inside() {
        let mount = r#"{"destination": "/b/r/to/", "source": "/b/r/./from", "options": ["bind"]}"#;
        let step = parse(mount).unwrap();
        assert_eq!(step.target, Path::new("/to"));
        assert_eq!(step.inside.as_deref(), Some(Path::new("/from")));
        for (path, target) in [("/b/r", "/b/r"), ("/b/rest", "/b/rest"), ("/b/r/a", "/a")] {
            let mount = format!(
                r#"{{"destination": "{path}", "source": "/b/r/../x", "options": ["bind"]}}"#
            );
            let step = parse(&mount).unwrap();
            assert_eq!((step.target.to_str(), step.inside), (Some(target), None));
        }
        assert!(parse(r#"{"destination": "/b/r/../x", "type": "tmpfs"}"#).is_err());
    }

    #[test]
    fn contradictions_are_named() {
        for (json, want) in [
            (
                r#"{"destination": "/a", "source": "/a", "options": ["bind", "subvol=1"]}"#,
                "subvol",
            ),
            (r#"{"destination": "/a", "source": "/a"}"#, "mounts[3].type"),
            (
                r#"{"destination": "/.//", "type": "tmpfs"}"#,
                "is the root itself",
            ),
            (
                r#"{"destination": "", "source": "/a", "options": ["bind"]}"#,
                "is the root itself",
            ),
            (
                r#"{"destination": "/a", "options": ["bind"]}"#,
                "mounts[3].source",
            ),
            (
                r#"{"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}"#,
                "tmpcopyup",
            ),
        ] {
            let text = parse(json).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
