//! Which block to ask for: rarest first, finish what is begun, end-game.
//!
//! The session tells what peers have, come, send and fail to send; [`Picker::pick`] chooses the blocks of the next
//! requests. Each piece is in one of three places: in the [`bands`] until somebody begins it, among the [`partial`]
//! pieces until it is verified, then nowhere. How a pick chooses is in [`choose`], who is guilty of a bad piece in
//! [`blame`].

mod bands;
mod blame;
mod choose;
mod in_order;
mod partial;
#[cfg(test)]
mod tests;

pub use bands::Pieces;
pub use partial::Sender;

use crate::api::PeerId;
use crate::base::arena::Handle;
use crate::base::bits::Bitfield;
use crate::base::rng::Rng;
use crate::limits::{ASKERS_MAX, PARTIAL_BLOCKS_MAX, PARTIAL_PIECES_MAX};
use crate::proto::layout::{Block, Layout};
use bands::{Bands, Place, common};
use blame::Blame;
use partial::{DISK, Held, Partials, Stage};
use std::collections::BTreeMap;

/// Ids with this slot and those after it, which no connection has, are of threads that fetch from servers.
pub const SERVERS: u16 = 0xff00;

/// Whether this is a thread that fetches from a server: it gets pieces in a row, one range rather than many, and does not
/// ask for what another one asks for already.
fn is_server(peer: PeerId) -> bool {
    peer.slot() >= SERVERS
}

/// The peer that a pick is for.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Which.
    pub peer: PeerId,
    /// As whom its blocks will come in [`Picker::on_block`].
    pub from: Sender,
    /// What it has.
    pub has: Pieces<'a>,
    /// How fast its payload comes, in bytes a second; 0 when that is not known.
    pub rate: u64,
    /// How many blocks it may be asked for that others were asked for as well (end-game).
    pub copies: usize,
    /// Whether no request to it is open.
    pub is_idle: bool,
}

/// What a block that came is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is the first copy: store it. Tell these peers, which were asked for it too, that it is no longer wanted.
    First {
        /// They have no request for it any more as far as the picker is concerned.
        cancel: [Option<PeerId>; ASKERS_MAX],
    },
    /// It is here already.
    Duplicate,
    /// It is not of a piece that is wanted, or not a block at all.
    Unwanted,
}

/// What the picker knows of a peer that was picked for.
#[derive(Clone, Copy)]
struct Seat {
    /// The partial piece that it is at.
    home: Option<u32>,
    /// As it was at its last pick.
    rate: u64,
    /// The piece that it suggested last.
    hint: Option<u32>,
}

impl Seat {
    const NEW: Seat = Seat { home: None, rate: 0, hint: None };
}

/// The picker of one torrent.
pub struct Picker {
    layout: Layout,
    sequential: bool,
    have: Bitfield,
    /// Wanted and not verified.
    missing: Bitfield,
    bands: Bands,
    partials: Partials,
    blame: Blame,
    seats: BTreeMap<PeerId, Seat>,
    /// Peers that have everything.
    seeds: u32,
    /// In order: no missing piece is before this one.
    head: u32,
    /// Where the next walk over a list starts.
    turn: usize,
}

impl Picker {
    /// A picker of a torrent of which nothing is here. Only `wanted` pieces will be asked for, in order if
    /// `sequential`.
    pub fn new(layout: &Layout, wanted: &Bitfield, sequential: bool, rng: &mut Rng) -> Picker {
        let mut picker = Picker::at_rest(layout, wanted, sequential, rng);
        picker.begin_picking(rng);
        picker
    }

    /// The same, without what only a pick needs: until [`Picker::begin_picking`] there is nothing to be asked for.
    pub fn at_rest(layout: &Layout, wanted: &Bitfield, sequential: bool, rng: &mut Rng) -> Picker {
        // Pieces and blocks do not depend on the files, of which there may be a million.
        let layout = Layout::new(layout.piece_length(), [layout.total()]).unwrap_or_else(|_| layout.clone());
        let mut missing = Bitfield::new(layout.pieces());
        for piece in wanted.iter() {
            missing.set(piece);
        }
        Picker {
            have: Bitfield::new(layout.pieces()),
            bands: Bands::empty(layout.pieces(), rng),
            missing,
            layout,
            sequential,
            partials: Partials::new(),
            blame: Blame::default(),
            seats: BTreeMap::new(),
            seeds: 0,
            head: 0,
            turn: 0,
        }
    }

    /// From now on what is missing is asked for.
    pub fn begin_picking(&mut self, rng: &mut Rng) {
        if !self.is_complete() {
            self.bands = Bands::new(&self.missing, rng);
        }
    }

    /// The start check found this piece good.
    pub fn set_have(&mut self, piece: u32) {
        match self.bands.place(piece) {
            Place::Band(at) => _ = self.bands.remove(at),
            Place::Partial(index) => self.end(index),
            Place::Nowhere => {}
        }
        self.have.set(piece);
        self.missing.clear(piece);
        if self.is_complete() {
            self.bands.rest();
            self.partials = Partials::new();
        }
    }

    /// These blocks of a piece are on disk from an earlier run, and the disk worker that gets the others will know.
    pub fn set_stored(&mut self, piece: u32, blocks: &Bitfield) {
        let some = blocks.len() == self.layout.blocks(piece) && blocks.count() > 0 && !blocks.all();
        if !some || !matches!(self.bands.place(piece), Place::Band(_)) || !self.has_room(piece) {
            return;
        }
        let Some(index) = self.begin(piece) else { return };
        let nobody = PeerId::from_bits(u32::MAX);
        blocks.iter().for_each(|at| self.partials.receive(index, at, nobody, DISK, &mut []));
    }

    /// The pieces that are verified.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Whether this piece is wanted and not verified.
    pub fn is_missing(&self, piece: u32) -> bool {
        self.missing.get(piece)
    }

    /// How many pieces are wanted and not verified.
    pub fn missing_count(&self) -> u32 {
        self.missing.count()
    }

    /// How many pieces are begun and not verified.
    pub fn begun(&self) -> usize {
        self.partials.len()
    }

    /// Whether all that is wanted is verified.
    pub fn is_complete(&self) -> bool {
        self.missing.count() == 0
    }

    /// The bytes of the pieces that are wanted and not verified.
    pub fn left(&self) -> u64 {
        self.bytes(&self.missing)
    }

    /// The bytes of the pieces that are not verified, wanted or not.
    pub fn left_of_all(&self) -> u64 {
        self.layout.total() - self.bytes(&self.have)
    }

    fn bytes(&self, pieces: &Bitfield) -> u64 {
        let Some(last) = self.layout.pieces().checked_sub(1) else { return 0 };
        let short = self.layout.piece_length() - self.layout.piece_len(last);
        let cut = if pieces.get(last) { short } else { 0 };
        u64::from(pieces.count()) * u64::from(self.layout.piece_length()) - u64::from(cut)
    }

    /// A piece that a peer has and that is wanted and not verified: the first from `from` on, and from the start again.
    /// With the last answer as `from` all searches of a peer together are one walk over the bits, or few.
    pub fn lure(&self, has: Pieces<'_>, from: u32) -> Option<u32> {
        let mut found = None;
        let mut stop = |piece| found.replace(piece).is_none();
        if !common(&self.missing, has, from, self.missing.len(), &mut stop) {
            common(&self.missing, has, 0, from, &mut stop);
        }
        found
    }

    /// How many peers have a piece that is wanted and not verified; 0 for others.
    pub fn availability(&self, piece: u32) -> u32 {
        let count = match self.bands.place(piece) {
            Place::Band(at) => self.bands.count(at),
            Place::Partial(index) => self.partials.get(index).count,
            Place::Nowhere => return 0,
        };
        count as u32 + self.seeds
    }

    /// How many peers have everything, and said so at once.
    pub fn seeds(&self) -> usize {
        self.seeds as usize
    }

    /// A peer that has everything came (`joined`) or went.
    pub fn peer_has_all(&mut self, joined: bool) {
        debug_assert!(joined || self.seeds > 0, "a seed left that never came");
        self.seeds = if joined { self.seeds + 1 } else { self.seeds.saturating_sub(1) };
    }

    /// A peer that has these pieces came (`joined`) or went, with what it has by then.
    pub fn on_bitfield(&mut self, has: &Bitfield, joined: bool) {
        self.bands.shift(has, joined);
        for stage in [Stage::Shared, Stage::Owned, Stage::Asked, Stage::Received] {
            for at in 0..self.partials.list(stage).len() {
                let (index, piece) = self.partials.list(stage)[at];
                if has.get(piece) {
                    let step = |count: usize| if joined { count + 1 } else { count.saturating_sub(1) };
                    self.partials.edit(index, |partial| partial.count = step(partial.count));
                }
            }
        }
    }

    /// A peer has one piece more. Tells whether that one is wanted and not verified.
    pub fn on_have(&mut self, piece: u32) -> bool {
        match self.bands.place(piece) {
            Place::Band(at) => self.bands.raise(at),
            Place::Partial(index) => self.partials.edit(index, |partial| partial.count += 1),
            Place::Nowhere => {}
        }
        self.missing.get(piece)
    }

    /// A peer that does not have everything has one piece less.
    pub fn on_dont_have(&mut self, piece: u32) {
        match self.bands.place(piece) {
            Place::Band(at) => self.bands.lower(at),
            Place::Partial(index) => {
                self.partials.edit(index, |partial| partial.count = partial.count.saturating_sub(1));
            }
            Place::Nowhere => {}
        }
    }

    /// The peer would like to be asked for this piece: when it is next to begin one, it is this one. A later hint
    /// takes the place of the one before.
    pub fn suggest(&mut self, peer: PeerId, piece: u32) {
        if self.missing.get(piece) {
            self.seats.entry(peer).or_insert(Seat::NEW).hint = Some(piece);
        }
    }

    /// Whether a block would be [`Arrival::First`].
    pub fn wants(&self, block: Block) -> bool {
        let Some(index) = self.layout.block_index(block) else { return false };
        match self.bands.place(block.piece) {
            Place::Band(_) => self.has_room(block.piece),
            Place::Partial(partial) => !matches!(self.partials.get(partial).held(index), Held::Got(_)),
            Place::Nowhere => false,
        }
    }

    /// A block is here whole. It counts as received from now on, whoever was asked for it.
    pub fn on_block(&mut self, peer: PeerId, from: Sender, block: Block) -> Arrival {
        let Some(at) = self.layout.block_index(block) else { return Arrival::Unwanted };
        if !self.wants(block) {
            let here =
                self.have.get(block.piece) || matches!(self.bands.place(block.piece), Place::Partial(_));
            return if here { Arrival::Duplicate } else { Arrival::Unwanted };
        }
        let index = match self.bands.place(block.piece) {
            Place::Partial(index) => Some(index),
            _ => self.begin(block.piece),
        };
        let Some(index) = index else { return Arrival::Unwanted };
        let mut cancel = [None; ASKERS_MAX];
        self.partials.receive(index, at, peer, from, &mut cancel);
        Arrival::First { cancel }
    }

    /// A request was given up, or the peer rejected it: its block may be asked of others. A no-op for one that the
    /// peer does not have.
    pub fn release(&mut self, peer: PeerId, block: Block) {
        let (Some(at), Place::Partial(index)) =
            (self.layout.block_index(block), self.bands.place(block.piece))
        else {
            return;
        };
        self.partials.give_back(index, at, peer);
        self.unbegin(index);
    }

    /// The peer choked us, timed out or is gone: all its requests are given up, and nothing is kept for it.
    pub fn on_lost(&mut self, peer: PeerId, requests: impl IntoIterator<Item = Block>) {
        for block in requests {
            self.release(peer, block);
        }
        let home = self.seats.remove(&peer).and_then(|seat| seat.home);
        if let Some(Place::Partial(index)) = home.map(|piece| self.bands.place(piece)) {
            self.disown(index, peer);
        }
    }

    /// The disk worker that has the blocks of a partial piece.
    pub fn lane(&self, piece: u32) -> Option<u8> {
        match self.bands.place(piece) {
            Place::Partial(index) => self.partials.get(index).lane,
            _ => None,
        }
    }

    /// The blocks of a partial piece go to this disk worker; called at the first that came.
    pub fn set_lane(&mut self, piece: u32, lane: u8) {
        if let Place::Partial(index) = self.bands.place(piece) {
            self.partials.edit(index, |partial| partial.lane = Some(lane));
        }
    }

    /// The piece is right. `differed` are the blocks that were other bytes in its last failed try; gives who sent
    /// those, who are guilty.
    pub fn on_verified(&mut self, piece: u32, differed: &[u32]) -> Vec<Sender> {
        self.set_have(piece);
        self.blame.verified(piece, differed)
    }

    /// The piece is wrong: all of it must be fetched again, from one peer that had no part in it if there is one.
    /// Gives the sender that is guilty for sure because there was no other.
    pub fn on_failed(&mut self, piece: u32) -> Option<Sender> {
        let Place::Partial(index) = self.bands.place(piece) else { return None };
        let (senders, origins) = self.partials.get(index).origins();
        self.give_up(index);
        self.blame.failed(piece, senders, origins)
    }

    /// The disk could not store or read the piece and has forgotten its blocks. Requests that are out stay valid.
    pub fn on_disk_error(&mut self, piece: u32) {
        let Place::Partial(index) = self.bands.place(piece) else { return };
        // What the disk has of this piece is now of no known try.
        self.blame.forget(piece);
        self.partials.forget_received(index);
        self.unbegin(index);
    }

    /// A verified piece turned out to be lost; it is missing again if it is `wanted`. `count` peers have it, those with
    /// everything apart.
    pub fn lose(&mut self, piece: u32, wanted: bool, count: usize) {
        if !self.have.clear(piece) || !wanted {
            return;
        }
        self.missing.set(piece);
        self.bands.insert(piece, count);
        self.head = self.head.min(piece);
    }

    /// Whether every block that is wanted is here or asked for, so that some are asked for twice.
    pub fn is_endgame(&self) -> bool {
        self.bands.is_empty() && self.partials.free() == 0
    }

    /// Whether one piece more may be begun.
    fn has_room(&self, piece: u32) -> bool {
        let blocks = self.partials.blocks() + self.layout.blocks(piece) as usize;
        self.partials.len() < PARTIAL_PIECES_MAX && blocks <= PARTIAL_BLOCKS_MAX
    }

    /// Makes a piece of the bands a partial one. None: it is in none.
    fn begin(&mut self, piece: u32) -> Option<u32> {
        let Place::Band(at) = self.bands.place(piece) else {
            debug_assert!(false, "only pieces of the bands are begun");
            return None;
        };
        let count = self.bands.remove(at);
        let index = self.partials.begin(piece, self.layout.blocks(piece), count);
        self.bands.set_partial(piece, Some(index));
        Some(index)
    }

    /// A partial piece is one no more.
    fn end(&mut self, index: u32) {
        self.bands.set_partial(self.partials.get(index).piece, None);
        self.partials.end(index);
    }

    /// A partial piece goes back to the bands.
    fn give_up(&mut self, index: u32) {
        let (piece, count) = (self.partials.get(index).piece, self.partials.get(index).count);
        self.end(index);
        self.bands.insert(piece, count);
    }

    /// Gives a piece up of which nothing is here nor asked for. One whose lane is set is kept: writes to that worker
    /// may still be under way.
    fn unbegin(&mut self, index: u32) {
        let partial = self.partials.get(index);
        if partial.free == partial.blocks() && partial.lane.is_none() {
            self.give_up(index);
        }
    }

    /// What this peer was to fill alone is for all.
    fn disown(&mut self, index: u32, peer: PeerId) {
        if self.partials.get(index).owner == Some(peer) {
            self.partials.edit(index, |partial| partial.owner = None);
        }
    }
}
