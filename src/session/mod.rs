//! Every torrent and every peer, as one state machine: an event and the time go in, actions come out. It opens no
//! socket and no file, starts no thread, reads no clock and draws no chance of its own; the reactor drives it, and so
//! does the simulator.

mod announce;
mod asking;
mod bitfields;
mod calls;
mod checks;
mod choker;
mod connections;
mod dht;
mod dont_have;
mod doubt;
mod download;
mod ending;
mod extensions;
mod fast;
mod full;
mod goal;
mod haves;
mod identity;
mod known;
mod lanes;
mod lifecycle;
mod lsd;
mod metadata;
mod networks;
mod outage;
mod own;
mod pause;
mod peer;
mod pex;
pub mod picker;
mod places;
mod refills;
mod report;
mod resume;
mod status;
mod super_seed;
#[cfg(test)]
mod tests;
mod throttle;
mod timers;
mod torrent;
mod torrents;
mod trackers;
mod turnover;
mod udp_tracker;
mod upload;
mod web;
mod web_seed;
mod whole_files;

use crate::api::{Action, Command, Done, Encryption, Event, Intake, PeerId, Reply, Report, TorrentId, Why};
use crate::base::arena::Arena;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::CONNECTIONS_MAX;
use crate::proto::id::InfoHash;
use crate::proto::layout::Block;
use crate::proto::wire::message::Message;
use calls::Calls;
use checks::Line;
use lanes::Lanes;
use peer::Peer;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use throttle::Throttle;
use timers::{Key, Timers};
use torrents::Torrents;
use upload::Round;

/// What the session must know of its process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The port that others can reach us at.
    pub port: u16,
    /// Connections in all.
    pub max_conn: usize,
    /// Unchoked peers per torrent.
    pub max_upload: usize,
    /// Payload bytes a second that come in at most; 0: no limit.
    pub max_download_rate: u64,
    /// Payload bytes a second that go out at most; 0: no limit.
    pub max_upload_rate: u64,
    /// The largest info dictionary in bytes that is taken from peers (BEP 9).
    pub max_metadata_size: u32,
    /// Whether connections are encrypted.
    pub encryption: Encryption,
    /// How many disk workers there are.
    pub lanes: u8,
    /// Torrents whose files are open at a time; more wait for one to be closed.
    pub max_open: usize,
    /// Blocks that may be received or wait for the disk at a time. The pool holds these and `limits::SEND_BUFS`.
    pub receive_bufs: usize,
    /// Find and tell peers on the local network (BEP 14); needs somebody to carry out [`Action::Lsd`].
    pub lsd: bool,
    /// Exchange addresses of peers with peers (BEP 11).
    pub pex: bool,
}

/// Every torrent and every peer of the process.
pub struct Session {
    config: Config,
    rng: Rng,
    /// What the identities of torrents are made of.
    secret: [u8; 32],
    peers: Arena<PeerId, Peer>,
    torrents: Torrents,
    /// Those that were not removed, by the program's number and by hash.
    by_number: BTreeMap<u32, TorrentId>,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// The same by the names that encrypted handshakes have for them.
    by_request: BTreeMap<[u8; 20], InfoHash>,
    /// Those that were removed and are not forgotten.
    removed: Vec<TorrentId>,
    /// Those whose files are open, or being opened or closed.
    open: usize,
    /// Those that wait until there are fewer, in turn.
    openers: VecDeque<TorrentId>,
    /// Reports that are of no torrent that is there.
    notes: VecDeque<Report>,
    lanes: Lanes,
    line: Line,
    round: Round,
    throttle: Throttle,
    refills: refills::Refills,
    /// Memory for metadata from peers.
    budget: metadata::Budget,
    /// Metadata for peers.
    serving: metadata::Serving,
    /// Bytes of bitfields that wait for metadata.
    early: usize,
    timers: Timers,
    actions: VecDeque<Action>,
    /// For picks; kept so that none of them allocates.
    picked: Vec<Block>,
    udp: udp_tracker::UdpTrackers,
    /// For [`timers`].
    udp_armed: Time,
    calls: Calls,
    web: web::Web,
    /// Our node of the DHT, if there is one.
    dht: Option<Box<dht::Dht>>,
    /// Connections being made.
    half_open: usize,
    /// The same by network.
    half_open_networks: networks::Networks,
    /// The connections that are made, by network.
    networks: networks::Networks,
    /// Connections that came in and have not shaken hands, the oldest first.
    strangers: VecDeque<PeerId>,
    /// Torrents with somebody to call, in turn.
    callers: VecDeque<TorrentId>,
    /// How many were called, and since when that is counted.
    dialled: (u32, Time),
    /// For [`timers`].
    dial_armed: Time,
    /// How often a peer was looked at for more requests.
    #[cfg(test)]
    refills_done: u64,
    /// How often it was decided whom to serve.
    #[cfg(test)]
    choices: u64,
    /// Whether our own network is there.
    outage: outage::Outage,
    /// Our addresses as others see them.
    own: own::Own,
    /// Local service discovery, if it is wanted.
    lsd: Option<Box<lsd::Lsd>>,
    /// Somebody asked what goes on.
    status_due: bool,
    stopping: Option<Stopping>,
}

/// The program ends.
struct Stopping {
    /// Trackers that have not answered by then count as not reached.
    until: Time,
    finished: Finished,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finished {
    No,
    Tell { unreached: u32 },
    Told,
}

impl Session {
    /// A session without torrents. All its chance comes from `seed`.
    pub fn new(config: Config, seed: [u8; 32], now: Time) -> Session {
        let mut rng = Rng::new(seed);
        let lsd = config.lsd.then(|| Box::new(lsd::Lsd::new(&mut rng)));
        Session {
            secret: rng.seed(),
            udp: udp_tracker::UdpTrackers::new(Rng::new(rng.seed())),
            udp_armed: Time::NEVER,
            rng,
            peers: Arena::new(CONNECTIONS_MAX),
            torrents: Torrents::new(),
            by_number: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            by_request: BTreeMap::new(),
            removed: Vec::new(),
            open: 0,
            openers: VecDeque::new(),
            notes: VecDeque::new(),
            lanes: Lanes::new(config.lanes, config.receive_bufs),
            line: Line::default(),
            round: Round::default(),
            throttle: Throttle::new(config.max_download_rate, config.max_upload_rate, now),
            refills: refills::Refills::new(),
            budget: metadata::Budget::new(config.max_metadata_size),
            serving: metadata::Serving::new(now),
            early: 0,
            timers: Timers::default(),
            actions: VecDeque::new(),
            picked: Vec::new(),
            calls: Calls::new(),
            web: web::Web::default(),
            dht: None,
            half_open: 0,
            half_open_networks: networks::Networks::default(),
            networks: networks::Networks::default(),
            strangers: VecDeque::new(),
            callers: VecDeque::new(),
            dialled: (0, Time::ZERO),
            dial_armed: Time::NEVER,
            #[cfg(test)]
            refills_done: 0,
            #[cfg(test)]
            choices: 0,
            outage: outage::Outage::new(now),
            own: own::Own::default(),
            lsd,
            status_due: false,
            stopping: None,
            config,
        }
    }

    /// A connection came in. None refuses it: the table is full of better ones, or nothing runs.
    pub fn accept(&mut self, from: SocketAddr, now: Time) -> Option<PeerId> {
        let peer = self.on_incoming(from, now);
        self.torrents.settle();
        peer
    }

    /// The header of a piece message was read: where shall its bytes go? After [`Intake::Wait`] the peer is in line,
    /// and [`Action::Resume`] tells when to ask again.
    pub fn intake(&mut self, peer: PeerId, block: Block, now: Time) -> Intake {
        self.on_piece_header(peer, block, now)
    }

    /// How many blocks of this peer would be let in now, if they come in the order in which they were asked for.
    pub fn room_ahead(&self, peer: PeerId) -> usize {
        let Some(p) = self.peers.get(peer) else { return 0 };
        let piece = p.asked.front().map(|block| block.piece);
        let lane = piece
            .zip(p.torrent.and_then(|t| self.torrents.get(t)))
            .and_then(|(piece, t)| t.picker.lane(piece));
        self.lanes.room(lane.unwrap_or_else(|| self.lanes.idlest()))
    }

    /// An encrypted handshake asks for a torrent by its [`request_name`](crate::proto::mse::request_name): which is it?
    /// None: we have none of that name, or it takes no connections.
    pub fn requested(&self, name: &[u8; 20]) -> Option<InfoHash> {
        let info_hash = self.by_request.get(name)?;
        let torrent = self.torrents.get(*self.by_hash.get(info_hash)?)?;
        torrent.welcomes().then_some(*info_hash)
    }

    /// Takes one event in; what is to be done about it comes from [`Session::poll`].
    pub fn handle(&mut self, event: Event<'_>, now: Time) {
        match event {
            Event::Connected { peer } => self.on_connected(peer, now),
            Event::Closed { peer, why } => self.on_closed(peer, why, now),
            Event::Encrypted { peer, method } => self.on_encrypted(peer, method),
            Event::InfoHash { peer, info_hash } => self.on_info_hash(peer, info_hash, now),
            Event::Handshake { peer, handshake } => self.on_handshake(peer, &handshake, now),
            Event::Message { peer, message } => self.on_message(peer, &message, now),
            Event::Block { peer, block, buf } => self.on_block(peer, block, buf, now),
            Event::Sent { peer, blocks, bytes } => self.on_sent(peer, blocks, bytes, now),
            Event::Done { lane, done } => self.on_done(lane, done, now),
            Event::Datagram { from, data } => self.on_datagram(from, data, now),
            Event::Lsd { from, data } => self.on_lsd(from, data, now),
            Event::Unreachable { to, why } => {
                self.on_send_failure(to, why, now);
                self.udp.on_unreachable(to, why, now);
            }
            Event::NetworkDown { v4, v6 } => self.outage.on_network_down([v4, v6], now),
            Event::NetworkUp { v4, v6 } => self.on_network_up([v4, v6], now),
            Event::Reply(reply) => self.on_reply(reply, now),
            Event::Web { slot, said } => self.on_web(slot, said, now),
            Event::Command(Command::Add { number, spec }) => self.on_add(number, spec, now),
            Event::Command(Command::Adopt { number, spec }) => self.on_adopt(number, spec, now),
            Event::Command(Command::Dht(setup)) => self.on_dht(*setup, now),
            Event::Command(Command::DhtLookUp(info_hash)) => self.on_dht_look_up(info_hash, now),
            Event::Command(Command::DhtStatus) => self.on_dht_status(now),
            Event::Command(Command::Pause { number }) => self.on_pause(number, now),
            Event::Command(Command::Resume { number }) => self.on_resume(number, now),
            Event::Command(Command::Remove { number }) => self.on_remove(number, now),
            Event::Command(Command::Quit) => self.on_quit(now),
            Event::Command(Command::Status) => self.status_due = true,
            Event::Tick => {}
        }
        self.run_timers(now);
        self.pump_web(now);
        self.pump_udp(now);
        self.pump_dht(now);
        self.dial(now);
        self.torrents.settle();
    }

    /// The next thing to do; drained after every event.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back with [`Event::Tick`], should nothing else happen before.
    pub fn deadline(&self) -> Option<Time> {
        let news = self.news_due();
        let timer = self.timers.next().unwrap_or(Time::NEVER);
        Some(news.min(timer)).filter(|at| *at != Time::NEVER)
    }

    /// The next thing that the program should hear, if it has room for it. Figures come once a second at most.
    pub fn report(&mut self, now: Time) -> Option<Report> {
        self.next_report(now)
    }

    /// Runs what is due: at most as many as wait now, so that one that arms itself for a moment of the past costs turns,
    /// and never keeps the answers of the disk and of peers from being heard.
    fn run_timers(&mut self, now: Time) {
        let mut left = self.timers.len();
        while left > 0
            && let Some((at, key)) = self.timers.due(now)
        {
            left -= 1;
            match key {
                Key::Peer(peer) => {
                    if let Some(p) = self.peers.get_mut(peer)
                        && p.armed == at
                    {
                        p.armed = Time::NEVER;
                        self.on_peer_timer(peer, now);
                    }
                }
                Key::Torrent(torrent) => {
                    if let Some(t) = self.torrents.get_mut(torrent)
                        && t.armed == at
                    {
                        t.armed = Time::NEVER;
                        self.on_torrent_timer(torrent, now);
                    }
                }
                Key::Choke(torrent) => self.on_choke_timer(torrent, at, now),
                Key::Haves(torrent) => self.on_haves_timer(torrent, at, now),
                Key::Requests => self.on_requests_timer(at, now),
                Key::Refills => self.on_refills_timer(at, now),
                Key::Reads => self.on_reads_timer(at, now),
                Key::Calls => self.on_calls_timer(at, now),
                Key::Metadata => self.on_metadata_timer(at, now),
                Key::Stop => self.check_finished(now),
                Key::Udp => {
                    self.udp_armed = Time::NEVER;
                    self.udp.on_tick(now);
                }
                Key::Dht => self.on_dht_timer(now),
                Key::Lsd => self.on_lsd_timer(now),
                Key::Network => self.on_network_timer(now),
                // Dialling comes with every event.
                Key::Dial => self.dial_armed = Time::NEVER,
            }
        }
        if self.timers.len() > 1024 + 4 * (self.peers.len() + self.torrents.len()) {
            let (peers, torrents) = (&self.peers, &self.torrents);
            self.timers.tidy(|at, key| match key {
                Key::Peer(peer) => peers.get(peer).is_some_and(|p| p.armed == at),
                Key::Torrent(torrent) => torrents.get(torrent).is_some_and(|t| t.armed == at),
                Key::Choke(torrent) => torrents.get(torrent).is_some_and(|t| t.choker.is_armed(at)),
                Key::Haves(torrent) => torrents.get(torrent).is_some_and(|t| t.haves.is_armed(at)),
                Key::Requests
                | Key::Refills
                | Key::Reads
                | Key::Metadata
                | Key::Calls
                | Key::Stop
                | Key::Dial
                | Key::Udp
                | Key::Dht
                | Key::Lsd
                | Key::Network => true,
            });
        }
    }

    fn arm_peer(&mut self, peer: PeerId, at: Time) {
        if let Some(p) = self.peers.get_mut(peer) {
            self.timers.arm(&mut p.armed, at, Key::Peer(peer));
        }
    }

    fn arm_torrent(&mut self, torrent: TorrentId, at: Time) {
        if let Some(t) = self.torrents.get_mut(torrent) {
            self.timers.arm(&mut t.armed, at, Key::Torrent(torrent));
        }
    }

    fn send(&mut self, peer: PeerId, message: Message<'static>, now: Time) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.said = now;
            self.actions.push_back(Action::Send { peer, message });
        }
    }

    fn on_message(&mut self, peer: PeerId, message: &Message<'_>, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        p.heard = now;
        log::trace!("{peer} {message:?}");
        if let Some(told) = metadata::Told::of(message).filter(|_| self.is_early(peer)) {
            let kept = self.keep_early(peer, told);
            return kept.unwrap_or_else(|what| self.close(peer, Why::Protocol(what), now));
        }
        match message {
            Message::KeepAlive | Message::Other { .. } => Ok(()),
            Message::Port(port) => {
                self.on_port(peer, *port, now);
                Ok(())
            }
            Message::Choke => self.on_choke(peer),
            Message::Unchoke => self.on_unchoke(peer, now),
            Message::Interested => self.on_interested(peer, now),
            Message::NotInterested => self.on_not_interested(peer, now),
            Message::Have(piece) => self.on_have(peer, *piece, now),
            Message::Bitfield(bits) => self.on_bitfield(peer, bits, now),
            Message::Request(block) => self.on_request(peer, *block),
            Message::Cancel(block) => self.on_cancel(peer, *block, now),
            Message::Piece(_) => Err("a piece without its payload"),
            Message::Extended { id, body } => self.on_extended(peer, *id, body, now),
            Message::Suggest(piece) => self.on_suggest(peer, *piece),
            Message::HaveAll => self.on_have_all(peer, true, now),
            Message::HaveNone => self.on_have_all(peer, false, now),
            Message::Reject(block) => self.on_reject(peer, *block, now),
            Message::AllowedFast(piece) => self.on_allowed_fast(peer, *piece, now),
        }
        .unwrap_or_else(|what| self.close(peer, Why::Protocol(what), now));
    }

    fn on_done(&mut self, lane: u8, done: Done, now: Time) {
        match done {
            Done::Opened { torrent, result } => self.on_opened(lane, torrent, *result, now),
            Done::Written { torrent, block, buf, result } => {
                self.on_written(lane, torrent, block, buf, result, now);
            }
            Done::Piece { torrent, piece, verdict } => self.on_verdict(torrent, piece, verdict, now),
            Done::Checked { torrent, first, count, result } => {
                self.on_checked(lane, torrent, (first, count), result, now);
            }
            Done::Read { torrent, peer, blocks, failed } => {
                self.lanes.read_done(lane, blocks.len());
                self.on_read(torrent, peer, blocks, failed, now);
            }
            Done::Saved { torrent } => self.on_saved(torrent),
            Done::Room { torrent, result } => self.on_room(torrent, result, now),
            Done::Unsynced { torrent, error, lost } => self.on_unsynced(torrent, &error, &lost, now),
            Done::Digested { torrent, result } => self.on_digested(torrent, result, now),
            Done::Info { torrent, peer, piece, result } => self.on_info(torrent, peer, piece, result, now),
            Done::Closed { torrent } => self.on_worker_closed(torrent, now),
        }
    }

    fn on_reply(&mut self, reply: Reply, now: Time) {
        self.on_call_done(&reply, now);
        match reply {
            Reply::Announced { torrent, tracker, result } => self.on_announced(torrent, tracker, result, now),
            Reply::Resolved { torrent, host, port, result } => {
                self.on_resolved(torrent, &host, port, result, now);
            }
            Reply::LookedUp { host, port, result } => {
                if !self.on_dht_looked_up(&host, port, &result, now) {
                    self.udp.on_looked_up(&host, port, result, now);
                }
            }
        }
        self.pump_calls(now);
        if self.stopping.is_some() {
            self.check_finished(now);
        }
    }
}
