//! Which files an instance's configuration is made of.

use std::cell::{OnceCell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::known::Texts;
use super::trust::{Hands, Trust};
use super::{LayerKind, Request, Source};
use crate::diagnostics::{Collector, Diagnostic, Place, Report};
use crate::ini::{self, Content};
use crate::keys::values;
use crate::paths::{Paths, conf};
use crate::server::Server;

/// The largest file of configuration, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Reads the files that exist of an instance's layers, lowest first.
///
/// # Errors
/// As [`Reader::new`] and [`Reader::read`].
pub fn read(paths: &Paths, request: &Request<'_>) -> Result<Vec<Source>, Report> {
    Reader::new(paths)?.read(request)
}

/// What was read of a file: its text, or nothing when there is none.
type Found<T = String> = Result<Option<T>, Box<Diagnostic>>;

/// Reads the layers of instances. What they have in common is read and understood once: `metactl.conf`,
/// the site's layer for all applications, and texts that stand in the files of several.
#[derive(Debug)]
pub struct Reader {
    trust: Trust,
    /// `nodes`.
    nodes: PathBuf,
    /// The folder of the server's site.
    site: Option<PathBuf>,
    /// `metactl.conf`.
    server_conf: Option<Source>,
    /// `site.conf`, once somebody asked for it.
    site_conf: OnceCell<Found<Source>>,
    /// The texts of other files that were read.
    texts: Texts,
    /// What a file is read into.
    buffer: RefCell<Vec<u8>>,
}

impl Reader {
    /// For the instances of this server.
    ///
    /// # Errors
    /// What is wrong with `metactl.conf` as a file, and in its `[server]` section.
    pub fn new(paths: &Paths) -> Result<Reader, Report> {
        let trust = Trust::new(&paths.config);
        let path = paths.server_conf();
        let text = read_trusted(&trust, &path).map_err(|diagnostic| *diagnostic)?;
        let server = match &text {
            Some(text) => Server::parse(&path, text)?,
            None => Server::default(),
        };
        let source = |text: String| Source::new(LayerKind::Server, path, text).understood();
        Ok(Reader {
            server_conf: text.map(source),
            nodes: paths.config.join("nodes"),
            site: server.site.as_deref().map(|site| paths.site(site)),
            trust,
            site_conf: OnceCell::new(),
            texts: Texts::default(),
            buffer: RefCell::default(),
        })
    }

    /// The layer for all applications of the site whose folder is `site`.
    fn site_conf(&self, site: &Path) -> &Found<Source> {
        self.site_conf.get_or_init(|| {
            let path = site.join("site.conf");
            let text = read_trusted(&self.trust, &path)?;
            Ok(text.map(|text| Source::new(LayerKind::Site, path, text).understood()))
        })
    }

    /// A layer that is an instance's own. What many say is in layers of application and site.
    fn layer(&self, layer: LayerKind, path: &Path) -> Found<Source> {
        let file = match layer {
            LayerKind::App => open_untrusted(path)?,
            _ => open_trusted(&self.trust, path)?,
        };
        let Some(file) = file else { return Ok(None) };
        let trust = layer.is_trusted().then_some(&self.trust);
        let mut buffer = self.buffer.borrow_mut();
        let text = read_file(path, &file, trust, &mut buffer)?;
        Ok(Some(match layer {
            LayerKind::App | LayerKind::Site => self.texts.source(layer, path, text),
            _ => Source::new(layer, path, text),
        }))
    }

    /// Reads the files that exist of an instance's layers, lowest first.
    ///
    /// The site's are chosen by the site that `metactl.conf` names and the application's name, which
    /// is `[app] name` of the local layer, else the instance's: what is in the repository cannot
    /// choose.
    ///
    /// # Errors
    /// A bad name, and files that cannot be read, are no regular files, too large, or not UTF-8; of
    /// site and local layer also files that somebody else can write, and links out of the
    /// configuration directory. That a file does not exist is no error.
    pub fn read(&self, request: &Request<'_>) -> Result<Vec<Source>, Report> {
        if let Err(problem) = values::name(request.instance) {
            let message = format!("the name of an instance {problem}: `{}`", request.instance);
            return Err(Diagnostic::error(message).into());
        }
        let mut out = Collector::default();
        let mut sources = Vec::with_capacity(LayerKind::ALL.len());
        let mut add = |found: Found<Source>| match found {
            Ok(source) => sources.extend(source),
            Err(diagnostic) => out.error(|| *diagnostic),
        };
        if let Some(path) = request.app_layer {
            add(self.layer(LayerKind::App, path));
        }
        let path = conf(&self.nodes, request.instance);
        let local = self.layer(LayerKind::Local, &path);
        if let Some(site) = &self.site {
            let name = match &local {
                Ok(Some(local)) => app_name(&local.text),
                _ => None,
            };
            let app = name.as_deref().unwrap_or(request.instance);
            add(self.site_conf(site).clone());
            add(self.layer(LayerKind::Site, &conf(site, app)));
        }
        add(Ok(self.server_conf.clone()));
        add(local);
        out.finish()?;
        Ok(sources)
    }
}

/// The name by which a site knows an instance: `[app] name` of its local layer, else its own.
pub fn site_name(sources: &[Source], instance: &str) -> String {
    let local = sources
        .iter()
        .find(|source| source.layer == LayerKind::Local);
    let name = local.and_then(|source| app_name(&source.text));
    name.unwrap_or_else(|| instance.to_owned())
}

/// `[app] name` of a layer, when it is one.
pub(crate) fn app_name(text: &str) -> Option<String> {
    // Few layers have the section; the others need no parsing for that.
    let is_header = |at: usize| text[at + 1..].trim_start().starts_with("app");
    memchr::memchr_iter(b'[', text.as_bytes()).find(|at| is_header(*at))?;
    let document = ini::parse(Path::new(""), text, &mut Collector::default());
    let app = document
        .sections
        .into_iter()
        .find(|section| section.name == "app")?;
    let entry = app.entries.into_iter().find(|entry| entry.key == "name")?;
    match entry.content {
        Content::Value(value) => values::name(&value.text).ok().map(str::to_owned),
        Content::Unset => None,
    }
}

/// The text of the app layer, `None` when there is none.
///
/// It comes from a repository: a link is not followed, for a link to `/etc/shadow` would be printed
/// in messages.
pub(crate) fn read_untrusted(path: &Path) -> Found {
    whole(path, open_untrusted(path)?, None)
}

/// The text of a file below the configuration directory, which only root and the caller may be able
/// to write; `None` when there is none.
pub(crate) fn read_trusted(trust: &Trust, path: &Path) -> Found {
    whole(path, open_trusted(trust, path)?, Some(trust))
}

fn whole(path: &Path, file: Option<OwnedFd>, trust: Option<&Trust>) -> Found {
    let text = |file| read_file(path, &file, trust, &mut Vec::new()).map(str::to_owned);
    file.map(text).transpose()
}

/// The file of the app layer, when there is one.
fn open_untrusted(path: &Path) -> Found<OwnedFd> {
    open(path).map_err(|error| cannot_open(path, error))
}

/// A file below the configuration directory, when there is one.
fn open_trusted(trust: &Trust, path: &Path) -> Found<OwnedFd> {
    // Mostly it is no link, in a folder that was looked at for another instance: one call less.
    match trust.in_known_folder(path, |folder, name| open_at(folder, Path::new(name))) {
        Some(Ok(file)) => return Ok(file),
        None | Some(Err(Errno::LOOP)) => {}
        Some(Err(error)) => return Err(cannot_open(path, error)),
    }
    match trust.real_path(path)? {
        Some(real) => open(&real).map_err(|error| cannot_open(path, error)),
        None => Ok(None),
    }
}

/// Opens a file that is no link; `None` when there is none.
fn open(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    open_at(rustix::fs::CWD, path)
}

/// As [`open`], for a path that begins in `folder`.
fn open_at(folder: impl AsFd, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    match rustix::fs::openat(folder, path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn fail(path: &Path, message: String, hint: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(message).at(Place::file(path)).hint(hint))
}

fn cannot_open(path: &Path, error: Errno) -> Box<Diagnostic> {
    if error == Errno::LOOP {
        let message = "a symbolic link is not followed here".to_owned();
        return fail(path, message, "put the file itself there");
    }
    let message = format!("cannot open the configuration: {error}");
    fail(path, message, "make it readable, or run metactl as root")
}

/// The text of an open file, which is called `path`, read into `buffer`. With `trust` only when nobody
/// else can write it.
fn read_file<'b>(
    path: &Path,
    file: &OwnedFd,
    trust: Option<&Trust>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b str, Box<Diagnostic>> {
    let cannot_read = |error: Errno| {
        let message = format!("cannot read the configuration: {error}");
        fail(path, message, "is it a regular file?")
    };
    let facts = rustix::fs::fstat(file).map_err(cannot_read)?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(fail(
            path,
            "not a regular file".to_owned(),
            "configuration is read from files only",
        ));
    }
    if let Some(trust) = trust {
        let hands = Hands {
            uid: facts.st_uid,
            gid: facts.st_gid,
            mode: facts.st_mode,
        };
        trust.check(path, path, hands)?;
    }
    let size = usize::try_from(facts.st_size).unwrap_or(usize::MAX);
    if !read_to_end(file, size, buffer).map_err(cannot_read)? {
        return Err(fail(
            path,
            "larger than 1 MiB".to_owned(),
            "a configuration is a page or two of text",
        ));
    }
    str::from_utf8(buffer).map_err(|error| Box::new(not_utf8(path, buffer, error.valid_up_to())))
}

/// Reads a regular file that says it has `size` bytes; `false`: it has more than [`MAX_FILE`].
fn read_to_end(file: &OwnedFd, size: usize, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    let most = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
    bytes.clear();
    if size > most {
        return Ok(false);
    }
    // One byte more than there should be: when it stays empty, the end was reached. The size is a
    // hint only, the file may grow meanwhile.
    bytes.reserve(size + 1);
    loop {
        let read = match rustix::io::read(file, spare_capacity(bytes)) {
            Err(Errno::INTR) => continue,
            read => read?,
        };
        if bytes.len() > most {
            return Ok(false);
        }
        if read == 0 || bytes.len() == size {
            return Ok(true);
        }
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len().max(4096));
        }
    }
}

/// Points at the first byte that is not UTF-8.
fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> Diagnostic {
    let before = &bytes[..at];
    let start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    let end = bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |offset| at + offset);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let text = String::from_utf8_lossy(&bytes[start..end]);
    let mark = at - start;
    Diagnostic::error(format!("not UTF-8: byte {:#04x}", bytes[at]))
        .at(Place::in_layer(
            path,
            &String::from_utf8_lossy(&bytes[..end]),
            line,
            &text,
            mark..mark + '\u{fffd}'.len_utf8(),
        ))
        .label("this byte")
        .hint("save the file as UTF-8")
}
