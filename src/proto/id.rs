//! The names of torrents, and hexadecimal text.

use sha1::{Digest, Sha1};
use std::fmt;
use std::str::FromStr;

/// The SHA-1 digest of an info dictionary: the name of a torrent (BEP 3). Prints as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// The name of the torrent with this raw info dictionary.
    pub fn of(info: &[u8]) -> InfoHash {
        InfoHash(Sha1::digest(info).into())
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0))
    }
}

/// The name of a node of the DHT, and a place in its space: info-hashes are places too (BEP 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// How far two places are apart; compare distances as they stand, the smaller is the closer.
    pub fn distance(self, other: NodeId) -> [u8; 20] {
        std::array::from_fn(|i| self.0[i] ^ other.0[i])
    }

    /// How many leading bits two places share, 160 when they are the same.
    pub fn shared_bits(self, other: NodeId) -> usize {
        let distance = self.distance(other);
        let zeros = distance.iter().take_while(|byte| **byte == 0).count();
        zeros * 8 + distance.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize)
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> NodeId {
        NodeId(hash.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0))
    }
}

/// The text is not an info-hash: 40 hex digits of either case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an info-hash is 40 hexadecimal digits")
    }
}

impl std::error::Error for Error {}

impl FromStr for InfoHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<InfoHash, Error> {
        from_hex(text).map(InfoHash).ok_or(Error)
    }
}

/// Prints bytes as lower-case hex digits.
#[derive(Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The `N` bytes that `2 * N` hex digits of either case stand for; None for any other text.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// The 20 bytes that 32 digits of base32 stand for, in either case (RFC 4648, without padding): what old magnet links
/// name a torrent by. None for any other text.
pub fn from_base32(text: &str) -> Option<[u8; 20]> {
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    if groups.len() != 4 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 20];
    for (five, group) in bytes.as_chunks_mut::<5>().0.iter_mut().zip(groups) {
        let mut bits = 0u64;
        for letter in group {
            let value = match letter.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                letter @ b'2'..=b'7' => letter - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways() {
        let text = "00ff17a3b4c5d6e7f80912233445566778899aab";
        let hash: InfoHash = text.parse().unwrap();
        assert_eq!((hash.0[0], hash.0[1], hash.0[19]), (0, 0xff, 0xab));
        assert_eq!((hash.to_string(), format!("{hash:?}")), (text.to_string(), text.to_string()));
        assert_eq!(text.to_uppercase().parse(), Ok(hash));
    }

    #[test]
    fn base32_is_read_in_either_case() {
        let bytes = from_hex("443214c74254b635cf84653a56d7c675be77df00").unwrap();
        assert_eq!(from_base32("IQZBJR2CKS3DLT4EMU5FNV6GOW7HPXYA"), Some(bytes));
        assert_eq!(from_base32("iqzbjr2cks3dlt4emu5fnv6gow7hpxya"), Some(bytes));
        for wrong in [
            "",
            "IQZBJR2CKS3DLT4EMU5FNV6GOW7HPXY",
            "IQZBJR2CKS3DLT4EMU5FNV6GOW7HPXY1",
            "IQZBJR2CKS3DLT4EMU5FNV6GOW7HPXYA=",
        ] {
            assert_eq!(from_base32(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        let text = "00ff17a3b4c5d6e7f80912233445566778899aab";
        for wrong in ["", &text[1..], &format!("{text}0"), &format!("{text}00"), &text.replace("ff", "+f")] {
            assert_eq!(wrong.parse::<InfoHash>(), Err(Error), "{wrong}");
        }
        assert_eq!(from_hex::<1>("é"), None);
        assert_eq!(from_hex::<1>("7F"), Some([0x7f]));
    }

    #[test]
    fn places_are_as_far_apart_as_their_first_bit_that_differs() {
        let (mut a, mut b) = (NodeId([7; 20]), NodeId([7; 20]));
        assert_eq!((a.shared_bits(b), a.distance(b)), (160, [0; 20]));
        b.0[19] ^= 1;
        assert_eq!(a.shared_bits(b), 159);
        a.0[2] ^= 0x10;
        assert_eq!((a.shared_bits(b), b.shared_bits(a)), (19, 19));
        assert!(a.distance(b) > NodeId([7; 20]).distance(b));
    }

    #[test]
    fn the_name_is_the_digest() {
        assert_eq!(InfoHash::of(b"abc").to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
