//! A piece that is being written: what is stored, and how far it is hashed.

use super::storage::Failed;
use crate::base::bits::Bitfield;
use crate::proto::layout::Block;
use sha1::{Digest, Sha1};

/// A piece in hand.
pub(super) struct Piece {
    /// Blocks that are stored.
    stored: Bitfield,
    /// The digest of the piece up to `cursor`.
    hasher: Sha1,
    /// Bytes that are hashed.
    cursor: u32,
    /// How long it is.
    len: u32,
    /// What was known of failed tries when this one began. If the last of them is on disk, blocks are compared.
    pub(super) before: Failed,
    /// How many tries of the torrent had failed when that was looked up.
    pub(super) fails: u32,
    /// Blocks that were not those of the failed try.
    pub(super) differed: Vec<u32>,
}

impl Piece {
    /// A piece of `len` bytes of which these blocks are stored.
    pub(super) fn new(stored: Bitfield, len: u32, before: Failed, fails: u32) -> Piece {
        Piece { stored, hasher: Sha1::new(), cursor: 0, len, before, fails, differed: Vec::new() }
    }

    /// Whether the block of that index is stored in this try.
    pub(super) fn has(&self, index: u32) -> bool {
        self.stored.get(index)
    }

    /// The blocks that are stored.
    pub(super) fn blocks(&self) -> &Bitfield {
        &self.stored
    }

    /// Takes note that a block is stored, and hashes it if it is next.
    pub(super) fn stored(&mut self, index: u32, block: Block, bytes: &[u8]) {
        self.stored.set(index);
        if block.begin == self.cursor {
            self.hash(bytes);
        } else if block.begin < self.cursor {
            // It came twice, and may have been another one then: what is hashed is not what is stored.
            self.hasher = Sha1::new();
            self.cursor = 0;
        }
    }

    /// Hashes the bytes at the cursor.
    pub(super) fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.cursor += bytes.len() as u32;
    }

    /// The bytes from the cursor on that are stored and not hashed: where they begin, and how many.
    pub(super) fn behind(&self) -> Option<(u32, u32)> {
        let block = crate::base::buf::BLOCK;
        let end = self.stored.first_clear(self.cursor / block).map_or(self.len, |clear| clear * block);
        (end > self.cursor).then(|| (self.cursor, end - self.cursor))
    }

    /// Whether all blocks are stored.
    pub(super) fn is_whole(&self) -> bool {
        self.stored.all()
    }

    /// The digest of the whole piece; the piece then is not to be used again.
    pub(super) fn digest(&mut self) -> [u8; 20] {
        debug_assert!(self.cursor == self.len, "a digest of half a piece");
        self.hasher.finalize_reset().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buf::BLOCK;

    fn block(index: u32, len: u32) -> Block {
        Block { piece: 0, begin: index * BLOCK, len }
    }

    #[test]
    fn blocks_at_the_cursor_are_hashed_and_others_are_behind_once_the_gap_closes() {
        let mut piece = Piece::new(Bitfield::new(3), 2 * BLOCK + 5, Failed::default(), 0);
        let bytes = vec![7; BLOCK as usize];
        piece.stored(1, block(1, BLOCK), &bytes);
        assert_eq!(piece.behind(), None);
        piece.stored(0, block(0, BLOCK), &bytes);
        assert_eq!(piece.behind(), Some((BLOCK, BLOCK)));
        piece.hash(&bytes);
        piece.stored(2, block(2, 5), &bytes[..5]);
        assert_eq!((piece.behind(), piece.is_whole()), (None, true));
        let due: [u8; 20] = Sha1::digest(vec![7; 2 * BLOCK as usize + 5]).into();
        assert_eq!(piece.digest(), due);
    }

    #[test]
    fn a_block_that_comes_again_after_it_was_hashed_has_all_hashed_again() {
        let mut piece = Piece::new(Bitfield::new(2), 2 * BLOCK, Failed::default(), 0);
        let bytes = vec![7; BLOCK as usize];
        piece.stored(0, block(0, BLOCK), &bytes);
        piece.stored(0, block(0, BLOCK), &bytes);
        assert_eq!(piece.behind(), Some((0, BLOCK)));
    }
}
