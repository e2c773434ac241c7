//! What of the host is there: the facts that composing a bundle depends on.
//!
//! [`HostView::gather`] looks, everything behind it only reads the result. So composing stays a
//! pure function, and tests can describe a host that they do not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::base;
use crate::app::{App, HostNeed, Launch};
use crate::bundle::Placement;
use crate::platforms::APP_DIR;

/// How many entries of a folder tree are looked at before the search is given up.
const MAX_ENTRIES: usize = 50_000;

/// How deep wars are looked for in a release.
const MAX_DEPTH: usize = 8;

/// How many symbolic links are followed one after the other (as the kernel: path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file, or a socket or a fifo: what can be mounted over a file.
    File,
}

/// A path of the host that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A folder or a file; the path is the real one, without symbolic links.
    Real(Kind, PathBuf),
    /// A symbolic link that also leads to the right place inside: its text.
    Link(String),
}

/// What there is of a [`HostNeed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedFacts {
    /// The real path, without symbolic links.
    pub real: PathBuf,
    /// Whether the file that proves it is there ([`HostNeed::probe`]).
    pub probed: bool,
    /// Folders and files of `/etc` that symbolic links below the path lead to.
    pub etc: BTreeMap<PathBuf, Kind>,
}

/// Whether the instance's user can enter and list the folder of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Yes.
    #[default]
    Open,
    /// Not with these permission bits.
    Closed(u32),
    /// There is no such folder.
    Missing,
}

/// What of the host is there, as far as one instance is concerned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostView {
    /// The tree that the instance sees: `/`, or the one that `[sandbox] rootfs` names.
    pub root: PathBuf,
    /// Whether `root` is a folder.
    pub root_exists: bool,
    /// The entries of `root` that are shown, by name.
    pub top: BTreeMap<String, Fact>,
    /// The entries of its `/etc` that are shown, relative to it.
    pub etc: BTreeMap<PathBuf, Fact>,
    /// The default Java of that tree.
    pub java: Option<PathBuf>,
    /// The major versions of Java installations, by path, where they say one.
    pub java_versions: BTreeMap<PathBuf, u32>,
    /// What the needs of platforms found, by [`HostNeed::path`].
    pub needs: BTreeMap<PathBuf, NeedFacts>,
    /// The real paths of the sources of `[sandbox.mounts]`, by the path as written.
    pub sources: BTreeMap<PathBuf, Fact>,
    /// What is at the targets of `[sandbox.mounts]` already, in the tree or in the release.
    pub targets: BTreeMap<PathBuf, Kind>,
    /// Whether the release can be entered.
    pub release: Access,
    /// The `*.war` files of the release, relative to it, sorted.
    pub wars: Vec<PathBuf>,
    /// Whether the release is a web application itself (it has a `WEB-INF`).
    pub release_is_webapp: bool,
    /// What of [`Launch::release`] is not in the release.
    pub release_lacks: BTreeSet<PathBuf>,
}

impl HostView {
    /// Looks at the host for what `app` and `place` need. Reads only.
    ///
    /// What cannot be read counts as not there; composing says so with the key that needs it.
    pub fn gather(app: &App, place: &Placement) -> HostView {
        let own_tree = app.sandbox.rootfs.as_deref();
        let root = own_tree.unwrap_or(Path::new("/"));
        let mut view = HostView {
            root: root.to_path_buf(),
            root_exists: root.is_dir(),
            java: default_java(root),
            release: access(place),
            wars: wars(&place.release),
            release_is_webapp: place.release.join("WEB-INF").is_dir(),
            ..HostView::default()
        };
        match own_tree {
            Some(tree) => {
                view.top = list(tree, tree, |name| !base::is_own_top(name));
                view.etc = list(tree, &tree.join("etc"), |_| true)
                    .into_iter()
                    .map(|(name, fact)| (PathBuf::from(name), fact))
                    .collect();
            }
            None => {
                view.top = list(root, root, base::is_system_top);
                for entry in base::ETC {
                    if let Some(fact) = fact(root, &root.join("etc").join(entry)) {
                        view.etc.insert(PathBuf::from(entry), fact);
                    }
                }
            }
        }
        let java = view.java.clone();
        for launch in launches(app) {
            view.gather_needs(launch, java.as_deref());
            view.gather_optional(launch);
            let missing = |path: &&PathBuf| fs::symlink_metadata(place.release.join(path)).is_err();
            let wanted = launch.release.iter().map(|need| &need.path);
            view.release_lacks.extend(wanted.filter(missing).cloned());
        }
        for mount in &app.sandbox.mounts {
            view.gather_mount(&mount.source, &mount.target, place);
        }
        view
    }

    fn gather_needs(&mut self, launch: &Launch, java: Option<&Path>) {
        for HostNeed { path, probe, .. } in &launch.needs {
            self.gather_need(path, probe.as_deref());
        }
        if let Some(need) = &launch.java
            && let Some(home) = need.home.as_deref().or(java)
        {
            self.gather_need(home, Some(Path::new("bin/java")));
            if let Some(version) = java_version(&self.root, home) {
                self.java_versions.insert(home.to_path_buf(), version);
            }
        }
    }

    /// Programs to choose from, and configuration in `/etc` that is shown if it is there.
    fn gather_optional(&mut self, launch: &Launch) {
        let ways = launch.choice.iter().flat_map(|choice| &choice.ways);
        for path in ways.flat_map(|way| &way.needs) {
            self.gather_need(path, None);
        }
        // A tree of the user's own is shown with all of its /etc.
        if self.root != Path::new("/") {
            return;
        }
        for name in launch
            .etc
            .iter()
            .flat_map(|pattern| matching(Path::new("/etc"), pattern))
        {
            let path = Path::new("/etc").join(&name);
            if is_public(&path)
                && let Some(fact) = fact(Path::new("/"), &path)
            {
                self.etc.insert(name, fact);
            }
        }
    }

    fn gather_need(&mut self, path: &Path, probe: Option<&Path>) {
        let root = self.root.clone();
        let Some(real) = resolve(&root, path) else {
            return;
        };
        let probed = probe.is_none_or(|probe| resolve(&root, &path.join(probe)).is_some());
        let mut etc = BTreeMap::new();
        links_to_etc(&root, path, &mut etc);
        if real != path {
            links_to_etc(&root, &real, &mut etc);
        }
        self.needs
            .insert(path.to_path_buf(), NeedFacts { real, probed, etc });
    }

    fn gather_mount(&mut self, source: &Path, target: &Path, place: &Placement) {
        // Sources are of the host, also when the instance has a tree of its own.
        if let Ok(real) = fs::canonicalize(source)
            && let Some(kind) = kind(&real)
        {
            self.sources
                .insert(source.to_path_buf(), Fact::Real(kind, real));
        }
        let there = match target.strip_prefix(APP_DIR) {
            Ok(below) => Some(place.release.join(below)),
            Err(_) => resolve(&self.root, target).map(|real| on_host(&self.root, &real)),
        };
        if let Some(kind) = there.as_deref().and_then(kind_nofollow) {
            self.targets.insert(target.to_path_buf(), kind);
        }
    }
}

/// Whether the user of the instance can enter and list the release: the only folder of the way to
/// it that is seen from inside.
fn access(place: &Placement) -> Access {
    let Some(meta) = fs::metadata(&place.release)
        .ok()
        .filter(fs::Metadata::is_dir)
    else {
        return Access::Missing;
    };
    let bits = match (meta.uid() == place.uid, meta.gid() == place.gid) {
        (true, _) => meta.mode() >> 6,
        (_, true) => meta.mode() >> 3,
        _ => meta.mode(),
    };
    if place.uid == 0 || bits & 0o5 == 0o5 {
        Access::Open
    } else {
        Access::Closed(meta.mode() & 0o7777)
    }
}

/// The launches of all entry points.
pub fn launches(app: &App) -> impl Iterator<Item = &Launch> {
    let daemons = app.daemons.values().map(|daemon| &daemon.launch);
    daemons.chain(app.cron.iter().map(|job| &job.launch))
}

/// `path`, a path inside the tree `root`, as a path of the host.
pub(super) fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn kind(path: &Path) -> Option<Kind> {
    let meta = fs::metadata(path).ok()?;
    Some(if meta.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    })
}

fn kind_nofollow(path: &Path) -> Option<Kind> {
    let meta = fs::symlink_metadata(path).ok()?;
    if meta.is_symlink() {
        return None;
    }
    Some(if meta.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    })
}

/// The paths below `dir`, relative to it, that match `pattern`, in which `*` is any one name.
fn matching(dir: &Path, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let below = |path: PathBuf| -> Vec<PathBuf> {
            if part.as_os_str() != "*" {
                return vec![path.join(part)];
            }
            let entries = fs::read_dir(dir.join(&path))
                .into_iter()
                .flatten()
                .flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.map(|name| path.join(name)).collect()
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found
}

/// The entries of a folder of the tree `root` that `wanted` accepts. Names that are not UTF-8 are
/// left out: config.json could not name them.
fn list(root: &Path, dir: &Path, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Fact> {
    let Ok(entries) = fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| wanted(name))
        .filter_map(|name| fact(root, &dir.join(&name)).map(|fact| (name, fact)))
        .collect()
}

/// What is at `path` of the host, below the tree `root`.
fn fact(root: &Path, path: &Path) -> Option<Fact> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_symlink() {
        let kind = if meta.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        return Some(Fact::Real(kind, path.to_path_buf()));
    }
    let text = fs::read_link(path).ok()?;
    let inside = Path::new("/").join(path.strip_prefix(root).ok()?);
    let real = resolve(root, &inside);
    // In a tree of the user's own everything is shown, so every link may stay as it is.
    let stays = root != Path::new("/") || real.as_deref().is_none_or(base::is_system);
    match (stays, real) {
        (true, _) => Some(Fact::Link(text.into_os_string().into_string().ok()?)),
        (false, Some(real)) => Some(Fact::Real(kind(&real)?, real)),
        (false, None) => None,
    }
}

/// Follows the symbolic links of `path` inside the tree `root`, where absolute links and `..`
/// start and end at `root`. `None` when there is nothing at the end.
pub(super) fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut rest: Vec<PathBuf> = parts(path);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        let meta = fs::symlink_metadata(on_host(root, &next)).ok()?;
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let target = fs::read_link(on_host(root, &next)).ok()?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Some(real)
}

/// The components of a path, last first, without `/` and `.`.
fn parts(path: &Path) -> Vec<PathBuf> {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components()
        .filter(wanted)
        .rev()
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Java in the tree `root`: `default-java`, else what the system's `java` leads to, else the first
/// of `/usr/lib/jvm/java-*`.
fn default_java(root: &Path) -> Option<PathBuf> {
    let jvm = Path::new(base::JVM_DIR);
    let has_java = |home: &Path| resolve(root, &home.join("bin/java")).is_some();
    let default = jvm.join("default-java");
    if has_java(&default) {
        return resolve(root, &default);
    }
    if let Some(program) = resolve(root, Path::new("/etc/alternatives/java"))
        && let Some(home) = program.parent().and_then(Path::parent)
        && has_java(home)
    {
        return Some(home.to_path_buf());
    }
    let names = list(root, &on_host(root, jvm), |name| name.starts_with("java-"));
    let mut homes = names.into_keys().map(|name| jvm.join(name));
    homes
        .find(|home| has_java(home))
        .and_then(|home| resolve(root, &home))
}

/// The major version of the Java at `home`, from the file `release` that every JDK since 7 has:
/// `JAVA_VERSION="17.0.15"`, `JAVA_VERSION="1.8.0_402"`. A JRE of Java 8 that was taken out of its
/// JDK has it beside the folder `jre`.
fn java_version(root: &Path, home: &Path) -> Option<u32> {
    let files = [home.join("release"), home.parent()?.join("release")];
    files.iter().find_map(|file| {
        let real = on_host(root, &resolve(root, file)?);
        let text = fs::read_to_string(real).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
        major(line.trim_matches('"'))
    })
}

/// `17.0.15` is 17, `1.8.0_402` is 8.
fn major(version: &str) -> Option<u32> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let first: u32 = numbers.next()?.parse().ok()?;
    match first {
        1 => numbers.next()?.parse().ok(),
        _ => Some(first),
    }
}

/// Collects where symbolic links of the tree below `path` leave it for `/etc`: the folder that a
/// link leads to, or the folder that a file is in (a file of `/etc` itself alone). Only what
/// everybody may read: nothing else would be of use inside.
fn links_to_etc(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, Kind>) {
    let mut entries = 0;
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(listing) = fs::read_dir(on_host(root, &folder)) else {
            continue;
        };
        for entry in listing.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return;
            }
            let inside = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(inside),
                Ok(kind) if kind.is_symlink() => hops_to_etc(root, &inside, found),
                _ => {}
            }
        }
    }
}

/// Follows one link hop by hop and notes every stop in `/etc`.
fn hops_to_etc(root: &Path, link: &Path, found: &mut BTreeMap<PathBuf, Kind>) {
    let mut at = link.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(on_host(root, &at)) else {
            return;
        };
        let folder = at.parent().unwrap_or(Path::new("/"));
        at = base::normalized(&folder.join(target));
        if !at.starts_with("/etc") {
            continue;
        }
        let Some(kind) = kind(&on_host(root, &at)) else {
            return;
        };
        let shown = match (kind, at.parent()) {
            (Kind::File, Some(folder)) if folder != Path::new("/etc") => {
                (folder.to_path_buf(), Kind::Directory)
            }
            _ => (at.clone(), kind),
        };
        if shown.0 != Path::new("/etc") && is_public(&on_host(root, &shown.0)) {
            found.insert(shown.0, shown.1);
        }
    }
}

/// Whether everybody may read a file or enter and list a folder.
fn is_public(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else {
        return false;
    };
    let wanted = if meta.is_dir() { 0o005 } else { 0o004 };
    meta.permissions().mode() & wanted == wanted
}

/// The `*.war` files of a release, relative to it, sorted. Hidden folders, the insides of web
/// applications and `node_modules` are not looked into.
fn wars(release: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries = 0;
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(listing) = fs::read_dir(release.join(&folder)) else {
            continue;
        };
        for entry in listing.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                break;
            }
            let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else {
                continue;
            };
            let path = folder.join(&name);
            let skip = name.starts_with('.') || name == "WEB-INF" || name == "node_modules";
            if kind.is_dir() && !skip && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if kind.is_file() && name.ends_with(".war") && !skip {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
