//! The cheapest leecher: asks for blocks and throws them away, so that the seed is what is measured. It hashes nothing;
//! whether the bytes are right is compared in the round in which system calls are counted, which nobody times.

use crate::shared::guard::pause;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::shared::content::Content;
use crate::shared::wire::{self, BITFIELD, BLOCK, CHOKE, INTERESTED, PIECE, REQUEST, UNCHOKE};

/// Blocks asked for ahead: 2 MiB, which every client takes.
const AHEAD: usize = 128;
/// Requests go out so many at a time at least.
const BATCH: usize = 16;
/// A seed that sends nothing for so long has stalled.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) struct Sink {
    stream: TcpStream,
    content: Arc<Content>,
    buffer: Vec<u8>,
    filled: usize,
    choked: bool,
    was_choked: bool,
    /// What is still to be asked for, the next one last, and what is asked for.
    wanted: Vec<(u32, u32)>,
    asked: Vec<(u32, u32)>,
    compare: bool,
}

impl Sink {
    /// Dials a seed until it answers and has all, for so long at most.
    pub(crate) fn connect(
        number: usize,
        from: IpAddr,
        to: SocketAddr,
        content: &Arc<Content>,
        patience: Duration,
    ) -> io::Result<Sink> {
        let start = Instant::now();
        loop {
            match Sink::try_connect(number, from, to, content) {
                Ok(sink) => return Ok(sink),
                Err(error) if start.elapsed() > patience => return Err(error),
                Err(_) => pause(Duration::from_millis(20))?,
            }
        }
    }

    fn try_connect(number: usize, from: IpAddr, to: SocketAddr, content: &Arc<Content>) -> io::Result<Sink> {
        let stream = dial(from, to)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut name = *b"-XB0001-thrifty sink";
        name[8] = number as u8;
        let mut sink = Sink {
            stream,
            content: Arc::clone(content),
            buffer: vec![0; 1 << 18],
            filled: 0,
            choked: true,
            was_choked: false,
            wanted: Vec::new(),
            asked: Vec::new(),
            compare: false,
        };
        wire::greet(&mut sink.stream, &content.info_hash, &name, false)?;
        if wire::greeted(&mut sink.stream)?.0 != content.info_hash {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let all = wire::bitfield(content.pieces(), |_| true);
        while sink.filled < all.len() {
            sink.fill()?;
        }
        if sink.buffer[4] != BITFIELD || sink.buffer[5..all.len()] != all[5..] {
            return Err(io::Error::other("it does not have all"));
        }
        sink.drop_front(all.len());
        sink.stream.set_read_timeout(Some(SILENCE))?;
        Ok(sink)
    }

    /// Says that it is interested and waits until it may ask.
    pub(crate) fn wait_for_turn(&mut self) -> io::Result<()> {
        self.stream.write_all(&[0, 0, 0, 1, INTERESTED])?;
        // Some say at once that we may ask: that may have come with the bitfield.
        self.read_messages()?;
        while self.choked {
            self.fill()?;
            self.read_messages()?;
        }
        Ok(())
    }

    /// Takes all of it, from part number `turn` of `of`. `compare`: looks at the bytes, which costs time.
    pub(crate) fn take(mut self, turn: usize, of: usize, compare: bool) -> io::Result<()> {
        self.compare = compare;
        self.wanted = blocks(&self.content);
        let first = self.wanted.len() * turn / of;
        self.wanted.rotate_left(first);
        self.wanted.reverse();
        while !self.wanted.is_empty() || !self.asked.is_empty() {
            if !self.choked && (self.asked.len() + BATCH <= AHEAD || self.asked.is_empty()) {
                self.ask()?;
            }
            self.fill()?;
            self.read_messages()?;
        }
        Ok(())
    }

    fn ask(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.asked.len() < AHEAD
            && let Some((piece, begin)) = self.wanted.pop()
        {
            let length = self.length(piece, begin) as u32;
            bytes.extend_from_slice(&[0, 0, 0, 13, REQUEST]);
            [piece, begin, length].iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
            self.asked.push((piece, begin));
        }
        self.stream.write_all(&bytes)
    }

    fn length(&self, piece: u32, begin: u32) -> usize {
        let start = piece as usize * self.content.piece_length;
        let end = (start + self.content.piece_length).min(self.content.len());
        (end - start - begin as usize).min(BLOCK)
    }

    fn fill(&mut self) -> io::Result<()> {
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the seed has closed the connection"));
        }
        self.filled += count;
        Ok(())
    }

    fn drop_front(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    fn read_messages(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        while let Some(message) = wire::message(&buffer[used..self.filled])? {
            used += 4 + message.len();
            self.on_message(message)?;
        }
        self.buffer = buffer;
        self.drop_front(used);
        Ok(())
    }

    fn on_message(&mut self, message: &[u8]) -> io::Result<()> {
        match message {
            [CHOKE] => {
                (self.choked, self.was_choked) = (true, true);
                // What was asked for is forgotten on the other side.
                self.wanted.extend(self.asked.drain(..).rev());
            }
            [UNCHOKE] => self.choked = false,
            [PIECE, rest @ ..] => return self.on_block(rest),
            _ => {}
        }
        Ok(())
    }

    fn on_block(&mut self, message: &[u8]) -> io::Result<()> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it sends what was not asked for");
        let (piece, begin) = (wire::word(message, 0), wire::word(message, 1));
        let (Some(piece), Some(begin)) = (piece, begin) else { return Err(wrong()) };
        let block = (piece as u32, begin as u32);
        let Some(at) = self.asked.iter().position(|asked| *asked == block) else {
            // Asked for before a choke, and sent all the same: perhaps for the second time by now.
            if let Some(late) = self.wanted.iter().rposition(|wanted| *wanted == block) {
                self.wanted.remove(late);
                return Ok(());
            }
            return if self.was_choked { Ok(()) } else { Err(wrong()) };
        };
        self.asked.remove(at);
        if message.len() != 8 + self.length(block.0, block.1) {
            return Err(wrong());
        }
        if self.compare && self.content.block(piece, begin, message.len() - 8) != Some(&message[8..]) {
            return Err(io::Error::other("what it sends differs"));
        }
        Ok(())
    }
}

/// All blocks in order.
fn blocks(content: &Content) -> Vec<(u32, u32)> {
    let mut blocks = Vec::new();
    for start in (0..content.len()).step_by(content.piece_length) {
        let piece = start / content.piece_length;
        let end = (start + content.piece_length).min(content.len());
        blocks.extend((start..end).step_by(BLOCK).map(|at| (piece as u32, (at - start) as u32)));
    }
    blocks
}

/// Connects from an address of its own: clients take one address for one peer.
pub(crate) fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&stream, &SocketAddr::new(from, 0))?;
    connect(&stream, &to)?;
    Ok(stream.into())
}
