//! The network of datagrams: they get lost, come twice and overtake each other. And a UDP tracker on it.

use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::proto::compact;
use ptorrent::proto::tracker::Event;
use ptorrent::proto::tracker::udp::{self, Counts, Family, Query};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// How many of a hundred are lost.
    pub(crate) lost: u32,
    /// How many of a hundred come twice.
    pub(crate) twice: u32,
    /// Each takes from nothing to this: they overtake each other.
    pub(crate) delay: Duration,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { lost: 0, twice: 0, delay: Duration::from_millis(100) }
    }
}

impl Weather {
    /// How long the copies of a datagram take; none of one that is lost.
    pub(crate) fn copies(self, rng: &mut Rng) -> Vec<Duration> {
        let mut copies = Vec::new();
        if rng.below(100) >= self.lost {
            copies.push(rng.below(self.delay.as_micros() as u32 + 1));
        }
        if rng.below(100) < self.twice {
            copies.push(rng.below(self.delay.as_micros() as u32 + 1));
        }
        copies.into_iter().map(|micros| Duration::from_micros(micros.into())).collect()
    }
}

/// A host that hears datagrams and answers them as it likes.
pub(crate) trait Host {
    /// The answers, if any, to a datagram.
    fn hear(&mut self, from: SocketAddr, data: &[u8], now: Time) -> Vec<Vec<u8>>;
    /// What it has seen.
    fn seen(&self) -> Seen;
}

/// What a tracker has seen.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) datagrams: usize,
    pub(crate) connects: usize,
    /// Announces with an id that it gave to that address within two minutes.
    pub(crate) announces: Vec<Event>,
    /// How much was left to fetch, as each of them said.
    pub(crate) lefts: Vec<u64>,
    /// Announces with another id.
    pub(crate) strange: usize,
}

/// A UDP tracker. It keeps ids for two minutes, as BEP 15 has it, and is deaf before a certain moment.
#[derive(Default)]
pub(crate) struct Tracker {
    pub(crate) deaf_until: Time,
    pub(crate) ids: BTreeMap<(SocketAddr, u64), Time>,
    pub(crate) swarms: BTreeMap<[u8; 20], Vec<SocketAddr>>,
    pub(crate) seen: Seen,
}

impl Host for Tracker {
    fn hear(&mut self, from: SocketAddr, data: &[u8], now: Time) -> Vec<Vec<u8>> {
        self.seen.datagrams += 1;
        let Ok((transaction, query)) = udp::query(data) else { return vec![] };
        if now < self.deaf_until {
            return vec![];
        }
        let mut out = Vec::new();
        match query {
            Query::Connect => {
                self.seen.connects += 1;
                let id = 1000 + self.seen.connects as u64;
                self.ids.insert((from, id), now + Duration::from_secs(120));
                udp::put_connected(&mut out, transaction, id);
            }
            Query::Announce { connection, .. } | Query::Scrape { connection, .. }
                if self.ids.get(&(from, connection)).is_none_or(|until| *until < now) =>
            {
                self.seen.strange += 1;
                udp::put_refused(&mut out, transaction, "Connection ID missmatch.");
            }
            Query::Announce { announce, .. } => {
                self.seen.announces.push(announce.event);
                self.seen.lefts.push(announce.left);
                let swarm = self.swarms.entry(announce.info_hash.0).or_default();
                let peer = SocketAddr::new(compact::canonical(from).ip(), announce.port);
                swarm.retain(|other| *other != peer);
                let wanted = announce.numwant.unwrap_or(50).min(50) as usize;
                let peers: Vec<_> = swarm.iter().copied().take(wanted).collect();
                if announce.event != Event::Stopped {
                    swarm.push(peer);
                }
                let counts = Counts::default();
                let family = Family::of(from);
                udp::put_announced(&mut out, transaction, (1800, counts), peers.into_iter(), family, 1400);
            }
            Query::Scrape { torrents, .. } => {
                let counts = |hash| Counts {
                    leechers: self.swarms.get(hash).map_or(0, Vec::len) as u32,
                    ..Counts::default()
                };
                udp::put_scraped(&mut out, transaction, torrents.iter().map(counts));
            }
        }
        vec![out]
    }

    fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

/// A host that answers everything with garbage: what it heard, cut, with some bytes changed.
pub(crate) struct Liar(pub(crate) Rng);

impl Host for Liar {
    fn hear(&mut self, _: SocketAddr, data: &[u8], _: Time) -> Vec<Vec<u8>> {
        let rng = &mut self.0;
        let transaction = data.get(12..16).unwrap_or(&[0; 4]).to_vec();
        (0..3)
            .map(|_| {
                let action = [0, 0, 0, rng.below(5) as u8];
                let mut answer = [&action[..], &transaction, &vec![0xff; rng.index(2000)]].concat();
                let at = rng.index(answer.len());
                answer[at] ^= rng.below(2) as u8;
                answer
            })
            .collect()
    }

    fn seen(&self) -> Seen {
        Seen::default()
    }
}
