//! Numbers from paired measurements.

/// The value below which the given part (0 to 1) of the values lies; nothing of nothing.
///
/// Between two values it is interpolated linearly.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let position = part.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)?) as f64;
    let below = *sorted.get(position.floor() as usize)?;
    let above = *sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

/// The middle value.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The ratios of values that were measured in the same round.
pub fn paired_ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

/// A small source of random numbers (xorshift64*): the order within a round needs no better one.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        (number as usize).checked_rem(end).unwrap_or(0)
    }

    /// Put a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.9), Some(18.0));
        assert_eq!(paired_ratios(&[1.0, 6.0], &[2.0, 3.0]), [0.5, 2.0]);
    }

    #[test]
    fn shuffled_lists_hold_the_same() {
        let mut random = Random::new(7);
        let mut firsts = [0; 3];
        for _ in 0..3000 {
            let mut list = [0, 1, 2];
            random.shuffle(&mut list);
            firsts[list[0]] += 1;
            list.sort_unstable();
            assert_eq!(list, [0, 1, 2]);
        }
        assert!(firsts.iter().all(|n| (800..1200).contains(n)), "{firsts:?}");
    }
}
