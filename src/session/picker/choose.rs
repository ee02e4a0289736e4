//! How a pick chooses, in this order: the piece that the peer is at; a partial piece that suits it; a piece that
//! nobody has begun; any partial piece; what it is a suspect of; in the end-game, blocks that others were asked for; and
//! if the peer would be idle, a block that another peer is slow with.

use super::bands::{Pieces, Place};
use super::partial::{Held, Stage};
use super::{Asker, Picker, Seat, is_server};
use crate::api::PeerId;
use crate::base::buf::BLOCK;
use crate::base::time::Time;
use crate::limits::{ASKERS_MAX, ENDGAME_WALK, PARTIAL_WALK, PICK_WALK, STALE_AFTER, STORE_RUN};
use crate::proto::layout::Block;
use std::cmp::Ordering;
use std::time::Duration;

/// A peer that fills a piece within so many seconds gets whole pieces, as in libtorrent: fewer peers a piece are
/// fewer pieces waiting for one slow block, and fewer suspects when it is bad.
const WHOLE_PIECE_SECS: u64 = 20;
/// So many pieces are filled abreast where peers are very fast: four digests side by side cost half of one after the
/// other, and there are two disk workers on small machines.
const ABREAST: usize = 8;
/// A peer that fills all of these within so many seconds fills them abreast; they are as good as one to the others then.
const ABREAST_SECS: u64 = 2;
/// Blocks in a row of one of them: what is stored at once.
const ABREAST_RUN: u32 = STORE_RUN / BLOCK;
/// Until so many pieces are here they are picked by chance: a rare one would come slowly, and we have nothing to trade.
const RANDOM_FIRST: u32 = 4;
/// In order, the first piece that is not here is asked for again when nothing of it was asked for in this time.
const HEAD_LAG: Duration = Duration::from_secs(2);

/// What looking up who was asked for a block costs, in blocks of which only the state is looked at.
const ENDGAME_ASKED: u32 = 64;

/// Which partial pieces will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Those that go well with the peer's speed.
    Well,
    /// Any with a free block that it is no suspect of.
    Any,
    /// Any with a free block.
    Suspect,
}

impl Picker {
    /// Chooses up to `count` blocks for a peer, notes that it is asked for them, and appends them to `out`. When it
    /// gives fewer, there is nothing more for this peer until something changes: it has a piece more, a block is
    /// released, or a piece fails. In the end-game, where all is asked for, it looks only at some blocks each time.
    pub fn pick(&mut self, asker: &Asker<'_>, count: usize, now: Time, out: &mut Vec<Block>) {
        let full = out.len().saturating_add(count);
        self.seats.entry(asker.peer).or_insert(Seat::NEW).rate = asker.rate;
        if self.sequential {
            self.ask_head_again(asker, full, now, out);
        }
        while out.len() < full
            && let Some(index) = self.choose(asker)
        {
            self.take(index, asker, full, now, out);
        }
        let full = full.min(out.len().saturating_add(asker.copies));
        if out.len() < full && self.is_endgame() {
            self.ask_again(asker, full, out);
        }
        if out.is_empty() && count > 0 && asker.is_idle {
            out.extend(self.ask_stale(asker, now));
        }
    }

    /// Whether this peer gets pieces of its own.
    fn is_fast(&self, asker: &Asker<'_>) -> bool {
        asker.rate.saturating_mul(WHOLE_PIECE_SECS) >= u64::from(self.layout.piece_length())
    }

    /// Whether this peer is to fill several pieces at a time.
    fn is_very_fast(&self, asker: &Asker<'_>) -> bool {
        let all = u64::from(self.layout.piece_length()) * ABREAST as u64;
        !self.sequential && !is_server(asker.peer) && asker.rate.saturating_mul(ABREAST_SECS) >= all
    }

    /// A partial piece with a free block for this peer, begun now if need be.
    fn choose(&mut self, asker: &Asker<'_>) -> Option<u32> {
        if self.partials.free() == 0 && self.bands.is_empty() {
            return None;
        }
        let home = self.home(asker);
        if home.is_some() {
            return home;
        }
        let mut chosen = self.partial(asker, Fit::Well);
        if self.sequential {
            let first =
                self.bands.first(asker.has, self.head, |piece| !self.blame.suspects(piece, asker.from));
            chosen = chosen.filter(|index| first.is_none_or(|first| self.partials.get(*index).piece < first));
        }
        // At most one piece a peer is kept for it, and what nobody is at comes first: so pieces begun are few.
        let mut chosen =
            chosen.or_else(|| self.fresh(asker, Fit::Any)).or_else(|| self.partial(asker, Fit::Any));
        if chosen.is_none() && !self.blame.is_empty() {
            chosen = self.partial(asker, Fit::Suspect).or_else(|| self.fresh(asker, Fit::Suspect));
        }
        chosen
    }

    /// The piece that the peer is at, if that has free blocks. Who has become slow shares its own.
    fn home(&mut self, asker: &Asker<'_>) -> Option<u32> {
        let piece = self.seats.get(&asker.peer)?.home?;
        let Place::Partial(index) = self.bands.place(piece) else { return None };
        if self.partials.get(index).free == 0 {
            return None;
        }
        let has = asker.has.get(piece);
        if !has || !self.is_fast(asker) && !self.blame.has(piece) {
            self.disown(index, asker.peer);
        }
        if has && self.partials.get(index).is_between_runs(ABREAST_RUN) && self.is_very_fast(asker) {
            return self.abreast(index, asker.peer);
        }
        has.then_some(index)
    }

    /// Of the pieces that a very fast peer fills, the one after its last. None: it is to begin another.
    fn abreast(&self, home: u32, peer: PeerId) -> Option<u32> {
        let owned = self.partials.list(Stage::Owned);
        match (owned.len() + self.partials.list(Stage::Shared).len()).cmp(&ABREAST) {
            Ordering::Less => None,
            Ordering::Greater => Some(home),
            Ordering::Equal => {
                let after = owned.iter().position(|(index, _)| *index == home).map_or(0, |at| at + 1);
                let mut others = owned[after..].iter().chain(&owned[..after]).map(|(index, _)| *index);
                others.find(|index| self.partials.get(*index).owner == Some(peer)).or(Some(home))
            }
        }
    }

    /// The best of the partial pieces with free blocks: the one next to complete, or the first in order.
    fn partial(&mut self, asker: &Asker<'_>, fit: Fit) -> Option<u32> {
        if self.partials.free() == 0 {
            return None;
        }
        let stages: &[Stage] =
            if fit == Fit::Well { &[Stage::Shared] } else { &[Stage::Shared, Stage::Owned] };
        let limit = if fit == Fit::Well && !self.sequential { PARTIAL_WALK } else { usize::MAX };
        self.turn = self.turn.wrapping_add(PARTIAL_WALK);
        for stage in stages {
            let list = self.partials.list(*stage);
            let (then, first) = list.split_at(self.turn % list.len().max(1));
            let walk = first.iter().chain(then).take(limit);
            let fits =
                walk.filter(|(index, piece)| asker.has.get(*piece) && self.suits(*index, *piece, asker, fit));
            let key = |(index, piece): &&(u32, u32)| {
                if self.sequential { *piece } else { self.partials.get(*index).free }
            };
            if let Some((index, _)) = fits.take(if self.sequential { usize::MAX } else { 8 }).min_by_key(key)
            {
                return Some(*index);
            }
        }
        None
    }

    /// Whether a partial piece is one for this peer. The fast take those alone that nobody is at, the slow share.
    fn suits(&self, index: u32, piece: u32, asker: &Asker<'_>, fit: Fit) -> bool {
        let partial = self.partials.get(index);
        // One that failed is for a single peer that had no part in it.
        let again = self.blame.has(piece);
        match fit {
            Fit::Suspect => true,
            _ if again && (partial.asked > 0 || partial.owner.is_some()) => false,
            _ if again && self.blame.suspects(piece, asker.from) => false,
            Fit::Any => true,
            Fit::Well => partial.asked == 0 || !again && !self.is_fast(asker),
        }
    }

    /// Begins a piece that this peer has.
    fn fresh(&mut self, asker: &Asker<'_>, fit: Fit) -> Option<u32> {
        let hint = self.seats.get_mut(&asker.peer).and_then(|seat| seat.hint.take());
        let (blame, has) = (&self.blame, asker.has);
        let accept = |piece| fit == Fit::Suspect || blame.is_empty() || !blame.suspects(piece, asker.from);
        let next =
            if is_server(asker.peer) { self.after_home(asker).filter(|next| accept(*next)) } else { None };
        let piece = if self.bands.is_empty() {
            None
        } else if next.is_some() && !self.sequential {
            next
        } else if self.sequential {
            self.bands.first(has, self.head, accept)
        } else if let Some(piece) = hint.filter(|piece| {
            matches!(self.bands.place(*piece), Place::Band(_)) && has.get(*piece) && accept(*piece)
        }) {
            Some(piece)
        } else if self.have.count() < RANDOM_FIRST {
            self.bands.random(has, false, accept)
        } else {
            // Who has one piece in a thousand has none of the rarest few hundred.
            let few =
                matches!(has, Pieces::Some(bits) if bits.count() < self.layout.pieces() / (2 * PICK_WALK));
            let walk = if few { 0 } else { PICK_WALK };
            let rarest = self.bands.rarest(walk, |piece| has.get(piece) && accept(piece));
            rarest.or_else(|| self.bands.random(has, true, accept))
        };
        let piece = piece.filter(|piece| self.has_room(*piece))?;
        self.begin(piece)
    }

    /// The piece after the one that the peer is at, if it has it and nobody has begun it.
    fn after_home(&self, asker: &Asker<'_>) -> Option<u32> {
        let next = self.seats.get(&asker.peer)?.home? + 1;
        let free = next < self.layout.pieces() && matches!(self.bands.place(next), Place::Band(_));
        (free && asker.has.get(next)).then_some(next)
    }

    /// Asks for free blocks of a partial piece in a row, and makes it the peer's home.
    pub(super) fn take(
        &mut self,
        index: u32,
        asker: &Asker<'_>,
        full: usize,
        now: Time,
        out: &mut Vec<Block>,
    ) {
        let piece = self.partials.get(index).piece;
        let alone = self.partials.get(index).asked == 0 && (self.is_fast(asker) || self.blame.has(piece));
        if alone && self.partials.get(index).owner.is_none() {
            self.partials.edit(index, |partial| partial.owner = Some(asker.peer));
        }
        let run = if self.is_very_fast(asker) { ABREAST_RUN } else { u32::MAX };
        while out.len() < full
            && let Some(at) = self.partials.ask_next(index, asker.peer, now)
        {
            out.push(self.layout.block(piece, at));
            if (at + 1).is_multiple_of(run) {
                break;
            }
        }
        if let Some(seat) = self.seats.get_mut(&asker.peer) {
            seat.home = Some(piece);
        }
    }

    /// How many peers were asked for a block, and the rate of the fastest; None when this peer is one of them, nobody
    /// is, or a server is to be asked for what another one was.
    fn asked(&self, index: u32, at: u32, peer: PeerId) -> Option<(usize, u64)> {
        let Held::Asked(_) = self.partials.get(index).held(at) else { return None };
        let (mut count, mut best) = (0, 0);
        for other in self.partials.askers(index, at) {
            if other == peer || is_server(other) && is_server(peer) {
                return None;
            }
            count += 1;
            best = best.max(self.seats.get(&other).map_or(0, |seat| seat.rate));
        }
        Some((count, best))
    }

    /// In the end-game: blocks that others were asked for and that are not here. Who is much slower than them is of
    /// no help; a third copy is asked only of who is much faster.
    pub(super) fn ask_again(&mut self, asker: &Asker<'_>, full: usize, out: &mut Vec<Block>) {
        let (count, mut budget) = (self.partials.list(Stage::Asked).len(), ENDGAME_WALK);
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let (index, piece) = self.partials.list(Stage::Asked)[(self.turn + step) % count];
            budget = budget.saturating_sub(1);
            if !asker.has.get(piece) || self.blame.has(piece) {
                continue;
            }
            let blocks = self.partials.get(index).blocks();
            for ahead in 0..blocks {
                if out.len() >= full || budget == 0 {
                    return;
                }
                // Each pick starts elsewhere, so that all blocks have their turn.
                let at = ((self.turn + ahead as usize) % blocks as usize) as u32;
                let Held::Asked(_) = self.partials.get(index).held(at) else {
                    budget -= 1;
                    continue;
                };
                budget = budget.saturating_sub(ENDGAME_ASKED);
                let Some((askers, best)) = self.asked(index, at, asker.peer) else { continue };
                let helps = match askers {
                    1 => asker.rate.saturating_mul(2) >= best,
                    _ => askers < ASKERS_MAX && asker.rate > best.saturating_mul(2),
                };
                if helps {
                    self.partials.ask_again(index, at, asker.peer);
                    out.push(self.layout.block(piece, at));
                }
            }
        }
    }

    /// A block that was requested from one other peer, of a piece of which nothing was requested for [`STALE_AFTER`]. The
    /// search starts at the last block of the piece, because the other peer sends that one last.
    fn ask_stale(&mut self, asker: &Asker<'_>, now: Time) -> Option<Block> {
        let mut budget = ENDGAME_WALK;
        let asked = self.partials.list(Stage::Asked);
        let (then, first) = asked.split_at(self.turn % asked.len().max(1));
        self.turn = self.turn.wrapping_add(1);
        for (index, piece) in first.iter().chain(then).copied() {
            budget = budget.checked_sub(1)?;
            let is_stale = now.since(self.partials.get(index).touched) >= STALE_AFTER;
            if !is_stale || !asker.has.get(piece) || self.blame.has(piece) {
                continue;
            }
            for at in (0..self.partials.get(index).blocks()).rev() {
                budget = budget.checked_sub(ENDGAME_ASKED)?;
                if matches!(self.asked(index, at, asker.peer), Some((1, _))) {
                    self.partials.ask_again(index, at, asker.peer);
                    return Some(self.layout.block(piece, at));
                }
            }
        }
        None
    }

    /// In order: the first piece that is not here holds all up, so when it lags, its blocks are asked of a faster
    /// peer too.
    fn ask_head_again(&mut self, asker: &Asker<'_>, full: usize, now: Time, out: &mut Vec<Block>) {
        // No piece becomes missing again, so the head only moves on.
        while self.head < self.missing.len() && !self.missing.get(self.head) {
            self.head += 1;
        }
        let head = self.head;
        let Place::Partial(index) = self.bands.place(head) else { return };
        let partial = self.partials.get(index);
        if partial.free > 0
            || now.since(partial.touched) < HEAD_LAG
            || !asker.has.get(head)
            || self.blame.has(head)
        {
            return;
        }
        for at in 0..partial.blocks() {
            if out.len() >= full {
                return;
            }
            let Some((askers, best)) = self.asked(index, at, asker.peer) else { continue };
            if askers < ASKERS_MAX && asker.rate > best {
                self.partials.ask_again(index, at, asker.peer);
                self.partials.edit(index, |partial| partial.touched = now);
                out.push(self.layout.block(head, at));
            }
        }
    }
}
