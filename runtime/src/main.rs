//! The OCI runtime `metactl-runtime`: options in, one verb, an exit code out. The work is done by
//! the library.

#![deny(unsafe_code)]

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use metactl_runtime::state::{OCI_VERSION, now_rfc3339};
use metactl_runtime::verbs::{self, Failure, Globals};

const HELP: &str = "\
metactl-runtime: launches OCI bundles on Linux

metactl-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] VERB

  run [--bundle DIR] [--detach] [--pid-file F] [NETWORK] ID   a container, from beginning to end
  create [--bundle DIR] [--pid-file F] [NETWORK] ID           everything but its program
  start ID                                                    the program of a created container
  exec [--tty] [--detach] [--user UID[:GID]] [--cwd DIR] [--env NAME=VALUE]...
       [--process FILE] [--pid-file F] ID [COMMAND...]        one more process in a container
  state ID                                                    its state, as JSON
  list [--quiet] [--format table|json]                        all containers
  events [--stats] [--interval TIME] ID                       what it uses, and when memory runs out
  ps [--format json] ID                                       its processes
  kill [--all] ID [SIGNAL]                                    a signal to its first process
  pause ID                                                    freezes its processes
  resume ID                                                   lets them go on
  update (--resources FILE|- | [--memory BYTES] [--pids-limit N] [--cpu-quota USEC]...) ID
                                                              changes its limits
  delete [--force] ID                                         removes what is left of it
  plan [--bundle DIR] [NETWORK] [ID]                          what `run` would do, a line a step
  network up --spec FILE [--names FILE] [--uplink DEVICE] --pin PATH --user NAME
  network down --pin PATH --user NAME                         a network without a process

  NETWORK: --network FILE [--names FILE] [--uplink DEVICE], or --netns PATH; [--server-dir DIR]

Defaults: --root /run/metactl/oci, --server-dir /run/metactl/server, --bundle .
Exit codes: that of the program; 1 failed, 64 usage, 77 not permitted, 78 configuration.
";

/// Where errors go.
#[derive(Default)]
struct Log {
    file: Option<PathBuf>,
    json: bool,
}

fn main() -> ExitCode {
    let mut log = Log::default();
    match dispatch(&mut log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(log: &mut Log) -> Result<u8, Failure> {
    let mut parser = Parser::from_env();
    let mut globals = Globals::default();
    let verb: OsString = loop {
        match parser.next()? {
            Some(Arg::Long("root")) => globals.root = parser.value()?.into(),
            Some(Arg::Long("log")) => log.file = Some(parser.value()?.into()),
            Some(Arg::Long("log-format")) => {
                log.json = match parser.value()?.string()?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => {
                        let text = format!("--log-format is text or json, not {other:?}");
                        return Err(Failure::Usage(text));
                    }
                };
            }
            // Engines pass it; every error says everything anyway.
            Some(Arg::Long("debug")) => {}
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
    match verb.to_str().and_then(verbs::find) {
        Some(run) => run(&globals, &mut parser),
        None => Err(Failure::Usage(format!("unknown verb {verb:?}"))),
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

impl Log {
    /// To standard error for people, and to the log for engines, in the form that runc uses.
    fn error(&self, text: &str) {
        // There is no third place to complain to.
        writeln!(std::io::stderr(), "error: {text}").unwrap_or_default();
        let Some(path) = &self.file else { return };
        let line = if self.json {
            let time = now_rfc3339();
            serde_json::json!({"level": "error", "msg": text, "time": time}).to_string()
        } else {
            format!("error: {text}")
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .unwrap_or_default();
    }
}
