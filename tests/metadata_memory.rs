//! The memory of the real program while many magnet links fetch metadata from peers that name huge sizes and send all but
//! the last piece: none of it ever becomes whole, and all that was sent would stay.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "a test may start threads")]

#[expect(dead_code, reason = "files are not needed here")]
mod common;

use common::{Folder, noise};
use ptorrent::proto::extended::Extension;
use ptorrent::proto::extended::metadata::{Metadata, PIECE, pieces, read, write};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The largest size that is allowed by the option, and the largest by default.
const SIZES: [u32; 12] = {
    let mut sizes = [64 << 20; 12];
    let mut at = 4;
    while at < 12 {
        sizes[at] = 16 << 20;
        at += 1;
    }
    sizes
};
/// What the program may have in memory: 36 MiB of metadata, and what it takes without.
const RESIDENT_MAX: u64 = 72 << 20;

/// Ends the program when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// The most bytes that were resident.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

fn message(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    out.extend_from_slice(&(2 + body.len() as u32).to_be_bytes());
    out.extend_from_slice(&[20, id]);
    out.extend_from_slice(body);
}

/// Sends whatever is requested, but the last piece.
fn serve(mut stream: TcpStream, size: u32, data: &[u8], sent: &AtomicU64) -> std::io::Result<()> {
    let mut hello = [0; 68];
    stream.read_exact(&mut hello)?;
    let mut out = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0".to_vec();
    out.extend_from_slice(&hello[28..48]);
    out.extend_from_slice(b"-XX0000-abcdefghijkl");
    message(&mut out, 0, format!("d1:md11:ut_metadatai7ee13:metadata_sizei{size}ee").as_bytes());
    stream.write_all(&out)?;
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut body = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut body)?;
        if let [20, 7, body @ ..] = &body[..]
            && let Ok(Metadata::Request { piece }) = read(body)
            && piece + 1 < pieces(size)
        {
            let mut out = Vec::new();
            message(&mut out, Extension::Metadata.id(), &write(&Metadata::Data { piece, total: size, data }));
            stream.write_all(&out)?;
            sent.fetch_add(u64::from(PIECE), Ordering::Relaxed);
        }
    }
}

#[test]
fn metadata_of_many_magnets_stays_within_its_budget() {
    let folder = Folder::new("metadata-memory");
    let (data, sent) = (Arc::new(noise(PIECE as usize, 5)), Arc::new(AtomicU64::new(0)));
    let mut links = Vec::new();
    for (n, size) in SIZES.into_iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = format!("magnet:?xt=urn:btih:{:040x}", n + 1);
        write!(link, "&x.pe={}", listener.local_addr().unwrap()).unwrap();
        links.push(link);
        let (data, sent) = (data.clone(), sent.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The program closes the connection when it ends.
                let _ = serve(stream, size, &data, &sent);
            }
        });
    }
    let program = Command::new(env!("CARGO_BIN_EXE_ptorrent"))
        .current_dir(&folder.0)
        .args([
            "-b",
            "127.0.0.1",
            "-p",
            "0",
            "-d",
            "here",
            "--state-dir",
            "state",
            "--encryption",
            "disabled",
        ])
        .args(["--no-dht", "--no-lsd", "--no-pex", "--json"])
        .args(&links)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let program = Running(program);
    // Until nothing has come for a while.
    let (start, mut last, mut moved) = (Instant::now(), 0, Instant::now());
    while moved.elapsed() < Duration::from_secs(5) && start.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(50));
        let now = sent.load(Ordering::Relaxed);
        if now != last {
            (last, moved) = (now, Instant::now());
        }
    }
    assert!(last >= 30 << 20, "two of the common size have room: {last}");
    let peak = program.peak();
    assert!(peak < RESIDENT_MAX, "{} MiB are resident, {} MiB came", peak >> 20, last >> 20);
}
