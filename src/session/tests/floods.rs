//! Floods of small messages: what a peer says again costs next to nothing, and changes of mind are bounded.

use super::*;
use crate::limits::PICKS_A_TURN;
use crate::proto::extended::Extension;
use crate::proto::wire::handshake::{EXTENSION_BIT, FAST_BIT};

const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, FAST_BIT];

fn say(b: &mut Bench, peer: PeerId, message: Message<'static>) -> usize {
    b.tell(Event::Message { peer, message })
}

fn requests(b: &Bench, from: usize, to: PeerId) -> usize {
    let is_request = |action: &&Action| match action {
        Action::Send { peer, message: Message::Request(_) } => *peer == to,
        _ => false,
    };
    b.done[from..].iter().filter(is_request).count()
}

/// A torrent, and a peer that unchokes us and has nothing to give: its only piece is asked of another peer.
fn starved(b: &mut Bench) -> (TorrentId, PeerId) {
    let torrent = b.open("a", Bitfield::new(PIECES));
    let other = b.peer(torrent, 1);
    say(b, other, Message::Have(7));
    b.s.peers.get_mut(other).unwrap().depth = 1000;
    say(b, other, Message::Unchoke);
    let peer = b.peer(torrent, 2);
    say(b, peer, Message::Have(7));
    (torrent, peer)
}

#[test]
fn repeated_unchokes_cause_one_pick() {
    let mut b = Bench::new();
    let (_, peer) = starved(&mut b);
    let before = b.s.refills_done;
    for _ in 0..1000 {
        say(&mut b, peer, Message::Unchoke);
        b.now += REFILL_REST;
    }
    // The torrent looks at its peers once a second by itself.
    assert!(b.s.refills_done - before < 100, "{}", b.s.refills_done - before);
}

#[test]
fn a_peer_that_chokes_and_unchokes_for_ever_causes_one_pick_in_each_rest() {
    for reserved in [[0; 8], FAST] {
        let mut b = Bench::new();
        let torrent = b.open("a", Bitfield::new(PIECES));
        let peer = b.peer_with(torrent, 1, 1, reserved);
        for piece in 0..PIECES {
            say(&mut b, peer, Message::Have(piece));
        }
        let from = b.done.len();
        for _ in 0..1000 {
            say(&mut b, peer, Message::Unchoke);
            say(&mut b, peer, Message::Choke);
        }
        assert!(requests(&b, from, peer) <= 6, "{}", requests(&b, from, peer));
        // It is asked again a moment after it has made up its mind.
        say(&mut b, peer, Message::Unchoke);
        b.pass(REFILL_REST);
        assert!(!b.s.peers.get(peer).unwrap().asked.is_empty());
    }
}

#[test]
fn all_peers_together_keep_to_the_budget_of_picks_and_each_has_its_turn() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers: Vec<PeerId> = (0..200).map(|n| b.peer(torrent, n)).collect();
    b.pass(REFILL_REST);
    let from = b.done.len();
    for (peer, piece) in peers.iter().zip((0..PIECES).cycle()) {
        say(&mut b, *peer, Message::Have(piece));
        say(&mut b, *peer, Message::Unchoke);
    }
    let asked = |b: &Bench| peers.iter().filter(|peer| requests(b, from, **peer) > 0).count();
    assert_eq!(asked(&b), PICKS_A_TURN as usize);
    for turn in 2..=4 {
        b.pass(REFILL_REST);
        assert_eq!(asked(&b), (turn * PICKS_A_TURN as usize).min(200));
    }
}

#[test]
fn haves_that_tell_nothing_new_cause_no_pick() {
    let mut b = Bench::new();
    let (torrent, peer) = starved(&mut b);
    say(&mut b, peer, Message::Unchoke);
    let verdict = crate::api::Verdict::Good { differed: vec![] };
    b.tell(Event::Done { lane: 0, done: Done::Piece { torrent, piece: 9, verdict } });
    b.pass(REFILL_REST);
    let before = b.s.refills_done;
    say(&mut b, peer, Message::Have(7));
    say(&mut b, peer, Message::Have(9));
    assert_eq!(b.s.refills_done, before, "it said so before, and we have that piece");
    say(&mut b, peer, Message::Have(10));
    assert_eq!(b.s.refills_done, before + 1);
}

#[test]
fn payload_that_was_not_asked_for_causes_no_pick() {
    let mut b = Bench::new();
    let (_, peer) = starved(&mut b);
    say(&mut b, peer, Message::Unchoke);
    let before = b.s.refills_done;
    for piece in 0..PIECES {
        let block = Block { piece, begin: 0, len: 1 };
        assert_eq!(b.s.intake(peer, block, b.now), Intake::Skip);
    }
    assert_eq!(b.s.refills_done, before);
}

#[test]
fn repeated_interest_and_the_lack_of_it_change_nothing() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peer = b.peer(torrent, 1);
    say(&mut b, peer, Message::Interested);
    b.pass(Duration::from_secs(1));
    let (from, choices) = (b.done.len(), b.s.choices);
    for _ in 0..100 {
        say(&mut b, peer, Message::Interested);
        b.now += CHOKE_REST;
    }
    // The regular rounds go on.
    assert!(b.s.choices - choices <= 1, "{}", b.s.choices - choices);
    assert_eq!(b.done.len(), from);
}

/// A super-seed, and a peer.
fn super_seed(b: &mut Bench) -> (TorrentId, PeerId) {
    let mut seed = Arc::into_inner(spec("a")).unwrap();
    seed.super_seed = true;
    let torrent = b.seed_of(Arc::new(seed));
    (torrent, b.peer(torrent, 1))
}

fn shown(b: &Bench) -> usize {
    let have = |action: &&Action| matches!(action, Action::Send { message: Message::Have(_), .. });
    b.done.iter().filter(have).count()
}

#[test]
fn a_super_seed_shows_another_piece_only_when_interest_ends_after_payload() {
    let mut b = Bench::new();
    let (_, peer) = super_seed(&mut b);
    assert_eq!(shown(&b), 1);
    for _ in 0..100 {
        say(&mut b, peer, Message::NotInterested);
        say(&mut b, peer, Message::NotInterested);
        say(&mut b, peer, Message::Interested);
    }
    assert_eq!(shown(&b), 1);
    b.s.peers.get_mut(peer).unwrap().uploaded += 1;
    for _ in 0..100 {
        say(&mut b, peer, Message::NotInterested);
        say(&mut b, peer, Message::Interested);
    }
    assert_eq!(shown(&b), 2);
}

#[test]
fn pieces_lost_and_found_again_cause_one_search_in_each_rest() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, [0, 0, 0, 0, 0, EXTENSION_BIT, 0, FAST_BIT]);
    for piece in [3, 60] {
        say(&mut b, peer, Message::Have(piece));
    }
    b.pass(REFILL_REST);
    let before = b.s.refills_done;
    let lose = |b: &mut Bench, piece: u32| {
        let body = Cow::Owned(piece.to_be_bytes().to_vec());
        say(b, peer, Message::Extended { id: Extension::DontHave.id(), body });
    };
    for _ in 0..30 {
        for piece in [3, 60] {
            lose(&mut b, piece);
            say(&mut b, peer, Message::Have(piece));
        }
    }
    assert!(b.s.refills_done - before <= 1, "{}", b.s.refills_done - before);
    // What is true in the end counts.
    lose(&mut b, 3);
    lose(&mut b, 60);
    b.pass(REFILL_REST);
    let p = b.s.peers.get(peer).unwrap();
    assert_eq!((p.lure, p.am_interested), (None, false));
}
