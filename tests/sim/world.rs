//! A world of sessions in virtual time: links that carry real wire bytes, disks that answer late, trackers that are
//! lists. It runs the loop of the reactor on the same events and actions, and jumps to the next deadline. One seed
//! decides everything.

use super::datagrams::{Host, Weather};
use super::disk::Disk;
use super::idle::Watch;
use super::web::{Server, Thread};
use ptorrent::api::{
    Action, Call, Command, Done, Encryption, Event, Intake, Job, PeerId, Reason, Reply, Report, Spec, State,
    TorrentId, WebOrder, WebSaid, Why,
};
use ptorrent::base::buf::{Buf, Pool};
use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::limits::{OUTBOX_MAX, SEND_BUFS};
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::Block;
use ptorrent::proto::metainfo::Metainfo;
use ptorrent::proto::mse::{Method, Methods};
use ptorrent::proto::tracker;
use ptorrent::proto::wire::decoder::{Decoder, Fate, Step};
use ptorrent::proto::wire::message::Message;
use ptorrent::session::{Config, Session};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The number of a node, in the order in which they were added.
pub(crate) type NodeId = usize;

/// Numbers from here on are of torrents that are there under another one.
pub(crate) const DOUBLE: u32 = 1000;

/// What a connection holds on its way at most, unless a test says otherwise: a TCP window.
const WINDOW: usize = 256 << 10;
/// On slow links less: a quarter of a second's worth, but this much.
const WINDOW_MIN: usize = 16 << 10;

/// How a node is connected to the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// One way.
    pub(crate) delay: Duration,
    /// Bytes a second, each way.
    pub(crate) rate: u64,
}

impl Default for Link {
    fn default() -> Link {
        Link { delay: Duration::from_millis(20), rate: 10 << 20 }
    }
}

/// A peer that does as it likes: it gets bytes and says bytes.
pub(crate) trait Script {
    /// The connection is there.
    fn open(&mut self) -> Vec<u8>;
    /// Bytes came.
    fn bytes(&mut self, bytes: &[u8]) -> Vec<u8>;
}

enum Mind {
    Session(Box<Session>),
    Script(Box<dyn Fn() -> Box<dyn Script>>),
}

/// One host.
pub(crate) struct Node {
    mind: Mind,
    encryption: Encryption,
    /// The rate of its downloads has a limit.
    pub(crate) is_limited: bool,
    pub(crate) addr: SocketAddr,
    pub(crate) link: Link,
    pub(crate) disk: Disk,
    /// The disks of torrents that have one of their own, and which torrents those are.
    pub(crate) disks: BTreeMap<InfoHash, Disk>,
    torrents: BTreeMap<TorrentId, InfoHash>,
    pub(crate) pool: Pool,
    /// Its threads of web seeds.
    pub(crate) web: BTreeMap<u8, Thread>,
    halves: BTreeMap<PeerId, Half>,
    /// Scripts have no ids of their own.
    next_id: u32,
    pub(crate) alive: bool,
    pub(crate) exited: bool,
    wake: Time,
    /// How its program wants a torrent whose metadata has come.
    pub(crate) adopts: Option<Box<dyn Fn(Metainfo) -> Arc<Spec>>>,
    /// The link to the world is busy until then, out and in.
    busy: [Time; 2],
    pub(crate) seen: Seen,
}

/// What a node's program heard.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    pub(crate) complete: Option<Time>,
    pub(crate) state: Option<State>,
    pub(crate) states: Vec<State>,
    /// States of torrents that were added twice.
    pub(crate) doubles: Vec<State>,
    pub(crate) completes: u32,
    pub(crate) warnings: u32,
    pub(crate) errors: Vec<(Reason, String)>,
    pub(crate) finished: bool,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) peers: u32,
    pub(crate) peers_max: usize,
    pub(crate) announces: Vec<(tracker::Event, u64)>,
    pub(crate) closed: Vec<Why>,
    /// Connections that went through both handshakes.
    pub(crate) opened: usize,
    /// Connections whose handshake was encrypted.
    pub(crate) encrypted: u32,
    /// How often each address was called.
    pub(crate) calls: BTreeMap<SocketAddr, u32>,
    /// Payload that went to its links, and that came whole.
    pub(crate) sent: u64,
    pub(crate) got: u64,
    /// Payload that came from web seeds.
    pub(crate) fetched: u64,
    pub(crate) messages: BTreeMap<&'static str, u64>,
    /// Messages of extensions that it sent, with their ids.
    pub(crate) extended: Vec<(u8, Vec<u8>)>,
    /// What it said in handshakes that it can do.
    pub(crate) reserved: [u8; 8],
    /// Announces to the local network.
    pub(crate) local: u64,
    /// Where its datagrams went.
    pub(crate) datagrams: BTreeSet<SocketAddr>,
    /// Whom it called, how many calls are out, and were at most.
    pub(crate) dialled: BTreeSet<SocketAddr>,
    pub(crate) calling: usize,
    pub(crate) calling_max: usize,
    /// Of messages, blocks apart, in bytes.
    pub(crate) bytes: u64,
    /// By the number of the torrent.
    pub(crate) each: BTreeMap<u32, Each>,
}

/// What a node's program heard of one torrent.
#[derive(Default, Debug)]
pub(crate) struct Each {
    pub(crate) state: Option<State>,
    pub(crate) complete: Option<Time>,
    pub(crate) peers: u32,
    pub(crate) uploaded: u64,
    /// Bytes that were hashed at the start.
    pub(crate) checked: u64,
}

/// A node's end of a connection.
struct Half {
    conn: usize,
    side: usize,
    /// The other side has it too.
    made: bool,
    decoder: Decoder,
    inbox: Vec<u8>,
    reading: bool,
    buf: Option<Buf>,
    outbox: VecDeque<Segment>,
    /// Bytes of messages, blocks apart, that wait in it.
    small: usize,
    script: Option<Box<dyn Script>>,
    greeting: Greeting,
}

/// Stands for an encrypted handshake: a byte that no handshake in the clear begins with, and the methods.
const OFFER: u8 = 0xe0;

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    /// What comes is the stream.
    Over,
    /// An offer, or the handshake in the clear.
    Either(Methods),
    /// The answer to our offer.
    Answer,
}

struct Segment {
    /// Shared with the deliveries that carry it, so that nothing is copied on the way.
    bytes: Rc<[u8]>,
    at: usize,
    /// The block whose last bytes these are.
    block: Option<(u32, Option<Buf>)>,
}

struct Conn {
    ends: [(NodeId, Option<PeerId>); 2],
    /// Bytes sent by this side and not read by the other.
    unread: [usize; 2],
    open: bool,
}

enum What {
    Arrive(usize),
    Refused(NodeId, PeerId),
    /// A script may have the rest of what came.
    Listen(NodeId, PeerId),
    Deliver(usize, usize, Rc<[u8]>, Range<usize>),
    /// From whom, to whom, what.
    Datagram(SocketAddr, SocketAddr, Rc<[u8]>),
    /// What was said to the group of the local network, as one of it hears it.
    Local(SocketAddr, SocketAddr, Rc<[u8]>),
    Closed(usize, usize),
    Done(NodeId, u8, Done),
    Reply(NodeId, Reply),
    /// A thread of web seeds says something; None: something comes from its server.
    Web(NodeId, u8, Option<WebSaid>),
    Wake(NodeId),
    Kill(NodeId),
    Cut(NodeId),
    Start(NodeId, u32, Arc<Spec>),
    Quit(NodeId),
    Tell(NodeId, Command),
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) nodes: Vec<Node>,
    conns: Vec<Conn>,
    /// What comes when: the moment, a count that keeps the order, and the place in `what`; one number is compared fast.
    queue: BinaryHeap<Reverse<(u128, usize)>>,
    what: Vec<Option<What>>,
    unused: Vec<usize>,
    seq: u64,
    by_addr: BTreeMap<SocketAddr, NodeId>,
    /// What the tracker knows.
    swarm: Vec<SocketAddr>,
    /// Who hears datagrams, sessions apart.
    hosts: BTreeMap<SocketAddr, Box<dyn Host>>,
    /// Web servers, by the host of their URL.
    servers: BTreeMap<String, Server>,
    pub(crate) weather: Weather,
    /// What the tracker names to everybody besides those who are there.
    pub(crate) ghosts: Vec<SocketAddr>,
    /// What a connection holds on its way at most.
    pub(crate) window: usize,
    watch: Watch,
    /// A digest of all that happened.
    pub(crate) trace: u64,
    pub(crate) events: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        World {
            now: Time(1_000_000),
            rng: Rng::new(bytes),
            nodes: Vec::new(),
            conns: Vec::new(),
            queue: BinaryHeap::new(),
            what: Vec::new(),
            unused: Vec::new(),
            seq: 0,
            by_addr: BTreeMap::new(),
            swarm: Vec::new(),
            hosts: BTreeMap::new(),
            servers: BTreeMap::new(),
            weather: Weather::default(),
            ghosts: Vec::new(),
            window: WINDOW,
            watch: Watch::default(),
            trace: 0,
            events: 0,
        }
    }

    /// Adds a ptorrent; `config` may change what is given.
    pub(crate) fn add(&mut self, link: Link, disk: Disk, config: impl FnOnce(&mut Config)) -> NodeId {
        let mut c = Config {
            port: 6881,
            max_conn: 50,
            max_upload: 4,
            max_download_rate: 0,
            max_upload_rate: 0,
            max_metadata_size: ptorrent::limits::METADATA_MAX_DEFAULT,
            encryption: Encryption::Disabled,
            lanes: 2,
            max_open: 10_000,
            receive_bufs: 512,
            lsd: false,
            pex: false,
        };
        config(&mut c);
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let pool = Pool::new(c.receive_bufs + SEND_BUFS).expect("memory");
        let (encryption, is_limited) = (c.encryption, c.max_download_rate > 0);
        let mind = Mind::Session(Box::new(Session::new(c, seed, self.now)));
        let node = self.push(mind, link, disk, pool);
        self.nodes[node].encryption = encryption;
        self.nodes[node].is_limited = is_limited;
        node
    }

    /// Adds a peer that runs a script on each connection.
    pub(crate) fn add_script(
        &mut self,
        link: Link,
        script: impl Fn() -> Box<dyn Script> + 'static,
    ) -> NodeId {
        let pool = Pool::new(0).expect("memory");
        self.push(Mind::Script(Box::new(script)), link, Disk::empty(1, 1), pool)
    }

    fn push(&mut self, mind: Mind, link: Link, disk: Disk, pool: Pool) -> NodeId {
        let id = self.nodes.len();
        let ip = Ipv4Addr::new(10, 77, (id / 200) as u8, (id % 200 + 1) as u8);
        let addr = SocketAddr::new(IpAddr::V4(ip), 6881);
        self.by_addr.insert(addr, id);
        self.nodes.push(Node {
            mind,
            encryption: Encryption::Disabled,
            is_limited: false,
            addr,
            link,
            disk,
            disks: BTreeMap::new(),
            torrents: BTreeMap::new(),
            pool,
            web: BTreeMap::new(),
            halves: BTreeMap::new(),
            next_id: 0,
            alive: true,
            exited: false,
            wake: Time::NEVER,
            adopts: None,
            busy: [Time::ZERO; 2],
            seen: Seen::default(),
        });
        id
    }

    /// The node is at this address from now on.
    pub(crate) fn move_to(&mut self, node: NodeId, ip: IpAddr) {
        let addr = SocketAddr::new(ip, 6881);
        self.by_addr.remove(&self.nodes[node].addr);
        self.by_addr.insert(addr, node);
        self.nodes[node].addr = addr;
    }

    /// How many connections a node has.
    pub(crate) fn connections(&self, node: NodeId) -> usize {
        self.nodes[node].halves.len()
    }

    /// Adds a host that hears datagrams.
    pub(crate) fn add_host(&mut self, addr: SocketAddr, host: Box<dyn Host>) {
        self.hosts.insert(addr, host);
    }

    pub(crate) fn host(&self, addr: &str) -> &dyn Host {
        &*self.hosts[&addr.parse().expect("an address")]
    }

    /// Makes the tracker know a node before it announces itself (scripts never do).
    pub(crate) fn list(&mut self, node: NodeId) {
        let addr = self.nodes[node].addr;
        self.swarm.push(addr);
    }

    pub(crate) fn start(&mut self, node: NodeId, spec: &Arc<Spec>, after: Duration) {
        self.start_as(node, 0, spec, after);
    }

    /// One of several torrents of a node.
    pub(crate) fn start_as(&mut self, node: NodeId, number: u32, spec: &Arc<Spec>, after: Duration) {
        self.later(after, What::Start(node, number, spec.clone()));
    }

    /// A connection of a script to a node.
    pub(crate) fn dial(&mut self, node: NodeId, target: NodeId) {
        let n = &mut self.nodes[node];
        let Mind::Script(make) = &n.mind else { return };
        let script = make();
        n.next_id += 1;
        let peer = ptorrent::base::arena::Handle::from_bits(n.next_id);
        let conn = self.conns.len();
        self.conns.push(Conn { ends: [(node, Some(peer)), (target, None)], unread: [0; 2], open: true });
        self.half(node, peer, conn, 0, Some(script));
        self.later(self.nodes[node].link.delay, What::Arrive(conn));
    }

    pub(crate) fn quit(&mut self, node: NodeId, after: Duration) {
        self.later(after, What::Quit(node));
    }

    /// The node's program wants this now.
    pub(crate) fn command(&mut self, node: NodeId, command: Command) {
        self.later(Duration::ZERO, What::Tell(node, command));
    }

    /// The node is gone without a word: others notice by a reset.
    pub(crate) fn kill(&mut self, node: NodeId, after: Duration) {
        self.later(after, What::Kill(node));
    }

    /// All its connections break; it lives.
    pub(crate) fn cut(&mut self, node: NodeId, after: Duration) {
        self.later(after, What::Cut(node));
    }

    fn later(&mut self, after: Duration, what: What) {
        self.at(self.now + after, what);
    }

    fn at(&mut self, at: Time, what: What) {
        self.seq += 1;
        let place = self.unused.pop().unwrap_or(self.what.len());
        if place == self.what.len() {
            self.what.push(None);
        }
        self.what[place] = Some(what);
        let key = u128::from(at.max(self.now).0) << 64 | u128::from(self.seq);
        self.queue.push(Reverse((key, place)));
    }

    /// Runs until `done` or for `span` at most; tells whether it was `done`.
    pub(crate) fn run(&mut self, span: Duration, done: impl Fn(&World) -> bool) -> bool {
        let end = self.now + span;
        loop {
            if done(self) {
                return true;
            }
            let Some(Reverse((key, place))) = self.queue.peek().copied() else { return done(self) };
            let at = Time((key >> 64) as u64);
            if at > end {
                self.now = end;
                return done(self);
            }
            self.queue.pop();
            self.watch.check(at, &self.nodes);
            self.now = at;
            self.events += 1;
            let what = self.what[place].take().expect("each entry has its event");
            self.unused.push(place);
            self.happen(what);
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Wake(node) => {
                if self.nodes[node].wake == self.now {
                    self.nodes[node].wake = Time::NEVER;
                    self.tell(node, Event::Tick);
                }
            }
            What::Start(node, number, spec) => self.tell(node, Event::Command(Command::Add { number, spec })),
            What::Quit(node) => self.tell(node, Event::Command(Command::Quit)),
            What::Tell(node, command) => self.tell(node, Event::Command(command)),
            What::Done(node, lane, done) => {
                self.nodes[node].disk_of(torrent_of(&done)).answered();
                self.tell(node, Event::Done { lane, done });
            }
            What::Web(node, slot, said) => self.web(node, slot, said),
            What::Reply(node, reply) => self.tell(node, Event::Reply(reply)),
            What::Refused(node, peer) => {
                self.nodes[node].seen.calling -= 1;
                let why = Why::Unreachable(std::io::ErrorKind::ConnectionRefused);
                self.tell(node, Event::Closed { peer, why });
            }
            What::Arrive(conn) => self.arrive(conn),
            What::Listen(node, peer) if self.may_listen(node, peer) => self.go_on(node, peer),
            What::Listen(..) => {}
            What::Deliver(conn, side, bytes, range) => self.deliver(conn, side, &bytes[range]),
            What::Datagram(from, to, data) => self.datagram(from, to, &data),
            What::Local(from, to, data) => {
                let node = self.by_addr[&to];
                self.tell(node, Event::Lsd { from, data: &data });
            }
            What::Closed(conn, side) => self.hang_up(conn, side, Why::Eof),
            What::Cut(node) => self.cut_all(node),
            What::Kill(node) => {
                self.cut_all(node);
                self.nodes[node].alive = false;
            }
        }
    }

    fn cut_all(&mut self, node: NodeId) {
        let conns: Vec<usize> = self.nodes[node].halves.values().map(|h| h.conn).collect();
        for conn in conns {
            if self.conns[conn].open {
                self.conns[conn].open = false;
                self.hang_up(conn, 0, Why::Io(std::io::ErrorKind::ConnectionReset));
                self.hang_up(conn, 1, Why::Io(std::io::ErrorKind::ConnectionReset));
            }
        }
    }

    /// One event in, all actions out.
    fn tell(&mut self, node: NodeId, event: Event<'_>) {
        let now = self.now;
        let n = &mut self.nodes[node];
        if !n.alive || n.exited {
            return;
        }
        let Mind::Session(session) = &mut n.mind else { return };
        match &event {
            Event::Command(command) => self.watch.command(node, command),
            Event::Message { peer, message } => self.watch.received(node, *peer, message),
            Event::Handshake { peer, handshake } => self.watch.handshake(node, *peer, handshake),
            Event::Block { peer, block, .. } => self.watch.block(node, *peer, *block, now),
            _ => {}
        }
        session.handle(event, now);
        self.drain(node);
    }

    fn drain(&mut self, node: NodeId) {
        loop {
            let Mind::Session(session) = &mut self.nodes[node].mind else { return };
            let Some(action) = session.poll() else { break };
            self.trace = self.trace.rotate_left(5) ^ self.now.0 ^ (node as u64) << 48 ^ kind(&action);
            self.act(node, action);
        }
        self.hear(node);
        let Mind::Session(session) = &self.nodes[node].mind else { return };
        if let Some(at) = session.deadline() {
            let at = at.max(self.now + Duration::from_micros(1));
            if at < self.nodes[node].wake {
                self.nodes[node].wake = at;
                self.at(at, What::Wake(node));
            }
        }
    }

    fn hear(&mut self, node: NodeId) {
        let now = self.now;
        let n = &mut self.nodes[node];
        let Mind::Session(session) = &mut n.mind else { return };
        let mut adopted = Vec::new();
        while let Some(report) = session.report(now) {
            match report {
                Report::Complete { number } => {
                    n.seen.complete = Some(now);
                    n.seen.completes += 1;
                    n.seen.each.entry(number).or_default().complete = Some(now);
                }
                Report::State { number: DOUBLE.., state, .. } => n.seen.doubles.push(state),
                Report::State { number, state, .. } => {
                    n.seen.state = Some(state);
                    n.seen.states.push(state);
                    n.seen.each.entry(number).or_default().state = Some(state);
                }
                Report::Warning { .. } => n.seen.warnings += 1,
                Report::Error { reason, message, .. } => n.seen.errors.push((reason, message)),
                Report::Progress { number, progress } => {
                    let each = n.seen.each.entry(number).or_default();
                    (each.peers, each.uploaded) = (progress.peers, progress.uploaded);
                    each.checked = progress.checked.map_or(each.checked, |(done, _)| done);
                    n.seen.downloaded = progress.downloaded;
                    n.seen.uploaded = progress.uploaded;
                    n.seen.peers = progress.peers;
                    assert!(progress.have <= progress.total);
                }
                Report::Finished { .. } => n.seen.finished = true,
                Report::Metadata { number, meta } => {
                    let spec = n.adopts.as_ref().expect("somebody who wants it")(*meta);
                    adopted.push(Command::Adopt { number, spec });
                }
                _ => {}
            }
        }
        adopted.into_iter().for_each(|command| self.command(node, command));
    }

    fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Connect { peer, addr } => self.connect(node, peer, addr),
            Action::Encrypt { peer, methods } => self.offer(node, peer, methods),
            Action::Handshake { peer, handshake } => {
                let reserved = &mut self.nodes[node].seen.reserved;
                reserved.iter_mut().zip(handshake.reserved).for_each(|(all, byte)| *all |= byte);
                self.say(node, peer, &handshake.encode(), None);
            }
            Action::Expect { peer, max } => {
                self.nodes[node].seen.opened += 1;
                if let Some(half) = self.nodes[node].halves.get_mut(&peer) {
                    half.decoder.set_max(max);
                }
            }
            Action::Send { peer, message } => {
                self.watch.sent(node, peer, &message, self.now);
                *self.nodes[node].seen.messages.entry(name(&message)).or_default() += 1;
                if let Message::Extended { id, body } = &message {
                    self.nodes[node].seen.extended.push((*id, body.to_vec()));
                }
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                self.nodes[node].seen.bytes += bytes.len() as u64;
                self.say(node, peer, &bytes, None);
            }
            Action::Haves { peer, pieces } => {
                let mut bytes = Vec::new();
                for piece in pieces {
                    *self.nodes[node].seen.messages.entry(name(&Message::Have(piece))).or_default() += 1;
                    Message::Have(piece).encode(&mut bytes);
                }
                self.nodes[node].seen.bytes += bytes.len() as u64;
                self.say(node, peer, &bytes, None);
            }
            Action::SendBlock { peer, block, buf } => {
                self.nodes[node].seen.sent += u64::from(block.len);
                let n = &self.nodes[node];
                let verified = |disk: &Disk| disk.verified(block.piece);
                assert!(verified(&n.disk) || n.disks.values().any(verified), "an unverified piece is served");
                let mut bytes = Vec::with_capacity(13 + block.len as usize);
                Message::Piece(block).encode(&mut bytes);
                bytes.extend_from_slice(buf.filled(block.len));
                self.say(node, peer, &bytes, Some((block.len, Some(buf))));
            }
            Action::Resume { peer } => {
                if let Some(half) = self.nodes[node].halves.get_mut(&peer) {
                    half.reading = true;
                    self.go_on(node, peer);
                }
            }
            Action::Close { peer, why } => {
                self.nodes[node].seen.closed.push(why);
                self.close(node, peer);
            }
            Action::Job { lane, job } => {
                let now = self.now;
                for (at, done) in self.nodes[node].disk_for(&job).job(lane, job, now) {
                    self.at(at, What::Done(node, lane, done));
                }
            }
            Action::Read { lane, torrent, peer, blocks } => {
                let n = &mut self.nodes[node];
                let take = |block| (block, n.pool.take().expect("the session keeps the quota"));
                let blocks = blocks.into_iter().map(take).collect();
                let job = Job::Read { torrent, peer, blocks };
                for (at, done) in n.disk_for(&job).job(lane, job, self.now) {
                    self.at(at, What::Done(node, lane, done));
                }
            }
            Action::Datagram { to, data } => {
                self.nodes[node].seen.datagrams.insert(to);
                let from = self.nodes[node].addr;
                self.send_datagram(from, to, &data);
            }
            Action::Lsd { v6, data } => self.announce_locally(node, v6, &data),
            Action::Call(call) => self.call(node, *call),
            Action::Web { slot, order } => self.web_order(node, slot, order),
            Action::Lend { slot, count } => {
                for _ in 0..count {
                    let buf = self.nodes[node].pool.take().expect("the session keeps the quota");
                    self.web_order(node, slot, WebOrder::Lend(buf));
                }
            }
            Action::Release(buf) => self.nodes[node].pool.put(buf),
            Action::ForgetFailures => {}
            Action::Exit => {
                self.nodes[node].exited = true;
                self.hear(node);
            }
        }
    }

    fn web_order(&mut self, node: NodeId, slot: u8, order: WebOrder) {
        let said = self.nodes[node].web.entry(slot).or_default().order(order);
        for said in said {
            self.later(Duration::ZERO, What::Web(node, slot, Some(said)));
        }
        self.web_next(node, slot, true);
    }

    /// What comes next from a server is on its way.
    fn web_next(&mut self, node: NodeId, slot: u8, fresh: bool) {
        let thread = self.nodes[node].web.entry(slot).or_default();
        let Some((host, len)) = thread.next() else { return };
        let server = &self.servers[host];
        if !std::mem::replace(&mut thread.busy, true) {
            let took = Duration::from_micros(u64::from(len) * 1_000_000 / server.rate);
            let delay = if fresh && thread.idle { server.delay } else { Duration::ZERO };
            thread.idle = false;
            self.later(took + delay, What::Web(node, slot, None));
        }
    }

    /// Something comes from a server, or a thread says what it had to say.
    fn web(&mut self, node: NodeId, slot: u8, said: Option<WebSaid>) {
        if let Some(said) = said {
            return self.web_says(node, slot, said);
        }
        let thread = self.nodes[node].web.entry(slot).or_default();
        thread.busy = false;
        let Some(server) = thread.next().map(|(host, _)| self.servers[host].clone()) else { return };
        for said in thread.turn(&server, &mut self.rng) {
            // Behind what it said before.
            self.later(Duration::ZERO, What::Web(node, slot, Some(said)));
        }
        if !server.is_dead(&self.nodes[node].web[&slot]) {
            self.web_next(node, slot, false);
        }
    }

    fn web_says(&mut self, node: NodeId, slot: u8, said: WebSaid) {
        if let WebSaid::Block(block, _) = &said {
            self.nodes[node].seen.fetched += u64::from(block.len);
        }
        self.tell(node, Event::Web { slot, said });
    }

    /// Adds a web server.
    pub(crate) fn serve(&mut self, host: &str, server: Server) {
        self.servers.insert(host.to_string(), server);
    }

    /// Orders that a node's threads of web seeds had, and the ranges in them.
    pub(crate) fn orders(&self, node: NodeId) -> (u32, u32) {
        let threads = self.nodes[node].web.values();
        threads.fold((0, 0), |(orders, ranges), t| (orders + t.orders, ranges + t.ranges))
    }

    /// How often files without ranges were begun for a node, and the bytes of them that came in vain.
    pub(crate) fn passes(&self, node: NodeId) -> (u32, u64) {
        let threads = self.nodes[node].web.values();
        threads.fold((0, 0), |(starts, skipped), t| (starts + t.starts, skipped + t.skipped))
    }

    /// Copies of a datagram set out, as many as the weather lets.
    fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let data: Rc<[u8]> = data.into();
        for delay in self.weather.copies(&mut self.rng) {
            self.later(delay, What::Datagram(from, to, data.clone()));
        }
    }

    /// All nodes are one house, of IPv4.
    fn announce_locally(&mut self, node: NodeId, v6: bool, data: &[u8]) {
        self.nodes[node].seen.local += 1;
        let from = self.nodes[node].addr;
        if !v6 {
            for to in self.by_addr.keys().copied().collect::<Vec<_>>() {
                let data: Rc<[u8]> = data.into();
                self.later(Duration::from_millis(1), What::Local(from, to, data));
            }
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&to) {
            for answer in host.hear(from, data, now) {
                self.send_datagram(to, from, &answer);
            }
        } else if let Some(node) = self.by_addr.get(&to).copied() {
            self.tell(node, Event::Datagram { from, data });
        }
    }

    fn call(&mut self, node: NodeId, call: Call) {
        let reply = match call {
            Call::Resolve { torrent, host, port } => {
                let result =
                    host.parse().map(|ip| vec![SocketAddr::new(ip, port)]).map_err(|_| "no".to_owned());
                Reply::Resolved { torrent, host, port, result }
            }
            Call::LookUp { host, port } => Reply::LookedUp { host, port, result: Err("no".to_owned()) },
            Call::Announce { torrent, tracker, request, .. } => {
                self.nodes[node].seen.announces.push((request.event, request.left));
                let own = self.nodes[node].addr;
                let mut peers: Vec<SocketAddr> = self.swarm.iter().copied().filter(|a| *a != own).collect();
                self.rng.shuffle(&mut peers);
                peers.truncate(request.numwant.min(50) as usize);
                peers.extend(&self.ghosts);
                self.swarm.retain(|a| *a != own);
                if request.event != tracker::Event::Stopped {
                    self.swarm.push(own);
                }
                let response = tracker::Response {
                    interval: Duration::from_secs(1800),
                    peers,
                    ..tracker::Response::default()
                };
                Reply::Announced { torrent, tracker, result: Ok(response) }
            }
        };
        self.later(Duration::from_millis(50), What::Reply(node, reply));
    }

    fn connect(&mut self, node: NodeId, peer: PeerId, addr: SocketAddr) {
        let seen = &mut self.nodes[node].seen;
        seen.dialled.insert(addr);
        seen.calling += 1;
        seen.calling_max = seen.calling_max.max(seen.calling);
        let target =
            self.by_addr.get(&addr).copied().filter(|t| self.nodes[*t].alive && !self.nodes[*t].exited);
        *self.nodes[node].seen.calls.entry(addr).or_default() += 1;
        let delay = self.nodes[node].link.delay;
        let Some(target) = target else { return self.later(2 * delay, What::Refused(node, peer)) };
        let conn = self.conns.len();
        self.conns.push(Conn { ends: [(node, Some(peer)), (target, None)], unread: [0; 2], open: true });
        self.half(node, peer, conn, 0, None);
        self.later(delay + self.nodes[target].link.delay, What::Arrive(conn));
    }

    fn half(
        &mut self,
        node: NodeId,
        peer: PeerId,
        conn: usize,
        side: usize,
        script: Option<Box<dyn Script>>,
    ) {
        let n = &mut self.nodes[node];
        let incoming = n.encryption.methods().filter(|_| side == 1);
        let greeting = incoming.map_or(Greeting::Over, Greeting::Either);
        let half = Half {
            conn,
            side,
            made: side == 1,
            decoder: Decoder::new(),
            inbox: Vec::new(),
            reading: true,
            buf: None,
            outbox: VecDeque::new(),
            small: 0,
            script,
            greeting,
        };
        n.halves.insert(peer, half);
        self.count(node);
    }

    fn count(&mut self, node: NodeId) {
        let n = &mut self.nodes[node];
        n.seen.peers_max = n.seen.peers_max.max(n.halves.values().filter(|half| half.made).count());
    }

    /// A connection reaches the other side.
    fn arrive(&mut self, conn: usize) {
        let caller = &mut self.nodes[self.conns[conn].ends[0].0].seen;
        // Those of scripts are not counted.
        caller.calling = caller.calling.saturating_sub(1);
        if !self.conns[conn].open {
            return;
        }
        let [(caller, _), (node, _)] = self.conns[conn].ends;
        let from = self.nodes[caller].addr;
        let now = self.now;
        let n = &mut self.nodes[node];
        // The port is not the one it listens on.
        let from = SocketAddr::new(from.ip(), 40_000 + (conn % 20_000) as u16);
        let (peer, script) = match &mut n.mind {
            Mind::Session(session) => (if n.alive { session.accept(from, now) } else { None }, None),
            Mind::Script(make) => {
                n.next_id += 1;
                (Some(ptorrent::base::arena::Handle::from_bits(n.next_id)), Some(make()))
            }
        };
        self.drain(node);
        let Some(peer) = peer else {
            self.conns[conn].open = false;
            return self.hang_up(conn, 0, Why::Eof);
        };
        self.conns[conn].ends[1].1 = Some(peer);
        self.half(node, peer, conn, 1, script);
        if let Some(half) = self.nodes[node].halves.get_mut(&peer)
            && let Some(script) = &mut half.script
        {
            let bytes = script.open();
            self.say(node, peer, &bytes, None);
        }
        if let (caller, Some(peer)) = self.conns[conn].ends[0] {
            let half = self.nodes[caller].halves.get_mut(&peer);
            if let Some(script) = half.and_then(|half| half.script.as_mut()) {
                let bytes = script.open();
                self.say(caller, peer, &bytes, None);
            }
            if let Some(half) = self.nodes[caller].halves.get_mut(&peer) {
                half.made = true;
            }
            // Another one may have to go for it.
            self.tell(caller, Event::Connected { peer });
            self.count(caller);
        }
    }

    /// We dialled, and begin with an encrypted handshake.
    fn offer(&mut self, node: NodeId, peer: PeerId, methods: Methods) {
        if let Some(half) = self.nodes[node].halves.get_mut(&peer) {
            half.greeting = Greeting::Answer;
        }
        self.say(node, peer, &[OFFER | u8::from(methods == Methods::ANY)], None);
    }

    /// The first byte of a connection that may be encrypted. Tells whether it was an encrypted handshake, or None when
    /// there must be one and is not.
    fn greet(&mut self, node: NodeId, peer: PeerId, greeting: Greeting, first: u8) -> Option<bool> {
        let half = self.nodes[node].halves.get_mut(&peer)?;
        half.greeting = Greeting::Over;
        let any = first & 1 == 1;
        let method = match greeting {
            Greeting::Over => return Some(false),
            Greeting::Either(_) if first & 0xf0 != OFFER => return Some(false),
            Greeting::Either(ours) => {
                let method = if any && ours == Methods::ANY { Method::Plain } else { Method::Rc4 };
                self.say(node, peer, &[OFFER | u8::from(method == Method::Plain)], None);
                method
            }
            Greeting::Answer if first & 0xf0 != OFFER => return None,
            Greeting::Answer if any => Method::Plain,
            Greeting::Answer => Method::Rc4,
        };
        self.nodes[node].seen.encrypted += 1;
        self.tell(node, Event::Encrypted { peer, method });
        Some(true)
    }

    fn say(&mut self, node: NodeId, peer: PeerId, bytes: &[u8], block: Option<(u32, Option<Buf>)>) {
        let Some(half) = self.nodes[node].halves.get_mut(&peer) else {
            assert!(block.is_none(), "a block for a peer that is gone");
            return;
        };
        half.small += if block.is_none() { bytes.len() } else { 0 };
        if half.small > OUTBOX_MAX {
            self.close(node, peer);
            return self.tell(node, Event::Closed { peer, why: Why::Stalled });
        }
        half.outbox.push_back(Segment { bytes: bytes.into(), at: 0, block });
        self.write(node, peer);
    }

    /// Moves bytes from an outbox onto the link, in odd splits, as far as the window goes.
    fn write(&mut self, node: NodeId, peer: PeerId) {
        let (mut blocks, mut sum) = (0, 0);
        loop {
            let n = &mut self.nodes[node];
            let Some(half) = n.halves.get_mut(&peer) else { break };
            let (conn, side) = (half.conn, half.side);
            let window = self.window.min(n.link.rate as usize / 4).max(WINDOW_MIN);
            let room = window.saturating_sub(self.conns[conn].unread[side]);
            let Some(segment) = half.outbox.front_mut() else { break };
            if room == 0 || !self.conns[conn].open {
                break;
            }
            let limit = 1 + self.rng.below(24_000) as usize;
            let len = (segment.bytes.len() - segment.at).min(room).min(limit);
            let (bytes, range) = (segment.bytes.clone(), segment.at..segment.at + len);
            segment.at += len;
            half.small -= if segment.block.is_none() { len } else { 0 };
            if segment.at == segment.bytes.len() {
                let segment = half.outbox.pop_front().expect("it is there");
                if let Some((len, buf)) = segment.block {
                    n.pool.put(buf.expect("a block has its buffer"));
                    blocks += 1;
                    sum += u64::from(len);
                }
            }
            self.conns[conn].unread[side] += len;
            let at = self.transfer(conn, side, len);
            self.at(at, What::Deliver(conn, 1 - side, bytes, range));
        }
        if blocks > 0 {
            self.tell(node, Event::Sent { peer, blocks, bytes: sum });
        }
        if self.may_listen(node, peer) {
            self.later(Duration::ZERO, What::Listen(node, peer));
        }
    }

    /// Whether a script has something to hear and nothing to say.
    fn may_listen(&self, node: NodeId, peer: PeerId) -> bool {
        let half = self.nodes[node].halves.get(&peer);
        half.is_some_and(|half| half.script.is_some() && half.outbox.is_empty() && !half.inbox.is_empty())
    }

    /// When `len` bytes from that side are with the other: both links are busy with them, then the way takes its time.
    fn transfer(&mut self, conn: usize, side: usize, len: usize) -> Time {
        let [a, b] = self.conns[conn].ends;
        let (from, to) = if side == 0 { (a.0, b.0) } else { (b.0, a.0) };
        let mut at = self.now;
        let mut delay = Duration::ZERO;
        for (node, way) in [(from, 0), (to, 1)] {
            let n = &mut self.nodes[node];
            let took = Duration::from_micros(len as u64 * 1_000_000 / n.link.rate.max(1));
            n.busy[way] = n.busy[way].max(self.now) + took;
            at = at.max(n.busy[way]);
            delay += n.link.delay;
        }
        at + delay
    }

    fn deliver(&mut self, conn: usize, side: usize, bytes: &[u8]) {
        let (node, Some(peer)) = self.conns[conn].ends[side] else { return };
        let Some(half) = self.nodes[node].halves.get_mut(&peer) else { return };
        if half.reading && half.inbox.is_empty() {
            return self.read(node, peer, bytes);
        }
        half.inbox.extend_from_slice(bytes);
        self.go_on(node, peer);
    }

    /// Reads what is in the inbox.
    fn go_on(&mut self, node: NodeId, peer: PeerId) {
        if let Some(half) = self.nodes[node].halves.get_mut(&peer)
            && half.reading
        {
            let inbox = std::mem::take(&mut half.inbox);
            self.read(node, peer, &inbox);
        }
    }

    /// The reactor's reading loop for one connection. What is left goes to its inbox.
    fn read(&mut self, node: NodeId, peer: PeerId, bytes: &[u8]) {
        let now = self.now;
        let mut input = bytes;
        loop {
            let n = &mut self.nodes[node];
            let Some(half) = n.halves.get_mut(&peer) else { return };
            if half.greeting != Greeting::Over
                && let Some(first) = input.first()
            {
                let greeting = half.greeting;
                match self.greet(node, peer, greeting, *first) {
                    Some(encrypted) => input = &input[usize::from(encrypted)..],
                    None => {
                        self.close(node, peer);
                        return self.tell(node, Event::Closed { peer, why: Why::Protocol("no answer") });
                    }
                }
                continue;
            }
            if let Some(script) = &mut half.script {
                // While its last words are still on their way it does not listen, and says no more.
                if !half.outbox.is_empty() {
                    break;
                }
                let bytes = script.bytes(input);
                input = &[];
                self.say(node, peer, &bytes, None);
                break;
            }
            if let Some(payload) = half.decoder.payload()
                && payload.fate != Fate::Skip
            {
                if payload.fate == Fate::Wait {
                    if !self.decide(node, peer, payload.block, now) {
                        break;
                    }
                    continue;
                }
                let len = input.len().min(payload.left() as usize);
                let filled = payload.filled as usize;
                half.buf.as_mut().expect("taken").space()[filled..filled + len]
                    .copy_from_slice(&input[..len]);
                input = &input[len..];
                if half.decoder.advance(len as u32) {
                    n.seen.got += u64::from(payload.block.len);
                    let buf = half.buf.take().expect("taken");
                    self.tell(node, Event::Block { peer, block: payload.block, buf });
                    continue;
                }
                break;
            }
            match half.decoder.next(&mut input) {
                Ok(None) => {
                    if half.decoder.payload().is_some_and(|p| p.fate == Fate::Wait) {
                        continue;
                    }
                    break;
                }
                Ok(Some(Step::InfoHash(info_hash))) => self.tell(node, Event::InfoHash { peer, info_hash }),
                Ok(Some(Step::Handshake(handshake))) => self.tell(node, Event::Handshake { peer, handshake }),
                Ok(Some(Step::Message(message))) => self.tell(node, Event::Message { peer, message }),
                Ok(Some(Step::Piece(_))) => {}
                Err(_) => {
                    self.close(node, peer);
                    return self.tell(node, Event::Closed { peer, why: Why::Protocol("bytes") });
                }
            }
        }
        let used = bytes.len() - input.len();
        let Some(half) = self.nodes[node].halves.get_mut(&peer) else { return };
        if !input.is_empty() {
            half.inbox.splice(..0, input.iter().copied());
        }
        let (conn, side) = (half.conn, half.side);
        self.conns[conn].unread[1 - side] -= used;
        if let (other, Some(theirs)) = self.conns[conn].ends[1 - side] {
            self.write(other, theirs);
        }
    }

    /// Asks the session where a payload goes. False when it has to wait.
    fn decide(&mut self, node: NodeId, peer: PeerId, block: Block, now: Time) -> bool {
        let n = &mut self.nodes[node];
        let Mind::Session(session) = &mut n.mind else { return false };
        let intake = session.intake(peer, block, now);
        if intake == Intake::Skip {
            self.watch.block(node, peer, block, now);
        }
        let fate = match intake {
            Intake::Take => Fate::Take,
            Intake::Skip => Fate::Skip,
            Intake::Wait => Fate::Wait,
        };
        if let Some(half) = n.halves.get_mut(&peer) {
            half.decoder.decide(fate);
            match intake {
                Intake::Take => half.buf = Some(n.pool.take().expect("the session keeps the quota")),
                Intake::Wait => half.reading = false,
                Intake::Skip => {}
            }
        }
        self.drain(node);
        intake != Intake::Wait
    }

    /// This side closes: its buffers go home, the other side hears of it later.
    fn close(&mut self, node: NodeId, peer: PeerId) {
        let Some((conn, side)) = self.take_half(node, peer) else { return };
        if self.conns[conn].open {
            self.conns[conn].open = false;
            let delay = self.nodes[node].link.delay;
            self.later(delay, What::Closed(conn, 1 - side));
        }
    }

    fn take_half(&mut self, node: NodeId, peer: PeerId) -> Option<(usize, usize)> {
        let n = &mut self.nodes[node];
        let half = n.halves.remove(&peer)?;
        self.watch.closed(node, peer);
        for buf in half.outbox.into_iter().filter_map(|s| s.block.and_then(|(_, buf)| buf)).chain(half.buf) {
            n.pool.put(buf);
        }
        Some((half.conn, half.side))
    }

    /// This side notices that the connection is gone.
    fn hang_up(&mut self, conn: usize, side: usize, why: Why) {
        let (node, Some(peer)) = self.conns[conn].ends[side] else { return };
        if self.take_half(node, peer).is_some() {
            self.tell(node, Event::Closed { peer, why });
        }
    }
}

impl Node {
    /// Whether it downloads the torrent of this number.
    pub(crate) fn is_downloading(&self, number: u32) -> bool {
        self.seen.each.get(&number).is_some_and(|each| each.state == Some(State::Downloading))
    }

    /// The disk that a job is for.
    fn disk_for(&mut self, job: &Job) -> &mut Disk {
        let torrent = match job {
            Job::Open { torrent, spec } => {
                if self.disks.contains_key(&spec.meta.info_hash) {
                    self.torrents.insert(*torrent, spec.meta.info_hash);
                }
                torrent
            }
            Job::Write { torrent, .. }
            | Job::Check { torrent, .. }
            | Job::Read { torrent, .. }
            | Job::Save { torrent, .. }
            | Job::Room { torrent, .. }
            | Job::Digest { torrent, .. }
            | Job::Info { torrent, .. }
            | Job::Forget { torrent, .. }
            | Job::Close { torrent } => torrent,
        };
        self.disk_of(*torrent)
    }

    fn disk_of(&mut self, torrent: TorrentId) -> &mut Disk {
        match self.torrents.get(&torrent).and_then(|hash| self.disks.get_mut(hash)) {
            Some(disk) => disk,
            None => &mut self.disk,
        }
    }
}

fn torrent_of(done: &Done) -> TorrentId {
    match done {
        Done::Opened { torrent, .. }
        | Done::Written { torrent, .. }
        | Done::Piece { torrent, .. }
        | Done::Checked { torrent, .. }
        | Done::Read { torrent, .. }
        | Done::Saved { torrent }
        | Done::Room { torrent, .. }
        | Done::Unsynced { torrent, .. }
        | Done::Digested { torrent, .. }
        | Done::Info { torrent, .. }
        | Done::Closed { torrent } => *torrent,
    }
}

fn kind(action: &Action) -> u64 {
    match action {
        Action::Connect { .. } => 1,
        Action::Handshake { .. } | Action::Encrypt { .. } => 2,
        Action::Expect { .. } => 3,
        Action::Send { message: Message::Request(b), .. } => {
            1000 + u64::from(b.piece) * 77 + u64::from(b.begin)
        }
        Action::Send { .. } | Action::Haves { .. } => 4,
        Action::SendBlock { block, .. } => 2000 + u64::from(block.piece),
        Action::Resume { .. } => 6,
        Action::Close { .. } => 7,
        Action::Job { .. } => 8,
        Action::Read { .. } => 9,
        Action::Call(_) => 10,
        Action::Release(_) => 11,
        Action::ForgetFailures => 16,
        Action::Exit => 12,
        Action::Web { slot, .. } => 4000 + u64::from(*slot),
        Action::Lend { slot, count } => 5000 + u64::from(*slot) * 100 + u64::from(*count),
        Action::Datagram { data, .. } => 3000 + data.len() as u64,
        Action::Lsd { v6, .. } => 13 + u64::from(*v6),
    }
}

fn name(message: &Message<'_>) -> &'static str {
    match message {
        Message::KeepAlive => "keep-alive",
        Message::Choke => "choke",
        Message::Unchoke => "unchoke",
        Message::Interested => "interested",
        Message::NotInterested => "not interested",
        Message::Have(_) => "have",
        Message::Bitfield(_) => "bitfield",
        Message::Request(_) => "request",
        Message::Cancel(_) => "cancel",
        Message::HaveAll => "have all",
        Message::HaveNone => "have none",
        Message::Reject(_) => "reject",
        Message::AllowedFast(_) => "allowed",
        Message::Port(_) => "port",
        _ => "other",
    }
}
