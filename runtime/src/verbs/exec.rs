//! `exec`: one more process in a running container.

use lexopt::{Parser, ValueExt};

use crate::Error;
use crate::cgroup::Below;
use crate::launch::exec::{ExecOptions, exec};
use crate::launch::signals::Signals;
use crate::spec::load_process;
use crate::verbs::options::{Handed, number};
use crate::verbs::{Failure, Globals, Word, next, relay, unexpected, unless_exposed};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    carry_out(globals, parser).map_err(Failure::not_executed)
}

fn carry_out(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut options = ExecOptions::default();
    let mut id = None;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) => match name.as_str() {
                "--tty" | "-t" => options.terminal = true,
                "--detach" | "-d" => options.detach = true,
                "--user" | "-u" => options.user = Some(user(&parser.value()?.string()?)?),
                "--cwd" => options.cwd = Some(parser.value()?.into()),
                "--env" | "-e" => options
                    .environment
                    .push(variable(parser.value()?.string()?)?),
                "--process" | "-p" => {
                    options.process = Some(load_process(parser.value()?.as_ref())?);
                }
                "--pid-file" => options.pid_file = Some(parser.value()?.into()),
                "--console-socket" => options.console_socket = Some(parser.value()?.into()),
                "--pidfd-socket" => options.pidfd_socket = Some(parser.value()?.into()),
                "--preserve-fds" => options.preserve_fds = number(name, parser)?,
                "--cap" | "-c" => options.capabilities.push(parser.value()?.string()?),
                "--additional-gids" | "-g" => options.groups.push(group(parser)?),
                "--no-new-privs" => options.no_new_privileges = Some(true),
                "--apparmor" => options.apparmor = Some(parser.value()?.string()?),
                "--process-label" => options.label = Some(parser.value()?.string()?),
                "--cgroup" => {
                    let below = Below::new(&parser.value()?.string()?).map_err(Error::from)?;
                    options.cgroups.push(below);
                }
                "--ignore-paused" => options.ignore_paused = true,
                _ => return Err(unexpected(&word)),
            },
            Word::Value(value) => {
                id = Some(value.clone().string()?);
                break;
            }
        }
    }
    // Everything after the id is the command, options too.
    for argument in parser.raw_args()? {
        options.arguments.push(argument.string()?);
    }
    if options.arguments.first().is_some_and(|first| first == "--") {
        options.arguments.remove(0);
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    if options.arguments.is_empty() && options.process.is_none() {
        return Err(Failure::Usage("a command to execute is missing".into()));
    }
    let handed = Handed::over(options.preserve_fds)?;
    (options.preserve_fds, options.listen_fds) = (handed.count, handed.listen);
    let mut signals = Signals::take_over()?;
    let joined = unless_exposed(exec(&globals.root, &id, &options, Some(&mut signals)))?;
    globals
        .log
        .stages(joined.process.pid, "setns_init: about to exec");
    if options.detach {
        return Ok(0);
    }
    let ended = relay::until_end(&joined.pidfd, None, joined.console, &mut signals)?;
    Ok(u8::try_from(ended.code()).unwrap_or(255))
}

/// `UID` or `UID:GID`, numbers and nothing else (CVE-2026-30892: a text of which only the
/// beginning was understood).
fn user(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .filter(|n| *n != u32::MAX)
    };
    let parsed = match text.split_once(':') {
        None => number(text).map(|uid| (uid, None)),
        Some((uid, gid)) => number(uid)
            .zip(number(gid))
            .map(|(uid, gid)| (uid, Some(gid))),
    };
    let why = || Failure::Usage(format!("--user {text:?} is not UID or UID:GID, in numbers"));
    parsed.ok_or_else(why)
}

fn group(parser: &mut Parser) -> Result<u32, Failure> {
    let text = parser.value()?.string()?;
    match user(&text)? {
        (gid, None) => Ok(gid),
        _ => Err(Failure::Usage(format!(
            "{text:?} is not the number of a group"
        ))),
    }
}

fn variable(text: String) -> Result<String, Failure> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text),
        _ => Err(Failure::Usage(format!("--env {text:?} is not NAME=value"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_understood_whole_or_not_at_all() {
        assert_eq!(user("0").unwrap(), (0, None));
        assert_eq!(user("1000:33").unwrap(), (1000, Some(33)));
        for bad in [
            "",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "1000x",
            "+1",
            "-1",
            " 1",
            "root",
            "4294967295",
        ] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }
}
