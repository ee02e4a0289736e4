//! Picks for a server that can only be read from the start of its files: the blocks come in the order of the torrent.

use super::bands::{Pieces, Place, common};
use super::{Asker, Picker, Seat};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::proto::layout::Block;

impl Picker {
    /// Chooses up to `count` blocks that are not before the byte `from` of the torrent, notes that they are asked for and
    /// appends them to `out` in their order. When there is none, there is nothing more for this server behind `from`
    /// until something changes.
    pub fn pick_in_order(
        &mut self,
        asker: &Asker<'_>,
        from: u64,
        count: usize,
        now: Time,
        out: &mut Vec<Block>,
    ) {
        let start = out.len();
        let full = start.saturating_add(count);
        self.seats.entry(asker.peer).or_insert(Seat::NEW).rate = asker.rate;
        let piece = u32::try_from(from / u64::from(self.layout.piece_length())).unwrap_or(u32::MAX);
        for piece in self.free_pieces(asker, piece, count) {
            let index = match self.bands.place(piece) {
                Place::Partial(index) => Some(index),
                Place::Band(_) if self.has_room(piece) => self.begin(piece),
                _ => None,
            };
            if let Some(index) = index.filter(|_| out.len() < full) {
                self.take(index, asker, full, now, out);
            }
        }
        if out.len() == start && self.is_endgame() {
            let ahead = self.missing_from(asker.has, piece);
            self.ask_again(&Asker { has: Pieces::Some(&ahead), ..*asker }, full, out);
            out[start..].sort_unstable_by_key(|block| (block.piece, block.begin));
        }
        // Of the first piece, what was passed already.
        let passed = out[start..].iter().take_while(|block| self.layout.offset(**block) < from).count();
        for block in out.drain(start..start + passed) {
            self.release(asker.peer, block);
        }
    }

    /// Pieces with free blocks from this one on, as many as have `count` of these. Those that this server may have sent
    /// wrong bytes of come only if there are no others.
    fn free_pieces(&self, asker: &Asker<'_>, from: u32, count: usize) -> Vec<u32> {
        for with_suspects in [false, true] {
            let (mut pieces, mut blocks) = (Vec::new(), 0);
            let mut add = |piece| {
                let free = match self.bands.place(piece) {
                    Place::Band(_) if self.has_room(piece) => self.layout.blocks(piece),
                    Place::Partial(index) => self.partials.get(index).free,
                    _ => 0,
                };
                if free > 0 && (with_suspects || !self.blame.suspects(piece, asker.from)) {
                    pieces.push(piece);
                    blocks += free as usize;
                }
                blocks >= count
            };
            common(&self.missing, asker.has, from, self.missing.len(), &mut add);
            if !pieces.is_empty() || self.blame.is_empty() {
                return pieces;
            }
        }
        Vec::new()
    }

    /// The missing pieces from this one on that somebody has.
    fn missing_from(&self, has: Pieces<'_>, from: u32) -> Bitfield {
        let mut ahead = Bitfield::new(self.missing.len());
        common(&self.missing, has, from, self.missing.len(), &mut |piece| {
            ahead.set(piece);
            false
        });
        ahead
    }

    /// How many bytes of the missing pieces from this one up to that one, which is left out, there are at most.
    pub fn missing_bytes(&self, from: u32, to: u32) -> u64 {
        let mut count = 0;
        common(&self.missing, Pieces::All, from, to.min(self.missing.len()), &mut |_| {
            count += 1;
            false
        });
        count * u64::from(self.layout.piece_length())
    }
}
