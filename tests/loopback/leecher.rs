//! A downloader of a few lines, as slow as a test wants it: it asks one peer for what that has.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const BLOCK: usize = 16 << 10;

/// A connection to a peer that has unchoked us.
pub(crate) struct Leecher {
    stream: TcpStream,
    piece_length: usize,
    total: usize,
    /// What the peer has, as it said.
    pub(crate) bitfield: Vec<u8>,
}

impl Leecher {
    /// Connects, and waits until it may ask.
    pub(crate) fn new(addr: &str, info_hash: [u8; 20], total: usize, piece_length: usize) -> Leecher {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        handshake.extend(info_hash);
        stream.write_all(&handshake).unwrap();
        // It waits for the other handshake before it sends its peer id, as BEP 3 allows.
        stream.read_exact(&mut [0; 68]).unwrap();
        stream.write_all(b"-XX0001-slow-leecher").unwrap();
        let mut leecher = Leecher { stream, piece_length, total, bitfield: Vec::new() };
        leecher.say(2, &[]).unwrap();
        loop {
            match leecher.hear().unwrap() {
                (Some(5), bits) => leecher.bitfield = bits,
                (Some(1), _) => return leecher,
                _ => {}
            }
        }
    }

    /// The pieces that the peer has.
    pub(crate) fn pieces(&self) -> Vec<usize> {
        let there = |piece: &usize| self.bitfield[piece / 8] & 0x80 >> (piece % 8) != 0;
        (0..self.total.div_ceil(self.piece_length)).filter(there).collect()
    }

    /// Gets these pieces and announces each, with a rest after each block.
    pub(crate) fn get(&mut self, pieces: &[usize], rest: Duration) -> io::Result<Vec<(usize, Vec<u8>)>> {
        let mut wanted: VecDeque<(usize, usize, usize)> = VecDeque::new();
        let mut got: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut missing: Vec<usize> = Vec::new();
        for piece in pieces {
            let len = self.piece_length.min(self.total - piece * self.piece_length);
            got.push((*piece, vec![0; len]));
            missing.push(len.div_ceil(BLOCK));
            wanted.extend((0..len).step_by(BLOCK).map(|begin| (*piece, begin, BLOCK.min(len - begin))));
        }
        let (mut left, mut out) = (wanted.len(), 0);
        while left > 0 {
            while out < 100
                && let Some((piece, begin, len)) = wanted.pop_front()
            {
                let words = [piece, begin, len].map(|n| (n as u32).to_be_bytes());
                self.say(6, words.as_flattened())?;
                out += 1;
            }
            let (Some(7), block) = self.hear()? else { continue };
            let number = |at: usize| u32::from_be_bytes(block[at..at + 4].try_into().unwrap()) as usize;
            let (piece, begin) = (number(0), number(4));
            let index = got.iter().position(|(other, _)| *other == piece).unwrap();
            let to = &mut got[index];
            to.1[begin..begin + block.len() - 8].copy_from_slice(&block[8..]);
            (left, out) = (left - 1, out - 1);
            // Once it is whole, no sooner: who has all is waited for no longer, and to say something to who is no
            // longer there is what loses the rest.
            missing[index] -= 1;
            if missing[index] == 0 {
                self.say(4, &(piece as u32).to_be_bytes())?;
            }
            std::thread::sleep(rest);
        }
        Ok(got)
    }

    fn say(&mut self, id: u8, payload: &[u8]) -> io::Result<()> {
        let mut message = (payload.len() as u32 + 1).to_be_bytes().to_vec();
        message.push(id);
        message.extend(payload);
        self.stream.write_all(&message)
    }

    fn hear(&mut self) -> io::Result<(Option<u8>, Vec<u8>)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut message)?;
        Ok(message.split_first().map_or((None, Vec::new()), |(id, rest)| (Some(*id), rest.to_vec())))
    }
}
