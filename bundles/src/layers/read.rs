//! Which files an instance's configuration is made of.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::trust::{self, Trust};
use super::{LayerKind, Request, Source};
use crate::diagnostics::{Collector, Diagnostic, Place, Report};
use crate::ini::{self, Content};
use crate::keys::values;
use crate::paths::Paths;
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

/// Reads the layers of instances. What they have in common is read once: `metactl.conf`.
#[derive(Debug)]
pub struct Reader<'a> {
    paths: &'a Paths,
    trust: Trust,
    server: Server,
    /// The text of `metactl.conf`.
    server_conf: Option<String>,
}

impl<'a> Reader<'a> {
    /// For the instances of this server.
    ///
    /// # Errors
    /// What is wrong with `metactl.conf` as a file, and in its `[server]` section.
    pub fn new(paths: &'a Paths) -> Result<Reader<'a>, Report> {
        let trust = Trust::new(&paths.config);
        let path = paths.server_conf();
        let server_conf = read_trusted(&trust, &path).map_err(|diagnostic| *diagnostic)?;
        let server = match &server_conf {
            Some(text) => Server::parse(&path, text)?,
            None => Server::default(),
        };
        Ok(Reader {
            paths,
            trust,
            server,
            server_conf,
        })
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
        let mut sources = Vec::new();
        let mut add =
            |layer, path: PathBuf, text: Result<Option<String>, Box<Diagnostic>>| match text {
                Ok(Some(text)) => sources.push(Source { layer, path, text }),
                Ok(None) => {}
                Err(diagnostic) => out.error(|| *diagnostic),
            };
        if let Some(path) = request.app_layer {
            add(LayerKind::App, path.to_owned(), read_untrusted(path));
        }
        let path = self.paths.server_conf();
        add(LayerKind::Server, path, Ok(self.server_conf.clone()));
        let path = self.paths.local_layer(request.instance);
        let local = read_trusted(&self.trust, &path);
        if let Some(site) = &self.server.site {
            let text = local.as_ref().ok().and_then(Option::as_ref);
            let name = text.and_then(|text| app_name(text));
            let app = name.as_deref().unwrap_or(request.instance);
            for path in self.paths.site_layers(site, app) {
                let text = read_trusted(&self.trust, &path);
                add(LayerKind::Site, path, text);
            }
        }
        add(LayerKind::Local, path, local);
        out.finish()?;
        sources.sort_by_key(|source| source.layer);
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
pub(crate) fn read_untrusted(path: &Path) -> Result<Option<String>, Box<Diagnostic>> {
    read_file(path, path, Writers::Anybody)
}

/// The text of a file below the configuration directory, which only root and the caller may be able
/// to write; `None` when there is none.
pub(crate) fn read_trusted(trust: &Trust, path: &Path) -> Result<Option<String>, Box<Diagnostic>> {
    match trust.real_path(path)? {
        Some(real) => read_file(path, &real, Writers::Trusted),
        None => Ok(None),
    }
}

/// Who may have written a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writers {
    Anybody,
    Trusted,
}

/// The text of the file `path`, which is really at `real`.
fn read_file(
    path: &Path,
    real: &Path,
    writers: Writers,
) -> Result<Option<String>, Box<Diagnostic>> {
    let fail = |message: String, hint: &str| {
        Box::new(Diagnostic::error(message).at(Place::file(path)).hint(hint))
    };
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let mut file = match rustix::fs::open(real, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => {
            return Err(fail(
                "a symbolic link is not followed here".to_owned(),
                "put the file itself there",
            ));
        }
        Err(error) => {
            let hint = "make it readable, or run metactl as root";
            return Err(fail(
                format!("cannot open the configuration: {error}"),
                hint,
            ));
        }
    };
    let cannot_read = |error: std::io::Error| {
        fail(
            format!("cannot read the configuration: {error}"),
            "is it a regular file?",
        )
    };
    let facts = file.metadata().map_err(cannot_read)?;
    if !facts.is_file() {
        return Err(fail(
            "not a regular file".to_owned(),
            "configuration is read from files only",
        ));
    }
    if writers == Writers::Trusted {
        trust::check(path, path, &facts)?;
    }
    let too_large = || {
        fail(
            "larger than 1 MiB".to_owned(),
            "a configuration is a page or two of text",
        )
    };
    if facts.len() > MAX_FILE {
        return Err(too_large());
    }
    // What the file says is its size is a hint only: it may grow meanwhile.
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len() + 1).unwrap_or_default());
    file.by_ref()
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(Box::new(not_utf8(
            path,
            error.as_bytes(),
            error.utf8_error().valid_up_to(),
        ))),
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
