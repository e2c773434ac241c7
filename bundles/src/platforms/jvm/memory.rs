//! What bounds the memory of a JVM: keys, and options that say the same.
//!
//! | key | option | also as an option |
//! | --- | --- | --- |
//! | `jvm.heap.max` | `-Xmx` | `-XX:MaxHeapSize`, `-XX:MaxRAMPercentage` |
//! | `jvm.heap.min` | `-Xms` | `-XX:InitialHeapSize` |
//! | `jvm.metaspace.max` | `-XX:MaxMetaspaceSize` | |
//! | `jvm.direct.max` | `-XX:MaxDirectMemorySize` | |
//! | `jvm.codecache.max` | `-XX:ReservedCodeCacheSize` | |
//! | `jvm.stack` | `-Xss` | `-XX:ThreadStackSize`, in KiB |
//! | `jvm.threads` | none: the limit of processes | |
//!
//! (java(1) of the JDK, "Standard", "Extra" and "Advanced Options".) Whether all of it fits into the
//! memory limit is decided in [`crate::model`], where the limits are known.

use std::borrow::Cow;

use crate::app::{Bound, JvmMemory};
use crate::keys::values;
use crate::platforms::{DaemonSection, PlatformError};

/// A JVM has about this many threads before the program has any.
const FEWEST_THREADS: u64 = 20;

/// Which bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Heap,
    HeapShare,
    HeapMin,
    Metaspace,
    Direct,
    CodeCache,
    Stack,
}

/// What the value of an option is.
enum Unit {
    /// A size as the JVM reads it: bytes, or a number and `k`, `m`, `g`, `t`.
    Size,
    /// A number of KiB.
    Kib,
    /// A percentage.
    Percent,
}

/// Keys, what they bound, and the option that each becomes.
const KEYS: [(&str, Which, &str); 6] = [
    ("jvm.heap.max", Which::Heap, "-Xmx"),
    ("jvm.heap.min", Which::HeapMin, "-Xms"),
    (
        "jvm.metaspace.max",
        Which::Metaspace,
        "-XX:MaxMetaspaceSize=",
    ),
    ("jvm.direct.max", Which::Direct, "-XX:MaxDirectMemorySize="),
    (
        "jvm.codecache.max",
        Which::CodeCache,
        "-XX:ReservedCodeCacheSize=",
    ),
    ("jvm.stack", Which::Stack, "-Xss"),
];

/// Options that people write into `jvm.options`.
const OPTIONS: [(&str, Which, Unit); 10] = [
    ("-Xmx", Which::Heap, Unit::Size),
    ("-XX:MaxHeapSize=", Which::Heap, Unit::Size),
    ("-XX:MaxRAMPercentage=", Which::HeapShare, Unit::Percent),
    ("-Xms", Which::HeapMin, Unit::Size),
    ("-XX:InitialHeapSize=", Which::HeapMin, Unit::Size),
    ("-XX:MaxMetaspaceSize=", Which::Metaspace, Unit::Size),
    ("-XX:MaxDirectMemorySize=", Which::Direct, Unit::Size),
    ("-XX:ReservedCodeCacheSize=", Which::CodeCache, Unit::Size),
    ("-Xss", Which::Stack, Unit::Size),
    ("-XX:ThreadStackSize=", Which::Stack, Unit::Kib),
];

/// The bounds that a section has; `args` gets the options that its keys become.
///
/// # Errors
/// A size that is none; a key and an option that say the same thing.
pub(super) fn read(
    daemon: &DaemonSection<'_>,
    args: &mut Vec<String>,
) -> Result<JvmMemory, PlatformError> {
    let mut memory = JvmMemory::default();
    for (key, which, option) in KEYS {
        let Some(value) = (daemon.get)(key) else {
            continue;
        };
        let bytes = values::heap_size(&value.text)
            .map_err(|problem| daemon.error(key, format!("`{key}` {problem}"), SIZE.to_owned()))?;
        *slot(&mut memory, which) = Some(Bound {
            value: bytes,
            by: Cow::Borrowed(key),
            origin: Some(value.origin.clone()),
        });
        let mut word = [option, value.text.trim()].concat();
        word[option.len()..].make_ascii_lowercase();
        args.push(word);
    }
    if let Some(value) = (daemon.get)("jvm.threads") {
        memory.threads = Some(threads(daemon, &value.text)?);
    }
    for word in (daemon.words)("jvm.options").unwrap_or_default() {
        option(daemon, &mut memory, &word)?;
    }
    match (&memory.heap_min, &memory.heap) {
        (Some(least), Some(most)) if least.value > most.value => Err(daemon.error(
            "jvm.heap.min",
            format!("{} is more than {}", least.by, most.by),
            "the heap begins with jvm.heap.min and grows to jvm.heap.max".to_owned(),
        )),
        _ => Ok(memory),
    }
}

const SIZE: &str = "write a number and k, m or g, like 256m";

fn slot(memory: &mut JvmMemory, which: Which) -> &mut Option<Bound> {
    match which {
        Which::Heap => &mut memory.heap,
        Which::HeapShare => &mut memory.heap_share,
        Which::HeapMin => &mut memory.heap_min,
        Which::Metaspace => &mut memory.metaspace,
        Which::Direct => &mut memory.direct,
        Which::CodeCache => &mut memory.code_cache,
        Which::Stack => &mut memory.stack,
    }
}

fn threads(daemon: &DaemonSection<'_>, text: &str) -> Result<Bound, PlatformError> {
    match values::count(text) {
        Ok(count) if count >= FEWEST_THREADS => Ok(Bound {
            value: count,
            by: Cow::Borrowed("jvm.threads"),
            origin: daemon.origin("jvm.threads"),
        }),
        _ => Err(daemon.error(
            "jvm.threads",
            format!("`{text}` is not a number of threads that a JVM can live with"),
            format!("write {FEWEST_THREADS} or more: its own threads are counted too"),
        )),
    }
}

/// Takes note of an option that bounds something. One that is not understood is the JVM's to refuse.
fn option(
    daemon: &DaemonSection<'_>,
    memory: &mut JvmMemory,
    word: &str,
) -> Result<(), PlatformError> {
    let found = OPTIONS
        .iter()
        .find_map(|(name, which, unit)| Some((*which, unit, word.strip_prefix(name)?)));
    let Some((which, unit, text)) = found else {
        return Ok(());
    };
    let value = match unit {
        Unit::Size => option_size(text),
        Unit::Kib => text
            .parse::<u64>()
            .ok()
            .and_then(|kib| kib.checked_mul(1024)),
        Unit::Percent => values::cpu_millis(text).ok().map(|millis| millis / 100),
    };
    let said = match which {
        Which::HeapShare => memory.heap.as_ref(),
        _ => slot(memory, which).as_ref(),
    };
    if let Some(key) = said.filter(|bound| KEYS.iter().any(|(key, ..)| *key == bound.by)) {
        return Err(daemon.error(
            "jvm.options",
            format!("`{word}` says again what {} says", key.by),
            format!("take it out of jvm.options, and keep {}", key.by),
        ));
    }
    if let Some(value) = value {
        *slot(memory, which) = Some(Bound {
            value,
            by: Cow::Owned(word.to_owned()),
            origin: daemon.origin("jvm.options"),
        });
    }
    Ok(())
}

/// A size as the JVM reads it.
fn option_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['k', 'm', 'g', 't']);
    let shift = match &lower[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
