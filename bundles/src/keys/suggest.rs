//! "Did you mean": the nearest of the names that there are.

/// Longer words than this are no typing mistakes.
const MAX_WORD: usize = 64;
/// More candidates than this are not looked at: a hostile file can define as many as it likes.
const MAX_CANDIDATES: usize = 1000;

/// The candidate nearest to `word`, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_WORD)
        .map(|candidate| (difference(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How far `word` is from `candidate`; a whole part of it in front or at the end is near:
/// `jvm.heap` and `heap.max` for `jvm.heap.max`.
fn difference(word: &str, candidate: &str) -> usize {
    let before = candidate
        .strip_prefix(word)
        .is_some_and(|rest| rest.starts_with('.'));
    let behind = candidate
        .strip_suffix(word)
        .is_some_and(|rest| rest.ends_with('.'));
    if before || behind {
        1
    } else {
        distance(word, candidate)
    }
}

/// How many insertions, deletions, substitutions and swaps of neighbours make `b` of `a`
/// (Damerau and Levenshtein, restricted: no part is edited twice).
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        let names = ["build", "env", "crontab", "firewall.out"];
        assert_eq!(nearest("bulid", names), Some("build"));
        assert_eq!(nearest("Env", names), Some("env"));
        assert_eq!(nearest("firewal.out", names), Some("firewall.out"));
        assert_eq!(nearest("webapp", names), None);
        assert_eq!(
            nearest("jvm.heap", ["jvm.home", "jvm.heap.max"]),
            Some("jvm.heap.max")
        );
        assert_eq!(nearest("memory", ["limits.memory"]), Some("limits.memory"));
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("ä", "a", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
