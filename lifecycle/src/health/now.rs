//! What the daemons that run answer now, for `status`: every question once, all at a time, and no longer than a
//! person waits.
//!
//! A daemon without `[health.NAME]` is only looked at: nobody has said that it may be asked for pages.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::health::{Check, Question};
use metactl_runtime::ProcessId;

use super::checks::{self, Heard};
use crate::files;
use crate::instance::Instance;
use crate::launcher::Runtime;
use crate::status::{EntryState, EntryStatus, HealthAnswer, HealthState, Status};

/// How long all answers together may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long those who give up at the limit may take to clear away what they have begun.
const GRACE: Duration = Duration::from_secs(1);
/// How many are asked at a time, so that a hostile configuration costs no more than others.
const AT_A_TIME: usize = 32;

/// Puts into `status` what the daemons answer.
pub(crate) fn ask(instance: &Instance, entries: &[EntryRef], status: &mut Status) {
    let questions = questions(instance, entries, &status.entries);
    let asked: Vec<(usize, HealthAnswer)> = match nix::unistd::geteuid().is_root() {
        true => answers(questions),
        false => questions.iter().map(Asked::by_nobody).collect(),
    };
    for (at, answer) in asked {
        if let Some(entry) = status.entries.get_mut(at) {
            entry.health.push(answer);
        }
    }
    status.healthy = verdict(status);
}

/// Ill, when one is; healthy, when all are that were asked.
fn verdict(status: &Status) -> Option<bool> {
    let answers = status.entries.iter().flat_map(|entry| &entry.health);
    let states: Vec<HealthState> = answers.map(|answer| answer.state).collect();
    if states.contains(&HealthState::Ill) {
        return Some(false);
    }
    let is_known = !states.is_empty() && !states.contains(&HealthState::Unknown);
    is_known.then_some(true)
}

/// One question.
#[derive(Debug, Clone)]
struct Asked {
    /// Whose it is, of the entries of the status.
    at: usize,
    name: Option<String>,
    question: Question,
    timeout: Duration,
    process: ProcessId,
    id: String,
    runtime: Runtime,
    /// Whether it runs, which it does only when it has said that it is ready.
    runs: bool,
    /// Whether who keeps it running hears what it says.
    is_heard: bool,
}

fn questions(instance: &Instance, entries: &[EntryRef], known: &[EntryStatus]) -> Vec<Asked> {
    let hears = instance.service().is_ok_and(|one| one.hears_ready());
    let mut questions = Vec::new();
    for (at, status) in known.iter().enumerate() {
        let is_it = |entry: &&EntryRef| entry.name == status.name;
        let Some(entry) = entries.iter().find(is_it) else {
            continue;
        };
        let process = status.pid.and_then(|pid| ProcessId::of(pid).ok());
        let Some(process) = process.filter(|_| entry.kind == EntryKind::Daemon) else {
            continue;
        };
        let asked = |name: Option<&str>, question: &Question, timeout: Duration| Asked {
            at,
            name: name.map(str::to_owned),
            question: question.clone(),
            timeout,
            process: process.clone(),
            id: format!("{}.{}", instance.name, entry.name),
            runtime: instance.runtime(),
            runs: status.state == EntryState::Running,
            is_heard: hears && entry.service.notify,
        };
        let of = |check: &Check| asked(Some(&check.name), &check.question, check.timeout);
        questions.extend(entry.checks.iter().map(of));
        if let (Some(port), true) = (entry.port, entry.checks.is_empty()) {
            questions.push(asked(None, &Question::Tcp { port }, LIMIT));
        }
    }
    questions
}

/// Asks all of them. Those who have not answered in time are left alone: their threads end by themselves.
fn answers(questions: Vec<Asked>) -> Vec<(usize, HealthAnswer)> {
    let deadline = Instant::now() + LIMIT;
    let mut all = Vec::new();
    for some in questions.chunks(AT_A_TIME) {
        let (sender, receiver) = mpsc::channel();
        for (number, one) in some.iter().enumerate() {
            begin(number, one, deadline, &sender);
        }
        drop(sender);
        let said = collect(&receiver, some.len(), deadline);
        let late = |one: &Asked| one.unknown(&format!("no answer within {} s", LIMIT.as_secs()));
        let answers = some.iter().zip(said);
        all.extend(answers.map(|(one, said)| (one.at, said.unwrap_or_else(|| late(one)))));
    }
    all
}

fn begin(number: usize, one: &Asked, deadline: Instant, sender: &Sender<(usize, HealthAnswer)>) {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return;
    }
    let (asked, sender) = (one.clone(), sender.clone());
    // Without a thread there is no answer, and that is said.
    let _thread = thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            let answer = asked.answer(left);
            // Nobody listens when it comes too late.
            let _heard = sender.send((number, answer));
        });
}

fn collect(
    receiver: &Receiver<(usize, HealthAnswer)>,
    count: usize,
    deadline: Instant,
) -> Vec<Option<HealthAnswer>> {
    let mut said = vec![None; count];
    // A little more: who gives up at the limit says so, and ends what it has begun.
    let deadline = deadline + GRACE;
    while said.iter().any(Option::is_none) {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((number, answer)) = receiver.recv_timeout(left) else {
            break;
        };
        if let Some(place) = said.get_mut(number) {
            *place = Some(answer);
        }
    }
    said
}

impl Asked {
    /// Asks, for `left` at most.
    fn answer(&self, left: Duration) -> HealthAnswer {
        let limit = self.timeout.min(left);
        let begun = Instant::now();
        let heard = match &self.question {
            Question::Notify => return self.said(),
            Question::Command { command } => {
                match checks::run(&self.runtime, &self.id, command, limit) {
                    Ok(answer) => Heard::Good(answer),
                    Err(answer) => Heard::Bad(answer),
                }
            }
            question => checks::ask_network(&self.process, question, limit),
        };
        match heard {
            Heard::Good(answer) => self.with(HealthState::Healthy, answer),
            // It may take longer than this look.
            Heard::Bad(_) if limit < self.timeout && begun.elapsed() >= limit => {
                let limit = limit.as_secs_f32().round();
                self.unknown(&format!("no answer within {limit} s"))
            }
            Heard::Bad(answer) => self.with(HealthState::Ill, answer),
            Heard::CannotAsk(why) => self.unknown(&why),
        }
    }

    /// Who says it says it once.
    fn said(&self) -> HealthAnswer {
        match (self.is_heard, self.runs) {
            (true, true) => self.with(HealthState::Healthy, "said".to_owned()),
            (true, false) => self.with(HealthState::Ill, "not said".to_owned()),
            (false, _) => self.unknown("it is only heard while a start is waited for"),
        }
    }

    fn by_nobody(&self) -> (usize, HealthAnswer) {
        let answer = match self.question {
            Question::Notify => self.said(),
            _ => self.unknown("only root can ask"),
        };
        (self.at, answer)
    }

    fn unknown(&self, why: &str) -> HealthAnswer {
        self.with(HealthState::Unknown, why.to_owned())
    }

    fn with(&self, state: HealthState, answer: String) -> HealthAnswer {
        HealthAnswer {
            name: self.name.clone(),
            question: self.question.to_string(),
            state,
            answer,
            at: files::now(),
        }
    }
}
