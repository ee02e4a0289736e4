//! Rate limits, as peers of the program see them.
//!
//! A slow machine makes a transfer slower and never faster, so the upper bounds count from a moment before the first
//! byte; they hold on any machine. The lower bounds are at rates that any machine reaches.

use crate::common::{Folder, noise};
use crate::loopback::seeder::Seeder;
use crate::{ALL, PIECE, Running, create, errors, info_hash};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: u64 = 16 << 10;
/// The limit, in bytes a second, and how it is said.
const RATE: u64 = 512 << 10;
const SAID: &str = "512K";
/// What a limit is kept over.
const SPAN: Duration = Duration::from_secs(10);

/// Blocks at these times are never more than the limit allows after `start` and a second's worth, and after
/// `SPAN` they are within 10 % of it.
#[track_caller]
fn assert_limited(mut times: Vec<Instant>, start: Instant) {
    times.sort_unstable();
    times.retain(|time| *time >= start);
    let share = |count: u64, time: Instant| {
        count as f64 * BLOCK as f64 / (RATE as f64 * (time - start).as_secs_f64())
    };
    for (count, time) in (1..).zip(&times) {
        let allowed = RATE as f64 * ((*time - start).as_secs_f64() + 1.0);
        assert!((count * BLOCK) as f64 <= allowed, "{count} blocks after {:?}", *time - start);
    }
    let (count, time) = (1..).zip(&times).find(|(_, time)| **time - start >= SPAN).expect("it was too short");
    let share = share(count, *time);
    assert!((0.9..=1.1).contains(&share), "{share} of the limit: {count} blocks in {:?}", *time - start);
}

/// Each has about its half.
#[track_caller]
fn assert_fair(counts: [usize; 2]) {
    let share = counts[0] as f64 / (counts[0] + counts[1]) as f64;
    assert!((0.4..=0.6).contains(&share), "{counts:?}");
}

#[test]
fn what_comes_in_keeps_to_its_limit_and_is_shared_among_seeders() {
    let folder = Folder::new("rate-down");
    let data = noise((RATE * 12) as usize, 51);
    folder.file("there/file", &data);
    let hash = info_hash(&folder, &create(&folder, "file"));
    let seeders = ["127.0.0.2", "127.0.0.3"].map(|ip| Seeder::new(ip, &data, PIECE, hash));
    seeders.iter().for_each(|seeder| seeder.allow(ALL));
    let addrs = seeders.each_ref().map(|seeder| seeder.addr.to_string());
    let args = ["-x", "-d", "here", "--max-download-rate", SAID, "--peer", &addrs[0], "--peer", &addrs[1]];
    let leech = Running::start(&folder, &[&args[..], &["file.torrent"]].concat());
    assert_eq!(leech.end(), Some(0), "{}", errors(&folder));
    let times = seeders.each_ref().map(Seeder::times);
    assert_fair(times.each_ref().map(Vec::len));
    let all = times.concat();
    // The first blocks are asked for after a pause, too: all of a burst is in what follows them.
    let first = *all.iter().min().unwrap();
    assert_limited(all, first);
}

/// A leecher in the hands of the test: it asks for the same blocks again and again.
struct Leecher {
    times: Arc<Mutex<Vec<Instant>>>,
    stop: TcpStream,
}

impl Leecher {
    fn new(to: SocketAddr, hash: [u8; 20], blocks: u32, number: u8) -> Leecher {
        let stream = TcpStream::connect(to).unwrap();
        let (stop, times) = (stream.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = times.clone();
        // It ends when its stream is shut.
        thread::spawn(move || ask(stream, hash, blocks, number, &log).err());
        Leecher { times, stop }
    }

    fn times(&self) -> Vec<Instant> {
        self.times.lock().unwrap().clone()
    }
}

impl Drop for Leecher {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
    }
}

fn ask(
    mut stream: TcpStream,
    hash: [u8; 20],
    blocks: u32,
    number: u8,
    log: &Mutex<Vec<Instant>>,
) -> io::Result<()> {
    let id = format!("-XX0000-{number:012}");
    stream.write_all(&[&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..], &hash, id.as_bytes()].concat())?;
    stream.read_exact(&mut [0; 68])?;
    stream.write_all(&[0, 0, 0, 1, 2])?;
    let mut next = 0u32;
    let mut request = |stream: &mut TcpStream, count| {
        for _ in 0..count {
            let (piece, begin) = (next / 4, next % 4 * BLOCK as u32);
            next = (next + 1) % blocks;
            let numbers = [13, 6 << 24, 0, 0].map(u32::to_be_bytes).concat();
            let mut message = numbers[..5].to_vec();
            message.extend([piece, begin, BLOCK as u32].map(u32::to_be_bytes).concat());
            stream.write_all(&message)?;
        }
        io::Result::Ok(())
    };
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message)?;
        match message.first() {
            Some(1) => request(&mut stream, 64)?,
            Some(7) => {
                log.lock().unwrap().push(Instant::now());
                request(&mut stream, 1)?;
            }
            _ => {}
        }
    }
}

#[test]
fn what_goes_out_keeps_to_its_limit_and_is_shared_among_leechers() {
    let folder = Folder::new("rate-up");
    folder.file("there/file", &noise(64 * BLOCK as usize, 53));
    let hash = info_hash(&folder, &create(&folder, "file"));
    let args = ["--seed", "-d", "there", "--max-upload-rate", SAID, "file.torrent"];
    let mut seeder = Running::start(&folder, &args);
    let addr: SocketAddr = seeder.addr().parse().unwrap();
    seeder.line_with(&[r#""state":"seeding""#]);
    let leechers = [1, 2].map(|number| Leecher::new(addr, hash, 64, number));
    let served = || leechers.each_ref().map(Leecher::times);
    let wait = |blocks: usize| {
        let start = Instant::now();
        while served().iter().map(Vec::len).sum::<usize>() < blocks {
            assert!(start.elapsed() < Duration::from_secs(120), "{blocks} blocks do not come");
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait(1);
    let first = *served().concat().iter().min().unwrap();
    wait((RATE / BLOCK) as usize * 12);
    let times = served();
    assert_fair(times.each_ref().map(Vec::len));
    assert_limited(times.concat(), first);
    // After a pause there is no more than a second's worth at once.
    drop(leechers);
    thread::sleep(Duration::from_secs(3));
    let start = Instant::now();
    let late = Leecher::new(addr, hash, 64, 3);
    thread::sleep(Duration::from_secs(2));
    let count = late.times().len() as u64;
    let allowed = RATE as f64 * (start.elapsed().as_secs_f64() + 1.0);
    assert!(count > 0 && (count * BLOCK) as f64 <= allowed, "{count} blocks");
}
