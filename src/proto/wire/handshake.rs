//! The handshake that opens every connection (BEP 3), and what a peer id tells of its client (BEP 20).

use super::Error;
use crate::base::rng::Rng;
use crate::proto::id::InfoHash;

/// How a handshake begins: the length of the protocol's name, and the name.
pub const PREFIX: &[u8; 20] = b"\x13BitTorrent protocol";

/// In the last byte of the reserved bits: the sender has a node of the DHT (BEP 5).
pub const DHT_BIT: u8 = 1;
/// In the last byte of the reserved bits: the sender speaks the fast extension (BEP 6).
pub const FAST_BIT: u8 = 4;
/// In the sixth byte of the reserved bits: the sender speaks the extension protocol (BEP 10).
pub const EXTENSION_BIT: u8 = 0x10;

/// What both sides say first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// A bit for each extension that the sender speaks (BEP 4).
    pub reserved: [u8; 8],
    /// The torrent that the connection is about.
    pub info_hash: InfoHash,
    /// The sender's id, the one it announces to trackers.
    pub peer_id: [u8; 20],
}

impl Handshake {
    /// The bytes of a handshake.
    pub const LEN: usize = 68;

    /// Whether the sender has a node of the DHT (BEP 5).
    pub fn has_dht(&self) -> bool {
        self.reserved[7] & DHT_BIT != 0
    }

    /// Whether the sender speaks the fast extension (BEP 6).
    pub fn has_fast(&self) -> bool {
        self.reserved[7] & FAST_BIT != 0
    }

    /// Whether the sender speaks the extension protocol (BEP 10).
    pub fn has_extensions(&self) -> bool {
        self.reserved[5] & EXTENSION_BIT != 0
    }

    /// The handshake as it goes over the wire.
    pub fn encode(&self) -> [u8; Handshake::LEN] {
        let mut out = [0; Handshake::LEN];
        out[..20].copy_from_slice(PREFIX);
        out[20..28].copy_from_slice(&self.reserved);
        out[28..48].copy_from_slice(&self.info_hash.0);
        out[48..].copy_from_slice(&self.peer_id);
        out
    }

    /// Reads a whole handshake.
    pub fn decode(bytes: &[u8; Handshake::LEN]) -> Result<Handshake, Error> {
        Handshake::check(bytes)?;
        let mut handshake = Handshake { reserved: [0; 8], info_hash: InfoHash([0; 20]), peer_id: [0; 20] };
        handshake.reserved.copy_from_slice(&bytes[20..28]);
        handshake.info_hash.0.copy_from_slice(&bytes[28..48]);
        handshake.peer_id.copy_from_slice(&bytes[48..]);
        Ok(handshake)
    }

    /// The info-hash, where so much of a handshake is there.
    pub fn info_hash(start: &[u8]) -> Option<InfoHash> {
        start.get(28..48)?.try_into().ok().map(InfoHash)
    }

    /// Whether `start`, the first bytes of a connection, can become a handshake: wrong at its first wrong byte, so
    /// that a stream of another kind is told apart (or closed) without waiting for more of it.
    pub fn check(start: &[u8]) -> Result<(), Error> {
        let n = start.len().min(PREFIX.len());
        if start[..n] == PREFIX[..n] { Ok(()) } else { Err(Error::NotBitTorrent) }
    }
}

/// The start of our peer id, in the style most clients use: a dash, two letters for the client, four digits of its
/// version, a dash. `PT` belongs to another client; `pT` is in no list (BEP 20, and those of larger clients).
const ID_PREFIX: [u8; 8] = {
    let (major, minor, patch) = (
        env!("CARGO_PKG_VERSION_MAJOR").as_bytes(),
        env!("CARGO_PKG_VERSION_MINOR").as_bytes(),
        env!("CARGO_PKG_VERSION_PATCH").as_bytes(),
    );
    assert!(major.len() == 1 && minor.len() == 1 && patch.len() == 1, "a digit each has room");
    [b'-', b'p', b'T', major[0], minor[0], patch[0], b'0', b'-']
};

/// A new peer id for us: who we are and 12 random bytes. The same one goes to trackers and peers (BEP 3).
pub fn our_peer_id(rng: &mut Rng) -> [u8; 20] {
    let mut id = [0; 20];
    id[..8].copy_from_slice(&ID_PREFIX);
    rng.fill(&mut id[8..]);
    id
}

/// How a client of [`CLIENTS`] writes its version into four characters.
#[derive(Clone, Copy)]
enum Style {
    /// `1234` is 1.2.3.4, and 1.2.3 when the last is 0.
    Dotted,
    /// `3000` is 3.00, from version 4 on `4061` is 4.0.6.
    Transmission,
    /// `0212` is 2.12.
    Pairs,
}

/// The clients met most, by the two letters of their ids.
const CLIENTS: &[(&[u8; 2], &str, Style)] = &[
    (b"A2", "aria2", Style::Dotted),
    (b"AZ", "Vuze", Style::Dotted),
    (b"BC", "BitComet", Style::Pairs),
    (b"BI", "BiglyBT", Style::Dotted),
    (b"DE", "Deluge", Style::Dotted),
    (b"FD", "Free Download Manager", Style::Dotted),
    (b"GT", "anacrolix/torrent", Style::Dotted),
    (b"KT", "KTorrent", Style::Dotted),
    (b"LT", "libtorrent", Style::Dotted),
    (b"PI", "PicoTorrent", Style::Dotted),
    (b"SD", "Xunlei", Style::Dotted),
    (b"TR", "Transmission", Style::Transmission),
    (b"TX", "Tixati", Style::Pairs),
    (b"UM", "uTorrent Mac", Style::Dotted),
    (b"UT", "uTorrent", Style::Dotted),
    (b"UW", "uTorrent Web", Style::Dotted),
    (b"WD", "WebTorrent Desktop", Style::Pairs),
    (b"WW", "WebTorrent", Style::Pairs),
    (b"XL", "Xunlei", Style::Dotted),
    (b"lt", "rTorrent", Style::Dotted),
    (b"pT", "ptorrent", Style::Dotted),
    (b"qB", "qBittorrent", Style::Dotted),
    (b"rQ", "rqbit", Style::Dotted),
];

/// A name for the client behind a peer id, for the log: "Transmission 3.00". Of an id in no known style, the start,
/// with what is not printable shown as `?`.
pub fn client_name(peer_id: &[u8; 20]) -> String {
    known(peer_id).or_else(|| aria2(peer_id)).unwrap_or_else(|| {
        let printable = |b: &u8| if b.is_ascii_graphic() { char::from(*b) } else { '?' };
        peer_id[..8].iter().map(printable).collect()
    })
}

/// The name of a client that writes its id as BEP 20 has it.
fn known(id: &[u8; 20]) -> Option<String> {
    let [b'-', x, y, a, b, c, d, ..] = *id else { return None };
    let (_, name, style) = CLIENTS.iter().find(|(code, ..)| **code == [x, y])?;
    let (Some(a), Some(b), Some(c)) = (digit(a), digit(b), digit(c)) else {
        return Some((*name).to_string());
    };
    Some(match (style, digit(d)) {
        (Style::Dotted, Some(d)) if d != 0 => format!("{name} {a}.{b}.{c}.{d}"),
        (Style::Transmission, _) if a < 4 => format!("{name} {a}.{b}{c}"),
        (Style::Pairs, Some(d)) => format!("{name} {}.{}", a * 10 + b, c * 10 + d),
        _ => format!("{name} {a}.{b}.{c}"),
    })
}

/// The name of an aria2, which writes `A2-1-37-0-`.
fn aria2(id: &[u8; 20]) -> Option<String> {
    let version = std::str::from_utf8(id.strip_prefix(b"A2-")?.get(..6)?).ok()?;
    let clean = version.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    clean.then(|| format!("aria2 {}", version.trim_end_matches('-').replace('-', ".")))
}

/// A version character: `0` to `9`, then `A` to `Z` for 10 to 35, then `a` to `z`.
fn digit(c: u8) -> Option<u32> {
    match c {
        b'0'..=b'9' => Some(u32::from(c - b'0')),
        b'A'..=b'Z' => Some(u32::from(c - b'A') + 10),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 36),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_survives_the_wire() {
        let handshake = Handshake { reserved: [1; 8], info_hash: InfoHash([2; 20]), peer_id: [3; 20] };
        let bytes = handshake.encode();
        assert_eq!(bytes[0], 19);
        assert_eq!(&bytes[1..20], b"BitTorrent protocol");
        assert_eq!((bytes[20], bytes[27], bytes[28], bytes[47], bytes[48], bytes[67]), (1, 1, 2, 2, 3, 3));
        assert_eq!(Handshake::decode(&bytes), Ok(handshake));
    }

    #[test]
    fn what_a_side_speaks_is_in_the_reserved_bits() {
        let mut handshake = Handshake { reserved: [0; 8], info_hash: InfoHash([2; 20]), peer_id: [3; 20] };
        let told = |h: &Handshake| (h.has_dht(), h.has_fast(), h.has_extensions());
        assert_eq!(told(&handshake), (false, false, false));
        handshake.reserved = [0, 0, 0, 0, 0, 0x10, 0, 0x05];
        assert_eq!(told(&handshake), (true, true, true));
        assert_eq!((handshake.encode()[25], handshake.encode()[27]), (0x10, 0x05));
        handshake.reserved = [0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0xff, 0xfa];
        assert_eq!(told(&handshake), (false, false, false));
    }

    #[test]
    fn the_first_wrong_byte_is_noticed() {
        for at in 0..PREFIX.len() {
            let mut start = *PREFIX;
            start[at] ^= 0x20;
            assert_eq!(Handshake::check(&start[..at]), Ok(()));
            assert_eq!(Handshake::check(&start[..=at]), Err(Error::NotBitTorrent));
        }
    }

    #[test]
    fn our_id_names_us_and_differs_each_time() {
        let mut rng = Rng::new([1; 32]);
        let (a, b) = (our_peer_id(&mut rng), our_peer_id(&mut rng));
        assert!(a.starts_with(b"-pT") && a[7] == b'-' && a[..8] == b[..8]);
        assert_ne!(a[8..], b[8..]);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(client_name(&a), format!("ptorrent {version}"));
    }

    #[test]
    fn clients_are_named() {
        let name = |start: &[u8]| {
            let mut id = *b"xxxxxxxxxxxxxxxxxxxx";
            id[..start.len()].copy_from_slice(start);
            client_name(&id)
        };
        assert_eq!(name(b"-TR3000-"), "Transmission 3.00");
        assert_eq!(name(b"-TR4060-"), "Transmission 4.0.6");
        assert_eq!(name(b"-LT2100-"), "libtorrent 2.1.0");
        assert_eq!(name(b"-LT20B0-"), "libtorrent 2.0.11");
        assert_eq!(name(b"-qB4651-"), "qBittorrent 4.6.5.1");
        assert_eq!(name(b"-WW0212-"), "WebTorrent 2.12");
        assert_eq!(name(b"-qB\xff\x1b[m-"), "qBittorrent");
        assert_eq!(name(b"A2-1-37-0-"), "aria2 1.37.0");
        assert_eq!(name(b"A2-1-3\x1b-0-"), "A2-1-3?-");
        assert_eq!(name(b"\x00\x1b[31m\xe2\x80"), "??[31m??");
    }
}
