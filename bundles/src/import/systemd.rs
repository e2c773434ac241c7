//! A unit of systemd, as a starting point: what runs, as whom, with which limits.

use super::shell::{Content, Statement, parse, quoted};
use super::{Imported, literal};
use crate::keys::values::split_words;

/// The daemon that a unit becomes.
const DAEMON: &str = "main";

/// The layers of a service unit.
pub fn import(text: &str) -> Imported {
    let mut out = Imported::default();
    let section = format!("daemon.{DAEMON}");
    // systemd joins a line that ends in a backslash with the next; lines keep their numbers.
    let joined = text.replace("\\\r\n", "  ").replace("\\\n", "  ");
    for statement in parse(&joined) {
        let line = original_line(text, statement.line);
        let Statement {
            section: of,
            content,
            ..
        } = statement;
        match (of.as_deref(), content) {
            (Some("Service"), Content::Value(key, value)) => {
                service(&mut out, &section, (line, &key, &value));
            }
            (Some("Unit"), Content::Value(key, _))
                if key == "Description" || key == "Documentation" => {}
            (Some("Install"), Content::Value(..)) => {}
            (of, Content::Value(key, value)) => {
                let why = match of {
                    Some(of) => format!("[{of}] of systemd has nothing that corresponds"),
                    None => "it stands in no section".to_owned(),
                };
                out.leave(line, &format!("{key}={value}"), why);
            }
            (_, Content::Other(what, why)) => out.leave(line, &what, why),
        }
    }
    out
}

/// The line of the file that the line `number` of the joined text begins on.
fn original_line(text: &str, number: usize) -> usize {
    let mut seen = 0;
    let mut continued = false;
    for (index, line) in text.lines().enumerate() {
        if !continued {
            seen += 1;
        }
        if seen == number {
            return index + 1;
        }
        continued = line.ends_with('\\');
    }
    number
}

/// One `Key=value` of `[Service]`, into the daemon `section`.
pub(super) fn service(out: &mut Imported, section: &str, (line, key, value): (usize, &str, &str)) {
    let what = format!("{key}={value}");
    let plain = literal(value);
    let result = match key {
        "ExecStart" => exec_start(out, section, value),
        "User" => out.local.set("sandbox", "user", &plain),
        "Environment" => environment(out, value),
        "MemoryMax" | "MemoryLimit" => size(out, "memory", value),
        "TasksMax" => match value {
            "infinity" => out.local.set("sandbox.limits", "pids", "unlimited"),
            _ => out.local.set("sandbox.limits", "pids", value),
        },
        "CPUQuota" => match value.strip_suffix('%').and_then(|percent| percent.parse::<u32>().ok()) {
            Some(percent) => {
                let processors = f64::from(percent) / 100.0;
                out.local.set("sandbox.limits", "cpu", &processors.to_string())
            }
            None => Err("it is a percentage in systemd".to_owned()),
        },
        "LimitNOFILE" => {
            let soft = value.split(':').next().unwrap_or(value);
            out.local.set("sandbox.limits", "files", soft)
        }
        "Restart" => {
            let restart = match value {
                "no" => "never",
                "always" => "always",
                _ => "on-failure",
            };
            out.app.set(section, "restart", restart)
        }
        "TimeoutStopSec" => {
            let seconds = value.bytes().all(|b| b.is_ascii_digit());
            let duration = if seconds { format!("{value}s") } else { value.replace(' ', "") };
            out.app.set(section, "stop.timeout", &duration)
        }
        "KillSignal" => out.app.set(section, "stop.signal", value),
        "Type" if matches!(value, "simple" | "exec") => Ok(()),
        "Type" => Err("the program has to stay in the foreground".to_owned()),
        "WorkingDirectory" => Err("it runs in /app, where the release is: put its files into the repository, or into [sandbox.mounts] of the local layer".to_owned()),
        "EnvironmentFile" => Err("it is not read: put its variables into [env], its passwords into [secrets]".to_owned()),
        "StandardOutput" | "StandardError" | "SyslogIdentifier" => {
            Err("its output is in `metactl APP logs`".to_owned())
        }
        "NoNewPrivileges" | "PrivateTmp" | "ProtectSystem" | "ProtectHome" | "PrivateDevices"
        | "ProtectKernelTunables" | "ProtectControlGroups" | "ProtectKernelModules" => {
            // A sandbox has it anyway.
            Ok(())
        }
        "AmbientCapabilities" => Err("a port below 1024 needs none here; others are granted in [sandbox] capabilities".to_owned()),
        "Group" => Err("the group is that of the user".to_owned()),
        key if key.starts_with("ExecStart") || key.starts_with("ExecStop") || key.starts_with("ExecReload") => {
            Err("nothing runs outside of the sandbox: put it into the program that is started".to_owned())
        }
        _ => Err("nothing corresponds to it".to_owned()),
    };
    out.take(line, &what, result);
}

fn exec_start(out: &mut Imported, section: &str, value: &str) -> Result<(), String> {
    let command = value.trim_start_matches(['@', '-', ':']);
    if command.starts_with(['+', '!']) {
        return Err(
            "it would run with more privilege than its user: say `command` yourself".to_owned(),
        );
    }
    if out.app.get(section, "command").is_some() {
        return Err("there is one command: this one comes in addition".to_owned());
    }
    let words = split_words(command).map_err(|error| error.to_string())?;
    let has_more = |word: &String| word.contains('$') || word.contains('%');
    if let Some(word) = words.iter().find(|word| has_more(word)) {
        return Err(format!(
            "`{word}`: systemd replaces something in it; say `command` yourself"
        ));
    }
    let written: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    out.app.set(section, "platform", "exec")?;
    out.app.set(section, "command", &written.join(" "))
}

fn environment(out: &mut Imported, value: &str) -> Result<(), String> {
    let words = split_words(value).map_err(|error| error.to_string())?;
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(format!("`{word}` is not NAME=value"));
        };
        out.local.set("env", name, &literal(value))?;
    }
    Ok(())
}

/// `2G`, `512M`, bytes, `infinity`.
fn size(out: &mut Imported, key: &str, value: &str) -> Result<(), String> {
    let size = match value {
        "infinity" => "unlimited".to_owned(),
        bytes if bytes.bytes().all(|b| b.is_ascii_digit()) => match bytes.parse::<u64>() {
            Ok(bytes) => format!("{}k", bytes / 1024),
            Err(_) => value.to_owned(),
        },
        _ => value.to_lowercase(),
    };
    out.local.set("sandbox.limits", key, &size)
}
