//! What knows no BitTorrent: time, chance, slots, bits, buffers, rates, checksums.

pub mod arena;
pub mod bits;
pub mod buf;
pub mod crc;
pub mod rate;
pub mod rng;
pub mod time;
pub mod wake;
