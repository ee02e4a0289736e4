//! Local service discovery (BEP 14): datagrams in the manner of HTTP that tell the neighbours, by multicast, which
//! torrents one has. Both directions.

use super::id::{InfoHash, from_hex};
use crate::limits::{LSD_DATAGRAM_MAX, LSD_HASHES_MAX};
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of both groups.
pub const PORT: u16 = 6771;
/// The group of IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The group of IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);

/// Where announces of a family go.
pub fn group(v6: bool) -> SocketAddr {
    if v6 { (GROUP_V6, PORT).into() } else { (GROUP_V4, PORT).into() }
}

/// Why a datagram is no announce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It is longer than any announce.
    Length,
    /// It does not begin with `BT-SEARCH`.
    NotSearch,
    /// It has no port that somebody could listen on.
    Port,
    /// It names no torrent.
    NoTorrent,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Length => "it is too long",
            Error::NotSearch => "it is no BT-SEARCH",
            Error::Port => "it has no valid port",
            Error::NoTorrent => "it names no torrent",
        })
    }
}

impl std::error::Error for Error {}

/// What a neighbour announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce<'a> {
    /// The port that it listens on; its address is that of the datagram.
    pub port: u16,
    /// By this it knows its own announces.
    pub cookie: Option<&'a [u8]>,
    data: &'a [u8],
}

impl Announce<'_> {
    /// Its torrents, [`LSD_HASHES_MAX`] at most. What is no info-hash is left out.
    pub fn torrents(&self) -> impl Iterator<Item = InfoHash> + '_ {
        let hash = |(name, value): (&[u8], &[u8])| {
            let text = name.eq_ignore_ascii_case(b"Infohash").then(|| str::from_utf8(value).ok())?;
            from_hex(text?).map(InfoHash)
        };
        headers(self.data).filter_map(hash).take(LSD_HASHES_MAX)
    }
}

/// The headers of a datagram, names and values, up to the first empty line.
fn headers(data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = data.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        Some((line[..at].trim_ascii(), line[at + 1..].trim_ascii()))
    })
}

/// Reads an announce. Headers that are not known are passed over (BEP 14).
pub fn decode(data: &[u8]) -> Result<Announce<'_>, Error> {
    if data.len() > LSD_DATAGRAM_MAX {
        return Err(Error::Length);
    }
    if !data.starts_with(b"BT-SEARCH * HTTP/1.") {
        return Err(Error::NotSearch);
    }
    let value = |wanted: &str| {
        let found = headers(data).find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        found.map(|(_, value)| value)
    };
    let port = value("Port").and_then(|port| str::from_utf8(port).ok()?.parse().ok());
    let announce =
        Announce { port: port.filter(|port| *port != 0).ok_or(Error::Port)?, cookie: value("cookie"), data };
    if announce.torrents().next().is_none() {
        return Err(Error::NoTorrent);
    }
    Ok(announce)
}

/// Makes an announce of these torrents for the group of a family.
pub fn encode(v6: bool, port: u16, cookie: &str, torrents: impl Iterator<Item = InfoHash>) -> Vec<u8> {
    let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {}\r\nPort: {port}\r\n", group(v6));
    for info_hash in torrents {
        let _ = write!(text, "Infohash: {info_hash}\r\n");
    }
    let _ = write!(text, "cookie: {cookie}\r\n\r\n\r\n");
    text.into_bytes()
}

/// Decodes a datagram and asserts that what comes out can be said again.
#[doc(hidden)]
#[expect(clippy::expect_used, reason = "a fuzz entry: a wrong answer is to end it")]
pub fn fuzz_lsd(data: &[u8]) {
    let Ok(announce) = decode(data) else { return };
    let torrents = || announce.torrents();
    assert!(announce.port != 0 && (1..=LSD_HASHES_MAX).contains(&torrents().count()));
    let again = encode(data.len().is_multiple_of(2), announce.port, "x", torrents());
    if again.len() <= LSD_DATAGRAM_MAX {
        let same = decode(&again).expect("our own announce");
        assert!(same.port == announce.port && same.torrents().eq(torrents()) && same.cookie == Some(b"x"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LSD_HASHES_OUT;

    const HASH: &str = "0123456789abcdef0123456789ABCDEF01234567";

    #[test]
    fn an_announce_is_as_the_bep_has_it() {
        let hash: InfoHash = HASH.parse().unwrap();
        let said = encode(false, 6881, "c00kie", [hash].into_iter());
        let due = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
                   Infohash: 0123456789abcdef0123456789abcdef01234567\r\ncookie: c00kie\r\n\r\n\r\n";
        assert_eq!(String::from_utf8(said.clone()).unwrap(), due);
        let heard = decode(&said).unwrap();
        assert_eq!((heard.port, heard.cookie), (6881, Some(&b"c00kie"[..])));
        assert_eq!(heard.torrents().collect::<Vec<_>>(), [hash]);
        let said = encode(true, 1, "x", [hash].into_iter());
        assert!(String::from_utf8(said).unwrap().contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn what_others_say_is_read_and_what_is_not_known_passed_over() {
        let lax = format!(
            "BT-SEARCH * HTTP/1.1\nhost: x\nPORT:  51413 \ninfohash: {HASH}\nInfohash: junk\nX: y:z\nno colon\n\
             Infohash: {HASH}\n\nInfohash: {HASH}\n"
        );
        let heard = decode(lax.as_bytes()).unwrap();
        assert_eq!((heard.port, heard.cookie, heard.torrents().count()), (51413, None, 2));
    }

    #[test]
    fn what_is_no_announce_is_refused() {
        let with = |port: &str, hash: &str| {
            format!("BT-SEARCH * HTTP/1.1\r\nPort: {port}\r\nInfohash: {hash}\r\n\r\n\r\n")
        };
        for (text, why) in [
            (String::new(), Error::NotSearch),
            ("M-SEARCH * HTTP/1.1\r\n\r\n".into(), Error::NotSearch),
            (with("0", HASH), Error::Port),
            (with("65536", HASH), Error::Port),
            (with("-1", HASH), Error::Port),
            (with("1", &HASH[1..]), Error::NoTorrent),
            (with("1", &HASH.replace('0', "g")), Error::NoTorrent),
            (with("1", &"x".repeat(LSD_DATAGRAM_MAX)), Error::Length),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn the_most_that_we_say_fits_a_datagram_and_the_most_we_hear_is_bounded() {
        let hashes = |n: usize| (0..n).map(|n| InfoHash([n as u8; 20]));
        let longest = encode(true, 65_535, "12345678", hashes(LSD_HASHES_OUT));
        assert!(longest.len() <= 1400, "{}", longest.len());
        let many = format!(
            "BT-SEARCH * HTTP/1.1\nPort:1\n{}\n",
            format!("Infohash:{HASH}\n").repeat(LSD_HASHES_MAX + 3)
        );
        let many = many.into_bytes();
        assert_eq!(decode(&many).unwrap().torrents().count(), LSD_HASHES_MAX);
    }
}
