//! How fast one instance may ask by datagram: a bucket of questions that fills up again.

use std::time::{Duration, Instant};

/// So many questions a second go on for ever; several times what one that waits for its answers gets to.
pub(super) const RATE: u32 = 20_000;
/// So many come at once after a silence.
const BURST: u32 = 4_000;

/// The bucket of an instance.
#[derive(Debug)]
pub(super) struct Pace {
    /// When it would have been full again, as of the last question.
    full: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Pace {
        Pace { full: now }
    }

    /// Takes one question out; false when there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / RATE;
        let full = self.full.max(now) + one;
        let is_left = full.duration_since(now) <= one * BURST;
        if is_left {
            self.full = full;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let taken = |pace: &mut Pace, at: Instant| (0..2 * BURST).filter(|_| pace.take(at)).count();
        assert_eq!(taken(&mut pace, now), BURST as usize);
        assert!(!pace.take(now));
        let soon = now + Duration::from_millis(10);
        assert_eq!(taken(&mut pace, soon), RATE as usize / 100);
        let later = now + Duration::from_secs(3600);
        assert_eq!(
            taken(&mut pace, later),
            BURST as usize,
            "no more than it holds"
        );
    }
}
