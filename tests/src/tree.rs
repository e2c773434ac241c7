//! A directory as it was, to compare with what it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every path below a directory, with its kind, owner, mode and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// What is below `root` now; symlinks are not followed. Nothing at all when it is not there.
    pub fn of(root: &Path) -> Tree {
        let mut entries = BTreeMap::new();
        collect(root, root, &mut entries);
        Tree(entries)
    }

    /// The same without the paths for which `ignore` says so.
    pub fn without(mut self, ignore: impl Fn(&Path) -> bool) -> Tree {
        self.0.retain(|path, _| !ignore(path));
        self
    }

    /// Fails the test with the list of differences unless `now` is the same.
    #[track_caller]
    pub fn assert_same(&self, now: &Tree) {
        let mut differences = Vec::new();
        for (path, was) in &self.0 {
            match now.0.get(path) {
                None => differences.push(format!("- {} ({was})", path.display())),
                Some(is) if is != was => {
                    differences.push(format!("~ {}: {was} -> {is}", path.display()));
                }
                Some(_) => {}
            }
        }
        for (path, is) in now.0.iter().filter(|(path, _)| !self.0.contains_key(*path)) {
            differences.push(format!("+ {} ({is})", path.display()));
        }
        assert!(
            differences.is_empty(),
            "the directory changed:\n{}",
            differences.join("\n")
        );
    }

    /// The paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

fn collect(root: &Path, dir: &Path, entries: &mut BTreeMap<PathBuf, String>) {
    let Ok(children) = fs::read_dir(dir) else {
        return;
    };
    for child in children {
        let path = child.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            fingerprint(&path)
        } else if kind.is_dir() {
            "directory".to_owned()
        } else {
            "special".to_owned()
        };
        let mode = meta.permissions().mode() & 0o7777;
        let relative = path.strip_prefix(root).unwrap().to_owned();
        entries.insert(
            relative,
            format!("{mode:o} {}:{} {content}", meta.uid(), meta.gid()),
        );
        if kind.is_dir() {
            collect(root, &path, entries);
        }
    }
}

fn fingerprint(path: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let bytes = fs::read(path).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes #{:016x}", bytes.len(), hasher.finish())
}
