//! What works but is probably not meant.

use super::place;
use crate::app::App;
use crate::diagnostics::{Diagnostic, MAX_DIAGNOSTICS};
use crate::keys::values;
use crate::layers::Config;
use crate::network::{Mode, Verdict};

/// Words that a shell would understand, and a program gets as they are.
const SHELL_WORDS: [&str; 9] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"];

/// What a JVM needs besides its heap, at the least.
const BESIDES_HEAP: u64 = 64 << 20;

/// Everything that should be looked at once more.
pub fn warnings(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, daemon) in &app.daemons {
        let section = format!("daemon.{name}");
        found.extend(shell_words(config, &section));
        if daemon.port.is_none() {
            found.extend(nobody_to_ask(config, &section));
        }
        if found.len() >= MAX_DIAGNOSTICS {
            return found;
        }
    }
    found.extend(heaps(config, app));
    found.extend(accept_lists(config, app));
    found
}

fn shell_words(config: &Config, section: &str) -> Option<Diagnostic> {
    let value = config.get(section, "command")?;
    let words = config.words(section, "command")?;
    let word = words
        .iter()
        .find(|word| SHELL_WORDS.contains(&word.as_str()))?;
    Some(
        Diagnostic::warning(format!(
            "`{word}` is given to the program: there is no shell in between"
        ))
        .at(place(config, &value.origin))
        .hint("for a shell write: command = sh -c '...'"),
    )
}

/// A health check of a daemon without a port.
fn nobody_to_ask(config: &Config, section: &str) -> Option<Diagnostic> {
    let value = config.get(section, "health")?;
    let text = &value.text;
    Some(
        Diagnostic::warning(format!(
            "`health = {text}` asks nobody: [{section}] has no port"
        ))
        .at(place(config, &value.origin))
        .hint("add `port =`; without one the daemon only has to stay up for a moment"),
    )
}

/// Heaps that leave nothing for the rest of the JVM.
fn heaps(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut sum = 0_u64;
    let mut last = None;
    for (name, daemon) in &app.daemons {
        let Some(value) = config.get(&format!("daemon.{name}"), "jvm.heap.max") else {
            continue;
        };
        let Ok(heap) = values::heap_size(&value.text) else {
            continue;
        };
        if daemon
            .limits
            .memory
            .is_some_and(|memory| heap + BESIDES_HEAP > memory && found.len() < MAX_DIAGNOSTICS)
        {
            found.push(heap_warning(
                config,
                value,
                "its limit leaves less than 64m for the rest of the JVM",
            ));
        }
        sum = sum.saturating_add(heap + BESIDES_HEAP);
        last = Some(value);
    }
    if let (Some(memory), Some(value)) = (app.sandbox.limits.memory, last)
        && sum > memory
    {
        let limit = config
            .get("sandbox.limits", "memory")
            .map_or("", |value| &value.text);
        let text = format!(
            "all heaps and 64m for each JVM are {}m, the instance has {limit}",
            sum >> 20
        );
        found.push(heap_warning(config, value, &text));
    }
    found
}

fn heap_warning(config: &Config, value: &crate::layers::Value, text: &str) -> Diagnostic {
    Diagnostic::warning(text)
        .at(place(config, &value.origin))
        .hint("raise `memory` in [sandbox.limits], or the kernel may end a JVM that fills its heap")
}

/// Accept lists that change nothing.
fn accept_lists(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let sandbox = &app.sandbox;
    for (section, policy) in [
        ("firewall.out", &sandbox.out),
        ("firewall.in", &sandbox.inbound),
    ] {
        let list = format!("{section}.accept");
        let Some((_, first)) = config.section(&list).and_then(|mut values| values.next()) else {
            continue;
        };
        let why = match (policy.policy, sandbox.net.mode) {
            (Verdict::Accept, _) => format!("[{section}] accepts everything"),
            (_, Mode::None) => "`mode = none` has no network".to_owned(),
            _ => continue,
        };
        found.push(
            Diagnostic::warning(format!("[{list}] changes nothing: {why}"))
                .at(place(config, &first.origin))
                .hint(format!(
                    "write `policy = reject` in [{section}], or remove the list"
                )),
        );
    }
    found
}
