//! What is said to a tracker and what it answers, whatever the protocol: the vocabulary of `session/announce.rs`.

mod escape;
pub mod guard;
pub mod http;
pub mod served;
pub mod udp;
pub mod unusable;
pub mod url;

use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::{printable, text};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a tracker is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scheme {
    /// BEP 3, over plain HTTP.
    Http,
    /// BEP 3, over TLS.
    Https,
    /// BEP 15.
    Udp,
}

/// Why we announce (BEP 3, event).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Event {
    /// The interval is over, or we need peers.
    #[default]
    None,
    /// The first announce of a run.
    Started,
    /// We leave.
    Stopped,
    /// The download of the whole torrent became complete in this run.
    Completed,
    /// As [`Event::None`], from a partial seed: a peer that does not have all, and wants nothing more (BEP 21).
    Paused,
}

/// One announce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our id, the one of the handshake.
    pub peer_id: [u8; 20],
    /// The TCP port that we listen on.
    pub port: u16,
    /// Bytes of payload sent since the `Started` event.
    pub uploaded: u64,
    /// Bytes of payload received since the `Started` event.
    pub downloaded: u64,
    /// Bytes still missing; 0 tells the tracker that we seed.
    pub left: u64,
    /// Why we announce.
    pub event: Event,
    /// How many peers we would like.
    pub numwant: u32,
    /// A secret of ours by which the tracker knows us when our address changes (BEP 7).
    pub key: u32,
    /// What the tracker called itself in its last answer that did so; it goes back as it came.
    pub tracker_id: Option<Vec<u8>>,
}

/// What a tracker answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Response {
    /// When to announce again: see [`interval`].
    pub interval: Duration,
    /// Not to announce before, whatever happens.
    pub min_interval: Option<Duration>,
    /// Peers that can be called, in the one form of their addresses; at most [`limits::ANNOUNCE_PEERS_MAX`] from each
    /// address family.
    pub peers: Vec<SocketAddr>,
    /// How many peers are complete.
    pub complete: Option<u32>,
    /// How many are not.
    pub incomplete: Option<u32>,
    /// To be sent with the next announces; at most [`limits::TRACKER_ID_MAX`] bytes.
    pub tracker_id: Option<Vec<u8>>,
    /// Words for the user, printable, though the announce went well.
    pub warning: Option<String>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

impl Response {
    /// Adds what the same tracker said over its other address family (BEP 7): peers that are new, and counts of a
    /// swarm that it may keep apart.
    pub fn merge(&mut self, other: Response) {
        for peer in other.peers {
            if self.peers.len() < 2 * limits::ANNOUNCE_PEERS_MAX && !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
        self.interval = self.interval.max(other.interval);
        self.min_interval = self.min_interval.max(other.min_interval);
        self.complete = self.complete.max(other.complete);
        self.incomplete = self.incomplete.max(other.incomplete);
    }
}

/// How a swarm stands, as far as a tracker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Peers that have everything.
    pub seeders: Option<u32>,
    /// Peers that have not.
    pub leechers: Option<u32>,
    /// How often a download was completed.
    pub downloads: Option<u32>,
}

/// What a tracker answered to a scrape.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scraped {
    /// How the torrents stand, those that it knows of those that were asked for.
    pub tallies: Vec<(InfoHash, Tally)>,
    /// Not to scrape again before (BEP 48, `min_request_interval`).
    pub min_interval: Option<Duration>,
}

/// Why a tracker refuses, and until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The tracker's words (BEP 3, `failure reason`), printable and bounded.
    pub words: String,
    /// When it may be asked again.
    pub retry: Retry,
}

/// When a tracker that refuses may be asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// It does not say.
    Unsaid,
    /// After this (BEP 31, `retry in`; `interval` and `min interval` of BEP 3).
    After(Duration),
    /// Never (BEP 31).
    Never,
}

impl Failure {
    /// From the tracker's bytes, which say nothing of when.
    pub fn new(reason: &[u8]) -> Failure {
        let words = shown(reason);
        let words = if words.is_empty() { "no reason given".to_string() } else { words };
        Failure { words, retry: Retry::Unsaid }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// The interval a tracker asks for, in seconds, held between [`limits::ANNOUNCE_INTERVAL_MIN`] and
/// [`limits::ANNOUNCE_INTERVAL_MAX`]. None, 0 and what is negative mean nothing: the usual half hour then.
pub fn interval(seconds: Option<i64>) -> Duration {
    match seconds.and_then(|s| u64::try_from(s).ok()) {
        None | Some(0) => limits::ANNOUNCE_INTERVAL_DEFAULT,
        Some(s) => Duration::from_secs(s).clamp(limits::ANNOUNCE_INTERVAL_MIN, limits::ANNOUNCE_INTERVAL_MAX),
    }
}

/// The words of a stranger made fit for a terminal and a log: one line of at most [`limits::TRACKER_TEXT_MAX`] bytes.
pub fn shown(words: &[u8]) -> String {
    let words = &words[..words.len().min(limits::TRACKER_TEXT_MAX)];
    // What is not fit for a terminal grows when it is made so.
    let mut text = printable(&text(words));
    let mut end = text.len().min(limits::TRACKER_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_held_in_bounds() {
        let of = |s| interval(Some(s)).as_secs();
        assert_eq!((of(1), of(59), of(60), of(1800), of(i64::MAX)), (60, 60, 60, 1800, 6 * 3600));
        assert_eq!((of(0), of(-1), of(i64::MIN), interval(None).as_secs()), (1800, 1800, 1800, 1800));
    }

    #[test]
    fn two_answers_of_one_tracker_become_one() {
        let addr = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let of = |secs, peers: &[u16], complete| Response {
            interval: Duration::from_secs(secs),
            peers: peers.iter().map(|n| addr(*n)).collect(),
            complete,
            external_ip: Some([1, 2, 3, secs as u8].into()),
            ..Response::default()
        };
        let mut one = of(60, &[1, 2], Some(3));
        one.merge(Response { min_interval: Some(Duration::from_secs(9)), ..of(70, &[2, 3], None) });
        let whole = Response { min_interval: Some(Duration::from_secs(9)), ..of(70, &[1, 2, 3], Some(3)) };
        assert_eq!(one, Response { external_ip: Some([1, 2, 3, 60].into()), ..whole });
        one.merge(of(60, &(1..5000).collect::<Vec<_>>(), None));
        assert_eq!(one.peers.len(), 2 * limits::ANNOUNCE_PEERS_MAX);
    }

    #[test]
    fn words_cannot_control_a_terminal() {
        assert_eq!(shown(b" no\tsuch \x1b[31mtorrent\x07\r\n"), "no such \u{fffd}[31mtorrent\u{fffd}");
        assert_eq!(shown("Müll \u{202e}txt\u{85}x".as_bytes()), "Müll \u{fffd}txt\u{fffd}x");
        assert_eq!(shown(b"\xff\xfe"), "%FF%FE");
        assert_eq!(shown(&[b'a'; 5000]).len(), limits::TRACKER_TEXT_MAX);
        assert_eq!(shown(&[0x1b; 5000]).len(), limits::TRACKER_TEXT_MAX / 3 * 3);
    }
}
