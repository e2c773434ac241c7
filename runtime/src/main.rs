//! The OCI runtime `metactl-runtime`: options in, one verb, an exit code out. The work is done by
//! the library.

#![deny(unsafe_code)]
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

use std::ffi::OsString;
use std::io::Write;

use lexopt::{Arg, Parser, ValueExt};
use metactl_runtime::CgroupManager;
use metactl_runtime::verbs::words::{self, Words};
use metactl_runtime::verbs::{self, Failure, Globals};

#[cfg(all(target_env = "gnu", not(test)))]
#[path = "sys/start.rs"]
mod start;

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    program().into()
}

/// Returns the exit code.
fn program() -> u8 {
    let mut globals = Globals::default();
    globals.log.words = Words::of(std::env::args_os().next().as_deref());
    match dispatch(&mut globals) {
        Ok(code) => code,
        Err(failure) => {
            globals.log.fail(&failure);
            globals.log.words.exit_code(&failure)
        }
    }
}

fn dispatch(globals: &mut Globals) -> Result<u8, Failure> {
    let mut parser = Parser::from_env();
    let verb: OsString = loop {
        match parser.next()? {
            Some(Arg::Long("root")) => globals.root = parser.value()?.into(),
            Some(Arg::Long("log")) => globals.log.file = Some(parser.value()?.into()),
            Some(Arg::Long("log-format")) => {
                globals.log.json = match parser.value()?.string()?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => {
                        let text = format!("--log-format is text or json, not {other:?}");
                        return Err(Failure::Usage(text));
                    }
                };
            }
            Some(Arg::Long("systemd-cgroup")) => globals.cgroup_manager = CgroupManager::Systemd,
            // crun's word for it; podman uses it.
            Some(Arg::Long("cgroup-manager")) => {
                globals.cgroup_manager = manager(&parser.value()?.string()?)?;
            }
            // What is launched inherits it: not that of a supervisor which needed more for itself.
            Some(Arg::Long("soft-files")) => {
                verbs::soft_files(&parser.value()?.string()?)?;
            }
            // Engines pass these: every error says everything anyway, whether there is privilege is
            // seen, and checkpoints are not made.
            Some(Arg::Long("debug")) => globals.log.debug = true,
            Some(Arg::Long("criu")) => drop(parser.value()?),
            Some(Arg::Long("rootless")) => match parser.value()?.string()?.as_str() {
                "true" | "false" | "auto" => {}
                other => {
                    let text = format!("--rootless is true, false or auto, not {other:?}");
                    return Err(Failure::Usage(text));
                }
            },
            Some(Arg::Long("help") | Arg::Short('h')) => return say(&globals.log.words.help(None)),
            Some(Arg::Long("version") | Arg::Short('v')) => {
                return say(&globals.log.words.version());
            }
            Some(Arg::Value(verb)) => break verb,
            Some(other) => return Err(other.unexpected().into()),
            None => return Err(Failure::Usage("a verb is missing".into())),
        }
    };
    // The same help for every verb.
    let next = parser
        .try_raw_args()
        .and_then(|args| args.peek().map(ToOwned::to_owned));
    let verb = verb.to_string_lossy();
    let known = verbs::find(&verb).is_some() || words::NOT_DONE.contains(&&*verb);
    let asked = known && next.is_some_and(|word| word == "--help" || word == "-h");
    if verb == "help" || asked {
        return say(&globals.log.words.help(asked.then_some(&*verb)));
    }
    globals.log.begin(&verb);
    match verbs::find(&verb) {
        Some(run) => run(globals, &mut parser),
        None if known => Err(Failure::Usage(format!(
            "{verb}: checkpoints are not made by this runtime"
        ))),
        None => Err(Failure::Usage(format!(
            "unknown verb: No help topic for '{verb}'"
        ))),
    }
}

fn manager(word: &str) -> Result<CgroupManager, Failure> {
    match word {
        "cgroupfs" => Ok(CgroupManager::Files),
        "systemd" => Ok(CgroupManager::Systemd),
        "unit" => Ok(CgroupManager::Unit),
        "disabled" => Ok(CgroupManager::Nobody),
        other => Err(Failure::Usage(format!(
            "--cgroup-manager is cgroupfs, systemd, unit or disabled, not {other:?}"
        ))),
    }
}

fn say(text: &str) -> Result<u8, Failure> {
    // A reader that went away is no error.
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .unwrap_or_default();
    Ok(0)
}
