//! The peer wire protocol (BEP 3): the handshake, the messages, and the decoder that cuts a stream into them.

pub mod allowed_fast;
pub mod decoder;
pub mod handshake;
pub mod message;

pub use decoder::{Decoder, Fate, Payload, Step};
pub use handshake::Handshake;
pub use message::Message;

/// What is wrong with bytes of a peer. None of it can be mended: the connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The stream does not begin as a handshake does: another protocol, or an encrypted stream.
    NotBitTorrent,
    /// A message of this type with a length that the type, or our bound for it, forbids.
    Length {
        /// The message's type.
        id: u8,
        /// The length prefix: the type's byte and what follows.
        len: u32,
    },
    /// A length prefix above that of any message.
    TooLong(u32),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotBitTorrent => write!(f, "not a BitTorrent handshake"),
            Error::Length { id, len } => write!(f, "message of type {id} with length {len}"),
            Error::TooLong(len) => write!(f, "message of length {len}"),
        }
    }
}

impl std::error::Error for Error {}
