//! Local service discovery (BEP 14): when which torrent is announced to the neighbours, and what theirs mean. There
//! is no answer to an announce but a call: who hears that somebody has the same torrent dials.
//!
//! Private torrents never come near it (BEP 27).

use super::known::Source;
use super::{Key, Session};
use crate::api::{Action, TorrentId};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{LSD_ALONE, LSD_HASHES_OUT, LSD_HEARD, LSD_INTERVAL, LSD_REST, LSD_SETTLE};
use crate::proto::id::InfoHash;
use crate::proto::lsd::{self, Announce};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Who is to be announced.
pub(super) struct Lsd {
    /// By this we know our own announces.
    cookie: String,
    /// Torrents that were never announced.
    fresh: VecDeque<TorrentId>,
    /// The others, by the moment when they are due again.
    round: VecDeque<(Time, TorrentId)>,
    /// Nothing is said before.
    rest: Time,
    /// For [`super::timers`].
    armed: Time,
    /// How many datagrams were heard, and since when that is counted.
    heard: (u32, Time),
}

impl Lsd {
    pub(super) fn new(rng: &mut Rng) -> Lsd {
        Lsd {
            cookie: format!("pT{:08x}", rng.u32()),
            fresh: VecDeque::new(),
            round: VecDeque::new(),
            rest: Time::ZERO,
            armed: Time::NEVER,
            heard: (0, Time::ZERO),
        }
    }

    fn join(&mut self, id: TorrentId, now: Time) {
        self.leave(id);
        if self.fresh.is_empty() {
            self.rest = self.rest.max(now + LSD_SETTLE);
        }
        self.fresh.push_back(id);
    }

    fn leave(&mut self, id: TorrentId) {
        self.fresh.retain(|other| *other != id);
        self.round.retain(|(_, other)| *other != id);
    }

    /// When something is to be said.
    fn due(&self) -> Time {
        let due =
            if self.fresh.is_empty() { self.round.front().map(|(due, _)| *due) } else { Some(Time::ZERO) };
        due.map_or(Time::NEVER, |due| due.max(self.rest))
    }

    /// The torrents of the next announce, if one is due. New ones go together, so that none waits; later each goes
    /// alone while they are few, as old programs read but one. Of many, so many go together that all have their turn
    /// in time, or as soon as the room of a datagram allows.
    fn next(&mut self, now: Time) -> Vec<TorrentId> {
        if self.due() > now {
            return Vec::new();
        }
        let few = (self.fresh.len() + self.round.len()).div_ceil(LSD_ALONE);
        let (mut named, most) = match self.fresh.len() {
            0 => (Vec::new(), few.min(LSD_HASHES_OUT)),
            fresh => (self.fresh.drain(..fresh.min(LSD_HASHES_OUT)).collect(), 0),
        };
        while named.len() < most
            && let Some((due, id)) = self.round.front().copied()
            && due <= now
        {
            self.round.pop_front();
            named.push(id);
        }
        self.rest = now + LSD_REST;
        self.round.extend(named.iter().map(|id| (now + LSD_INTERVAL, *id)));
        named
    }

    /// Whether there is time for one more datagram.
    fn hear(&mut self, now: Time) -> bool {
        if now.since(self.heard.1) >= std::time::Duration::from_secs(1) {
            self.heard = (0, now);
        }
        self.heard.0 = self.heard.0.saturating_add(1);
        self.heard.0 <= LSD_HEARD
    }
}

impl Session {
    /// A torrent runs: the neighbours hear of it.
    pub(super) fn join_lsd(&mut self, id: TorrentId, now: Time) {
        let public = self.torrents.get(id).is_some_and(|t| t.swarming() && !t.spec.meta.private);
        if let Some(lsd) = self.lsd.as_mut().filter(|_| public) {
            lsd.join(id, now);
            self.arm_lsd();
        }
    }

    /// It stops.
    pub(super) fn leave_lsd(&mut self, id: TorrentId) {
        if let Some(lsd) = self.lsd.as_mut() {
            lsd.leave(id);
        }
    }

    fn arm_lsd(&mut self) {
        if let Some(lsd) = self.lsd.as_mut() {
            let due = lsd.due();
            self.timers.arm(&mut lsd.armed, due, Key::Lsd);
        }
    }

    pub(super) fn on_lsd_timer(&mut self, now: Time) {
        let Some(lsd) = self.lsd.as_mut() else { return };
        lsd.armed = Time::NEVER;
        if self.stopping.is_some() {
            return;
        }
        let named = lsd.next(now);
        let hashes = |id: TorrentId| {
            self.torrents.get(id).filter(|t| !t.spec.meta.private).map(|t| t.spec.meta.info_hash)
        };
        let hashes: Vec<InfoHash> = named.into_iter().filter_map(hashes).collect();
        if !hashes.is_empty() {
            log::debug!("announcing {} torrents on the local network", hashes.len());
            for v6 in [false, true] {
                let data = lsd::encode(v6, self.config.port, &lsd.cookie, hashes.iter().copied());
                self.actions.push_back(Action::Lsd { v6, data: data.into_boxed_slice() });
            }
        }
        self.arm_lsd();
    }

    /// Something came to the group of local service discovery.
    pub(super) fn on_lsd(&mut self, from: SocketAddr, data: &[u8], now: Time) {
        let Some(lsd) = self.lsd.as_mut().filter(|_| self.stopping.is_none()) else { return };
        if !lsd.hear(now) {
            return;
        }
        match lsd::decode(data) {
            Ok(announce) if announce.cookie == Some(lsd.cookie.as_bytes()) => {}
            Ok(announce) => self.on_neighbour(from, &announce, now),
            Err(error) => log::trace!("{from} sent no announce to the local network: {error}"),
        }
    }

    fn on_neighbour(&mut self, mut from: SocketAddr, announce: &Announce<'_>, now: Time) {
        from.set_port(announce.port);
        for info_hash in announce.torrents() {
            let Some(id) = self.by_hash.get(&info_hash).copied() else { continue };
            let Some(t) = self.torrents.get_mut(id).filter(|t| t.swarming() && !t.spec.meta.private) else {
                continue;
            };
            if t.known.add(from, Source::Local, now) {
                log::debug!("{id} {from} is on the local network");
            }
            self.join_callers(id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;
    use std::collections::BTreeMap;

    fn lsd(torrents: u32) -> Lsd {
        let mut lsd = Lsd::new(&mut Rng::new([1; 32]));
        (0..torrents).for_each(|n| lsd.join(TorrentId::from_bits(n), Time::ZERO));
        lsd
    }

    /// What is announced in an hour: the moments, and how often each torrent.
    fn hour(lsd: &mut Lsd) -> (Vec<(u64, usize)>, BTreeMap<TorrentId, usize>) {
        let (mut said, mut each) = (Vec::new(), BTreeMap::new());
        while lsd.due() <= Time::ZERO + 12 * LSD_INTERVAL {
            let now = lsd.due();
            let named = lsd.next(now);
            said.push((now.secs(), named.len()));
            named.into_iter().for_each(|id| *each.entry(id).or_default() += 1);
        }
        (said, each)
    }

    #[test]
    fn one_torrent_is_announced_each_five_minutes() {
        let (said, _) = hour(&mut lsd(1));
        assert_eq!(said, (0..12).map(|n| (1 + 300 * n, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn however_many_there_are_one_datagram_a_minute_is_all() {
        for (torrents, most) in [(0, 0), (1, 1), (3, 3), (5, 5), (6, 6), (100, 24), (1000, 24)] {
            let (said, each) = hour(&mut lsd(torrents));
            assert!(said.windows(2).all(|w| w[1].0 - w[0].0 >= LSD_REST.as_secs()), "{said:?}");
            assert!(said.iter().all(|(_, named)| (1..=most.max(1)).contains(named)), "{torrents}: {said:?}");
            assert_eq!(each.len() as u32, torrents);
            let (least, most) = (each.values().min().unwrap_or(&0), each.values().max().unwrap_or(&0));
            assert!(most - least <= 1 && *most <= 12, "{torrents} torrents: {least} to {most} times");
            // As many as there is room for in five datagrams have their turn in time.
            assert!(torrents == 0 || torrents > 5 * 24 || *least >= 10, "{torrents}: {least}");
            let later = said.iter().filter(|(at, _)| *at > 120);
            assert!(torrents > 5 || later.clone().all(|(_, named)| *named == 1), "{said:?}");
        }
    }

    #[test]
    fn who_comes_later_waits_its_minute_and_who_leaves_is_not_named() {
        let mut lsd = lsd(2);
        assert_eq!(lsd.next(lsd.due()).len(), 2);
        let start = Time::ZERO + LSD_SETTLE;
        lsd.join(TorrentId::from_bits(7), start);
        assert_eq!((lsd.due(), lsd.next(start)), (start + LSD_REST, vec![]));
        assert_eq!(lsd.next(start + LSD_REST), [TorrentId::from_bits(7)]);
        for n in [0, 1, 7] {
            lsd.leave(TorrentId::from_bits(n));
        }
        assert_eq!(lsd.due(), Time::NEVER);
    }

    #[test]
    fn a_flood_is_heard_in_part() {
        let mut lsd = lsd(1);
        let heard = |lsd: &mut Lsd, now| (0..1000).filter(|_| lsd.hear(now)).count();
        assert_eq!(heard(&mut lsd, Time(5_000_000)), LSD_HEARD as usize);
        assert_eq!(heard(&mut lsd, Time(6_000_000)), LSD_HEARD as usize);
    }
}
