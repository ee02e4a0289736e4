//! The fast extension (BEP 6), and pieces that are lost (BEP 54).

use super::*;
use crate::api::{DiskError, Verdict};
use crate::limits::{
    ALLOWED_FAST_PIECES, BITFIELDS_MAX, REFILL_REST, REFUSED_REST, REFUSED_RETRY_MAX, TORRENT_TICK,
};
use crate::proto::extended::Extension;
use crate::proto::wire::allowed_fast::allowed_fast;
use crate::proto::wire::handshake::{EXTENSION_BIT, FAST_BIT};

const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, FAST_BIT];
const BOTH: [u8; 8] = [0, 0, 0, 0, 0, EXTENSION_BIT, 0, FAST_BIT];

/// Messages sent to a peer since `from`.
fn sent(b: &Bench, from: usize, to: PeerId) -> Vec<Message<'static>> {
    let message = |action: &Action| match action {
        Action::Send { peer, message } if *peer == to => Some(message.clone()),
        _ => None,
    };
    b.done[from..].iter().filter_map(message).collect()
}

fn say(b: &mut Bench, peer: PeerId, message: Message<'_>) -> usize {
    b.tell(Event::Message { peer, message })
}

fn verify(b: &mut Bench, torrent: TorrentId, piece: u32) {
    let verdict = Verdict::Good { differed: vec![] };
    b.tell(Event::Done { lane: 0, done: Done::Piece { torrent, piece, verdict } });
}

fn block(piece: u32, at: u32) -> Block {
    Block { piece, begin: at * BLOCK, len: BLOCK }
}

/// A peer that has all and unchokes us.
fn fast_source(b: &mut Bench, torrent: TorrentId, n: u8) -> PeerId {
    let peer = b.peer_with(torrent, n, n, FAST);
    say(b, peer, Message::HaveAll);
    say(b, peer, Message::Unchoke);
    peer
}

fn asked(b: &Bench, peer: PeerId) -> Vec<Block> {
    b.s.peers.get(peer).unwrap().asked.iter().copied().collect()
}

#[test]
fn all_or_nothing_takes_the_place_of_a_bitfield() {
    let mut b = Bench::new();
    let (none, all) = (b.open("a", Bitfield::new(PIECES)), b.seed("b"));
    let first = |b: &mut Bench, torrent, n, bits| {
        let from = b.done.len();
        let peer = b.peer_with(torrent, n, n, bits);
        assert!(b.s.peers.contains(peer));
        sent(b, from, peer)
    };
    assert_eq!(first(&mut b, none, 1, FAST), [Message::HaveNone]);
    assert_eq!(first(&mut b, all, 2, FAST), [Message::HaveAll]);
    assert_eq!(first(&mut b, none, 3, [0; 8]), []);
    assert!(matches!(first(&mut b, all, 4, [0; 8])[..], [Message::Bitfield(_)]));
    verify(&mut b, none, 3);
    assert!(matches!(first(&mut b, none, 5, FAST)[..], [Message::Bitfield(_)]));
    let bit = |a: &Action| matches!(a, Action::Handshake { handshake, .. } if handshake.has_fast());
    assert!(b.position(0, bit).is_some());

    let peer = b.peer_with(none, 6, 6, FAST);
    say(&mut b, peer, Message::HaveAll);
    assert!(b.s.peers.get(peer).unwrap().is_seed());
    say(&mut b, peer, Message::HaveNone);
    assert_eq!(b.s.peers.get(peer).unwrap().has.count(), 0);
    for _ in 1..BITFIELDS_MAX {
        say(&mut b, peer, Message::HaveAll);
    }
    assert!(b.s.peers.contains(peer));
    say(&mut b, peer, Message::HaveAll);
    assert!(!b.s.peers.contains(peer), "over and over");
    // In place of many single ones it may as often as it likes.
    let peer = b.peer_with(none, 8, 8, FAST);
    for two in 0..PIECES / 2 {
        let mut has = Bitfield::new(PIECES);
        (0..2 * two).for_each(|piece| _ = has.set(piece));
        say(&mut b, peer, Message::Bitfield(Cow::Borrowed(has.as_bytes())));
    }
    assert!(b.s.peers.contains(peer));
    let peer = b.peer_with(all, 7, 7, FAST);
    say(&mut b, peer, Message::HaveAll);
    assert!(!b.s.peers.contains(peer), "both are seeds");
}

#[test]
fn a_super_seed_has_nothing_and_wants_something() {
    let mut b = Bench::new();
    let mut hidden = Arc::into_inner(spec("a")).unwrap();
    hidden.super_seed = true;
    let torrent = b.add(Arc::new(hidden), Bitfield::new(PIECES));
    (0..PIECES).for_each(|piece| verify(&mut b, torrent, piece));
    let from = b.done.len();
    let peer = b.peer_with(torrent, 1, 1, BOTH);
    let said = sent(&b, from, peer);
    let [Message::HaveNone, Message::Have(shown), Message::Extended { body, .. }] = &said[..] else {
        panic!("{said:?}")
    };
    let told = crate::proto::extended::Handshake::decode(body).unwrap();
    assert_eq!(told.upload_only, Some(false));
    let from = say(&mut b, peer, Message::HaveNone);
    assert_eq!(sent(&b, from, peer), [], "nothing is to be had beside what is shown");
    // What it lost is told only to who was shown it.
    say(&mut b, peer, Message::Extended { id: 0, body: Cow::Borrowed(b"d1:md11:lt_donthavei9eee") });
    let (shown, from) = (*shown, b.done.len());
    b.s.lose(torrent, (shown + 1) % PIECES, b.now);
    b.s.lose(torrent, shown, b.now);
    b.take();
    let body = Cow::Owned(shown.to_be_bytes().to_vec());
    let lost = sent(&b, from, peer).into_iter().filter(|m| matches!(m, Message::Extended { id: 9, .. }));
    assert_eq!(lost.collect::<Vec<_>>(), [Message::Extended { id: 9, body }]);
}

#[test]
fn what_was_not_agreed_on_closes_and_so_does_a_piece_that_is_none() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let messages = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(0),
        Message::AllowedFast(0),
        Message::Reject(block(0, 0)),
    ];
    for (n, message) in (1..).zip(messages) {
        let peer = b.peer(torrent, n);
        say(&mut b, peer, message.clone());
        assert!(!b.s.peers.contains(peer), "{message:?}");
    }
    let wrong = [Message::Suggest(PIECES), Message::AllowedFast(PIECES), Message::Reject(block(0, 0))];
    for (n, message) in (11..).zip(wrong) {
        let peer = b.peer_with(torrent, n, n, FAST);
        say(&mut b, peer, message.clone());
        assert!(!b.s.peers.contains(peer), "{message:?}");
    }
}

#[test]
fn a_peer_with_nothing_may_have_a_few_pieces_though_it_is_choked() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    // Four pieces of 4 MiB are what there is for it.
    let set = allowed_fast([10, 0, 0, 1].into(), info_hash, PIECES, 4);
    let peer = b.peer_with(torrent, 1, 1, FAST);
    let from = say(&mut b, peer, Message::HaveNone);
    let allowed: Vec<_> = set.iter().map(|piece| Message::AllowedFast(*piece)).collect();
    assert_eq!(sent(&b, from, peer), allowed);
    let other = (0..PIECES).find(|piece| !set.contains(piece)).unwrap();
    let from = say(&mut b, peer, Message::Request(block(other, 0)));
    assert_eq!(sent(&b, from, peer), [Message::Reject(block(other, 0))]);
    let from = say(&mut b, peer, Message::Request(block(set[1], 5)));
    let read = |b: &Bench, from| b.position(from, |a| matches!(a, Action::Read { .. })).is_some();
    assert!(read(&b, from) && sent(&b, from, peer).is_empty());
    // No more than the first bytes of a torrent, as long as nothing else is uploaded; then all of them once.
    let rejected = |b: &Bench, from: usize| sent(b, from, peer).len();
    let from = b.done.len();
    (0..256).for_each(|at| _ = say(&mut b, peer, Message::Request(block(set[2], at))));
    assert_eq!(rejected(&b, from), 128, "2 MiB of 4");
    b.s.torrents.get_mut(torrent).unwrap().uploaded = 1 << 30;
    b.s.peers.get_mut(peer).unwrap().fast.refill(16 << 20);
    b.s.peers.get_mut(peer).unwrap().queue.clear();
    for piece in &set {
        for at in 0..256 {
            say(&mut b, peer, Message::Request(block(*piece, at)));
        }
    }
    let from = say(&mut b, peer, Message::Request(block(set[0], 0)));
    assert_eq!(sent(&b, from, peer), [Message::Reject(block(set[0], 0))]);

    // Not for one that has some pieces, or whom the user does not want to serve.
    let rich = b.peer_with(torrent, 2, 2, FAST);
    let mut has = Bitfield::new(PIECES);
    (0..=ALLOWED_FAST_PIECES as u32).for_each(|piece| _ = has.set(piece));
    let from = say(&mut b, rich, Message::Bitfield(Cow::Borrowed(has.as_bytes())));
    assert_eq!(sent(&b, from, rich), []);
    b.s.config.max_upload = 0;
    let peer = b.peer_with(torrent, 3, 3, FAST);
    let from = say(&mut b, peer, Message::HaveNone);
    assert_eq!(sent(&b, from, peer), []);
}

#[test]
fn a_choke_rejects_what_waits_but_for_what_is_allowed() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peer = b.peer_with(torrent, 1, 1, FAST);
    say(&mut b, peer, Message::HaveNone);
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    let free = allowed_fast([10, 0, 0, 1].into(), info_hash, PIECES, 1)[0];
    say(&mut b, peer, Message::Interested);
    b.pass(CHOKE_REST);
    let other = (free + 1) % PIECES;
    let other = if b.s.peers.get(peer).unwrap().fast.serves(other) { (free + 2) % PIECES } else { other };
    // Some are read at once, the others wait.
    (0..200).for_each(|at| _ = say(&mut b, peer, Message::Request(block(other, at))));
    say(&mut b, peer, Message::Request(block(free, 3)));
    say(&mut b, peer, Message::Request(block(other, 250)));
    let from = say(&mut b, peer, Message::Cancel(block(other, 250)));
    assert_eq!(sent(&b, from, peer), [Message::Reject(block(other, 250))], "a cancel has an answer");
    let waiting: Vec<Block> = b.s.peers.get(peer).unwrap().queue.iter().copied().collect();
    assert!(waiting.len() > 10 && waiting.last() == Some(&block(free, 3)));
    let from = b.done.len();
    b.s.choke(peer, b.now);
    b.take();
    let mut due = vec![Message::Choke];
    due.extend(waiting[..waiting.len() - 1].iter().map(|block| Message::Reject(*block)));
    assert_eq!(sent(&b, from, peer), due);
    assert_eq!(b.s.peers.get(peer).unwrap().queue, [block(free, 3)]);

    let plain = b.peer(torrent, 2);
    say(&mut b, plain, Message::Interested);
    b.pass(CHOKE_REST);
    (0..200).for_each(|at| _ = say(&mut b, plain, Message::Request(block(other, at))));
    let from = b.done.len();
    b.s.choke(plain, b.now);
    b.take();
    assert_eq!(sent(&b, from, plain), [Message::Choke], "it knows no rejects");
    assert!(b.s.peers.get(plain).unwrap().queue.is_empty());
}

#[test]
fn a_choke_of_theirs_drops_nothing_that_is_not_rejected() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let begun = |b: &Bench| b.s.torrents.get(torrent).unwrap().picker.begun();
    let peer = fast_source(&mut b, torrent, 1);
    let blocks = asked(&b, peer);
    assert!(blocks.len() > 3 && begun(&b) == 1);
    say(&mut b, peer, Message::Choke);
    assert_eq!((asked(&b, peer), begun(&b)), (blocks.clone(), 1));
    assert!(b.s.peers.get(peer).unwrap().expects(blocks[0]), "it may still come");
    for block in &blocks {
        say(&mut b, peer, Message::Reject(*block));
    }
    assert_eq!((asked(&b, peer).len(), begun(&b)), (0, 0), "others may be asked");
    assert!(b.s.peers.contains(peer));
    say(&mut b, peer, Message::Reject(blocks[0]));
    assert!(!b.s.peers.contains(peer), "that was answered");

    let plain = b.source(torrent, 2);
    assert_eq!(begun(&b), 1);
    say(&mut b, plain, Message::Choke);
    assert_eq!((asked(&b, plain).len(), begun(&b)), (0, 0));
}

#[test]
fn what_is_rejected_is_asked_of_another_at_once() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = fast_source(&mut b, torrent, 1);
    let blocks = asked(&b, peer);
    let piece = blocks[0].piece;
    // Another one has nothing but this piece, and was asked for all that is left of it.
    let mut has = Bitfield::new(PIECES);
    has.set(piece);
    let other = b.peer(torrent, 2);
    b.s.peers.get_mut(other).unwrap().depth = 1000;
    say(&mut b, other, Message::Bitfield(Cow::Borrowed(has.as_bytes())));
    say(&mut b, other, Message::Unchoke);
    assert_eq!(asked(&b, other).len(), 256 - blocks.len());
    b.pass(REFILL_REST);
    say(&mut b, peer, Message::Choke);
    for block in &blocks {
        say(&mut b, peer, Message::Reject(*block));
    }
    b.pass(REFILL_REST);
    assert!(blocks.iter().all(|block| asked(&b, other).contains(block)));
}

#[test]
fn who_rejects_without_a_choke_has_a_rest_and_is_not_asked_for_that_piece() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = fast_source(&mut b, torrent, 1);
    let piece = asked(&b, peer)[0].piece;
    for block in asked(&b, peer) {
        say(&mut b, peer, Message::Reject(block));
    }
    b.pass(REFILL_REST * 2);
    assert!(asked(&b, peer).is_empty(), "not at once");
    b.pass(REFUSED_REST);
    b.pass(Duration::from_secs(1));
    let again = asked(&b, peer);
    assert!(!again.is_empty() && again.iter().all(|block| block.piece != piece), "{again:?}");
    // The last piece there is: it is asked for again after a while.
    for other in (0..PIECES).filter(|other| *other != piece) {
        verify(&mut b, torrent, other);
    }
    b.pass(REFUSED_RETRY_MAX);
    b.pass(TORRENT_TICK);
    assert!(asked(&b, peer).iter().any(|block| block.piece == piece));
}

/// A peer with one piece, which may be the only one that has it.
fn only_source(b: &mut Bench, torrent: TorrentId, n: u8, piece: u32) -> PeerId {
    let mut has = Bitfield::new(PIECES);
    has.set(piece);
    let peer = b.peer_with(torrent, n, n, FAST);
    say(b, peer, Message::Bitfield(Cow::Borrowed(has.as_bytes())));
    say(b, peer, Message::Unchoke);
    peer
}

/// Rejects all that is asked; gives how long the peer is not asked then, to a second.
fn rejected_for(b: &mut Bench, peer: PeerId) -> Duration {
    let since = b.now;
    for block in asked(b, peer) {
        say(b, peer, Message::Reject(block));
    }
    while asked(b, peer).is_empty() && b.now < since + REFUSED_RETRY_MAX * 2 {
        b.pass(TORRENT_TICK);
    }
    b.now.since(since)
}

#[test]
fn the_only_peer_that_has_a_rejected_piece_is_asked_again_and_later_each_time() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = only_source(&mut b, torrent, 1, 5);
    let waits: Vec<u64> = (0..7).map(|_| rejected_for(&mut b, peer).as_secs()).collect();
    assert!((2..=3).contains(&waits[0]), "{waits:?}");
    assert!(waits[1..5].iter().zip(&waits).all(|(next, last)| *next + 2 >= last * 2), "{waits:?}");
    assert!(waits[5..].iter().all(|wait| (60..=61).contains(wait)), "{waits:?}");
    // Once it serves the piece, it starts over.
    let block = asked(&b, peer)[0];
    assert_eq!(b.s.intake(peer, block, b.now), Intake::Take);
    let mut pool = Pool::new(1).unwrap();
    b.tell(Event::Block { peer, block, buf: pool.take().unwrap() });
    assert!(rejected_for(&mut b, peer).as_secs() <= 3);
}

#[test]
fn a_peer_is_asked_for_less_than_it_says_that_it_keeps() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, BOTH);
    say(
        &mut b,
        peer,
        Message::Extended { id: 0, body: Cow::Borrowed(b"d1:md11:lt_donthavei7ee4:reqqi512ee") },
    );
    let now = b.now;
    let p = b.s.peers.get_mut(peer).unwrap();
    p.down.add(1 << 40, now);
    p.tune_depth(now);
    say(&mut b, peer, Message::HaveAll);
    say(&mut b, peer, Message::Unchoke);
    assert_eq!(asked(&b, peer).len(), 512 - 32);
}

#[test]
fn a_cancel_is_answered_by_a_reject_or_the_block() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = fast_source(&mut b, torrent, 1);
    let blocks = asked(&b, peer);
    for block in &blocks[..2] {
        b.s.cancel(peer, *block, b.now);
    }
    b.take();
    assert!(!asked(&b, peer).contains(&blocks[0]));
    say(&mut b, peer, Message::Reject(blocks[0]));
    assert_eq!(b.s.intake(peer, blocks[1], b.now), Intake::Take);
    assert!(b.s.peers.contains(peer));
    say(&mut b, peer, Message::Reject(blocks[0]));
    assert!(!b.s.peers.contains(peer), "once is enough");
}

#[test]
fn what_they_allow_is_asked_for_though_they_choke_us() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, FAST);
    say(&mut b, peer, Message::AllowedFast(5));
    say(&mut b, peer, Message::HaveAll);
    let of_five =
        |b: &Bench| !asked(b, peer).is_empty() && asked(b, peer).iter().all(|block| block.piece == 5);
    assert!(of_five(&b), "{:?}", asked(&b, peer));
    say(&mut b, peer, Message::Choke);
    assert!(of_five(&b));
    for block in asked(&b, peer) {
        say(&mut b, peer, Message::Reject(block));
    }
    b.pass(Duration::from_secs(2));
    assert!(asked(&b, peer).is_empty(), "it would not, after all");
    // Of pieces that it has not got nothing is asked, and a great many are not kept.
    let poor = b.peer_with(torrent, 2, 2, FAST);
    say(&mut b, poor, Message::HaveNone);
    for piece in (0..PIECES).chain(0..PIECES) {
        say(&mut b, poor, Message::AllowedFast(piece));
    }
    assert!(asked(&b, poor).is_empty());
    say(&mut b, poor, Message::Have(9));
    assert!(asked(&b, poor).iter().all(|block| block.piece == 9) && !asked(&b, poor).is_empty());
}

#[test]
fn a_piece_that_a_peer_lost_is_not_asked_of_it() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let lost = |piece: u32| Cow::Owned(piece.to_be_bytes().to_vec());
    let id = Extension::DontHave.id();
    for (n, bits) in [(1, BOTH), (2, [0, 0, 0, 0, 0, EXTENSION_BIT, 0, 0])] {
        let peer = b.peer_with(torrent, n, n, bits);
        let full = Bitfield::full(PIECES);
        say(&mut b, peer, Message::Bitfield(Cow::Borrowed(full.as_bytes())));
        say(&mut b, peer, Message::Unchoke);
        b.pass(REFILL_REST);
        let piece = asked(&b, peer)[0].piece;
        say(&mut b, peer, Message::Extended { id, body: lost(piece) });
        b.pass(REFILL_REST);
        let p = b.s.peers.get(peer).unwrap();
        assert_eq!((p.has.get(piece), p.has.count()), (false, PIECES - 1));
        assert!(p.lure.is_some_and(|lure| lure != piece));
        assert_eq!(b.s.torrents.get(torrent).unwrap().picker.availability(piece), 0, "peer {n}");
        assert_eq!(b.s.torrents.get(torrent).unwrap().picker.availability((piece + 1) % PIECES), 1);
        b.pass(Duration::from_secs(2));
        let still = asked(&b, peer).iter().any(|block| block.piece == piece);
        assert_eq!(still, bits == BOTH, "what is not rejected may come");
        for other in 0..PIECES {
            say(&mut b, peer, Message::Extended { id, body: lost(other) });
        }
        b.pass(REFILL_REST);
        assert!(!b.s.peers.get(peer).unwrap().am_interested);
        say(&mut b, peer, Message::Have(piece));
        assert!(b.s.peers.get(peer).unwrap().am_interested);
        b.tell(Event::Closed { peer, why: Why::Eof });
        assert_eq!(b.s.torrents.get(torrent).unwrap().picker.availability(piece), 0);
    }
    let wrong: [&[u8]; 3] = [&[0, 0, 0], &[0; 4], &PIECES.to_be_bytes()];
    for (n, body) in (3..).zip(wrong) {
        let peer = b.peer_with(torrent, n, n, BOTH);
        say(&mut b, peer, Message::Extended { id, body: Cow::Borrowed(body) });
        assert_eq!(b.s.peers.contains(peer), body == [0; 4], "{body:?}: what it never had may be lost");
    }
    let peer = b.peer_with(torrent, 9, 9, BOTH);
    for _ in 0..2 * PIECES + 100 {
        say(&mut b, peer, Message::Have(1));
        say(&mut b, peer, Message::Extended { id, body: lost(1) });
    }
    assert!(!b.s.peers.contains(peer), "lost over and over");
}

#[test]
fn a_piece_that_we_lost_is_told_and_its_requests_are_rejected() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let (told, plain) = (b.peer_with(torrent, 1, 1, BOTH), b.peer(torrent, 2));
    say(&mut b, told, Message::Extended { id: 0, body: Cow::Borrowed(b"d1:md11:lt_donthavei7eee") });
    for peer in [told, plain] {
        say(&mut b, peer, Message::Interested);
        b.pass(CHOKE_REST);
        (0..200).for_each(|at| _ = say(&mut b, peer, Message::Request(block(3, at))));
    }
    let waiting = b.s.peers.get(told).unwrap().queue.len();
    assert!(waiting > 0);
    let mut pool = Pool::new(1).unwrap();
    let source = std::io::Error::from(std::io::ErrorKind::InvalidData);
    let failed = Some((0, DiskError { op: "read", path: "/sim/a".into(), source }));
    let blocks = vec![(block(3, 0), pool.take().unwrap())];
    let done = Done::Read { torrent, peer: told, blocks, failed };
    let from = b.tell(Event::Done { lane: 0, done });
    let said = sent(&b, from, told);
    assert!(said.contains(&Message::Reject(block(3, 0))), "{said:?}");
    assert_eq!(said.iter().filter(|m| matches!(m, Message::Reject(_))).count(), waiting + 1);
    let body = Cow::Owned(3u32.to_be_bytes().to_vec());
    assert!(said.contains(&Message::Extended { id: 7, body }), "{said:?}");
    assert!(
        !sent(&b, from, plain).iter().any(|m| matches!(m, Message::Reject(_) | Message::Extended { .. }))
    );
    assert!(b.s.peers.get(plain).unwrap().queue.is_empty());
    let from = say(&mut b, told, Message::Request(block(3, 9)));
    assert_eq!(sent(&b, from, told), [Message::Reject(block(3, 9))]);
    // It is fetched again.
    let from = b.done.len();
    verify(&mut b, torrent, 3);
    let have =
        |action: &Action| matches!(action, Action::Haves { peer, pieces } if *peer == told && pieces == &[3]);
    assert!(b.done[from..].iter().any(have));
}
