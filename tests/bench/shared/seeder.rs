//! The cheapest seeder: sends blocks from memory and does nothing else, so that the other side is what is measured.
//! A thread a connection; no choking, no encryption, and of the extensions only the limit of its request queue.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::content::Content;
use super::wire::{self, EXTENDED, INTERESTED, PIECE, REQUEST, UNCHOKE};

/// What is shared, and with whom.
pub(crate) struct Seeder {
    pub(crate) listen: SocketAddr,
    contents: Vec<Arc<Content>>,
    first_request: Mutex<Option<Instant>>,
    dialing: AtomicBool,
    answered: AtomicUsize,
    sent: AtomicU64,
    /// Connections of this run.
    open: Mutex<Vec<TcpStream>>,
}

impl Seeder {
    /// Listens until the process ends.
    pub(crate) fn start(listen: SocketAddr, contents: Vec<Arc<Content>>) -> io::Result<Arc<Seeder>> {
        let listener = TcpListener::bind(listen)?;
        let listen = listener.local_addr()?;
        let seeder = Arc::new(Seeder {
            listen,
            contents,
            first_request: Mutex::new(None),
            dialing: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            open: Mutex::default(),
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

    /// Forgets the last run, and hangs up on whoever it was.
    pub(crate) fn reset(&self) {
        *lock(&self.first_request) = None;
        self.dialing.store(false, Ordering::Relaxed);
        for stream in lock(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.sent.store(0, Ordering::Relaxed);
    }

    /// Bytes of blocks sent in this run.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// When the first block of this run was asked for.
    pub(crate) fn first_request(&self) -> Option<Instant> {
        *lock(&self.first_request)
    }

    /// How many connections have come so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Dials a peer that does not dial us, until it asks or the run is over.
    pub(crate) fn dial(self: &Arc<Self>, peer: SocketAddr, content: &Arc<Content>) {
        self.dialing.store(true, Ordering::Relaxed);
        let (shared, content) = (Arc::clone(self), Arc::clone(content));
        thread::spawn(move || {
            while shared.dialing.load(Ordering::Relaxed) {
                // A client that is still starting accepts and hangs up: then once more.
                if let Ok(stream) = TcpStream::connect(peer) {
                    let _ = shared.call(stream, &content);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let (info_hash, extended) = wire::greeted(&mut stream)?;
        let content = self.contents.iter().find(|content| content.info_hash == info_hash);
        let content = content.ok_or(io::ErrorKind::InvalidData)?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.greet(&mut stream, content)?;
        self.serve(&mut stream, content, extended)
    }

    fn call(&self, mut stream: TcpStream, content: &Content) -> io::Result<()> {
        self.greet(&mut stream, content)?;
        let (_, extended) = wire::greeted(&mut stream)?;
        self.serve(&mut stream, content, extended)
    }

    /// Its id tells it from the others: a client keeps one connection an id.
    fn greet(&self, stream: &mut TcpStream, content: &Content) -> io::Result<()> {
        let mut name = *b"-XB0001-fast seeder!";
        name[16..18].copy_from_slice(&self.listen.port().to_be_bytes());
        wire::greet(stream, &content.info_hash, &name, true)
    }

    fn serve(&self, stream: &mut TcpStream, content: &Content, extended: bool) -> io::Result<()> {
        lock(&self.open).push(stream.try_clone()?);
        stream.write_all(&wire::bitfield(content.pieces(), |_| true))?;
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
            while let Some(message) = wire::message(&buffer[used..filled])? {
                used += 4 + message.len();
                match message {
                    [INTERESTED] => stream.write_all(&[0, 0, 0, 1, UNCHOKE])?,
                    [REQUEST, block @ ..] => requests.push(block_of(content, block)?),
                    _ => {}
                }
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if !requests.is_empty() {
                lock(&self.first_request).get_or_insert_with(Instant::now);
                self.dialing.store(false, Ordering::Relaxed);
            }
            // The kernel takes 1,024 slices a call.
            for some in requests.chunks(512) {
                send(stream, some)?;
                let bytes: usize = some.iter().map(|block| block.bytes.len()).sum();
                self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Block<'a> {
    head: [u8; 13],
    bytes: &'a [u8],
}

/// What a request asks for.
fn block_of<'a>(content: &'a Content, request: &[u8]) -> io::Result<Block<'a>> {
    let word = |at| wire::word(request, at).ok_or(io::ErrorKind::InvalidData);
    let bytes = content.block(word(0)?, word(1)?, word(2)?).ok_or(io::ErrorKind::InvalidData)?;
    let mut head = [0; 13];
    head[..4].copy_from_slice(&(9 + bytes.len() as u32).to_be_bytes());
    head[4] = PIECE;
    head[5..].copy_from_slice(&request[..8]);
    Ok(Block { head, bytes })
}

fn send(stream: &mut TcpStream, blocks: &[Block<'_>]) -> io::Result<()> {
    let parts = blocks.iter().flat_map(|block| [&block.head[..], block.bytes]);
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
