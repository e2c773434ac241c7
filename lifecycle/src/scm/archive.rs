//! A tar, war or jar file as source.
//!
//! A tar file is unpacked, entry by entry and by nobody's command: only plain files, folders and
//! links, at paths that stay inside, and never more than there is room for. Links are made last, so
//! that nothing is ever written through one. A war or jar file is the release as it is; only its
//! `.metactl` is read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{Revision, TAG, folder, jar, with_tag};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// What is unpacked.
const TARS: &[&str] = &[".tar", ".tar.gz", ".tgz"];
/// What is a release as it is.
const JARS: &[&str] = &[".war", ".jar"];
/// Compressed otherwise.
const OTHERS: &[&str] = &[".tar.xz", ".tar.bz2", ".tar.zst", ".zip"];
/// The most that an archive may unpack to, and the most entries.
const MOST_BYTES: u64 = 16 << 30;
const MOST_ENTRIES: usize = 1_000_000;
/// How deep folders may be.
const DEEPEST: usize = 200;
/// What stays free.
const RESERVE: u64 = 64 << 20;

/// An archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: String,
}

impl Archive {
    pub(super) fn new(path: &str) -> Archive {
        Archive {
            path: path.to_owned(),
        }
    }

    /// By its name: it may not be there yet.
    pub(super) fn is_one(path: &str) -> bool {
        let mut known = TARS.iter().chain(JARS).chain(OTHERS);
        known.any(|end| path.ends_with(end)) && !Path::new(path).is_dir()
    }

    pub(super) fn needs_tag(&self) -> bool {
        self.path.contains(TAG)
    }

    pub(super) fn shown(&self) -> String {
        self.path.clone()
    }

    pub(super) fn fetch(&self, tag: &str) -> Result<Revision> {
        let path = with_tag(&self.path, tag)?;
        if OTHERS.iter().any(|end| path.ends_with(end)) {
            return Err(self.failed(&path, "metactl does not unpack this kind".to_owned()));
        }
        let mut file = open(Path::new(&path))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer).on("read", Path::new(&path))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        Ok(Revision {
            tag: match tag {
                "" => files::name_of(Path::new(&path)).to_owned(),
                tag => tag.to_owned(),
            },
            commit: hex(hash),
            is_tag: !tag.is_empty(),
        })
    }

    pub(super) fn file(&self, revision: &Revision, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.of(revision)?;
        if is_jar(&path) {
            return jar::file(&path, name).map_err(|why| self.failed(&path.to_string_lossy(), why));
        }
        // A tar file has no list of its files: it is unpacked for a look.
        let dir = scratch()?;
        let found = self
            .checkout(revision, &dir)
            .and_then(|()| folder::plain_file(&dir, name));
        files::remove_tree(&dir)?;
        found
    }

    pub(super) fn checkout(&self, revision: &Revision, to: &Path) -> Result<()> {
        let path = self.of(revision)?;
        let file = open(&path)?;
        let mut hashed = Hashed {
            inner: file,
            hash: Sha256::new(),
        };
        if is_jar(&path) {
            self.keep_jar(&path, &mut hashed, to)?;
        } else {
            self.unpack(&path, &mut hashed, to)?;
        }
        // What is behind the last entry counts too.
        io::copy(&mut hashed, &mut io::sink()).on("read", &path)?;
        if hex(hashed.hash) == revision.commit {
            return Ok(());
        }
        let why = "it was changed while it was read".to_owned();
        Err(self.failed(&path.to_string_lossy(), why))
    }

    fn keep_jar(&self, path: &Path, hashed: &mut Hashed, to: &Path) -> Result<()> {
        let copy = to.join(files::name_of(path));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o644).open(&copy);
        let mut file = file.on("write", &copy)?;
        io::copy(hashed, &mut file).on("write", &copy)?;
        let layer = crate::release::APP_LAYER;
        let text =
            jar::file(&copy, layer).map_err(|why| self.failed(&path.to_string_lossy(), why))?;
        if let Some(text) = text {
            let layer = to.join(layer);
            fs::write(&layer, text).on("write", &layer)?;
        }
        Ok(())
    }

    fn unpack(&self, path: &Path, hashed: &mut Hashed, to: &Path) -> Result<()> {
        let name = path.to_string_lossy();
        let reader: Box<dyn Read + '_> = match name.ends_with("gz") {
            true => Box::new(MultiGzDecoder::new(BufReader::new(&mut *hashed))),
            false => Box::new(&mut *hashed),
        };
        let mut unpacking = Unpacking::into(to)?;
        let failed = |why: String| self.failed(&name, why);
        let broken = |error: io::Error| failed(error.to_string());
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(broken)? {
            unpacking
                .entry(&mut entry.map_err(broken)?)
                .map_err(failed)?;
        }
        unpacking.links().map_err(failed)?;
        // Behind the end of the archive there may be padding, which the digest covers.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
        strip_only_folder(to)
    }

    fn of(&self, revision: &Revision) -> Result<PathBuf> {
        let tag = if revision.is_tag { &revision.tag } else { "" };
        with_tag(&self.path, tag).map(PathBuf::from)
    }

    fn failed(&self, path: &str, why: String) -> LifecycleError {
        LifecycleError::Source {
            action: "unpack".to_owned(),
            repo: path.to_owned(),
            why,
            hint: "a tar, tar.gz, war or jar file; other kinds by a [build] fetch command"
                .to_owned(),
        }
    }
}

fn is_jar(path: &Path) -> bool {
    let name = path.to_string_lossy();
    JARS.iter().any(|end| name.ends_with(end))
}

fn open(path: &Path) -> Result<File> {
    let missing = |why: String| LifecycleError::Source {
        action: "read".to_owned(),
        repo: path.display().to_string(),
        why,
        hint: "[build] repo names it".to_owned(),
    };
    let file = File::open(path).map_err(|error| missing(error.to_string()))?;
    match file.metadata().on("read", path)?.is_file() {
        true => Ok(file),
        false => Err(missing("it is no plain file".to_owned())),
    }
}

/// A fresh directory that only root can look into.
fn scratch() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("metactl-look-{}", std::process::id()));
    files::remove_tree(&path)?;
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path).on("make", &path)?;
    Ok(path)
}

fn hex(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file, and the digest of what was read of it.
struct Hashed {
    inner: File,
    hash: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// A tar file on its way to disk. Errors are the ends of sentences about the archive.
struct Unpacking<'a> {
    to: &'a Path,
    room: u64,
    entries: usize,
    /// Links, made when everything else is there.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Unpacking<'a> {
    fn into(to: &'a Path) -> Result<Unpacking<'a>> {
        let system = rustix::fs::statvfs(to).on("look at", to)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        Ok(Unpacking {
            to,
            room: free.saturating_sub(RESERVE).min(MOST_BYTES),
            entries: 0,
            links: BTreeMap::new(),
        })
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> std::result::Result<(), String> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        let named = entry
            .path()
            .map_err(|error| error.to_string())?
            .into_owned();
        let shown = named.display().to_string();
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let Some(inner) = inside(&named) else {
            return Err(format!("{shown:?} leads out of it"));
        };
        if inner.as_os_str().is_empty() {
            return Ok(());
        }
        let target = self.to.join(&inner);
        match kind {
            EntryType::Directory => self.folder(&inner),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.above(&inner)?;
                let mode = entry.header().mode().unwrap_or(0o644);
                self.file(entry, &target, mode)
            }
            EntryType::Symlink => {
                let text = link_of(entry)?;
                self.links.insert(inner, text);
                Ok(())
            }
            EntryType::Link => {
                self.above(&inner)?;
                let text = link_of(entry)?;
                let from = inside(&text).ok_or_else(|| format!("{shown:?} leads out of it"))?;
                let from = self.to.join(from);
                let meta = from.symlink_metadata().map_err(|error| error.to_string())?;
                if !meta.is_file() {
                    return Err(format!("{shown:?} is a link to no file of it"));
                }
                let mut file = File::open(&from).map_err(|error| error.to_string())?;
                self.file(&mut file, &target, meta.permissions().mode())
            }
            _ => Err(format!("{shown:?} is no file, folder or link")),
        }
    }

    /// Makes a folder and those above it.
    fn folder(&mut self, inner: &Path) -> std::result::Result<(), String> {
        if inner.components().count() > DEEPEST {
            return Err(format!("{:?} is too deep", inner.display().to_string()));
        }
        let path = self.to.join(inner);
        // Nothing in there is a link yet, so this follows none.
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", inner.display()))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).map_err(|error| error.to_string())
    }

    fn above(&mut self, inner: &Path) -> std::result::Result<(), String> {
        match inner.parent() {
            Some(above) if !above.as_os_str().is_empty() => self.folder(above),
            _ => Ok(()),
        }
    }

    fn file(
        &mut self,
        from: &mut impl Read,
        target: &Path,
        mode: u32,
    ) -> std::result::Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", target.display());
        // The later one of two entries of a name counts, as tar(1) has it.
        match fs::remove_file(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(target);
        let mut file = file.map_err(failed)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(failed)?;
        let written = io::copy(&mut from.take(self.room.saturating_add(1)), &mut file);
        let written = written.map_err(failed)?;
        match self.room.checked_sub(written) {
            Some(left) => self.room = left,
            None => return Err("it unpacks to more than there is room for".to_owned()),
        }
        Ok(())
    }

    /// Makes the links. Where they lead is judged when the release is made.
    fn links(&mut self) -> std::result::Result<(), String> {
        for (inner, text) in std::mem::take(&mut self.links) {
            let path = self.to.join(&inner);
            let shown = inner.display();
            // A link may not be the folder of another entry, and a folder of links is made here.
            let mut above = inner.ancestors().skip(1);
            let through = above.any(|dir| {
                let meta = self.to.join(dir).symlink_metadata();
                meta.is_ok_and(|meta| meta.is_symlink())
            });
            if through {
                return Err(format!("{shown} is below a link"));
            }
            self.above(&inner)?;
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => return Err(format!("{shown} is a folder and a link")),
                Ok(_) => fs::remove_file(&path).map_err(|error| format!("{shown}: {error}"))?,
                Err(_) => {}
            }
            symlink(&text, &path).map_err(|error| format!("{shown}: {error}"))?;
        }
        Ok(())
    }
}

/// The path as one that stays below a folder; `None` when it does not.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(inner)
}

fn link_of(entry: &tar::Entry<'_, impl Read>) -> std::result::Result<PathBuf, String> {
    let link = entry.link_name().map_err(|error| error.to_string())?;
    link.map(|link| link.into_owned())
        .ok_or_else(|| "a link leads nowhere".to_owned())
}

/// `myapp-1.2.3/` is the only thing in it: then what is in there is meant.
fn strip_only_folder(to: &Path) -> Result<()> {
    let entries = files::entries(to)?;
    let [only] = entries.as_slice() else {
        return Ok(());
    };
    if !only.symlink_metadata().on("read", only)?.is_dir() {
        return Ok(());
    }
    // Under a name that nothing in there can have at the same time.
    let aside = to.with_extension("unpacked");
    files::remove_tree(&aside)?;
    fs::rename(only, &aside).on("move", only)?;
    for path in files::entries(&aside)? {
        let target = to.join(path.file_name().unwrap_or_default());
        fs::rename(&path, &target).on("move", &path)?;
    }
    files::remove_tree(&aside).map(drop)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
