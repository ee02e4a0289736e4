//! A piece that is being written: what is held, what is stored, and how far it is hashed.

use super::digest::{Sha, Stream};
use super::storage::Failed;
use crate::base::bits::Bitfield;
use crate::base::buf::{BLOCK, Buf};
use crate::limits::STORE_RUN;
use crate::proto::layout::Block;

/// A block that is here and not stored.
pub(super) struct Held {
    pub(super) block: Block,
    pub(super) buf: Buf,
}

impl Held {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buf.filled(self.block.len)
    }

    fn end(&self) -> u32 {
        self.block.begin + self.block.len
    }
}

/// A piece in hand.
pub(super) struct Piece {
    /// Blocks that are stored.
    stored: Bitfield,
    /// Blocks that wait to be stored together, by where they begin.
    held: Vec<Held>,
    /// Their bytes.
    held_bytes: u32,
    /// Blocks that are neither stored nor held.
    missing: u32,
    /// The digest of the piece up to `cursor`.
    sha: Sha,
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
        let missing = stored.len() - stored.count();
        Piece {
            stored,
            held: Vec::new(),
            held_bytes: 0,
            missing,
            sha: Sha::new(),
            cursor: 0,
            len,
            before,
            fails,
            differed: Vec::new(),
        }
    }

    /// Whether the block of that index is stored in this try.
    pub(super) fn has(&self, index: u32) -> bool {
        self.stored.get(index)
    }

    /// The blocks that are stored.
    pub(super) fn blocks(&self) -> &Bitfield {
        &self.stored
    }

    /// Whether a block that begins there is held.
    pub(super) fn holds(&self, begin: u32) -> bool {
        self.held.binary_search_by_key(&begin, |held| held.block.begin).is_ok()
    }

    /// Takes a block in; one that begins there must not be held.
    pub(super) fn hold(&mut self, held: Held) {
        let at = self.held.partition_point(|other| other.block.begin < held.block.begin);
        self.held_bytes += held.block.len;
        self.missing -= u32::from(!self.stored.get(held.block.begin / BLOCK));
        self.held.insert(at, held);
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> u32 {
        self.held_bytes
    }

    /// Whether what is held is worth a store: enough for one, or all that is missing.
    pub(super) fn is_ripe(&self) -> bool {
        self.held_bytes >= STORE_RUN || self.missing == 0 && self.held_bytes > 0
    }

    /// Takes out what is held. It is to be stored now: [`Piece::stored`] follows, or the piece is forgotten.
    pub(super) fn take_held(&mut self) -> Vec<Held> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// What is held at the cursor, to be hashed; it counts as that from now on.
    pub(super) fn ahead(&mut self) -> Option<Stream<'_>> {
        if self.held.first().is_some_and(|held| held.block.begin < self.cursor) {
            // It came twice, and may have been another one then: what is hashed is not what will be stored.
            (self.sha, self.cursor) = (Sha::new(), 0);
        }
        let first = self.held.iter().position(|held| held.block.begin == self.cursor)?;
        let mut parts = Vec::new();
        for held in &self.held[first..] {
            if held.block.begin != self.cursor {
                break;
            }
            parts.push(held.bytes());
            self.cursor = held.end();
        }
        Some(Stream { sha: &mut self.sha, parts })
    }

    /// Takes note that these blocks are stored.
    pub(super) fn stored(&mut self, held: &[Held]) {
        held.iter().for_each(|held| _ = self.stored.set(held.block.begin / BLOCK));
    }

    /// Hashes the bytes at the cursor.
    pub(super) fn hash(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.cursor += bytes.len() as u32;
    }

    /// The bytes from the cursor on that are stored and not hashed: where they begin, and how many.
    pub(super) fn behind(&self) -> Option<(u32, u32)> {
        let end = self.stored.first_clear(self.cursor / BLOCK).map_or(self.len, |clear| clear * BLOCK);
        (end > self.cursor).then(|| (self.cursor, end - self.cursor))
    }

    /// Whether all blocks are stored.
    pub(super) fn is_whole(&self) -> bool {
        self.stored.all()
    }

    /// The digest of the whole piece.
    pub(super) fn digest(&self) -> [u8; 20] {
        debug_assert!(self.cursor == self.len, "a digest of half a piece");
        self.sha.clone().finish()
    }
}

/// Cuts blocks in the order of where they begin into those that lie together, as many as one store takes: a longer one
/// makes the system look for larger pieces of memory than it has at hand.
pub(super) fn runs(held: &[Held]) -> impl Iterator<Item = &[Held]> {
    let together = held.chunk_by(|one, next| one.end() == next.block.begin);
    together.flat_map(|run| run.chunks((STORE_RUN / BLOCK) as usize))
}

#[cfg(test)]
mod tests {
    use super::super::digest::side_by_side;
    use super::*;
    use crate::base::buf::Pool;
    use sha1::{Digest, Sha1};

    fn held(pool: &mut Pool, index: u32, len: u32, fill: u8) -> Held {
        let mut buf = pool.take().unwrap();
        buf.space().fill(fill);
        Held { block: Block { piece: 0, begin: index * BLOCK, len }, buf }
    }

    /// Hashes and stores what is held.
    fn settle(piece: &mut Piece) {
        piece.ahead().into_iter().for_each(|stream| side_by_side(&mut [stream]));
        let held = piece.take_held();
        piece.stored(&held);
    }

    #[test]
    fn blocks_at_the_cursor_are_hashed_and_others_are_behind_once_the_gap_closes() {
        let mut pool = Pool::new(3).unwrap();
        let mut piece = Piece::new(Bitfield::new(3), 2 * BLOCK + 5, Failed::default(), 0);
        piece.hold(held(&mut pool, 1, BLOCK, 7));
        settle(&mut piece);
        assert_eq!((piece.behind(), piece.is_ripe()), (None, false));
        piece.hold(held(&mut pool, 2, 5, 7));
        assert!(!piece.is_ripe() && piece.holds(2 * BLOCK) && !piece.holds(0));
        piece.hold(held(&mut pool, 0, BLOCK, 7));
        assert!(piece.is_ripe());
        assert_eq!(runs(&piece.held).map(<[Held]>::len).collect::<Vec<_>>(), [1, 1]);
        settle(&mut piece);
        assert_eq!(piece.behind(), Some((BLOCK, BLOCK + 5)));
        piece.hash(&vec![7; BLOCK as usize + 5]);
        assert_eq!((piece.behind(), piece.is_whole()), (None, true));
        let due: [u8; 20] = Sha1::digest(vec![7; 2 * BLOCK as usize + 5]).into();
        assert_eq!(piece.digest(), due);
    }

    #[test]
    fn a_block_that_comes_again_after_it_was_hashed_has_all_hashed_again() {
        let mut pool = Pool::new(4).unwrap();
        let mut piece = Piece::new(Bitfield::new(2), 2 * BLOCK, Failed::default(), 0);
        piece.hold(held(&mut pool, 0, BLOCK, 7));
        piece.hold(held(&mut pool, 1, BLOCK, 7));
        settle(&mut piece);
        piece.hold(held(&mut pool, 1, BLOCK, 8));
        settle(&mut piece);
        assert_eq!(piece.behind(), Some((0, 2 * BLOCK)));
        piece.hold(held(&mut pool, 0, BLOCK, 9));
        settle(&mut piece);
        assert_eq!(piece.behind(), Some((BLOCK, BLOCK)));
    }
}
