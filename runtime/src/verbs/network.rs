//! `network up` and `network down`: a network namespace that lives without a process; `network refresh`: what all have
//! in common on the server is put back as it is recorded.

use lexopt::{Parser, ValueExt};

use crate::network::{NetworkError, NetworkInput, Pin};
use crate::request::NetworkFiles;
use crate::verbs::{Failure, Globals, Word, next, print, unexpected};

pub(super) fn run(_: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut verb = None;
    let (mut spec, mut names, mut pin) = (None, None, None);
    let (mut uplink, mut user, mut server_dir) = (None, None, None);
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) => {
                let slot = match name.as_str() {
                    "--spec" => &mut spec,
                    "--names" => &mut names,
                    "--pin" => &mut pin,
                    "--server-dir" => &mut server_dir,
                    "--uplink" => &mut uplink,
                    "--user" => &mut user,
                    _ => return Err(unexpected(&word)),
                };
                *slot = Some(parser.value()?);
            }
            Word::Value(value) if verb.is_none() => verb = Some(value.clone().string()?),
            word => return Err(unexpected(word)),
        }
    }
    let missing = |what: &str| Failure::Usage(format!("{what} is missing"));
    if verb.as_deref() == Some("refresh") {
        let dir = server_dir.unwrap_or_else(|| crate::request::DEFAULT_SERVER_DIR.into());
        metactl_netns::server::refresh(dir.as_ref()).map_err(NetworkError::from)?;
        return Ok(0);
    }
    let pin = pin.ok_or_else(|| missing("--pin"))?;
    let user = user.ok_or_else(|| missing("--user"))?.string()?;
    let server_dir = server_dir.unwrap_or_else(|| crate::request::DEFAULT_SERVER_DIR.into());
    let pin = Pin::lock(pin.as_ref(), server_dir.as_ref(), &user)?;
    match verb.as_deref() {
        Some("up") => {
            let uplink = uplink.map(|u| u.string()).transpose()?;
            let input = NetworkInput::load(&NetworkFiles {
                spec: spec.ok_or_else(|| missing("--spec"))?.into(),
                names: names.map(Into::into),
                uplink: uplink.clone(),
                server_dir: server_dir.into(),
            })?;
            pin.up(&input, uplink.as_deref())?;
        }
        Some("down") => {
            let undone: String = pin.down()?.iter().map(|line| format!("{line}\n")).collect();
            print(&undone)?;
        }
        _ => return Err(Failure::Usage("network takes up, down or refresh".into())),
    }
    Ok(0)
}
