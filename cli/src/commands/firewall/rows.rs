//! A line for each entry of a list.

use metactl_lifecycle::{Direction, FirewallEntry};

use crate::output::table::{Cell, Tone};

/// Those of a direction, each line once.
pub(super) fn lines_of(
    entries: &[FirewallEntry],
    direction: Direction,
) -> impl Iterator<Item = &FirewallEntry> {
    let mut before = None;
    entries
        .iter()
        .filter(move |entry| entry.direction == direction)
        .filter(move |entry| before.replace(&entry.name) != Some(&entry.name))
}

/// A line of a list. `counts`: the list has an effect, so no address is worth a remark.
pub(super) fn row(
    entry: &FirewallEntry,
    destination: String,
    counts: bool,
    one: &str,
    many: &str,
) -> Vec<Cell> {
    let peers = match entry.peers.is_empty() && counts {
        true => Cell::new("no address").tone(Tone::Warn),
        false => Cell::new(peers(entry, &destination)),
    };
    let count = match entry.packets {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    vec![
        (&entry.name).into(),
        destination.into(),
        peers,
        Cell::new(count).right(),
    ]
}

/// The addresses behind a destination, and how long they are good for: `10.2.0.20, 4m left`.
pub(super) fn peers(entry: &FirewallEntry, destination: &str) -> String {
    // What stands there as an address already is not told twice.
    let known = |peer: &&String| destination.contains(peer.trim_end_matches("/32"));
    if entry.peers.iter().all(|peer| known(&peer)) {
        return String::new();
    }
    let texts = entry
        .peers
        .iter()
        .map(|peer| match entry.expires.get(peer) {
            Some(left) => format!("{peer}, {} left", short(*left)),
            None => peer.clone(),
        });
    let separator = if entry.expires.is_empty() { " " } else { "; " };
    texts.collect::<Vec<_>>().join(separator)
}

/// `45s`, `4m`, `2h`.
fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}
