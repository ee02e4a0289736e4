//! What knows no BitTorrent: time, chance, slots, bits, buffers, rates, checksums.

pub mod arena;
pub mod bits;
pub mod buf;
pub mod crc;
pub mod rate;
pub mod rng;
pub mod time;
pub mod wake;

#[cfg(test)]
pub(crate) mod testing {
    /// How often a test repeats something: `n` times, but under Miri, which is that much slower, a thousandth of that.
    pub(crate) fn rounds(n: u64) -> u64 {
        if cfg!(miri) { n.div_ceil(1000) } else { n }
    }
}
