//! Who has the places of the connection table. They are shared evenly among the torrents that have a use for them: what
//! one leaves over is for the others, and is given back when it is wanted. A torrent with fewer places than another one,
//! by two at least, takes one of it, the least useful one; so the two come nearer to each other each time and never
//! change sides.
//!
//! Who came in and has not said which torrent it wants has no right to a place: the oldest of them makes way for whoever
//! comes next. A few places are kept for them, or a full table could not find out that somebody asks for a torrent
//! without peers.
//!
//! Most addresses that one hears of are dead, so nobody goes for the sake of a call, only for one that was answered: a
//! few calls are out beyond the full table, and nobody who comes in is turned away for those that are out.

use super::Session;
use super::peer::{Peer, Stage};
use super::turnover::is_useless;
use crate::api::{PeerId, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::{CALLS_BEYOND, CLAIMS_OUT, DOOR_SHARE, HALF_OPEN_MAX, STRANGER_REST};
use crate::proto::network::Network;
use std::cmp::Reverse;
use std::net::SocketAddr;

impl Session {
    pub(super) fn on_incoming(&mut self, from: SocketAddr, now: Time) -> Option<PeerId> {
        if self.stopping.is_some() || !self.torrents.iter().any(|(_, t)| t.swarming()) {
            return None;
        }
        if self.made() >= self.config.max_conn {
            let held = self.networks.count(Network::of(from));
            let worst = self.crowding_stranger(held).or_else(|| self.worst_idle(now));
            let worst = worst.or_else(|| self.unproductive(held, now))?;
            self.close(worst, Why::Replaced, now);
        } else if self.peers.len() >= self.config.max_conn + CALLS_BEYOND {
            // What has not answered for the longest time is most likely dead.
            let calls = self.peers.iter().filter(|(_, p)| p.stage == Stage::Connecting);
            let oldest = calls.min_by_key(|(_, p)| p.since).map(|(peer, _)| peer)?;
            self.close(oldest, Why::Replaced, now);
        }
        let peer = self.peers.insert(Peer::new(from, false, None, now))?;
        self.strangers.push_back(peer);
        self.networks.add(Network::of(from));
        log::debug!("{peer} {from} came in");
        self.on_sign_of_life(from, now);
        self.arm_peer(peer, now + crate::limits::HANDSHAKE_TIMEOUT);
        Some(peer)
    }

    /// Places that nobody has who has said nothing. With one torrent there is nothing to be found out.
    fn door(&self) -> usize {
        if self.torrents.len() > 1 { self.config.max_conn / DOOR_SHARE } else { 0 }
    }

    /// Connections, without calls that were not answered.
    fn made(&self) -> usize {
        self.peers.len() - self.half_open
    }

    /// Whether all places are taken by peers of torrents, calls among them.
    fn is_full(&self) -> bool {
        self.peers.len() - self.strangers.len() + self.door() >= self.config.max_conn
    }

    /// Whether there is a place for a connection that we make.
    pub(super) fn has_place(&mut self, now: Time) -> bool {
        if self.is_full() {
            return false;
        }
        self.peers.len() < self.config.max_conn || self.dismiss_stranger(now)
    }

    /// The oldest of those who have said nothing makes way, if it had time to say something.
    fn dismiss_stranger(&mut self, now: Time) -> bool {
        let oldest = self.strangers.front().copied();
        let rested =
            |peer: &PeerId| self.peers.get(*peer).is_some_and(|p| now.since(p.since) >= STRANGER_REST);
        let Some(peer) = oldest.filter(rested) else { return false };
        self.close(peer, Why::Replaced, now);
        true
    }

    /// When the table is full and the swarm of a download offers somebody new, it is called if another one would make
    /// room for it.
    pub(super) fn call_beyond(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        let (places, calls) = (t.places, t.places.saturating_sub(t.peers.len()));
        let wants = t.hungry() && calls < CLAIMS_OUT && t.known.deadline().is_some_and(|due| due <= now);
        if wants
            && self.is_full()
            && self.peers.len() < self.config.max_conn + CALLS_BEYOND
            && self.half_open < HALF_OPEN_MAX
            && self.stopping.is_none()
            && self.least_useful(places, 0, now).is_some()
            && self.may_dial(now)
        {
            self.callers.retain(|other| *other != torrent);
            self.dial_one(torrent, now);
        }
    }

    /// Whether a peer that came in and wants this torrent has a place. Another one may have to go for it.
    pub(super) fn admit(&mut self, torrent: TorrentId, from: SocketAddr, now: Time) -> bool {
        // It is one of the strangers itself.
        let places = self.torrents.get(torrent).map_or(0, |t| t.places);
        self.made() - self.strangers.len() + self.door() < self.config.max_conn
            || self.free_place(places, self.account(torrent, from), now)
    }

    /// Whether a call of this torrent that was answered has a place, as [`Session::admit`]. It counts already.
    pub(super) fn admit_call(&mut self, torrent: TorrentId, to: SocketAddr, now: Time) -> bool {
        let places = self.torrents.get(torrent).map_or(0, |t| t.places.saturating_sub(1));
        let fits = self.made() - self.strangers.len() + self.door() <= self.config.max_conn;
        (fits || self.free_place(places, self.account(torrent, to), now))
            && (self.made() <= self.config.max_conn || self.dismiss_stranger(now))
    }

    /// What stands to the account of the network of a newcomer: its other connections, and its bans.
    fn account(&self, torrent: TorrentId, newcomer: SocketAddr) -> usize {
        let network = Network::of(newcomer);
        let bans = self.torrents.get(torrent).map_or(0, |t| t.known.bans_of(network));
        self.networks.count(network).saturating_sub(1) + bans
    }

    fn free_place(&mut self, places: usize, held: usize, now: Time) -> bool {
        let victim = self.least_useful(places, held, now);
        victim.inspect(|peer| self.close(*peer, Why::Replaced, now)).is_some()
    }

    /// Who makes way for one of a torrent with so many places, whose network has `held` connections.
    fn least_useful(&self, places: usize, held: usize, now: Time) -> Option<PeerId> {
        let idle = self.worst_idle(now).or_else(|| self.unproductive(held, now));
        idle.or_else(|| self.due_to(places, now))
    }

    /// The peer that makes way for one of a torrent with so many places: the least useful one of the torrent with the
    /// most, if that has more than its share.
    fn due_to(&self, places: usize, now: Time) -> Option<PeerId> {
        let (richest, t) = self.torrents.iter().max_by_key(|(_, t)| t.places)?;
        if t.places < places + 2 {
            return None;
        }
        let made = |p: &Peer| p.torrent == Some(richest) && p.stage != Stage::Connecting;
        let theirs = self.peers.iter().filter(|(_, p)| made(p));
        let worth = |p: &Peer| {
            let rate = p.down.per_second(20, now) + p.up.per_second(20, now);
            let crowd = Reverse(self.held(p));
            let (open, useful) = (p.stage == Stage::Open, !is_useless(p));
            (open, useful, rate, crowd, t.known.priority(p.addr), Reverse(p.since))
        };
        theirs.min_by_key(|(_, p)| worth(p)).map(|(peer, _)| peer)
    }
}
