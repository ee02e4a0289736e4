//! Chance as a value: a cryptographic generator, SHA-1 in counter mode over a 32-byte seed. Ids, tokens and secrets
//! that strangers see come from it, so one output must not tell the next.

use sha1::{Digest, Sha1};

/// A generator of chance, the same for the same seed.
pub struct Rng {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 20],
    used: usize,
}

impl Rng {
    /// A generator from 32 bytes of entropy (from a fixed seed in tests and in the simulator).
    pub fn new(seed: [u8; 32]) -> Rng {
        Rng { seed, counter: 0, block: [0; 20], used: 20 }
    }

    /// An independent generator for another party, named by `label`.
    pub fn fork(&self, label: &[u8]) -> Rng {
        let half = |tag: u8| -> [u8; 20] {
            let mut h = Sha1::new();
            h.update(self.seed);
            h.update([tag]);
            h.update(label);
            h.finalize().into()
        };
        let mut seed = [0; 32];
        seed[..20].copy_from_slice(&half(1));
        seed[20..].copy_from_slice(&half(2)[..12]);
        Rng::new(seed)
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                let mut h = Sha1::new();
                h.update(self.seed);
                h.update(self.counter.to_be_bytes());
                self.block = h.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }

    /// A seed for another generator.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        seed
    }

    /// A random 32-bit number.
    pub fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// A random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// A number in `0..n` (0 when `n` is 0), without bias that could be noticed: 2^-32 at most.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.u32()) * u64::from(n)) >> 32) as u32
    }

    /// An index into a collection of `len` elements; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    /// Puts a slice in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.index(i + 1);
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_chance_and_another_does_not() {
        let mut a = Rng::new([7; 32]);
        let mut b = Rng::new([7; 32]);
        let first: Vec<u64> = (0..100).map(|_| a.u64()).collect();
        assert_eq!(first, (0..100).map(|_| b.u64()).collect::<Vec<_>>());
        assert_ne!(a.fork(b"x").u64(), a.fork(b"y").u64());
        assert_ne!(first[0], Rng::new([8; 32]).u64());
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn below_stays_below_and_reaches_all() {
        let mut rng = Rng::new([1; 32]);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 800 && n < 1200), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn shuffle_keeps_what_is_there() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new([3; 32]).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
