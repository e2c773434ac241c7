//! What works but is probably not meant.

use super::place;
use crate::app::App;
use crate::diagnostics::{Diagnostic, MAX_DIAGNOSTICS};
use crate::layers::{Config, Section};
use crate::maps::Named;
use crate::network::{Mode, Verdict};

/// Words that a shell would understand, and a program gets as they are.
const SHELL_WORDS: [&str; 9] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"];

/// Everything that should be looked at once more.
pub fn warnings(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, daemon) in &app.daemons {
        let Some(section) = config.part(&["daemon.", name].concat()) else {
            continue;
        };
        found.extend(shell_words(config, section));
        if daemon.port.is_none() {
            found.extend(nobody_to_ask(config, section));
        }
        if found.len() >= MAX_DIAGNOSTICS {
            return found;
        }
    }
    found.extend(accept_lists(config, app));
    found
}

fn shell_words(config: &Config, section: &Section) -> Option<Diagnostic> {
    let value = section.get("command")?;
    let words = section.words("command")?;
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
fn nobody_to_ask(config: &Config, section: &Section) -> Option<Diagnostic> {
    let value = section.get("health")?;
    let (text, section) = (&value.text, section.name());
    Some(
        Diagnostic::warning(format!(
            "`health = {text}` asks nobody: [{section}] has no port"
        ))
        .at(place(config, &value.origin))
        .hint("add `port =`; without one the daemon only has to stay up for a moment"),
    )
}

/// Accept lists that change nothing.
fn accept_lists(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let sandbox = &app.sandbox;
    for (section, list, policy) in [
        ("firewall.out", "firewall.out.accept", &sandbox.out),
        ("firewall.in", "firewall.in.accept", &sandbox.inbound),
    ] {
        let Some((_, first)) = config.section(list).and_then(|mut values| values.next()) else {
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
