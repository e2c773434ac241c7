//! The OCI runtime `metactl-runtime`: options in, one verb, an exit code out. The work is done by
//! the library.

#![deny(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use metactl_runtime::CgroupManager;
use metactl_runtime::state::OCI_VERSION;
use metactl_runtime::verbs::{self, Failure, Globals};

const HELP: &str = "\
metactl-runtime: launches OCI bundles on Linux

metactl-runtime [--root DIR] [--log FILE] [--log-format text|json]
  [--soft-files N] [--systemd-cgroup | --cgroup-manager cgroupfs|systemd|unit|disabled] VERB

  run [LAUNCH] [--detach] [--keep] [--exit-file FILE] ID
                                              a container, from beginning to end; its exit code in a file
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

fn main() -> ExitCode {
    let mut globals = Globals::default();
    match dispatch(&mut globals) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            globals.log.say("error", &failure.to_string());
            ExitCode::from(failure.exit_code())
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
            Some(Arg::Long("help") | Arg::Short('h')) => return say(HELP),
            Some(Arg::Long("version") | Arg::Short('v')) => {
                let version = env!("CARGO_PKG_VERSION");
                return say(&format!(
                    "metactl-runtime version {version}\nspec: {OCI_VERSION}\n"
                ));
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
    let known = verb
        .to_str()
        .is_some_and(|verb| verbs::find(verb).is_some());
    let asked = known && next.is_some_and(|word| word == "--help" || word == "-h");
    if verb == "help" || asked {
        return say(HELP);
    }
    globals.log.begin(&verb.to_string_lossy());
    match verb.to_str().and_then(verbs::find) {
        Some(run) => run(globals, &mut parser),
        None => Err(Failure::Usage(format!(
            "unknown verb: No help topic for '{}'",
            verb.display()
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
