//! Peer exchange (BEP 11): whom the sender has been connected to since its last message, and whom no longer.

use crate::proto::{bencode, compact};
use std::fmt;
use std::net::SocketAddr;

/// It prefers encryption.
pub const ENCRYPTS: u8 = 0x01;
/// It wants nothing more: a seed, or as good as one (BEP 21).
pub const SEED: u8 = 0x02;
/// The sender dialled it: it can be reached.
pub const REACHABLE: u8 = 0x10;

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It is not bencoded, or has a key twice.
    Bencode(bencode::Error),
    /// It is bencoded and no dictionary.
    NoDictionary,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Bencode(error) => error.fmt(f),
            Error::NoDictionary => f.write_str("not a dictionary"),
        }
    }
}

impl std::error::Error for Error {}

/// A peer that was added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Added {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What is known of it: [`ENCRYPTS`], [`SEED`], [`REACHABLE`], and bits that others may have given a meaning.
    pub flags: u8,
}

/// A message, its lists as they came: they are hints of somebody who may say anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pex<'a> {
    added: [&'a [u8]; 2],
    flags: [&'a [u8]; 2],
    dropped: [&'a [u8]; 2],
}

impl<'a> Pex<'a> {
    /// Reads a message. A list of the wrong type is as one that is not there; what follows the dictionary is passed over.
    pub fn decode(body: &'a [u8]) -> Result<Pex<'a>, Error> {
        let (value, _) = bencode::decode_prefix(body).map_err(Error::Bencode)?;
        let keys = ["added", "added.f", "added6", "added6.f", "dropped", "dropped6"];
        let fields = value.as_dict().ok_or(Error::NoDictionary)?.fields(keys).map_err(Error::Bencode)?;
        let [a4, f4, a6, f6, d4, d6] =
            fields.map(|field| field.and_then(bencode::Value::as_bytes).unwrap_or_default());
        Ok(Pex { added: [a4, a6], flags: [f4, f6], dropped: [d4, d6] })
    }

    /// Who was added, as far as it can be called. A peer without flags has none set.
    pub fn added(&self) -> impl Iterator<Item = Added> + 'a {
        let flags = |of: &'a [u8]| of.iter().copied().chain(std::iter::repeat(0));
        let v4 = self.added[0].chunks_exact(compact::LEN_V4).map(|one| compact::v4(one).next());
        let v6 = self.added[1].chunks_exact(compact::LEN_V6).map(|one| compact::v6(one).next());
        let all = v4.zip(flags(self.flags[0])).chain(v6.zip(flags(self.flags[1])));
        all.filter_map(|(addr, flags)| Some(Added { addr: addr?, flags }))
    }

    /// Who was dropped.
    pub fn dropped(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        compact::v4(self.dropped[0]).chain(compact::v6(self.dropped[1]))
    }
}

/// Makes a message. The lists of IPv4 are always there: old programs count on them.
pub fn encode(added: &[Added], dropped: &[SocketAddr]) -> Vec<u8> {
    let (mut lists, mut flags, mut gone) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for one in added {
        let [v4, v6] = &mut lists;
        compact::put(one.addr, v4, v6);
        flags[usize::from(compact::canonical(one.addr).is_ipv6())].push(one.flags);
    }
    for addr in dropped {
        let [v4, v6] = &mut gone;
        compact::put(*addr, v4, v6);
    }
    bencode::encode(|e| {
        e.dict(|d| {
            d.entry("added").bytes(&lists[0]);
            d.entry("added.f").bytes(&flags[0]);
            if !lists[1].is_empty() {
                d.entry("added6").bytes(&lists[1]);
                d.entry("added6.f").bytes(&flags[1]);
            }
            d.entry("dropped").bytes(&gone[0]);
            if !gone[1].is_empty() {
                d.entry("dropped6").bytes(&gone[1]);
            }
        });
    })
}

/// Decodes `data` and asserts that what comes out can be called and survives the wire.
#[doc(hidden)]
#[expect(clippy::expect_used, reason = "a fuzz entry: a wrong answer is to end it")]
pub fn fuzz_pex(data: &[u8]) {
    let Ok(pex) = Pex::decode(data) else { return };
    let (added, dropped): (Vec<_>, Vec<_>) =
        (pex.added().take(50).collect(), pex.dropped().take(50).collect());
    assert!(added.iter().all(|one| compact::is_callable(one.addr)));
    let again = encode(&added, &dropped);
    let again = Pex::decode(&again).expect("our own message");
    // A list of IPv6 may hold addresses of IPv4.
    let sorted = |mut all: Vec<Added>| {
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(again.added().collect()), sorted(added));
    assert_eq!(again.dropped().count(), dropped.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str, flags: u8) -> Added {
        Added { addr: text.parse().unwrap(), flags }
    }

    #[test]
    fn a_message_is_as_the_bep_has_it() {
        let all =
            [added("1.2.3.4:258", SEED | REACHABLE), added("[2001::9]:80", 0), added("5.6.7.8:1", ENCRYPTS)];
        let gone = ["9.9.9.9:80".parse().unwrap(), "[2001::8]:80".parse().unwrap()];
        let bytes = encode(&all, &gone);
        let expected = b"d5:added12:\x01\x02\x03\x04\x01\x02\x05\x06\x07\x08\0\x017:added.f2:\x12\x01\
            6:added618:\x20\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\x508:added6.f1:\0\
            7:dropped6:\x09\x09\x09\x09\0\x508:dropped618:\x20\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\x50e";
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let heard = Pex::decode(&bytes).unwrap();
        assert_eq!(heard.added().collect::<Vec<_>>(), [all[0], all[2], all[1]]);
        assert_eq!(heard.dropped().collect::<Vec<_>>(), gone);
        assert_eq!(encode(&[], &[]), b"d5:added0:7:added.f0:7:dropped0:e");
    }

    #[test]
    fn flags_stay_with_their_peer_and_what_nobody_can_call_is_left_out() {
        let body =
            b"d5:added20:\0\0\0\0\0\x01\x01\x02\x03\x04\0\x05\x06\x07\x08\x09\0\x06xx7:added.f2:\x01\x02e";
        let heard: Vec<_> = Pex::decode(body).unwrap().added().collect();
        assert_eq!(heard, [added("1.2.3.4:5", 2), added("6.7.8.9:6", 0)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_or_passed_over() {
        assert_eq!(Pex::decode(b"le"), Err(Error::NoDictionary));
        assert!(matches!(Pex::decode(b"d5:added"), Err(Error::Bencode(_))));
        assert!(matches!(Pex::decode(b"d5:added0:5:added0:e"), Err(Error::Bencode(_))));
        let odd = Pex::decode(b"d5:addedi7e7:added.fle6:added617:aaaaaaaaaaaaaaaaae").unwrap();
        assert_eq!((odd.added().count(), odd.dropped().count()), (0, 0));
    }

    #[test]
    fn ten_thousand_addresses_are_read_as_far_as_the_reader_likes() {
        let list: Vec<u8> =
            (0..10_000u32).flat_map(|n| [&(n + (9 << 24)).to_be_bytes()[..], &[0, 7]].concat()).collect();
        let body = bencode::encode(|e| e.dict(|d| d.entry("added").bytes(&list)));
        let heard = Pex::decode(&body).unwrap();
        assert_eq!((heard.added().count(), heard.added().take(50).count()), (10_000, 50));
    }
}
