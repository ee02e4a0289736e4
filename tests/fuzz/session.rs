//! The session as a fuzz target: the input is a sequence of what peers send, of what disk, trackers and the user do,
//! and of waits. Around the session stands a small reactor with the real decoder, the real pool and the simulator's
//! disk, which checks what it is asked to do.

#[path = "../sim/disk.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod disk;

use super::events::Events;
use disk::Disk;
use ptorrent::api::{
    Action, Call, Command, Done, Encryption, Event, Intake, Job, PeerId, Reply, Report, Spec, Why,
};
use ptorrent::base::buf::{BLOCK, Buf, Pool};
use ptorrent::base::time::Time;
use ptorrent::limits::{METADATA_MAX_DEFAULT, SEND_BUFS};
use ptorrent::proto::extended::{Extension, Handshake as Extensions, Ids};
use ptorrent::proto::layout::Block;
use ptorrent::proto::metainfo::{Content, Metainfo, Plan, build};
use ptorrent::proto::tracker::Response;
use ptorrent::proto::tracker::url::Url;
use ptorrent::proto::wire::decoder::{Decoder, Fate, Step};
use ptorrent::proto::wire::handshake::Handshake;
use ptorrent::proto::wire::message::Message;
use ptorrent::session::{Config, Session};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const PIECES: u32 = 9;
/// Whole blocks, blocks smaller than a buffer, and pieces that end with a short block.
const PIECE_LENGTHS: [u32; 4] = [2 * BLOCK, 5_000, BLOCK + 1, 3 * BLOCK - 700];
const RECEIVE_BUFS: usize = 24;
const CONNECTIONS: usize = 6;
/// How often the clock may stop in one wait.
const STOPS_MAX: usize = 64;
/// How many actions one event may lead to.
const ACTIONS_MAX: usize = 5_000;
/// How many turns of disk, trackers and clock the end of a session may take.
const TURNS_MAX: usize = 300;
const WAITS: [u64; 8] = [1, 50, 1_000, 3_000, 10_000, 31_000, 130_000, 2_000_000];

thread_local! {
    /// A pool's memory is never unmapped, so all inputs share one.
    static POOL: RefCell<Pool> = RefCell::new(Pool::new(RECEIVE_BUFS + SEND_BUFS).expect("memory"));
}

pub(crate) fn fuzz_session(input: &[u8]) {
    POOL.with_borrow_mut(|pool| {
        let mut events = Events::new(input);
        let mut reactor = Reactor::new(events.byte(), pool);
        while let Some(kind) = events.kind() {
            reactor.step(kind, &mut events);
        }
        reactor.end();
    });
}

#[derive(Default)]
struct Conn {
    connected: bool,
    decoder: Decoder,
    inbox: Vec<u8>,
    /// It is read only after [`Action::Resume`].
    waits: bool,
    landing: Option<Buf>,
    outbox: VecDeque<(u32, Buf)>,
    /// What the session requested, to be answered.
    requested: VecDeque<Block>,
}

struct Reactor<'a> {
    session: Session,
    now: Time,
    pool: &'a mut Pool,
    disk: Disk,
    done: VecDeque<(u8, Done)>,
    calls: VecDeque<Call>,
    conns: BTreeMap<PeerId, Conn>,
    /// The torrent as its .torrent has it; a magnet link gets it from peers.
    meta: Metainfo,
    exited: bool,
}

fn spec(meta: Metainfo, mode: u8) -> Arc<Spec> {
    Arc::new(Spec {
        meta,
        dir: "/sim".into(),
        wanted: vec![true],
        seed_only: false,
        overwrite: true,
        prealloc: Default::default(),
        disk_io: Default::default(),
        sequential: mode & 4 != 0,
        super_seed: mode & 8 != 0,
        seed_ratio: None,
        seed_time: None,
        trackers: vec![vec![Url::parse("http://tracker.sim/announce").expect("a URL")]],
        web_seeds: vec![],
        peers: vec![],
        state_dir: None,
    })
}

impl Reactor<'_> {
    /// `mode` chooses between seed and leech, .torrent and magnet link, and so on.
    fn new(mode: u8, pool: &mut Pool) -> Reactor<'_> {
        let piece_length = PIECE_LENGTHS[usize::from(mode >> 6)];
        let hashes = [0; PIECES as usize * 20];
        let total = u64::from(PIECES * piece_length) - 5;
        let plan = Plan::bare("file", Content::Single(total), piece_length, &hashes);
        let meta = Metainfo::parse(&build(&plan)).expect("a sound torrent");
        let config = Config {
            port: 6881,
            max_conn: CONNECTIONS,
            max_upload: 2,
            max_download_rate: if mode & 16 == 0 { 0 } else { 50_000 },
            max_upload_rate: if mode & 16 == 0 { 0 } else { 50_000 },
            encryption: Encryption::Disabled,
            lanes: 2,
            max_open: 2,
            receive_bufs: RECEIVE_BUFS,
            lsd: mode & 32 != 0,
            pex: true,
            max_metadata_size: METADATA_MAX_DEFAULT,
        };
        let now = Time(1_000_000);
        let disk = if mode & 1 == 0 { Disk::empty(PIECES, 2) } else { Disk::full(PIECES, 2) };
        let mut reactor = Reactor {
            session: Session::new(config, [mode; 32], now),
            now,
            pool,
            disk,
            done: VecDeque::new(),
            calls: VecDeque::new(),
            conns: BTreeMap::new(),
            meta: meta.clone(),
            exited: false,
        };
        let start = if mode & 2 == 0 { meta } else { Metainfo::unknown(meta.info_hash, "link") };
        reactor.tell(Event::Command(Command::Add { number: 0, spec: spec(start, mode) }));
        reactor
    }

    fn step(&mut self, kind: u8, events: &mut Events<'_>) {
        match kind % 16 {
            0 => self.accept(events),
            1 => self.connected(events),
            2 => self.handshake(events),
            3 => self.message(events),
            4 => self.block(events),
            5 => self.peer_sends(events, |_, _, events| events.bytes().to_vec()),
            6 => self.extensions(events),
            7 => self.sent(events),
            8 => (0..=events.below(8)).for_each(|_| self.disk_answers()),
            9 => self.call_answers(events),
            10 => self.metadata(events),
            11 => self.wait(Duration::from_millis(WAITS[events.below(WAITS.len())])),
            12 => self.command(events),
            13 => self.datagram(events),
            14 => self.disk_trouble(events),
            _ => {
                let Some(peer) = self.peer(events) else { return };
                self.forget(peer);
                self.tell(Event::Closed { peer, why: Why::Eof });
            }
        }
    }

    /// A connection that there is.
    fn peer(&mut self, events: &mut Events<'_>) -> Option<PeerId> {
        let at = events.below(self.conns.len());
        self.conns.keys().nth(at).copied()
    }

    /// One of the connections sends what `make` makes.
    fn peer_sends(
        &mut self,
        events: &mut Events<'_>,
        make: impl FnOnce(&mut Reactor<'_>, PeerId, &mut Events<'_>) -> Vec<u8>,
    ) {
        let Some(peer) = self.peer(events) else { return };
        let bytes = make(self, peer, events);
        let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.connected) else { return };
        conn.inbox.extend_from_slice(&bytes);
        self.read(peer);
    }

    fn accept(&mut self, events: &mut Events<'_>) {
        let from = addr(events);
        if let Some(peer) = self.session.accept(from, self.now) {
            self.conns.insert(peer, Conn { connected: true, ..Conn::default() });
        }
        self.drain();
    }

    fn connected(&mut self, events: &mut Events<'_>) {
        let dialled = self.conns.iter_mut().find(|(_, conn)| !conn.connected);
        let Some((peer, conn)) = dialled.map(|(peer, conn)| (*peer, conn)) else { return };
        if events.byte() & 1 == 0 {
            conn.connected = true;
            self.tell(Event::Connected { peer });
        } else {
            self.forget(peer);
            self.tell(Event::Closed { peer, why: Why::Unreachable(std::io::ErrorKind::TimedOut) });
        }
    }

    fn handshake(&mut self, events: &mut Events<'_>) {
        self.peer_sends(events, |reactor, _, events| {
            let reserved = [if events.byte() & 1 == 0 { 0xff } else { 0 }; 8];
            let info_hash = reactor.meta.info_hash;
            Handshake { reserved, info_hash, peer_id: [events.byte(); 20] }.encode().to_vec()
        });
    }

    fn message(&mut self, events: &mut Events<'_>) {
        self.peer_sends(events, |reactor, _, events| {
            let message = match events.below(16) {
                0 => Message::Choke,
                1 => Message::Unchoke,
                2 => Message::Interested,
                3 => Message::NotInterested,
                4 => Message::Have(piece(events)),
                5 => Message::Bitfield(Cow::Owned(vec![events.byte(), events.byte()])),
                6 => Message::Request(reactor.any_block(events)),
                7 => Message::Cancel(reactor.any_block(events)),
                8 => Message::Port(u16::from(events.byte())),
                9 => Message::Suggest(piece(events)),
                10 => Message::HaveAll,
                11 => Message::HaveNone,
                12 => Message::Reject(reactor.any_block(events)),
                13 => Message::AllowedFast(piece(events)),
                14 => Message::Extended { id: events.byte() % 8, body: Cow::Borrowed(events.bytes()) },
                _ => Message::KeepAlive,
            };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            bytes
        });
    }

    /// Answers a request, or sends a block that nobody requested.
    fn block(&mut self, events: &mut Events<'_>) {
        self.peer_sends(events, |reactor, peer, events| {
            let how = events.byte();
            let requested = reactor.conns.get_mut(&peer).and_then(|conn| conn.requested.pop_front());
            let block = requested.filter(|_| how & 1 == 0).unwrap_or_else(|| reactor.any_block(events));
            let mut bytes = Vec::new();
            Message::Piece(block).encode(&mut bytes);
            let header = bytes.len();
            bytes.resize(header + block.len as usize, 0);
            disk::fill(block, &mut bytes[header..]);
            if how & 2 != 0
                && let Some(last) = bytes.last_mut()
            {
                *last ^= 1;
            }
            // Cut short: the next bytes of this peer are taken for the rest of the payload.
            let cut = if how & 4 == 0 { 0 } else { block.len as usize / 2 };
            bytes.truncate(bytes.len() - cut);
            bytes
        });
    }

    fn extensions(&mut self, events: &mut Events<'_>) {
        self.peer_sends(events, |reactor, _, events| {
            let mut ids = Ids::default();
            Extension::ALL.into_iter().for_each(|extension| ids.name(extension, events.byte()));
            let size = match events.byte() {
                0 => Some(reactor.meta.info.len() as u32),
                1 => None,
                odd => Some(u32::from(odd) << 12),
            };
            let upload_only = (events.byte() & 1 == 1).then_some(true);
            let reqq = Some(events.byte().into());
            let body = Extensions { ids, metadata_size: size, upload_only, reqq, ..Extensions::default() };
            let mut bytes = Vec::new();
            Message::Extended { id: 0, body: body.encode().into() }.encode(&mut bytes);
            bytes
        });
    }

    /// Sends a piece of the info dictionary, which is one piece long (BEP 9).
    fn metadata(&mut self, events: &mut Events<'_>) {
        self.peer_sends(events, |reactor, _, events| {
            let total = reactor.meta.info.len();
            let mut body =
                format!("d8:msg_typei1e5:piecei{}e10:total_sizei{total}ee", events.byte() / 128).into_bytes();
            body.extend_from_slice(&reactor.meta.info);
            if events.byte() & 1 == 1 {
                body.pop();
                body.push(b'x');
            }
            let mut bytes = Vec::new();
            Message::Extended { id: Extension::Metadata.id(), body: body.into() }.encode(&mut bytes);
            bytes
        });
    }

    /// A peer reads some of what waits for it.
    fn sent(&mut self, events: &mut Events<'_>) {
        let Some(peer) = self.peer(events) else { return };
        let count = 1 + events.below(8);
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        let (mut blocks, mut bytes) = (0, 0);
        for (len, buf) in conn.outbox.drain(..count.min(conn.outbox.len())) {
            self.pool.put(buf);
            blocks += 1;
            bytes += u64::from(len);
        }
        if blocks > 0 {
            self.tell(Event::Sent { peer, blocks, bytes });
        }
    }

    fn disk_answers(&mut self) {
        let Some((lane, done)) = self.done.pop_front() else { return };
        self.disk.answered();
        self.tell(Event::Done { lane, done });
    }

    fn call_answers(&mut self, events: &mut Events<'_>) {
        let reply = match self.calls.pop_front() {
            None => return,
            Some(Call::Announce { torrent, tracker, .. }) => {
                let peers = (0..events.below(8)).map(|_| addr(events)).collect();
                let interval = Duration::from_secs(u64::from(events.byte()) * 60);
                let response = Response { interval, peers, ..Response::default() };
                Reply::Announced { torrent, tracker, result: Ok(response) }
            }
            Some(Call::Resolve { torrent, host, port }) => {
                Reply::Resolved { torrent, host, port, result: Err("no".to_owned()) }
            }
            Some(Call::LookUp { host, port }) => Reply::LookedUp { host, port, result: Err("no".to_owned()) },
        };
        self.tell(Event::Reply(reply));
    }

    /// Stops at each deadline, as the reactor does.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..STOPS_MAX {
            let Some(at) = self.session.deadline().filter(|at| *at <= until) else { break };
            self.now = at.max(self.now + Duration::from_micros(1));
            self.tell(Event::Tick);
        }
        self.now = self.now.max(until);
        self.tell(Event::Tick);
    }

    fn command(&mut self, events: &mut Events<'_>) {
        self.tell(Event::Command(match events.byte() {
            0..=99 => Command::Pause { number: 0 },
            100..=199 => Command::Resume { number: 0 },
            200..=249 => Command::Status,
            _ => Command::Remove { number: 0 },
        }));
    }

    fn datagram(&mut self, events: &mut Events<'_>) {
        let (from, local) = (addr(events), events.byte() & 1 == 1);
        let data = events.bytes();
        self.tell(if local { Event::Lsd { from, data } } else { Event::Datagram { from, data } });
    }

    fn disk_trouble(&mut self, events: &mut Events<'_>) {
        match events.below(4) {
            0 => self.disk.space = self.disk.stored,
            1 => self.disk.space = u64::MAX,
            2 => _ = self.disk.bad.insert(piece(events)),
            _ => self.disk.lies_of_info = !self.disk.lies_of_info,
        }
    }

    /// A block of the torrent, or nearly one.
    fn any_block(&self, events: &mut Events<'_>) -> Block {
        let (piece, index) = (piece(events), u32::from(events.byte() % 4));
        let layout = &self.meta.layout;
        if piece < layout.pieces() && index < layout.blocks(piece) {
            layout.block(piece, index)
        } else {
            Block { piece, begin: index * BLOCK, len: 1 + u32::from(events.byte()) * 64 }
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        if !self.exited {
            self.session.handle(event, self.now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.session.poll() {
            actions += 1;
            assert!(actions <= ACTIONS_MAX, "one event leads to {actions} actions");
            self.act(action);
        }
        let mut adopted = None;
        while let Some(report) = self.session.report(self.now) {
            match report {
                Report::Metadata { meta, .. } => adopted = Some(*meta),
                Report::Progress { progress, .. } => assert!(progress.have <= progress.total),
                _ => {}
            }
        }
        if let Some(meta) = adopted {
            self.tell(Event::Command(Command::Adopt { number: 0, spec: spec(meta, 0) }));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { peer, .. } => _ = self.conns.insert(peer, Conn::default()),
            Action::Close { peer, .. } => self.forget(peer),
            Action::Expect { peer, max } => {
                if let Some(conn) = self.conns.get_mut(&peer) {
                    conn.decoder.set_max(max);
                }
            }
            Action::Send { peer, message: Message::Request(block) } => {
                if let Some(conn) = self.conns.get_mut(&peer) {
                    conn.requested.push_back(block);
                }
            }
            Action::SendBlock { peer, block, buf } => {
                assert!(self.disk.verified(block.piece), "an unverified piece is served");
                let conn = self.conns.get_mut(&peer).expect("a block is for a peer that is there");
                conn.outbox.push_back((block.len, buf));
            }
            Action::Resume { peer } => {
                if let Some(conn) = self.conns.get_mut(&peer) {
                    conn.waits = false;
                    self.read(peer);
                }
            }
            Action::Job { lane, job } => self.work(lane, job),
            Action::Read { lane, torrent, peer, blocks } => {
                let mut with_buf = |block| (block, self.pool.take().expect("the session keeps the quota"));
                let blocks = blocks.into_iter().map(&mut with_buf).collect();
                self.work(lane, Job::Read { torrent, peer, blocks });
            }
            Action::Call(call) => self.calls.push_back(*call),
            Action::Release(buf) => self.pool.put(buf),
            Action::ForgetFailures => {}
            Action::Exit => self.exited = true,
            Action::Web { .. } | Action::Lend { .. } => panic!("the torrent has no web seeds"),
            Action::Encrypt { .. } => panic!("encryption is disabled"),
            Action::Handshake { .. }
            | Action::Send { .. }
            | Action::Haves { .. }
            | Action::Datagram { .. }
            | Action::Lsd { .. } => {}
        }
    }

    fn work(&mut self, lane: u8, job: Job) {
        let done = self.disk.job(lane, job, self.now);
        self.done.extend(done.into_iter().map(|(_, done)| (lane, done)));
    }

    /// The connection is gone, and its buffers are back in the pool.
    fn forget(&mut self, peer: PeerId) {
        let Some(conn) = self.conns.remove(&peer) else { return };
        conn.outbox.into_iter().map(|(_, buf)| buf).chain(conn.landing).for_each(|buf| self.pool.put(buf));
    }

    /// Decodes what came from a peer as far as it may be read.
    fn read(&mut self, peer: PeerId) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        let inbox = std::mem::take(&mut conn.inbox);
        let mut input = &inbox[..];
        while self.read_one(peer, &mut input) {}
        if let Some(conn) = self.conns.get_mut(&peer) {
            conn.inbox.splice(..0, input.iter().copied());
        }
    }

    /// One step of the decoder. False: nothing more can be read.
    fn read_one(&mut self, peer: PeerId, input: &mut &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(&peer).filter(|conn| !conn.waits) else { return false };
        match conn.decoder.payload() {
            Some(payload) if payload.fate == Fate::Wait => {
                let intake = self.session.intake(peer, payload.block, self.now);
                conn.waits = intake == Intake::Wait;
                conn.decoder.decide(match intake {
                    Intake::Take => Fate::Take,
                    Intake::Skip => Fate::Skip,
                    Intake::Wait => Fate::Wait,
                });
                if intake == Intake::Take {
                    conn.landing = Some(self.pool.take().expect("the session keeps the quota"));
                }
                self.drain();
                return true;
            }
            Some(payload) if payload.fate == Fate::Take => {
                let (bytes, rest) = input.split_at(input.len().min(payload.left() as usize));
                let start = payload.filled as usize;
                let landing = conn.landing.as_mut().expect("it was taken");
                landing.space()[start..start + bytes.len()].copy_from_slice(bytes);
                *input = rest;
                if !conn.decoder.advance(bytes.len() as u32) {
                    return false;
                }
                let buf = conn.landing.take().expect("it was taken");
                self.tell(Event::Block { peer, block: payload.block, buf });
                return true;
            }
            _ => {}
        }
        match conn.decoder.next(input) {
            Ok(Some(Step::InfoHash(info_hash))) => self.tell(Event::InfoHash { peer, info_hash }),
            Ok(Some(Step::Handshake(handshake))) => self.tell(Event::Handshake { peer, handshake }),
            Ok(Some(Step::Message(message))) => self.tell(Event::Message { peer, message }),
            Ok(Some(Step::Piece(_))) => {}
            Ok(None) => return conn.decoder.payload().is_some_and(|payload| payload.fate == Fate::Wait),
            Err(_) => {
                self.forget(peer);
                self.tell(Event::Closed { peer, why: Why::Protocol("bytes") });
            }
        }
        true
    }

    /// The program ends: it must, with every buffer back in the pool and the files closed.
    fn end(&mut self) {
        self.tell(Event::Command(Command::Quit));
        for _ in 0..TURNS_MAX {
            if self.exited {
                break;
            }
            while !self.done.is_empty() {
                self.disk_answers();
            }
            while !self.calls.is_empty() {
                self.call_answers(&mut Events::new(&[]));
            }
            self.wait(Duration::from_secs(1));
        }
        assert!(self.exited, "the session does not end");
        assert_eq!(self.pool.out(), 0, "buffers are not back in the pool");
        assert!(self.disk.is_closed(), "files are left open");
    }
}

fn addr(events: &mut Events<'_>) -> SocketAddr {
    let host = events.byte();
    SocketAddr::from(([11, host / 64, host / 16, host], 6881))
}

/// The number of a piece, or one past the last.
fn piece(events: &mut Events<'_>) -> u32 {
    u32::from(events.byte()) % (PIECES + 1)
}
