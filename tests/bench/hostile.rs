//! What each message costs us when a hostile peer sends nothing else: a real session, a torrent of a million pieces, and
//! the processor time that `Session::handle` takes for each byte of the peer. A peer that is closed for what it sends comes again;
//! its new connection counts. `cargo bench --bench hostile` prints the table; `-- NAME` only the rows with that in them.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use ptorrent::api::{Action, Command, Done, Encryption, Event, Intake, Job, Opened, PeerId, Spec, TorrentId};
use ptorrent::base::bits::Bitfield;
use ptorrent::base::time::Time;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::Block;
use ptorrent::proto::metainfo::{Content, Metainfo, Plan, build};
use ptorrent::proto::wire::handshake::{DHT_BIT, EXTENSION_BIT, FAST_BIT, Handshake};
use ptorrent::proto::wire::message::Message;
use ptorrent::session::{Config, Session};
use rustix::time::{ClockId, clock_gettime};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PIECES: u32 = 1_000_000;
const PIECE_LENGTH: u32 = 16 << 10;
/// The only piece of a peer that has one; another peer was asked for it, so a search for anything else is in vain.
const TAKEN: u32 = 700_000;
/// How long a row is measured, and how many messages at most.
const SPAN: Duration = Duration::from_millis(500);
const MESSAGES: u64 = 2_000_000;
/// Bytes of the handshake of a new connection.
const HANDSHAKE: u64 = 68;

/// What the flooding peer has.
#[derive(Clone, Copy, PartialEq)]
enum Has {
    Nothing,
    One,
    AllButOne,
}

/// What we are doing.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Leech,
    Seed,
    SuperSeed,
    Magnet,
}

struct Row {
    name: &'static str,
    role: Role,
    has: Has,
    fast: bool,
    /// The peer unchokes us, and has shown interest, before it floods.
    open: bool,
    /// Its n-th message.
    message: fn(u64) -> Message<'static>,
}

/// The bytes of a message on the wire.
fn wire_len(message: &Message<'_>) -> u64 {
    match message {
        Message::KeepAlive => 4,
        Message::Have(_) | Message::Suggest(_) | Message::AllowedFast(_) => 9,
        Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => 17,
        Message::Piece(block) => 13 + u64::from(block.len),
        Message::Bitfield(bits) => 5 + bits.len() as u64,
        Message::Port(_) => 7,
        Message::Extended { body, .. } => 6 + body.len() as u64,
        _ => 5,
    }
}

fn extended(id: u8, body: Vec<u8>) -> Message<'static> {
    Message::Extended { id, body: Cow::Owned(body) }
}

/// The ids that our handshake gives: upload_only, ut_pex, ut_metadata, lt_donthave.
fn id_of(name: &str) -> u8 {
    use ptorrent::proto::extended::Extension;
    let extension = match name {
        "upload_only" => Extension::UploadOnly,
        "pex" => Extension::Pex,
        "metadata" => Extension::Metadata,
        _ => Extension::DontHave,
    };
    extension.id()
}

fn block(n: u64) -> Block {
    Block { piece: (n % u64::from(PIECES)) as u32, begin: 0, len: PIECE_LENGTH }
}

/// A number that jumps about.
fn scattered(n: u64) -> u32 {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % PIECES
}

fn pex(n: u64) -> Vec<u8> {
    let peers: Vec<u8> = (0..50u64)
        .flat_map(|at| {
            let host = (n * 50 + at).to_be_bytes();
            [11, host[5], host[6], host[7], 0x1a, 0xe1]
        })
        .collect();
    let mut body = format!("d5:added{}:", peers.len()).into_bytes();
    body.extend(peers);
    body.push(b'e');
    body
}

fn handshake_body(size: u64) -> Vec<u8> {
    format!("d1:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei{size}ee").into_bytes()
}

fn rows() -> Vec<Row> {
    use Has::{AllButOne, Nothing, One};
    use Role::{Leech, Magnet, Seed, SuperSeed};
    let row = |name, role, has, message: fn(u64) -> Message<'static>| Row {
        name,
        role,
        has,
        fast: true,
        open: true,
        message,
    };
    let slow = |row: Row| Row { fast: false, ..row };
    vec![
        row("keep-alive", Leech, One, |_| Message::KeepAlive),
        row("unknown message", Leech, One, |_| Message::Other { id: 99, len: 0 }),
        row("CHOKE again", Leech, One, |_| Message::Choke),
        row("UNCHOKE again", Leech, One, |_| Message::Unchoke),
        row("CHOKE, UNCHOKE, nothing to request", Leech, One, |n| match n % 2 {
            0 => Message::Choke,
            _ => Message::Unchoke,
        }),
        slow(row("CHOKE, UNCHOKE, much to request", Leech, AllButOne, |n| match n % 2 {
            0 => Message::Choke,
            _ => Message::Unchoke,
        })),
        row("INTERESTED again", Seed, Nothing, |_| Message::Interested),
        row("INTERESTED, NOT_INTERESTED", Seed, Nothing, |n| match n % 2 {
            0 => Message::NotInterested,
            _ => Message::Interested,
        }),
        row("INTERESTED, NOT_INTERESTED, super-seed", SuperSeed, Nothing, |n| match n % 2 {
            0 => Message::NotInterested,
            _ => Message::Interested,
        }),
        row("HAVE again", Leech, One, |_| Message::Have(TAKEN)),
        row("HAVE of all pieces in turn", Leech, One, |n| Message::Have(scattered(n))),
        row("HAVE, while super-seeding", SuperSeed, Nothing, |n| Message::Have(scattered(n))),
        row("HAVE_ALL, HAVE_NONE", Leech, One, |n| match n % 2 {
            0 => Message::HaveAll,
            _ => Message::HaveNone,
        }),
        row("BITFIELD", Leech, One, |n| {
            let mut bits = Bitfield::full(PIECES);
            bits.clear(n as u32 % PIECES);
            Message::Bitfield(bits.as_bytes().to_vec().into())
        }),
        row("lt_donthave, HAVE of one piece", Leech, AllButOne, |n| match n % 2 {
            0 => extended(id_of("dont_have"), 5u32.to_be_bytes().to_vec()),
            _ => Message::Have(5),
        }),
        row("lt_donthave, HAVE of two in turn", Leech, One, |n| {
            let piece = if n % 4 < 2 { TAKEN } else { TAKEN / 2 };
            match n % 2 {
                0 => Message::Have(if n % 4 < 2 { TAKEN / 2 } else { TAKEN }),
                _ => extended(id_of("dont_have"), piece.to_be_bytes().to_vec()),
            }
        }),
        row("REQUEST that is served", Seed, Nothing, |n| Message::Request(block(n))),
        row("CANCEL of what was not requested", Seed, Nothing, |n| Message::Cancel(block(n))),
        row("PIECE of one byte, not requested", Leech, One, |n| Message::Piece(Block { len: 1, ..block(n) })),
        row("REJECT of what was not requested", Leech, AllButOne, |n| Message::Reject(block(n))),
        row("SUGGEST", Leech, One, |n| Message::Suggest(scattered(n))),
        Row { open: false, ..row("ALLOWED_FAST", Leech, One, |n| Message::AllowedFast(scattered(n))) },
        row("PORT", Leech, One, |n| Message::Port(n as u16)),
        row("extended handshake", Leech, One, |n| extended(0, handshake_body(1000 + n))),
        row("upload_only", Leech, One, |n| extended(id_of("upload_only"), vec![n as u8 & 1])),
        row("ut_pex", Leech, One, |n| extended(id_of("pex"), pex(n))),
        row("ut_metadata request", Seed, Nothing, |n| {
            let body = format!("d8:msg_typei0e5:piecei{}ee", n % 1000);
            extended(id_of("metadata"), body.into_bytes())
        }),
        row("ut_metadata data, not requested", Magnet, Nothing, |n| {
            let body = format!("d8:msg_typei1e5:piecei{}e10:total_sizei1000000eex", n % 60);
            extended(id_of("metadata"), body.into_bytes())
        }),
        row("ut_metadata reject, not requested", Magnet, Nothing, |n| {
            let body = format!("d8:msg_typei2e5:piecei{}ee", n % 60);
            extended(id_of("metadata"), body.into_bytes())
        }),
        row("extended handshake, of a magnet", Magnet, Nothing, |n| extended(0, handshake_body(1000 + n))),
        row("HAVE, before the metadata", Magnet, Nothing, |n| Message::Have(scattered(n))),
    ]
}

/// A session with one torrent, and the clock that it is driven by.
struct Bench {
    session: Session,
    start: Instant,
    info_hash: InfoHash,
    torrent: Option<TorrentId>,
    peers: u32,
    closed: Option<PeerId>,
    checks: Vec<(u8, u32, u32)>,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn clock() -> Instant {
    Instant::now()
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Bench {
    fn new(meta: &Metainfo, role: Role) -> Bench {
        let config = Config {
            port: 6881,
            max_conn: 2000,
            max_upload: 8,
            max_download_rate: 0,
            max_upload_rate: 0,
            max_metadata_size: ptorrent::limits::METADATA_MAX_DEFAULT,
            encryption: Encryption::Disabled,
            lanes: 2,
            max_open: 100,
            receive_bufs: 2000,
            lsd: false,
            pex: true,
        };
        let session = Session::new(config, [7; 32], Time(1_000_000));
        let (info_hash, torrent) = (meta.info_hash, None);
        let mut bench =
            Bench { session, start: clock(), info_hash, torrent, peers: 0, closed: None, checks: Vec::new() };
        let meta = if role == Role::Magnet { Metainfo::unknown(info_hash, "a") } else { meta.clone() };
        let spec = Arc::new(Spec {
            meta,
            dir: "/bench".into(),
            wanted: vec![true],
            seed_only: false,
            overwrite: true,
            prealloc: Default::default(),
            disk_io: Default::default(),
            sequential: false,
            super_seed: role == Role::SuperSeed,
            seed_ratio: None,
            seed_time: None,
            trackers: vec![],
            web_seeds: vec![],
            peers: vec![],
            state_dir: None,
        });
        bench.tell(Event::Command(Command::Add { number: 0, spec }));
        if let Some(torrent) = bench.torrent {
            let seeds = matches!(role, Role::Seed | Role::SuperSeed);
            let have = if seeds { Bitfield::full(PIECES) } else { Bitfield::new(PIECES) };
            let candidates = Bitfield::new(PIECES);
            let opened = Opened { have, candidates, ..Opened::default() };
            let done = Done::Opened { torrent, result: Box::new(Ok(opened)) };
            bench.tell(Event::Done { lane: 0, done });
        }
        bench
    }

    fn now(&self) -> Time {
        Time(1_000_000 + self.start.elapsed().as_micros() as u64)
    }

    fn tell(&mut self, event: Event<'_>) {
        let now = self.now();
        self.session.handle(event, now);
        while let Some(action) = self.session.poll() {
            match action {
                Action::Job { job: Job::Open { torrent, .. }, .. } => self.torrent = Some(torrent),
                Action::Job { lane, job: Job::Check { first, count, .. } } => {
                    self.checks.push((lane, first, count));
                }
                Action::Close { peer, .. } => self.closed = Some(peer),
                _ => {}
            }
        }
    }

    /// A peer that came in and shook hands. Gives the bytes that this took.
    fn peer(&mut self, row: &Row, has: Has) -> (PeerId, u64) {
        self.peers += 1;
        let ip = (10 << 24 | self.peers << 8 | 1).to_be_bytes();
        let (from, now) = (SocketAddr::from((ip, 40_000)), self.now());
        let peer = self.session.accept(from, now).expect("there is a place");
        let fast = if row.fast { FAST_BIT } else { 0 };
        let reserved = [0, 0, 0, 0, 0, EXTENSION_BIT, 0, fast | DHT_BIT];
        let mut peer_id = [0; 20];
        peer_id[..4].copy_from_slice(&self.peers.to_be_bytes());
        let handshake = Handshake { reserved, info_hash: self.info_hash, peer_id };
        self.tell(Event::Handshake { peer, handshake });
        let mut bytes = HANDSHAKE;
        let mut first = match has {
            Has::Nothing => vec![],
            Has::One => vec![Message::Have(TAKEN)],
            Has::AllButOne => {
                let mut bits = Bitfield::full(PIECES);
                bits.clear(TAKEN);
                vec![Message::Bitfield(bits.as_bytes().to_vec().into())]
            }
        };
        if row.open {
            first.extend([Message::Unchoke, Message::Interested]);
        }
        if row.role == Role::Magnet {
            first = vec![extended(0, handshake_body(1_000_000))];
        }
        for message in first {
            bytes += wire_len(&message);
            self.tell(Event::Message { peer, message });
        }
        (peer, bytes)
    }
}

fn measure(row: &Row, meta: &Metainfo) {
    let mut bench = Bench::new(meta, row.role);
    if row.role == Role::Leech {
        // Who is asked for what the flooding peer has.
        bench.peer(&Row { open: true, message: row.message, ..*row }, Has::One);
    }
    let (mut peer, _) = bench.peer(row, row.has);
    let (mut spent, mut bytes, mut count, mut closes) = (Duration::ZERO, 0, 0, 0u32);
    let start = clock();
    while start.elapsed() < SPAN && count < MESSAGES {
        let messages: Vec<Message<'static>> = (count..count + 64).map(row.message).collect();
        let begin = cpu();
        for message in messages {
            bytes += wire_len(&message);
            count += 1;
            match message {
                Message::Piece(block) => {
                    let now = bench.now();
                    assert!(bench.session.intake(peer, block, now) != Intake::Take, "it was not requested");
                }
                message => bench.tell(Event::Message { peer, message }),
            }
            if bench.closed.take() == Some(peer) {
                closes += 1;
                let (next, taken) = bench.peer(row, row.has);
                (peer, bytes) = (next, bytes + taken);
            }
        }
        spent += cpu().saturating_sub(begin);
    }
    let nanos = spent.as_secs_f64() * 1e9;
    let each = (nanos / count as f64, nanos / bytes as f64);
    let closed =
        if closes == 0 { "never".to_owned() } else { format!("after {}", count / u64::from(closes)) };
    println!("| {} | {:.0} | {:.1} | {closed} |", row.name, each.0, each.1);
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let hashes = vec![0; PIECES as usize * 20];
    let content = Content::Single(u64::from(PIECES) * u64::from(PIECE_LENGTH));
    let meta =
        Metainfo::parse(&build(&Plan::bare("a", content, PIECE_LENGTH, &hashes))).expect("within limits");
    println!("| message | ns a message | ns a byte | closed |\n|---|---|---|---|");
    for row in rows().iter().filter(|row| row.name.contains(&filter)) {
        measure(row, &meta);
    }
}
