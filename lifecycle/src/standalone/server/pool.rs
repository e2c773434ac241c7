//! A thread for each instance. One that fails or panics is begun again after a pause; the others never notice.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Result;

/// The first pause before a thread is begun again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The most that a thread may need of a stack. Only what it touches is memory.
const STACK: usize = 2 << 20;
/// How often stopping everything of an instance is tried, before it is given up.
const LAST_TRIES: u32 = 5;

/// What a thread does: it supervises the instance of that name, and returns when everything of it is stopped.
pub(super) type Work = dyn Fn(&str) -> Result<()> + Send + Sync;
/// What it does at its end, so that it is noticed.
pub(super) type Wake = dyn Fn() + Send + Sync;

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Everything of the instance is stopped.
    Done,
    /// It gave up.
    Failed(String),
    /// It panicked, with these words.
    Panicked(String),
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Done => out.write_str("it has stopped everything"),
            End::Failed(why) => out.write_str(why),
            End::Panicked(words) => write!(out, "this is a fault of metactl: {words}"),
        }
    }
}

/// The threads.
pub(super) struct Pool {
    work: Arc<Work>,
    wake: Arc<Wake>,
    workers: BTreeMap<String, Worker>,
    sender: Sender<(String, End)>,
    ended: Receiver<(String, End)>,
}

/// One of them, or the memory of one.
struct Worker {
    thread: Option<JoinHandle<()>>,
    failures: u32,
    /// When it is begun again.
    again: Option<Instant>,
    /// When it failed last.
    failed: Option<Instant>,
    /// Once nothing is wanted any more: how often it may still fail to stop what runs.
    last_tries: Option<u32>,
}

impl Pool {
    pub(super) fn new(work: Box<Work>, wake: Box<Wake>) -> Pool {
        let (sender, ended) = channel();
        Pool {
            work: work.into(),
            wake: wake.into(),
            workers: BTreeMap::new(),
            sender,
            ended,
        }
    }

    /// Whether nobody works, and nobody is to be begun again.
    pub(super) fn is_done(&self) -> bool {
        self.workers.is_empty()
    }

    /// Those that have failed, and are to be begun again in their time.
    pub(super) fn waiting(&self) -> Vec<String> {
        let waiting = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.thread.is_none());
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Somebody asks: who waits is begun as soon as after a first failure.
    pub(super) fn hurry(&mut self) {
        for worker in self.workers.values_mut() {
            let soon = worker.failed.map(|failed| failed + FIRST_PAUSE);
            worker.again = worker.again.min(soon);
        }
    }

    /// Nothing is wanted any more of an instance whose thread has failed: it is begun at once, to stop what runs.
    /// When that fails too, it is tried a few times more. `false`: it is given up.
    pub(super) fn stop(&mut self, name: &str, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(name) else {
            return true;
        };
        match worker.last_tries {
            None => {
                worker.last_tries = Some(LAST_TRIES);
                worker.again = None;
                worker.failures = 0;
            }
            Some(0) => {
                self.workers.remove(name);
                return false;
            }
            Some(_) => {}
        }
        self.ensure(name, now);
        true
    }

    /// The threads that have ended since the last time, and how. Those that failed are begun again by
    /// [`ensure`](Pool::ensure), in their time.
    pub(super) fn bury(&mut self, now: Instant) -> Vec<(String, End)> {
        let ended: Vec<(String, End)> = self.ended.try_iter().collect();
        for (name, end) in &ended {
            let Some(worker) = self.workers.get_mut(name) else {
                continue;
            };
            if let Some(thread) = worker.thread.take() {
                // How it ended has been caught.
                let _ended = thread.join();
            }
            if *end == End::Done {
                self.workers.remove(name);
            } else {
                let doubled = FIRST_PAUSE.saturating_mul(1 << worker.failures.min(10));
                worker.failures += 1;
                worker.last_tries = worker.last_tries.map(|left| left.saturating_sub(1));
                worker.again = Some(now + doubled.min(LONGEST_PAUSE));
                worker.failed = Some(now);
            }
        }
        ended
    }

    /// Sees to it that there is a thread for an instance.
    pub(super) fn ensure(&mut self, name: &str, now: Instant) {
        let known = self.workers.get(name);
        if known.is_some_and(|worker| worker.thread.is_some() || worker.again > Some(now)) {
            return;
        }
        let failures = known.map_or(0, |worker| worker.failures);
        let last_tries = known.and_then(|worker| worker.last_tries);
        let thread = self.begin(name);
        // Without a thread it is tried again like after a failure.
        let again = thread.is_none().then(|| now + FIRST_PAUSE);
        let worker = Worker {
            thread,
            failures,
            again,
            failed: None,
            last_tries,
        };
        self.workers.insert(name.to_owned(), worker);
    }

    fn begin(&self, name: &str) -> Option<JoinHandle<()>> {
        let (work, wake) = (Arc::clone(&self.work), Arc::clone(&self.wake));
        let (sender, name) = (self.sender.clone(), name.to_owned());
        let builder = Builder::new().name(name.clone()).stack_size(STACK);
        let thread = builder.spawn(move || {
            // What it had is written down; nothing of it is used again.
            let end = match catch_unwind(AssertUnwindSafe(|| work(&name))) {
                Ok(Ok(())) => End::Done,
                Ok(Err(error)) => End::Failed(error.to_string()),
                Err(panic) => End::Panicked(words(panic.as_ref())),
            };
            // Nobody listens when the process is at its end.
            let _heard = sender.send((name, end));
            wake();
        });
        thread.ok()
    }

    /// When somebody is begun again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self
            .workers
            .values()
            .filter(|worker| worker.thread.is_none());
        waiting.filter_map(|worker| worker.again).min()
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::LifecycleError;

    fn ends(pool: &mut Pool, count: usize, now: Instant) -> Vec<(String, End)> {
        let mut all = Vec::new();
        let begin = Instant::now();
        while all.len() < count {
            assert!(begin.elapsed() < Duration::from_secs(20), "{all:?}");
            all.extend(pool.bury(now));
            std::thread::sleep(Duration::from_millis(1));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn one_that_panics_or_fails_is_begun_again_and_harms_no_other() {
        let begun = Arc::new(Mutex::new(Vec::<String>::new()));
        let (release, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let seen = Arc::clone(&begun);
        let work = move |name: &str| {
            seen.lock().unwrap().push(name.to_owned());
            match name {
                "fails" => Err(LifecycleError::NotDeployed {
                    instance: name.to_owned(),
                }),
                "panics" => panic!("out of bounds"),
                _ => {
                    wait.lock().unwrap().recv().ok();
                    Ok(())
                }
            }
        };
        let mut pool = Pool::new(Box::new(work), Box::new(|| {}));
        let now = Instant::now();
        for name in ["fails", "good", "panics"] {
            pool.ensure(name, now);
            pool.ensure(name, now);
        }
        let first = ends(&mut pool, 2, now);
        assert_eq!(
            first[0],
            (
                "fails".to_owned(),
                End::Failed("fails is not deployed".to_owned())
            )
        );
        assert_eq!(
            first[1],
            (
                "panics".to_owned(),
                End::Panicked("out of bounds".to_owned())
            )
        );
        assert_eq!(pool.waiting(), ["fails", "panics"], "the good one works");
        // Not before its time, and each time later.
        assert_eq!(pool.deadline(), Some(now + FIRST_PAUSE));
        pool.ensure("panics", now);
        let so_far = begun.lock().unwrap().len();
        assert_eq!(so_far, 3);
        let later = now + FIRST_PAUSE;
        pool.ensure("panics", later);
        ends(&mut pool, 1, later);
        pool.ensure("fails", now + LONGEST_PAUSE);
        pool.ensure("panics", later + FIRST_PAUSE);
        ends(&mut pool, 1, later);
        let begun = begun.lock().unwrap().len();
        assert_eq!(begun, 5, "it waits twice as long");
        release.send(()).unwrap();
        let last = ends(&mut pool, 1, later);
        assert_eq!(last[0], ("good".to_owned(), End::Done));
        assert!(!pool.is_done());
        assert_eq!(pool.waiting(), ["fails", "panics"]);
    }

    #[test]
    fn who_waits_is_begun_at_once_to_stop_and_given_up_in_the_end() {
        let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let fails = Arc::clone(&failing);
        let work = move |name: &str| match fails.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(LifecycleError::NotDeployed {
                instance: name.to_owned(),
            }),
            false => Ok(()),
        };
        let mut pool = Pool::new(Box::new(work), Box::new(|| {}));
        let mut now = Instant::now();
        pool.ensure("one", now);
        ends(&mut pool, 1, now);
        pool.ensure("one", now);
        assert_eq!(pool.waiting(), ["one"], "it waits for its time");
        // Now, whatever its time.
        for _ in 0..LAST_TRIES {
            assert!(pool.stop("one", now) && pool.waiting().is_empty());
            ends(&mut pool, 1, now);
            assert!(pool.stop("one", now) || pool.is_done());
            now += LONGEST_PAUSE;
        }
        assert!(pool.is_done(), "it is given up");
        pool.ensure("two", now);
        ends(&mut pool, 1, now);
        pool.ensure("two", now + FIRST_PAUSE);
        ends(&mut pool, 1, now + FIRST_PAUSE);
        assert_eq!(pool.deadline(), Some(now + 3 * FIRST_PAUSE));
        pool.hurry();
        assert_eq!(pool.deadline(), Some(now + 2 * FIRST_PAUSE));
        failing.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(pool.stop("two", now));
        assert_eq!(ends(&mut pool, 1, now)[0].1, End::Done);
        assert!(pool.is_done());
    }
}
