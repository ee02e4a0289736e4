//! Who makes way when the table is full and somebody waits. A peer that is of no use to either side goes first. Then one
//! that could be, but over which nothing has moved for minutes: else whoever comes early, promises everything and chokes
//! for ever would hold the table.
//!
//! Among those that may go, the network with most places gives one first, and a newcomer takes none of a network that has
//! fewer than its own. While there is room, and while nobody waits, nobody goes.

use super::Session;
use super::peer::{Peer, Stage};
use super::torrent::Torrent;
use crate::api::PeerId;
use crate::base::time::Time;
use crate::limits::{
    NETWORK_SHARE, REPLACE_AFTER, SNUB_AFTER, STRANGERS_LOOKED_AT, TURNOVER_AFTER, TURNOVER_CHOKED_AFTER,
};
use crate::proto::extended::Extension;
use crate::proto::network::Network;
use std::cmp::Reverse;

impl Session {
    /// How many connections the network of this peer has.
    pub(super) fn held(&self, p: &Peer) -> usize {
        self.networks.count(Network::of(p.addr))
    }

    /// Of those who have not shaken hands, the one that makes way for a newcomer whose network has `held` connections:
    /// the oldest one of the network with most, of the oldest few.
    pub(super) fn crowding_stranger(&self, held: usize) -> Option<PeerId> {
        let counted = |peer: &PeerId| Some((*peer, self.held(self.peers.get(*peer)?)));
        let oldest = self.strangers.iter().take(STRANGERS_LOOKED_AT).filter_map(counted);
        let fair = oldest.filter(|(_, theirs)| *theirs >= held);
        fair.min_by_key(|(_, theirs)| Reverse(*theirs)).map(|(peer, _)| peer)
    }

    /// The peer that is of least use: nothing moves either way, neither side wants anything, and that for a while.
    pub(super) fn worst_idle(&self, now: Time) -> Option<PeerId> {
        let idle = self
            .peers
            .iter()
            .filter(|(_, p)| is_quiet(p, REPLACE_AFTER, now) && is_useless(p) && !self.is_only_source(p));
        let worth = |p: &Peer| (Reverse(self.held(p)), p.downloaded + p.uploaded, self.priority(p));
        idle.min_by_key(|(_, p)| worth(p)).map(|(peer, _)| peer)
    }

    /// A peer over which nothing has moved for minutes makes way for a newcomer whose network has `held` connections.
    pub(super) fn unproductive(&self, held: usize, now: Time) -> Option<PeerId> {
        let may_go = |p: &Peer| {
            let theirs = self.held(p);
            p.torrent.and_then(|id| self.torrents.get(id)).is_some_and(|t| {
                theirs >= held
                    && !is_ready(p, now)
                    && !t.known.is_users(p.addr)
                    && is_quiet(p, self.patience(t, p, theirs), now)
            })
        };
        let worth = |p: &Peer| (Reverse(self.held(p)), p.downloaded + p.uploaded, p.active.max(p.since));
        let quiet = self.peers.iter().filter(|(_, p)| is_quiet(p, REPLACE_AFTER, now) && may_go(p));
        let mut quiet: Vec<_> = quiet.map(|(peer, p)| (worth(p), peer)).collect();
        quiet.sort_unstable();
        let spare = |peer: &PeerId| self.peers.get(*peer).is_some_and(|p| !self.is_only_source(p));
        quiet.into_iter().map(|(_, peer)| peer).find(spare)
    }

    /// How long nothing has to move before a peer may go.
    fn patience(&self, t: &Torrent, p: &Peer, held: usize) -> std::time::Duration {
        if held * NETWORK_SHARE > self.config.max_conn {
            REPLACE_AFTER
        } else if !t.hungry() && p.interested && p.am_choking {
            TURNOVER_CHOKED_AFTER
        } else {
            TURNOVER_AFTER
        }
    }

    /// Whether this peer alone could give its torrent what it lacks. There is one of that kind in a torrent at most, so
    /// this keeps nobody out.
    fn is_only_source(&self, p: &Peer) -> bool {
        let Some(t) = p.torrent.and_then(|id| self.torrents.get(id)).filter(|t| t.hungry()) else {
            return false;
        };
        let has_something = |p: &Peer| match t.fetching() {
            true => p.spoken.takes(Extension::Metadata),
            false => p.lure.is_some(),
        };
        let sources = t.peers.iter().filter_map(|peer| self.peers.get(*peer)).filter(|p| has_something(p));
        has_something(p) && sources.take(2).count() < 2
    }

    /// How much a connection is to be there rather than another of its torrent, all else being equal (BEP 40).
    fn priority(&self, p: &Peer) -> u32 {
        p.torrent.and_then(|id| self.torrents.get(id)).map_or(0, |t| t.known.priority(p.addr))
    }
}

/// Whether no payload has moved for so long, and none is on its way.
fn is_quiet(p: &Peer, span: std::time::Duration, now: Time) -> bool {
    p.stage == Stage::Open
        && now.since(p.active.max(p.since)) >= span
        && p.incoming.is_none()
        && !p.waiting
        && p.reading + p.sending == 0
}

/// Neither side wants anything of the other, or will get it.
pub(super) fn is_useless(p: &Peer) -> bool {
    p.lure.is_none() && !p.interested || p.snubbed && p.uploaded == 0
}

/// Whether it would give us what we want, as far as is known: it is us who do not ask, or it was asked a moment ago. One
/// that rejects all that it is asked for, or chokes before it is late, is known not to.
fn is_ready(p: &Peer, now: Time) -> bool {
    p.lure.is_some() && !p.choking && p.owes_since.is_none_or(|since| now.since(since) < SNUB_AFTER)
}
