//! Who has the places of the connection table. They are shared evenly among the torrents that have a use for them: what
//! one leaves over is for the others, and is given back when it is wanted. A torrent with fewer places than another one,
//! by two at least, takes one of it, the least useful one; so the two come nearer to each other each time and never
//! change sides.
//!
//! Who came in and has not said which torrent it wants has no right to a place: the oldest of them makes way for whoever
//! comes next. A few places are kept for them, or a full table could not find out that somebody asks for a torrent
//! without peers.

use super::Session;
use super::peer::{Peer, Stage};
use crate::api::{PeerId, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::{CLAIMS_OUT, DOOR_SHARE, REPLACE_AFTER, STRANGER_REST};
use std::cmp::Reverse;

impl Session {
    pub(super) fn on_incoming(&mut self, from: std::net::SocketAddr, now: Time) -> Option<PeerId> {
        if self.stopping.is_some() || !self.torrents.iter().any(|(_, t)| t.swarming()) {
            return None;
        }
        if self.peers.len() >= self.config.max_conn {
            let worst = self.strangers.front().copied().or_else(|| self.worst_idle(now))?;
            self.close(worst, Why::Replaced, now);
        }
        let peer = self.peers.insert(Peer::new(from, false, None, now))?;
        self.strangers.push_back(peer);
        log::debug!("{peer} {from} came in");
        self.arm_peer(peer, now + crate::limits::HANDSHAKE_TIMEOUT);
        Some(peer)
    }

    /// Places that nobody has who has said nothing. With one torrent there is nothing to be found out.
    fn door(&self) -> usize {
        if self.torrents.len() > 1 { self.config.max_conn / DOOR_SHARE } else { 0 }
    }

    /// Whether all places are taken by peers of torrents.
    fn is_full(&self) -> bool {
        self.peers.len() - self.strangers.len() + self.door() >= self.config.max_conn
    }

    /// Whether there is a place for a connection that we make.
    pub(super) fn has_place(&mut self, now: Time) -> bool {
        if self.is_full() {
            return false;
        }
        if self.peers.len() < self.config.max_conn {
            return true;
        }
        let oldest = self.strangers.front().copied();
        let rested =
            |peer: &PeerId| self.peers.get(*peer).is_some_and(|p| now.since(p.since) >= STRANGER_REST);
        let Some(peer) = oldest.filter(rested) else { return false };
        self.close(peer, Why::Replaced, now);
        true
    }

    /// When the table is full and the swarm of a download offers somebody new, another one makes room.
    pub(super) fn make_room(&mut self, torrent: TorrentId, now: Time) {
        let wants = self.torrents.get(torrent).is_some_and(|t| {
            let calls = t.places.saturating_sub(t.peers.len());
            t.hungry() && calls < CLAIMS_OUT && t.known.deadline().is_some_and(|due| due <= now)
        });
        if wants && self.is_full() {
            self.free_place(torrent, now);
        }
    }

    /// Whether a peer that came in and wants this torrent has a place. Another one may have to go for it.
    pub(super) fn admit(&mut self, torrent: TorrentId, now: Time) -> bool {
        // It is one of the strangers itself.
        !self.is_full() || self.free_place(torrent, now)
    }

    fn free_place(&mut self, torrent: TorrentId, now: Time) -> bool {
        let victim = self.worst_idle(now).or_else(|| self.due_to(torrent, now));
        victim.inspect(|peer| self.close(*peer, Why::Replaced, now)).is_some()
    }

    /// The peer that is of least use: nothing moves either way, neither side wants anything, and that for a while.
    fn worst_idle(&self, now: Time) -> Option<PeerId> {
        let idle = self.peers.iter().filter(|(_, p)| {
            let quiet = now.since(p.active.max(p.since)) >= REPLACE_AFTER;
            p.stage == Stage::Open
                && quiet
                && is_useless(p)
                && p.incoming.is_none()
                && p.reading + p.sending == 0
        });
        idle.min_by_key(|(_, p)| (p.downloaded + p.uploaded, self.priority(p))).map(|(peer, _)| peer)
    }

    /// How much a connection is to be there rather than another of its torrent, all else being equal (BEP 40).
    fn priority(&self, p: &Peer) -> u32 {
        p.torrent.and_then(|id| self.torrents.get(id)).map_or(0, |t| t.known.priority(p.addr))
    }

    /// The peer that makes way for one of this torrent: the least useful one of the torrent with the most places, if
    /// that has more than its share.
    fn due_to(&self, torrent: TorrentId, now: Time) -> Option<PeerId> {
        let places = self.torrents.get(torrent)?.places;
        let (richest, t) = self.torrents.iter().max_by_key(|(_, t)| t.places)?;
        if t.places < places + 2 {
            return None;
        }
        let theirs = self.peers.iter().filter(|(_, p)| p.torrent == Some(richest));
        let worth = |p: &Peer| {
            let rate = p.down.per_second(20, now) + p.up.per_second(20, now);
            (p.stage == Stage::Open, !is_useless(p), rate, t.known.priority(p.addr), Reverse(p.since))
        };
        theirs.min_by_key(|(_, p)| worth(p)).map(|(peer, _)| peer)
    }
}

/// Neither side wants anything of the other, or will get it.
fn is_useless(p: &Peer) -> bool {
    p.interesting == 0 && !p.interested || p.snubbed && p.uploaded == 0
}
