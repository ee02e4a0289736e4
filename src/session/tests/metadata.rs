//! Torrents without metadata.

use super::*;
use crate::api::{BadInfo, DhtSetup, Reason, State};
use crate::limits::{METADATA_ALL_MAX, METADATA_MAX_DEFAULT, METADATA_PEER_BURST, METADATA_SMALL};
use crate::proto::extended::metadata::{PIECE, write};
use crate::proto::extended::{Extension, HANDSHAKE, metadata};
use crate::proto::wire::handshake::EXTENSION_BIT;

const BITS: [u8; 8] = [0, 0, 0, 0, 0, EXTENSION_BIT, 0, 0];

/// Which torrent it is, of this one.
fn unknown(spec: &Spec) -> Arc<Spec> {
    let mut link = Arc::into_inner(super::spec("x")).unwrap();
    link.meta = Metainfo::unknown(spec.meta.info_hash, "link");
    link.wanted = vec![];
    Arc::new(link)
}

/// A bench with a torrent whose metadata is missing.
fn waiting(of: &Spec) -> (Bench, TorrentId) {
    let mut b = Bench::new();
    b.tell(Event::Command(Command::Add { number: 0, spec: unknown(of) }));
    let torrent = b.s.torrents.ids().next().unwrap();
    b.ids.push(torrent);
    (b, torrent)
}

/// A peer that takes requests for metadata.
fn holder(b: &mut Bench, torrent: TorrentId, n: u8, size: usize) -> PeerId {
    let peer = b.peer_with(torrent, n, n, BITS);
    say(b, peer, HANDSHAKE, format!("d1:md11:ut_metadatai7ee13:metadata_sizei{size}ee").as_bytes());
    peer
}

fn say(b: &mut Bench, peer: PeerId, id: u8, body: &[u8]) {
    b.tell(Event::Message { peer, message: Message::Extended { id, body: Cow::Borrowed(body) } });
}

fn send(b: &mut Bench, peer: PeerId, piece: u32, info: &[u8]) {
    let data = info.chunks(PIECE as usize).nth(piece as usize).unwrap();
    let message = metadata::Metadata::Data { piece, total: info.len() as u32, data };
    say(b, peer, Extension::Metadata.id(), &write(&message));
}

/// The pieces that a worker is to hash, if it is told to since `from`.
fn digest(b: &Bench, from: usize) -> Option<Vec<u8>> {
    b.done[from..].iter().find_map(|action| match action {
        Action::Job { job: Job::Digest { info, .. }, .. } => Some(info.concat()),
        _ => None,
    })
}

fn reports(b: &mut Bench) -> Vec<Report> {
    std::iter::from_fn(|| b.s.report(b.now)).collect()
}

#[test]
fn what_comes_is_hashed_told_and_adopted() {
    let spec = spec("a");
    let (mut b, torrent) = waiting(&spec);
    let info = spec.meta.info.clone();
    assert!(b.position(0, |a| matches!(a, Action::Job { .. })).is_none(), "nothing is opened");
    let peer = holder(&mut b, torrent, 1, info.len());
    let full = Bitfield::full(PIECES);
    b.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(full.as_bytes())) });
    let from = b.done.len();
    send(&mut b, peer, 0, &info);
    assert_eq!(digest(&b, from).as_deref(), Some(&*info));
    let meta = Box::new(Metainfo::from_info(&info).unwrap());
    b.tell(Event::Done { lane: 0, done: Done::Digested { torrent, result: Ok(meta) } });
    let reports = reports(&mut b);
    assert!(reports.iter().any(|r| matches!(r, Report::State { state: State::Metadata, .. })));
    assert!(reports.iter().any(|r| matches!(r, Report::Metadata { number: 0, meta } if meta.name == "a")));
    // Another torrent is not taken for it.
    b.tell(Event::Command(Command::Adopt { number: 0, spec: super::spec("b") }));
    assert!(b.s.torrents.get(torrent).unwrap().fetching());
    let from = b.tell(Event::Command(Command::Adopt { number: 0, spec: spec.clone() }));
    assert!(b.position(from, |a| matches!(a, Action::Job { job: Job::Open { .. }, .. })).is_some());
    let opened = Done::Opened { torrent, result: Box::new(Ok(Opened::default())) };
    let from = b.tell(Event::Done { lane: 0, done: opened });
    // It is the same connection, and what was said on it counts.
    let interested =
        |a: &Action| matches!(a, Action::Send { peer: to, message: Message::Interested } if *to == peer);
    assert!(b.position(from, interested).is_some());
    assert!(b.position(0, |a| matches!(a, Action::Close { .. })).is_none());
    // And it is told that we have metadata now.
    let told = |a: &Action| match a {
        Action::Send { message: Message::Extended { id: HANDSHAKE, body }, .. } => {
            String::from_utf8_lossy(body).contains("13:metadata_size")
        }
        _ => false,
    };
    assert!(b.position(from, told).is_some());
}

#[test]
fn metadata_that_we_cannot_use_is_an_error_that_says_why() {
    let spec = spec("a");
    let (mut b, torrent) = waiting(&spec);
    let peer = holder(&mut b, torrent, 1, spec.meta.info.len());
    send(&mut b, peer, 0, &spec.meta.info);
    let result = Err(BadInfo::Refused("version 2".into()));
    b.tell(Event::Done { lane: 0, done: Done::Digested { torrent, result } });
    let due = "its metadata cannot be used: version 2";
    let told =
        |r: &Report| matches!(r, Report::Error { reason: Reason::Metainfo, message, .. } if message == due);
    let reports = reports(&mut b);
    assert!(reports.iter().any(told), "{reports:?}");
    assert!(reports.iter().any(|r| matches!(r, Report::State { state: State::Error, .. })));
    assert!(b.s.torrents.get(torrent).unwrap().peers.is_empty());
}

#[test]
fn a_torrent_that_turns_out_private_leaves_the_dht() {
    let mut spec = Arc::into_inner(spec("a")).unwrap();
    spec.meta.private = true;
    let (mut b, torrent) = waiting(&spec);
    let setup = DhtSetup { v4: true, bootstrap: vec![("9.8.7.6".into(), 5)], ..DhtSetup::default() };
    b.tell(Event::Command(Command::Dht(Box::new(setup))));
    assert!(b.s.uses_dht(spec.meta.info_hash));
    let known = SocketAddr::from(([5, 5, 5, 5], 5));
    let friend = b.called(torrent, known);
    let handshake = Handshake { reserved: BITS, info_hash: spec.meta.info_hash, peer_id: [5; 20] };
    b.tell(Event::Handshake { peer: friend, handshake });
    let stranger = b.peer_with(torrent, 1, 1, BITS);
    let hash = spec.meta.info_hash;
    let from = b.tell(Event::Command(Command::Adopt { number: 0, spec: Arc::new(spec) }));
    assert!(!b.s.uses_dht(hash));
    let closed =
        |peer| move |a: &Action| matches!(a, Action::Close { peer: p, why: Why::Private } if *p == peer);
    assert!(b.position(from, closed(stranger)).is_some());
    assert!(b.position(from, closed(friend)).is_none());
}

#[test]
fn what_peers_say_too_early_is_bounded() {
    let spec = spec("a");
    let (mut b, torrent) = waiting(&spec);
    let bits = vec![0xff; crate::limits::MESSAGE_MAX as usize - 1];
    let mut peers = Vec::new();
    for n in 1..=40 {
        let peer = b.peer_with(torrent, n, n, BITS);
        b.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(&bits)) });
        for piece in 0..3000 {
            b.tell(Event::Message { peer, message: Message::Have(piece) });
        }
        peers.push(peer);
    }
    assert!((1..=crate::limits::EARLY_BYTES_MAX).contains(&b.s.early));
    for peer in peers {
        b.tell(Event::Closed { peer, why: Why::Eof });
    }
    assert_eq!(b.s.early, 0);
}

/// A seed whose info dictionary has so many pieces.
fn seed_of_pieces(b: &mut Bench, count: u32) -> TorrentId {
    let mut spec = Arc::into_inner(spec("a")).unwrap();
    spec.meta.info_len = count * PIECE;
    b.seed_of(Arc::new(spec))
}

/// Workers answer all reads of metadata at once. Gives how many there were since `from`, for this peer.
fn answer_reads(b: &mut Bench, from: usize, of: PeerId) -> usize {
    let (mut next, mut count) = (from, 0);
    while next < b.done.len() {
        if let Action::Job { lane, job: Job::Info { torrent, peer, piece, .. } } = b.done[next] {
            count += usize::from(peer == of);
            let result = Ok(vec![0; 16].into());
            b.tell(Event::Done { lane, done: Done::Info { torrent, peer, piece, result } });
        }
        next += 1;
    }
    count
}

#[test]
fn a_peer_gets_metadata_at_a_rate_and_others_are_served_meanwhile() {
    let mut b = Bench::new();
    let torrent = seed_of_pieces(&mut b, 1000);
    let (greedy, other) = (b.peer_with(torrent, 1, 1, BITS), b.peer_with(torrent, 2, 2, BITS));
    b.pass(Duration::from_secs(5));
    let from = b.done.len();
    let (mut served, mut at) = (0, from);
    for second in 0..5 {
        // It asks for three times what it may have, so that requests always wait.
        for piece in 0..50 {
            say(&mut b, greedy, Extension::Metadata.id(), &write(&metadata::Metadata::Request { piece }));
            served += answer_reads(&mut b, at, greedy);
            at = b.done.len();
            b.pass(Duration::from_millis(20));
        }
        let allowed = METADATA_PEER_BURST as usize + 16 * (second + 1);
        assert!((allowed - 2..=allowed + 1).contains(&served), "{served} after {second} s, not {allowed}");
    }
    say(&mut b, other, Extension::Metadata.id(), &write(&metadata::Metadata::Request { piece: 7 }));
    assert_eq!(answer_reads(&mut b, at, other), 1);
}

/// A torrent without metadata that is one of several.
fn another(b: &mut Bench, name: &str) -> TorrentId {
    let (number, known) = (b.ids.len() as u32, b.s.torrents.ids().count());
    b.tell(Event::Command(Command::Add { number, spec: unknown(&spec(name)) }));
    let torrent = b.s.torrents.ids().nth(known).unwrap();
    b.ids.push(torrent);
    torrent
}

/// The requests for metadata that this peer has got since `from`.
fn asked_for(b: &Bench, from: usize, of: PeerId) -> Vec<u32> {
    let request = |action: &Action| match action {
        Action::Send { peer, message: Message::Extended { id: 7, body } } if *peer == of => {
            match metadata::read(body) {
                Ok(metadata::Metadata::Request { piece }) => Some(piece),
                _ => None,
            }
        }
        _ => None,
    };
    b.done[from..].iter().filter_map(request).collect()
}

#[test]
fn metadata_of_all_torrents_keeps_to_the_budget_and_those_that_wait_have_their_turn() {
    let mut b = Bench::new();
    let size = METADATA_MAX_DEFAULT as usize;
    let torrents: Vec<TorrentId> = (0..8).map(|n| another(&mut b, &format!("{n}"))).collect();
    let from = b.done.len();
    // Each has a peer that names the largest size and sends nothing.
    let peers: Vec<PeerId> = (1..).zip(&torrents).map(|(n, id)| holder(&mut b, *id, n, size)).collect();
    let started = |b: &Bench| peers.iter().filter(|peer| !asked_for(b, from, **peer).is_empty()).count();
    assert_eq!((started(&b), b.s.metadata_reserved()), (2, METADATA_ALL_MAX));
    let report = reports(&mut b);
    let waits = |r: &&Report| format!("{r:?}").contains("waits for the metadata of other torrents");
    assert_eq!(report.iter().filter(waits).count(), 6, "{report:?}");
    // A common one does not wait for them.
    let common = spec("common");
    let small = another(&mut b, "common");
    let peer = holder(&mut b, small, 100, common.meta.info.len());
    assert_eq!(asked_for(&b, from, peer), [0]);
    let before = b.done.len();
    send(&mut b, peer, 0, &common.meta.info);
    assert_eq!(digest(&b, before).as_deref(), Some(&*common.meta.info));
    // Those that wait take the place of those that bring nothing.
    for _ in 0..4 * 60 {
        b.pass(Duration::from_secs(1));
        assert!(b.s.metadata_reserved() <= METADATA_ALL_MAX + u64::from(METADATA_SMALL));
    }
    assert_eq!(started(&b), 8);
}

#[test]
fn a_torrent_that_is_paused_or_removed_gives_its_share_back() {
    let mut b = Bench::new();
    let size = METADATA_MAX_DEFAULT as usize;
    let torrents: Vec<TorrentId> = (0..4).map(|n| another(&mut b, &format!("{n}"))).collect();
    let from = b.done.len();
    let peers: Vec<PeerId> = (1..).zip(&torrents).map(|(n, id)| holder(&mut b, *id, n, size)).collect();
    assert!(asked_for(&b, from, peers[2]).is_empty() && asked_for(&b, from, peers[3]).is_empty());
    b.tell(Event::Command(Command::Pause { number: 0 }));
    b.tell(Event::Command(Command::Remove { number: 1 }));
    b.pass(Duration::from_secs(2));
    assert!(!asked_for(&b, from, peers[2]).is_empty() && !asked_for(&b, from, peers[3]).is_empty());
    assert_eq!(b.s.metadata_reserved(), METADATA_ALL_MAX);
}

#[test]
fn a_size_beyond_the_limit_is_not_asked_for_and_the_user_hears_why() {
    let mut b = Bench::new();
    let torrent = another(&mut b, "a");
    let from = b.done.len();
    let peer = holder(&mut b, torrent, 1, METADATA_MAX_DEFAULT as usize + 1);
    b.pass(Duration::from_secs(2));
    assert!(asked_for(&b, from, peer).is_empty());
    let reports = reports(&mut b);
    let words = "its metadata has 17 MiB, more than --max-metadata-size allows";
    assert!(reports.iter().any(|r| format!("{r:?}").contains(words)), "{reports:?}");
}

#[test]
fn one_dictionary_is_hashed_at_a_time() {
    let mut b = Bench::new();
    let specs = [spec("0"), spec("1"), spec("2")];
    let mut from = 0;
    let torrents: Vec<TorrentId> = (0..3).map(|n| another(&mut b, &n.to_string())).collect();
    for (n, (torrent, spec)) in (1..).zip(torrents.iter().zip(&specs)) {
        let peer = holder(&mut b, *torrent, n, spec.meta.info.len());
        send(&mut b, peer, 0, &spec.meta.info);
    }
    for (torrent, spec) in torrents.iter().zip(&specs) {
        let digests = |a: &&Action| matches!(a, Action::Job { job: Job::Digest { .. }, .. });
        assert_eq!(b.done[from..].iter().filter(digests).count(), 1);
        assert_eq!(digest(&b, from).as_deref(), Some(&*spec.meta.info));
        let result = Err(BadInfo::Refused("version 2".into()));
        from = b.tell(Event::Done { lane: 0, done: Done::Digested { torrent: *torrent, result } });
    }
}
