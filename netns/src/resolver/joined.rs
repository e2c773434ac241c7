//! Equal questions of one instance that are under way at the same time are asked once: that is less to do, and a forged
//! answer has one question to guess the number and port of, not many (RFC 5452, 5).

use std::collections::{HashMap, VecDeque};

use super::message::Query;
use super::name::Name;
use super::upstream::Who;

/// What makes questions equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub user: String,
    /// The names that are asked for, in this order.
    pub candidates: VecDeque<Name>,
    pub kind: u16,
}

/// Who waits for the answer to another one's question.
#[derive(Default)]
pub(super) struct Joined {
    waiting: HashMap<Key, Vec<(Who, Query)>>,
}

impl Joined {
    /// The first question of its kind is given back: it has to be asked. The others wait until its `end`.
    pub fn join(&mut self, key: &Key, who: Who, query: Query) -> Option<(Who, Query)> {
        match self.waiting.get_mut(key) {
            Some(waiting) => {
                waiting.push((who, query));
                None
            }
            None => {
                self.waiting.insert(key.clone(), Vec::new());
                Some((who, query))
            }
        }
    }

    /// The first one has its answer: here are the others, which get the same.
    pub fn end(&mut self, key: &Key) -> Vec<(Who, Query)> {
        self.waiting.remove(key).unwrap_or_default()
    }
}
