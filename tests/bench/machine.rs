//! What the machine itself can do, in the same run: no client gets past this.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapOptions};
use sha1::{Digest, Sha1};

use crate::shared::content::Content;
use crate::shared::usage;

/// Bytes of one call.
const CHUNK: usize = 256 << 10;
/// Bytes of one mapping.
const WINDOW: usize = 16 << 20;

/// Seconds on the wall and of the processor for one GiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

impl Cost {
    fn per_gib(wall: Duration, cpu: Duration, bytes: usize) -> Cost {
        let gib = bytes as f64 / (1u64 << 30) as f64;
        Cost { wall: wall.as_secs_f64() / gib, cpu: cpu.as_secs_f64() / gib }
    }
}

/// Processors that a process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn measure(bytes: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<Cost> {
    let (start, before) = (Instant::now(), usage::own_cpu());
    work()?;
    Ok(Cost::per_gib(start.elapsed(), usage::own_cpu() - before, bytes))
}

/// One thread sends as `send` does, another receives: what either costs.
fn transfer(bytes: usize, send: impl FnOnce(TcpStream) -> io::Result<()> + Send) -> io::Result<(Cost, Cost)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let start = Instant::now();
    let (sender, receiver) = thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let before = usage::thread_cpu();
            send(TcpStream::connect(address)?)?;
            io::Result::Ok(usage::thread_cpu() - before)
        });
        let (mut stream, _) = listener.accept()?;
        let before = usage::thread_cpu();
        let mut buffer = vec![0; CHUNK];
        while stream.read(&mut buffer)? > 0 {}
        let receiver = usage::thread_cpu() - before;
        let sender = sender.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))?;
        io::Result::Ok((sender, receiver))
    })?;
    let wall = start.elapsed();
    Ok((Cost::per_gib(wall, sender, bytes), Cost::per_gib(wall, receiver, bytes)))
}

/// From memory: the cost of sending, and of receiving.
pub(crate) fn loopback(data: &[u8]) -> io::Result<(Cost, Cost)> {
    transfer(data.len(), |mut stream| data.chunks(CHUNK).try_for_each(|chunk| stream.write_all(chunk)))
}

/// From the page cache without a copy: the cost of sending.
pub(crate) fn sendfile(path: &Path) -> io::Result<Cost> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (send, _) = transfer(length as usize, move |stream| {
        let mut offset = 0;
        while offset < length {
            rustix::fs::sendfile(&stream, &file, Some(&mut offset), CHUNK)?;
        }
        Ok(())
    })?;
    Ok(send)
}

/// From the page cache with a copy: the cost of sending.
pub(crate) fn read_and_send(path: &Path) -> io::Result<Cost> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (send, _) = transfer(length as usize, move |mut stream| {
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        while offset < length {
            let count = file.read_at(&mut buffer, offset)?;
            stream.write_all(&buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    })?;
    Ok(send)
}

/// SHA-1 on one core.
pub(crate) fn sha1(data: &[u8]) -> io::Result<Cost> {
    measure(data.len(), || {
        for piece in data.chunks(CHUNK) {
            black_box(Sha1::digest(piece));
        }
        Ok(())
    })
}

/// `pread` and SHA-1 of a file in the page cache, on all cores: the limit of a check. Runs of 4 MiB, as they come.
pub(crate) fn check(path: &Path, piece_length: usize) -> io::Result<Cost> {
    let file = File::open(path)?;
    let length = file.metadata()?.len() as usize;
    let run = piece_length.max(4 << 20);
    measure(length, || {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let start = run * next.fetch_add(1, Ordering::Relaxed);
                if start >= length {
                    return Ok(());
                }
                let end = (start + run).min(length);
                for piece in (start..end).step_by(piece_length) {
                    let mut hasher = Sha1::new();
                    for at in (piece..end.min(piece + piece_length)).step_by(CHUNK) {
                        let part = &mut buffer[..CHUNK.min(end - at)];
                        file.read_exact_at(part, at as u64)?;
                        hasher.update(part);
                    }
                    black_box(hasher.finalize());
                }
            }
        };
        on_all_cores(work)
    })
}

fn on_all_cores(work: impl Fn() -> io::Result<()> + Sync) -> io::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(&work)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))
        };
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

/// Into the page cache, 256 KiB a call, into a file without any blocks yet.
pub(crate) fn pwrite(data: &[u8], dir: &Path) -> io::Result<Cost> {
    let path = dir.join("store");
    let cost = measure(data.len(), || {
        let file = File::create(&path)?;
        for (index, piece) in data.chunks(CHUNK).enumerate() {
            file.write_all_at(piece, (index * CHUNK) as u64)?;
        }
        Ok(())
    });
    fs::remove_file(&path)?;
    cost
}

/// The same through windows of 16 MiB, populated 256 KiB at a time.
#[expect(unsafe_code, reason = "a mapping")]
pub(crate) fn mapped(data: &[u8], dir: &Path) -> io::Result<Cost> {
    let path = dir.join("store");
    let cost = measure(data.len(), || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(data.len() as u64)?;
        for (index, part) in data.chunks(WINDOW).enumerate() {
            let options = MmapOptions::new().offset((index * WINDOW) as u64).len(part.len()).clone();
            // SAFETY: the file is new, in a folder of this process: nobody else changes it.
            let mut window = unsafe { options.map_mut(&file)? };
            for (at, chunk) in part.chunks(CHUNK).enumerate() {
                window.advise_range(Advice::PopulateWrite, at * CHUNK, chunk.len())?;
                window[at * CHUNK..][..chunk.len()].copy_from_slice(chunk);
            }
        }
        Ok(())
    });
    fs::remove_file(&path)?;
    cost
}

/// Many small files made and written, by one thread.
pub(crate) fn files(content: &Content, dir: &Path) -> io::Result<Cost> {
    let dir = dir.join("files");
    let cost = measure(content.len(), || content.write(&dir));
    fs::remove_dir_all(&dir)?;
    cost
}
