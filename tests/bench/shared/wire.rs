//! As much of the protocol as the bare peers of the benchmark speak.

use std::io::{self, Read, Write};
use std::net::TcpStream;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
const HANDSHAKE: usize = 68;

pub(crate) const CHOKE: u8 = 0;
pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const HAVE: u8 = 4;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;
pub(crate) const EXTENDED: u8 = 20;

/// In the sixth of the reserved bytes: the extension protocol.
const EXTENDED_BIT: u8 = 0x10;

/// The common block.
pub(crate) const BLOCK: usize = 16 << 10;

/// Sends a handshake. `name` is the peer id, of 20 bytes.
pub(crate) fn greet(
    stream: &mut TcpStream,
    info_hash: &[u8; 20],
    name: &[u8; 20],
    extended: bool,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(HANDSHAKE);
    bytes.extend_from_slice(PROTOCOL);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, if extended { EXTENDED_BIT } else { 0 }, 0, 0]);
    bytes.extend_from_slice(info_hash);
    bytes.extend_from_slice(name);
    stream.write_all(&bytes)
}

/// Reads the other side's: its info-hash, and whether it speaks the extension protocol.
pub(crate) fn greeted(stream: &mut TcpStream) -> io::Result<([u8; 20], bool)> {
    let mut bytes = [0; HANDSHAKE];
    stream.read_exact(&mut bytes)?;
    let mut info_hash = [0; 20];
    info_hash.copy_from_slice(&bytes[28..48]);
    if bytes.starts_with(PROTOCOL) {
        Ok((info_hash, bytes[25] & EXTENDED_BIT != 0))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Number `at` of the big-endian words.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(4 * at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes) as usize)
}

/// A bitfield message of these pieces.
pub(crate) fn bitfield(pieces: usize, has: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut bits = vec![0u8; pieces.div_ceil(8)];
    for piece in (0..pieces).filter(|piece| has(*piece)) {
        bits[piece / 8] |= 0x80 >> (piece % 8);
    }
    let length = bits.len() as u32 + 1;
    [&length.to_be_bytes(), &[BITFIELD][..], &bits].concat()
}

/// The first whole message without its length; empty for a keep-alive.
pub(crate) fn message(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    // Nobody sends anything longer than a bitfield, pieces apart.
    if length > 1 << 17 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length))
}
