//! One connection: its socket, the decoder, the block that is coming in and the outbox; and the table of them all.

use super::crypt::Crypt;
use super::landing::{HEAD, Landing};
use super::outbox::Outbox;
use crate::api::PeerId;
use crate::base::arena::Handle;
use crate::base::buf::{BLOCK, Buf, Pool};
use crate::base::time::Time;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::layout::Block;
use crate::proto::wire::{Decoder, Error, Fate, Handshake, Message, Payload, Step};
use std::io::{self, IoSliceMut, Read};
use std::net::{SocketAddr, TcpStream};

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The info-hash of a handshake whose rest has not come.
    InfoHash(InfoHash),
    /// The handshake.
    Handshake(Handshake),
    /// A message, any but a piece.
    Message(Message<'a>),
    /// The header of a piece: nothing more comes before [`Conn::take`] or [`Conn::skip`].
    Piece(Block),
    /// A taken block is whole.
    Block(Block, Buf),
}

/// What one read brought.
#[derive(Debug)]
pub(super) struct Got {
    /// Bytes in all; 0 when the other side has closed.
    pub(super) bytes: usize,
    /// Of these, bytes that follow the block that was coming in: they are in the landing.
    pub(super) beyond: usize,
    /// These are spread over headers and blocks; else they are in the scratch space.
    pub(super) spread: bool,
    /// The block that became whole.
    pub(super) block: Option<(Block, Buf)>,
    /// Whether there was more room than bytes: nothing is left in the socket.
    pub(super) short: bool,
}

/// What [`Conn::adopt`] did.
pub(super) enum Adopted {
    /// The bytes are something else, and are still to be decoded.
    Nothing,
    /// They are the start of a block.
    Part,
    /// They are a whole block.
    Whole(Block, Buf),
}

/// One connection.
pub(super) struct Conn {
    pub(super) id: PeerId,
    pub(super) addr: SocketAddr,
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    pub(super) outbox: Outbox,
    pub(super) crypt: Crypt,
    /// The connection is not made yet.
    pub(super) connecting: bool,
    /// The socket takes no more: the poller tells when it does.
    pub(super) blocked: bool,
    /// It is in the list of those with something to say.
    pub(super) dirty: bool,
    /// It waits for the disk: nothing is read.
    pub(super) waiting: bool,
    /// The block that it waits with is let in, and gets the next free buffer.
    pub(super) admitted: bool,
    /// There is a deadline for its outbox to move.
    pub(super) watched: bool,
    /// When the outbox last moved, or began to fill.
    pub(super) moved: Time,
    /// What the poller reports: readable, writable.
    pub(super) interest: (bool, bool),
    /// The block that is coming in.
    buf: Option<Buf>,
    /// The last message was a block: another one is likely to follow.
    streaming: bool,
    /// What was read after the header of a block that has to wait.
    stash: Vec<u8>,
}

// At rest a connection costs this, the 512 bytes that its outbox may keep, and 8 in the table.
const _: () = assert!(size_of::<Conn>() <= 384);

impl Conn {
    /// A connection at its start.
    pub(super) fn new(id: PeerId, addr: SocketAddr, stream: TcpStream, connecting: bool) -> Conn {
        Conn {
            id,
            addr,
            stream,
            decoder: Decoder::new(),
            outbox: Outbox::default(),
            crypt: Crypt::Plain,
            connecting,
            blocked: false,
            dirty: false,
            waiting: false,
            admitted: false,
            watched: false,
            moved: Time::ZERO,
            interest: (!connecting, connecting),
            buf: None,
            streaming: false,
            stash: Vec::new(),
        }
    }

    /// What the poller should report now: readable, writable.
    pub(super) fn wants(&self) -> (bool, bool) {
        (!self.connecting && !self.waiting, self.connecting || self.blocked)
    }

    /// The block whose way is not decided.
    pub(super) fn undecided(&self) -> Option<Block> {
        self.decoder.payload().filter(|payload| payload.fate == Fate::Wait).map(|payload| payload.block)
    }

    /// The block of the header found last comes into `buf`.
    pub(super) fn take(&mut self, buf: Buf) {
        debug_assert!(self.buf.is_none() && self.undecided().is_some());
        self.buf = Some(buf);
        self.decoder.decide(Fate::Take);
    }

    /// The block of the header found last is passed over.
    pub(super) fn skip(&mut self) {
        self.decoder.decide(Fate::Skip);
    }

    /// The block of the header found last has to wait; `rest` was read after it, and is kept.
    pub(super) fn wait(&mut self, rest: &[u8]) {
        self.stash = rest.to_vec();
        self.waiting = true;
    }

    /// The wait is over: the block to decide on now, and what was kept. None: it did not wait.
    pub(super) fn go_on(&mut self) -> Option<(Block, Vec<u8>)> {
        let block = self.undecided().filter(|_| self.waiting)?;
        self.waiting = false;
        Some((block, std::mem::take(&mut self.stash)))
    }

    /// The block that is coming in, and where to.
    fn coming(&mut self) -> Option<(Payload, &mut Buf)> {
        Some((self.decoder.payload()?, self.buf.as_mut()?))
    }

    /// Counts `n` bytes of the block that is coming in; gives it once it is whole.
    fn advance(&mut self, n: usize) -> Option<(Block, Buf)> {
        let block = self.decoder.payload()?.block;
        if self.decoder.advance(n as u32) { Some((block, self.buf.take()?)) } else { None }
    }

    /// Takes the next thing off the front of `input`. None: all of `input` is used, or a block has to wait.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Found<'a>>, Error> {
        if let Some((payload, buf)) = self.coming() {
            let n = input.len().min(payload.left() as usize);
            let (bytes, rest) = input.split_at(n);
            let at = payload.filled as usize;
            buf.space()[at..at + n].copy_from_slice(bytes);
            *input = rest;
            return Ok(self.advance(n).map(|(block, buf)| Found::Block(block, buf)));
        }
        let Some(step) = self.decoder.next(input)? else { return Ok(None) };
        self.streaming = matches!(step, Step::Piece(_));
        Ok(Some(match step {
            Step::InfoHash(info_hash) => Found::InfoHash(info_hash),
            Step::Handshake(handshake) => Found::Handshake(handshake),
            Step::Message(message) => Found::Message(message),
            Step::Piece(block) => Found::Piece(block),
        }))
    }

    /// Whether a read is likely to bring blocks, and nothing between them.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming && (self.buf.is_some() || self.decoder.is_between())
    }

    /// Reads once: the rest of the block that is coming in goes to where it belongs, what follows to `landing`: to its
    /// blocks if there are any, else `most` bytes at most to its scratch space.
    pub(super) fn read(&mut self, landing: &mut Landing, most: usize) -> io::Result<Got> {
        let mut slices: [_; 1 + 2 * limits::LOOK_AHEAD] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut used, mut left, mut room) = (0, 0, 0);
        if let Some((payload, buf)) = self.decoder.payload().zip(self.buf.as_mut()) {
            let (at, end) = (payload.filled as usize, payload.block.len as usize);
            (slices[0], used, left) = (IoSliceMut::new(&mut buf.space()[at..end]), 1, end - at);
        }
        let spread = landing.expected() > 0;
        if spread {
            for (head, buf) in landing.places() {
                (slices[used], slices[used + 1]) = (IoSliceMut::new(head), IoSliceMut::new(buf.space()));
                used += 2;
                room += HEAD + BLOCK as usize;
            }
        } else {
            room = most.min(landing.scratch.len());
            slices[used] = IoSliceMut::new(&mut landing.scratch[..room]);
            used += 1;
        }
        let n = (&self.stream).read_vectored(&mut slices[..used])?;
        self.decrypt(n, left, landing);
        let block = if left > 0 { self.advance(n.min(left)) } else { None };
        Ok(Got { bytes: n, beyond: n.saturating_sub(left), spread, block, short: n < left + room })
    }

    /// The `n` bytes that come next lie at the start of `landed`. If they are the start of the block that is coming in,
    /// or all of it, the two buffers change places.
    pub(super) fn adopt(&mut self, landed: &mut Buf, n: usize) -> Adopted {
        match self.coming() {
            Some((payload, own)) if payload.filled == 0 && n <= payload.block.len as usize => {
                std::mem::swap(own, landed);
                self.advance(n).map_or(Adopted::Part, |(block, buf)| Adopted::Whole(block, buf))
            }
            _ => Adopted::Nothing,
        }
    }

    /// Keeps what was read after what a connection keeps that has to wait.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if self.waiting {
            self.stash.extend_from_slice(bytes);
        }
    }

    /// Decrypts the `n` bytes that were read where they lie: `left` at most in the block that is coming in, the others in
    /// `landing`.
    fn decrypt(&mut self, n: usize, left: usize, landing: &mut Landing) {
        let within = n.min(left);
        if let Some((payload, buf)) = self.decoder.payload().zip(self.buf.as_mut()).filter(|_| within > 0) {
            let at = payload.filled as usize;
            self.crypt.decrypt(&mut buf.space()[at..at + within]);
        }
        if landing.expected() == 0 {
            return self.crypt.decrypt(&mut landing.scratch[..n - within]);
        }
        let mut beyond = n - within;
        for (head, buf) in landing.places() {
            for part in [head, buf.space()] {
                let now = beyond.min(part.len());
                self.crypt.decrypt(&mut part[..now]);
                beyond -= now;
            }
        }
    }

    /// The connection ends: every buffer goes home, the socket closes.
    pub(super) fn close(mut self, pool: &mut Pool) {
        self.outbox.clear(pool);
        if let Some(buf) = self.buf.take() {
            pool.put(buf);
        }
    }
}

/// All connections, each in the slot of its id. A stale id finds nothing.
#[derive(Default)]
pub(super) struct Conns {
    // Boxed: a slot stays when its connection is gone.
    slots: Vec<Option<Box<Conn>>>,
}

impl Conns {
    /// Adds a connection; the slot of its id must be free.
    pub(super) fn insert(&mut self, conn: Conn) {
        let at = usize::from(conn.id.slot());
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        debug_assert!(self.slots[at].is_none(), "{} is taken", conn.id);
        self.slots[at] = Some(Box::new(conn));
    }

    /// The connection of that id, if it is still there.
    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Conn> {
        self.slots.get_mut(usize::from(id.slot()))?.as_deref_mut().filter(|conn| conn.id == id)
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Conn> {
        self.get_mut(id)?;
        self.slots.get_mut(usize::from(id.slot()))?.take().map(|conn| *conn)
    }

    /// Takes all connections out.
    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Conn> + '_ {
        self.slots.drain(..).flatten().map(|conn| *conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::proto::id::InfoHash;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, addr) = listener.accept().unwrap();
        there.set_nodelay(true).unwrap();
        (Conn::new(PeerId::from_bits(0), addr, here, false), there)
    }

    fn handshake() -> Vec<u8> {
        Handshake { reserved: [0; 8], info_hash: InfoHash([1; 20]), peer_id: [2; 20] }.encode().to_vec()
    }

    fn piece(rng: &mut Rng, piece: u32, len: u32, out: &mut Vec<u8>) {
        let block = Block { piece, begin: 0, len };
        Message::Piece(block).encode(out);
        let mut data = vec![0; len as usize];
        rng.fill(&mut data);
        out.extend_from_slice(&data);
    }

    /// Everything a connection finds, the blocks of odd pieces taken and of even ones skipped, until `upto` bytes came.
    /// `ahead` blocks are read at a time, where some are likely.
    fn run(
        conn: &mut Conn,
        pool: &mut Pool,
        landing: &mut Landing,
        ahead: usize,
        mut upto: usize,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let name = |block: Block, buf: &Buf| format!("{block:?} {:?}", buf.filled(block.len));
        while upto > 0 {
            landing.expect_blocks(if conn.is_streaming() { ahead } else { 0 });
            let got = conn.read(landing, usize::MAX).unwrap();
            upto -= got.bytes;
            if let Some((block, buf)) = got.block {
                found.push(name(block, &buf));
                pool.put(buf);
            }
            let digest = |conn: &mut Conn, pool: &mut Pool, found: &mut Vec<String>, mut input: &[u8]| {
                while let Some(thing) = conn.next(&mut input).unwrap() {
                    match thing {
                        Found::Piece(block) if block.piece % 2 == 1 => conn.take(pool.take().unwrap()),
                        Found::Piece(_) => conn.skip(),
                        Found::Block(block, buf) => {
                            found.push(name(block, &buf));
                            pool.put(buf);
                        }
                        // Only where the handshake comes in two parts.
                        Found::InfoHash(_) => assert!(found.is_empty()),
                        other => found.push(format!("{other:?}")),
                    }
                }
                assert!(input.is_empty());
            };
            if !got.spread {
                digest(conn, pool, &mut found, &landing.scratch[..got.beyond]);
                continue;
            }
            let mut left = got.beyond;
            for (head, buf) in landing.places() {
                let in_head = left.min(HEAD);
                let in_buf = (left - in_head).min(BLOCK as usize);
                left -= in_head + in_buf;
                digest(conn, pool, &mut found, &head[..in_head]);
                match conn.adopt(buf, in_buf) {
                    Adopted::Whole(block, buf) => {
                        found.push(name(block, &buf));
                        pool.put(buf);
                    }
                    Adopted::Part => {}
                    Adopted::Nothing => digest(conn, pool, &mut found, buf.filled(in_buf as u32)),
                }
            }
            assert_eq!(left, 0);
        }
        found
    }

    #[test]
    fn any_split_brings_the_same_blocks() {
        let mut rng = Rng::new([1; 32]);
        let mut stream = handshake();
        for n in 0..20 {
            Message::Have(n).encode(&mut stream);
            let len = 1 + rng.below(300);
            piece(&mut rng, n, len, &mut stream);
        }
        // Whole blocks in a row, as they are expected; a short one, a skipped one and a message between them.
        for (n, len) in
            [(21, BLOCK), (23, BLOCK), (25, 77), (27, BLOCK), (28, BLOCK), (29, BLOCK), (31, BLOCK)]
        {
            piece(&mut rng, n, len, &mut stream);
            if n == 29 {
                Message::Unchoke.encode(&mut stream);
            }
        }
        let mut pool = Pool::new(12).unwrap();
        let mut expected = None;
        for (seed, most, room, ahead) in [
            (1, 1, 68, 0),
            (2, 100, 500, 3),
            (3, 3000, 100, 1),
            (4, 1 << 20, 1 << 16, 0),
            (5, 1 << 20, 1 << 16, 4),
        ] {
            let (mut conn, mut there) = pair();
            let mut rng = Rng::new([seed; 32]);
            let (mut rest, mut found) = (&stream[..], Vec::new());
            let mut landing = Landing::with(room, 5).unwrap();
            while !rest.is_empty() {
                let (part, tail) = rest.split_at(rest.len().min(1 + rng.index(most)));
                there.write_all(part).unwrap();
                found.extend(run(&mut conn, &mut pool, &mut landing, ahead, part.len()));
                rest = tail;
            }
            assert_eq!(found.len(), 1 + 20 + 10 + 6 + 1);
            assert!(*expected.get_or_insert(found.clone()) == found);
            assert_eq!(pool.out(), 0);
        }
    }

    #[test]
    fn a_block_that_waits_goes_on_from_the_stash() {
        let mut rng = Rng::new([2; 32]);
        let mut stream = handshake();
        piece(&mut rng, 1, 1000, &mut stream);
        Message::Unchoke.encode(&mut stream);
        let mut pool = Pool::new(1).unwrap();
        let (mut conn, _there) = pair();
        let mut input = &stream[..600];
        assert!(matches!(conn.next(&mut input), Ok(Some(Found::Handshake(_)))));
        assert!(matches!(conn.next(&mut input), Ok(Some(Found::Piece(_)))));
        assert!(matches!(conn.next(&mut input), Ok(None)));
        conn.wait(input);
        assert_eq!(conn.wants(), (false, false));
        let (block, stash) = conn.go_on().unwrap();
        assert_eq!((block.len, conn.wants(), conn.go_on()), (1000, (true, false), None));
        conn.take(pool.take().unwrap());
        assert!(matches!(conn.next(&mut &stash[..]), Ok(None)));
        let mut input = &stream[600..];
        let Ok(Some(Found::Block(block, buf))) = conn.next(&mut input) else { panic!("no block") };
        assert!(buf.filled(block.len) == &stream[68 + 13..68 + 13 + 1000]);
        assert!(matches!(conn.next(&mut input), Ok(Some(Found::Message(Message::Unchoke)))));
        pool.put(buf);
    }

    #[test]
    fn closing_in_the_middle_of_a_block_brings_its_buffer_home() {
        let mut stream = handshake();
        piece(&mut Rng::new([3; 32]), 1, 1000, &mut stream);
        let mut pool = Pool::new(2).unwrap();
        let (mut conn, mut there) = pair();
        there.write_all(&stream[..500]).unwrap();
        run(&mut conn, &mut pool, &mut Landing::with(4096, 0).unwrap(), 0, 500);
        conn.outbox.push_block(Block { piece: 0, begin: 0, len: 10 }, pool.take().unwrap());
        assert_eq!(pool.out(), 2);
        conn.close(&mut pool);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut conns = Conns::default();
        let (conn, _there) = pair();
        let old = conn.id;
        conns.insert(conn);
        assert!(conns.get_mut(old).is_some() && conns.remove(old).is_some());
        let (mut conn, _there) = pair();
        conn.id = PeerId::from_bits(1 << 16);
        conns.insert(conn);
        assert!(conns.get_mut(old).is_none() && conns.remove(old).is_none());
        assert_eq!(conns.drain().count(), 1);
    }
}
