//! Where the control group file systems are: v1, v2 or both, from `/proc/self/mountinfo` and
//! `/proc/self/cgroup` (proc_pid_mountinfo(5), cgroups(7)).

use super::CgroupError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A v1 hierarchy: one mount with one or more controllers, or a named one without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers (`memory`, `cpu`, ...), or its name as `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which cgroup of the hierarchy is seen there: `/` on a host, something longer in a container
    /// that sees only a part.
    pub root: PathBuf,
    /// The cgroup of the calling process in this hierarchy, as the kernel names it.
    pub own: Option<PathBuf>,
}

/// The v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which cgroup of the hierarchy is seen there.
    pub root: PathBuf,
    /// The cgroup of the calling process.
    pub own: Option<PathBuf>,
    /// The controllers that are available in the cgroup at the mount point.
    pub controllers: Vec<String>,
}

/// The control groups of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Only v1 hierarchies are visible.
    V1(Vec<Hierarchy>),
    /// Only v2.
    V2(Unified),
    /// v1 hierarchies for (some) controllers, and v2 beside them.
    Hybrid(Vec<Hierarchy>, Unified),
}

impl Layout {
    /// Look at the calling process's own `/proc` files.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or no cgroup file system is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let own = read("/proc/self/cgroup")?;
        let mut layout = match Self::of_plain_host(&own)? {
            Some(layout) => layout,
            None => Self::parse(&read("/proc/self/mountinfo")?, &own)?,
        };
        if let Self::V2(unified) | Self::Hybrid(_, unified) = &mut layout {
            unified.read_controllers()?;
        }
        Ok(layout)
    }

    /// The pure part of [`Layout::detect`]: `controllers` of the v2 hierarchy stays empty.
    ///
    /// # Errors
    /// When a line has an unknown form or no cgroup file system is mounted.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Result<Self, CgroupError> {
        let own = parse_own(cgroup)?;
        let mounts = parse_mounts(mountinfo)?;
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2: Option<Unified> = None;
        let ours = |m: &&Mount<'_>| matches!(m.fs_type, "cgroup" | "cgroup2");
        for mount in mounts.iter().filter(ours).filter(|m| !m.is_hidden(&mounts)) {
            let mount_point = PathBuf::from(unescape(mount.point));
            let root = PathBuf::from(unescape(mount.root));
            if mount.fs_type == "cgroup" {
                let controllers = mount.v1_controllers(&own);
                let own = controllers.first().and_then(|c| own.get(c)).cloned();
                let found = Hierarchy {
                    controllers,
                    mount_point,
                    root,
                    own,
                };
                keep_better(&mut v1, found);
            } else if v2
                .as_ref()
                .is_none_or(|old| is_better(&mount_point, &root, &old.mount_point, &old.root))
            {
                v2 = Some(Unified {
                    mount_point,
                    root,
                    own: own.get("").cloned(),
                    controllers: Vec::new(),
                });
            }
        }
        match (v1.is_empty(), v2) {
            (true, Some(unified)) => Ok(Self::V2(unified)),
            (false, Some(unified)) => Ok(Self::Hybrid(v1, unified)),
            (false, None) => Ok(Self::V1(v1)),
            (true, None) => Err(CgroupError::NotMounted),
        }
    }

    /// The v1 hierarchies; empty on a pure v2 host.
    pub fn v1(&self) -> &[Hierarchy] {
        match self {
            Self::V1(v1) | Self::Hybrid(v1, _) => v1,
            Self::V2(_) => &[],
        }
    }

    /// The v2 hierarchy, if there is one.
    pub fn unified(&self) -> Option<&Unified> {
        match self {
            Self::V2(unified) | Self::Hybrid(_, unified) => Some(unified),
            Self::V1(_) => None,
        }
    }

    /// The directories of the service that the calling process is in: of systemd's own hierarchy, and of each in
    /// which systemd has put the service, too.
    ///
    /// # Errors
    /// In words, when it is in no service.
    pub fn own_service(&self) -> Result<Vec<PathBuf>, String> {
        let systemd = self.hierarchy("name=systemd");
        let tracked = match (self, systemd) {
            (Self::V2(unified), _) => unified.own.as_ref(),
            (_, Some(named)) => named.own.as_ref(),
            (_, None) => None,
        };
        let service = tracked.filter(|own| own.extension().is_some_and(|kind| kind == "service"));
        let Some(service) = service else {
            let shown = tracked.map_or("none of systemd's".into(), |own| own.display().to_string());
            return Err(format!(
                "--cgroup-manager unit is for a service of systemd; the cgroup of this process is {shown}"
            ));
        };
        let below = |mount: &Path, root: &Path, own: &Option<PathBuf>| {
            let own = own.as_ref().filter(|own| *own == service)?;
            Some(mount.join(own.strip_prefix(root).ok()?))
        };
        let v1 = self.v1().iter();
        let v1 = v1.filter_map(|h| below(&h.mount_point, &h.root, &h.own));
        let unified = self.unified();
        let v2 = unified.and_then(|u| below(&u.mount_point, &u.root, &u.own));
        Ok(v1.chain(v2).collect())
    }

    /// The v1 hierarchy that has a controller.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1()
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// One word for messages: `v1`, `v2` or `hybrid`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V2(_) => "v2",
            Self::Hybrid(..) => "hybrid",
        }
    }
}

impl Unified {
    /// Fill in `controllers` from `cgroup.controllers` at the mount point.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_controllers(&mut self) -> Result<(), CgroupError> {
        let path = self.mount_point.join("cgroup.controllers");
        let text =
            std::fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
        self.controllers = text.split_whitespace().map(str::to_owned).collect();
        Ok(())
    }
}

/// A line of mountinfo, as far as it matters here. A path is as the kernel writes it: absolute, without `.`
/// and repeated slashes, and escaped in one way only, so that two can be compared as they stand.
struct Mount<'t> {
    id: u64,
    parent: u64,
    root: &'t str,
    point: &'t str,
    fs_type: &'t str,
    super_options: &'t str,
}

impl Mount<'_> {
    /// Something else was mounted on top of it, or over a directory on the way to it.
    fn is_hidden(&self, all: &[Mount<'_>]) -> bool {
        let covered = |other: &Mount<'_>| other.parent == self.id && other.point == self.point;
        all.iter().any(covered) || self.is_out_of_reach(all)
    }

    /// A directory on the way to its mount point is covered.
    fn is_out_of_reach(&self, all: &[Mount<'_>]) -> bool {
        // What was mounted after it on the same parent, nearer to the root. (What was mounted
        // there before would be the parent.)
        let in_the_way =
            |other: &Mount<'_>| other.parent == self.parent && is_below(self.point, other.point);
        let above = all.iter().find(|m| m.id == self.parent && m.id != self.id);
        all.iter().any(in_the_way)
            || above.is_some_and(|above| {
                // What lies on top of a mount is not hidden by being its cover.
                if above.point == self.point {
                    above.is_out_of_reach(all)
                } else {
                    above.is_hidden(all)
                }
            })
    }

    /// Controllers are what the super block options and `/proc/self/cgroup` both name; a mount
    /// option such as `xattr` or `clone_children` is no controller.
    fn v1_controllers(&self, own: &BTreeMap<String, PathBuf>) -> Vec<String> {
        self.super_options
            .split(',')
            .filter(|option| own.contains_key(*option))
            .map(str::to_owned)
            .collect()
    }
}

fn read(path: &'static str) -> Result<String, CgroupError> {
    // Room for all of it: each read(2) of such a file costs the kernel more than the copying.
    let mut text = String::with_capacity(16 << 10);
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_to_string(&mut file, &mut text))
        .map_err(|source| CgroupError::ReadLayout {
            path: path.into(),
            source,
        })?;
    Ok(text)
}

/// `/proc/self/cgroup`: controller (or `name=x`, or the empty string for v2) to path.
pub(super) fn parse_own(text: &str) -> Result<BTreeMap<String, PathBuf>, CgroupError> {
    let mut own = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(CgroupError::ParseLayout {
                file: "/proc/self/cgroup",
                line: index + 1,
                manual: "cgroups(7)",
            });
        };
        for controller in controllers.split(',') {
            own.insert(controller.to_owned(), PathBuf::from(path));
        }
    }
    Ok(own)
}

/// Whether a path of mountinfo lies below a directory of it.
fn is_below(path: &str, directory: &str) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => rest.starts_with('/') || (directory == "/" && !rest.is_empty()),
        None => false,
    }
}

fn parse_mounts(text: &str) -> Result<Vec<Mount<'_>>, CgroupError> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            parse_mount(line).ok_or(CgroupError::ParseLayout {
                file: "/proc/self/mountinfo",
                line: index + 1,
                manual: "proc_pid_mountinfo(5)",
            })
        })
        .collect()
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let id = head.next()?.parse().ok()?;
    let parent = head.next()?.parse().ok()?;
    let _device = head.next()?;
    let root = head.next()?;
    let point = head.next()?;
    let mut tail = tail.splitn(3, ' ');
    let fs_type = tail.next()?;
    let _source = tail.next()?;
    let super_options = tail.next().unwrap_or_default();
    Some(Mount {
        id,
        parent,
        root,
        point,
        fs_type,
        super_options,
    })
}

/// Undo the kernel's octal escapes of space, tab, newline and backslash (`\040`).
fn unescape(field: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| {
                digits.iter().try_fold(0u32, |sum, d| {
                    (b'0'..=b'7')
                        .contains(d)
                        .then(|| sum * 8 + u32::from(d - b'0'))
                })
            });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out)
}

/// The same hierarchy can be mounted several times: keep the mount that shows most.
fn keep_better(list: &mut Vec<Hierarchy>, found: Hierarchy) {
    if found.controllers.is_empty() {
        return;
    }
    match list
        .iter_mut()
        .find(|old| old.controllers == found.controllers)
    {
        Some(old) if is_better(&found.mount_point, &found.root, &old.mount_point, &old.root) => {
            *old = found;
        }
        Some(_) => {}
        None => list.push(found),
    }
}

/// Better is what shows the whole hierarchy, then what is below `/sys/fs/cgroup`, then what came
/// first.
fn is_better(point: &Path, root: &Path, old_point: &Path, old_root: &Path) -> bool {
    let rank =
        |point: &Path, root: &Path| (root != Path::new("/"), !point.starts_with("/sys/fs/cgroup"));
    rank(point, root) < rank(old_point, old_root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";

    fn mount(id: u32, parent: u32, root: &str, point: &str, kind: &str, options: &str) -> String {
        format!(
            "{id} {parent} 0:{id} {root} {point} rw,nosuid shared:9 - {kind} {kind} {options}\n"
        )
    }

    fn v1_only() -> String {
        [
            ROOT.to_owned(),
            mount(30, 23, "/", "/sys/fs/cgroup", "tmpfs", "ro,mode=755"),
            mount(
                31,
                30,
                "/",
                "/sys/fs/cgroup/systemd",
                "cgroup",
                "rw,xattr,name=systemd",
            ),
            mount(
                32,
                30,
                "/",
                "/sys/fs/cgroup/cpu,cpuacct",
                "cgroup",
                "rw,cpu,cpuacct",
            ),
            mount(33, 30, "/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
        ]
        .concat()
    }

    const V1_OWN: &str =
        "4:name=systemd:/user.slice\n3:cpu,cpuacct:/\n2:memory:/a b\n1:pids:/\n0::/x\n";

    #[test]
    fn a_v1_host() {
        let layout = Layout::parse(&v1_only(), V1_OWN).unwrap();
        assert_eq!(layout.name(), "v1");
        assert_eq!(layout.v1().len(), 3);
        let cpu = layout.hierarchy("cpuacct").unwrap();
        assert_eq!(cpu.controllers, ["cpu", "cpuacct"]);
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(
            layout.hierarchy("memory").unwrap().own.as_deref(),
            Some(Path::new("/a b"))
        );
        assert!(layout.hierarchy("name=systemd").is_some());
        assert!(
            layout.hierarchy("pids").is_none(),
            "listed, but not mounted"
        );
        assert!(layout.hierarchy("xattr").is_none(), "a mount option");
    }

    #[test]
    fn a_hybrid_host_and_one_whose_v2_is_hidden() {
        let v2 = mount(
            40,
            30,
            "/",
            "/sys/fs/cgroup/unified",
            "cgroup2",
            "rw,nsdelegate",
        );
        let text = v1_only() + &v2;
        let layout = Layout::parse(&text, V1_OWN).unwrap();
        assert_eq!(layout.name(), "hybrid");
        assert_eq!(
            layout.unified().unwrap().own.as_deref(),
            Some(Path::new("/x"))
        );

        let over = mount(41, 40, "/", "/sys/fs/cgroup/unified", "tmpfs", "rw");
        assert_eq!(
            Layout::parse(&(text.clone() + &over), V1_OWN)
                .unwrap()
                .name(),
            "v1"
        );
        let over_all = mount(42, 30, "/", "/sys/fs/cgroup", "cgroup2", "rw");
        let layout = Layout::parse(&(text + &over_all), V1_OWN).unwrap();
        assert_eq!(layout.name(), "v2");
        assert_eq!(
            layout.unified().unwrap().mount_point,
            Path::new("/sys/fs/cgroup")
        );
    }

    #[test]
    fn a_v2_host() {
        let text = ROOT.to_owned() + &mount(30, 23, "/", "/sys/fs/cgroup", "cgroup2", "rw");
        let layout = Layout::parse(&text, "0::/system.slice/ssh.service\n").unwrap();
        let Layout::V2(unified) = &layout else {
            panic!("{layout:?}")
        };
        assert_eq!(
            unified.own.as_deref(),
            Some(Path::new("/system.slice/ssh.service"))
        );
        assert!(layout.hierarchy("memory").is_none());
    }

    #[test]
    fn only_whole_directories_on_the_way_hide_a_mount() {
        for (over, name) in [
            ("/sys/fs/cgroup/mem", "hybrid"),
            ("/sys/fs/cgroup/memory", "v2"),
            ("/sys/fs", "v2"),
            ("/", "v2"),
        ] {
            let text = [
                ROOT.to_owned(),
                mount(31, 23, "/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
                // Covers what it was mounted over after; on the same parent if it lies nearer to the root.
                match over {
                    "/sys/fs/cgroup/memory" => mount(32, 31, "/", over, "tmpfs", "rw"),
                    _ => mount(32, 23, "/", over, "tmpfs", "rw"),
                },
                mount(33, 32, "/", "/mnt/v2", "cgroup2", "rw"),
            ]
            .concat();
            let layout = Layout::parse(&text, "1:memory:/\n0::/\n").unwrap();
            assert_eq!(layout.name(), name, "{over}");
        }
    }

    #[test]
    fn inside_of_a_container() {
        let text = [
            ROOT.to_owned(),
            mount(30, 23, "/", "/sys/fs/cgroup", "tmpfs", "rw"),
            mount(
                31,
                30,
                "/docker/abc",
                "/sys/fs/cgroup/memory",
                "cgroup",
                "rw,memory",
            ),
            mount(
                32,
                23,
                "/docker/abc",
                "/mnt/with\\040space",
                "cgroup",
                "rw,pids",
            ),
            mount(33, 23, "/", "/mnt/whole", "cgroup", "rw,memory"),
        ]
        .concat();
        let layout = Layout::parse(&text, "2:memory:/docker/abc\n1:pids:/docker/abc\n").unwrap();
        let memory = layout.hierarchy("memory").unwrap();
        assert_eq!(
            memory.mount_point,
            Path::new("/mnt/whole"),
            "shows the whole hierarchy"
        );
        let pids = layout.hierarchy("pids").unwrap();
        assert_eq!(pids.mount_point, Path::new("/mnt/with space"));
        assert_eq!(pids.root, Path::new("/docker/abc"));
    }

    #[test]
    fn nothing_and_nonsense() {
        assert!(matches!(
            Layout::parse(ROOT, "0::/\n"),
            Err(CgroupError::NotMounted)
        ));
        assert!(matches!(
            Layout::parse("nonsense\n", ""),
            Err(CgroupError::ParseLayout { line: 1, .. })
        ));
        assert!(matches!(
            Layout::parse(ROOT, "0::/\n12\n"),
            Err(CgroupError::ParseLayout { line: 2, .. })
        ));
    }

    #[test]
    fn this_host_can_be_read() {
        match Layout::detect() {
            Ok(layout) => assert!(layout.unified().is_some() || !layout.v1().is_empty()),
            Err(error) => eprintln!("SKIP this_host_can_be_read: {error}"),
        }
    }
}
