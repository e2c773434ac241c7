//! SMF itself, by its programs: `svcprop`, `svcs`, `svcadm`, `svccfg`, `crontab`, `pkill`. They are run behind one seam,
//! [`Programs`], and say the same in every language.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::names;
use crate::error::{LifecycleError, Result};

/// What a program came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It ended with exit code 0.
    pub(super) good: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// What it complained about, in one line.
    fn why(&self) -> String {
        let lines = self.err.lines().chain(self.out.lines()).map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        match lines.is_empty() {
            true => "it failed and said nothing".to_owned(),
            false => lines.join("; "),
        }
    }
}

/// Who runs programs.
pub(super) trait Programs {
    /// Runs a program to its end, with `input` on its standard input.
    ///
    /// # Errors
    /// When it cannot be run at all.
    fn run(&self, program: &str, args: &[&str], input: &str) -> Result<Said>;
}

/// The programs of this system.
pub(super) struct OfSystem;

impl Programs for OfSystem {
    fn run(&self, program: &str, args: &[&str], input: &str) -> Result<Said> {
        let absent = |error: std::io::Error| LifecycleError::Unavailable {
            what: format!("cannot run {program}: {error}"),
            hint: "[server] service-manager = standalone in metactl.conf does without SMF"
                .to_owned(),
        };
        let mut child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .env_remove("SMF_FMRI")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(absent)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read has said why.
            let _read = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(absent)?;
        Ok(Said {
            good: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// How an instance of a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// `online`, `offline`, `disabled`, `maintenance`, `degraded`, `uninitialized`, and so on.
    pub(super) state: String,
    /// Where it is about to be; empty: it stays. `svcs` shows that as a `*`.
    pub(super) next: String,
    /// Since when, in seconds since 1970, with a fraction.
    pub(super) since: String,
    /// The process that its start method was.
    pub(super) pid: Option<i32>,
    /// The contract of its processes, and that of a method that runs.
    pub(super) contract: Option<String>,
    pub(super) method_contract: Option<String>,
    /// Whether it is enabled at boot, and what was said until then.
    pub(super) at_boot: bool,
    pub(super) until_boot: Option<bool>,
    /// Its log.
    pub(super) log: Option<String>,
    /// Its entry point, what that is (`daemon`, `cron`, `boot`), and the bundle that it is of.
    pub(super) entry: Option<String>,
    pub(super) kind: String,
    pub(super) bundle: Option<String>,
    /// The instance of metactl that it says it is of.
    pub(super) instance: Option<String>,
}

impl State {
    /// Whether somebody wants it to run.
    pub(super) fn is_wanted(&self) -> bool {
        self.until_boot.unwrap_or(self.at_boot)
    }

    /// Whether it runs, is about to, or ends.
    pub(super) fn is_active(&self) -> bool {
        match self.state.as_str() {
            "online" | "degraded" => true,
            "offline" | "uninitialized" => !self.next.is_empty(),
            _ => false,
        }
    }

    /// Whether its start method runs: for a cron job, whether the job does.
    pub(super) fn is_starting(&self) -> bool {
        self.state == "offline" && self.next == "online"
    }

    /// Names this run of it.
    pub(super) fn word(&self) -> String {
        match &self.contract {
            Some(contract) if self.is_active() => format!("contract {contract}"),
            _ => format!("{} since {}", self.state, self.since),
        }
    }
}

/// The services of an instance at a moment, by the names of their instances.
pub(super) type States = BTreeMap<String, State>;

/// Everything that SMF knows of an instance; nothing when it has no service.
pub(super) fn look(programs: &dyn Programs, instance: &str) -> Result<States> {
    let pattern = format!("{}:*", names::service(instance));
    // The properties as they are now, not as they were when an instance was last refreshed.
    let said = programs.run("svcprop", &["-c", "-f", &pattern], "")?;
    // It tells of a pattern without matches by failing.
    if !said.good && !said.err.contains("match") {
        return Err(failed("svcprop", &pattern, &said));
    }
    Ok(parse(&said.out))
}

/// Lines of `svcprop -f`: `svc:/x:y/:properties/GROUP/NAME TYPE VALUE...`.
fn parse(text: &str) -> States {
    let mut found = States::new();
    for line in text.lines() {
        let Some((fmri, rest)) = line.split_once("/:properties/") else {
            continue;
        };
        let Some((_, name)) = fmri.trim_start_matches("svc:").rsplit_once(':') else {
            continue;
        };
        let mut words = words(rest).into_iter();
        let (Some(property), Some(_), value) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let value = value.unwrap_or_default();
        let known = || Some(value.clone()).filter(|text| !text.is_empty() && text != "0");
        let state = found.entry(name.to_owned()).or_default();
        match property.as_str() {
            "restarter/state" => state.state = value,
            "restarter/next_state" if value != "none" => state.next = value,
            "restarter/state_timestamp" => state.since = value,
            "restarter/start_pid" => state.pid = value.parse().ok().filter(|pid| *pid > 0),
            "restarter/contract" => state.contract = known(),
            "restarter/transient_contract" => state.method_contract = known(),
            "restarter/logfile" => state.log = known(),
            "general/enabled" => state.at_boot = value == "true",
            "general_ovr/enabled" => state.until_boot = Some(value == "true"),
            "entrypoint/name" => state.entry = known(),
            "entrypoint/kind" => state.kind = value,
            "metactl/bundle" => state.bundle = known(),
            "metactl/instance" => state.instance = known(),
            _ => {}
        }
    }
    found
}

/// The words of a line, which `svcprop` has with a backslash before what means something to a shell.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, words.last_mut()) {
            (' ', _) => words.push(String::new()),
            ('\\', Some(word)) => word.extend(chars.next()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    // An empty value is `""`.
    words
        .iter_mut()
        .filter(|word| *word == "\"\"")
        .for_each(String::clear);
    words
}

/// Says something to `svcadm` about an instance of a service.
pub(super) fn adm(programs: &dyn Programs, words: &[&str], fmri: &str) -> Result<()> {
    let args: Vec<&str> = words.iter().copied().chain([fmri]).collect();
    let said = programs.run("svcadm", &args, "")?;
    match said.good {
        true => Ok(()),
        false => Err(failed(&format!("svcadm {}", words.join(" ")), fmri, &said)),
    }
}

/// Wants an instance of a service until the next boot, whatever is said of it at boot. Does not wait for it.
pub(super) fn enable(programs: &dyn Programs, fmri: &str) -> Result<()> {
    adm(programs, &["enable", "-t"], fmri)
}

/// Wants it no longer until the next boot, and waits until nothing of it runs. One that did not stop in time, was
/// killed, and is in maintenance for that, leaves it: what was wanted is so.
pub(super) fn disable(programs: &dyn Programs, fmri: &str) -> Result<()> {
    let Err(error) = adm(programs, &["disable", "-s", "-t"], fmri) else {
        return Ok(());
    };
    let of = |fmri: &str| -> Result<Option<State>> {
        let (service, name) = fmri.rsplit_once(':').unwrap_or((fmri, ""));
        let instance_pattern = format!("{service}:{name}");
        let said = programs.run("svcprop", &["-c", "-f", &instance_pattern], "")?;
        Ok(parse(&said.out).remove(name))
    };
    match of(fmri)? {
        Some(state) if state.state == "maintenance" => adm(programs, &["clear"], fmri),
        Some(state) if state.state == "disabled" => Ok(()),
        _ => Err(error),
    }
}

/// Says whether it is enabled at boot, and nothing about now: that was said before with [`enable`] or [`disable`], and
/// counts until then.
pub(super) fn at_boot(programs: &dyn Programs, fmri: &str, enabled: bool) -> Result<()> {
    let value = format!("general/enabled = boolean: {enabled}");
    cfg(programs, &["-s", fmri, "setprop", &value], fmri)
}

/// Has `svccfg` say whether it understands a manifest.
pub(super) fn validate(programs: &dyn Programs, manifest: &Path) -> Result<()> {
    let path = manifest.to_string_lossy();
    cfg(programs, &["validate", &path], &path)
}

/// Takes a manifest over. What an administrator has changed stays as it is (svccfg(8), `import`).
pub(super) fn import(programs: &dyn Programs, manifest: &Path) -> Result<()> {
    let path = manifest.to_string_lossy();
    cfg(programs, &["import", &path], &path)
}

/// Removes a service with its instances, or one instance. Nothing of it may run.
pub(super) fn delete(programs: &dyn Programs, fmri: &str) -> Result<()> {
    cfg(programs, &["delete", "-f", fmri], fmri)
}

fn cfg(programs: &dyn Programs, args: &[&str], what: &str) -> Result<()> {
    let said = programs.run("svccfg", args, "")?;
    let verb = args
        .iter()
        .find(|arg| !arg.starts_with('-') && !arg.starts_with("svc:"));
    match said.good {
        true => Ok(()),
        false => Err(failed(
            &format!("svccfg {}", verb.unwrap_or(&"")),
            what,
            &said,
        )),
    }
}

/// Why an instance of a service is not as it should be, as `svcs -x` has it.
pub(super) fn explain(programs: &dyn Programs, fmri: &str) -> Option<String> {
    let said = programs.run("svcs", &["-x", fmri], "").ok()?;
    let reason = said
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("Reason:"))?;
    Some(reason.trim().trim_end_matches('.').to_owned())
}

/// Asks every process of a contract to end.
pub(super) fn end_contract(programs: &dyn Programs, contract: &str) -> Result<()> {
    // It fails when there was nothing to signal any more.
    programs
        .run("pkill", &["-TERM", "-c", contract], "")
        .map(drop)
}

/// The crontab of root in this zone; empty when there is none.
pub(super) fn crontab(programs: &dyn Programs) -> Result<String> {
    let said = programs.run("crontab", &["-l"], "")?;
    // It tells of none by failing: "crontab: can't open your crontab file."
    if said.good || said.err.contains("open") || said.err.contains("no crontab") {
        return Ok(said.out);
    }
    Err(failed("crontab -l", "root", &said))
}

/// Replaces it.
pub(super) fn write_crontab(programs: &dyn Programs, text: &str) -> Result<()> {
    let (args, input) = match text.is_empty() {
        true => (&["-r"][..], ""),
        // Without a file it reads its standard input.
        false => (&[][..], text),
    };
    let said = programs.run("crontab", args, input)?;
    match said.good {
        true => Ok(()),
        false => Err(failed("crontab", "root", &said)),
    }
}

fn failed(what: &str, on: &str, said: &Said) -> LifecycleError {
    LifecycleError::ServiceManager {
        what: format!("{what} ({on})"),
        why: said.why(),
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
