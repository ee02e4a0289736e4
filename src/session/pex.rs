//! Peer exchange (BEP 11): whom each peer is told of, and what becomes of whom it names.
//!
//! Each torrent has one roll of whom it is connected to and who has left; a peer has two numbers in it, up to which it
//! was told. So a thousand connections cost a thousand pairs of numbers, and a message is what lies between them and now.

use super::Session;
use super::download::Checked;
use super::known::Source;
use super::peer::{Peer, Stage};
use crate::api::{PeerId, TorrentId};
use crate::base::time::Time;
use crate::limits::{
    PEX_FIRST, PEX_HEARD, PEX_LEFT_MAX, PEX_MISDEEDS_MAX, PEX_PACE, PEX_REST, PEX_SOON, PEX_TOLD,
};
use crate::proto::compact::canonical;
use crate::proto::extended::Extension;
use crate::proto::extended::pex::{self, Added, ENCRYPTS, Pex, REACHABLE, SEED};
use crate::proto::scope::scope;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Who has left.
struct Leave {
    /// The number of the leave, and that of the join before it.
    number: u64,
    joined: u64,
    addr: SocketAddr,
}

/// The peers of a torrent that others may hear of, in the order in which they came, and those that left.
pub(super) struct Roll {
    /// The number of the last join or leave.
    last: u64,
    here: BTreeMap<u64, (SocketAddr, PeerId)>,
    by_addr: BTreeMap<SocketAddr, u64>,
    left: VecDeque<Leave>,
    /// When somebody may be due to be told.
    due: Time,
    /// Not before.
    rest: Time,
}

/// Up to where a peer was told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Told {
    joins: u64,
    leaves: u64,
}

/// The part of a connection in all this.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Its own number in the roll.
    joined: Option<u64>,
    told: Told,
    /// It is told nothing before.
    next: Time,
    /// When it was heard last.
    heard: Option<Time>,
    /// How often it said what it should not.
    misdeeds: u32,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll {
            last: 0,
            here: BTreeMap::new(),
            by_addr: BTreeMap::new(),
            left: VecDeque::new(),
            due: Time::NEVER,
            rest: Time::ZERO,
        }
    }
}

impl Roll {
    /// Who listens there is connected. None: somebody with that address is there already.
    fn join(&mut self, addr: SocketAddr, peer: PeerId) -> Option<u64> {
        if self.by_addr.contains_key(&addr) {
            return None;
        }
        self.last += 1;
        self.by_addr.insert(addr, self.last);
        self.here.insert(self.last, (addr, peer));
        Some(self.last)
    }

    fn leave(&mut self, joined: u64) {
        let Some((addr, _)) = self.here.remove(&joined) else { return };
        self.by_addr.remove(&addr);
        self.last += 1;
        self.left.push_back(Leave { number: self.last, joined, addr });
        if self.left.len() > PEX_LEFT_MAX {
            self.left.pop_front();
        }
    }

    fn wake(&mut self, at: Time) {
        self.due = self.due.min(at.max(self.rest));
    }

    fn is_news(&self, told: Told) -> bool {
        told.joins < self.last || told.leaves < self.last
    }

    /// Who has joined and who has left since `told`, which moves on, each [`PEX_TOLD`] at most. Who came and went in
    /// between is not named, and nobody twice. Of the addresses that are not `fit` none is.
    fn news(
        &self,
        told: &mut Told,
        fit: impl Fn(SocketAddr) -> bool,
    ) -> (Vec<(SocketAddr, PeerId)>, Vec<SocketAddr>) {
        let (mut added, mut joins) = (Vec::new(), self.last);
        for (number, (addr, peer)) in self.here.range(told.joins + 1..).filter(|(_, (addr, _))| fit(*addr)) {
            added.push((*addr, *peer));
            if added.len() == PEX_TOLD {
                joins = *number;
                break;
            }
        }
        let (mut dropped, mut leaves) = (Vec::new(), self.last);
        let first = self.left.partition_point(|leave| leave.number <= told.leaves);
        let known = |leave: &&Leave| leave.joined <= told.joins && fit(leave.addr);
        for leave in self.left.range(first..).filter(known) {
            match self.by_addr.get(&leave.addr) {
                // It is back, and to who was told of it before nothing has changed.
                Some(number) if *number <= joins => added.retain(|(addr, _)| *addr != leave.addr),
                _ if dropped.contains(&leave.addr) => {}
                _ => dropped.push(leave.addr),
            }
            if dropped.len() == PEX_TOLD {
                leaves = leave.number;
                // Who joined comes after: what the leaves that are left mean hangs on who was told of then.
                (joins, added) = (told.joins, Vec::new());
                break;
            }
        }
        *told = Told { joins, leaves };
        (added, dropped)
    }
}

/// What is known of a peer, for others.
fn flags(p: &Peer) -> u8 {
    let seed = p.is_seed() || p.spoken.upload_only;
    let bit = |is: bool, flag: u8| if is { flag } else { 0 };
    bit(seed, SEED) | bit(p.outgoing, REACHABLE) | bit(p.spoken.encrypts, ENCRYPTS)
}

/// Whether somebody at `to` can make use of an address: nobody elsewhere knows what is in our house or machine, and
/// addresses of one wire mean nothing on another. By the same rule it is believed what somebody there says.
fn suits(addr: SocketAddr, to: IpAddr) -> bool {
    let link = match addr.ip() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link && scope(addr.ip()) <= scope(to)
}

impl Session {
    /// Where this peer listens is known, since we dialled it or it says so: the others hear of it.
    pub(super) fn join_roll(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer).filter(|p| p.stage == Stage::Open) else { return };
        let Some(id) = p.torrent else { return };
        let port = if p.outgoing { Some(p.addr.port()) } else { p.spoken.port };
        let Some(addr) = port.map(|port| canonical(SocketAddr::new(p.addr.ip(), port))) else { return };
        let Some(t) = self.torrents.get_mut(id) else { return };
        let listed = p.pex.joined.and_then(|number| t.roll.here.get(&number)).map(|(addr, _)| *addr);
        if listed == Some(addr) {
            return;
        }
        if let Some(old) = p.pex.joined.take() {
            t.roll.leave(old);
        }
        p.pex.joined = t.roll.join(addr, peer);
        t.roll.wake(now + PEX_PACE);
        self.arm_pex(id);
    }

    /// A connection is gone.
    pub(super) fn leave_roll(&mut self, id: TorrentId, part: &Part, now: Time) {
        let (Some(t), Some(number)) = (self.torrents.get_mut(id), part.joined) else { return };
        t.roll.leave(number);
        t.roll.wake(now + PEX_PACE);
        self.arm_pex(id);
    }

    /// A handshake of extensions came: it may be told of the others soon.
    pub(super) fn begin_pex(&mut self, peer: PeerId, now: Time) {
        self.join_roll(peer, now);
        let Some(p) = self.peers.get(peer).filter(|p| p.spoken.takes(Extension::Pex)) else { return };
        let Some(id) = p.torrent else { return };
        if let Some(t) = self.torrents.get_mut(id) {
            t.roll.wake(now + PEX_FIRST);
            self.arm_pex(id);
        }
    }

    fn arm_pex(&mut self, id: TorrentId) {
        if self.offers(id, Extension::Pex)
            && let Some(due) = self.torrents.get(id).map(|t| t.roll.due)
        {
            self.arm_torrent(id, due);
        }
    }

    /// Tells the peers that are due what they have not heard; when to come again.
    pub(super) fn pex_due(&mut self, id: TorrentId, now: Time) -> Time {
        if !self.offers(id, Extension::Pex) {
            return Time::NEVER;
        }
        let Some(t) = self.torrents.get_mut(id) else { return Time::NEVER };
        if t.roll.due > now {
            return t.roll.due;
        }
        let mut next = Time::NEVER;
        for peer in t.peers.clone() {
            if let Some(at) = self.tell_peers(id, peer, now) {
                next = next.min(at);
            }
        }
        let Some(t) = self.torrents.get_mut(id) else { return Time::NEVER };
        t.roll.rest = now + PEX_PACE;
        t.roll.due = if next == Time::NEVER { next } else { next.max(t.roll.rest) };
        t.roll.due
    }

    /// Tells one peer of the others if it is due; when it is, should there be something that it has not heard.
    fn tell_peers(&mut self, id: TorrentId, peer: PeerId, now: Time) -> Option<Time> {
        let t = self.torrents.get(id)?;
        let p = self.peers.get(peer).filter(|p| p.spoken.takes(Extension::Pex))?;
        if !t.roll.is_news(p.pex.told) {
            return None;
        }
        if p.pex.next > now {
            return Some(p.pex.next);
        }
        let (to, itself, mut told) = (p.addr.ip(), p.pex.joined, p.pex.told);
        let itself = itself.and_then(|number| t.roll.here.get(&number)).map(|(addr, _)| *addr);
        let (added, dropped) = t.roll.news(&mut told, |addr| suits(addr, to) && Some(addr) != itself);
        let flags = |of: PeerId| self.peers.get(of).map_or(0, flags);
        let added: Vec<Added> =
            added.into_iter().map(|(addr, of)| Added { addr, flags: flags(of) }).collect();
        let more = t.roll.is_news(told);
        let p = self.peers.get_mut(peer)?;
        p.pex.told = told;
        if !added.is_empty() || !dropped.is_empty() {
            p.pex.next = now + PEX_REST;
            self.send_extended(peer, Extension::Pex, pex::encode(&added, &dropped), now);
        }
        more.then_some(now + PEX_REST)
    }

    /// A peer names others.
    pub(super) fn on_pex(&mut self, peer: PeerId, body: &[u8], now: Time) -> Checked {
        let Some(p) = self.peers.get_mut(peer).filter(|p| p.pex.misdeeds < PEX_MISDEEDS_MAX) else {
            return Ok(());
        };
        let (Some(id), by) = (p.torrent, p.addr.ip()) else { return Ok(()) };
        let soon = p.pex.heard.is_some_and(|heard| now.since(heard) < PEX_SOON);
        let heard = match Pex::decode(body) {
            Ok(pex) if !soon => pex,
            wrong => {
                p.pex.misdeeds += 1;
                log::debug!(
                    "{peer} {} is passed over, for it says too much of peers or nonsense: {:?}",
                    p.addr,
                    wrong.err()
                );
                return Ok(());
            }
        };
        p.pex.heard = Some(now);
        let Some(t) = self.torrents.get_mut(id) else { return Ok(()) };
        let seeding = !t.hungry();
        let mut new = 0;
        for one in heard.added().take(PEX_HEARD) {
            let ours = one.addr.port() == self.config.port && self.own.known().any(|ip| ip == one.addr.ip());
            if suits(one.addr, by) && !ours && !(seeding && one.flags & SEED != 0) {
                new += u32::from(t.known.add(one.addr, Source::Pex, now));
            }
        }
        log::debug!("{id} {peer} names {new} peers that are new");
        self.join_callers(id, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;
    use crate::base::rng::Rng;
    use std::collections::BTreeSet;

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0900_0000 + n).into()), 6881)
    }

    fn who(n: u32) -> PeerId {
        PeerId::from_bits(n)
    }

    #[test]
    fn whatever_comes_and_goes_a_peer_ends_up_with_who_is_there() {
        for seed in 0..20 {
            let mut rng = Rng::new([seed; 32]);
            let (mut roll, mut told, mut numbers) = (Roll::default(), Told::default(), BTreeMap::new());
            let mut believed = BTreeSet::new();
            let mut hear = |roll: &Roll, told: &mut Told| {
                let (added, dropped) = roll.news(told, |_| true);
                let names: BTreeSet<_> = added.iter().map(|(addr, _)| *addr).collect();
                assert!(added.len() <= PEX_TOLD && dropped.len() <= PEX_TOLD && names.len() == added.len());
                assert!(dropped.iter().all(|addr| !names.contains(addr)), "in one message");
                dropped.iter().for_each(|addr| assert!(believed.remove(addr), "{addr} was not there"));
                believed.extend(names);
                believed.clone()
            };
            for _ in 0..3000 {
                let n = rng.below(200);
                match numbers.remove(&n) {
                    Some(number) => roll.leave(number),
                    None => drop(numbers.insert(n, roll.join(addr(n), who(n)).unwrap())),
                }
                // Rarely enough that there is more than fits, often enough that no leave is forgotten.
                if rng.below(30) == 0 {
                    hear(&roll, &mut told);
                }
            }
            while roll.is_news(told) {
                hear(&roll, &mut told);
            }
            let there: BTreeSet<_> = numbers.keys().map(|n| addr(*n)).collect();
            assert_eq!(hear(&roll, &mut told), there);
        }
    }

    #[test]
    fn a_passing_peer_is_not_named_and_one_that_came_back_not_again() {
        let (mut roll, mut told) = (Roll::default(), Told::default());
        let first = roll.join(addr(1), who(1)).unwrap();
        assert_eq!(roll.join(addr(1), who(2)), None, "two connections with one address");
        assert_eq!(roll.news(&mut told, |_| true).0, [(addr(1), who(1))]);
        let passing = roll.join(addr(2), who(2)).unwrap();
        roll.leave(passing);
        roll.leave(first);
        roll.join(addr(1), who(3));
        assert!(roll.is_news(told));
        assert_eq!(roll.news(&mut told, |_| true), (vec![], vec![]));
        assert!(!roll.is_news(told));
    }

    #[test]
    fn a_message_has_fifty_at_most_and_the_roll_its_bound() {
        let (mut roll, mut told) = (Roll::default(), Told::default());
        let numbers: Vec<u64> = (0..120).map(|n| roll.join(addr(n), who(n)).unwrap()).collect();
        let sizes: Vec<usize> = (0..4).map(|_| roll.news(&mut told, |_| true).0.len()).collect();
        assert_eq!((sizes, roll.is_news(told)), (vec![50, 50, 20, 0], false));
        numbers.into_iter().for_each(|number| roll.leave(number));
        let sizes: Vec<usize> = (0..4).map(|_| roll.news(&mut told, |_| true).1.len()).collect();
        assert_eq!(sizes, [50, 50, 20, 0]);
        for n in 0..3 * PEX_LEFT_MAX as u32 {
            let number = roll.join(addr(n), who(n)).unwrap();
            roll.leave(number);
        }
        assert_eq!((roll.left.len(), roll.here.len(), roll.by_addr.len()), (PEX_LEFT_MAX, 0, 0));
    }

    #[test]
    fn what_somebody_cannot_use_is_not_named_to_it() {
        let fits = |addr: &str, to: &str| suits(addr.parse().unwrap(), to.parse().unwrap());
        assert!(
            fits("9.9.9.9:1", "8.8.8.8")
                && fits("9.9.9.9:1", "192.168.0.1")
                && fits("10.0.0.1:1", "10.0.0.2")
        );
        assert!(!fits("10.0.0.1:1", "8.8.8.8") && !fits("127.0.0.1:1", "10.0.0.1"));
        assert!(fits("127.0.0.1:1", "127.0.0.1") && !fits("[fe80::1]:1", "fe80::2"));
        assert!(!fits("169.254.1.1:1", "169.254.1.2"));
    }
}
