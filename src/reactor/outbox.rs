//! What waits to be sent on one connection: small messages and block headers in one row of bytes, with the blocks in
//! between left where they are. One `writev` takes many of both.

use crate::base::buf::{Buf, Pool};
use crate::limits;
use crate::proto::layout::Block;
use crate::proto::mse::Rc4;
use crate::proto::wire::Message;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// Sent bytes at the front of the row that are worth moving the rest down.
const SLACK: usize = 4096;

/// A block in the outbox.
struct Segment {
    /// It comes after this many bytes of the row.
    at: usize,
    len: u32,
    buf: Buf,
}

/// What one round of writing has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sent {
    /// Bytes of all kinds.
    pub(super) bytes: usize,
    /// Blocks that went out whole.
    pub(super) blocks: u32,
    /// Their payload in bytes.
    pub(super) payload: u64,
}

/// The outbox of one connection. When it is empty it holds [`limits::OUTBOX_KEEP`] bytes at most.
#[derive(Default)]
pub(super) struct Outbox {
    row: Vec<u8>,
    /// How much of the row went out.
    sent: usize,
    blocks: VecDeque<Segment>,
    /// How much of the first block went out.
    block_sent: u32,
}

impl Outbox {
    /// Adds bytes as they are.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.row.extend_from_slice(bytes);
    }

    /// Adds a message without payload.
    pub(super) fn push_message(&mut self, message: &Message<'_>) {
        message.encode(&mut self.row);
    }

    /// Adds a piece message.
    pub(super) fn push_block(&mut self, block: Block, buf: Buf) {
        Message::Piece(block).encode(&mut self.row);
        self.blocks.push_back(Segment { at: self.row.len(), len: block.len, buf });
    }

    /// Where what is added next begins: bytes of the row, and blocks.
    pub(super) fn end(&self) -> (usize, usize) {
        (self.row.len(), self.blocks.len())
    }

    /// Encrypts what was added after such an end, in place and in the order of the stream. Nothing may have gone out since.
    pub(super) fn encrypt(&mut self, (row, blocks): (usize, usize), cipher: &mut Rc4) {
        let mut at = row;
        for segment in self.blocks.iter_mut().skip(blocks) {
            cipher.apply(&mut self.row[at..segment.at]);
            cipher.apply(&mut segment.buf.space()[..segment.len as usize]);
            at = segment.at;
        }
        cipher.apply(&mut self.row[at..]);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.row.len() && self.blocks.is_empty()
    }

    /// How many bytes of messages and headers wait.
    pub(super) fn small(&self) -> usize {
        self.row.len() - self.sent
    }

    /// Writes until nothing is left, `to` takes no more, or `most` bytes went out. The blocks' buffers go home.
    pub(super) fn write(&mut self, to: &mut impl Write, pool: &mut Pool, most: usize) -> io::Result<Sent> {
        let mut sent = Sent::default();
        while !self.is_empty() && sent.bytes < most {
            let mut slices = [IoSlice::new(&[]); limits::IOVECS];
            let (count, offered) = self.gather(&mut slices);
            let n = match to.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            sent.bytes += n;
            self.advance(n, pool, &mut sent);
            if n < offered {
                break;
            }
        }
        self.tidy();
        Ok(sent)
    }

    /// Lays what comes next into `slices`; tells how many are used and their bytes.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; limits::IOVECS]) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        let mut add = |part: &'a [u8]| {
            if !part.is_empty() && count < limits::IOVECS {
                slices[count] = IoSlice::new(part);
                count += 1;
                bytes += part.len();
            }
        };
        let (mut at, mut skip) = (self.sent, self.block_sent as usize);
        for segment in self.blocks.iter().take(limits::IOVECS) {
            add(&self.row[at..segment.at]);
            add(&segment.buf.filled(segment.len)[skip..]);
            (at, skip) = (segment.at, 0);
        }
        if self.blocks.len() <= limits::IOVECS {
            add(&self.row[at..]);
        }
        (count, bytes)
    }

    /// Takes the next `n` bytes as sent.
    fn advance(&mut self, mut n: usize, pool: &mut Pool, sent: &mut Sent) {
        while n > 0 {
            let end = self.blocks.front().map_or(self.row.len(), |segment| segment.at);
            let small = n.min(end - self.sent);
            self.sent += small;
            n -= small;
            let Some(front) = self.blocks.front() else { return };
            let part = n.min((front.len - self.block_sent) as usize);
            self.block_sent += part as u32;
            n -= part;
            if self.block_sent == front.len
                && let Some(whole) = self.blocks.pop_front()
            {
                self.block_sent = 0;
                sent.blocks += 1;
                sent.payload += u64::from(whole.len);
                pool.put(whole.buf);
            }
        }
    }

    /// Gives memory back that is not needed now.
    fn tidy(&mut self) {
        if self.is_empty() {
            self.row.clear();
            self.row.shrink_to(limits::OUTBOX_KEEP);
            self.blocks.shrink_to(0);
            self.sent = 0;
        } else if self.sent >= SLACK {
            self.row.drain(..self.sent);
            for segment in &mut self.blocks {
                segment.at -= self.sent;
            }
            self.sent = 0;
            if self.row.capacity() / 4 > self.row.len() {
                self.row.shrink_to(2 * self.row.len());
            }
        }
    }

    /// Drops what waits; the blocks' buffers go home.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        self.blocks.drain(..).for_each(|segment| pool.put(segment.buf));
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buf::BLOCK;
    use crate::base::rng::Rng;

    /// Takes a random number of bytes a call, and now and then none.
    struct Narrow {
        rng: Rng,
        most: u32,
        taken: Vec<u8>,
        calls: u32,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            let mut room = self.rng.below(self.most + 1) as usize;
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.taken.len();
            for slice in slices {
                let n = slice.len().min(room);
                self.taken.extend_from_slice(&slice[..n]);
                room -= n;
            }
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fills an outbox with messages and blocks by chance; `bytes` is what must come out.
    fn fill(outbox: &mut Outbox, pool: &mut Pool, rng: &mut Rng, bytes: &mut Vec<u8>) -> (u32, u64) {
        let (mut blocks, mut payload) = (0, 0);
        for piece in 0..rng.below(12) {
            let block = Block { piece, begin: 0, len: 1 + rng.below(BLOCK) };
            if rng.below(2) == 0 {
                outbox.push_message(&Message::Request(block));
                Message::Request(block).encode(bytes);
            } else if let Some(mut buf) = pool.take() {
                rng.fill(&mut buf.space()[..16]);
                Message::Piece(block).encode(bytes);
                bytes.extend_from_slice(buf.filled(block.len));
                outbox.push_block(block, buf);
                (blocks, payload) = (blocks + 1, payload + u64::from(block.len));
            }
        }
        (blocks, payload)
    }

    #[test]
    fn any_partial_writes_give_the_same_stream_and_bring_every_buffer_home() {
        for (seed, most) in [(1, 7), (2, 100), (3, 5000), (4, 70_000), (5, 2_000_000)] {
            let mut rng = Rng::new([seed; 32]);
            let mut pool = Pool::new(100).unwrap();
            let mut to = Narrow { rng: Rng::new(rng.seed()), most, taken: Vec::new(), calls: 0 };
            let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
            let (mut due, mut done) = ((0, 0), Sent::default());
            for _ in 0..10 {
                let (blocks, payload) = fill(&mut outbox, &mut pool, &mut rng, &mut bytes);
                due = (due.0 + blocks, due.1 + payload);
                let sent = outbox.write(&mut to, &mut pool, usize::MAX).unwrap();
                done.blocks += sent.blocks;
                done.payload += sent.payload;
            }
            while !outbox.is_empty() {
                let sent = outbox.write(&mut to, &mut pool, 10_000).unwrap();
                done.blocks += sent.blocks;
                done.payload += sent.payload;
            }
            assert!(to.taken == bytes, "the stream differs");
            assert_eq!(((done.blocks, done.payload), pool.out()), (due, 0));
            assert!(outbox.row.capacity() <= limits::OUTBOX_KEEP && outbox.small() == 0);
        }
    }

    #[test]
    fn one_call_takes_many_blocks() {
        let mut pool = Pool::new(32).unwrap();
        let mut outbox = Outbox::default();
        for piece in 0..32 {
            let block = Block { piece, begin: 0, len: 100 };
            outbox.push_block(block, pool.take().unwrap());
        }
        let mut to = Narrow { rng: Rng::new([0; 32]), most: u32::MAX - 1, taken: Vec::new(), calls: 0 };
        let sent = outbox.write(&mut to, &mut pool, usize::MAX).unwrap();
        assert_eq!((sent.blocks, sent.payload, sent.bytes, to.calls), (32, 3200, 32 * 113, 1));
    }

    #[test]
    fn more_blocks_than_one_call_takes_keep_their_order() {
        let mut pool = Pool::new(200).unwrap();
        let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
        for piece in 0..200 {
            let block = Block { piece, begin: 0, len: 1 };
            outbox.push_block(block, pool.take().unwrap());
            Message::Piece(block).encode(&mut bytes);
            bytes.push(0);
        }
        outbox.push_message(&Message::Choke);
        Message::Choke.encode(&mut bytes);
        let mut taken = Vec::new();
        assert_eq!(outbox.write(&mut taken, &mut pool, usize::MAX).unwrap().blocks, 200);
        assert_eq!((taken, pool.out()), (bytes, 0));
    }

    #[test]
    fn a_burst_ends_and_a_closed_outbox_gives_its_buffers_back() {
        let mut pool = Pool::new(40).unwrap();
        let mut outbox = Outbox::default();
        for piece in 0..40 {
            outbox.push_block(Block { piece, begin: 0, len: BLOCK }, pool.take().unwrap());
        }
        let sent = outbox.write(&mut Vec::new(), &mut pool, 1).unwrap();
        assert_eq!((sent.blocks, pool.out()), (32, 8));
        outbox.clear(&mut pool);
        assert_eq!((outbox.is_empty(), pool.out()), (true, 0));
    }
}
