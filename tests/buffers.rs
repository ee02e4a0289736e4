//! The real session, reactor, disk workers and buffer pool together, under peers that use up the buffers of both
//! directions at once: they send blocks faster than the disk stores them and request more than they read.
//!
//! Blocks are smaller than a buffer and their size is random, so that one read brings many blocks: each still takes a
//! buffer of its own. The number of buffers in use is then at its bound while requests arrive between the blocks.

#![allow(clippy::disallowed_methods, reason = "a test may start threads")]

mod common;
#[expect(dead_code, reason = "the server can do more than is needed here")]
#[path = "loopback/server.rs"]
mod server;

use common::{Folder, noise};
use ptorrent::api::{Command, Encryption, Report, Spec, State};
use ptorrent::base::buf::BLOCK;
use ptorrent::base::rng::Rng;
use ptorrent::engine::{Engine, Options, Roots};
use ptorrent::proto::metainfo::Metainfo;
use ptorrent::proto::metainfo::build::{Content, Plan, build};
use ptorrent::proto::tracker::url::Url;
use ptorrent::sys::socket::Route;
use server::{Way, WebServer};
use sha1::{Digest, Sha1};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Connections of each run: with fewer the send buffers are never all in use.
const PEERS: usize = 18;
/// Bytes of each torrent, of which the engine has the first half at the start.
const LEN: usize = 6 << 20;

fn options() -> Options {
    Options {
        route: Route { v4: Some(Ipv4Addr::LOCALHOST), ..Route::default() },
        roots: Roots::Usual,
        ports: 0..=0,
        max_conn: 50,
        max_upload: PEERS,
        max_download_rate: 0,
        max_upload_rate: 0,
        max_metadata_size: ptorrent::limits::METADATA_MAX_DEFAULT,
        encryption: Encryption::Disabled,
        torrents: 1,
        lanes: Some(1),
        lsd: false,
        pex: false,
        signals: None,
    }
}

/// One scripted peer: it has everything, serves every request and requests what the engine has without end.
struct Peer {
    stream: TcpStream,
    data: Arc<Vec<u8>>,
    piece: u32,
    rng: Rng,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Requests of ours that are not answered.
    requests: usize,
}

/// Requests that a peer has open at most: more than the engine sends at a time, and fewer than it takes for abuse.
const REQUESTS_MAX: usize = 1000;

impl Peer {
    fn connect(addr: SocketAddr, info_hash: [u8; 20], data: Arc<Vec<u8>>, piece: u32, number: u8) -> Peer {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        hello.extend_from_slice(&info_hash);
        hello.extend_from_slice(&[number; 20]);
        stream.write_all(&hello).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        stream.set_nonblocking(true).unwrap();
        let pieces = data.len().div_ceil(piece as usize);
        let mut bits = vec![0xff; pieces.div_ceil(8)];
        if !pieces.is_multiple_of(8) {
            *bits.last_mut().unwrap() = (0xff00_u16 >> (pieces % 8)) as u8;
        }
        let mut output = Vec::new();
        message(&mut output, 5, &[&bits]);
        message(&mut output, 1, &[]);
        message(&mut output, 2, &[]);
        let mut seed = [number; 32];
        seed[..4].copy_from_slice(&piece.to_le_bytes());
        Peer { stream, data, piece, rng: Rng::new(seed), input: Vec::new(), output, requests: 0 }
    }

    /// Requests a run of blocks of the half that the engine has.
    fn request(&mut self) {
        let half = (self.data.len() / 2 / self.piece as usize) as u32;
        let piece = self.rng.below(half);
        let count = (1 + self.rng.index(40)).min(REQUESTS_MAX - self.requests);
        self.requests += count;
        for _ in 0..count {
            let len = self.piece.min(BLOCK);
            message(&mut self.output, 6, &[&piece.to_be_bytes(), &[0; 4], &len.to_be_bytes()]);
        }
    }

    /// Serves the requests that arrived; everything else is ignored.
    fn answer(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((len, body)) = rest.split_at_checked(4)
            && let Some((body, after)) = body.split_at_checked(number(len))
        {
            rest = after;
            if let [7, ..] = body {
                self.requests = self.requests.saturating_sub(1);
            }
            if let [6, body @ ..] = body {
                let begin = number(&body[..4]) * self.piece as usize + number(&body[4..8]);
                let bytes = &self.data[begin..begin + number(&body[8..])];
                message(&mut self.output, 7, &[&body[..8], bytes]);
                if self.rng.below(4) == 0 {
                    self.request();
                }
            }
        }
        self.input = rest.to_vec();
    }

    /// Runs until told to stop. An error means that the engine closed the connection.
    fn run(mut self, stop: &AtomicBool) {
        let mut part = vec![0; 64 << 10];
        while !stop.load(Ordering::Relaxed) {
            let most = 1 + self.rng.index(part.len());
            let mut idle = false;
            match self.stream.read(&mut part[..most]) {
                Ok(0) => return,
                Ok(n) => self.input.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => idle = true,
                Err(_) => return,
            }
            self.answer();
            if self.output.len() < 1 << 20 {
                self.request();
            }
            match self.stream.write(&self.output) {
                Ok(0) => {}
                Ok(n) => {
                    self.output.drain(..n);
                    idle = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if idle {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

fn message(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Downloads the second half of a torrent with pieces of this length from such peers and a web seed, which is lent
/// buffers as well, and compares the file.
fn download(piece: u32) {
    let folder = Folder::new(&format!("buffers-{piece}"));
    let data = noise(LEN, piece);
    let hashes: Vec<u8> =
        data.chunks(piece as usize).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let torrent = build(&Plan::bare("data", Content::Single(LEN as u64), piece, &hashes));
    let meta = Metainfo::parse(&torrent).unwrap();
    let info_hash = meta.info_hash.0;
    folder.file("data", &data[..LEN / 2 / piece as usize * piece as usize]);
    let web_seed = WebServer::new(&[("/data", &data)], |_| Way::Serve);
    let engine = Engine::start(options()).unwrap();
    let spec = Spec {
        meta,
        dir: folder.0.clone(),
        wanted: vec![true],
        seed_only: false,
        overwrite: false,
        prealloc: Default::default(),
        disk_io: Default::default(),
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        trackers: vec![],
        web_seeds: vec![Url::parse(&web_seed.url("/data")).unwrap()],
        peers: vec![],
        state_dir: None,
    };
    assert!(engine.command(Command::Add { number: 0, spec: Arc::new(spec) }));
    let (data, stop) = (Arc::new(data), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut addr = None;
        for report in engine.reports() {
            match report {
                Report::Listening { addr: at } => addr = Some(at),
                Report::State { state: State::Downloading, .. } => {
                    for number in 1..=PEERS as u8 {
                        let peer = Peer::connect(addr.unwrap(), info_hash, data.clone(), piece, number);
                        scope.spawn(|| peer.run(&stop));
                    }
                }
                Report::Complete { .. } => break,
                Report::Error { message, .. } => panic!("{message}"),
                _ => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(engine.command(Command::Quit));
        assert!(engine.reports().iter().any(|report| matches!(report, Report::Finished { .. })));
    });
    engine.join().unwrap();
    assert!(std::fs::read(folder.0.join("data")).unwrap() == *data, "the file differs");
}

#[test]
fn blocks_of_any_size_and_bursts_of_requests_never_exhaust_the_buffers() {
    let mut rng = Rng::new([12; 32]);
    let mut pieces = vec![1 << 10, 3000, 15_000, BLOCK + 1000, BLOCK];
    pieces.extend((0..15).map(|_| 1000 + rng.below(3 * BLOCK)));
    pieces.into_iter().for_each(download);
}
