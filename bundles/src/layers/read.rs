//! Which files an instance's configuration is made of.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

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
/// The site's are chosen by the site that `metactl.conf` names and the application's name, which is
/// `[app] name` of the local layer, else the instance's: what is in the repository cannot choose.
///
/// # Errors
/// A bad name, a broken `[server]` section, and files that cannot be read, are no regular files, too
/// large, or not UTF-8. That a file does not exist is no error.
pub fn read(paths: &Paths, request: &Request<'_>) -> Result<Vec<Source>, Report> {
    if let Err(problem) = values::name(request.instance) {
        let message = format!("the name of an instance {problem}: `{}`", request.instance);
        return Err(Diagnostic::error(message).into());
    }
    let server = Server::read(paths)?;
    let mut out = Collector::default();
    let mut sources = Vec::new();
    let mut add = |layer, path: &Path| match read_file(path, layer) {
        Ok(Some(text)) => sources.push(Source {
            layer,
            path: path.to_owned(),
            text,
        }),
        Ok(None) => {}
        Err(diagnostic) => out.error(|| *diagnostic),
    };
    if let Some(path) = request.app_layer {
        add(LayerKind::App, path);
    }
    let local = paths.local_layer(request.instance);
    add(LayerKind::Server, &paths.server_conf());
    add(LayerKind::Local, &local);
    if let Some(site) = &server.site {
        let app = site_name(&sources, request.instance);
        for path in paths.site_layers(site, &app) {
            match read_file(&path, LayerKind::Site) {
                Ok(Some(text)) => sources.push(Source {
                    layer: LayerKind::Site,
                    path,
                    text,
                }),
                Ok(None) => {}
                Err(diagnostic) => out.error(|| *diagnostic),
            }
        }
    }
    out.finish()?;
    sources.sort_by_key(|source| source.layer);
    Ok(sources)
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

/// The text of a file, `None` when there is none.
///
/// The app layer comes from a repository: its file is not followed when it is a link, for a link to
/// `/etc/shadow` would be printed in messages.
pub(crate) fn read_file(path: &Path, layer: LayerKind) -> Result<Option<String>, Box<Diagnostic>> {
    let fail = |message: String, hint: &str| {
        Box::new(Diagnostic::error(message).at(Place::file(path)).hint(hint))
    };
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if layer == LayerKind::App {
        flags |= OFlags::NOFOLLOW;
    }
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
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
    let mut bytes = Vec::new();
    file.by_ref()
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(
            "larger than 1 MiB".to_owned(),
            "a configuration is a page or two of text",
        ));
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
        .at(Place::new(
            path,
            line,
            &text,
            mark..mark + '\u{fffd}'.len_utf8(),
        ))
        .label("this byte")
        .hint("save the file as UTF-8")
}
