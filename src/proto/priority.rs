//! The canonical priority of a connection (BEP 40): both sides come to the same number, so that each swarm is one
//! random graph, newcomers find places in it, and nobody can take all places of everybody.

use crate::base::crc::crc32c;
use std::net::{IpAddr, SocketAddr};

/// The priority of the connection between two addresses, the greater the better. None when they are of different
/// families: BEP 40 has no number for those.
pub fn priority(a: SocketAddr, b: SocketAddr) -> Option<u32> {
    if a.ip() == b.ip() {
        let (low, high) = (a.port().min(b.port()), a.port().max(b.port()));
        return Some(crc32c(&[low.to_be_bytes(), high.to_be_bytes()].concat()));
    }
    match (a.ip(), b.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(of_masked(a.octets(), b.octets(), 2)),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some(of_masked(a.octets(), b.octets(), 6)),
        _ => None,
    }
}

/// Of the bytes behind the first `whole` ones every second bit counts, so that neighbours come out alike; who is near
/// enough to share more of them is told apart by more.
fn of_masked<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = if shared >= whole { shared + 1 } else { whole };
    let masked = |ip: [u8; N]| {
        let mut out = ip;
        out.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
        out
    };
    let (a, b) = (masked(a), masked(b));
    crc32c(&[a.min(b), a.max(b)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(a: &str, b: &str) -> Option<u32> {
        let there = priority(a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(there, priority(b.parse().unwrap(), a.parse().unwrap()), "both sides agree");
        there
    }

    #[test]
    fn the_vectors_of_the_bep() {
        assert_eq!(of("123.213.32.10:1", "98.76.54.32:2"), Some(0xec2d_7224));
        assert_eq!(of("123.213.32.10:1", "123.213.32.234:2"), Some(0x9956_8189));
    }

    #[test]
    fn the_mask_grows_with_what_they_share() {
        let bytes = |a: &[u8], b: &[u8]| Some(crc32c(&[a, b].concat()));
        assert_eq!(of("1.2.3.255:1", "1.3.255.1:1"), bytes(&[1, 2, 1, 0x55], &[1, 3, 0x55, 1]));
        assert_eq!(of("1.2.3.255:1", "1.2.255.3:1"), bytes(&[1, 2, 3, 0x55], &[1, 2, 255, 1]));
        assert_eq!(of("1.2.3.255:1", "1.2.3.2:1"), bytes(&[1, 2, 3, 2], &[1, 2, 3, 255]));
        assert_eq!(of("1.2.3.4:258", "1.2.3.4:5"), bytes(&[0, 5], &[1, 2]));
        let [a, b, c] = ["[2001:db8:1:ffff::ff]:1", "[2001:db8:2::1]:1", "[2001:db8:1:fe00::2]:1"];
        let masked = |head: [u8; 8], last: u8| [&head[..], &[0; 7], &[last]].concat();
        assert_eq!(
            of(a, b),
            bytes(
                &masked([0x20, 1, 0x0d, 0xb8, 0, 1, 0x55, 0x55], 0x55),
                &masked([0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0], 1)
            )
        );
        // The same /48: one byte more counts in full.
        assert_eq!(
            of(a, c),
            bytes(
                &masked([0x20, 1, 0x0d, 0xb8, 0, 1, 0xfe, 0], 0),
                &masked([0x20, 1, 0x0d, 0xb8, 0, 1, 0xff, 0x55], 0x55)
            )
        );
        assert_eq!(of("1.2.3.4:1", "[2001::1]:1"), None);
    }
}
