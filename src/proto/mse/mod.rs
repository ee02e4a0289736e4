//! Message stream encryption (MSE, also PE): what hides the protocol from whoever looks for it on the way. The two
//! agree on a secret (Diffie and Hellman), prove that both know the torrent's info-hash, and go on with RC4 or, if both
//! like, in the clear. It hides; it keeps nothing secret from one who knows the info-hash and sits in between.
//!
//! The dialling side A and the answering side B say, `E` being RC4:
//!
//! ```text
//! A: Ya, padding       B: Yb, padding       Y = 2^x mod p, S = Ya^xb = Yb^xa; padding: 0 to 512 random bytes
//! A: HASH(req1, S), HASH(req2, SKEY) ^ HASH(req3, S), E(VC, provide, len, padding, len, initial payload)
//! B: E(VC, select, len, padding), payload
//! A: payload
//! ```

pub mod dh;
pub mod rc4;
mod shake;
#[cfg(test)]
mod tests;

pub use dh::{Key, Power};
pub use rc4::Rc4;
pub use shake::{Agreed, Shake, Step, fuzz_mse};

use crate::proto::id::InfoHash;
use sha1::{Digest, Sha1};
use std::fmt;

/// How the payload goes after the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// In the clear: only the handshake is hidden.
    Plain,
    /// By RC4.
    Rc4,
}

/// Which of them one side allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Methods {
    bits: u32,
}

impl Methods {
    /// RC4 only.
    pub const RC4: Methods = Methods { bits: 2 };
    /// The clear only.
    pub const PLAIN: Methods = Methods { bits: 1 };
    /// Either.
    pub const ANY: Methods = Methods { bits: 3 };

    /// What `offered` (the bits of `crypto_provide`) and these have in common; the clear if they have it, for RC4 costs
    /// more than all else together.
    fn choose(self, offered: u32) -> Option<Method> {
        match self.bits & offered {
            both if both & 1 != 0 => Some(Method::Plain),
            both if both & 2 != 0 => Some(Method::Rc4),
            _ => None,
        }
    }

    /// The one that `selected` (`crypto_select`) names, if it is one of these.
    fn chosen(self, selected: u32) -> Option<Method> {
        match selected {
            1 | 2 => self.choose(selected),
            _ => None,
        }
    }
}

/// The name under which the answering side is asked for a torrent: `HASH('req2', SKEY)`.
pub fn request_name(torrent: InfoHash) -> [u8; 20] {
    hash(&[b"req2", &torrent.0])
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut sha = Sha1::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

/// What is wrong with a handshake. It cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// More came than may come before our turn.
    Early,
    /// What follows the padding did not come within its longest length: the other side speaks something else, or of
    /// another torrent.
    NoMarker,
    /// It asks for a torrent that we do not have.
    UnknownTorrent,
    /// What must be zeros is not.
    Check,
    /// Padding that is said to be longer than any.
    Padding(u16),
    /// None of the methods that it offers (these bits) is allowed here.
    NoMethod(u32),
    /// It selected (these bits) what was not offered.
    NotOffered(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Early => f.write_str("more than padding before our turn"),
            Error::NoMarker => f.write_str("no end of the padding"),
            Error::UnknownTorrent => f.write_str("asked for an unknown torrent"),
            Error::Check => f.write_str("a wrong verification constant"),
            Error::Padding(len) => write!(f, "padding of {len} bytes"),
            Error::NoMethod(bits) => write!(f, "no common method: {bits:#x} is offered"),
            Error::NotOffered(bits) => write!(f, "method {bits:#x} is selected and was not offered"),
        }
    }
}

impl std::error::Error for Error {}
