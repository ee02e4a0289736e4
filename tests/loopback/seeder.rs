//! A seeder in the hands of the test: it serves as many blocks as it may, and stops in the middle until it may go on.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// What a seeder may do.
#[derive(Default)]
struct Leave {
    /// Blocks that it may still serve.
    blocks: u64,
    /// When each block was asked for.
    served: Vec<Instant>,
    /// Every byte of what it serves is wrong.
    lies: bool,
}

/// The content and the leave of all its connections.
struct Shared {
    data: Vec<u8>,
    piece_length: usize,
    info_hash: [u8; 20],
    port: u16,
    leave: Mutex<Leave>,
    bell: Condvar,
}

/// A seeder of one file, for any number of connections. Its threads end with the test.
pub(crate) struct Seeder {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Seeder {
    /// One on this address that may serve nothing yet. Whoever is to count as another peer has another address.
    pub(crate) fn new(ip: &str, data: &[u8], piece_length: usize, info_hash: [u8; 20]) -> Seeder {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (leave, bell) = (Mutex::default(), Condvar::new());
        let (data, port) = (data.to_vec(), addr.port());
        let shared = Arc::new(Shared { data, piece_length, info_hash, port, leave, bell });
        let all = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = all.clone();
                // A connection that ends is the other side's affair.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Seeder { addr, shared }
    }

    /// Lets it serve this many more blocks.
    pub(crate) fn allow(&self, blocks: u64) {
        let mut leave = self.shared.leave.lock().unwrap();
        leave.blocks = leave.blocks.saturating_add(blocks);
        self.shared.bell.notify_all();
    }

    /// From now on it serves wrong bytes.
    pub(crate) fn lie(&self) {
        self.shared.leave.lock().unwrap().lies = true;
    }

    /// How many blocks it has served.
    pub(crate) fn served(&self) -> u64 {
        self.shared.leave.lock().unwrap().served.len() as u64
    }

    /// When each of them was asked for, in order.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.shared.leave.lock().unwrap().served.clone()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut shake = [0; 68];
        stream.read_exact(&mut shake)?;
        if !shake.starts_with(b"\x13BitTorrent protocol") {
            return Ok(());
        }
        shake[20..28].fill(0);
        shake[28..48].copy_from_slice(&self.info_hash);
        // Each seeder is a peer of its own.
        shake[48..].copy_from_slice(format!("-XX0000-{:012}", self.port).as_bytes());
        stream.write_all(&shake)?;
        let pieces = self.data.len().div_ceil(self.piece_length);
        let mut bits = vec![0; pieces.div_ceil(8)];
        (0..pieces).for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
        send(&mut stream, 5, &bits)?;
        send(&mut stream, 1, &[])?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut message)?;
            if let Some((6, request)) = message.split_first() {
                self.answer(&mut stream, request)?;
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
        let asked = Instant::now();
        let number =
            |at: usize| u32::from_be_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let start = number(0) as usize * self.piece_length + number(4) as usize;
        let mut message = request[..8].to_vec();
        message.extend(&self.data[start..start + number(8) as usize]);
        let leave = self.leave.lock().unwrap();
        let mut leave = self.bell.wait_while(leave, |leave| leave.blocks == 0).unwrap();
        leave.blocks -= 1;
        leave.served.push(asked);
        if leave.lies {
            message[8..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        drop(leave);
        send(stream, 7, &message)
    }
}

fn send(stream: &mut TcpStream, id: u8, payload: &[u8]) -> io::Result<()> {
    let mut message = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    message.push(id);
    message.extend(payload);
    stream.write_all(&message)
}
