//! How fast bytes move.

use super::buf::BLOCK;
use super::time::Time;
use std::time::Duration;

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

/// Micro-bytes of a byte: what a rate of one byte a second brings in a microsecond is one of them, so that no sum is
/// ever rounded.
const MICRO: i128 = 1_000_000;

/// A token bucket in whole numbers: bytes are taken as they are asked for and come back at the rate. It may be
/// overdrawn by the last block taken, so that a rate of less than a block a second works; the average stays exact.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bytes a second; 0 for no limit.
    rate: u64,
    /// What is in it, in micro-bytes.
    credit: i128,
    at: Time,
}

impl Bucket {
    /// An empty bucket that fills at `rate` bytes a second; 0 is one without a limit.
    pub fn new(rate: u64, now: Time) -> Bucket {
        Bucket { rate, credit: 0, at: now }
    }

    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// Bytes a second; 0 for no limit.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// What may be taken at once after a pause, in bytes: a quarter of a second's worth, or two blocks where that is
    /// less; never more than a second's worth.
    fn burst(&self) -> u64 {
        (self.rate / 4).max(2 * u64::from(BLOCK)).min(self.rate)
    }

    /// What must be in it before anything is taken: a block, if it can ever hold that.
    fn least(&self) -> u64 {
        u64::from(BLOCK).min(self.burst())
    }

    fn fill(&mut self, now: Time) {
        let gain = i128::from(self.rate) * i128::from(now.0.saturating_sub(self.at.0));
        let full = i128::from(self.burst()) * MICRO;
        if self.credit < full {
            self.credit = (self.credit + gain).min(full);
        }
        self.at = self.at.max(now);
    }

    /// How many blocks may be taken now.
    pub fn blocks(&mut self, now: Time) -> u32 {
        if self.rate == 0 {
            return u32::MAX;
        }
        self.fill(now);
        let blocks = self.credit / (i128::from(self.least()) * MICRO);
        u32::try_from(blocks.max(0)).unwrap_or(u32::MAX)
    }

    /// Takes bytes out, after [`Bucket::blocks`] allowed it; or all the same for what came unexpected, and the next
    /// ones wait longer.
    pub fn take(&mut self, bytes: u64) {
        if self.rate > 0 {
            self.credit -= i128::from(bytes) * MICRO;
        }
    }

    /// Puts bytes back that were taken and not used: never more than a second's worth is in it then.
    pub fn give_back(&mut self, bytes: u64) {
        let most = i128::from(self.rate) * MICRO;
        self.credit = (self.credit + i128::from(bytes) * MICRO).min(most.max(self.credit));
    }

    /// When it is worth to look again: there is a block in it then, and a hundredth of a second's worth, so that high
    /// rates do not wake anybody for each block.
    pub fn ready_at(&self, now: Time) -> Time {
        if self.rate == 0 {
            return now;
        }
        let enough = self.least().max(self.rate / 100).min(self.burst());
        let lack = i128::from(enough) * MICRO - self.credit;
        let rate = i128::from(self.rate);
        let wait = u64::try_from((lack + rate - 1) / rate).unwrap_or(0);
        (self.at + Duration::from_micros(wait)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::rounds;

    /// Takes what it may for `span`, looking when told to; the sum, and the most of any second.
    fn drain(rate: u64, span: Duration) -> (u64, u64) {
        let start = Time(7_000_003);
        let (mut bucket, mut now) = (Bucket::new(rate, start), start);
        let mut taken: Vec<(Time, u64)> = Vec::new();
        while now <= start + span {
            while bucket.blocks(now) > 0 {
                bucket.take(u64::from(BLOCK));
                taken.push((now, u64::from(BLOCK)));
            }
            now = bucket.ready_at(now).max(Time(now.0 + 1));
        }
        let sum = |from: Time| -> u64 {
            let within = |(at, _): &&(Time, u64)| *at >= from && *at < from + Duration::from_secs(1);
            taken.iter().filter(within).map(|(_, bytes)| bytes).sum()
        };
        let most = taken.iter().step_by(1 + taken.len() / 200).map(|(at, _)| sum(*at)).max().unwrap_or(0);
        (taken.iter().map(|(_, bytes)| bytes).sum(), most)
    }

    #[test]
    fn a_bucket_gives_its_rate_to_the_block_and_never_more_than_a_second_at_once() {
        // Under Miri only the slow ones, which take few blocks.
        let rates = [1_000, 5_000, 64 << 10, 1_000_003, 1 << 20, 100 << 20];
        for rate in rates.into_iter().take(if cfg!(miri) { 2 } else { 6 }) {
            let (sum, most) = drain(rate, Duration::from_secs(60));
            let due = 60 * rate;
            let slack = u64::from(BLOCK) + rate / 100;
            assert!(sum + slack >= due && sum <= due + slack, "{rate}: {sum} of {due}");
            assert!(most <= rate + rate / 50 + u64::from(BLOCK), "{rate}: {most} in a second");
        }
    }

    #[test]
    fn a_bucket_does_not_drift_and_forgets_pauses() {
        let mut bucket = Bucket::new(1_000_003, Time::ZERO);
        let steps = rounds(100_000);
        for step in 1..=steps {
            bucket.fill(Time(step));
        }
        assert_eq!(
            bucket.credit,
            1_000_003 * i128::from(steps),
            "in steps of a microsecond nothing is rounded away"
        );
        let mut bucket = Bucket::new(1 << 20, Time::ZERO);
        let later = Time(3_600_000_000);
        assert_eq!(bucket.blocks(later), (1 << 18) / BLOCK, "a quarter of a second after an hour");
        bucket.take(1 << 20);
        assert_eq!((bucket.blocks(later), bucket.ready_at(later)), (0, Time(later.0 + 765_625)));
        bucket.give_back(1 << 30);
        assert_eq!(bucket.blocks(later), (1 << 20) / BLOCK, "a second's worth at most");
        let mut free = Bucket::new(0, Time::ZERO);
        free.take(1 << 40);
        assert_eq!((free.blocks(Time::ZERO), free.ready_at(later)), (u32::MAX, later));
    }

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
