//! `resolve`: the resolver of this server, in the foreground.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Parser, ValueExt};
use metactl_netns::resolver::{Resolver, Settings};

use crate::Error;
use crate::network::NetworkError;
use crate::request::DEFAULT_SERVER_DIR;
use crate::resolver::{OnDisk, give_up_privileges};
use crate::verbs::{Failure, Globals, Word, next, print, unexpected};

/// Says `ready` when it answers, or when another one does. Ends when the last instance is gone.
pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut settings = Settings::of(DEFAULT_SERVER_DIR.as_ref());
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) => match name.as_str() {
                "--server-dir" => settings.server_dir = parser.value()?.into(),
                "--nameserver" => settings.nameservers.push(parser.value()?.parse()?),
                "--grace" => settings.grace = Duration::from_secs(parser.value()?.parse()?),
                "--resolv-conf" => settings.resolv_conf = parser.value()?.into(),
                "--hosts" => settings.hosts = parser.value()?.into(),
                "--log-file" => settings.log = Some(parser.value()?.into()),
                _ => return Err(unexpected(&word)),
            },
            word => return Err(unexpected(word)),
        }
    }
    let server_dir = std::path::absolute(&settings.server_dir)
        .map_err(|source| system("find the server's directory", source))?;
    settings.server_dir = server_dir.clone();
    let has_log = settings.log.is_some();
    let places = OnDisk {
        run: server_dir.parent().map_or_else(PathBuf::new, PathBuf::from),
        root: globals.root.clone(),
    };
    let resolver = Resolver::open(settings, Box::new(places)).map_err(Error::from)?;
    let Some(resolver) = resolver else {
        print("ready\n")?;
        return Ok(0);
    };
    // Away from the terminal and the directory of whoever needed it first. It fails for who is away already.
    let _away = rustix::process::setsid();
    rustix::process::chdir("/").map_err(|e| system("go to /", e.into()))?;
    settle().map_err(|source| system("take over signals and limits", source))?;
    give_up_privileges().map_err(|source| system("give up privileges", source))?;
    print("ready\n")?;
    if has_log {
        // Whoever started it listens no longer.
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
        let null = null.map_err(|source| system("open /dev/null", source))?;
        let quiet =
            rustix::stdio::dup2_stdout(&null).and_then(|()| rustix::stdio::dup2_stderr(&null));
        quiet.map_err(|e| system("leave the output", e.into()))?;
    }
    resolver.run().map_err(Error::from)?;
    Ok(0)
}

/// Whoever started it may have blocked signals for itself; and each question under way takes a descriptor.
fn settle() -> io::Result<()> {
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    let kind = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(kind);
    limit.current = limit.maximum;
    rustix::process::setrlimit(kind, limit)?;
    Ok(())
}

fn system(what: &str, source: io::Error) -> Failure {
    let what = what.to_owned();
    Failure::Error(Error::Network(NetworkError::System { what, source }))
}
