//! How fast bytes move.

use super::time::Time;

/// How many seconds a [`Rate`] looks back at most.
pub const WINDOW: u64 = 20;

/// A moving average over the last seconds (20 at most), from one counter a second.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    bins: [u64; WINDOW as usize],
    /// The second that was counted last.
    second: u64,
    /// The second that was counted first.
    start: Option<u64>,
}

impl Rate {
    /// A rate of nothing.
    pub fn new() -> Rate {
        Rate::default()
    }

    fn advance(&mut self, second: u64) {
        let gap = second.saturating_sub(self.second).min(WINDOW);
        for k in 0..gap {
            self.bins[((second - k) % WINDOW) as usize] = 0;
        }
        self.second = self.second.max(second);
    }

    /// Counts `bytes` that moved now.
    pub fn add(&mut self, bytes: u64, now: Time) {
        self.advance(now.secs());
        self.start.get_or_insert(now.secs());
        let bin = &mut self.bins[(self.second % WINDOW) as usize];
        *bin = bin.saturating_add(bytes);
    }

    /// Bytes a second over the last `seconds` (1 to 20), the one under way included; over less when the first byte
    /// came later than that.
    pub fn per_second(&self, seconds: u64, now: Time) -> u64 {
        let Some(start) = self.start else { return 0 };
        let (second, seconds) = (now.secs(), seconds.clamp(1, WINDOW));
        let first = (second + 1).saturating_sub(seconds).max(start);
        let from = first.max((self.second + 1).saturating_sub(WINDOW));
        let sum: u64 = (from..=self.second).map(|s| self.bins[(s % WINDOW) as usize]).sum();
        let span = now.since(Time(first * 1_000_000)).as_micros().max(1_000_000);
        (u128::from(sum) * 1_000_000 / span) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_average_follows_what_moved_and_forgets() {
        let mut rate = Rate::new();
        let start = Time(5_000_000);
        assert_eq!(rate.per_second(20, start), 0);
        for tenth in 0..300 {
            rate.add(1000, start + Duration::from_millis(100 * tenth));
        }
        let now = start + Duration::from_secs(30);
        assert!((9_000..=10_100).contains(&rate.per_second(20, now)), "{}", rate.per_second(20, now));
        assert!((6_000..=10_100).contains(&rate.per_second(3, now)));
        assert_eq!(rate.per_second(3, now + Duration::from_secs(4)), 0);
        assert_eq!(rate.per_second(20, now + Duration::from_secs(25)), 0);
    }

    #[test]
    fn a_young_rate_is_not_diluted() {
        let mut rate = Rate::new();
        rate.add(50_000, Time(10_000_000));
        assert_eq!(rate.per_second(20, Time(10_500_000)), 50_000);
        assert_eq!(rate.per_second(20, Time(12_000_000)), 25_000);
    }
}
