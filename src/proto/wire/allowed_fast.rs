//! Which pieces a peer may ask for though it is choked (BEP 6): the same ones whenever it comes, from wherever in its
//! network, so that coming again gains nothing.

use crate::proto::id::InfoHash;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// The pieces for a peer at this address: `count` of them, or all that there are.
pub fn allowed_fast(ip: IpAddr, info_hash: InfoHash, pieces: u32, count: usize) -> Vec<u32> {
    let count = count.min(pieces as usize);
    let mut set = Vec::with_capacity(count);
    let mut seed = Sha1::new();
    match ip.to_canonical() {
        IpAddr::V4(v4) => seed.update((v4.to_bits() & 0xffff_ff00).to_be_bytes()),
        // BEP 6 knows IPv4 only. What one house has of IPv6 is a /64.
        IpAddr::V6(v6) => seed.update((v6.to_bits() >> 64 << 64).to_be_bytes()),
    }
    seed.update(info_hash.0);
    let mut hash: [u8; 20] = seed.finalize().into();
    while set.len() < count {
        for number in hash.as_chunks::<4>().0 {
            let piece = u32::from_be_bytes(*number) % pieces;
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([0xaa; 20]);

    #[test]
    fn the_sets_are_those_of_bep_6() {
        let ip = "80.4.4.200".parse().unwrap();
        assert_eq!(allowed_fast(ip, HASH, 1313, 7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(allowed_fast(ip, HASH, 1313, 9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn a_network_has_one_set_and_a_small_torrent_a_small_one() {
        let set = |ip: &str| allowed_fast(ip.parse().unwrap(), HASH, 1313, 10);
        assert_eq!(set("80.4.4.1"), set("80.4.4.200"));
        assert_eq!(set("::ffff:80.4.4.1"), set("80.4.4.200"));
        assert_ne!(set("80.4.5.200"), set("80.4.4.200"));
        assert_eq!(set("2001:db8:1:2::3"), set("2001:db8:1:2:4::"));
        assert_ne!(set("2001:db8:1:2::3"), set("2001:db8:1:3::3"));
        let ip = "80.4.4.200".parse().unwrap();
        for pieces in 0..12 {
            let mut all = allowed_fast(ip, HASH, pieces, 10);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 10.min(pieces as usize));
        }
    }
}
