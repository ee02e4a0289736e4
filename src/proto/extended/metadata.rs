//! The messages of metadata exchange (BEP 9): a dictionary, and after it in `data` the bytes of a piece.

use crate::limits::METADATA_MAX;
use crate::proto::bencode::{Value, decode_prefix, encode};

/// The bytes of every piece of an info dictionary but the last, which may be shorter.
pub const PIECE: u32 = 16 << 10;

/// A message of metadata exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metadata<'a> {
    /// Send this piece.
    Request {
        /// Which, from 0.
        piece: u32,
    },
    /// Here it is.
    Data {
        /// Which.
        piece: u32,
        /// The bytes of the whole info dictionary, as the sender says; 0 where it does not.
        total: u32,
        /// The bytes of the piece.
        data: &'a [u8],
    },
    /// The sender has not got it, or does not send it now.
    Reject {
        /// Which.
        piece: u32,
    },
    /// A kind of message that is not known; to be ignored (BEP 9).
    Other,
}

/// How many pieces an info dictionary of so many bytes has.
pub fn pieces(total: u32) -> u32 {
    total.div_ceil(PIECE)
}

/// The bytes of a piece; 0 when there is none of that number.
pub fn piece_len(piece: u32, total: u32) -> u32 {
    total.saturating_sub(piece.saturating_mul(PIECE)).min(PIECE)
}

/// Reads a message; on an error the words say what is wrong.
pub fn read(body: &[u8]) -> Result<Metadata<'_>, &'static str> {
    let wrong = "a metadata message that is none";
    let (value, used) = decode_prefix(body).map_err(|_| wrong)?;
    let fields = value.as_dict().ok_or(wrong)?.fields(["msg_type", "piece", "total_size"]);
    let [kind, piece, total] = fields.map_err(|_| wrong)?;
    let number = |value: Option<Value<'_>>| value.and_then(Value::as_int);
    let kind = number(kind).ok_or(wrong)?;
    if !(0..=2).contains(&kind) {
        return Ok(Metadata::Other);
    }
    let most = i64::from(pieces(METADATA_MAX));
    let piece =
        number(piece).filter(|piece| (0..most).contains(piece)).ok_or("a metadata piece that is none")?;
    let piece = u32::try_from(piece).map_err(|_| wrong)?;
    match kind {
        0 => Ok(Metadata::Request { piece }),
        1 => {
            let total = number(total).and_then(|total| u32::try_from(total).ok()).unwrap_or(0);
            let data = body.get(used..).unwrap_or_default();
            if data.is_empty() || data.len() > PIECE as usize {
                return Err("a metadata piece of a length that none has");
            }
            Ok(Metadata::Data { piece, total, data })
        }
        _ => Ok(Metadata::Reject { piece }),
    }
}

/// The bytes of a message. [`Metadata::Other`] has none.
pub fn write(message: &Metadata<'_>) -> Vec<u8> {
    let (kind, piece, total, data) = match *message {
        Metadata::Request { piece } => (0, piece, None, &[][..]),
        Metadata::Data { piece, total, data } => (1, piece, Some(total), data),
        Metadata::Reject { piece } => (2, piece, None, &[][..]),
        Metadata::Other => return Vec::new(),
    };
    let mut out = encode(|e| {
        e.dict(|dict| {
            dict.entry("msg_type").int(kind);
            dict.entry("piece").int(piece.into());
            if let Some(total) = total {
                dict.entry("total_size").int(total.into());
            }
        });
    });
    out.extend_from_slice(data);
    out
}

/// Fuzz entry: reads `data` as a message and asserts that it is the same when it is written and read again.
#[doc(hidden)]
pub fn fuzz_metadata(data: &[u8]) {
    match read(data) {
        Ok(Metadata::Other) => assert!(write(&Metadata::Other).is_empty()),
        Ok(message) => {
            assert_eq!(read(&write(&message)), Ok(message));
            if let Metadata::Data { data: bytes, .. } = message {
                assert!(data.ends_with(bytes));
            }
        }
        Err(words) => assert!(!words.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_the_specification() {
        assert_eq!(read(b"d8:msg_typei0e5:piecei0ee"), Ok(Metadata::Request { piece: 0 }));
        let data = Metadata::Data { piece: 0, total: 3425, data: b"xxxxxxxx" };
        assert_eq!(read(b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx"), Ok(data));
        assert_eq!(read(b"d8:msg_typei2e5:piecei7ee"), Ok(Metadata::Reject { piece: 7 }));
        assert_eq!(read(b"d8:msg_typei3e5:piecei7ee"), Ok(Metadata::Other));
        for message in [data, Metadata::Request { piece: 5 }, Metadata::Reject { piece: 6 }] {
            assert_eq!(read(&write(&message)), Ok(message));
        }
    }

    #[test]
    fn a_size_that_is_not_said_or_cannot_be_is_0() {
        for size in ["", "10:total_sizei-1e", "10:total_sizei4294967296e", "10:total_size1:x"] {
            let body = format!("d8:msg_typei1e5:piecei0e{size}ex");
            assert_eq!(
                read(body.as_bytes()),
                Ok(Metadata::Data { piece: 0, total: 0, data: b"x" }),
                "{size}"
            );
        }
    }

    #[test]
    fn hostile_messages_are_errors() {
        let long = [&b"d8:msg_typei1e5:piecei0ee"[..], &[0; PIECE as usize + 1]].concat();
        let deep = [&b"d1:x"[..], &[b'l'; 100]].concat();
        let past = format!("d8:msg_typei0e5:piecei{}ee", pieces(METADATA_MAX));
        for wrong in [
            &b""[..],
            b"i0e",
            b"de",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei0e5:piece1:0e",
            b"d8:msg_typei1e5:piecei0ee",
            b"d8:msg_typei0e8:msg_typei1e5:piecei0ee",
            past.as_bytes(),
            &long,
            &deep,
        ] {
            assert!(read(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn the_last_piece_is_what_is_left() {
        assert_eq!((pieces(0), pieces(1), pieces(PIECE), pieces(PIECE + 1)), (0, 1, 1, 2));
        assert_eq!(
            (piece_len(0, PIECE + 5), piece_len(1, PIECE + 5), piece_len(2, PIECE + 5)),
            (PIECE, 5, 0)
        );
        assert_eq!(piece_len(u32::MAX, u32::MAX), 0);
    }
}
