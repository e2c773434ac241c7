//! What processes use of the processors, from one look to the next.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

use super::Process;
use crate::error::Result;
use crate::instance::Instance;

/// A process, and what it used since the look before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// How much of one processor it used, in per cent; 200 is all of two. Not known of one that is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// The processor time and the age of processes, by number.
type Seen = HashMap<i32, (u64, u64)>;

/// Looks at the processes of an instance again and again.
#[derive(Debug)]
pub struct Sampler<'a> {
    instance: &'a Instance,
    entry: Option<String>,
    before: Option<(Instant, Seen)>,
}

impl Instance {
    /// Somebody who looks at its processes, or at those of one entry point.
    pub fn sampler(&self, entry: Option<&str>) -> Sampler<'_> {
        Sampler {
            instance: self,
            entry: entry.map(str::to_owned),
            before: None,
        }
    }
}

impl Sampler<'_> {
    /// What there is now, the busiest first.
    ///
    /// # Errors
    /// As [`Instance::processes`].
    pub fn look(&mut self) -> Result<Vec<Usage>> {
        let processes = self.instance.processes(self.entry.as_deref())?;
        Ok(self.compare(processes, Instant::now()))
    }

    fn compare(&mut self, processes: Vec<Process>, now: Instant) -> Vec<Usage> {
        let seen = processes
            .iter()
            .map(|one| (one.pid, (one.cpu, one.seconds)))
            .collect();
        let before = self.before.replace((now, seen));
        let percent = |process: &Process| {
            let (then, seen) = before.as_ref()?;
            let (cpu, age) = seen.get(&process.pid)?;
            // A number that another process has now is younger, or has used less.
            let used = process
                .cpu
                .checked_sub(*cpu)
                .filter(|_| process.seconds >= *age)?;
            let elapsed = (now - *then).as_secs_f64() * 1000.0;
            // No more than a look apart; the counters tell of centiseconds.
            (elapsed > 0.0).then(|| (used as f64 / elapsed * 1000.0).round() / 10.0)
        };
        let mut all: Vec<Usage> = processes
            .into_iter()
            .map(|process| Usage {
                percent: percent(&process),
                process,
            })
            .collect();
        let key = |one: &Usage| (one.percent.unwrap_or_default(), one.process.memory);
        all.sort_by(|a, b| {
            key(b)
                .partial_cmp(&key(a))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::manager::Manager;

    fn process(pid: i32, cpu: u64, seconds: u64) -> Process {
        Process {
            entry: "web".to_owned(),
            pid,
            inside: None,
            parent: 1,
            uid: 1,
            gid: 1,
            state: 'R',
            memory: 1,
            threads: 1,
            cpu,
            seconds,
            command: "x".to_owned(),
        }
    }

    #[test]
    fn the_busiest_comes_first() {
        let instance = Instance {
            manager: Manager::from_env().unwrap(),
            name: "a".to_owned(),
        };
        let mut sampler = instance.sampler(None);
        let now = Instant::now();
        let first = sampler.compare(
            vec![process(1, 100, 9), process(2, 5000, 9), process(3, 10, 9)],
            now,
        );
        assert!(first.iter().all(|one| one.percent.is_none()));
        let later = now + Duration::from_secs(2);
        // 3 is another one by now.
        let all = sampler.compare(
            vec![
                process(1, 1100, 11),
                process(2, 5100, 11),
                process(3, 20, 1),
            ],
            later,
        );
        let all: Vec<(i32, Option<f64>)> = all
            .iter()
            .map(|one| (one.process.pid, one.percent))
            .collect();
        assert_eq!(all, [(1, Some(50.0)), (2, Some(5.0)), (3, None)]);
    }
}
