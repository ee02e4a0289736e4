//! What a verified piece means for the peers of its torrent: those that lack it hear of it (BEP 3, `have`), those that
//! have it may be of no more interest. Both can wait for a moment, and a piece that walked over a thousand peers would
//! cost more than its bytes do. So new pieces go into one log, each peer remembers how much of it it has heard, and
//! peers have their turns: a few of them right away, the others one after the other, each with all that is new by then.
//! Where little happens, or peers are few, each piece is told at once.

use super::Session;
use super::timers::Key;
use crate::api::{Action, PeerId, TorrentId};
use crate::base::time::Time;
use crate::limits::{HAVE_PEERS, HAVE_REST, HAVES_MAX};
use std::collections::VecDeque;
use std::ops::Range;

/// A torrent's pieces that its peers have not heard of.
#[derive(Default)]
pub(super) struct Haves {
    /// In the order in which they were verified.
    log: VecDeque<u32>,
    /// How many were taken off its front.
    gone: u64,
    /// Where the log ended when the round began: once that is over, all peers have heard so far.
    mark: u64,
    /// Whose turn is yet to come in this round.
    round: VecDeque<PeerId>,
    /// When the next ones have theirs.
    rest: Time,
    /// When the timer is set for; None: it is not.
    armed: Option<Time>,
}

impl Haves {
    /// Whether its timer is set for this moment.
    pub(super) fn is_armed(&self, at: Time) -> bool {
        self.armed == Some(at)
    }

    /// How far a peer has heard that knows all that we have.
    pub(super) fn end(&self) -> u64 {
        self.gone + self.log.len() as u64
    }

    /// Who is next. A round is of all that are there when it begins; who joins
    /// later begins with a bitfield.
    pub(super) fn next(&mut self, peers: &[PeerId]) -> Option<PeerId> {
        if self.round.is_empty() {
            let heard = (self.mark - self.gone) as usize;
            self.log.drain(..heard.min(self.log.len()));
            self.gone = self.mark;
            if self.log.is_empty() {
                return None;
            }
            self.mark = self.end();
            self.round.extend(peers);
        }
        self.round.pop_front()
    }

    /// A piece is verified.
    pub(super) fn add(&mut self, piece: u32) {
        self.log.push_back(piece);
    }

    /// What a peer hears of next that has heard so far.
    pub(super) fn span(&self, told: u64) -> Range<u64> {
        let from = told.max(self.gone);
        from..self.end().min(from + HAVES_MAX)
    }

    /// The pieces of a span.
    pub(super) fn pieces(&self, span: Range<u64>) -> impl Iterator<Item = u32> + '_ {
        let at = |place: u64| (place - self.gone) as usize;
        self.log.range(at(span.start)..at(span.end)).copied()
    }

    /// A peer has heard so far. In this round it has another turn if that is not enough.
    fn told(&mut self, peer: PeerId, until: u64) {
        if until < self.mark {
            self.round.push_back(peer);
        }
    }

    fn is_over(&self) -> bool {
        self.round.is_empty() && self.mark == self.end()
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.round.is_empty()
    }
}

impl Session {
    /// A piece is verified: peers hear of it now, or soon. `last`: nothing comes after it that would be worth waiting
    /// for.
    pub(super) fn announce_piece(&mut self, torrent: TorrentId, piece: u32, last: bool, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        if t.peers.len() <= t.picker.seeds() {
            return;
        }
        t.haves.add(piece);
        if last || now >= t.haves.rest {
            return self.tell_some(torrent, now);
        }
        self.arm_haves(torrent);
    }

    fn arm_haves(&mut self, torrent: TorrentId) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let mut armed = t.haves.armed.unwrap_or(Time::NEVER);
        self.timers.arm(&mut armed, t.haves.rest, Key::Haves(torrent));
        t.haves.armed = Some(armed);
    }

    pub(super) fn on_haves_timer(&mut self, torrent: TorrentId, at: Time, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent).filter(|t| t.haves.is_armed(at)) else { return };
        t.haves.armed = None;
        self.tell_some(torrent, now);
    }

    /// The next few peers have their turns.
    fn tell_some(&mut self, torrent: TorrentId, now: Time) {
        let mut told = 0;
        while told < HAVE_PEERS {
            let Some(t) = self.torrents.get_mut(torrent) else { return };
            let Some(peer) = t.haves.next(&t.peers) else { break };
            told += u32::from(self.tell_news(torrent, peer, now));
        }
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.haves.rest = now + HAVE_REST * told;
        if !t.haves.is_over() {
            self.arm_haves(torrent);
        }
    }

    /// A peer hears of what is new, and we look whether it still has something for us. Tells whether anything was new.
    fn tell_news(&mut self, torrent: TorrentId, peer: PeerId, now: Time) -> bool {
        let (Some(t), Some(p)) = (self.torrents.get_mut(torrent), self.peers.get_mut(peer)) else {
            return false;
        };
        let span = t.haves.span(p.told);
        if span.is_empty() {
            return false;
        }
        p.told = span.end;
        t.haves.told(peer, p.told);
        // One that has all has something for us as long as we lack anything; when we do not, all peers are looked at.
        if p.has.all() {
            return false;
        }
        if p.lure.is_some_and(|piece| !t.picker.is_missing(piece)) {
            p.lure = t.picker.lure(p.pieces(), p.lure.unwrap_or(0));
        }
        // One that could not be read again since is missing.
        let lacks: Vec<u32> =
            t.haves.pieces(span).filter(|n| !p.has.get(*n) && t.picker.have().get(*n)).collect();
        if !lacks.is_empty() {
            p.said = now;
            self.actions.push_back(Action::Haves { peer, pieces: lacks });
        }
        self.update_interest(peer, now);
        true
    }
}
