//! The questions of `[health.NAME]`, asked again and again until all are answered well, or one has
//! failed too often.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::EntryRef;
use metactl_bundles::health::{Check, Question, Statuses};
use metactl_runtime::ProcessId;

use super::http::{self, Answer, Request};
use super::ready::Ears;
use super::sockets;
use crate::instance::Instance;
use crate::launcher::Runtime;
use crate::scm::command;

/// How much of what a command said is shown.
const SAID: usize = 200;

/// Who asks, and what came of it.
pub(super) struct Rounds<'a> {
    instance: &'a str,
    runtime: Runtime,
    ears: &'a Ears,
    /// What `notify = yes` tells, it tells the service manager: then it runs when it has told.
    manager_hears: bool,
    begun: Instant,
    asked: BTreeMap<(String, String), Asked>,
}

/// What one question has come to.
#[derive(Debug, Default)]
struct Asked {
    healthy: bool,
    failures: u32,
    last: Option<Instant>,
    /// Whether somebody listened at the last try: who begins to is asked at once.
    listened: bool,
    /// The last answer, as `GET / → 503`.
    answer: String,
}

/// What all questions to one daemon have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All are answered well.
    Good,
    /// Not yet.
    Wait,
    /// One was answered badly too often.
    Ill(String),
}

impl<'a> Rounds<'a> {
    pub(super) fn new(instance: &'a Instance, ears: &'a Ears) -> Rounds<'a> {
        Rounds {
            instance: instance.name(),
            runtime: instance.runtime(),
            ears,
            manager_hears: instance.service().is_ok_and(|one| one.hears_ready()),
            begun: Instant::now(),
            asked: BTreeMap::new(),
        }
    }

    /// Asks a daemon what is due.
    pub(super) fn ask(&mut self, definition: &EntryRef, process: &ProcessId) -> Verdict {
        let mut verdict = Verdict::Good;
        for check in &definition.checks {
            match self.ask_one(definition, process, check) {
                Verdict::Good => {}
                Verdict::Wait => verdict = Verdict::Wait,
                ill => return ill,
            }
        }
        verdict
    }

    fn ask_one(&mut self, definition: &EntryRef, process: &ProcessId, check: &Check) -> Verdict {
        let key = (definition.name.clone(), check.name.clone());
        let now = Instant::now();
        let in_grace = now.duration_since(self.begun) < check.grace;
        let listens = port(&check.question)
            .is_some_and(|port| !sockets::listening(process.pid, port).is_empty());
        let before = self.asked.entry(key.clone()).or_default();
        if before.healthy {
            return Verdict::Good;
        }
        let due = before
            .last
            .is_none_or(|last| now.duration_since(last) >= check.interval);
        // Cheap to see, and worth a question at once.
        let begins = listens && !before.listened;
        let heard = check.question == Question::Notify
            && (self.ears.heard(&definition.name)
                || (self.manager_hears && definition.service.notify));
        if !due && !begins && !heard {
            return Verdict::Wait;
        }
        let answer = match &check.question {
            Question::Notify if heard => Ok(String::new()),
            Question::Notify => {
                let why = self.ears.deaf(&definition.name);
                Err(why.unwrap_or("not said").to_owned())
            }
            question => self.try_once(definition, process, question, check.timeout),
        };
        let said = match &answer {
            Ok(said) | Err(said) => said,
        };
        let text = said_of(&check.question, said);
        let Some(state) = self.asked.get_mut(&key) else {
            return Verdict::Wait;
        };
        state.last = Some(now);
        state.listened = listens;
        state.healthy = answer.is_ok();
        state.answer = text;
        if state.healthy {
            return Verdict::Good;
        }
        if !in_grace && due {
            state.failures += 1;
        }
        if state.failures >= check.tries {
            return Verdict::Ill(format!(
                "[health.{}] {}, {} of {} tries",
                check.name, state.answer, state.failures, check.tries
            ));
        }
        Verdict::Wait
    }

    fn try_once(
        &self,
        definition: &EntryRef,
        process: &ProcessId,
        question: &Question,
        timeout: Duration,
    ) -> Result<String, String> {
        if let Question::Command { command } = question {
            let id = format!("{}.{}", self.instance, definition.name);
            return run(&self.runtime, &id, command, timeout);
        }
        ask_network(process, question, timeout).good()
    }

    /// The last answers of all, for a line of progress: `GET / → 200`.
    pub(super) fn answers(&self) -> String {
        let answers = self.asked.values().map(|asked| asked.answer.as_str());
        let answers: Vec<&str> = answers.filter(|answer| !answer.is_empty()).collect();
        answers.join(", ")
    }

    /// The questions that are not answered well, and what was said last.
    pub(super) fn open(&self, entry: &str) -> Option<String> {
        let open = self
            .asked
            .iter()
            .find(|((name, _), asked)| name == entry && !asked.healthy);
        open.map(|((_, check), asked)| format!("[health.{check}] {}", asked.answer))
    }
}

/// The longest time that the questions to a daemon may take together.
pub(super) fn patience(definition: &EntryRef) -> Duration {
    let of = |check: &Check| {
        check.grace + check.interval.saturating_add(check.timeout) * check.tries.min(100_000)
    };
    definition.checks.iter().map(of).max().unwrap_or_default()
}

/// Whether a daemon answers all questions that can be asked from outside of its sandbox: one look,
/// without patience.
pub(super) fn answers_now(process: &ProcessId, checks: &[Check]) -> bool {
    checks.iter().all(|check| match &check.question {
        Question::Command { .. } | Question::Notify => true,
        question => {
            let heard = ask_network(process, question, check.timeout);
            heard.good().is_ok()
        }
    })
}

/// Runs a command in the sandbox of a daemon. `Err` is what it said instead of success.
pub(super) fn run(
    runtime: &Runtime,
    id: &str,
    text: &str,
    timeout: Duration,
) -> Result<String, String> {
    let argv = ["/bin/sh", "-c", text].map(OsString::from);
    let output = command::run(runtime.exec(id, &argv, false), timeout);
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok("exit code 0".to_owned());
    }
    let how = match output.status.code() {
        Some(code) => format!("exit code {code}"),
        None => output.status.to_string(),
    };
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    let line: String = line.unwrap_or_default().chars().take(SAID).collect();
    Err(match line.trim() {
        "" => how,
        line => format!("{how}: {line}"),
    })
}

/// What came of a question to the network of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A good answer.
    Good(String),
    /// A bad one, or none.
    Bad(String),
    /// It could not be asked.
    CannotAsk(String),
}

impl Heard {
    /// Only a good answer is good.
    fn good(self) -> Result<String, String> {
        match self {
            Heard::Good(answer) => Ok(answer),
            Heard::Bad(why) | Heard::CannotAsk(why) => Err(why),
        }
    }
}

pub(super) fn ask_network(process: &ProcessId, question: &Question, timeout: Duration) -> Heard {
    let Some(port) = port(question) else {
        return Heard::Good(String::new());
    };
    let listening = sockets::listening(process.pid, port);
    if listening.is_empty() {
        return Heard::Bad(format!("nobody listens on port {port}"));
    }
    let Question::Http { path, status, .. } = question else {
        return Heard::Good("listens".to_owned());
    };
    let request = Request {
        path: path.clone(),
        timeout,
        good: Good::These(status.clone()),
    };
    match http::ask(process, &listening, &request) {
        Answer::Healthy(status) => Heard::Good(status.to_string()),
        Answer::Bad(status) => Heard::Bad(status.to_string()),
        Answer::None(why) => Heard::Bad(why),
        Answer::CannotAsk(why) => Heard::CannotAsk(why),
    }
}

/// Which statuses are a good answer.
#[derive(Debug, Clone)]
pub(super) enum Good {
    /// All below 500: for those who were not told how to ask.
    Below500,
    /// These.
    These(Statuses),
}

impl Good {
    pub(super) fn has(&self, status: u16) -> bool {
        match self {
            Good::Below500 => status < 500,
            Good::These(statuses) => statuses.has(status),
        }
    }
}

fn port(question: &Question) -> Option<u16> {
    match question {
        Question::Http { port, .. } | Question::Tcp { port } => Some(*port),
        Question::Command { .. } | Question::Notify => None,
    }
}

/// `GET / → 503`.
fn said_of(question: &Question, said: &str) -> String {
    match said {
        "" => question.to_string(),
        said => format!("{question} → {said}"),
    }
}
