//! What JVMs may take of the memory limits, and the heaps that nobody set.
//!
//! A JVM takes its heap, classes (metaspace), buffers outside of the heap (direct memory), the stacks
//! of its threads and compiled code. What a key or option bounds counts with its bound, the rest
//! with what a small program takes ([`METASPACE`] and so on). The sum has to fit into the limit of the
//! daemon, and the sums of all JVMs of an instance into the instance's.
//!
//! A heap that nobody set is three quarters of what the rest leaves of the daemon's own limit, and
//! at most an equal share of three quarters of what everything else leaves of the instance's. The last
//! quarter is for what cannot be counted: the collector's own tables, libraries, the file cache.

use std::collections::BTreeMap;

use super::{Builder, place};
use crate::app::{Bound, Daemon, JvmMemory, Limits};
use crate::diagnostics::{Diagnostic, Place};
use crate::layers::{Origin, Value};

const MIB: u64 = 1 << 20;
/// What counts for classes that nothing bounds: those of the JDK that every program loads.
pub const METASPACE: u64 = 24 * MIB;
/// What counts for direct memory that nothing bounds.
pub const DIRECT: u64 = 4 * MIB;
/// What counts for compiled code that nothing bounds. (The JVM reserves 240m, and fills little of it.)
pub const CODE_CACHE: u64 = 16 * MIB;
/// How many threads count when nobody says: the JVM's own, and a few.
pub const THREADS: u64 = 20;
/// The stack of a thread on 64 bit Linux (java(1), `-XX:ThreadStackSize`).
pub const STACK: u64 = MIB;
/// A heap that nobody set is not smaller.
const SMALLEST_HEAP: u64 = 16 * MIB;

/// A JVM whose memory is counted.
struct Jvm<'a> {
    name: &'a str,
    memory: &'a JvmMemory,
    origin: &'a Origin,
    /// The daemon's own limit.
    own: Option<u64>,
    /// The heap: as said, or as found here.
    heap: Option<u64>,
}

impl Jvm<'_> {
    fn stacks(&self) -> u64 {
        self.threads().saturating_mul(self.stack())
    }

    fn threads(&self) -> u64 {
        bound(self.memory.threads.as_ref(), THREADS)
    }

    fn stack(&self) -> u64 {
        bound(self.memory.stack.as_ref(), STACK)
    }

    /// Everything but the heap.
    fn rest(&self) -> u64 {
        [
            bound(self.memory.metaspace.as_ref(), METASPACE),
            bound(self.memory.direct.as_ref(), DIRECT),
            bound(self.memory.code_cache.as_ref(), CODE_CACHE),
            self.stacks(),
        ]
        .iter()
        .fold(0, |sum, part| sum.saturating_add(*part))
    }

    fn total(&self) -> u64 {
        self.rest().saturating_add(self.heap.unwrap_or(0))
    }

    /// Where the heap was bounded, else what else was, else the section.
    fn origin(&self) -> &Origin {
        let memory = self.memory;
        let bounds = [
            &memory.heap,
            &memory.heap_share,
            &memory.direct,
            &memory.metaspace,
            &memory.threads,
            &memory.stack,
            &memory.code_cache,
        ];
        let mut origins = bounds
            .into_iter()
            .flatten()
            .filter_map(|bound| bound.origin.as_ref());
        origins.next().unwrap_or(self.origin)
    }

    /// `heap 256m (jvm.heap.max, .metactl:4), metaspace 24m, ...`: what each part takes, and which
    /// line says so. What has none is counted as a small program has it.
    fn figures(&self) -> String {
        let memory = self.memory;
        let mut parts = Vec::new();
        if let Some(heap) = self.heap {
            let by = memory.heap.as_ref().or(memory.heap_share.as_ref());
            parts.push(format!("heap {}{}", size(heap), said(by)));
        }
        for (what, by, unset) in [
            ("metaspace", &memory.metaspace, METASPACE),
            ("direct memory", &memory.direct, DIRECT),
            ("code cache", &memory.code_cache, CODE_CACHE),
        ] {
            let bytes = size(bound(by.as_ref(), unset));
            parts.push(format!("{what} {bytes}{}", said(by.as_ref())));
        }
        parts.push(format!(
            "{} threads{} with stacks of {}{}: {}",
            self.threads(),
            said(memory.threads.as_ref()),
            size(self.stack()),
            said(memory.stack.as_ref()),
            size(self.stacks())
        ));
        parts.join(", ")
    }
}

fn bound(bound: Option<&Bound>, unset: u64) -> u64 {
    bound.map_or(unset, |bound| bound.value)
}

fn said(bound: Option<&Bound>) -> String {
    match bound.map(|bound| (&bound.by, &bound.origin)) {
        Some((by, Some(origin))) => format!(" ({by}, {origin})"),
        Some((by, None)) => format!(" ({by})"),
        None => " (assumed)".to_owned(),
    }
}

/// Three quarters of what is left, in whole MiB.
fn share(left: u64, among: u64) -> u64 {
    (left / 4).saturating_mul(3) / among.max(1) / MIB * MIB
}

/// Bytes as people write them: `1536m`, `2g`.
fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => format!("{}g", bytes >> 30),
        _ if bytes >= MIB => format!("{}m", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{}k", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

impl Builder<'_> {
    /// Checks what the JVMs may take, and gives a heap to those that have none.
    pub(super) fn divide_memory(
        &mut self,
        daemons: &mut BTreeMap<String, Daemon>,
        instance: &Limits,
    ) {
        let mut jvms: Vec<Jvm<'_>> = daemons
            .values()
            .filter_map(|daemon| {
                let memory = daemon.launch.memory.as_deref()?;
                let limit = daemon.limits.memory.or(instance.memory);
                Some(Jvm {
                    name: &daemon.name,
                    memory,
                    origin: &daemon.origin,
                    own: daemon.limits.memory,
                    heap: said_heap(memory, limit),
                })
            })
            .collect();
        let before = self.out.errors();
        let found = self.find_heaps(&mut jvms, instance);
        if self.out.errors() == before {
            self.check_sums(&jvms, instance);
        }
        self.check_threads(daemons, instance);
        for (name, heap) in found {
            if let Some(daemon) = daemons.get_mut(&name) {
                daemon.launch.args.insert(1, format!("-Xmx{}m", heap / MIB));
            }
        }
        for daemon in daemons.values_mut() {
            let threads = daemon
                .launch
                .memory
                .as_ref()
                .and_then(|m| m.threads.as_ref());
            let threads = threads.map(|bound| bound.value);
            daemon.limits.pids = daemon.limits.pids.or(threads);
        }
    }

    /// The heaps that nobody set, by daemon.
    fn find_heaps(&mut self, jvms: &mut [Jvm<'_>], instance: &Limits) -> Vec<(String, u64)> {
        let known = jvms
            .iter()
            .fold(0_u64, |sum, jvm| sum.saturating_add(jvm.total()));
        let open = jvms.iter().filter(|jvm| jvm.heap.is_none()).count() as u64;
        let mut found = Vec::new();
        for jvm in jvms.iter_mut().filter(|jvm| jvm.heap.is_none()) {
            let of_own = jvm.own.map(|own| share(own.saturating_sub(jvm.rest()), 1));
            let of_instance = instance
                .memory
                .map(|memory| share(memory.saturating_sub(known), open));
            let Some(heap) = of_own.into_iter().chain(of_instance).min() else {
                continue;
            };
            if heap < SMALLEST_HEAP {
                self.no_room_for_a_heap(jvm, of_own == Some(heap), known, instance);
                continue;
            }
            // What begins with more than that has to say how far it goes.
            if let Some(least) = jvm
                .memory
                .heap_min
                .as_ref()
                .filter(|least| least.value > heap)
            {
                let (section, least) = (jvm.name, size(least.value));
                let message = format!(
                    "`jvm.heap.min` of [daemon.{section}] is {least}, more than the {} that the memory \
                     limit leaves for the heap",
                    size(heap)
                );
                let hint = "set jvm.heap.max as well, or raise the memory limit";
                self.error(jvm.origin(), message, Some(hint));
                continue;
            }
            jvm.heap = Some(heap);
            found.push((jvm.name.to_owned(), heap));
        }
        found
    }

    fn no_room_for_a_heap(&mut self, jvm: &Jvm<'_>, own: bool, known: u64, instance: &Limits) {
        let name = jvm.name;
        let (key, limit) = self.limit_line(own.then_some(name));
        let message = if own {
            format!(
                "{key} leaves no heap for the JVM of [daemon.{name}]: {}",
                jvm.figures()
            )
        } else {
            format!(
                "{key} ({}) leaves no heap for the JVM of [daemon.{name}]: what is known of all JVMs \
                 takes {}, of this one {}",
                size(instance.memory.unwrap_or(0)),
                size(known),
                jvm.figures()
            )
        };
        let related = limit.and_then(|value| place(self.config, &value.origin));
        let hint = format!("raise {key}, or lower what the other parts take");
        self.out_of_memory(jvm.origin(), message, related, hint);
    }

    /// Every JVM fits into its limit, and all of them into the instance's.
    fn check_sums(&mut self, jvms: &[Jvm<'_>], instance: &Limits) {
        let mut told = false;
        for jvm in jvms.iter().filter(|jvm| jvm.heap.is_some()) {
            let limits = [(jvm.own, Some(jvm.name)), (instance.memory, None)];
            let exceeded = limits
                .into_iter()
                .find_map(|(limit, of)| limit.filter(|limit| jvm.total() > *limit).zip(Some(of)));
            if let Some((limit, of)) = exceeded {
                told = true;
                self.too_much_for_one(jvm, limit, of);
            }
        }
        let sum = jvms
            .iter()
            .fold(0_u64, |sum, jvm| sum.saturating_add(jvm.total()));
        if let (false, Some(limit)) = (told, instance.memory.filter(|limit| sum > *limit)) {
            self.too_much_for_all(jvms, sum, limit);
        }
    }

    fn too_much_for_one(&mut self, jvm: &Jvm<'_>, limit: u64, of: Option<&str>) {
        let (key, value) = self.limit_line(of);
        let message = format!(
            "the JVM of [daemon.{}] may take {}, more than the {} of {key}{}: {}",
            jvm.name,
            size(jvm.total()),
            size(limit),
            by(value),
            jvm.figures()
        );
        let related = value.and_then(|value| place(self.config, &value.origin));
        let fits = limit.saturating_sub(jvm.rest()) / MIB;
        let hint = match fits {
            16.. => format!("jvm.heap.max = {fits}m would fit; or raise {key}"),
            _ => format!("raise {key}, or lower what the parts may take"),
        };
        self.out_of_memory(jvm.origin(), message, related, hint);
    }

    fn too_much_for_all(&mut self, jvms: &[Jvm<'_>], sum: u64, limit: u64) {
        let (key, value) = self.limit_line(None);
        let each: Vec<String> = jvms
            .iter()
            .map(|jvm| format!("{} {} ({})", jvm.name, size(jvm.total()), jvm.figures()))
            .collect();
        let message = format!(
            "the JVMs of this instance may take {}, more than the {} of {key}{}: {}",
            size(sum),
            size(limit),
            by(value),
            each.join("; ")
        );
        let related = value.and_then(|value| place(self.config, &value.origin));
        let largest = jvms.iter().max_by_key(|jvm| jvm.total());
        if let Some(jvm) = largest {
            let hint = format!("raise {key}, or lower what a JVM may take");
            self.out_of_memory(jvm.origin(), message, related, hint);
        }
    }

    fn out_of_memory(
        &mut self,
        origin: &Origin,
        message: String,
        limit: Option<Place>,
        hint: String,
    ) {
        let config = self.config;
        self.out.error(|| {
            Diagnostic::error(message)
                .at(place(config, origin))
                .related(limit, "the limit")
                .hint(hint)
        });
    }

    /// The words for a memory limit, a daemon's or the instance's, and the line that says it.
    fn limit_line(&self, daemon: Option<&str>) -> (String, Option<&Value>) {
        match daemon {
            Some(name) => {
                let section = format!("daemon.{name}");
                let key = "limits.memory";
                (
                    format!("`{key}` of [{section}]"),
                    self.config.get(&section, key),
                )
            }
            None => (
                "`memory` of [sandbox.limits]".to_owned(),
                self.config.get("sandbox.limits", "memory"),
            ),
        }
    }

    /// Threads count as processes.
    fn check_threads(&mut self, daemons: &BTreeMap<String, Daemon>, instance: &Limits) {
        for (name, daemon) in daemons {
            let threads = daemon
                .launch
                .memory
                .as_ref()
                .and_then(|m| m.threads.as_ref());
            let limit = daemon.limits.pids.or(instance.pids);
            let Some((threads, limit)) = threads.zip(limit) else {
                continue;
            };
            if threads.value <= limit {
                continue;
            }
            let key = match daemon.limits.pids {
                Some(_) => format!("`limits.pids` of [daemon.{name}]"),
                None => "`pids` of [sandbox.limits]".to_owned(),
            };
            let message = format!(
                "`jvm.threads` of [daemon.{name}] is {}, and {key} allows {limit} processes and threads",
                threads.value
            );
            let hint = format!("raise {key}, or lower jvm.threads");
            let origin = threads.origin.as_ref().unwrap_or(&daemon.origin);
            self.error(origin, message, Some(&hint));
        }
    }
}

/// ` (sites/prod/site.conf:4)`
fn by(value: Option<&Value>) -> String {
    value.map_or(String::new(), |value| format!(" ({})", value.origin))
}

/// The heap that a key or an option says; a share is one of the limit, which the JVM is told.
fn said_heap(memory: &JvmMemory, limit: Option<u64>) -> Option<u64> {
    let share = |bound: &Bound| Some((limit? / 1000).saturating_mul(bound.value.min(1000)));
    match &memory.heap {
        Some(bound) => Some(bound.value),
        None => memory.heap_share.as_ref().and_then(share),
    }
}

#[cfg(test)]
mod tests;
