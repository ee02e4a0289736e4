//! The core of the embedded tracker (BEP 3, 7, 15, 23, 24, 48): swarms in, answers out. A plain state machine: the time
//! and chance come in as values, sockets and clock are the reactor's (`reactor/serve.rs`).
//!
//! A peer is what its connection shows, address and family, and the port it names; an address that it claims (`ip=`) is
//! not believed, and peer ids are not kept. Its place among thousands costs 7 bytes (19 with IPv6) and 8 of table.

mod connection;
pub mod http;
pub mod only;
mod peers;
#[cfg(test)]
mod tests;
pub mod udp;

use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::tracker::Event;
use crate::proto::tracker::udp::Counts;
use connection::Connections;
use peers::{Dice, Entered, Key, Peers, STAMPS, Stamp, V4, V6};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

/// An announce, whatever brought it.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the announce came from, in its one form: the peer's address.
    pub ip: IpAddr,
    /// The port that it listens on, not 0.
    pub port: u16,
    /// Whether it has everything.
    pub seed: bool,
    /// Why it announces.
    pub event: Event,
    /// How many peers it would like; None: the usual number.
    pub numwant: Option<u32>,
    /// Which addresses it can be told: of its own family only, or of both, its own first.
    pub both: bool,
}

/// The peers of an answer, and how many there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Of the swarm. Peers are counted until they are swept, a thirty-second of the interval late.
    pub counts: Counts,
    /// A compact list, 6 bytes each.
    pub v4: Vec<u8>,
    /// A compact list, 18 bytes each.
    pub v6: Vec<u8>,
}

/// Why an announce is refused, in words for its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The torrent is not on the list of `--only`.
    NotListed,
    /// There is no room for one more swarm.
    Full,
}

impl Refusal {
    /// The words.
    pub fn words(self) -> &'static str {
        match self {
            Refusal::NotListed => "this tracker does not serve this torrent",
            Refusal::Full => "this tracker is full; try later",
        }
    }
}

/// What was done so far, for `-v` and SIGUSR1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Swarms and peers that are known now.
    pub swarms: u64,
    /// Of all swarms.
    pub peers: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Announces that were answered, over HTTP.
    pub http: u64,
    /// Announces that were answered, over UDP.
    pub udp: u64,
    /// Scrapes that were answered.
    pub scrapes: u64,
    /// Requests that were refused with a reason.
    pub refused: u64,
    /// Datagrams without a valid connection id, and what is no request at all: they get no answer.
    pub ignored: u64,
}

impl std::fmt::Display for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Statistics { swarms, peers, bytes, http, udp, scrapes, refused, ignored } = self;
        write!(
            f,
            "torrents {swarms}, peers {peers} in {} KiB; answered: announces {http} over HTTP and {udp} over UDP, \
             scrapes {scrapes}; refused {refused}, ignored {ignored}",
            bytes / 1024
        )
    }
}

/// What the program tells the tracker.
#[derive(Debug)]
pub enum Order {
    /// From now on these torrents only.
    Only(Vec<InfoHash>),
    /// To end.
    Quit,
}

/// What the tracker tells the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// SIGUSR1 asked for this.
    Statistics(Statistics),
    /// SIGHUP asks for the list of `--only` to be read again, and the log file to be opened anew.
    Reload,
    /// The last word.
    Ended(Statistics),
}

struct Swarm {
    v4: Peers<V4>,
    /// Most swarms have none.
    v6: Option<Box<Peers<V6>>>,
    completed: u32,
}

impl Swarm {
    fn new() -> Box<Swarm> {
        Box::new(Swarm { v4: Peers::new(), v6: None, completed: 0 })
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    fn counts(&self) -> Counts {
        let of = |v4: usize, v6: Option<usize>| (v4 + v6.unwrap_or(0)) as u32;
        let v6 = self.v6.as_ref();
        Counts {
            seeders: of(self.v4.seeds(), v6.map(|v6| v6.seeds())),
            leechers: of(self.v4.leechers(), v6.map(|v6| v6.leechers())),
            completed: self.completed,
        }
    }
}

/// How many peers each address has, in all swarms: it must not fill the tracker alone. Addresses that fall together
/// share; 65,536 are far above what falls on one by chance.
struct Shares {
    counts: Vec<u32>,
    key: Key,
}

impl Shares {
    /// An IPv4 address, or the part of an IPv6 one that a customer of a provider may have all of.
    fn of(&mut self, address: &[u8]) -> &mut u32 {
        let host = &address[..if address.len() < V6 - 3 { 4 } else { 6 }];
        let at = self.key.hash(host) as usize % self.counts.len();
        &mut self.counts[at]
    }
}

/// Where the sweep goes on.
struct Sweep {
    after: InfoHash,
    v4: Option<usize>,
    v6: Option<usize>,
}

/// The tracker.
pub struct Tracker {
    swarms: BTreeMap<InfoHash, Box<Swarm>>,
    peers: usize,
    shares: Shares,
    /// What may be announced, sorted; None: anything.
    only: Option<Vec<InfoHash>>,
    interval: Duration,
    key: Key,
    rng: Rng,
    connections: Connections,
    /// When the next sweep begins, while there are peers.
    due: Time,
    sweep: Option<Sweep>,
    statistics: Statistics,
    /// What an answer is put together in.
    scratch: Answer,
}

impl Tracker {
    /// A tracker that asks its peers to announce each `interval`; all its chance comes from `seed`.
    pub fn new(interval: Duration, seed: [u8; 32]) -> Tracker {
        let mut rng = Rng::new(seed);
        let mut key = || Key([rng.u64(), rng.u64()]);
        let (key, shares) = (key(), key());
        Tracker {
            swarms: BTreeMap::new(),
            peers: 0,
            shares: Shares { counts: vec![0; limits::TRACKER_SHARES], key: shares },
            only: None,
            interval: interval.clamp(limits::TRACKER_INTERVAL_MIN, limits::TRACKER_INTERVAL_MAX),
            key,
            connections: Connections::new(rng.fork(b"connections")),
            rng,
            due: Time::NEVER,
            sweep: None,
            statistics: Statistics::default(),
            scratch: Answer::default(),
        }
    }

    /// From now on these torrents only. Swarms that are not among them are forgotten.
    pub fn set_only(&mut self, mut only: Vec<InfoHash>) {
        only.sort_unstable();
        only.dedup();
        let gone: Vec<InfoHash> =
            self.swarms.keys().filter(|hash| only.binary_search(hash).is_err()).copied().collect();
        for hash in gone {
            if let Some(swarm) = self.swarms.remove(&hash) {
                self.forget(&swarm);
            }
        }
        self.only = Some(only);
    }

    /// How often peers are asked to announce.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        let heap = |swarm: &Swarm| {
            let v6 = swarm.v6.as_ref().map_or(0, |v6| v6.heap() + size_of::<Peers<V6>>());
            swarm.v4.heap() + v6 + size_of::<Swarm>() + size_of::<(InfoHash, Box<Swarm>)>()
        };
        Statistics {
            swarms: self.swarms.len() as u64,
            peers: self.peers as u64,
            bytes: self.swarms.values().map(|swarm| heap(swarm) as u64).sum(),
            ..self.statistics
        }
    }

    fn stamp(&self, now: Time) -> Stamp {
        let unit = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX) / u64::from(STAMPS);
        Stamp((now.0 / unit.max(1)) as u8)
    }

    fn is_served(&self, hash: &InfoHash) -> bool {
        self.only.as_ref().is_none_or(|only| only.binary_search(hash).is_ok())
    }

    /// Takes note of an announce and gathers its answer, whose lists are filled anew.
    pub fn announce(&mut self, announce: &Announce, now: Time, answer: &mut Answer) -> Result<(), Refusal> {
        answer.counts = Counts::default();
        answer.v4.clear();
        answer.v6.clear();
        if !self.is_served(&announce.info_hash) {
            return Err(Refusal::NotListed);
        }
        let stamp = self.stamp(now);
        if announce.event == Event::Stopped {
            self.leave(announce);
            answer.counts = self.scrape(&announce.info_hash);
            return Ok(());
        }
        let known = self.swarms.contains_key(&announce.info_hash);
        let room = self.peers < limits::TRACKER_PEERS_MAX;
        if !known && (!room || self.swarms.len() >= limits::TRACKER_SWARMS_MAX) {
            return Err(Refusal::Full);
        }
        if self.peers == 0 {
            self.due = now + self.interval / STAMPS;
        }
        let seed = self.rng.u64();
        let swarm = self.swarms.entry(announce.info_hash).or_insert_with(Swarm::new);
        let room = room && swarm.len() < limits::TRACKER_SWARM_MAX;
        let share = match announce.ip {
            IpAddr::V4(ip) => self.shares.of(&ip.octets()),
            IpAddr::V6(ip) => self.shares.of(&ip.octets()),
        };
        let room = room && *share < limits::TRACKER_SHARE_MAX;
        let entered = match announce.ip {
            IpAddr::V4(ip) => {
                let peer = packed(&ip.octets(), announce.port);
                swarm.v4.enter(&peer, announce.seed, stamp, room, self.key)
            }
            IpAddr::V6(ip) => {
                let v6 = swarm.v6.get_or_insert_with(|| Box::new(Peers::new()));
                let peer = packed(&ip.octets(), announce.port);
                v6.enter(&peer, announce.seed, stamp, room, self.key)
            }
        };
        if entered == (Entered::New { instead: false }) {
            self.peers += 1;
            *share += 1;
        }
        // Once: who is not kept would be counted each time that he says so.
        let news = matches!(entered, Entered::New { .. } | Entered::Known { was_seed: false });
        if announce.event == Event::Completed && announce.seed && news {
            swarm.completed = swarm.completed.saturating_add(1);
        }
        answer.counts = swarm.counts();
        draw(swarm, announce, stamp, self.key, Dice(seed), answer);
        if swarm.len() == 0 {
            // A first peer that found no room leaves no swarm behind.
            self.swarms.remove(&announce.info_hash);
        }
        Ok(())
    }

    /// Forgets the peer that says so.
    fn leave(&mut self, announce: &Announce) {
        let Some(swarm) = self.swarms.get_mut(&announce.info_hash) else { return };
        let key = self.key;
        let gone = match announce.ip {
            IpAddr::V4(ip) => {
                let at = swarm.v4.find(&packed(&ip.octets(), announce.port), key);
                at.map(|at| swarm.v4.remove(at, key)).map(|_| self.shares.of(&ip.octets()))
            }
            IpAddr::V6(ip) => {
                let v6 = swarm.v6.as_mut();
                let at = v6.and_then(|v6| {
                    let at = v6.find(&packed(&ip.octets(), announce.port), key)?;
                    Some(v6.remove(at, key))
                });
                at.map(|_| self.shares.of(&ip.octets()))
            }
        };
        if let Some(share) = gone {
            *share -= 1;
            self.peers -= 1;
        }
        if swarm.len() == 0 {
            self.swarms.remove(&announce.info_hash);
        }
    }

    /// What is known of a swarm: nothing but zeros of one that is not there, or not served.
    pub fn scrape(&self, hash: &InfoHash) -> Counts {
        self.swarms.get(hash).map_or(Counts::default(), |swarm| swarm.counts())
    }

    /// When [`Tracker::tick`] is to be called next; None while there is nobody to forget.
    pub fn deadline(&self) -> Option<Time> {
        if self.sweep.is_some() { Some(Time::ZERO) } else { (self.peers > 0).then_some(self.due) }
    }

    /// Forgets who was silent for two intervals, a bounded number of peers at a call. True: all were looked at.
    pub fn tick(&mut self, now: Time) -> bool {
        if self.sweep.is_none() {
            if self.peers == 0 || now < self.due {
                return false;
            }
            self.due = now + self.interval / STAMPS;
            self.sweep = Some(Sweep { after: InfoHash([0; 20]), v4: Some(0), v6: Some(0) });
        }
        let (stamp, mut most) = (self.stamp(now), limits::TRACKER_SWEEP);
        while most > 0 {
            // Each swarm costs as much as a peer, or empty ones were free.
            most -= 1;
            if !self.sweep_swarm(stamp, &mut most) {
                self.sweep = None;
                return true;
            }
        }
        false
    }

    /// Sweeps the swarm that is next, or what is left of it. False: there is none.
    fn sweep_swarm(&mut self, stamp: Stamp, most: &mut usize) -> bool {
        let Some(sweep) = &mut self.sweep else { return false };
        let Some((hash, swarm)) = self.swarms.range_mut(sweep.after..).next() else { return false };
        let hash = *hash;
        if hash != sweep.after {
            *sweep = Sweep { after: hash, v4: Some(0), v6: Some(0) };
        }
        let (key, shares, peers) = (self.key, &mut self.shares, &mut self.peers);
        if let Some(at) = sweep.v4 {
            sweep.v4 = swarm.v4.sweep(at, most, stamp, key, |gone| {
                *shares.of(&gone[..4]) -= 1;
                *peers -= 1;
            });
        }
        if let (Some(at), Some(v6), None) = (sweep.v6, &mut swarm.v6, sweep.v4) {
            sweep.v6 = v6.sweep(at, most, stamp, key, |gone| {
                *shares.of(&gone[..16]) -= 1;
                *peers -= 1;
            });
        } else if sweep.v4.is_none() {
            sweep.v6 = None;
        }
        if sweep.v4.is_none() && sweep.v6.is_none() {
            if swarm.len() == 0 {
                self.swarms.remove(&hash);
            }
            let next = self.swarms.range((Bound::Excluded(hash), Bound::Unbounded)).next();
            let Some((next, _)) = next else { return false };
            *sweep = Sweep { after: *next, v4: Some(0), v6: Some(0) };
        }
        true
    }

    fn forget(&mut self, swarm: &Swarm) {
        let shares = &mut self.shares;
        self.peers -= swarm.len();
        swarm.v4.each(|gone| *shares.of(&gone[..4]) -= 1);
        if let Some(v6) = &swarm.v6 {
            v6.each(|gone| *shares.of(&gone[..16]) -= 1);
        }
    }
}

/// A peer without its time.
fn packed<const N: usize>(ip: &[u8], port: u16) -> [u8; N] {
    let mut peer = [0; N];
    peer[..N - 3].copy_from_slice(ip);
    peer[N - 3..N - 1].copy_from_slice(&port.to_be_bytes());
    peer
}

/// The peers of an answer. A seed has no use for seeds.
fn draw(swarm: &Swarm, announce: &Announce, now: Stamp, key: Key, mut dice: Dice, answer: &mut Answer) {
    let want = announce.numwant.unwrap_or(limits::TRACKER_NUMWANT).min(limits::TRACKER_NUMWANT_MAX) as usize;
    let seeds = !announce.seed;
    let v6 = swarm.v6.as_ref();
    match announce.ip {
        IpAddr::V4(ip) => {
            let me = swarm.v4.find(&packed(&ip.octets(), announce.port), key);
            swarm.v4.draw(want, seeds, me, now, &mut dice, &mut answer.v4);
            let left = want - answer.v4.len() / (V4 - 1);
            if let Some(v6) = v6.filter(|_| announce.both) {
                v6.draw(left, seeds, None, now, &mut dice, &mut answer.v6);
            }
        }
        IpAddr::V6(ip) => {
            if let Some(v6) = v6 {
                let me = v6.find(&packed(&ip.octets(), announce.port), key);
                v6.draw(want, seeds, me, now, &mut dice, &mut answer.v6);
            }
            let left = want - answer.v6.len() / (V6 - 1);
            if announce.both {
                swarm.v4.draw(left, seeds, None, now, &mut dice, &mut answer.v4);
            }
        }
    }
}
