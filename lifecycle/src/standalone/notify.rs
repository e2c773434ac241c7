//! Telling somebody that an entry point failed: `[app] notify.command` and `notify.mail`.
//!
//! Both run on the server, outside of the sandbox, as `nobody`: they are named by who runs the
//! server, and all that they need is the facts. The command gets these in its environment and as
//! text on its standard input, the mail has the text. Neither may take longer than [`LIMIT`], and
//! nobody waits for them. An entry point that fails again and again is told of once in [`QUIET`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use metactl_bundles::app::Notify;
use metactl_bundles::view::PATH;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::status::{EntryKind, Exit};

/// How long a command, or sending a mail, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long they may still take when the supervisor has nothing more to do.
const LAST_LIMIT: Duration = Duration::from_secs(3);
/// How long nothing more is told of an entry point.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// How much of what a command says goes into the log.
const MAX_SAID: u64 = 1000;
/// The ids of `nobody` where no account is called so.
const NOBODY: (u32, u32) = (65534, 65534);
/// Where `sendmail` may be beside [`PATH`].
const LIB: &str = "/usr/lib";

/// What happened.
#[derive(Debug, Clone)]
pub(crate) struct Event<'a> {
    pub(crate) instance: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) kind: EntryKind,
    pub(crate) exit: &'a Exit,
    /// How often it was started again already.
    pub(crate) restarts: u32,
    /// The heap that a JVM wrote down, on the server.
    pub(crate) heap_dump: Option<PathBuf>,
    pub(crate) log: PathBuf,
}

impl Event<'_> {
    /// The facts, as variables of the command's environment.
    fn facts(&self, left_out: u32) -> Vec<(&'static str, String)> {
        let exit = self.exit;
        let kind = match self.kind {
            EntryKind::Daemon => "daemon",
            EntryKind::Cron => "cron",
        };
        let mut facts = vec![
            ("METACTL_INSTANCE", self.instance.to_owned()),
            ("METACTL_ENTRY", self.entry.to_owned()),
            ("METACTL_KIND", kind.to_owned()),
            ("METACTL_SERVER", server_name()),
            ("METACTL_AT", exit.at.clone()),
            ("METACTL_REASON", one_line(&exit.reason)),
            ("METACTL_RESTARTS", self.restarts.to_string()),
            ("METACTL_LEFT_OUT", left_out.to_string()),
            ("METACTL_LOG", self.log.display().to_string()),
        ];
        if let Some(code) = exit.code {
            facts.push(("METACTL_EXIT_CODE", code.to_string()));
        }
        if let Some(signal) = exit.signal {
            facts.push(("METACTL_SIGNAL", signal.to_string()));
        }
        if let Some(dump) = &self.heap_dump {
            facts.push(("METACTL_HEAP_DUMP", dump.display().to_string()));
        }
        facts
    }

    fn subject(&self) -> String {
        let reason = one_line(&self.exit.reason);
        format!(
            "{} {} on {}: {reason}",
            self.instance,
            self.entry,
            server_name()
        )
    }

    /// The same facts for people.
    fn text(&self, left_out: u32) -> String {
        let mut text = format!("{}\n\n", self.subject());
        for (name, value) in self.facts(left_out) {
            let name = name.trim_start_matches("METACTL_").to_lowercase();
            text += &format!("{:<10} {value}\n", name.replace('_', " "));
        }
        text += &format!("\nmetactl {} logs {}\n", self.instance, self.entry);
        text
    }
}

/// Something that is being told.
#[derive(Debug)]
struct Running {
    what: String,
    child: Child,
    pidfd: Option<OwnedFd>,
    said: File,
    until: Instant,
}

/// Tells, and sees to it that telling ends.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    running: Vec<Running>,
    /// When an entry point was told of, and how often it was not since then.
    told: BTreeMap<String, (Instant, u32)>,
}

impl Notifier {
    /// Begins to tell, unless the same entry point was told of a moment ago. Lines for the log.
    pub(crate) fn tell(&mut self, notify: &Notify, event: &Event<'_>, now: Instant) -> Vec<String> {
        if notify.is_empty() {
            return Vec::new();
        }
        let Some(left_out) = self.turn(event.entry, now) else {
            return Vec::new();
        };
        let text = event.text(left_out);
        let mut lines = Vec::new();
        if let Some((program, args)) = notify.command.split_first() {
            let mut command = Command::new(program);
            command.args(args).env_clear();
            command.envs(event.facts(left_out));
            lines.extend(self.begin("notify.command", command, &text, now));
        }
        if !notify.mail.is_empty() {
            lines.extend(self.mail(notify, event, &text, now));
        }
        lines
    }

    /// How many failures were left out since the last time; `None` when this one is.
    fn turn(&mut self, entry: &str, now: Instant) -> Option<u32> {
        if let Some((last, left_out)) = self.told.get_mut(entry)
            && now.saturating_duration_since(*last) < QUIET
        {
            *left_out += 1;
            return None;
        }
        let before = self.told.insert(entry.to_owned(), (now, 0));
        Some(before.map_or(0, |(_, left_out)| left_out))
    }

    fn mail(
        &mut self,
        notify: &Notify,
        event: &Event<'_>,
        text: &str,
        now: Instant,
    ) -> Option<String> {
        let Some(sendmail) = find_sendmail() else {
            return Some(format!(
                "cannot send a mail to {}: there is no sendmail on this server",
                notify.mail.join(", ")
            ));
        };
        let mut command = Command::new(sendmail);
        // -i: a line with a dot is text (sendmail(1)).
        command.arg("-i").arg("--").args(&notify.mail).env_clear();
        let mail = format!(
            "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}",
            notify.mail.join(", "),
            event.subject()
        );
        self.begin("notify.mail", command, &mail, now)
    }

    /// Starts a command as nobody. A line for the log when that cannot be.
    fn begin(
        &mut self,
        what: &str,
        mut command: Command,
        input: &str,
        now: Instant,
    ) -> Option<String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = start(&mut command, input);
        match started {
            Ok((child, said)) => {
                let pid = i32::try_from(child.id()).ok();
                let pid = pid.and_then(rustix::process::Pid::from_raw);
                // Without a descriptor its end is seen at the next round.
                let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                self.running.push(Running {
                    what: what.to_owned(),
                    child,
                    pidfd,
                    said,
                    until: now + LIMIT,
                });
                None
            }
            Err(error) => Some(format!("{what}: cannot run {program}: {error}")),
        }
    }

    /// Sees who has ended, and ends who takes too long. Lines for the log.
    pub(crate) fn reap(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.running.retain_mut(|running| {
            let ended = running.child.try_wait();
            match ended {
                Ok(None) if now < running.until => return true,
                Ok(None) => {
                    running.kill();
                    let seconds = LIMIT.as_secs();
                    lines.push(format!("{}: no end after {seconds} s", running.what));
                }
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => lines.push(running.complaint(status)),
                Err(error) => lines.push(format!("{}: {error}", running.what)),
            }
            false
        });
        lines
    }

    /// What to wait for.
    pub(crate) fn pidfds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.running
            .iter()
            .filter_map(|running| running.pidfd.as_ref())
    }

    /// When somebody has to be ended.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.running.iter().map(|running| running.until)
    }

    /// Waits a moment for who is still telling, and ends them. Lines for the log.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let until = Instant::now() + LAST_LIMIT;
        let mut lines = Vec::new();
        while !self.running.is_empty() && Instant::now() < until {
            lines.extend(self.reap(Instant::now()));
            std::thread::sleep(Duration::from_millis(5));
        }
        for mut running in self.running.drain(..) {
            running.kill();
            lines.push(format!("{}: ended, as everything stops", running.what));
        }
        lines
    }
}

impl Running {
    /// Kills it with everything that it started and that did not leave its group.
    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may just have ended by itself.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _buried = self.child.wait();
    }

    fn complaint(&mut self, status: ExitStatus) -> String {
        let mut said = Vec::new();
        // What cannot be read is not said; the exit code is.
        let _read = self
            .said
            .rewind()
            .and_then(|()| (&mut self.said).take(MAX_SAID).read_to_end(&mut said));
        let said = one_line(&String::from_utf8_lossy(&said));
        format!("{}: {status} {said}", self.what)
            .trim_end()
            .to_owned()
    }
}

/// Starts a command as nobody, in a group of its own, with `input` on its standard input; and what
/// it is going to say.
fn start(command: &mut Command, input: &str) -> io::Result<(Child, File)> {
    let said = File::from(memfd_create("said", MemfdFlags::CLOEXEC)?);
    let (uid, gid) = nobody();
    command
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .process_group(0);
    if nix::unistd::geteuid().is_root() {
        // Also leaves every group of root's (std::os::unix::process::CommandExt::uid).
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It is shorter than a pipe is long, so this never waits. Who does not read it does not
        // want it.
        let _unread = stdin.write_all(input.as_bytes());
    }
    Ok((child, said))
}

fn nobody() -> (u32, u32) {
    match nix::unistd::User::from_name("nobody") {
        Ok(Some(user)) if !user.uid.is_root() => (user.uid.as_raw(), user.gid.as_raw()),
        _ => NOBODY,
    }
}

fn find_sendmail() -> Option<PathBuf> {
    let dirs = PATH.split(':').chain([LIB]);
    dirs.map(|dir| Path::new(dir).join("sendmail"))
        .find(|path| path.is_file())
}

fn server_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "this server".to_owned(),
        name => name.to_owned(),
    }
}

/// Without line breaks and what else a header or a log could be confused by; not longer than a line.
fn one_line(text: &str) -> String {
    let text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(400)
        .collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit() -> Exit {
        Exit {
            at: "2026-11-26T01:31:33Z".to_owned(),
            code: Some(3),
            signal: None,
            reason: "exit code 3\nBcc: everybody@example.org".to_owned(),
            failed: true,
        }
    }

    fn event(exit: &Exit) -> Event<'_> {
        Event {
            instance: "myapp",
            entry: "web",
            kind: EntryKind::Daemon,
            exit,
            restarts: 4,
            heap_dump: Some("/data/x.hprof".into()),
            log: "/var/log/metactl/myapp/web.log".into(),
        }
    }

    fn end(notifier: &mut Notifier) -> Vec<String> {
        let mut lines = Vec::new();
        let begin = Instant::now();
        while !notifier.running.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(20));
            lines.extend(notifier.reap(Instant::now()));
            std::thread::sleep(Duration::from_millis(2));
        }
        lines
    }

    fn command(script: &str) -> Notify {
        Notify {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            mail: Vec::new(),
        }
    }

    #[test]
    fn facts_are_one_line_each() {
        let exit = exit();
        let event = event(&exit);
        assert!(!event.subject().contains('\n'));
        let facts: BTreeMap<_, _> = event.facts(2).into_iter().collect();
        assert_eq!(
            facts["METACTL_REASON"],
            "exit code 3 Bcc: everybody@example.org"
        );
        assert_eq!(facts["METACTL_EXIT_CODE"], "3");
        assert_eq!(facts["METACTL_LEFT_OUT"], "2");
        assert!(!facts.contains_key("METACTL_SIGNAL"));
        let text = event.text(0);
        assert!(text.contains("heap dump  /data/x.hprof\n"), "{text}");
    }

    #[test]
    fn a_command_gets_the_facts_and_is_nobody() {
        let exit = exit();
        let mut notifier = Notifier::default();
        // It fails, so that what it says is in the log.
        let script = "read subject; echo $METACTL_INSTANCE/$METACTL_ENTRY $(id -u) $(id -G) $subject; exit 7";
        let lines = notifier.tell(&command(script), &event(&exit), Instant::now());
        assert!(lines.is_empty(), "{lines:?}");
        let lines = end(&mut notifier);
        let ids = match nix::unistd::geteuid().is_root() {
            true => format!("{} {}", nobody().0, nobody().1),
            false => String::new(),
        };
        assert!(
            lines[0].contains("exit status: 7 myapp/web")
                && lines[0].contains(&ids)
                && lines[0].contains("myapp web on"),
            "{lines:?}"
        );
    }

    #[test]
    fn the_same_entry_is_told_of_once_in_a_while() {
        let mut notifier = Notifier::default();
        let now = Instant::now();
        assert_eq!(notifier.turn("web", now), Some(0));
        assert_eq!(notifier.turn("web", now + QUIET / 2), None);
        assert_eq!(notifier.turn("jobs", now), Some(0));
        assert_eq!(notifier.turn("web", now + QUIET / 2), None);
        assert_eq!(notifier.turn("web", now + QUIET), Some(2));
        assert_eq!(notifier.turn("web", now + QUIET), None);
    }

    #[test]
    fn who_takes_too_long_is_killed_with_its_helpers() {
        let exit = exit();
        let mut notifier = Notifier::default();
        notifier.tell(&command("sleep 100 & wait"), &event(&exit), Instant::now());
        let late = Instant::now() + LIMIT;
        let lines = notifier.reap(late);
        assert!(lines[0].contains("no end after 30 s"), "{lines:?}");
        assert!(notifier.running.is_empty());
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        let exit = exit();
        let mut notifier = Notifier::default();
        let notify = Notify {
            command: vec!["/no/such/program".to_owned()],
            mail: Vec::new(),
        };
        let lines = notifier.tell(&notify, &event(&exit), Instant::now());
        assert!(
            lines[0].contains("cannot run /no/such/program"),
            "{lines:?}"
        );
    }
}
