//! Maps of names, with a hash that is quicker than that of the standard library. It is seeded anew in
//! every process, so that no file can be written to make them slow.

use foldhash::fast::RandomState;

use crate::text::Str;

/// A map by names.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set of names.
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;

/// Something with a name.
pub(crate) trait Named {
    /// Its name.
    fn name(&self) -> &Str;
}

impl Named for Str {
    fn name(&self) -> &Str {
        self
    }
}

impl Named for &Str {
    fn name(&self) -> &Str {
        self
    }
}

/// Up to so many names are found quicker by looking at each.
const FEW: usize = 24;

/// Things in order, to be found by their names; of several with the same the first.
#[derive(Debug, Clone)]
pub(crate) struct List<T> {
    items: Vec<T>,
    /// The [`mark`] of each name: mostly it says at once that a name is not there.
    marks: u64,
    /// Where each is, once there are more than [`FEW`].
    index: Option<Box<HashMap<Str, usize>>>,
}

/// One bit of 64, by what is quickly seen of a name: its length and its first and last byte.
fn mark(name: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 1;
    };
    let sum = usize::from(*first) + 3 * usize::from(*last) + 11 * name.len();
    1 << (sum % 64)
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List {
            items: Vec::new(),
            marks: 0,
            index: None,
        }
    }
}

impl<T: Named> List<T> {
    /// Nothing, with room for so many.
    pub(crate) fn with_capacity(count: usize) -> List<T> {
        List {
            items: Vec::with_capacity(count),
            ..List::default()
        }
    }

    /// Where the one of this name is.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        if self.marks & mark(name.as_bytes()) == 0 {
            return None;
        }
        match &self.index {
            None => self.items.iter().position(|item| *item.name() == *name),
            Some(index) => index.get(name).copied(),
        }
    }

    /// The one of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.items.get(self.position(name)?)
    }

    /// Whether there is one of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Adds one; where it is now.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let at = self.items.len();
        self.marks |= mark(item.name().bytes_of());
        self.items.push(item);
        if self.items.len() > FEW {
            let known = if self.index.is_some() { at } else { 0 };
            let index = self.index.get_or_insert_default();
            for (at, item) in self.items.iter().enumerate().skip(known) {
                index.entry(item.name().clone()).or_insert(at);
            }
        }
        at
    }

    /// The one at a place that [`List::position`] or [`List::push`] gave.
    pub(crate) fn at(&self, at: usize) -> &T {
        &self.items[at]
    }

    /// As [`List::at`].
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }

    /// The one of this name, made when there is none.
    pub(crate) fn entry(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let at = match self.position(name) {
            Some(at) => at,
            None => self.push(make()),
        };
        &mut self.items[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// All of them, of which the names have to stay.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// Without what `keep` says no to.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let before = self.items.len();
        self.items.retain(keep);
        if self.items.len() < before {
            *self = std::mem::take(&mut self.items).into_iter().collect();
        }
    }

    /// All of them, in order.
    pub(crate) fn into_vec(self) -> Vec<T> {
        self.items
    }
}

impl<T: Named> Extend<T> for List<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

impl<T: Named> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> List<T> {
        let mut list = List::default();
        list.extend(items);
        list
    }
}

impl<'a, T: Named> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_found() {
        let mut list = List::default();
        for number in 0..3 * FEW {
            let name = format!("n{number}");
            assert!(!list.contains(&name));
            assert_eq!(list.push(Str::from(name)), number);
            for known in 0..=number {
                assert_eq!(list.position(&format!("n{known}")), Some(known));
            }
        }
        list.retain(|name| name.ends_with('0'));
        assert_eq!(list.position("n10"), Some(1));
        assert_eq!(list.position("n11"), None);
    }
}
