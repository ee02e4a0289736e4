//! What the machine itself can do, in the same run: no client gets past this.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use sha1::{Digest, Sha1};

use crate::usage;

/// Seconds on the wall and of the processor for all of the data.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

fn measure(work: impl FnOnce() -> io::Result<()>) -> io::Result<Cost> {
    let (start, before) = (Instant::now(), usage::own_cpu());
    work()?;
    let cpu = usage::own_cpu().0 - before.0;
    Ok(Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu.as_secs_f64() })
}

/// One thread sends, another receives.
pub(crate) fn loopback(data: &[u8]) -> io::Result<Cost> {
    measure(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::scope(|scope| {
            let sender = scope.spawn(move || TcpStream::connect(address)?.write_all(data));
            let (mut stream, _) = listener.accept()?;
            let mut buffer = vec![0; 1 << 18];
            while stream.read(&mut buffer)? > 0 {}
            sender.join().unwrap()
        })
    })
}

/// SHA-1 on one core.
pub(crate) fn sha1(data: &[u8]) -> io::Result<Cost> {
    measure(|| {
        for piece in data.chunks(1 << 18) {
            black_box(Sha1::digest(piece));
        }
        Ok(())
    })
}

/// Into the page cache, 256 KiB a call, into a file without any blocks yet.
pub(crate) fn store(data: &[u8], dir: &Path) -> io::Result<Cost> {
    let path = dir.join("store");
    let cost = measure(|| {
        let file = File::create(&path)?;
        for (index, piece) in data.chunks(1 << 18).enumerate() {
            file.write_all_at(piece, (index as u64) << 18)?;
        }
        Ok(())
    });
    fs::remove_file(&path)?;
    cost
}

/// Memory that is kept touched. A virtual machine hands idle memory back to its host, and getting it again can cost
/// more than what is measured: this is let go just before each run, so that the run finds it warm.
pub(crate) struct Warm {
    bytes: usize,
    held: Vec<u8>,
}

impl Warm {
    /// At most half of what is free.
    pub(crate) fn new(wanted: usize) -> Warm {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let free: usize = free.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Warm { bytes: wanted.min(free * 1024 / 2), held: Vec::new() }
    }

    pub(crate) fn hold(&mut self) {
        self.held = vec![0; self.bytes];
        for page in self.held.chunks_mut(4096) {
            page[0] = 1;
        }
        black_box(&self.held);
    }

    pub(crate) fn let_go(&mut self) {
        self.held = Vec::new();
    }
}
