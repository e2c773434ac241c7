//! In whose words it speaks. Under its own name the runtime has its own; called as `runc`, by a
//! symbolic link, it has those of runc, for engines and scripts which read them: help, version,
//! errors, lines of the log, exit codes. What it does is the same under both names.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;

use crate::Error;
use crate::cgroup::CgroupError;
use crate::launch::LaunchError;
use crate::plan::PlanError;
use crate::state::{OCI_VERSION, now_rfc3339};
use crate::verbs::Failure;

/// Verbs of runc that this runtime does not have.
pub const NOT_DONE: &[&str] = &["checkpoint", "restore"];

/// What the program can do.
const HELP: &str = "\
metactl-runtime: launches OCI bundles on Linux

metactl-runtime [--root DIR] [--log FILE] [--log-format text|json]
  [--soft-files N] [--systemd-cgroup | --cgroup-manager cgroupfs|systemd|unit|disabled] VERB

  run [LAUNCH] [RUN] ID                       a container, from beginning to end
  create [LAUNCH] ID                          everything but its program
  start ID                                    the program of a created container
  exec [EXEC] ID [COMMAND...]                 one more process in a container
  state ID                                    its state, as JSON
  list [--quiet] [--format table|json]        all containers
  ps [--format table|json] ID [PS OPTION...]  its processes
  kill [--all] ID [SIGNAL]                    a signal to its first process
  pause ID, resume ID                         all its processes stop for a while
  update [--resources FILE] [LIMIT] ID        other limits for a running container
  events [--stats] [--interval DURATION] ID   what it uses, as JSON
  delete [--force] ID                         removes what is left of it
  plan [LAUNCH] [ID]                          what `run` would do, a line a step
  spec [--bundle DIR] [--rootless]            writes a config.json to begin with
  features                                    what this runtime can do, as JSON
  network up --spec FILE [--names FILE] [--uplink DEVICE,...] --pin PATH --user NAME
  network down --pin PATH --user NAME         a network without a process
  network refresh                             what instances share is put back as recorded
  resolve [--nameserver ADDRESS]... [--grace SECONDS] [--resolv-conf FILE] [--hosts FILE] [--log-file FILE]
                                              answers what instances ask for by name, until none is left

  LAUNCH: --bundle DIR, --pid-file FILE, --console-socket SOCKET, --pidfd-socket SOCKET,
    --preserve-fds N, --no-pivot, --no-new-keyring, --notify,
    --network FILE [--names FILE] [--uplink DEVICE,...] or --netns PATH, --server-dir DIR
  RUN: --detach, --keep, --exit-file FILE
  EXEC: --tty, --detach, --user UID[:GID], --additional-gids GID, --cwd DIR, --env NAME=VALUE,
    --cap CAPABILITY, --no-new-privs, --apparmor PROFILE, --process-label LABEL, --process FILE,
    --pid-file FILE, --console-socket SOCKET, --pidfd-socket SOCKET, --preserve-fds N, --ignore-paused,
    --cgroup [CONTROLLER[,CONTROLLER...]:]PATH

With --cgroup-manager unit, `run --detach` is the ExecStart= of a service with Type=notify: its cgroup is the
  container's, and the container's first process becomes its main process. --notify: the program says itself
  when it is ready.

Defaults: --root /run/metactl/oci ($XDG_RUNTIME_DIR/metactl/oci without root), --bundle .,
  --server-dir /run/metactl/server
Exit codes: that of the program; 1 failed, 64 usage, 77 not permitted, 78 configuration, and 255
  when `exec` failed.
";

/// Whose words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Words {
    /// Its own.
    #[default]
    Own,
    /// Those of runc 1.1 and later.
    Runc,
}

impl Words {
    /// Those that go with the name by which the program was called (its first argument).
    pub fn of(called: Option<&OsStr>) -> Words {
        match called.and_then(|called| Path::new(called).file_name()) {
            Some(name) if name == "runc" => Words::Runc,
            _ => Words::Own,
        }
    }

    /// What the program can do, or a verb of it.
    pub fn help(self, verb: Option<&str>) -> String {
        if self == Words::Own {
            return HELP.to_owned();
        }
        let (title, usage) = HELP.split_once("\n\n").unwrap_or(("", HELP));
        let name = match verb {
            None => format!("runc - Open Container Initiative runtime, by {title}"),
            Some(verb) => format!("runc {verb} - {}", summary(verb)),
        };
        let usage = usage.replace("metactl-runtime", "runc");
        format!("NAME:\n   {name}\n\nUSAGE:\n{usage}")
    }

    /// The versions of the program and of the specification.
    pub fn version(self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Words::Own => format!("metactl-runtime version {version}\nspec: {OCI_VERSION}\n"),
            Words::Runc => {
                format!("runc version {version}\ncommit: metactl-runtime\nspec: {OCI_VERSION}\n")
            }
        }
    }

    /// The exit code after a failure: runc has 1 for nearly everything.
    pub fn exit_code(self, failure: &Failure) -> u8 {
        match (self, failure.exit_code()) {
            (Words::Runc, 64 | 77 | 78) => 1,
            (_, code) => code,
        }
    }

    /// What a failure of a verb is called.
    pub(super) fn failure(self, verb: &str, failure: &Failure) -> String {
        let text = match (self, failure) {
            (Words::Own, failure) => return failure.to_string(),
            (Words::Runc, Failure::Usage(text)) => return format!("{text}; see `runc --help`"),
            (Words::Runc, Failure::Error(error) | Failure::NotExecuted(error)) => started(error),
        };
        match verb {
            "run" | "create" => format!("runc {verb} failed: {text}"),
            "exec" => format!("exec failed: {text}"),
            _ => text,
        }
    }

    /// The line that people get to see of a failure: nothing but what execve(2) said, when it comes
    /// from there, for in runc the new process says it alone.
    pub(super) fn seen(self, failure: &Failure) -> Option<String> {
        match (self, failure) {
            (
                Words::Runc,
                Failure::Error(Error::Launch(error)) | Failure::NotExecuted(Error::Launch(error)),
            ) => error.execute_alone(),
            _ => None,
        }
    }

    /// A message as it is written to standard error (`file` is false) or to the log.
    pub(super) fn line(self, level: &str, text: &str, json: bool, file: bool) -> String {
        if json && (file || self == Words::Runc) {
            return json!({"level": level, "msg": text, "time": now_rfc3339()}).to_string();
        }
        match (self, level) {
            (Words::Own, "error" | "warning") => format!("{level}: {text}"),
            _ => format!("time={:?} level={level} msg={text:?}", now_rfc3339()),
        }
    }
}

/// What the help says of a verb.
fn summary(verb: &str) -> &'static str {
    if NOT_DONE.contains(&verb) {
        return "not done by this runtime";
    }
    let names =
        |line: &&str| line.starts_with("  ") && line.split([' ', ',']).any(|word| word == verb);
    let line = HELP.lines().find(names).unwrap_or_default();
    line.rsplit("  ").next().unwrap_or_default().trim()
}

/// A failure on the way to the program of a container.
fn started(error: &Error) -> String {
    let stage = match error {
        Error::Launch(LaunchError::Execute {
            program, source, ..
        }) if !program.contains('/') && source.kind() == ErrorKind::NotFound => {
            return format!(
                "unable to start container process: exec: {program:?}: executable file not found in $PATH"
            );
        }
        Error::Launch(LaunchError::Hook { kind, number, .. }) => {
            format!("error running {kind} hook #{number}: ")
        }
        // The step is quoted as the plan has it: mounts begin with these words.
        Error::Launch(LaunchError::Step { step, .. })
            if step.starts_with("mount ") || step.starts_with("bind ") =>
        {
            "error during container init: error mounting: ".to_owned()
        }
        Error::Launch(LaunchError::Step { .. } | LaunchError::Execute { .. }) => {
            "error during container init: ".to_owned()
        }
        Error::Plan(PlanError::Cgroup(CgroupError::NotDelegated { .. })) => {
            return format!(
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {error}"
            );
        }
        Error::Plan(PlanError::Cgroup(CgroupError::PathNotDelegated { .. })) => {
            "unable to apply cgroup configuration: ".to_owned()
        }
        other => return other.to_string(),
    };
    format!("unable to start container process: {stage}{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_file_counts() {
        let of = |called: &str| Words::of(Some(OsStr::new(called)));
        assert_eq!(of("/usr/sbin/runc"), Words::Runc);
        assert_eq!(of("runc"), Words::Runc);
        assert_eq!(of("runc/metactl-runtime"), Words::Own);
        assert_eq!(of("crun"), Words::Own);
        assert_eq!(Words::of(None), Words::Own);
    }

    #[test]
    fn every_verb_has_a_line_of_help() {
        for verb in [
            "run", "create", "start", "exec", "state", "list", "ps", "kill", "pause", "resume",
            "update", "events", "delete", "plan", "spec", "features", "restore",
        ] {
            let help = Words::Runc.help(Some(verb));
            let name = help.lines().nth(1).unwrap();
            let said = name.strip_prefix(&format!("   runc {verb} - ")).unwrap();
            assert!(said.len() > 10 && !said.contains('['), "{name}");
            assert!(!help.contains("metactl-runtime"), "{help}");
        }
        assert!(Words::Runc.help(None).contains("metactl-runtime: launches"));
        assert_eq!(Words::Own.help(Some("run")), HELP);
    }
}
