//! Where the pieces, blocks and files of a torrent lie in its one long row of bytes: all the index arithmetic, in u64,
//! once. A piece may touch many files and a file many pieces.

use crate::base::buf::BLOCK;
use crate::limits::{FILES_MAX, PIECE_LENGTH_MAX, PIECES_MAX, REQUEST_MAX, TOTAL_MAX};
use std::fmt;
use std::ops::Range;

/// A run of bytes within a piece, as requests and piece messages name it (BEP 3): mostly 16 KiB, or the shorter last
/// one of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// Which piece.
    pub piece: u32,
    /// Where it begins in the piece, in bytes.
    pub begin: u32,
    /// How long it is, in bytes.
    pub len: u32,
}

/// A run of bytes within one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which file, by its place in the torrent's list.
    pub file: usize,
    /// Where the run begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub len: u64,
}

/// Which limit a torrent is over, and by what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The piece length, in bytes, is 0 or too large.
    PieceLength(u64),
    /// More files than this program handles.
    Files,
    /// More bytes than this program handles.
    Total,
    /// More pieces than this program handles.
    Pieces(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::PieceLength(len) => {
                write!(f, "the piece length is {len} bytes; the limits are 1 and {PIECE_LENGTH_MAX}")
            }
            Error::Files => write!(f, "there are more than {FILES_MAX} files, the limit"),
            Error::Total => write!(f, "the files have more than {TOTAL_MAX} bytes in all, the limit"),
            Error::Pieces(pieces) => write!(f, "there are {pieces} pieces; the limit is {PIECES_MAX}"),
        }
    }
}

impl std::error::Error for Error {}

/// The arithmetic of one torrent.
#[derive(Clone, Debug)]
pub struct Layout {
    piece_length: u32,
    pieces: u32,
    /// Where each file starts, and after the last one where it ends.
    starts: Box<[u64]>,
}

impl Layout {
    /// The layout of files with these lengths, end to end, cut into pieces of `piece_length` bytes. Fails at the
    /// limits of `limits.rs`.
    pub fn new(piece_length: u32, lengths: impl IntoIterator<Item = u64>) -> Result<Layout, Error> {
        if piece_length == 0 || piece_length > PIECE_LENGTH_MAX {
            return Err(Error::PieceLength(piece_length.into()));
        }
        let lengths = lengths.into_iter();
        let mut starts = Vec::with_capacity(lengths.size_hint().0.min(FILES_MAX) + 1);
        let mut total = 0u64;
        starts.push(total);
        for len in lengths {
            if starts.len() > FILES_MAX {
                return Err(Error::Files);
            }
            total = total.checked_add(len).filter(|total| *total <= TOTAL_MAX).ok_or(Error::Total)?;
            starts.push(total);
        }
        let pieces = total.div_ceil(piece_length.into());
        let pieces = u32::try_from(pieces).ok().filter(|n| *n <= PIECES_MAX).ok_or(Error::Pieces(pieces))?;
        Ok(Layout { piece_length, pieces, starts: starts.into() })
    }

    /// The layout of nothing: no file, no piece.
    pub fn empty() -> Layout {
        Layout { piece_length: 1, pieces: 0, starts: Box::new([0]) }
    }

    /// The length of every piece but the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// The bytes of all files, padding included.
    pub fn total(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Where a piece starts in the torrent, in bytes.
    pub fn piece_offset(&self, piece: u32) -> u64 {
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// The length of a piece, in bytes; 0 when there is no such piece.
    pub fn piece_len(&self, piece: u32) -> u32 {
        let left = self.total().saturating_sub(self.piece_offset(piece));
        u32::try_from(left).unwrap_or(u32::MAX).min(self.piece_length)
    }

    /// How many blocks a piece has; 0 when there is no such piece.
    pub fn blocks(&self, piece: u32) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK)
    }

    /// The block of that index in a piece; one of length 0 when there is none.
    pub fn block(&self, piece: u32, index: u32) -> Block {
        let begin = index.saturating_mul(BLOCK);
        Block { piece, begin, len: self.piece_len(piece).saturating_sub(begin).min(BLOCK) }
    }

    /// The index of a block in its piece, when it is exactly one of the blocks that we ask for.
    pub fn block_index(&self, block: Block) -> Option<u32> {
        let index = block.begin / BLOCK;
        (block.len > 0 && self.block(block.piece, index) == block).then_some(index)
    }

    /// Whether a peer may ask for this range: within one piece, and of 1 byte to `limits::REQUEST_MAX`.
    pub fn contains(&self, block: Block) -> bool {
        let end = u64::from(block.begin) + u64::from(block.len);
        (1..=REQUEST_MAX).contains(&block.len) && end <= u64::from(self.piece_len(block.piece))
    }

    /// Where a block starts in the torrent, in bytes.
    pub fn offset(&self, block: Block) -> u64 {
        self.piece_offset(block.piece) + u64::from(block.begin)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where a file starts in the torrent, in bytes; the total when there is no such file.
    pub fn file_offset(&self, file: usize) -> u64 {
        self.starts.get(file).copied().unwrap_or(self.total())
    }

    /// The length of a file, in bytes; 0 when there is no such file.
    pub fn file_len(&self, file: usize) -> u64 {
        self.file_offset(file.saturating_add(1)) - self.file_offset(file)
    }

    /// The pieces that have bytes of a file: none for one of length 0.
    pub fn file_pieces(&self, file: usize) -> Range<u32> {
        let (start, len) = (self.file_offset(file), self.file_len(file));
        // No piece index is above PIECES_MAX.
        let piece = |offset: u64| (offset / u64::from(self.piece_length)) as u32;
        let first = piece(start);
        if len == 0 { first..first } else { first..piece(start + len - 1) + 1 }
    }

    /// The runs of files that `len` bytes from `offset` in the torrent lie in, in order. Files of length 0 have none;
    /// what is past the end of the torrent is left out.
    pub fn spans(&self, offset: u64, len: u64) -> impl Iterator<Item = Span> + '_ {
        let end = offset.saturating_add(len).min(self.total());
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            // Of the files that start here or before, the last: those of length 0 start here too, but before it.
            let file = self.starts.partition_point(|start| *start <= at).checked_sub(1)?;
            let start = self.file_offset(file);
            let span = Span { file, offset: at - start, len: self.file_offset(file + 1).min(end) - at };
            at += span.len;
            Some(span)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::base::testing::rounds;

    fn random(rng: &mut Rng) -> (u32, Vec<u64>) {
        let piece_length = [1, 7, 64, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK][rng.index(7)];
        let top = 1 + piece_length * rng.below(4);
        let lengths = (0..rng.below(9)).map(|_| if rng.below(3) == 0 { 0 } else { rng.below(top).into() });
        (piece_length, lengths.collect())
    }

    #[test]
    fn spans_are_those_of_a_walk_over_the_files() {
        let mut rng = Rng::new([3; 32]);
        for _ in 0..rounds(5000) {
            let (piece_length, lengths) = random(&mut rng);
            let layout = Layout::new(piece_length, lengths.iter().copied()).unwrap();
            let total: u64 = lengths.iter().sum();
            assert_eq!((layout.total(), layout.files()), (total, lengths.len()));
            let offset = u64::from(rng.below(total as u32 + 2));
            let len = u64::from(rng.below(total as u32 + 2));
            let (mut start, mut naive) = (0, Vec::new());
            for (file, &file_len) in lengths.iter().enumerate() {
                let (from, to) = (offset.max(start), (offset + len).min(start + file_len));
                if from < to {
                    naive.push(Span { file, offset: from - start, len: to - from });
                }
                assert_eq!((layout.file_offset(file), layout.file_len(file)), (start, file_len));
                let pieces: Vec<u32> = (start..start + file_len)
                    .step_by(piece_length.min(64) as usize)
                    .chain((file_len > 0).then(|| start + file_len - 1))
                    .map(|byte| (byte / u64::from(piece_length)) as u32)
                    .collect();
                let range = layout.file_pieces(file);
                assert_eq!(range.is_empty(), file_len == 0);
                assert_eq!(pieces.first(), (file_len > 0).then_some(&range.start));
                assert_eq!(pieces.last(), (file_len > 0).then(|| range.end - 1).as_ref());
                start += file_len;
            }
            assert_eq!(layout.spans(offset, len).collect::<Vec<_>>(), naive);
        }
    }

    #[test]
    fn blocks_tile_the_torrent() {
        let mut rng = Rng::new([4; 32]);
        for _ in 0..rounds(2000) {
            let (piece_length, lengths) = random(&mut rng);
            let layout = Layout::new(piece_length, lengths).unwrap();
            let mut at = 0;
            for piece in 0..layout.pieces() {
                assert_eq!(layout.piece_offset(piece), at);
                for index in 0..layout.blocks(piece) {
                    let block = layout.block(piece, index);
                    assert_eq!((layout.offset(block), block.begin), (at, index * BLOCK));
                    assert!(block.len > 0 && block.len <= BLOCK && layout.contains(block));
                    assert_eq!(layout.block_index(block), Some(index));
                    at += u64::from(block.len);
                }
                assert_eq!(layout.block(piece, layout.blocks(piece)).len, 0);
            }
            assert_eq!(at, layout.total());
            assert_eq!((layout.piece_len(layout.pieces()), layout.blocks(u32::MAX)), (0, 0));
        }
    }

    #[test]
    fn only_our_own_blocks_have_an_index() {
        let layout = Layout::new(2 * BLOCK, [u64::from(3 * BLOCK) + 5]).unwrap();
        let index = |piece, begin, len| layout.block_index(Block { piece, begin, len });
        assert_eq!(index(0, BLOCK, BLOCK), Some(1));
        assert_eq!(index(1, BLOCK, 5), Some(1));
        for (piece, begin, len) in
            [(0, 1, BLOCK), (0, 0, BLOCK - 1), (1, BLOCK, BLOCK), (0, 2 * BLOCK, 0), (2, 0, 0), (2, 0, BLOCK)]
        {
            assert_eq!(index(piece, begin, len), None);
        }
        assert_eq!(index(0, u32::MAX - BLOCK + 1, BLOCK), None);
    }

    #[test]
    fn a_request_outside_a_piece_is_refused_and_nothing_wraps() {
        let layout = Layout::new(2 * BLOCK, [u64::from(3 * BLOCK) + 5]).unwrap();
        let contains = |piece, begin, len| layout.contains(Block { piece, begin, len });
        assert!(contains(0, 0, 1) && contains(0, BLOCK, BLOCK) && contains(0, 2 * BLOCK - 1, 1));
        assert!(contains(1, BLOCK + 4, 1) && contains(0, 100, REQUEST_MAX));
        assert!(!contains(0, 0, 0) && !contains(0, 0, REQUEST_MAX + 1) && !contains(0, 2 * BLOCK, 1));
        assert!(!contains(1, BLOCK + 5, 1) && !contains(1, BLOCK, 6) && !contains(2, 0, 1));
        assert!(!contains(0, u32::MAX, 2) && !contains(u32::MAX, u32::MAX, REQUEST_MAX));
    }

    #[test]
    fn limits_are_named() {
        assert_eq!(Layout::new(0, []).unwrap_err(), Error::PieceLength(0));
        let over = PIECE_LENGTH_MAX + 1;
        assert_eq!(Layout::new(over, [1]).unwrap_err(), Error::PieceLength(over.into()));
        assert_eq!(Layout::new(1, std::iter::repeat(0)).unwrap_err(), Error::Files);
        assert_eq!(Layout::new(1, vec![0; FILES_MAX + 1]).unwrap_err(), Error::Files);
        assert_eq!(Layout::new(1, vec![0; FILES_MAX]).unwrap().files(), FILES_MAX);
        assert_eq!(Layout::new(BLOCK, [TOTAL_MAX, 1]).unwrap_err(), Error::Total);
        assert_eq!(Layout::new(BLOCK, [1, u64::MAX]).unwrap_err(), Error::Total);
        let pieces = u64::from(PIECES_MAX);
        assert_eq!(Layout::new(1, [pieces + 1]).unwrap_err(), Error::Pieces(pieces + 1));
        assert_eq!(Layout::new(1, [pieces]).unwrap().pieces(), PIECES_MAX);
        assert_eq!(Layout::new(PIECE_LENGTH_MAX, [TOTAL_MAX]).unwrap().pieces(), PIECES_MAX);
        assert_eq!(Layout::new(1, []).unwrap().pieces(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn a_million_empty_files_cost_a_span_nothing() {
        let empty = std::iter::repeat_n(0, FILES_MAX - 2);
        let layout = Layout::new(BLOCK, std::iter::once(5).chain(empty).chain([5])).unwrap();
        for _ in 0..100_000 {
            assert_eq!(layout.spans(4, 2).map(|s| s.file).collect::<Vec<_>>(), [0, FILES_MAX - 1]);
        }
    }
}
