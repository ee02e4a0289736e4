//! The fast extension (BEP 6): all or nothing in place of a bitfield, an answer to every request, pieces that may be
//! asked for in spite of a choke, and hints. What it changes of requests is in [`super::download`] and
//! [`super::upload`]; here is what it adds.

use super::Session;
use super::download::Checked;
use super::peer::Peer;
use super::torrent::Torrent;
use crate::api::{PeerId, TorrentId};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::{
    ALLOWED_FAST_BYTES, ALLOWED_FAST_IN_MAX, ALLOWED_FAST_PIECES, ALLOWED_FAST_SHARE, ALLOWED_FAST_START,
    PIPELINE_START, REFUSED_MAX, REFUSED_REST, REFUSED_RETRY, REFUSED_RETRY_MAX,
};
use crate::proto::layout::Block;
use crate::proto::wire::allowed_fast::allowed_fast;
use crate::proto::wire::message::Message;
use std::time::Duration;

/// What a peer did wrong that sends what was not agreed on.
const NOT_AGREED: &str = "a message of the fast extension, which was not agreed on";

/// A peer's part in it.
#[derive(Debug, Default)]
pub(super) struct Fast {
    /// Both sides speak it.
    pub(super) on: bool,
    /// Pieces that it may ask for though we choke it.
    served: Vec<u32>,
    /// Bytes of these that it may still have.
    left: u64,
    /// Pieces that we may ask for though it chokes us.
    allowed: Vec<u32>,
    /// Pieces that it rejected though it does not choke us.
    refused: Vec<Refused>,
    /// It is not asked for anything before that.
    rest: Time,
    /// There were requests without an answer that are forgotten: a reject that we know nothing of may be of one.
    pub(super) forgot: bool,
}

/// A piece that a peer rejected.
#[derive(Clone, Copy, Debug)]
struct Refused {
    piece: u32,
    /// The peer is not asked for it before this.
    until: Time,
    /// The wait that ends then.
    wait: Duration,
}

impl Fast {
    /// Whether we told it that it may have this piece in any case.
    pub(super) fn serves(&self, piece: u32) -> bool {
        self.served.contains(&piece)
    }

    /// Whether it may have this block though we choke it; if so, that counts.
    fn grant(&mut self, block: Block, has: u32) -> bool {
        let granted = self.serves(block.piece)
            && has <= ALLOWED_FAST_PIECES as u32
            && u64::from(block.len) <= self.left;
        if granted {
            self.left -= u64::from(block.len);
        }
        granted
    }

    /// It may have so many bytes from now on.
    #[cfg(test)]
    pub(super) fn refill(&mut self, bytes: u64) {
        self.left = bytes;
    }

    /// It may be asked again.
    pub(super) fn stop_resting(&mut self) {
        self.rest = Time::ZERO;
    }

    /// It would not serve a block though it does not choke us: it may be overloaded, or have lost the piece. Others are
    /// asked at once; it is asked again after a wait, as it may be the only one that has the piece.
    fn refuse(&mut self, piece: u32, now: Time) {
        self.rest = now + REFUSED_REST;
        let known = self.refused.iter().position(|refused| refused.piece == piece);
        let known = known.map(|at| self.refused.remove(at));
        let refused = match known {
            // The other requests for blocks of this piece are rejected with the first one.
            Some(refused) if now < refused.until => refused,
            Some(Refused { wait, .. }) => {
                let wait = (wait * 2).min(REFUSED_RETRY_MAX);
                Refused { piece, until: now + wait, wait }
            }
            None => Refused { piece, until: now + REFUSED_RETRY, wait: REFUSED_RETRY },
        };
        if self.refused.len() == REFUSED_MAX {
            self.refused.remove(0);
        }
        self.refused.push(refused);
    }

    /// It serves this piece: the next reject is the first one again.
    pub(super) fn on_block(&mut self, piece: u32) {
        if !self.refused.is_empty() {
            self.refused.retain(|refused| refused.piece != piece);
        }
    }
}

impl Torrent {
    /// Whether more may go to peers that are choked. Newcomers in a crowd all get the same few pieces, which those with a
    /// slot do without meanwhile: it must stay a small part of what goes out.
    fn has_gifts(&self) -> bool {
        self.welcomes() && self.gifts <= ALLOWED_FAST_START + self.uploaded / ALLOWED_FAST_SHARE
    }
}

impl Peer {
    /// Whether a request now has a chance to be served.
    pub(super) fn may_be_asked(&self, now: Time) -> bool {
        self.am_interested && (!self.choking || !self.fast.allowed.is_empty()) && now >= self.fast.rest
    }

    /// What it may be asked for, where that is not all that it has.
    pub(super) fn narrowed(&mut self, t: &Torrent, now: Time) -> Option<Bitfield> {
        let fast = &mut self.fast;
        let mut refused = fast.refused.iter().filter(|refused| now < refused.until).peekable();
        let mut bits = if self.choking {
            fast.allowed.retain(|piece| t.picker.is_missing(*piece));
            let mut bits = Bitfield::new(self.has.len());
            fast.allowed.iter().filter(|piece| self.has.get(**piece)).for_each(|piece| _ = bits.set(*piece));
            bits
        } else if refused.peek().is_none() {
            return None;
        } else {
            self.has.clone()
        };
        refused.for_each(|refused| _ = bits.clear(refused.piece));
        Some(bits)
    }
}

impl Session {
    /// What we have, as the first thing that a new peer hears; `hidden` by a super-seed.
    pub(super) fn tell_first(&mut self, peer: PeerId, hidden: bool, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        let have = t.picker.have();
        let nothing = hidden || have.count() == 0;
        let message = match (p.fast.on, nothing) {
            (true, true) => Message::HaveNone,
            (false, true) => return,
            (true, false) if have.all() => Message::HaveAll,
            (_, false) => Message::Bitfield(have.as_bytes().to_vec().into()),
        };
        self.send(peer, message, now);
    }

    pub(super) fn on_have_all(&mut self, peer: PeerId, all: bool, now: Time) -> Checked {
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        if !p.fast.on {
            return Err(NOT_AGREED);
        }
        let len = p.has.len();
        self.set_has(peer, Bitfield::uniform(len, all), now)
    }

    /// A peer has told what it has. One that has next to nothing may ask for a few pieces in any case, so that it has
    /// something to trade.
    pub(super) fn allow_fast(&mut self, peer: PeerId, now: Time) {
        let serves_nobody = self.config.max_upload == 0;
        let Some((t, p)) = self.swarm(peer) else { return };
        let few = p.has.count() <= ALLOWED_FAST_PIECES as u32;
        let gives = t.has_gifts() && t.picker.have().count() > 0 && p.offer.is_none() && !serves_nobody;
        if !p.fast.on || !p.fast.served.is_empty() || !few || !gives {
            return;
        }
        let layout = &t.spec.meta.layout;
        let count = ALLOWED_FAST_BYTES / u64::from(layout.piece_length().max(1));
        let count = count.clamp(1, ALLOWED_FAST_PIECES as u64) as usize;
        let mut set = allowed_fast(p.addr.ip(), t.spec.meta.info_hash, layout.pieces(), count);
        set.retain(|piece| !p.has.get(*piece));
        let bytes: u64 = set.iter().map(|piece| u64::from(layout.piece_len(*piece))).sum();
        p.fast.left = bytes.min(ALLOWED_FAST_BYTES);
        p.fast.served.clone_from(&set);
        for piece in set {
            self.send(peer, Message::AllowedFast(piece), now);
        }
    }

    /// Whether a peer may have this block though we choke it; if so, that counts.
    pub(super) fn grant(&mut self, peer: PeerId, block: Block) -> bool {
        let Some((t, p)) = self.swarm(peer) else { return false };
        let has = p.has.count();
        let granted = t.has_gifts() && p.fast.grant(block, has);
        t.gifts += if granted { block.len.into() } else { 0 };
        granted
    }

    pub(super) fn on_allowed_fast(&mut self, peer: PeerId, piece: u32, now: Time) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if !p.fast.on {
            return Err(NOT_AGREED);
        }
        if piece >= p.has.len() {
            return Err("a piece that is none is allowed");
        }
        // It may come before we know what it has, and of pieces that it has not got.
        let room = p.fast.allowed.len() < ALLOWED_FAST_IN_MAX;
        if room && !p.fast.allowed.contains(&piece) && !t.picker.have().get(piece) {
            p.fast.allowed.push(piece);
            self.refill_soon(peer, now);
        }
        Ok(())
    }

    /// A hint: of pieces that nobody has begun, this one is taken when it is this peer's turn. Only the last one counts.
    pub(super) fn on_suggest(&mut self, peer: PeerId, piece: u32) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if !p.fast.on {
            return Err(NOT_AGREED);
        }
        if piece >= p.has.len() {
            return Err("a piece that is none is suggested");
        }
        if t.downloading() {
            t.picker.suggest(peer, piece);
        }
        Ok(())
    }

    /// A request will not be served: others are asked for the block at once.
    pub(super) fn on_reject(&mut self, peer: PeerId, block: Block, now: Time) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if !p.fast.on {
            return Err(NOT_AGREED);
        }
        if !p.expects(block) {
            return if p.fast.forgot { Ok(()) } else { Err("a reject of what was not asked for") };
        }
        let given_up = !p.asked.contains(&block);
        p.settle(block);
        if given_up {
            return Ok(());
        }
        t.picker.release(peer, block);
        match p.choking {
            true => p.fast.allowed.retain(|piece| *piece != block.piece),
            false => {
                p.fast.refuse(block.piece, now);
                p.depth = p.depth.min(PIPELINE_START);
            }
        }
        let torrent = p.torrent;
        self.throttle.give_back(block.len.into());
        if let Some(torrent) = torrent {
            self.refill_all(torrent, now);
        }
        Ok(())
    }

    /// A request of this peer will not be served: where it can hear so, it does.
    pub(super) fn reject(&mut self, peer: PeerId, block: Block, now: Time) {
        if self.peers.get(peer).is_some_and(|p| p.fast.on) {
            self.send(peer, Message::Reject(block), now);
        }
    }

    /// We choke it: what it asked for is rejected, but for what it may have in any case.
    pub(super) fn reject_queue(&mut self, peer: PeerId, now: Time) {
        let queue = self.peers.get_mut(peer).map(|p| std::mem::take(&mut p.queue)).unwrap_or_default();
        for block in queue {
            if !self.grant(peer, block) {
                self.reject(peer, block, now);
            } else if let Some(p) = self.peers.get_mut(peer) {
                p.queue.push_back(block);
            }
        }
    }

    /// A piece is not there any more: who asked for it need not wait.
    pub(super) fn reject_piece(&mut self, torrent: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for peer in t.peers.clone() {
            let Some(p) = self.peers.get_mut(peer).filter(|p| !p.queue.is_empty()) else { continue };
            let (dropped, kept): (Vec<Block>, Vec<Block>) =
                p.queue.drain(..).partition(|block| block.piece == piece);
            p.queue.extend(kept);
            for block in dropped {
                self.reject(peer, block, now);
            }
        }
    }
}
