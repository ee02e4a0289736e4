//! The datagrams of UDP trackers (BEP 15, with the options of BEP 41), in both directions: the client makes queries
//! and reads answers, the embedded tracker reads queries and makes answers. All numbers are big-endian. Peers are 6
//! or 18 bytes by the address family of the datagram, and a datagram may be longer than what is known of it.

use super::{Event, Failure, Request, Response, interval};
use crate::limits;
use crate::proto::compact;
use crate::proto::id::InfoHash;
use std::net::{Ipv4Addr, SocketAddr};

/// What a connect query holds in place of a connection id.
pub const PROTOCOL: u64 = 0x0417_2710_1980;
/// Bytes of an announce query before its options.
pub const ANNOUNCE_LEN: usize = 98;
/// Bytes of an announce answer before its peers.
pub const ANNOUNCED_LEN: usize = 20;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

const END_OF_OPTIONS: u8 = 0;
const NOP: u8 = 1;
const URL_DATA: u8 = 2;

/// Why bytes are no query, or no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Too short for what it says it is.
    Short,
    /// An action that is none.
    Action,
    /// A connect query without the number that marks one.
    Protocol,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::Short => "datagram too short",
            Error::Action => "unknown action",
            Error::Protocol => "connect query of another protocol",
        })
    }
}

impl std::error::Error for Error {}

/// The address family of a datagram, which decides how peers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// 6 bytes a peer.
    V4,
    /// 18 bytes a peer.
    V6,
}

impl Family {
    /// That of a datagram's other end. An IPv4-mapped address is one of IPv4.
    pub fn of(addr: SocketAddr) -> Family {
        if compact::canonical(addr).is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Bytes of one peer.
    pub fn stride(self) -> usize {
        match self {
            Family::V4 => compact::LEN_V4,
            Family::V6 => compact::LEN_V6,
        }
    }
}

/// How a swarm stands: one entry of a scrape answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// How often a download was completed.
    pub completed: u32,
    /// Peers that have not.
    pub leechers: u32,
}

/// Appends the query for a connection id: 16 bytes.
pub fn connect(out: &mut Vec<u8>, transaction: u32) {
    put_query(out, PROTOCOL, CONNECT, transaction);
}

/// Appends an announce. `target` is path and query of the tracker's URL; a mere `/` is not sent, as it is what a URL
/// without any has.
pub fn announce(out: &mut Vec<u8>, connection: u64, transaction: u32, request: &Request, target: &str) {
    put_query(out, connection, ANNOUNCE, transaction);
    out.extend_from_slice(&request.info_hash.0);
    out.extend_from_slice(&request.peer_id);
    for number in [request.downloaded, request.left, request.uploaded] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let event = match request.event {
        // BEP 15 has no number for a partial seed.
        Event::None | Event::Paused => 0,
        Event::Completed => 1,
        Event::Started => 2,
        Event::Stopped => 3,
    };
    // Address 0: the one that the datagram comes from.
    let numwant = request.numwant.min(i32::MAX as u32);
    for number in [event, 0, request.key, numwant] {
        put_u32(out, number);
    }
    out.extend_from_slice(&request.port.to_be_bytes());
    if target != "/" {
        put_url_data(out, target.as_bytes());
    }
}

/// Appends a scrape, of the first [`limits::UDP_SCRAPE_MAX`] of these torrents. The answer has them in this order.
pub fn scrape(out: &mut Vec<u8>, connection: u64, transaction: u32, torrents: &[InfoHash]) {
    put_query(out, connection, SCRAPE, transaction);
    for torrent in torrents.iter().take(limits::UDP_SCRAPE_MAX) {
        out.extend_from_slice(&torrent.0);
    }
}

/// What a tracker answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// To a connect.
    Connected {
        /// To be sent with queries for [`limits::UDP_CONNECTION_KEPT`].
        connection: u64,
    },
    /// To an announce.
    Announced(Announced<'a>),
    /// To a scrape.
    Scraped(Scraped<'a>),
    /// It refuses; its words, for [`Failure::new`].
    Refused(&'a [u8]),
}

/// The answer to an announce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced<'a> {
    /// Seconds to the next announce, as they were sent.
    pub interval: u32,
    /// Peers that have not everything.
    pub leechers: u32,
    /// Peers that have.
    pub seeders: u32,
    /// The list, still in bytes.
    pub peers: &'a [u8],
}

impl Announced<'_> {
    /// The answer in the common form; `family` is that of the datagram. What nobody can call is left out.
    pub fn response(&self, family: Family) -> Response {
        // Signed, as the specification has it: what is above 2^31 is negative and means nothing.
        let seconds = i32::from_be_bytes(self.interval.to_be_bytes());
        let max = limits::ANNOUNCE_PEERS_MAX;
        Response {
            interval: interval(Some(seconds.into())),
            peers: match family {
                Family::V4 => compact::v4(self.peers).take(max).collect(),
                Family::V6 => compact::v6(self.peers).take(max).collect(),
            },
            complete: Some(self.seeders),
            incomplete: Some(self.leechers),
            ..Response::default()
        }
    }
}

/// The answer to a scrape: its entries, still in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scraped<'a>(&'a [u8]);

impl<'a> Scraped<'a> {
    /// The entries, in the order of the query; an odd tail is dropped. There may be fewer than were asked for, or more.
    pub fn entries(self) -> impl Iterator<Item = Counts> + 'a {
        self.0.as_chunks::<12>().0.iter().map(|entry| {
            let mut input = Input(entry);
            let mut next = || input.u32().unwrap_or_default();
            Counts { seeders: next(), completed: next(), leechers: next() }
        })
    }
}

/// Reads an answer: its transaction id, and what it says.
pub fn answer(data: &[u8]) -> Result<(u32, Answer<'_>), Error> {
    let mut input = Input(data);
    let (action, transaction) = (input.u32()?, input.u32()?);
    let answer = match action {
        CONNECT => Answer::Connected { connection: input.u64()? },
        ANNOUNCE => Answer::Announced(Announced {
            interval: input.u32()?,
            leechers: input.u32()?,
            seeders: input.u32()?,
            peers: input.0,
        }),
        SCRAPE => Answer::Scraped(Scraped(input.0)),
        ERROR => Answer::Refused(words(input.0)),
        _ => return Err(Error::Action),
    };
    Ok((transaction, answer))
}

/// An error's words without the zeros that trackers written in C end them with.
fn words(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What a client asks. All but a connect are to be answered only when the connection id is one that we gave to that
/// address: else the sender's address may be forged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query<'a> {
    /// For a connection id.
    Connect,
    /// To be counted, and for peers.
    Announce {
        /// The connection id.
        connection: u64,
        /// What it says.
        announce: Announce<'a>,
    },
    /// How swarms stand.
    Scrape {
        /// The connection id.
        connection: u64,
        /// Which, [`limits::UDP_SCRAPE_MAX`] at most.
        torrents: &'a [[u8; 20]],
    },
}

/// An announce as a tracker reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer's id.
    pub peer_id: [u8; 20],
    /// Bytes of payload received since it started.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Bytes of payload sent since it started.
    pub uploaded: u64,
    /// Why it announces; an unknown number is taken as [`Event::None`].
    pub event: Event,
    /// The address that it claims; None: the one that the datagram comes from.
    pub ip: Option<Ipv4Addr>,
    /// Its secret (BEP 7).
    pub key: u32,
    /// How many peers it would like; None leaves it to the tracker.
    pub numwant: Option<u32>,
    /// The port that it listens on.
    pub port: u16,
    /// The options of BEP 41, still in bytes.
    options: &'a [u8],
}

impl<'a> Announce<'a> {
    /// Path and query of the URL that the client was given, in parts (BEP 41); none when it does not say. Reading ends
    /// at an option that is cut off.
    pub fn url_data(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut input = Input(self.options);
        std::iter::from_fn(move || {
            loop {
                match input.byte()? {
                    END_OF_OPTIONS => return None,
                    NOP => {}
                    option => {
                        let len = input.byte()?;
                        let data = input.take(len.into()).ok()?;
                        if option == URL_DATA {
                            return Some(data);
                        }
                    }
                }
            }
        })
    }
}

/// Reads a query: its transaction id, which the answer repeats, and what it asks.
pub fn query(data: &[u8]) -> Result<(u32, Query<'_>), Error> {
    let mut input = Input(data);
    let (connection, action, transaction) = (input.u64()?, input.u32()?, input.u32()?);
    let query = match action {
        CONNECT if connection != PROTOCOL => return Err(Error::Protocol),
        CONNECT => Query::Connect,
        ANNOUNCE => Query::Announce { connection, announce: announced(input)? },
        SCRAPE => {
            let torrents = input.0.as_chunks().0;
            Query::Scrape { connection, torrents: &torrents[..torrents.len().min(limits::UDP_SCRAPE_MAX)] }
        }
        _ => return Err(Error::Action),
    };
    Ok((transaction, query))
}

fn announced(mut input: Input<'_>) -> Result<Announce<'_>, Error> {
    Ok(Announce {
        info_hash: InfoHash(input.array()?),
        peer_id: input.array()?,
        downloaded: input.u64()?,
        left: input.u64()?,
        uploaded: input.u64()?,
        event: match input.u32()? {
            1 => Event::Completed,
            2 => Event::Started,
            3 => Event::Stopped,
            _ => Event::None,
        },
        ip: Some(Ipv4Addr::from(input.u32()?)).filter(|ip| !ip.is_unspecified()),
        key: input.u32()?,
        // -1 by the specification; anything else that is negative means as little.
        numwant: Some(input.u32()?).filter(|n| *n <= i32::MAX as u32),
        port: u16::from_be_bytes(input.array()?),
        options: input.0,
    })
}

/// Appends the answer to a connect: 16 bytes.
pub fn put_connected(out: &mut Vec<u8>, transaction: u32, connection: u64) {
    put_u32(out, CONNECT);
    put_u32(out, transaction);
    out.extend_from_slice(&connection.to_be_bytes());
}

/// How many peers of a family fit an announce answer of `max` bytes.
pub fn peers_that_fit(max: usize, family: Family) -> usize {
    max.saturating_sub(ANNOUNCED_LEN) / family.stride()
}

/// Appends the answer to an announce, of `max` bytes at most (but its first 20): as many of the peers as fit, and
/// those of the datagram's family only.
pub fn put_announced(
    out: &mut Vec<u8>,
    transaction: u32,
    (interval, counts): (u32, Counts),
    peers: impl Iterator<Item = SocketAddr>,
    family: Family,
    max: usize,
) {
    for number in [ANNOUNCE, transaction, interval, counts.leechers, counts.seeders] {
        put_u32(out, number);
    }
    let fits = |addr: &SocketAddr| Family::of(*addr) == family;
    for addr in peers.filter(fits).take(peers_that_fit(max, family)) {
        match compact::canonical(addr) {
            SocketAddr::V4(v4) => out.extend_from_slice(&v4.ip().octets()),
            SocketAddr::V6(v6) => out.extend_from_slice(&v6.ip().octets()),
        }
        out.extend_from_slice(&addr.port().to_be_bytes());
    }
}

/// Appends the answer to a scrape: the first [`limits::UDP_SCRAPE_MAX`] of `entries`, in the order of the query.
pub fn put_scraped(out: &mut Vec<u8>, transaction: u32, entries: impl Iterator<Item = Counts>) {
    put_u32(out, SCRAPE);
    put_u32(out, transaction);
    for counts in entries.take(limits::UDP_SCRAPE_MAX) {
        for number in [counts.seeders, counts.completed, counts.leechers] {
            put_u32(out, number);
        }
    }
}

/// Appends an error, with words for the user.
pub fn put_refused(out: &mut Vec<u8>, transaction: u32, words: &str) {
    put_u32(out, ERROR);
    put_u32(out, transaction);
    out.extend_from_slice(words.as_bytes());
}

fn put_query(out: &mut Vec<u8>, connection: u64, action: u32, transaction: u32) {
    out.extend_from_slice(&connection.to_be_bytes());
    put_u32(out, action);
    put_u32(out, transaction);
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Path and query as options, 255 bytes in each at most (BEP 41).
fn put_url_data(out: &mut Vec<u8>, target: &[u8]) {
    for part in target.chunks(u8::MAX.into()) {
        out.extend_from_slice(&[URL_DATA, part.len() as u8]);
        out.extend_from_slice(part);
    }
}

/// What is left of a datagram.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().ok().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }
}

/// Reads `data` as a query and as an answer of both families, and asserts that what comes out is in bounds and goes
/// back in unchanged.
#[doc(hidden)]
pub fn fuzz_udp(data: &[u8]) {
    let mut out = Vec::new();
    if let Ok((transaction, query)) = query(data) {
        fuzz_query(data, transaction, &query, &mut out);
    }
    let Ok((transaction, answer)) = answer(data) else { return };
    out.clear();
    match answer {
        Answer::Connected { connection } => put_connected(&mut out, transaction, connection),
        Answer::Refused(words) => {
            let text = Failure::new(words).words;
            assert!(text.len() <= limits::TRACKER_TEXT_MAX);
            assert!(!text.chars().any(crate::proto::metainfo::is_foul));
            return;
        }
        Answer::Scraped(scraped) => {
            put_scraped(&mut out, transaction, scraped.entries());
            assert!(out.len() <= 8 + 12 * limits::UDP_SCRAPE_MAX);
        }
        Answer::Announced(said) => return fuzz_announced(data, transaction, said, &mut out),
    }
    assert_eq!(out, data[..out.len()]);
}

#[expect(clippy::panic, reason = "a fuzz entry: a wrong answer is to end it")]
fn fuzz_announced(data: &[u8], transaction: u32, said: Announced<'_>, out: &mut Vec<u8>) {
    for family in [Family::V4, Family::V6] {
        let response = said.response(family);
        let bounds = limits::ANNOUNCE_INTERVAL_MIN..=limits::ANNOUNCE_INTERVAL_MAX;
        assert!(bounds.contains(&response.interval));
        assert!(response.peers.len() <= limits::ANNOUNCE_PEERS_MAX.min(said.peers.len() / family.stride()));
        let counts = Counts { seeders: said.seeders, leechers: said.leechers, completed: 0 };
        out.clear();
        let peers = response.peers.iter().copied();
        put_announced(out, transaction, (said.interval, counts), peers, family, data.len());
        assert!(out.len() <= data.len() && out[..ANNOUNCED_LEN] == data[..ANNOUNCED_LEN]);
        let again = match answer(out) {
            Ok((_, Answer::Announced(again))) => again.response(family),
            other => panic!("{other:?}"),
        };
        // IPv4-mapped peers of an IPv6 answer do not go back into one.
        assert!(again.peers.iter().eq(response.peers.iter().filter(|addr| Family::of(**addr) == family)));
    }
}

fn fuzz_query(data: &[u8], transaction: u32, query: &Query<'_>, out: &mut Vec<u8>) {
    match *query {
        Query::Connect => connect(out, transaction),
        Query::Scrape { connection, torrents } => {
            assert!(torrents.len() <= limits::UDP_SCRAPE_MAX);
            let torrents: Vec<_> = torrents.iter().map(|hash| InfoHash(*hash)).collect();
            scrape(out, connection, transaction, &torrents);
        }
        Query::Announce { connection, announce: said } => {
            let url: usize = said.url_data().map(<[u8]>::len).sum();
            assert!(url + ANNOUNCE_LEN <= data.len());
            let Announce { info_hash, peer_id, port, uploaded, downloaded, left, event, key, .. } = said;
            let numwant = said.numwant.unwrap_or_default();
            let request = Request {
                tracker_id: None,
                info_hash,
                peer_id,
                port,
                uploaded,
                downloaded,
                left,
                event,
                numwant,
                key,
            };
            announce(out, connection, transaction, &request, "/");
            let again = Announce { ip: None, numwant: Some(numwant), options: &[], ..said };
            assert_eq!(self::query(out), Ok((transaction, Query::Announce { connection, announce: again })));
            return;
        }
    }
    assert_eq!(*out, data[..out.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::from_hex;
    use std::time::Duration;

    fn request() -> Request {
        Request {
            info_hash: InfoHash(*b"info-hash-of-20bytes"),
            peer_id: *b"-pT0100-abcdefghijkl",
            port: 0x1ae1,
            uploaded: 0x33,
            downloaded: 0x11,
            left: 0x22_0000_0000,
            event: Event::Started,
            numwant: 50,
            key: 0xabcd_ef01,
            tracker_id: Some(b"not for UDP".to_vec()),
        }
    }

    fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        make(&mut out);
        fuzz_udp(&out);
        out
    }

    fn read(data: &[u8]) -> Announced<'_> {
        fuzz_udp(data);
        match answer(data) {
            Ok((_, Answer::Announced(said))) => said,
            other => panic!("{other:?}"),
        }
    }

    /// The tables of BEP 15, byte for byte.
    #[test]
    fn queries_are_as_the_bep_has_them() {
        let bytes = made(|out| connect(out, 0x0102_0304));
        assert_eq!(bytes, from_hex::<16>("00000417271019800000000001020304").unwrap());
        assert_eq!(query(&bytes), Ok((0x0102_0304, Query::Connect)));

        let bytes = made(|out| announce(out, 0x0011_2233_4455_6677, 5, &request(), "/"));
        let mut expected = from_hex::<16>("00112233445566770000000100000005").unwrap().to_vec();
        expected.extend_from_slice(b"info-hash-of-20bytes-pT0100-abcdefghijkl");
        let numbers = "0000000000000011000000220000000000000000000000330000000200000000abcdef01000000321ae1";
        expected.extend_from_slice(&from_hex::<42>(numbers).unwrap());
        assert_eq!((bytes.len(), &bytes), (ANNOUNCE_LEN, &expected));

        let hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
        let bytes = made(|out| scrape(out, 9, 8, &hashes));
        assert_eq!(
            bytes,
            [&[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 8][..], &[1; 20], &[2; 20]].concat()
        );
        let torrents = &[[1; 20], [2; 20]][..];
        assert_eq!(query(&bytes), Ok((8, Query::Scrape { connection: 9, torrents })));
    }

    #[test]
    fn a_tracker_reads_what_a_client_says() {
        let partial_seed = Request { event: Event::Paused, ..request() };
        assert_eq!(made(|out| announce(out, 7, 5, &partial_seed, "/"))[80..84], [0; 4]);
        for (event, number) in
            [(Event::None, 0), (Event::Completed, 1), (Event::Started, 2), (Event::Stopped, 3)]
        {
            let request = Request { event, ..request() };
            let bytes = made(|out| announce(out, 7, 5, &request, "/announce?passkey=x"));
            assert_eq!(bytes[83], number);
            let Ok((5, Query::Announce { connection: 7, announce: said })) = query(&bytes) else { panic!() };
            assert_eq!(
                (said.info_hash, said.peer_id, said.port),
                (request.info_hash, request.peer_id, 0x1ae1)
            );
            assert_eq!((said.downloaded, said.left, said.uploaded), (0x11, 0x22_0000_0000, 0x33));
            assert_eq!((said.event, said.key, said.numwant, said.ip), (event, request.key, Some(50), None));
            assert_eq!(said.url_data().collect::<Vec<_>>(), [b"/announce?passkey=x"]);
        }
        // -1 and an address of its own.
        let mut bytes = made(|out| announce(out, 7, 5, &request(), "/"));
        bytes[84..88].copy_from_slice(&[10, 0, 0, 1]);
        bytes[92..96].fill(0xff);
        bytes[83] = 4;
        fuzz_udp(&bytes);
        let Ok((_, Query::Announce { announce: said, .. })) = query(&bytes) else { panic!() };
        assert_eq!((said.ip, said.numwant, said.event), (Some([10, 0, 0, 1].into()), None, Event::None));
        assert_eq!(said.url_data().count(), 0);
    }

    /// The examples of BEP 41.
    #[test]
    fn url_data_is_as_the_bep_has_it() {
        let bytes = made(|out| announce(out, 7, 5, &request(), "/dir?a=b&c=d"));
        assert_eq!(bytes[ANNOUNCE_LEN..], *b"\x02\x0c/dir?a=b&c=d");
        let of = |options: &[u8]| {
            let bytes = [&bytes[..ANNOUNCE_LEN], options].concat();
            fuzz_udp(&bytes);
            let Ok((_, Query::Announce { announce: said, .. })) = query(&bytes) else { panic!() };
            said.url_data().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(of(b"\x02\x0c/dir?a=b&c=d\x01\x01\x00"), [b"/dir?a=b&c=d"]);
        assert_eq!(of(b"\x02\x00"), [b""]);
        assert_eq!(of(b"\x01\x07\x02xy\x02\x01/\x02\x01a\x00\x02\x01b"), [b"/", b"a"]);
        // Cut off: what stands before counts.
        assert_eq!(of(b"\x02\x01/\x02\x05abc"), [b"/"]);
        assert_eq!(of(b"\x02\x01/\x02"), [b"/"]);
        assert_eq!(of(b"\x05").len(), 0);
    }

    #[test]
    fn long_url_data_is_split() {
        for len in [254, 255, 256, 510, 511, limits::URL_MAX] {
            let target = format!("/{}", "x".repeat(len - 1));
            let bytes = made(|out| announce(out, 7, 5, &request(), &target));
            assert_eq!(bytes.len(), ANNOUNCE_LEN + len + 2 * len.div_ceil(255));
            let Ok((_, Query::Announce { announce: said, .. })) = query(&bytes) else { panic!() };
            assert_eq!(said.url_data().flatten().copied().collect::<Vec<_>>(), target.as_bytes());
        }
    }

    #[test]
    fn a_scrape_is_bounded() {
        let many = [InfoHash([1; 20]); 100];
        let mut bytes = made(|out| scrape(out, 9, 8, &many));
        assert_eq!(bytes.len(), 16 + 20 * limits::UDP_SCRAPE_MAX);
        bytes.extend_from_slice(&[3; 205]);
        fuzz_udp(&bytes);
        let Ok((_, Query::Scrape { torrents, .. })) = query(&bytes) else { panic!() };
        assert_eq!(torrents.len(), limits::UDP_SCRAPE_MAX);
        let answer = made(|out| put_scraped(out, 8, [Counts::default()].into_iter().cycle()));
        assert_eq!(answer.len(), 8 + 12 * limits::UDP_SCRAPE_MAX);
    }

    #[test]
    fn answers_are_as_the_bep_has_them() {
        let bytes = made(|out| put_connected(out, 0x0102_0304, 0x0011_2233_4455_6677));
        assert_eq!(bytes, from_hex::<16>("00000000010203040011223344556677").unwrap());
        assert_eq!(
            answer(&bytes),
            Ok((0x0102_0304, Answer::Connected { connection: 0x0011_2233_4455_6677 }))
        );

        let counts = Counts { seeders: 3, completed: 4, leechers: 5 };
        let peers = ["10.0.0.1:6881".parse().unwrap(), "[2001::9]:80".parse().unwrap()];
        let v4 = made(|out| put_announced(out, 1, (1800, counts), peers.into_iter(), Family::V4, 600));
        assert_eq!(v4, from_hex::<26>("00000001000000010000070800000005000000030a0000011ae1").unwrap());
        let response = read(&v4).response(Family::V4);
        assert_eq!((response.interval, response.min_interval), (Duration::from_secs(1800), None));
        assert_eq!((response.complete, response.incomplete), (Some(3), Some(5)));
        assert_eq!(response.peers, peers[..1]);
        let v6 = made(|out| put_announced(out, 1, (1800, counts), peers.into_iter(), Family::V6, 600));
        assert_eq!(v6[20..], from_hex::<18>("200100000000000000000000000000090050").unwrap());
        assert_eq!(read(&v6).response(Family::V6).peers, peers[1..]);

        let bytes = made(|out| put_scraped(out, 2, [counts, Counts::default()].into_iter()));
        assert_eq!(bytes[..20], from_hex::<20>("0000000200000002000000030000000400000005").unwrap());
        let Ok((2, Answer::Scraped(scraped))) = answer(&bytes) else { panic!() };
        assert_eq!(scraped.entries().collect::<Vec<_>>(), [counts, Counts::default()]);

        let bytes = made(|out| put_refused(out, 3, "no such torrent"));
        assert_eq!(bytes, *b"\0\0\0\x03\0\0\0\x03no such torrent");
        assert_eq!(answer(&bytes), Ok((3, Answer::Refused(b"no such torrent"))));
        assert_eq!(answer(b"\0\0\0\x03\0\0\0\x03Bad id\0"), Ok((3, Answer::Refused(b"Bad id"))));
    }

    #[test]
    fn an_answer_fits_its_datagram() {
        let peers = || (1..=1000u16).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        let counts = Counts::default();
        for (max, fit) in [(0, 0), (20, 0), (25, 0), (26, 1), (1220, 200), (100_000, 1000)] {
            let bytes = made(|out| put_announced(out, 1, (60, counts), peers(), Family::V4, max));
            assert_eq!(bytes.len(), 20 + 6 * fit);
        }
        assert_eq!((peers_that_fit(38, Family::V6), peers_that_fit(37, Family::V6)), (1, 0));
        assert_eq!(Family::of("[::ffff:1.2.3.4]:5".parse().unwrap()), Family::V4);
    }

    #[test]
    fn what_is_too_short_or_strange_is_refused() {
        let full = made(|out| announce(out, 7, 5, &request(), "/"));
        for len in 0..full.len() {
            assert_eq!(query(&full[..len]), Err(Error::Short), "{len}");
        }
        let connect = made(|out| connect(out, 1));
        assert_eq!(query(&connect[..15]), Err(Error::Short));
        assert_eq!(query(&[0; 16]), Err(Error::Protocol));
        assert_eq!(query(&[&[0; 11][..], &[3, 0, 0, 0, 0]].concat()), Err(Error::Action));
        let shortest = [(0, 16), (1, 20), (2, 8), (3, 8)];
        for (action, least) in shortest {
            let bytes = [&[0, 0, 0, action][..], &[0; 16]].concat();
            for len in 0..=bytes.len() {
                fuzz_udp(&bytes[..len]);
                assert_eq!(answer(&bytes[..len]).is_ok(), len >= least, "{action} {len}");
            }
        }
        assert_eq!(answer(&[0, 0, 0, 4, 0, 0, 0, 0]), Err(Error::Action));
        assert_eq!(answer(b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe"), Err(Error::Action));
    }

    #[test]
    fn hostile_answers_are_held_in_bounds() {
        let head = |interval: u32| {
            let counts = Counts { seeders: u32::MAX, completed: 0, leechers: u32::MAX };
            made(|out| put_announced(out, 1, (interval, counts), std::iter::empty(), Family::V4, 20))
        };
        let seconds = |n: u32| read(&head(n)).response(Family::V4).interval.as_secs();
        assert_eq!((seconds(0), seconds(u32::MAX), seconds(1 << 31)), (1800, 1800, 1800));
        assert_eq!((seconds(1), seconds(i32::MAX as u32)), (60, 6 * 3600));
        // Peers at port 0 or nowhere, an odd tail, and more than anybody needs.
        let odd = [&head(60)[..], &[10, 0, 0, 1, 0, 0], &[0, 0, 0, 0, 0, 80], &[10, 0, 0, 2, 0, 80], &[1; 5]];
        assert_eq!(read(&odd.concat()).response(Family::V4).peers, ["10.0.0.2:80".parse().unwrap()]);
        let many = [&head(60)[..], &[9; 60_000]].concat();
        assert_eq!(read(&many).response(Family::V4).peers.len(), limits::ANNOUNCE_PEERS_MAX);
        assert_eq!(read(&many).response(Family::V6).peers.len(), limits::ANNOUNCE_PEERS_MAX);
    }
}
