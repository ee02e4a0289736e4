//! The turn, over real sockets, against a session that answers as each test says.

mod crypt;
mod deferred;

use super::*;
use crate::api::{Encryption, Intake, TorrentId};
use crate::base::arena::Handle;
use crate::base::buf::BLOCK;
use crate::proto::id::InfoHash;
use crate::proto::layout::Block;
use crate::proto::wire::{Handshake, Message};
use script::Answer;
use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

pub(super) mod script {
    use crate::api::{Action, Event, Intake, PeerId, Report};
    use crate::base::arena::Handle;
    use crate::base::time::Time;
    use crate::proto::id::InfoHash;
    use crate::proto::layout::Block;
    use crate::proto::mse::request_name;
    use crate::session::Config;
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    /// What a test does at an event, before its actions are carried out.
    pub(crate) type Answer = fn(&mut Session, &Event<'_>);

    /// Stands in for the session: it notes what it hears and does what it is told.
    pub(crate) struct Session {
        pub(crate) heard: Vec<String>,
        pub(crate) actions: VecDeque<Action>,
        pub(crate) intakes: VecDeque<Intake>,
        pub(crate) reports: VecDeque<Report>,
        pub(crate) deadline: Option<Time>,
        pub(crate) answer: Answer,
        pub(crate) refuse: bool,
        /// Whether there is no room for blocks.
        pub(crate) full: bool,
        pub(crate) payload: Vec<u8>,
        pub(crate) sent: (u32, u64),
        peers: u32,
    }

    impl Session {
        pub(crate) fn new(_: Config, _: [u8; 32], _: Time) -> Session {
            Session {
                heard: Vec::new(),
                actions: VecDeque::new(),
                intakes: VecDeque::new(),
                reports: VecDeque::new(),
                deadline: None,
                answer: |_, _| {},
                refuse: false,
                full: false,
                payload: Vec::new(),
                sent: (0, 0),
                peers: 0,
            }
        }

        pub(crate) fn accept(&mut self, _: SocketAddr, _: Time) -> Option<PeerId> {
            self.peers += 1;
            (!self.refuse).then(|| PeerId::from_bits(self.peers - 1))
        }

        /// Take, unless the test says otherwise.
        pub(crate) fn intake(&mut self, peer: PeerId, block: Block, _: Time) -> Intake {
            let intake = self.intakes.pop_front().unwrap_or(Intake::Take);
            self.heard.push(format!("{peer} {} {intake:?}", block.piece));
            intake
        }

        pub(crate) fn room_ahead(&self, _: PeerId) -> usize {
            if self.full { 0 } else { usize::MAX }
        }

        pub(crate) fn requested(&self, name: &[u8; 20]) -> Option<InfoHash> {
            let ours = InfoHash([1; 20]);
            (*name == request_name(ours)).then_some(ours)
        }

        pub(crate) fn handle(&mut self, event: Event<'_>, now: Time) {
            (self.answer)(self, &event);
            self.heard.push(match event {
                Event::Block { peer, block, buf } => {
                    self.payload.extend_from_slice(buf.filled(block.len));
                    self.actions.push_back(Action::Release(buf));
                    format!("{peer} {} block", block.piece)
                }
                Event::Message { peer, message } => format!("{peer} {message:?}"),
                Event::Handshake { peer, .. } => format!("{peer} handshake"),
                Event::Closed { peer, why } => format!("{peer} {why:?}"),
                // Only where the handshake comes in two parts.
                Event::InfoHash { .. } => return,
                Event::Sent { blocks, bytes, .. } => {
                    self.sent = (self.sent.0 + blocks, self.sent.1 + bytes);
                    return;
                }
                Event::Tick => {
                    self.deadline = self.deadline.filter(|at| *at > now);
                    "tick".to_string()
                }
                other => format!("{other:?}"),
            });
        }

        pub(crate) fn poll(&mut self) -> Option<Action> {
            self.actions.pop_front()
        }

        pub(crate) fn deadline(&self) -> Option<Time> {
            self.deadline
        }

        pub(crate) fn report(&mut self, _: Time) -> Option<Report> {
            self.reports.pop_front()
        }
    }
}

/// A reactor with its other ends.
struct Bench {
    reactor: Reactor,
    addr: SocketAddr,
    done: Sender<(u8, Done)>,
    replies: Sender<Reply>,
    commands: Sender<Command>,
    reports: Receiver<Report>,
    jobs: [Receiver<Job>; 2],
    wake: Arc<Wake>,
}

fn bench(bufs: usize, answer: Answer) -> Bench {
    let route = Route { v4: Some(Ipv4Addr::LOCALHOST), v6: None, device: None };
    let listeners = listen(&route, 0..=0).map_err(|error| error.to_string()).unwrap();
    bench_at(route, listeners, bufs, answer)
}

fn bench_at(route: Route, listeners: Vec<Listener>, bufs: usize, answer: Answer) -> Bench {
    let poll = Poll::new().unwrap();
    let wake = poll.wake();
    let addr = listeners[0].addr().unwrap();
    let (done, done_rx) = crossbeam_channel::bounded(8);
    let (replies, replies_rx) = crossbeam_channel::bounded(8);
    let (commands, commands_rx) = crossbeam_channel::bounded(8);
    let (reports_tx, reports) = crossbeam_channel::bounded(2);
    let (urgent, urgent_rx) = crossbeam_channel::bounded(8);
    let (checks, checks_rx) = crossbeam_channel::bounded(8);
    let (powers_tx, powers) = crossbeam_channel::bounded(limits::MSE_POWERS_OUT);
    let raise = Box::new(move |peer, power: Power| powers_tx.send((peer, power.raise())).unwrap());
    let links = Links {
        lanes: vec![Lane { urgent, checks }],
        done: done_rx,
        call: Box::new(|_| {}),
        forget_failures: Box::new(|| {}),
        replies: replies_rx,
        raise,
        powers,
        web: Box::new(|_, _| Ok(())),
        said: crossbeam_channel::never(),
        commands: commands_rx,
        reports: reports_tx,
    };
    let config = Config {
        port: 1,
        max_conn: 9,
        max_upload: 4,
        max_download_rate: 0,
        max_upload_rate: 0,
        max_metadata_size: limits::METADATA_MAX_DEFAULT,
        encryption: Encryption::Disabled,
        lanes: 1,
        max_open: 10,
        receive_bufs: bufs,
        lsd: false,
        pex: false,
    };
    let pool = Pool::new(bufs).unwrap();
    let (seed, signals) = ([0; 32], None);
    let (bell, groups) = (wake.clone(), Vec::new());
    let monitor = None;
    let setup =
        Setup { config, seed, poll, wake: bell, route, listeners, groups, monitor, signals, pool, links };
    let mut reactor = Reactor::new(setup).unwrap();
    reactor.session.answer = answer;
    let jobs = [urgent_rx, checks_rx];
    Bench { reactor, addr, done, replies, commands, reports, jobs, wake }
}

impl Bench {
    /// Takes turns until the session has heard this.
    fn until(&mut self, what: &str) {
        while !self.reactor.session.heard.iter().any(|heard| heard == what) {
            self.reactor.turn().unwrap();
        }
    }

    fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reactor.session.heard)
    }

    /// A peer that has connected and shaken hands.
    fn peer(&mut self, id: u32) -> TcpStream {
        let mut there = TcpStream::connect(self.addr).unwrap();
        there.set_nodelay(true).unwrap();
        there.write_all(&handshake()).unwrap();
        self.until(&format!("p{id}.0 handshake"));
        self.heard();
        there
    }

    /// Makes the next turn end by `Tick` if nothing else happens, and takes it: what happened.
    fn quiet_turn(&mut self) -> Vec<String> {
        self.reactor.read_clock();
        self.reactor.session.deadline = Some(self.reactor.now + Duration::from_millis(30));
        self.reactor.turn().unwrap();
        self.heard()
    }
}

fn handshake() -> Vec<u8> {
    Handshake { reserved: [0; 8], info_hash: InfoHash([1; 20]), peer_id: [2; 20] }.encode().to_vec()
}

fn piece(piece: u32, len: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Piece(Block { piece, begin: 0, len }).encode(&mut bytes);
    bytes.resize(13 + len as usize, piece as u8);
    bytes
}

fn peer(n: u32) -> PeerId {
    PeerId::from_bits(n)
}

#[test]
fn blocks_arrive_in_order_and_their_buffers_come_home() {
    let mut b = bench(4, |_, _| {});
    let mut there = b.peer(0);
    b.reactor.session.intakes = [Intake::Take, Intake::Skip].into();
    let sender = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            for n in 0..40 {
                there.write_all(&piece(n, if n < 2 { 5 } else { BLOCK })).unwrap();
            }
            there.write_all(&[0, 0, 0, 1, 1]).unwrap();
            there
        });
        b.until("p0.0 Unchoke");
        sender.join().unwrap()
    });
    let heard = b.heard();
    assert_eq!(heard[..3], ["p0.0 0 Take", "p0.0 0 block", "p0.0 1 Skip"]);
    assert_eq!(heard.len(), 2 + 1 + 38 * 2 + 1);
    let blocks = (2..40u8).flat_map(|n| [n; BLOCK as usize]);
    assert!(b.reactor.session.payload.iter().copied().eq([0; 5].into_iter().chain(blocks)));
    assert_eq!(b.reactor.pool.out(), 0);
    drop(sender);
    b.until("p0.0 Eof");
}

#[test]
fn a_waiting_connection_rests_and_goes_on_where_it_stood() {
    let mut b = bench(1, |_, _| {});
    let mut there = b.peer(0);
    b.reactor.session.intakes = [Intake::Wait, Intake::Wait].into();
    there.write_all(&[piece(0, 9000), piece(1, 100), vec![0, 0, 0, 1, 1]].concat()).unwrap();
    b.until("p0.0 0 Wait");
    b.heard();
    drop(there);
    // The rest of the stream and its end are there, but are neither read nor reported.
    assert_eq!(b.quiet_turn(), ["tick"]);
    b.reactor.resumed.push(peer(0));
    b.until("p0.0 0 Wait");
    assert_eq!(b.heard(), ["p0.0 0 Wait"]);
    assert_eq!(b.quiet_turn(), ["tick"]);
    assert_eq!(b.reactor.waiting, 1);
    b.reactor.resumed.push(peer(0));
    b.until("p0.0 Eof");
    let rest = ["p0.0 0 Take", "p0.0 0 block", "p0.0 1 Take", "p0.0 1 block", "p0.0 Unchoke", "p0.0 Eof"];
    assert_eq!(b.heard(), rest);
    assert_eq!((b.reactor.pool.out(), b.reactor.waiting), (0, 0));
}

#[test]
fn a_reset_while_reading_is_off_closes_once() {
    let mut b = bench(1, |_, _| {});
    let mut there = b.peer(0);
    b.reactor.session.intakes = [Intake::Wait].into();
    there.write_all(&piece(0, 100)).unwrap();
    b.until("p0.0 0 Wait");
    b.heard();
    rustix::net::sockopt::set_socket_linger(&there, Some(Duration::ZERO)).unwrap();
    drop(there);
    b.until("p0.0 Io(ConnectionReset)");
    b.heard();
    assert_eq!(b.quiet_turn(), ["tick"]);
    assert_eq!(b.reactor.waiting, 0);
}

#[test]
fn who_reads_ahead_while_others_wait_keeps_little() {
    let mut b = bench(8, |_, _| {});
    let mut all = [b.peer(0), b.peer(1), b.peer(2)];
    b.reactor.session.intakes = [Intake::Wait; 3].into();
    for there in &mut all {
        there.write_all(&[piece(0, BLOCK), piece(1, BLOCK)].concat()).unwrap();
    }
    for n in 0..3 {
        b.until(&format!("p{n}.0 0 Wait"));
    }
    let kept: Vec<usize> =
        (0..3).map(|n| b.reactor.conns.get_mut(peer(n)).unwrap().go_on().unwrap().1.len()).collect();
    assert!(kept.iter().filter(|len| **len > limits::SCRATCH_SMALL).count() <= 1, "{kept:?}");
}

#[test]
fn who_has_no_room_for_blocks_reads_one_at_a_time_and_keeps_little() {
    for full in [true, false] {
        let mut b = bench(32, |_, _| {});
        let mut all = [b.peer(0), b.peer(1)];
        b.reactor.session.full = full;
        b.reactor.session.intakes = [Intake::Take, Intake::Take, Intake::Wait, Intake::Wait].into();
        for there in &mut all {
            there.write_all(&piece(0, BLOCK)).unwrap();
        }
        (0..2).for_each(|n| b.until(&format!("p{n}.0 0 block")));
        let blocks: Vec<u8> = (1..6).flat_map(|n| piece(n, BLOCK)).collect();
        for (n, there) in all.iter_mut().enumerate() {
            there.write_all(&blocks).unwrap();
            b.until(&format!("p{n}.0 1 Wait"));
        }
        let kept: Vec<usize> =
            (0..2).map(|n| b.reactor.conns.get_mut(peer(n)).unwrap().go_on().unwrap().1.len()).collect();
        assert!(kept.iter().all(|len| (*len <= limits::SCRATCH_SMALL) == full), "{full} {kept:?}");
    }
}

#[test]
fn a_close_in_the_middle_of_what_was_read_ends_it() {
    let mut b = bench(2, |session, event| {
        if let Event::Message { peer, message: Message::Choke } = event {
            session.actions.push_back(Action::Close { peer: *peer, why: Why::Timeout });
        }
    });
    let mut there = b.peer(0);
    let choke = [0, 0, 0, 1, 0];
    there.write_all(&[&piece(0, 10)[..], &choke, &choke, &piece(1, 10)[..15]].concat()).unwrap();
    b.until("p0.0 Choke");
    assert_eq!(b.heard(), ["p0.0 0 Take", "p0.0 0 block", "p0.0 Choke"]);
    assert_eq!(b.quiet_turn(), ["tick"]);
    // What it sent and we did not read makes the close a reset.
    assert!(matches!(there.read(&mut [0; 1]), Ok(0) | Err(_)));
    let mut there = b.peer(1);
    there.write_all(&piece(1, 100)[..50]).unwrap();
    b.until("p1.0 1 Take");
    drop(there);
    b.until("p1.0 Eof");
    assert_eq!(b.reactor.pool.out(), 0);
}

#[test]
fn nonsense_closes() {
    let mut b = bench(1, |_, _| {});
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    b.until("p0.0 Protocol(\"not a BitTorrent handshake\")");
}

#[test]
fn a_slow_reader_gets_every_block_and_buffers_come_home() {
    let mut b = bench(256, |_, _| {});
    let mut there = b.peer(0);
    b.reactor.session.actions.push_back(Action::Handshake {
        peer: peer(0),
        handshake: Box::new(Handshake::decode(handshake().first_chunk().unwrap()).unwrap()),
    });
    let mut expected = handshake();
    for n in 0..256 {
        let mut buf = b.reactor.pool.take().unwrap();
        buf.space().fill(n as u8);
        let block = Block { piece: n, begin: 0, len: BLOCK };
        b.reactor.session.actions.push_back(Action::SendBlock { peer: peer(0), block, buf });
        expected.extend(piece(n, BLOCK));
    }
    b.reactor.carry_out();
    let mut got = vec![0; expected.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| there.read_exact(&mut got).unwrap());
        while b.reactor.session.sent.0 < 256 {
            b.reactor.turn().unwrap();
        }
    });
    assert!(got == expected, "the stream differs");
    assert_eq!((b.reactor.session.sent.1, b.reactor.pool.out()), (256 * u64::from(BLOCK), 0));
    assert_eq!(b.quiet_turn(), ["tick"], "write interest stays on");
}

#[test]
fn all_outboxes_have_a_bound_and_who_reads_is_never_without_room() {
    let mut b = bench(256, |_, _| {});
    const PEERS: u32 = 100;
    let _there: Vec<_> = (0..PEERS).map(|n| b.peer(n)).collect();
    // Nobody reads, and each is told 1 MiB, in turn.
    for _ in 0..256 {
        for n in 0..PEERS {
            let bits = Message::Bitfield(Cow::Owned(vec![0; 4096]));
            b.reactor.session.actions.push_back(Action::Send { peer: peer(n), message: bits });
            b.reactor.carry_out();
            assert!(b.reactor.unsent_small <= limits::OUTBOXES_MAX, "{}", b.reactor.unsent_small);
        }
    }
    let closed = b.heard();
    assert!(closed.iter().all(|said| said.ends_with("Stalled")), "{closed:?}");
    assert!(closed.len() > 50, "only {} of them were closed", closed.len());
    let sum: usize = (0..PEERS).filter_map(|n| Some(b.reactor.conns.get_mut(peer(n))?.outbox.small())).sum();
    assert_eq!(b.reactor.unsent_small, sum);
    // One that comes now has room for what an honest peer is told at once.
    let _late = b.peer(PEERS);
    let bits = Message::Bitfield(Cow::Owned(vec![0; 64 << 10]));
    b.reactor.session.actions.push_back(Action::Send { peer: peer(PEERS), message: bits });
    b.reactor.carry_out();
    assert!(b.heard().is_empty() && b.reactor.conns.get_mut(peer(PEERS)).is_some());
}

#[test]
fn an_outbox_that_grows_or_stands_still_closes() {
    let mut b = bench(256, |_, _| {});
    let _there = b.peer(0);
    for _ in 0..5 {
        let bits = Message::Bitfield(Cow::Owned(vec![0; limits::OUTBOX_MAX / 4]));
        b.reactor.session.actions.push_back(Action::Send { peer: peer(0), message: bits });
    }
    b.reactor.carry_out();
    assert_eq!(b.heard(), ["p0.0 Stalled"]);

    let _there = b.peer(1);
    let mut sent = 0;
    while b.reactor.conns.get_mut(peer(1)).is_some_and(|conn| !conn.blocked) {
        for _ in 0..b.reactor.pool.size() - b.reactor.pool.out() {
            let (buf, block) = (b.reactor.pool.take().unwrap(), Block { piece: sent, begin: 0, len: BLOCK });
            b.reactor.session.actions.push_back(Action::SendBlock { peer: peer(1), block, buf });
            sent += 1;
        }
        b.reactor.carry_out();
        b.reactor.flush();
    }
    let due = b.reactor.deadline().unwrap();
    b.reactor.now = due - Duration::from_micros(1);
    b.reactor.end_stalls();
    assert!(b.heard().is_empty());
    b.reactor.now = due;
    b.reactor.end_stalls();
    assert_eq!(b.heard(), ["p1.0 Stalled"]);
    assert_eq!((b.reactor.pool.out(), b.reactor.deadline()), (0, None));
}

#[test]
fn dialling_ends_in_connected_or_unreachable() {
    let mut b = bench(1, |_, _| {});
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (n, addr) in [(0, there.local_addr().unwrap()), (1, gone), (2, "[::1]:9".parse().unwrap())] {
        b.reactor.session.actions.push_back(Action::Connect { peer: peer(n), addr });
    }
    b.reactor.carry_out();
    b.until("Connected { peer: p0.0 }");
    b.until("p1.0 Unreachable(ConnectionRefused)");
    b.until("p2.0 Unreachable(AddrNotAvailable)");
    let (mut stream, from) = there.accept().unwrap();
    assert!(from.ip().is_loopback());
    b.reactor.session.actions.push_back(Action::Send { peer: peer(0), message: Message::Unchoke });
    b.reactor.carry_out();
    b.reactor.flush();
    let mut got = [9; 5];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, [0, 0, 0, 1, 1]);
}

#[test]
fn a_refused_connection_is_closed_at_once() {
    let mut b = bench(1, |_, _| {});
    b.reactor.session.refuse = true;
    let mut there = TcpStream::connect(b.addr).unwrap();
    b.reactor.turn().unwrap();
    assert_eq!(there.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_resting_listener_sleeps_and_goes_on() {
    let mut b = bench(1, |_, _| {});
    b.reactor.read_clock();
    b.reactor.listeners[0].rest = Some(b.reactor.now + Duration::from_millis(30));
    b.reactor.poll.change(b.reactor.listeners[0].as_fd(), Key::Listener(0), (false, false)).unwrap();
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.write_all(&handshake()).unwrap();
    b.reactor.turn().unwrap();
    assert_eq!((b.heard().len(), b.reactor.listeners[0].rest), (0, None));
    b.until("p0.0 handshake");
}

/// Both ways, in batches, and a flood keeps nobody waiting.
#[test]
fn datagrams_go_in_and_out() {
    let mut b = bench(1, |session, event| match event {
        Event::Datagram { from, data: b"echo" } => {
            session.actions.push_back(Action::Datagram { to: *from, data: (*b"back").into() });
        }
        Event::Datagram { data: b"v6", .. } => {
            let to = "[::1]:9".parse().unwrap();
            session.actions.push_back(Action::Datagram { to, data: [1, 2].into() });
        }
        _ => {}
    });
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = there.local_addr().unwrap();
    there.send_to(b"echo", b.addr).unwrap();
    b.until(&format!("Datagram {{ from: {from}, data: {:?} }}", b"echo"));
    let mut answer = [0; 9];
    let (len, to) = there.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..len], to), (&b"back"[..], b.addr));
    // Empty ones, and the longest that there is.
    b.heard();
    there.send_to(b"", b.addr).unwrap();
    let longest = vec![7; 65_507];
    there.send_to(&longest, b.addr).unwrap();
    b.until(&format!("Datagram {{ from: {from}, data: {longest:?} }}"));
    assert_eq!(b.heard()[0], format!("Datagram {{ from: {from}, data: [] }}"));
    // A family without a socket: the session hears of it, and nothing ends.
    there.send_to(b"v6", b.addr).unwrap();
    b.until("Unreachable { to: [::1]:9, why: AddrNotAvailable }");
    b.heard();
    for _ in 0..limits::DATAGRAMS_MAX + 10 {
        there.send_to(b"x", b.addr).unwrap();
    }
    let mut got = 0;
    while got < limits::DATAGRAMS_MAX + 10 {
        b.reactor.turn().unwrap();
        let heard = b.heard().len();
        assert!(heard <= limits::DATAGRAMS_MAX, "{heard} in one turn");
        got += heard;
    }
}

#[test]
fn a_flood_over_one_address_family_leaves_the_other_its_share() {
    let route = Route { v4: Some(Ipv4Addr::LOCALHOST), v6: Some(Ipv6Addr::LOCALHOST), device: None };
    let listeners = listen(&route, 0..=0).map_err(|error| error.to_string());
    // Without IPv6 there is nothing to share.
    let Some(listeners) = listeners.ok().filter(|all| all.len() == 2) else { return };
    let places: Vec<SocketAddr> = listeners.iter().map(|one| one.addr().unwrap()).collect();
    let mut b = bench_at(route, listeners, 1, |_, _| {});
    for to in places {
        let there = UdpSocket::bind((to.ip(), 0)).unwrap();
        for _ in 0..limits::DATAGRAMS_MAX {
            there.send_to(b"x", to).unwrap();
        }
    }
    b.reactor.turn().unwrap();
    let heard = b.heard();
    let of = |text: &str| heard.iter().filter(|one| one.contains(text)).count();
    let half = limits::DATAGRAMS_MAX / 2;
    assert_eq!((of("from: 127.0.0.1:"), of("from: [::1]:")), (half, half));
}

#[test]
fn other_threads_wake_it_and_are_heard_in_order() {
    let mut b = bench(1, |_, _| {});
    let torrent = TorrentId::from_bits(0);
    b.commands.send(Command::Quit).unwrap();
    let result = Ok(vec![]);
    b.replies.send(Reply::Resolved { torrent, host: String::new(), port: 1, result }).unwrap();
    b.done.send((3, Done::Closed { torrent })).unwrap();
    b.reactor.turn().unwrap();
    let heard = b.heard();
    let starts: Vec<&str> = heard.iter().map(|h| h.split(&['(', ' '][..]).next().unwrap()).collect();
    assert_eq!(starts, ["Done", "Reply", "Command"]);
    let (done, wake) = (b.done.clone(), b.wake.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            done.send((0, Done::Closed { torrent })).unwrap();
            wake.ring();
        });
        while b.heard().is_empty() {
            b.reactor.turn().unwrap();
        }
    });
}

#[test]
fn jobs_go_to_their_channel_and_a_read_gets_its_buffers() {
    let mut b = bench(2, |_, _| {});
    let (torrent, block) = (TorrentId::from_bits(0), Block { piece: 1, begin: 0, len: 5 });
    b.reactor.session.actions = [
        Action::Job { lane: 0, job: Job::Check { torrent, first: 0, count: 1 } },
        Action::Job { lane: 0, job: Job::Close { torrent } },
        Action::Read { lane: 0, torrent, peer: peer(0), blocks: vec![block, block] },
    ]
    .into();
    b.reactor.carry_out();
    assert!(matches!(b.jobs[1].try_recv(), Ok(Job::Check { .. })));
    assert!(matches!(b.jobs[0].try_recv(), Ok(Job::Close { .. })));
    let Ok(Job::Read { blocks, .. }) = b.jobs[0].try_recv() else { panic!("no read") };
    assert_eq!(blocks.len(), 2);
    let send = |(block, buf)| Action::SendBlock { peer: peer(7), block, buf };
    b.reactor.session.actions.extend(blocks.into_iter().map(send));
    b.reactor.carry_out();
    assert_eq!(b.reactor.pool.out(), 0, "a block for a peer that is gone");
}

#[test]
fn reports_wait_for_room_and_the_last_ones_come_at_the_end() {
    let mut b = bench(1, |_, _| {});
    b.reactor.session.reports = (0..5).map(|number| Report::Complete { number }).collect();
    b.reactor.session.deadline = Some(Time::ZERO);
    b.reactor.report();
    assert_eq!((b.reports.len(), b.reactor.session.reports.len()), (2, 4));
    // It is asleep until it looks again: nothing spins on the session's deadline.
    assert_eq!(b.reactor.deadline(), Some(b.reactor.now + limits::REPORT_RETRY));
    assert!(matches!(b.reports.try_recv(), Ok(Report::Listening { addr }) if addr == b.addr));
    b.reactor.turn().unwrap();
    assert_eq!(b.reports.len(), 2);
    b.reactor.session.actions.push_back(Action::Exit);
    b.reactor.carry_out();
    assert!(b.reactor.ending);
    let (reports, reactor) = (b.reports, b.reactor);
    let rest: Vec<Report> = std::thread::scope(|scope| {
        scope.spawn(|| reactor.end());
        reports.iter().collect()
    });
    assert!(
        rest.iter()
            .enumerate()
            .all(|(at, r)| matches!(r, Report::Complete { number } if *number == at as u32))
    );
    assert_eq!(rest.len(), 5);
}

#[test]
fn a_burst_is_bounded_and_every_socket_has_one() {
    let mut b = bench(64, |_, _| {});
    let mut all = [b.peer(0), b.peer(1)];
    let stream: Vec<u8> = (0..8).flat_map(|n| piece(n, BLOCK)).collect();
    for there in &mut all {
        there.set_nonblocking(true).unwrap();
        // As much as the socket takes; more than a burst, or all there is.
        let _ = there.write(&stream.repeat(8));
    }
    for n in 0..2 {
        let ready = Ready { key: Key::Peer(peer(n)), readable: true, writable: false };
        b.reactor.came = 0;
        b.reactor.serve_peer(peer(n), ready, limits::BURST_MIN);
        assert!(b.reactor.came <= limits::BURST_MIN + BLOCK as usize);
        assert!(b.heard().iter().any(|heard| heard.starts_with(&format!("p{n}.0"))));
    }
}
