//! What the reject list says to a question.

use super::{Because, Direction, MOST_REASONS, Match, Network};
use crate::network::{Entry, Peer};
use crate::why::{Allow, Answer, Verdict};

impl Network<'_> {
    /// Whether the addresses of host names could make a "no" of a "yes": the reject list has the name of an address, or
    /// the address of a name.
    pub fn addresses_may_reject(&self, asked: &Entry, direction: Direction) -> bool {
        let reject = &self.policy(direction).reject;
        let is_host = |entry: &Entry| matches!(entry.peer, Peer::Host(_));
        !reject.is_empty() && (is_host(asked) || reject.iter().any(is_host))
    }

    /// The reject list names it: which lines, and the way to be rid of them.
    pub(super) fn rejection(&self, rejected: &[Match<'_>], direction: Direction) -> Answer {
        let list = format!("{}.reject", direction.section());
        let (mut because, mut allow): (Vec<Because>, Vec<Allow>) = (Vec::new(), Vec::new());
        for found in rejected {
            let Some(value) = self.config.get(&list, &found.entry.name) else {
                continue;
            };
            let notes = found.notes().filter(|_| !value.sensitive);
            let text = format!("[{list}] {}{}", found.entry.name, notes.unwrap_or_default());
            let reason = Because::value(self.config, value, text);
            if because.contains(&reason) || because.len() >= MOST_REASONS {
                continue;
            }
            because.push(reason);
            let key = format!("{list}:{}", found.entry.name);
            let command = vec!["unset".to_owned(), key];
            allow.push(Allow {
                command,
                lines: format!("[{list}]\nunset {}", found.entry.name),
            });
        }
        Answer {
            verdict: Verdict::No,
            how: None,
            because,
            allow,
        }
    }
}
