//! The messages of the peer wire protocol (BEP 3, `port` of BEP 5, those of BEP 6 and the envelope of BEP 10) and their
//! encoding. Decoding is the decoder's.

use crate::proto::layout::Block;
use std::borrow::Cow;

/// The types of messages, as they stand on the wire.
pub mod id {
    /// No payload, as all up to [`NOT_INTERESTED`].
    pub const CHOKE: u8 = 0;
    /// No payload.
    pub const UNCHOKE: u8 = 1;
    /// No payload.
    pub const INTERESTED: u8 = 2;
    /// No payload.
    pub const NOT_INTERESTED: u8 = 3;
    /// A piece number follows.
    pub const HAVE: u8 = 4;
    /// A bit for each piece follows.
    pub const BITFIELD: u8 = 5;
    /// Piece, begin and length follow.
    pub const REQUEST: u8 = 6;
    /// Piece, begin and the data follow.
    pub const PIECE: u8 = 7;
    /// As a request.
    pub const CANCEL: u8 = 8;
    /// A UDP port follows (BEP 5).
    pub const PORT: u8 = 9;
    /// A piece number follows (BEP 6, as all up to [`ALLOWED_FAST`]).
    pub const SUGGEST: u8 = 13;
    /// No payload.
    pub const HAVE_ALL: u8 = 14;
    /// No payload.
    pub const HAVE_NONE: u8 = 15;
    /// As a request.
    pub const REJECT: u8 = 16;
    /// A piece number follows.
    pub const ALLOWED_FAST: u8 = 17;
    /// The id of an extension follows, then what it has to say (BEP 10).
    pub const EXTENDED: u8 = 20;
}

/// One message. Small and cheap to move; only a bitfield and the body of an extension may borrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Nothing, so that the connection is not thought dead.
    KeepAlive,
    /// The sender serves no requests until it says unchoke.
    Choke,
    /// The sender serves requests.
    Unchoke,
    /// The sender would ask for pieces, were it not choked.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender has this piece now.
    Have(u32),
    /// The pieces that the sender has, as [`crate::base::bits::Bitfield`] holds them. Whether the length is right
    /// is for who knows the torrent.
    Bitfield(Cow<'a, [u8]>),
    /// The sender asks for this block.
    Request(Block),
    /// The header of a message whose payload is this block. The decoder gives it as a step of its own.
    Piece(Block),
    /// The sender asks for this block no more.
    Cancel(Block),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The receiver might ask for this piece: it costs the sender little (BEP 6, as all up to `AllowedFast`).
    Suggest(u32),
    /// The sender has every piece. In place of a bitfield.
    HaveAll,
    /// The sender has no piece. In place of a bitfield.
    HaveNone,
    /// This request will not be served.
    Reject(Block),
    /// The receiver may ask for this piece though it is choked.
    AllowedFast(u32),
    /// A message of an extension (BEP 10).
    Extended {
        /// Which one: an id that the receiver gave it; 0 is the handshake of extensions.
        id: u8,
        /// What it says.
        body: Cow<'a, [u8]>,
    },
    /// A message of a type that we do not know; its `len` bytes are passed over.
    Other {
        /// The type.
        id: u8,
        /// The bytes after the type.
        len: u32,
    },
}

impl Message<'_> {
    /// Appends the bytes of the message. Of `Piece` and `Other` it is the header only: what follows is the caller's
    /// to send.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::KeepAlive => out.extend_from_slice(&[0; 4]),
            Message::Choke => head(out, 1, id::CHOKE),
            Message::Unchoke => head(out, 1, id::UNCHOKE),
            Message::Interested => head(out, 1, id::INTERESTED),
            Message::NotInterested => head(out, 1, id::NOT_INTERESTED),
            Message::Have(piece) => {
                head(out, 5, id::HAVE);
                out.extend_from_slice(&piece.to_be_bytes());
            }
            Message::Bitfield(bits) => {
                head(out, bits.len() as u64 + 1, id::BITFIELD);
                out.extend_from_slice(bits);
            }
            Message::Request(block) => whole_block(out, id::REQUEST, block),
            Message::Cancel(block) => whole_block(out, id::CANCEL, block),
            Message::Piece(block) => {
                head(out, u64::from(block.len) + 9, id::PIECE);
                out.extend_from_slice(&block.piece.to_be_bytes());
                out.extend_from_slice(&block.begin.to_be_bytes());
            }
            Message::Port(port) => {
                head(out, 3, id::PORT);
                out.extend_from_slice(&port.to_be_bytes());
            }
            Message::Suggest(piece) => {
                head(out, 5, id::SUGGEST);
                out.extend_from_slice(&piece.to_be_bytes());
            }
            Message::HaveAll => head(out, 1, id::HAVE_ALL),
            Message::HaveNone => head(out, 1, id::HAVE_NONE),
            Message::Reject(block) => whole_block(out, id::REJECT, block),
            Message::AllowedFast(piece) => {
                head(out, 5, id::ALLOWED_FAST);
                out.extend_from_slice(&piece.to_be_bytes());
            }
            Message::Extended { id: extension, body } => {
                head(out, body.len() as u64 + 2, id::EXTENDED);
                out.push(*extension);
                out.extend_from_slice(body);
            }
            Message::Other { id, len } => head(out, u64::from(*len) + 1, *id),
        }
    }

    /// The same message, borrowing nothing.
    pub fn into_owned(self) -> Message<'static> {
        match self {
            Message::KeepAlive => Message::KeepAlive,
            Message::Choke => Message::Choke,
            Message::Unchoke => Message::Unchoke,
            Message::Interested => Message::Interested,
            Message::NotInterested => Message::NotInterested,
            Message::Have(piece) => Message::Have(piece),
            Message::Bitfield(bits) => Message::Bitfield(Cow::Owned(bits.into_owned())),
            Message::Request(block) => Message::Request(block),
            Message::Piece(block) => Message::Piece(block),
            Message::Cancel(block) => Message::Cancel(block),
            Message::Port(port) => Message::Port(port),
            Message::Suggest(piece) => Message::Suggest(piece),
            Message::HaveAll => Message::HaveAll,
            Message::HaveNone => Message::HaveNone,
            Message::Reject(block) => Message::Reject(block),
            Message::AllowedFast(piece) => Message::AllowedFast(piece),
            Message::Extended { id, body } => Message::Extended { id, body: Cow::Owned(body.into_owned()) },
            Message::Other { id, len } => Message::Other { id, len },
        }
    }
}

/// The length prefix and the type. Our own messages are far from 4 GiB: a length that is not is our bug.
fn head(out: &mut Vec<u8>, len: u64, id: u8) {
    debug_assert!(u32::try_from(len).is_ok());
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.push(id);
}

/// A message that is three numbers.
fn whole_block(out: &mut Vec<u8>, id: u8, block: &Block) {
    head(out, 13, id);
    for number in [block.piece, block.begin, block.len] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &Message<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn messages_are_as_bep_3_has_them() {
        let block = Block { piece: 1, begin: 0x0203, len: 0x4000 };
        assert_eq!(bytes(&Message::KeepAlive), [0, 0, 0, 0]);
        assert_eq!(bytes(&Message::Choke), [0, 0, 0, 1, 0]);
        assert_eq!(bytes(&Message::Unchoke), [0, 0, 0, 1, 1]);
        assert_eq!(bytes(&Message::Interested), [0, 0, 0, 1, 2]);
        assert_eq!(bytes(&Message::NotInterested), [0, 0, 0, 1, 3]);
        assert_eq!(bytes(&Message::Have(258)), [0, 0, 0, 5, 4, 0, 0, 1, 2]);
        assert_eq!(bytes(&Message::Bitfield(Cow::Borrowed(&[0xff, 0x80]))), [0, 0, 0, 3, 5, 0xff, 0x80]);
        assert_eq!(bytes(&Message::Request(block)), [0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 2, 3, 0, 0, 0x40, 0]);
        assert_eq!(bytes(&Message::Piece(block)), [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 2, 3]);
        assert_eq!(bytes(&Message::Cancel(block)), [0, 0, 0, 13, 8, 0, 0, 0, 1, 0, 0, 2, 3, 0, 0, 0x40, 0]);
        assert_eq!(bytes(&Message::Port(6881)), [0, 0, 0, 3, 9, 0x1a, 0xe1]);
        assert_eq!(bytes(&Message::Other { id: 21, len: 2 }), [0, 0, 0, 3, 21]);
    }

    #[test]
    fn messages_are_as_bep_6_and_bep_10_have_them() {
        let block = Block { piece: 1, begin: 0x0203, len: 0x4000 };
        assert_eq!(bytes(&Message::Suggest(258)), [0, 0, 0, 5, 0x0d, 0, 0, 1, 2]);
        assert_eq!(bytes(&Message::HaveAll), [0, 0, 0, 1, 0x0e]);
        assert_eq!(bytes(&Message::HaveNone), [0, 0, 0, 1, 0x0f]);
        let reject = [0, 0, 0, 13, 0x10, 0, 0, 0, 1, 0, 0, 2, 3, 0, 0, 0x40, 0];
        assert_eq!(bytes(&Message::Reject(block)), reject);
        assert_eq!(bytes(&Message::AllowedFast(258)), [0, 0, 0, 5, 0x11, 0, 0, 1, 2]);
        let body = Cow::Borrowed(&b"de"[..]);
        assert_eq!(bytes(&Message::Extended { id: 3, body }), [0, 0, 0, 4, 20, 3, b'd', b'e']);
    }

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message<'_>>() <= 32, "{}", size_of::<Message<'_>>());
    }
}
