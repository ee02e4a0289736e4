//! Super-seeding (BEP 16): a seed that says it has nothing, and shows each peer one piece at a time, the next one when
//! another peer has announced that piece. So the first copy goes out about once. It ends when the swarm has seeds.

use super::Session;
use super::peer::Peer;
use super::torrent::Torrent;
use crate::api::{PeerId, TorrentId};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::{SUPER_PATIENCE, SUPER_REVEAL, SUPER_SEEDS, SUPER_WALK};
use crate::proto::wire::message::Message;
use std::net::IpAddr;

/// What a peer was shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    /// The last piece.
    piece: Option<u32>,
    /// It has lost interest, so it has that one; many do not say so to who has it.
    got: bool,
    /// Bytes that it had got from us when that one was shown.
    uploaded: u64,
    /// When it had that one, though no other did.
    alone: Option<Time>,
    /// Once super-seeding is over: pieces before this one are all announced.
    told: u32,
}

impl Offer {
    /// Whether the peer was told that we have this piece.
    pub(super) fn shows(&self, piece: u32) -> bool {
        self.piece == Some(piece) || piece < self.told
    }

    /// The peer lost interest when it had got so many bytes from us. Tells whether that means that it has the piece:
    /// interest that comes and goes without payload means nothing.
    pub(super) fn on_not_interested(&mut self, uploaded: u64) -> bool {
        uploaded > self.uploaded && !std::mem::replace(&mut self.got, true)
    }
}

/// A torrent that super-seeds.
#[derive(Debug)]
pub(super) struct SuperSeed {
    /// For each piece, how many peers have it or are shown it.
    spread: Vec<u32>,
    /// Seeds besides us that were met.
    seeds: Vec<IpAddr>,
}

impl SuperSeed {
    fn over(&self) -> bool {
        self.seeds.len() >= SUPER_SEEDS
    }

    fn count(&mut self, has: &Bitfield, offer: Option<Offer>, joined: bool) {
        let shown = offer.and_then(|offer| offer.piece);
        for piece in has.iter().filter(|piece| Some(*piece) != shown) {
            self.step(piece, joined);
        }
    }

    fn step(&mut self, piece: u32, up: bool) {
        if let Some(count) = self.spread.get_mut(piece as usize) {
            *count = if up { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    }

    pub(super) fn on_have(&mut self, piece: u32, offer: Option<Offer>) {
        if offer.and_then(|offer| offer.piece) != Some(piece) {
            self.step(piece, true);
        }
    }

    pub(super) fn on_dont_have(&mut self, piece: u32, offer: Option<Offer>) {
        if offer.and_then(|offer| offer.piece) != Some(piece) {
            self.step(piece, false);
        }
    }

    pub(super) fn on_bitfield(&mut self, old: &Bitfield, new: &Bitfield, offer: Option<Offer>) {
        self.count(old, offer, false);
        self.count(new, offer, true);
    }

    pub(super) fn on_left(&mut self, p: &Peer) {
        self.count(&p.has, p.offer, false);
        if let Some(piece) = p.offer.and_then(|offer| offer.piece) {
            self.step(piece, false);
        }
    }

    /// The piece that the fewest have or are shown, of the first [`SUPER_WALK`] from `from` on that we have and this peer
    /// lacks, and from the start again. `from` breaks ties.
    fn rarest(&self, have: &Bitfield, has: &Bitfield, from: u32) -> Option<u32> {
        let mut best = None;
        let (mut next, mut turned) = (from, false);
        for _ in 0..SUPER_WALK {
            let Some(piece) = have.next_not_in(has, next).filter(|piece| !turned || *piece < from) else {
                if turned {
                    break;
                }
                (next, turned) = (0, true);
                continue;
            };
            let spread = self.spread.get(piece as usize).copied().unwrap_or(0);
            if best.is_none_or(|(least, _)| spread < least) {
                best = Some((spread, piece));
            }
            if spread == 0 {
                break;
            }
            next = piece + 1;
        }
        best.map(|(_, piece)| piece)
    }
}

impl Torrent {
    fn super_seeds(&self) -> bool {
        self.super_seed.as_ref().is_some_and(|s| !s.over())
    }
}

impl Session {
    /// It is complete: if it is to super-seed, it does from now on. Peers that know what we have go on as before.
    pub(super) fn begin_super_seed(&mut self, torrent: TorrentId) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let have = t.picker.have();
        if !t.spec.super_seed || !have.all() || have.is_empty() {
            return;
        }
        let mut shown = SuperSeed { spread: vec![0; have.len() as usize], seeds: Vec::new() };
        for p in t.peers.iter().filter_map(|peer| self.peers.get(*peer)) {
            shown.count(&p.has, None, true);
        }
        t.super_seed = Some(shown);
    }

    /// Whether this new peer is not to hear what we have.
    pub(super) fn hide_pieces(&mut self, torrent: TorrentId, peer: PeerId) -> bool {
        let hidden = self.torrents.get(torrent).is_some_and(Torrent::super_seeds);
        if let Some(p) = self.peers.get_mut(peer) {
            p.offer = hidden.then(Offer::default);
        }
        hidden
    }

    /// Shows a peer the next piece.
    pub(super) fn show_next(&mut self, torrent: TorrentId, peer: PeerId, now: Time) {
        let (Some(t), Some(p)) = (self.torrents.get_mut(torrent), self.peers.get_mut(peer)) else { return };
        let (Some(shown), Some(offer)) = (&mut t.super_seed, &mut p.offer) else { return };
        let from = self.rng.below(shown.spread.len() as u32);
        (offer.got, offer.alone, offer.uploaded) = (false, None, p.uploaded);
        if let Some(piece) = shown.rarest(t.picker.have(), &p.has, from) {
            offer.piece = Some(piece);
            shown.step(piece, true);
            self.send(peer, Message::Have(piece), now);
        }
    }

    /// A peer told what it has: `piece`, or all of it.
    pub(super) fn after_super_seed(&mut self, peer: PeerId, piece: Option<u32>, now: Time) {
        let Some(p) = self.peers.get(peer) else { return };
        let (Some(torrent), ip, seed) = (p.torrent, p.addr.ip(), p.is_seed()) else { return };
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let Some(shown) = &mut t.super_seed else { return };
        let was_over = shown.over();
        if seed && !was_over && !shown.seeds.contains(&ip) {
            shown.seeds.push(ip);
        }
        if !shown.over() {
            return self.pass_on(torrent, piece, now);
        }
        let peers = if was_over { vec![peer] } else { t.peers.clone() };
        for peer in peers {
            self.reveal(peer, now);
        }
    }

    /// Peers whose piece has spread are shown another one.
    fn pass_on(&mut self, torrent: TorrentId, piece: Option<u32>, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for peer in t.peers.clone() {
            let shown = self.peers.get(peer).and_then(|p| p.offer?.piece);
            if piece.is_none_or(|piece| shown == Some(piece)) {
                self.pass_on_to(torrent, peer, now);
            }
        }
    }

    /// A peer is shown another piece if its last one has spread.
    fn pass_on_to(&mut self, torrent: TorrentId, peer: PeerId, now: Time) {
        let (Some(t), Some(p)) = (self.torrents.get(torrent), self.peers.get(peer)) else { return };
        let Some((offer, shown)) = p.offer.and_then(|offer| Some((offer, offer.piece?))) else { return };
        let got = offer.got || p.has.get(shown);
        let others = |other: &PeerId| {
            *other != peer && self.peers.get(*other).is_some_and(|other| other.has.get(shown))
        };
        if t.peers.len() == 1 && got || t.peers.iter().any(others) {
            self.show_next(torrent, peer, now);
        } else if got && let Some(offer) = self.peers.get_mut(peer).and_then(|p| p.offer.as_mut()) {
            offer.alone.get_or_insert(now);
            self.arm_torrent(torrent, now + SUPER_PATIENCE);
        }
    }

    /// The peer that was shown a piece has lost interest.
    pub(super) fn after_lost_interest(&mut self, torrent: TorrentId, peer: PeerId, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        if t.super_seeds() {
            self.pass_on_to(torrent, peer, now);
        } else if t.super_seed.is_some() {
            self.reveal(peer, now);
        }
    }

    /// Shows another piece to peers whose last one nobody else announces; tells when to look again.
    pub(super) fn super_seed_due(&mut self, torrent: TorrentId, now: Time) -> Time {
        let Some(t) = self.torrents.get(torrent).filter(|t| t.running() && t.super_seeds()) else {
            return Time::NEVER;
        };
        let mut next = Time::NEVER;
        for peer in t.peers.clone() {
            let alone = self.peers.get(peer).and_then(|p| p.offer).and_then(|offer| offer.alone);
            let due = alone.map_or(Time::NEVER, |since| since + SUPER_PATIENCE);
            if due <= now {
                self.show_next(torrent, peer, now);
            } else {
                next = next.min(due);
            }
        }
        next
    }

    /// Super-seeding is over: the peer hears of what it was not shown, in portions, the next one when it has got
    /// something.
    fn reveal(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        let Some(offer) = &mut p.offer else { return };
        let (from, pieces) = (offer.told, p.has.len());
        let until = pieces.min(from.saturating_add(SUPER_REVEAL));
        offer.told = until;
        let shown = offer.piece;
        if until == pieces {
            p.offer = None;
        }
        let Some(have) = p.torrent.and_then(|t| self.torrents.get(t)).map(|t| t.picker.have()) else {
            return;
        };
        let news = |n: &u32| have.get(*n) && !p.has.get(*n) && Some(*n) != shown;
        let lacks: Vec<u32> = (from..until).filter(news).collect();
        for piece in lacks {
            self.send(peer, Message::Have(piece), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_piece_that_is_least_spread_is_shown() {
        let mut s = SuperSeed { spread: vec![0; 4], seeds: vec![] };
        let mut has = Bitfield::new(4);
        let all = Bitfield::full(4);
        assert_eq!(s.rarest(&all, &has, 2), Some(2), "ties are broken by chance");
        let mut some = Bitfield::full(4);
        some.clear(2);
        assert_eq!(s.rarest(&some, &has, 2), Some(3), "what is lost is not shown");
        s.step(2, true);
        has.set(3);
        s.count(&has, None, true);
        assert_eq!((s.spread.clone(), s.rarest(&all, &has, 2)), (vec![0, 0, 1, 1], Some(0)));
        s.count(&Bitfield::full(4), Some(Offer { piece: Some(2), ..Offer::default() }), true);
        assert_eq!(s.spread, [1, 1, 1, 2], "a piece that is shown is counted already");
        assert_eq!(s.rarest(&all, &all, 0), None);
    }
}
