//! Where reads land that go beyond the block that is coming in.

use crate::base::buf::{BLOCK, Buf, Pool};
use crate::limits;
use std::io;

/// The bytes before the payload of a piece message: length, type, piece, begin (BEP 3).
pub(super) const HEAD: usize = 13;

/// The memory for such reads, one for all connections. A peer that sends blocks sends one after the other, so a read
/// expects a header and a whole block, again and again, and each lands in its own place. Nothing but speed relies on
/// that: what lies elsewhere is decoded like any other bytes and copied.
///
/// The landing owns its buffers. A block that lands as expected takes the buffer and leaves the one that was meant for
/// it, so the landing never takes buffers from the pool, and the pool has what the quotas of the session say.
#[derive(Default)]
pub(super) struct Landing {
    /// For headers, or for everything that a connection sends that sends no blocks just now.
    pub(super) scratch: Vec<u8>,
    bufs: Vec<Buf>,
    /// How many of the buffers the next read uses; 0: it uses the scratch space alone.
    spread: usize,
}

impl Landing {
    /// A landing for [`limits::LOOK_AHEAD`] blocks. An error means that there is no memory.
    pub(super) fn new() -> io::Result<Landing> {
        Landing::with(limits::SCRATCH, limits::LOOK_AHEAD)
    }

    /// A landing with so many bytes of scratch space and so many buffers.
    pub(super) fn with(scratch: usize, bufs: usize) -> io::Result<Landing> {
        let mut pool = Pool::new(bufs)?;
        let bufs = std::iter::from_fn(|| pool.take()).collect();
        Ok(Landing { scratch: vec![0; scratch], bufs, spread: 0 })
    }

    /// The next read expects so many blocks, as far as there are buffers for them.
    pub(super) fn expect_blocks(&mut self, count: usize) {
        self.spread = count.min(self.bufs.len()).min(self.scratch.len() / HEAD);
    }

    /// How many blocks the next read expects.
    pub(super) fn expected(&self) -> usize {
        self.spread
    }

    /// The places of the expected headers and blocks, in the order of the stream.
    pub(super) fn places(&mut self) -> impl Iterator<Item = (&mut [u8], &mut Buf)> {
        self.scratch.chunks_exact_mut(HEAD).zip(&mut self.bufs[..self.spread])
    }
}

const _: () =
    assert!(limits::LOOK_AHEAD * HEAD <= limits::SCRATCH && limits::LOOK_AHEAD * 16384 <= limits::BURST);
const _: () = assert!(BLOCK == 16384);
