//! The cheapest seeder: sends blocks from memory and does nothing else, so that the other side is what is measured.
//! A thread a connection; no choking, no encryption, and of the extensions only the limit of its request queue.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
const HANDSHAKE: usize = 68;

/// What is shared, and with whom.
pub(crate) struct Seeder {
    pub(crate) listen: SocketAddr,
    info_hash: [u8; 20],
    piece_length: usize,
    data: Arc<Vec<u8>>,
    /// Bytes of the torrent: `data` as often as it takes, a whole number of times.
    size: usize,
    first_request: Mutex<Option<Instant>>,
    dialing: AtomicBool,
    connections: AtomicUsize,
}

impl Seeder {
    /// Listens until the process ends.
    pub(crate) fn start(
        listen: SocketAddr,
        info_hash: [u8; 20],
        piece_length: usize,
        data: Arc<Vec<u8>>,
    ) -> io::Result<Arc<Seeder>> {
        let size = data.len();
        Seeder::repeating(listen, info_hash, piece_length, data, size)
    }

    /// As [`Seeder::start`], for a torrent of `size` bytes that holds `data` again and again.
    pub(crate) fn repeating(
        listen: SocketAddr,
        info_hash: [u8; 20],
        piece_length: usize,
        data: Arc<Vec<u8>>,
        size: usize,
    ) -> io::Result<Arc<Seeder>> {
        let listener = TcpListener::bind(listen)?;
        let listen = listener.local_addr()?;
        let first_request = Mutex::new(None);
        let seeder = Arc::new(Seeder {
            listen,
            info_hash,
            piece_length,
            data,
            size,
            first_request,
            dialing: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&seeder);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A peer that goes is how each run ends.
                thread::spawn(move || shared.answer(stream));
            }
        });
        Ok(seeder)
    }

    /// Forgets the last run.
    pub(crate) fn reset(&self) {
        *self.first_request.lock().unwrap() = None;
        self.dialing.store(false, Ordering::Relaxed);
    }

    /// How many have come so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// When the first block of this run was asked for.
    pub(crate) fn first_request(&self) -> Option<Instant> {
        *self.first_request.lock().unwrap()
    }

    /// Dials a peer that does not dial us, until it answers or the run is over.
    pub(crate) fn dial(self: &Arc<Self>, peer: SocketAddr) {
        self.dialing.store(true, Ordering::Relaxed);
        let shared = Arc::clone(self);
        thread::spawn(move || {
            while shared.dialing.load(Ordering::Relaxed) {
                // A client that is still starting accepts and hangs up: then once more.
                if let Ok(stream) = TcpStream::connect(peer) {
                    let _ = shared.call(stream);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let extended = self.read_handshake(&mut stream)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.write_handshake(&mut stream)?;
        self.serve(&mut stream, extended)
    }

    fn call(&self, mut stream: TcpStream) -> io::Result<()> {
        self.write_handshake(&mut stream)?;
        let extended = self.read_handshake(&mut stream)?;
        self.serve(&mut stream, extended)
    }

    /// Returns whether the peer speaks the extension protocol.
    fn read_handshake(&self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut bytes = [0; HANDSHAKE];
        stream.read_exact(&mut bytes)?;
        if bytes.starts_with(PROTOCOL) && bytes[28..48] == self.info_hash {
            Ok(bytes[25] & EXTENDED_BIT != 0)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn write_handshake(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut bytes = Vec::with_capacity(HANDSHAKE);
        bytes.extend_from_slice(PROTOCOL);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, EXTENDED_BIT, 0, 0]);
        bytes.extend_from_slice(&self.info_hash);
        bytes.extend_from_slice(b"-XB0001-fast seeder!");
        stream.write_all(&bytes)
    }

    fn serve(&self, stream: &mut TcpStream, extended: bool) -> io::Result<()> {
        stream.write_all(&self.bitfield())?;
        if extended {
            // Without this, clients take 250 requests for all that we can queue.
            let limit = b"d4:reqqi2000ee";
            stream.write_all(&[&[0, 0, 0, 2 + limit.len() as u8, EXTENDED, 0], &limit[..]].concat())?;
        }
        let mut buffer = vec![0; 1 << 18];
        let mut filled = 0;
        loop {
            let count = stream.read(&mut buffer[filled..])?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let mut requests = Vec::new();
            let mut used = 0;
            while let Some(message) = message(&buffer[used..filled])? {
                used += 4 + message.len();
                match message {
                    [INTERESTED] => stream.write_all(&[0, 0, 0, 1, UNCHOKE])?,
                    [REQUEST, block @ ..] => requests.push(self.block(block)?),
                    _ => {}
                }
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if !requests.is_empty() {
                self.first_request.lock().unwrap().get_or_insert_with(Instant::now);
                self.dialing.store(false, Ordering::Relaxed);
            }
            // The kernel takes 1,024 slices a call.
            for some in requests.chunks(512) {
                self.send(stream, some)?;
            }
        }
    }

    fn bitfield(&self) -> Vec<u8> {
        let pieces = self.size.div_ceil(self.piece_length);
        let mut bits = vec![0xff; pieces.div_ceil(8)];
        if !pieces.is_multiple_of(8) {
            *bits.last_mut().unwrap() = 0xff << (8 - pieces % 8);
        }
        let length = u32::try_from(bits.len() + 1).unwrap();
        [&length.to_be_bytes(), &[BITFIELD][..], &bits].concat()
    }

    fn block(&self, bytes: &[u8]) -> io::Result<Block> {
        let Ok(bytes) = <&[u8; 12]>::try_from(bytes) else { return Err(io::ErrorKind::InvalidData.into()) };
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (piece, begin, length) = (word(0), word(4), word(8));
        let start = piece as usize * self.piece_length + begin as usize;
        if start + length as usize > self.size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let start = start % self.data.len();
        let end = start + length as usize;
        let mut head = [0; 13];
        head[..4].copy_from_slice(&(9 + length).to_be_bytes());
        head[4] = PIECE;
        head[5..].copy_from_slice(&bytes[..8]);
        Ok(Block { head, start, end })
    }

    fn send(&self, stream: &mut TcpStream, blocks: &[Block]) -> io::Result<()> {
        let parts = blocks.iter().flat_map(|block| [&block.head[..], &self.data[block.start..block.end]]);
        let mut slices: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let count = stream.write_vectored(rest)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, count);
        }
        Ok(())
    }
}

struct Block {
    head: [u8; 13],
    start: usize,
    end: usize,
}

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const EXTENDED: u8 = 20;

/// In the sixth of the reserved bytes: the extension protocol.
const EXTENDED_BIT: u8 = 0x10;

/// The first whole message without its length; empty for a keep-alive.
fn message(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    // Leechers send nothing longer than their bitfield.
    if length > 1 << 17 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length))
}
