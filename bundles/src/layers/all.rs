//! The layers of many instances: whoever looks at all of them shares the work among the processors.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, Scope, ScopedJoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::{Reader, Request, Source};
use crate::diagnostics::Report;
use crate::paths::Paths;

/// So many instances a thread takes at once. Fewer are read sooner than a thread is made for them.
const SHARE: usize = 8;

/// What `look` makes of the layers of each instance, in the order of `requests`.
///
/// Each thread has a [`Reader`] of its own, so that what the instances have in common is read and parsed
/// once for each processor, and no processor waits for another.
pub fn of_all<T: Send>(
    paths: &Paths,
    requests: &[Request<'_>],
    look: impl Fn(&Request<'_>, Result<Vec<Source>, Report>) -> T + Sync,
) -> Vec<T> {
    let shares: Vec<&[Request<'_>]> = requests.chunks(SHARE).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let reader = Reader::new(paths);
        let of_one = |request: &Request<'_>| match &reader {
            Ok(reader) => look(request, reader.read(request)),
            Err(report) => look(request, Err(report.clone())),
        };
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Relaxed);
            let Some(share) = shares.get(at) else {
                return done;
            };
            done.push((at, share.iter().map(of_one).collect::<Vec<T>>()));
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let others = shares.len().min(processors).saturating_sub(1);
    let mut done = match others {
        0 => work(),
        _ => thread::scope(|scope| {
            // One of its own begins the others: what it does to its place ends with it.
            let first = || by_threads(scope, others, &work);
            match thread::Builder::new().spawn_scoped(scope, first) {
                Ok(first) => joined(first),
                Err(_) => work(),
            }
        }),
    };
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().flat_map(|(_, share)| share).collect()
}

/// What `work` makes in this thread and in so many others, each on a processor of its own. Where no
/// thread can be made, those that there are do the work.
fn by_threads<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    others: usize,
    work: &'scope (impl Fn() -> Vec<T> + Sync),
) -> Vec<T> {
    let places = Places::new();
    let spawn = |number| {
        let place = places.of(number);
        let work = move || {
            if let Some(place) = place {
                keep_at(place);
            }
            work()
        };
        let thread = thread::Builder::new().spawn_scoped(scope, work).ok();
        // It has to run here to go somewhere else.
        thread::yield_now();
        thread
    };
    places.stay();
    let threads: Vec<_> = (0..others).filter_map(spawn).collect();
    let mut done = work();
    done.extend(threads.into_iter().flat_map(joined));
    done
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Where threads run while they do this work. A scheduler may leave a new one on the processor of the one
/// that made it, beside idle processors, until its clock ticks, or put two on one for a while: by then a good part
/// of the work would be done. On a processor that others use, too, a thread gets less done, and takes fewer shares.
/// That it does not get to its place stops nothing.
struct Places {
    /// The processors that may be used; nothing when that is not known, as with more of them than fit.
    allowed: Option<CpuSet>,
    /// That of the thread which makes the others.
    own: usize,
}

impl Places {
    fn new() -> Places {
        Places {
            allowed: sched_getaffinity(None).ok(),
            own: sched_getcpu(),
        }
    }

    /// The processor of the thread `number`, counted from 0 without the one that makes the others.
    fn of(&self, number: usize) -> Option<usize> {
        let allowed = self.allowed.as_ref()?;
        // From the next one on, so that the first of all does not get the work of everybody.
        let after = self.own.saturating_add(1)..CpuSet::MAX_CPU;
        let others = after.chain(0..self.own.min(CpuSet::MAX_CPU));
        others.filter(|at| allowed.is_set(*at)).nth(number)
    }

    /// Keeps the thread that makes the others where it is.
    fn stay(&self) {
        let allowed = self.allowed.as_ref();
        if allowed.is_some_and(|all| self.own < CpuSet::MAX_CPU && all.is_set(self.own)) {
            keep_at(self.own);
        }
    }
}

/// Keeps the calling thread on this processor.
fn keep_at(processor: usize) {
    let mut one = CpuSet::new();
    one.set(processor);
    let (Ok(()) | Err(_)) = sched_setaffinity(None, &one);
}

#[cfg(test)]
mod tests {
    use super::super::{Config, LayerKind};
    use super::*;

    #[test]
    fn each_is_read_once_and_told_in_order() {
        let root = tempfile::TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.config.join("nodes")).unwrap();
        let names: Vec<String> = (0..5 * SHARE + 1).map(|n| format!("app{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            std::fs::write(paths.local_layer(name), format!("[env]\nN = {n}\n")).unwrap();
        }
        let request = |name| Request {
            instance: name,
            app_layer: None,
        };
        let requests: Vec<Request<'_>> = names.iter().map(|name| request(name)).collect();
        let looked = AtomicUsize::new(0);
        let places = sched_getaffinity(None).unwrap();
        let found = of_all(&paths, &requests, |request, sources| {
            looked.fetch_add(1, Relaxed);
            (
                request.instance.to_owned(),
                sources.unwrap()[0].text.to_string(),
            )
        });
        assert_eq!(looked.into_inner(), names.len());
        // Whoever asks may go on wherever it could go before.
        assert!(places == sched_getaffinity(None).unwrap());
        for (n, (name, text)) in found.iter().enumerate() {
            assert_eq!((name, text), (&names[n], &format!("[env]\nN = {n}\n")));
        }
        assert!(of_all(&paths, &[], |_, _| ()).is_empty());
    }

    #[test]
    fn threads_begin_on_processors_of_their_own() {
        let mut allowed = CpuSet::new();
        for processor in [1, 3, 5] {
            allowed.set(processor);
        }
        let places = Places {
            allowed: Some(allowed),
            own: 3,
        };
        assert_eq!(
            [0, 1, 2].map(|number| places.of(number)),
            [Some(5), Some(1), None]
        );
    }

    #[test]
    fn what_is_wrong_for_all_is_told_for_each() {
        let root = tempfile::TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(&paths.config).unwrap();
        std::fs::write(paths.server_conf(), "[server]\nsite = a/b\n").unwrap();
        let requests = ["a", "b"].map(|instance| Request {
            instance,
            app_layer: None,
        });
        let found = of_all(&paths, &requests, |_, sources| sources.is_err());
        assert_eq!(found, [true, true]);
    }

    #[test]
    fn what_is_wrong_in_a_common_file_is_told_to_each() {
        let root = tempfile::TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        let [site_conf, _] = paths.site_layers("prod", "a");
        std::fs::create_dir_all(site_conf.parent().unwrap()).unwrap();
        std::fs::write(paths.server_conf(), "[server]\nsite = prod\n").unwrap();
        std::fs::write(site_conf, "[env]\nA = 1\nnonsense\n").unwrap();
        let requests = ["a", "b"].map(|instance| Request {
            instance,
            app_layer: None,
        });
        let found = of_all(&paths, &requests, |_, sources| {
            let report = Config::from_sources(sources.unwrap()).unwrap_err();
            report.to_string()
        });
        assert!(found[0].contains("line without `=`"), "{}", found[0]);
        assert_eq!(found[0], found[1]);
    }

    #[test]
    fn a_text_that_was_replaced_is_parsed_anew() {
        let path = std::path::Path::new("site.conf");
        let mut source = Source::new(LayerKind::Site, path, "[env]\nA = 1\n").understood();
        assert!(source.known().is_some());
        source.text = "[env]\nA = 2\n".into();
        let config = Config::from_sources(vec![source]).unwrap();
        assert_eq!(config.get("env", "A").unwrap().text, "2");
    }
}
