//! Mounts of config.json as typed steps: what the option words of mount(8) mean.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::plan::values::IdMaps;
use crate::spec::{Bundle, SpecError, clean_path};
use crate::sys::MountAttr;

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

/// Attributes of a mount, as mount_setattr(2) takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Of the mount itself.
    pub own: MountAttr,
    /// Of the mount and everything below it.
    pub deep: MountAttr,
    /// How mount events travel (`MS_PRIVATE` and so on); 0 leaves it.
    pub propagation: u64,
    /// The same for everything below.
    pub deep_propagation: u64,
    /// The ids that the mount shows are also those of everything below.
    pub deep_ids: bool,
    /// What the mount itself loses because other words were said of a bind mount and this was not (mount(2),
    /// `MS_REMOUNT | MS_BIND`: all flags are set anew). What may not be taken away stays.
    pub unsaid: u64,
}

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// What the words said of a bind mount set anew. Times of access are not among them: mount(2) leaves them when
/// nothing is said of them.
const ANEW: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
/// Of these what a user namespace can take away from a mount of its parent (mount_namespaces(7)).
pub const NEVER_LOCKED: u64 = NOSYMFOLLOW;

/// `(word, bits to set, bits to clear)`. With an `r` in front each works on the whole tree.
const ATTRIBUTE_WORDS: &[(&str, u64, u64)] = &[
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("noatime", NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("relatime", 0, ATIME),
    ("norelatime", 0, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
];

/// The other words that are understood, for whoever asks.
pub const OPTION_WORDS: &[&str] = &["bind", "rbind", "defaults", "tmpcopyup", "idmap", "ridmap"];

/// The words of attributes and propagation, each also with an `r` in front.
pub fn attribute_words() -> Vec<String> {
    let attributes = ATTRIBUTE_WORDS.iter().map(|(word, ..)| *word);
    let all = attributes.chain(PROPAGATION_WORDS.iter().map(|(word, _)| *word));
    all.flat_map(|word| [word.to_owned(), format!("r{word}")])
        .collect()
}

/// Parameters of file systems that mean nothing for a bind mount (mount(2): "data is ignored").
const DECORATION: &[&str] = &["mode", "size", "uid", "gid", "nr_inodes", "nr_blocks"];

const PROPAGATION_WORDS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// File systems whose superblock is shared between mounts: `ro` is an attribute of the mount
/// only.
const SHARED_SUPERBLOCK: &[&str] = &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

impl Attributes {
    /// Whether the mount itself was to be read-only; it is no more.
    pub fn take_read_only(&mut self) -> bool {
        let was = self.own.set & RDONLY != 0;
        self.own.set &= !RDONLY;
        was
    }

    /// What to ask for of the mount itself, best first: all that was not said is taken away; without what old
    /// kernels do not know; without what may be locked; only what was said. No more than differ, and none for nothing.
    pub fn tries(&self) -> impl Iterator<Item = MountAttr> {
        let of = [
            self.unsaid,
            self.unsaid & !NEVER_LOCKED,
            self.unsaid & NEVER_LOCKED,
            0,
        ];
        let own = self.own;
        let nothing = self.unsaid == 0 && own == MountAttr::default();
        let first = if nothing { of.len() } else { 0 };
        let mut last = None;
        of.into_iter().skip(first).filter_map(move |unsaid| {
            let new = last.replace(unsaid) != Some(unsaid);
            new.then_some(MountAttr {
                clear: own.clear | unsaid,
                ..own
            })
        })
    }

    /// What mount(2) makes of the words said of a bind mount.
    fn of_bind(&mut self, times: &MountAttr) {
        const TIMES: u64 = ATIME | NODIRATIME;
        self.own.set = (self.own.set & !TIMES) | times.set;
        self.own.clear = (self.own.clear & !TIMES) | times.clear;
        self.unsaid &= !(self.own.set | self.own.clear);
    }

    fn word(&mut self, word: &str) -> bool {
        if let Some(&(_, set, clear)) = ATTRIBUTE_WORDS.iter().find(|(w, ..)| *w == word) {
            change(&mut self.own, set, clear);
            self.unsaid = ANEW;
            return true;
        }
        if let Some(&(_, flag)) = PROPAGATION_WORDS.iter().find(|(w, _)| *w == word) {
            self.propagation = flag;
            return true;
        }
        let Some(deep) = word.strip_prefix('r') else {
            return false;
        };
        if let Some(&(_, set, clear)) = ATTRIBUTE_WORDS.iter().find(|(w, ..)| *w == deep) {
            change(&mut self.deep, set, clear);
            return true;
        }
        if let Some(&(_, flag)) = PROPAGATION_WORDS.iter().find(|(w, _)| *w == deep) {
            self.deep_propagation = flag;
            return true;
        }
        false
    }
}

/// What the words about times of access, in their order, make of a bind mount: one that sets something sets all of
/// it anew, one that only takes back what was not said before changes nothing (mount(2), `MS_REMOUNT`).
fn times<'w>(words: impl Iterator<Item = &'w str>) -> MountAttr {
    let (mut none, mut relative, mut strict, mut directories) = (false, false, false, false);
    for word in words {
        match word {
            "noatime" => none = true,
            "atime" => none = false,
            "relatime" => relative = true,
            "norelatime" => relative = false,
            "strictatime" => strict = true,
            "nostrictatime" => strict = false,
            "nodiratime" => directories = true,
            "diratime" => directories = false,
            _ => {}
        }
    }
    if !(none || relative || strict || directories) {
        return MountAttr::default();
    }
    let which = match (strict, none) {
        (true, _) => STRICTATIME,
        (false, true) => NOATIME,
        (false, false) => 0,
    };
    let (set, clear) = match directories {
        true => (NODIRATIME, 0),
        false => (0, NODIRATIME),
    };
    MountAttr {
        set: which | set,
        clear: ATIME | clear,
        ..MountAttr::default()
    }
}

/// The last word wins, as on the command line of mount(8).
fn change(attr: &mut MountAttr, set: u64, clear: u64) {
    attr.set = (attr.set & !clear & !set) | set;
    attr.clear = (attr.clear & !set) | clear;
}

/// The step for `mounts[index]`.
pub fn step(bundle: &Bundle, index: usize, mount: &Mount) -> Result<MountStep, SpecError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    // A relative one is taken from the root (runtime-spec, config, "Mounts").
    let target = inside(bundle, mount.destination()).unwrap_or(mount.destination().clone());
    let target = clean_path(&Path::new("/").join(target))
        .map_err(|why| bundle.invalid(field("destination"), why))?;
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

impl Attributes {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (attr, prefix) in [(&self.own, ""), (&self.deep, "r")] {
            for (word, set, clear) in ATTRIBUTE_WORDS {
                let said = if *set != 0 {
                    attr.set & set == *set
                } else {
                    matches!(*word, "rw" | "suid" | "dev" | "exec") && attr.clear & clear != 0
                };
                if said {
                    words.push(format!("{prefix}{word}"));
                }
            }
        }
        for (flag, prefix) in [(self.propagation, ""), (self.deep_propagation, "r")] {
            let word = PROPAGATION_WORDS.iter().find(|(_, f)| *f == flag);
            words.extend(word.map(|(word, _)| format!("{prefix}{word}")));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
