//! A thousand peers that have some of the pieces and tell of new ones, and give nothing: loopback connections, each
//! from an address of its own, all kept by one thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::shared::wire::{self, HAVE};
use crate::sink::dial;

pub(crate) struct Crowd {
    told: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    burst: Arc<AtomicU64>,
}

struct Member {
    stream: TcpStream,
    /// The next piece that it will have got.
    piece: usize,
    gone: bool,
}

impl Crowd {
    /// Connects `count` peers to a client. Number n has n mod 100 of a hundred pieces; each tells of a new one every
    /// `pause`.
    pub(crate) fn gather(
        to: SocketAddr,
        info_hash: &[u8; 20],
        pieces: usize,
        count: usize,
        pause: Duration,
    ) -> io::Result<Crowd> {
        let mut members = Vec::new();
        for number in 0..count {
            members.push(Member::join(to, info_hash, pieces, number)?);
        }
        let (told, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let burst = Arc::new(AtomicU64::new(0));
        let keeper = Keeper {
            members,
            pieces,
            pause,
            told: Arc::clone(&told),
            stop: Arc::clone(&stop),
            burst: Arc::clone(&burst),
        };
        let thread = Some(thread::spawn(move || keeper.keep()));
        Ok(Crowd { told, stop, thread, burst })
    }

    /// How many HAVEs were sent.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Has each of them tell of so many pieces at once.
    pub(crate) fn storm(&self, each: u64) {
        self.burst.store(each, Ordering::Relaxed);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Member {
    fn join(to: SocketAddr, info_hash: &[u8; 20], pieces: usize, number: usize) -> io::Result<Member> {
        let from: IpAddr = Ipv4Addr::new(127, 67, (number / 250) as u8, (number % 250 + 1) as u8).into();
        let mut stream = dial(from, to)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut name = *b"-XB0001-one of many!";
        name[16..20].copy_from_slice(&(number as u32).to_be_bytes());
        wire::greet(&mut stream, info_hash, &name, false)?;
        wire::greeted(&mut stream)?;
        stream.write_all(&wire::bitfield(pieces, |piece| has(number, piece)))?;
        stream.set_nonblocking(true)?;
        // A prime apart, so that they do not all tell of the same ones.
        Ok(Member { stream, piece: number * 7919 % pieces, gone: false })
    }

    /// Tells of `count` pieces, as long as the other side reads. Returns of how many.
    fn tell(&mut self, pieces: usize, count: u64) -> u64 {
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes.extend_from_slice(&[0, 0, 0, 5, HAVE]);
            bytes.extend_from_slice(&(self.piece as u32).to_be_bytes());
            self.piece = (self.piece + 1) % pieces;
        }
        match self.stream.write(&bytes) {
            // What does not fit is left out, but a message is never cut.
            Ok(sent) if sent % 9 == 0 => sent as u64 / 9,
            Ok(_) => {
                self.gone = true;
                0
            }
            Err(error) => {
                self.gone = error.kind() != ErrorKind::WouldBlock;
                0
            }
        }
    }

    /// Throws away what has come.
    fn listen(&mut self, buffer: &mut [u8]) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => break self.gone = true,
                Ok(_) => {}
                Err(error) => break self.gone |= error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// A piece of a hundred, by its number mixed with the peer's.
fn has(number: usize, piece: usize) -> bool {
    let mixed = (piece as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (number as u64) << 20);
    ((mixed >> 40) % 100) < (number % 100) as u64
}

struct Keeper {
    members: Vec<Member>,
    pieces: usize,
    pause: Duration,
    told: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    burst: Arc<AtomicU64>,
}

impl Keeper {
    /// Goes round among them, a few at a time.
    fn keep(mut self) {
        let mut buffer = vec![0; 64 << 10];
        let count = self.members.len();
        let (start, mut turn) = (Instant::now(), 0);
        while !self.stop.load(Ordering::Relaxed) {
            let burst = self.burst.swap(0, Ordering::Relaxed);
            if burst > 0 {
                let pieces = self.pieces;
                let told: u64 = self.members.iter_mut().map(|member| member.tell(pieces, burst)).sum();
                self.told.fetch_add(told, Ordering::Relaxed);
            }
            let due = start.elapsed().as_secs_f64() / self.pause.as_secs_f64() * count as f64;
            while (turn as f64) < due {
                let member = &mut self.members[turn % count];
                turn += 1;
                if !member.gone {
                    member.listen(&mut buffer);
                    self.told.fetch_add(member.tell(self.pieces, 1), Ordering::Relaxed);
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
