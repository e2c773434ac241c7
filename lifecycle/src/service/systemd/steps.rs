//! What the units of an instance ask of metactl: `metactl -a APP unit STEP`. Each is a process that ends.

use metactl_bundles::bundle::{EntryRef, read_manifest};

use super::{files, mend, names, states};
use crate::dns;
use crate::error::Result;
use crate::instance::Instance;
use crate::service::ended::settle;
use crate::service::network;
use crate::standalone::exits;
use crate::status::Exit;

/// Makes the network of a bundle. Returns what is worth a line in the journal.
pub(crate) fn network_up(
    instance: &Instance,
    digest: &str,
    uplink: Option<&str>,
) -> Result<Vec<String>> {
    let mut made = network::up(instance, digest, uplink)?;
    if made.has_names {
        made.said.extend(mend::ask(instance));
    }
    Ok(made.said)
}

/// What systemd tells of the end of a service (systemd.exec(5), `$SERVICE_RESULT`, `$EXIT_CODE`, `$EXIT_STATUS`).
#[derive(Debug, Default)]
struct Told {
    result: String,
    code: String,
    status: String,
}

impl Told {
    fn of_environment() -> Told {
        let get = |name: &str| std::env::var(name).unwrap_or_default();
        Told {
            result: get("SERVICE_RESULT"),
            code: get("EXIT_CODE"),
            status: get("EXIT_STATUS"),
        }
    }

    /// In metactl's words. `launched`: the program of the application was begun.
    fn exit(&self, launched: bool, oom: bool) -> Exit {
        let number = self.status.parse::<i32>().ok();
        let signal = || {
            let name = format!("SIG{}", self.status);
            let named = name.parse::<nix::sys::signal::Signal>().ok();
            named.map(|signal| signal as i32).or(number)
        };
        let (code, signal) = match self.code.as_str() {
            "exited" => (number, None),
            "killed" | "dumped" => (None, signal()),
            _ => (None, None),
        };
        let mut exit = exits::describe(code, signal, oom || self.result == "oom-kill", false);
        match self.result.as_str() {
            "timeout" => exit.reason.push_str(" (not in time)"),
            "watchdog" => exit.reason.push_str(&format!(" ({})", exits::NOT_ALIVE)),
            "protocol" => exit.reason.push_str(" (before it said that it is ready)"),
            _ => {}
        }
        if !launched && exit.failed {
            exit.reason = format!("could not be launched ({})", exit.reason);
        }
        // As the unit's SuccessExitStatus= and the way it was stopped have it.
        exit.failed = self.result != "success";
        exit
    }
}

/// The entry point as the units have it. While an instance is deployed that bundle is not yet the one in use.
fn of_units(instance: &Instance, entry: &str) -> Option<EntryRef> {
    let digest = files::bundle(super::dir(), &instance.name).ok()??;
    let bundle = instance.state_dir().join("bundles").join(digest);
    let entries = read_manifest(&bundle).ok()?.entries;
    entries.into_iter().find(|one| one.name == entry)
}

/// An entry point has ended: it is recorded, tidied up, and told.
pub(crate) fn ended(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    let definition = of_units(instance, entry);
    // Who ends by itself has no job that wants it to.
    let asked = states::has_job(&names::service(&instance.name, entry)).ok();
    let mut said = settle(instance, entry, definition, asked, |launched, oom| {
        Told::of_environment().exit(launched, oom)
    })?;
    if dns::status(instance).is_some() {
        said.extend(mend::ask(instance));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(result: &str, code: &str, status: &str) -> Told {
        Told {
            result: result.to_owned(),
            code: code.to_owned(),
            status: status.to_owned(),
        }
    }

    #[test]
    fn ends_in_words() {
        for (result, code, status, oom, words, failed) in [
            ("success", "exited", "0", false, "exit code 0", false),
            ("success", "killed", "TERM", false, "SIGTERM", false),
            (
                "success",
                "exited",
                "143",
                false,
                "exit code 143, SIGTERM",
                false,
            ),
            ("exit-code", "exited", "3", false, "exit code 3", true),
            (
                "signal",
                "killed",
                "KILL",
                true,
                "SIGKILL (out of memory)",
                true,
            ),
            (
                "oom-kill",
                "killed",
                "KILL",
                false,
                "SIGKILL (out of memory)",
                true,
            ),
            (
                "timeout",
                "killed",
                "KILL",
                false,
                "SIGKILL (not in time)",
                true,
            ),
            ("core-dump", "dumped", "SEGV", false, "SIGSEGV", true),
        ] {
            let exit = told(result, code, status).exit(true, oom);
            assert_eq!((exit.reason.as_str(), exit.failed), (words, failed));
        }
        let exit = told("exit-code", "exited", "78").exit(false, false);
        assert_eq!(exit.reason, "could not be launched (exit code 78)");
    }
}
