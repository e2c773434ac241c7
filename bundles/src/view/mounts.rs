//! Putting a view together: skeleton and mounts, and what may not be mounted where.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::base;
use super::host::{Fact, HostView, Kind};
use super::{Entry, Node, View, What};
use crate::app::{HostMount, HostNeed};
use crate::bundle::{Placement, Problems};

/// Nothing else may be mounted on, below or above these paths of the inside.
const CLOSED: &[&str] = &[
    "/proc",
    "/dev",
    "/sys",
    "/tmp",
    "/data",
    "/run",
    "/etc/metactl",
];

/// Nothing on or below these paths of the host can be mounted: not files, but the kernel.
const KERNEL: &[&str] = &["/proc", "/dev", "/sys"];

/// A view in the making.
#[derive(Default)]
pub(super) struct Builder {
    skeleton: BTreeMap<PathBuf, Node>,
    /// By target, so that what is above comes before what is below.
    entries: BTreeMap<PathBuf, What>,
}

impl Builder {
    /// A mount with its place in the skeleton.
    pub fn entry(&mut self, target: impl AsRef<Path>, what: What, kind: Kind) {
        let target = target.as_ref();
        if !self.is_shown(target) {
            match kind {
                Kind::Directory => self.node(target, Node::Directory),
                Kind::File => self.node(target, Node::File(String::new())),
            }
        }
        self.entries.insert(target.to_path_buf(), what);
    }

    /// A mount inside another mount of the kernel's, where the runtime makes the folder.
    pub fn inner(&mut self, target: &str, what: What) {
        self.entries.insert(PathBuf::from(target), what);
    }

    /// A folder of the skeleton.
    pub fn directory(&mut self, path: &str) {
        self.node(Path::new(path), Node::Directory);
    }

    /// A generated file.
    pub fn file(&mut self, path: &Path, text: &str) {
        self.node(path, Node::File(text.to_owned()));
    }

    /// A link of the skeleton, unless something is mounted there.
    pub fn link(&mut self, path: &str, target: &str) {
        if !self.is_shown(Path::new(path)) {
            self.node(Path::new(path), Node::Link(target.to_owned()));
        }
    }

    /// A path of the tree: a link stays one, the rest is mounted read-only.
    pub fn fact(&mut self, target: &Path, fact: &Fact) {
        match fact {
            Fact::Link(text) => self.node(target, Node::Link(text.clone())),
            Fact::Real(kind, source) => {
                self.entry(
                    target,
                    What::Bind {
                        source: source.clone(),
                        writable: false,
                    },
                    *kind,
                );
            }
        }
    }

    /// What a platform needs of the host, and what its links in `/etc` lead to.
    pub fn need(&mut self, host: &HostView, need: &HostNeed, problems: &mut Problems<'_>) {
        let Some(facts) = host.needs.get(&need.path).filter(|facts| facts.probed) else {
            let probe = need
                .probe
                .as_ref()
                .map_or_else(|| need.path.clone(), |p| need.path.join(p));
            problems.at(
                need.origin.as_ref(),
                format!(
                    "{} is not on this host: there is no {}",
                    need.what,
                    probe.display()
                ),
                &need.hint,
            );
            return;
        };
        if host.root != Path::new("/") {
            return;
        }
        // A path in /usr is there already, but may be a link to somewhere else.
        let target = if base::is_system(&need.path) {
            &facts.real
        } else {
            &need.path
        };
        if !base::is_system(target) && !self.is_shown(target) {
            if let Some((message, hint)) = self.refusal(target) {
                problems.at(
                    need.origin.as_ref(),
                    format!("{}: {message}", need.what),
                    &hint,
                );
                return;
            }
            let what = What::Bind {
                source: facts.real.clone(),
                writable: false,
            };
            self.entry(target, what, Kind::Directory);
        }
        for (path, kind) in &facts.etc {
            if !self.is_shown(path) && self.refusal(path).is_none() {
                self.entry(
                    path,
                    What::Bind {
                        source: path.clone(),
                        writable: false,
                    },
                    *kind,
                );
            }
        }
    }

    /// A line of `[sandbox.mounts]`.
    pub fn host_mount(
        &mut self,
        host: &HostView,
        place: &Placement,
        mount: &HostMount,
        problems: &mut Problems<'_>,
    ) {
        let refused = match self.check_mount(host, place, mount) {
            Ok((kind, what)) => return self.entry(&mount.target, what, kind),
            Err(refused) => refused,
        };
        problems.at(Some(&mount.origin), refused.0, &refused.1);
    }

    fn check_mount(
        &self,
        host: &HostView,
        place: &Placement,
        mount: &HostMount,
    ) -> Result<(Kind, What), (String, String)> {
        let target = &mount.target;
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !target.is_absolute() || !target.components().all(plain) {
            return Err((
                format!(
                    "`{}` is not a whole path inside the sandbox",
                    target.display()
                ),
                "write it from the root and without `..`, like /mnt/share".to_owned(),
            ));
        }
        let Some(Fact::Real(kind, source)) = host.sources.get(&mount.source) else {
            return Err((
                format!(
                    "{}: there is no such file or folder on this host",
                    mount.source.display()
                ),
                "make it first, or correct the path".to_owned(),
            ));
        };
        if KERNEL.iter().any(|path| source.starts_with(path)) || source == Path::new("/") {
            return Err((
                format!("{} cannot be shown to an application", source.display()),
                "mount a folder that holds only what the application needs".to_owned(),
            ));
        }
        if place.state_dir.starts_with(source) || is_metactls(&place.state_dir, source) {
            return Err((
                format!("{} holds the state of metactl itself", source.display()),
                "what the application keeps belongs into /data, which it already has".to_owned(),
            ));
        }
        if let Some(refused) = self.refusal(target) {
            return Err(refused);
        }
        let what = What::Bind {
            source: source.clone(),
            writable: mount.writable,
        };
        if self.is_shown(target) && host.targets.get(target) != Some(kind) {
            let word = if *kind == Kind::Directory {
                "folder"
            } else {
                "file"
            };
            return Err((
                format!("there is no {word} {} to mount over", target.display()),
                "it cannot be made there, the place is read-only; choose another path".to_owned(),
            ));
        }
        Ok((*kind, what))
    }

    /// Why nothing can be mounted at `target`, and what to do.
    fn refusal(&self, target: &Path) -> Option<(String, String)> {
        let hint = || "choose a path of its own, like /mnt/share".to_owned();
        let shown = target.display();
        let overlaps =
            |path: &&&str| target.starts_with(path) || Path::new(path).starts_with(target);
        if let Some(closed) = CLOSED.iter().find(overlaps) {
            return Some((
                format!("{shown} cannot be mounted over: {closed} is the sandbox's"),
                hint(),
            ));
        }
        let is_above = |path: &PathBuf| path.starts_with(target);
        if let Some(other) = self.entries.keys().find(|path| is_above(path)) {
            return Some((format!("{shown} would hide {}", other.display()), hint()));
        }
        let relative = target.strip_prefix("/").unwrap_or(target);
        for (path, node) in &self.skeleton {
            let hidden = path.starts_with(relative) && *node != Node::Directory;
            let through = relative.starts_with(path) && *node != Node::Directory;
            if hidden || (through && !self.is_shown(target)) {
                return Some((format!("{shown} would hide /{}", path.display()), hint()));
            }
        }
        None
    }

    /// Whether a path lies in something that is mounted (not merely in the skeleton).
    fn is_shown(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|above| self.entries.contains_key(above))
    }

    fn node(&mut self, path: &Path, node: Node) {
        let relative = path.strip_prefix("/").unwrap_or(path);
        for above in relative
            .ancestors()
            .skip(1)
            .filter(|above| *above != Path::new(""))
        {
            self.skeleton
                .entry(above.to_path_buf())
                .or_insert(Node::Directory);
        }
        self.skeleton.insert(relative.to_path_buf(), node);
    }

    /// The view: the kernel's mounts first, then the rest, what is above before what is below.
    pub fn finish(self) -> View {
        let entry = |(target, what)| Entry { target, what };
        let (binds, kernel): (Vec<_>, Vec<_>) = self
            .entries
            .into_iter()
            .map(entry)
            .partition(|entry| matches!(entry.what, What::Bind { .. } | What::Tmp));
        let mut entries = kernel;
        // /proc first: a runtime may need it for what comes after.
        entries.sort_by_key(|entry| (entry.what != What::Proc, entry.target.clone()));
        entries.extend(binds);
        View {
            skeleton: self.skeleton,
            entries,
        }
    }
}

/// Whether a path is in a folder of the state directory that metactl keeps for itself.
fn is_metactls(state_dir: &Path, path: &Path) -> bool {
    let own = ["bundles", "data", "etc", "releases", "secrets", "tmp"];
    own.iter()
        .any(|name| path.starts_with(state_dir.join(name)))
}
