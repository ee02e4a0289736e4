//! Hand-made events, for what a simulated swarm does too rarely.

mod dht;
mod encryption;
mod extensions;
mod fast;
mod floods;
mod haves;
mod identity;
mod metadata;
mod outage;
mod places;
mod slow_disk;
mod trackers;
mod turnover;
mod upload;

use super::*;
use crate::api::{Encryption, Job, Opened, Spec};
use crate::base::bits::Bitfield;
use crate::base::buf::{BLOCK, Pool};
use crate::limits::{CHECKS_OUT, CHOKE_REST, REFILL_REST, SEND_BUFS};
use crate::proto::metainfo::{Content, Metainfo, Plan, build};
use crate::proto::tracker::Response;
use crate::proto::tracker::url::Url;
use crate::proto::wire::handshake::Handshake;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

const PIECES: u32 = 64;

fn spec(name: &str) -> Arc<Spec> {
    let plan =
        Plan::bare(name, Content::Single(u64::from(PIECES) * (4 << 20)), 4 << 20, &[0; PIECES as usize * 20]);
    Arc::new(Spec {
        meta: Metainfo::parse(&build(&plan)).unwrap(),
        dir: "/sim".into(),
        wanted: vec![true],
        seed_only: false,
        overwrite: true,
        prealloc: Default::default(),
        disk_io: Default::default(),
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        trackers: vec![vec![Url::parse("http://tracker.sim/announce").unwrap()]],
        web_seeds: vec![],
        peers: vec![],
        state_dir: None,
    })
}

/// A session, the clock, and what it wanted done.
struct Bench {
    s: Session,
    now: Time,
    done: Vec<Action>,
    ids: Vec<TorrentId>,
}

impl Bench {
    fn new() -> Bench {
        Bench::limited(0)
    }

    /// One that downloads no faster than that.
    fn limited(max_download_rate: u64) -> Bench {
        let config = Config {
            port: 6881,
            max_conn: 1000,
            max_upload: 10,
            max_download_rate,
            max_upload_rate: 0,
            max_metadata_size: crate::limits::METADATA_MAX_DEFAULT,
            encryption: Encryption::Disabled,
            lanes: 2,
            max_open: 1000,
            receive_bufs: 1000,
            lsd: false,
            pex: false,
        };
        let now = Time(1_000_000);
        Bench { s: Session::new(config, [7; 32], now), now, done: Vec::new(), ids: Vec::new() }
    }

    /// Tells the session something; gives what it wants done then.
    fn tell(&mut self, event: Event<'_>) -> usize {
        let before = self.done.len();
        self.s.handle(event, self.now);
        self.take();
        before
    }

    fn take(&mut self) {
        while let Some(action) = self.s.poll() {
            self.done.push(action);
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.tell(Event::Tick);
    }

    /// A torrent of which these pieces may be there.
    fn open(&mut self, name: &str, candidates: Bitfield) -> TorrentId {
        self.add(spec(name), candidates)
    }

    fn add(&mut self, spec: Arc<Spec>, candidates: Bitfield) -> TorrentId {
        let number = self.ids.len() as u32;
        let from = self.tell(Event::Command(Command::Add { number, spec }));
        let torrent = self.done[from..].iter().find_map(|action| match action {
            Action::Job { job: Job::Open { torrent, .. }, .. } => Some(*torrent),
            _ => None,
        });
        let torrent = torrent.unwrap();
        self.ids.push(torrent);
        let opened = Opened { candidates, ..Opened::default() };
        self.tell(Event::Done { lane: 0, done: Done::Opened { torrent, result: Box::new(Ok(opened)) } });
        torrent
    }

    fn checks(&self, from: usize) -> Vec<(u8, u32, u32)> {
        let check = |action: &Action| match action {
            Action::Job { lane, job: Job::Check { first, count, .. } } => Some((*lane, *first, *count)),
            _ => None,
        };
        self.done[from..].iter().filter_map(check).collect()
    }

    /// A torrent that is complete and checked.
    fn seed(&mut self, name: &str) -> TorrentId {
        self.seed_of(spec(name))
    }

    fn seed_of(&mut self, spec: Arc<Spec>) -> TorrentId {
        let before = self.done.len();
        let torrent = self.add(spec, Bitfield::full(PIECES));
        let mut next = before;
        while let Some((lane, first, count)) = self.checks(next).first().copied() {
            next = 1
                + self.done[next..]
                    .iter()
                    .position(|a| matches!(a, Action::Job { job: Job::Check { .. }, .. }))
                    .unwrap()
                + next;
            let done = Done::Checked { torrent, first, count, result: Ok(Bitfield::full(count)) };
            self.tell(Event::Done { lane, done });
        }
        torrent
    }

    /// A peer at an address that a tracker names, called and reached.
    fn called(&mut self, torrent: TorrentId, addr: SocketAddr) -> PeerId {
        let result = Ok(Response { peers: vec![addr], ..Response::default() });
        let from = self.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
        let peer = self.done[from..].iter().find_map(|action| match action {
            Action::Connect { peer, .. } => Some(*peer),
            _ => None,
        });
        let peer = peer.expect("it is called");
        self.tell(Event::Connected { peer });
        peer
    }

    /// A peer that came in and shook hands.
    fn peer(&mut self, torrent: TorrentId, n: u8) -> PeerId {
        self.peer_as(torrent, n, n)
    }

    fn peer_as(&mut self, torrent: TorrentId, n: u8, id: u8) -> PeerId {
        self.peer_with(torrent, n, id, [0; 8])
    }

    /// One that speaks what these bits say.
    fn peer_with(&mut self, torrent: TorrentId, n: u8, id: u8, reserved: [u8; 8]) -> PeerId {
        let from = SocketAddr::from(([10, 0, 0, n], 40_000));
        let peer = self.s.accept(from, self.now).unwrap();
        self.take();
        let info_hash = self.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
        let handshake = Handshake { reserved, info_hash, peer_id: [id; 20] };
        self.tell(Event::Handshake { peer, handshake });
        peer
    }

    /// The same as [`Bench::peer`], and it has everything and unchokes us.
    fn source(&mut self, torrent: TorrentId, n: u8) -> PeerId {
        let peer = self.peer(torrent, n);
        let full = Bitfield::full(PIECES);
        self.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(full.as_bytes())) });
        self.tell(Event::Message { peer, message: Message::Unchoke });
        peer
    }

    fn position(&self, from: usize, what: impl Fn(&Action) -> bool) -> Option<usize> {
        self.done[from..].iter().position(what)
    }
}

#[test]
fn the_buffers_of_a_closed_peer_are_home_before_others_are_read_into() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let mut pool = Pool::new(SEND_BUFS).unwrap();
    let (mut peers, mut next) = (Vec::new(), 0);
    for n in 1..=6 {
        let peer = b.peer(torrent, n);
        b.tell(Event::Message { peer, message: Message::Interested });
        b.pass(CHOKE_REST);
        for at in 0..256 {
            let block = Block { piece: u32::from(n), begin: at * BLOCK, len: BLOCK };
            b.tell(Event::Message { peer, message: Message::Request(block) });
            // All that may be read is read, and stands in outboxes.
            while next < b.done.len() {
                if let Action::Read { lane, torrent, peer, ref blocks } = b.done[next] {
                    let blocks = blocks.iter().map(|block| (*block, pool.take().unwrap())).collect();
                    let done = Done::Read { torrent, peer, blocks, failed: None };
                    b.tell(Event::Done { lane, done });
                }
                next += 1;
            }
        }
        peers.push(peer);
    }
    assert_eq!(pool.out(), SEND_BUFS);
    let from = b.tell(Event::Message { peer: peers[0], message: Message::Have(PIECES) });
    let close = b.position(from, |a| matches!(a, Action::Close { .. })).unwrap();
    let read = b.position(from, |a| matches!(a, Action::Read { .. })).unwrap();
    assert!(close < read, "{:?}", &b.done[from..]);
}

#[test]
fn a_worker_has_so_many_checks_at_a_time_and_no_more() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::full(PIECES));
    // The first worker never answers.
    for _ in 0..10 {
        let mine: Vec<_> = b.checks(0).into_iter().filter(|(lane, ..)| *lane == 1).collect();
        let (_, first, count) = mine[mine.len() - 1];
        let done = Done::Checked { torrent, first, count, result: Ok(Bitfield::full(count)) };
        b.tell(Event::Done { lane: 1, done });
    }
    assert_eq!(b.checks(0).iter().filter(|(lane, ..)| *lane == 0).count(), CHECKS_OUT);
    assert_eq!(b.checks(0).len(), 2 * CHECKS_OUT + 10);
}

#[test]
fn the_timers_of_connections_that_come_and_go_do_not_pile_up() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    // Its next announce is far away: a moment that is armed again after each earlier one.
    let result = Ok(Response { interval: Duration::from_secs(6 * 3600), ..Response::default() });
    b.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
    for n in 0..15_000u32 {
        let peer = b.peer(torrent, (n % 250) as u8);
        b.pass(Duration::from_millis(1100));
        b.tell(Event::Closed { peer, why: Why::Eof });
    }
    assert!(b.s.timers.len() < 4000, "{}", b.s.timers.len());
}

#[test]
fn idle_torrents_are_not_looked_at_for_news() {
    let mut b = Bench::new();
    for n in 0..20 {
        b.seed(&format!("{n}"));
    }
    for _ in 0..10 {
        while b.s.report(b.now).is_some() {}
        b.pass(Duration::from_secs(2));
    }
    while b.s.report(b.now).is_some() {}
    assert_eq!(b.s.torrents.loud(), 0);
    let peer = b.peer(b.ids[3], 1);
    assert_eq!(b.s.torrents.loud(), 1);
    assert_eq!(b.s.deadline(), Some(Time::ZERO).max(b.s.deadline().filter(|at| *at <= b.now)));
    assert!(matches!(b.s.report(b.now), Some(Report::Progress { number: 3, .. })));
    assert!(b.s.report(b.now).is_none());
    b.tell(Event::Closed { peer, why: Why::Eof });
    assert!(b.s.report(b.now).is_none());
    b.pass(Duration::from_secs(1));
    assert!(matches!(b.s.report(b.now), Some(Report::Progress { number: 3, .. })));
}

#[test]
fn what_answers_no_handshake_does_not_ban_its_host() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.called(torrent, SocketAddr::from(([10, 0, 0, 9], 80)));
    b.tell(Event::Closed { peer, why: Why::Protocol("not a BitTorrent handshake") });
    let peer = b.peer(torrent, 9);
    assert!(b.s.peers.get(peer).is_some(), "a real peer of the same host is welcome");
    b.tell(Event::Message { peer, message: Message::Have(PIECES) });
    assert!(b.s.peers.get(peer).is_none());
}

#[test]
fn a_peer_id_that_somebody_else_uses_closes_the_newcomer() {
    for id in [0, 0xff] {
        let mut b = Bench::new();
        let torrent = b.open("a", Bitfield::new(PIECES));
        let honest = b.called(torrent, SocketAddr::from(([10, 0, 0, 8], 6881)));
        let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
        let handshake = Handshake { reserved: [0; 8], info_hash, peer_id: [id; 20] };
        b.tell(Event::Handshake { peer: honest, handshake });
        let thief = b.peer_as(torrent, 7, id);
        assert!(b.s.peers.contains(honest) && !b.s.peers.contains(thief), "id {id}");
    }
}

#[test]
fn a_partial_seed_does_not_call_seeds_again_and_again() {
    let mut b = Bench::new();
    let mut only = Arc::into_inner(spec("a")).unwrap();
    only.seed_only = true;
    let mut there = Bitfield::new(PIECES);
    there.set(3);
    let torrent = b.add(Arc::new(only), there.clone());
    let (lane, first, count) = b.checks(0)[0];
    let done = Done::Checked { torrent, first, count, result: Ok(Bitfield::full(1)) };
    b.tell(Event::Done { lane, done });
    let peer = b.called(torrent, SocketAddr::from(([10, 0, 0, 8], 6881)));
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    b.tell(Event::Handshake { peer, handshake: Handshake { reserved: [0; 8], info_hash, peer_id: [1; 20] } });
    let full = Bitfield::full(PIECES);
    b.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(full.as_bytes())) });
    assert!(!b.s.peers.contains(peer));
    let before = b.done.len();
    for _ in 0..60 {
        b.pass(Duration::from_secs(60));
    }
    assert_eq!(b.position(before, |a| matches!(a, Action::Connect { .. })), None);
}

#[test]
fn a_flood_of_chokes_does_not_make_us_ask_everybody_each_time() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let flooder = b.source(torrent, 1);
    for n in 2..50 {
        b.source(torrent, n);
    }
    let before = b.s.refills_done;
    for _ in 0..1000 {
        b.tell(Event::Message { peer: flooder, message: Message::Choke });
        b.tell(Event::Message { peer: flooder, message: Message::Unchoke });
    }
    assert!(b.s.refills_done - before < 5000, "{}", b.s.refills_done - before);
}

#[test]
fn many_slow_peers_are_no_load_of_the_disk() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers: Vec<PeerId> = (0..=255).map(|n| b.source(torrent, n)).collect();
    let mut more = Vec::new();
    for n in 0..200u8 {
        more.push(b.source_at(torrent, n));
    }
    // They unchoke us at one moment: the picks for them take some turns.
    (0..10).for_each(|_| b.pass(REFILL_REST));
    for peer in peers.into_iter().chain(more) {
        let block = *b.s.peers.get(peer).unwrap().asked.front().unwrap();
        assert_eq!(b.s.intake(peer, block, b.now), Intake::Take);
    }
}

impl Bench {
    fn source_at(&mut self, torrent: TorrentId, n: u8) -> PeerId {
        let from = SocketAddr::from(([10, 0, 1, n], 40_000));
        let peer = self.s.accept(from, self.now).unwrap();
        let info_hash = self.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
        let mut peer_id = [n; 20];
        peer_id[0] = 0xaa;
        peer_id[1] = 0x55;
        self.tell(Event::Handshake { peer, handshake: Handshake { reserved: [0; 8], info_hash, peer_id } });
        let full = Bitfield::full(PIECES);
        self.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(full.as_bytes())) });
        self.tell(Event::Message { peer, message: Message::Unchoke });
        peer
    }
}

#[test]
fn an_address_that_called_us_itself_is_called_again_later() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let addr = SocketAddr::from(([10, 0, 0, 8], 40_000));
    let peer = b.peer(torrent, 8);
    let result =
        Ok(Response { peers: vec![addr], interval: Duration::from_secs(9999), ..Response::default() });
    b.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
    let dialled = |b: &Bench, from: usize| b.position(from, |a| matches!(a, Action::Connect { .. }));
    assert_eq!(dialled(&b, 0), None, "it is here");
    b.tell(Event::Closed { peer, why: Why::Eof });
    let peer = b.peer(torrent, 8);
    b.tell(Event::Closed { peer, why: Why::Eof });
    let from = b.done.len();
    b.pass(Duration::from_secs(3600));
    assert!(dialled(&b, from).is_some());
}

#[test]
fn a_flood_of_interest_does_not_make_us_look_at_everybody_each_time() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peers: Vec<PeerId> = (1..50).map(|n| b.peer(torrent, n)).collect();
    for peer in &peers {
        b.tell(Event::Message { peer: *peer, message: Message::Interested });
    }
    b.pass(Duration::from_secs(1));
    let before = b.s.choices;
    for _ in 0..1000 {
        b.tell(Event::Message { peer: peers[0], message: Message::Interested });
        b.tell(Event::Message { peer: peers[0], message: Message::NotInterested });
    }
    assert!(b.s.choices - before < 5, "{}", b.s.choices - before);
    // But one that comes to a free slot has it at once.
    b.pass(Duration::from_secs(30));
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peer = b.peer(torrent, 1);
    let from = b.tell(Event::Message { peer, message: Message::Interested });
    assert!(b.position(from, |a| matches!(a, Action::Send { message: Message::Unchoke, .. })).is_some());
}

#[test]
fn slots_that_are_given_away_are_not_held_as_well() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    for n in 1..40 {
        let peer = b.peer(torrent, n);
        b.tell(Event::Message { peer, message: Message::Interested });
        b.tell(Event::Message { peer, message: Message::NotInterested });
        b.pass(Duration::from_millis(50));
    }
    let held = b.s.peers.iter().filter(|(_, p)| !p.am_choking).count();
    assert!(held <= 10, "{held} of 10 slots");
}

#[test]
fn a_block_that_is_asked_for_again_after_a_choke_is_paid_once() {
    let mut b = Bench::limited(64 << 10);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.source(torrent, 1);
    b.pass(Duration::from_secs(1));
    let p = b.s.peers.get_mut(peer).unwrap();
    let block = *p.asked.front().unwrap();
    // It was asked for before, and given up.
    p.late.push_back(block);
    assert_eq!(b.s.intake(peer, block, b.now), Intake::Take);
    // A block's worth at that rate.
    let from = b.done.len();
    b.pass(Duration::from_millis(260));
    assert!(b.position(from, |a| matches!(a, Action::Send { message: Message::Request(_), .. })).is_some());
}

#[test]
fn so_many_torrents_are_open_at_a_time_and_no_more() {
    let mut b = Bench::new();
    b.s.config.max_open = 2;
    let opened = |b: &Bench| {
        let open = |action: &Action| match action {
            Action::Job { job: Job::Open { torrent, .. }, .. } => Some(*torrent),
            _ => None,
        };
        b.done.iter().filter_map(open).collect::<Vec<_>>()
    };
    for number in 0..4 {
        b.tell(Event::Command(Command::Add { number, spec: spec(&number.to_string()) }));
    }
    let [first, second] = opened(&b)[..] else { panic!("{:?}", opened(&b)) };
    // One that waits and is paused or removed is passed over; what is being closed still counts.
    b.tell(Event::Command(Command::Pause { number: 2 }));
    b.tell(Event::Command(Command::Remove { number: 0 }));
    for torrent in [first, second] {
        b.tell(Event::Done {
            lane: 0,
            done: Done::Opened { torrent, result: Box::new(Ok(Opened::default())) },
        });
    }
    b.tell(Event::Done { lane: 0, done: Done::Closed { torrent: first } });
    assert_eq!(opened(&b).len(), 2);
    b.tell(Event::Done { lane: 1, done: Done::Closed { torrent: first } });
    assert_eq!(opened(&b).len(), 3);
    assert_eq!(b.s.torrents.get(opened(&b)[2]).unwrap().number, 3);
    b.tell(Event::Command(Command::Resume { number: 2 }));
    assert_eq!(opened(&b).len(), 3);
    // What was removed is forgotten when that was said.
    assert!(b.s.torrents.get(first).is_some());
    while b.s.report(b.now).is_some() {}
    assert!(b.s.torrents.get(first).is_none() && b.s.torrents.len() == 3 && b.s.removed.is_empty());
}

#[test]
fn what_was_removed_leaves_nothing_behind() {
    let mut b = Bench::new();
    for round in 0..50 {
        let torrent = b.seed("a");
        let peer = b.peer(torrent, 1);
        b.tell(Event::Command(Command::Remove { number: round }));
        assert!(!b.s.peers.contains(peer));
        for lane in 0..2 {
            b.tell(Event::Done { lane, done: Done::Closed { torrent } });
        }
        while b.s.report(b.now).is_some() {}
        // Its tracker does not answer.
        b.pass(crate::limits::STOP_BUDGET);
        assert_eq!((b.s.torrents.len(), b.s.open), (0, 0));
        assert!(b.s.by_hash.is_empty() && b.s.by_number.is_empty() && b.s.removed.is_empty());
        assert_eq!((b.s.torrents.loud(), b.s.openers.len()), (0, 0));
        // The call that is out is answered some time.
        let result = Err(crate::api::TrackerFailure::Network("late".into()));
        b.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
    }
}

#[test]
fn a_status_is_told_at_once_for_all_who_asked_and_names_everyone() {
    let mut b = Bench::new();
    let torrents = [b.open("a", Bitfield::default()), b.seed("b")];
    let source = b.source(torrents[0], 1);
    b.peer(torrents[1], 2);
    let stranger = b.s.accept(SocketAddr::from(([10, 0, 0, 3], 40_000)), b.now).unwrap();
    // With nothing else to say it would sleep.
    while b.s.report(b.now).is_some() {}
    assert_ne!(b.s.news_due(), Time::ZERO);
    for _ in 0..3 {
        b.tell(Event::Command(Command::Status));
    }
    assert_eq!(b.s.news_due(), Time::ZERO);
    let Some(Report::Status(status)) = b.s.report(b.now) else { panic!("no status") };
    assert!(!matches!(b.s.report(b.now), Some(Report::Status(_))));
    let states: Vec<_> = status.torrents.iter().map(|t| (t.number, t.state)).collect();
    assert_eq!(states, [(0, crate::api::State::Downloading), (1, crate::api::State::Seeding)]);
    assert_eq!(status.torrents[0].trackers, [("http://tracker.sim/…".into(), "being asked".into())]);
    let peers: Vec<_> = status.peers.iter().map(|p| (p.number, p.open)).collect();
    assert_eq!((peers, status.peers_left_out), (vec![(Some(0), true), (Some(1), true), (None, false)], 0));
    let first = &status.peers[0];
    assert!(first.id == source && first.pieces == (PIECES, PIECES) && first.am_interested && !first.choking);
    assert!(first.requests_out > 0 && status.peers[2].id == stranger);
}

#[test]
fn a_status_is_bounded() {
    let mut b = Bench::new();
    b.s.config.max_conn = 3000;
    b.seed("a");
    for n in 0..2500u16 {
        let from = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 40_000));
        assert!(b.s.accept(from, b.now).is_some());
    }
    b.tell(Event::Command(Command::Status));
    let Some(Report::Status(status)) = b.s.report(b.now) else { panic!("no status") };
    assert_eq!((status.peers.len(), status.peers_left_out), (2000, 500));
}

#[test]
fn who_is_stopped_while_it_is_opened_leaves_the_totals_of_earlier_runs_alone() {
    for early in [true, false] {
        let mut b = Bench::new();
        let mut kept = Arc::try_unwrap(spec("a")).unwrap();
        kept.state_dir = Some("/state".into());
        b.tell(Event::Command(Command::Add { number: 0, spec: Arc::new(kept) }));
        let torrent = b.s.by_number[&0];
        if early {
            b.tell(Event::Command(Command::Quit));
        }
        let saved = crate::api::Saved { uploaded: 5, ..Default::default() };
        let result = Box::new(Ok(Opened { saved, ..Opened::default() }));
        b.tell(Event::Done { lane: 0, done: Done::Opened { torrent, result } });
        b.tell(Event::Command(Command::Quit));
        let saves: Vec<u64> = b
            .done
            .iter()
            .filter_map(|action| match action {
                Action::Job { job: Job::Save { saved, .. }, .. } => Some(saved.uploaded),
                _ => None,
            })
            .collect();
        assert_eq!(saves, if early { vec![] } else { vec![5] });
        let closes = |action: &&Action| matches!(action, Action::Job { job: Job::Close { .. }, .. });
        assert_eq!(b.done.iter().filter(closes).count(), 2);
    }
}

#[test]
fn the_copy_of_a_removed_torrent_goes_unless_it_was_added_again() {
    for again in [false, true] {
        let mut b = Bench::new();
        let kept = || {
            let mut kept = Arc::try_unwrap(spec("a")).unwrap();
            kept.state_dir = Some("/state".into());
            Arc::new(kept)
        };
        b.tell(Event::Command(Command::Add { number: 0, spec: kept() }));
        let torrent = b.s.by_number[&0];
        let result = Box::new(Ok(Opened::default()));
        b.tell(Event::Done { lane: 0, done: Done::Opened { torrent, result } });
        b.tell(Event::Command(Command::Remove { number: 0 }));
        if again {
            b.tell(Event::Command(Command::Add { number: 1, spec: kept() }));
        }
        for lane in 0..2 {
            b.tell(Event::Done { lane, done: Done::Closed { torrent } });
        }
        while b.s.report(b.now).is_some() {}
        b.pass(crate::limits::STOP_BUDGET);
        assert!(b.s.torrents.get(torrent).is_none());
        let forgets = |action: &&Action| matches!(action, Action::Job { job: Job::Forget { .. }, .. });
        assert_eq!(b.done.iter().filter(forgets).count(), usize::from(!again));
    }
}

#[test]
fn what_a_full_disk_lost_at_the_very_end_is_told() {
    for quit in [true, false] {
        let mut b = Bench::new();
        // Complete, or still being checked.
        let torrent = if quit { b.seed("a") } else { b.open("a", Bitfield::full(PIECES)) };
        if quit {
            b.tell(Event::Command(Command::Quit));
        }
        while b.s.report(b.now).is_some() {}
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = crate::api::DiskError { op: "write", path: "/sim/a".into(), source };
        b.tell(Event::Done { lane: 0, done: Done::Unsynced { torrent, error, lost: vec![3] } });
        let mut told = Vec::new();
        while let Some(report) = b.s.report(b.now) {
            match report {
                Report::Error { reason, message, .. } => told.push(format!("{reason:?} {message}")),
                Report::State { state, .. } => told.push(format!("{state:?}")),
                _ => {}
            }
        }
        assert!(told[0].starts_with("DiskFull ") && told[0].contains("/sim/a"), "{told:?}");
        assert_eq!(told[1..], ["Error"], "quit {quit}");
    }
}
