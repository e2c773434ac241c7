//! Which daemons come before which.

use std::collections::BTreeSet;

use metactl_bundles::bundle::EntryRef;

/// Those that are started before this one.
pub(super) fn before(entry: &EntryRef) -> BTreeSet<&str> {
    let names = entry.after.iter().chain(&entry.requires);
    names.map(String::as_str).collect()
}

/// Entry points in groups, each of which comes after those before it.
pub(super) fn groups(entries: &[EntryRef]) -> Vec<Vec<&str>> {
    let mut left: Vec<&EntryRef> = entries.iter().collect();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let waits = |entry: &EntryRef| {
            let before = before(entry);
            left.iter()
                .any(|other| other.name != entry.name && before.contains(other.name.as_str()))
        };
        let mut group: Vec<&str> = left
            .iter()
            .filter(|entry| !waits(entry))
            .map(|entry| entry.name.as_str())
            .collect();
        if group.is_empty() {
            // A circle, which the configuration refuses.
            group = left.iter().map(|entry| entry.name.as_str()).collect();
        }
        left.retain(|entry| !group.contains(&entry.name.as_str()));
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use metactl_bundles::app::Restart;

    use super::*;
    use crate::standalone::entry::tests::definition;

    #[test]
    fn what_others_need_comes_first() {
        let entry = |name: &str, after: &[&str], requires: &[&str]| EntryRef {
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            requires: requires.iter().map(|name| (*name).to_owned()).collect(),
            ..definition(name, Restart::Always)
        };
        let all = [
            entry("a", &["b", "gone"], &[]),
            entry("b", &[], &["c"]),
            entry("c", &[], &[]),
            entry("d", &[], &[]),
        ];
        assert_eq!(groups(&all), [vec!["c", "d"], vec!["b"], vec!["a"]]);
        let circle = [entry("a", &["b"], &[]), entry("b", &["a"], &[])];
        assert_eq!(groups(&circle), [vec!["a", "b"]]);
    }
}
