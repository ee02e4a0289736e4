//! Peers that break the rules.

use super::world::Script;
use ptorrent::base::bits::Bitfield;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::Block;
use ptorrent::proto::wire::handshake::Handshake;
use ptorrent::proto::wire::message::Message;
use std::borrow::Cow;

pub(crate) fn hello(info_hash: InfoHash, who: u8) -> Vec<u8> {
    Handshake { reserved: [0xff; 8], info_hash, peer_id: [who; 20] }.encode().to_vec()
}

fn put(out: &mut Vec<u8>, message: &Message<'_>) {
    message.encode(out);
}

/// Has everything, unchokes, and never sends a block.
pub(crate) struct Mute {
    hello: Vec<u8>,
}

impl Mute {
    pub(crate) fn new(info_hash: InfoHash, pieces: u32) -> Mute {
        let mut hello = hello(info_hash, 7);
        put(&mut hello, &Message::Bitfield(Cow::Borrowed(Bitfield::full(pieces).as_bytes())));
        put(&mut hello, &Message::Unchoke);
        Mute { hello }
    }
}

impl Script for Mute {
    fn open(&mut self) -> Vec<u8> {
        self.hello.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

/// Is interested, takes an upload slot and asks for nothing.
pub(crate) struct Idler {
    hello: Vec<u8>,
}

impl Idler {
    pub(crate) fn new(info_hash: InfoHash, who: u8) -> Idler {
        let mut hello = hello(info_hash, who);
        put(&mut hello, &Message::Interested);
        Idler { hello }
    }
}

impl Script for Idler {
    fn open(&mut self) -> Vec<u8> {
        self.hello.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

/// How many kinds of [`Foul`] there are.
pub(crate) const KINDS: u8 = 11;

/// Does one foul thing after its handshake.
pub(crate) struct Foul {
    open: Vec<u8>,
    again: Vec<u8>,
}

impl Foul {
    pub(crate) fn new(info_hash: InfoHash, pieces: u32, kind: u8) -> Foul {
        let mut open = hello(info_hash, 50 + kind);
        let mut again = Vec::new();
        let full = Bitfield::full(pieces);
        let bits = Message::Bitfield(Cow::Borrowed(full.as_bytes()));
        match kind {
            0 => open = b"GET / HTTP/1.1\r\nHost: you\r\n\r\n".to_vec(),
            1 => open = hello(InfoHash([9; 20]), 1),
            2 => open.extend([0xff; 64]),
            3 => put(&mut open, &Message::Have(pieces)),
            4 => put(&mut open, &Message::Bitfield(Cow::Borrowed(&[0xff; 3]))),
            5 => (0..20).for_each(|_| put(&mut open, &bits)),
            // A sum that wraps in 32 bits.
            6 => put(&mut open, &Message::Request(Block { piece: 0, begin: u32::MAX - 3, len: 16384 })),
            // Of a piece that the leecher cannot have.
            7 => put(&mut open, &Message::Request(Block { piece: pieces - 1, begin: 0, len: 16384 })),
            // Blocks that nobody asked for, over and over.
            8 => {
                put(&mut open, &bits);
                put(&mut open, &Message::Unchoke);
                put(&mut again, &Message::Piece(Block { piece: 1, begin: 0, len: 16384 }));
                again.extend([0x55; 16384]);
            }
            // Chokes and unchokes for ever.
            9 => {
                put(&mut open, &bits);
                put(&mut again, &Message::Unchoke);
                put(&mut again, &Message::Choke);
            }
            // Connects and says nothing at all.
            _ => open.clear(),
        }
        Foul { open, again }
    }
}

impl Script for Foul {
    fn open(&mut self) -> Vec<u8> {
        self.open.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        self.again.clone()
    }
}
