//! When peers hear of new pieces.

use super::*;
use crate::base::arena::Handle;
use crate::limits::{HAVE_PEERS, HAVE_REST, HAVES_MAX};
use std::collections::BTreeSet;

/// Who was told of which pieces since `from`, in order.
fn told(b: &Bench, from: usize) -> Vec<(PeerId, Vec<u32>)> {
    let have = |action: &Action| match action {
        Action::Haves { peer, pieces } => Some((*peer, pieces.clone())),
        _ => None,
    };
    b.done[from..].iter().filter_map(have).collect()
}

impl Bench {
    fn verified(&mut self, torrent: TorrentId, piece: u32, last: bool) -> usize {
        let from = self.done.len();
        self.s.torrents.get_mut(torrent).unwrap().picker.set_have(piece);
        self.s.announce_piece(torrent, piece, last, self.now);
        self.take();
        from
    }

    /// Says what a peer has, from the first piece on.
    fn has(&mut self, peer: PeerId, pieces: u32) {
        let mut bits = Bitfield::new(PIECES);
        (0..pieces).for_each(|piece| _ = bits.set(piece));
        self.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(bits.as_bytes())) });
    }

    fn wants(&self, peer: PeerId) -> bool {
        self.s.peers.get(peer).unwrap().am_interested
    }
}

#[test]
fn few_peers_hear_at_once_or_of_the_pieces_of_a_moment_together() {
    const PEERS: u32 = 5;
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers: Vec<PeerId> = (1..=PEERS).map(|n| b.peer(torrent, n as u8)).collect();
    let all = |pieces: &[u32]| peers.iter().map(|peer| (*peer, pieces.to_vec())).collect::<Vec<_>>();
    let from = b.verified(torrent, 3, false);
    assert_eq!(told(&b, from), all(&[3]), "after a rest at once");
    let from = b.verified(torrent, 4, false);
    b.pass(HAVE_REST * (PEERS - 1));
    b.verified(torrent, 5, false);
    // One that is lost again meanwhile is not told of.
    b.verified(torrent, 6, false);
    b.s.torrents.get_mut(torrent).unwrap().picker.lose(6, true, 0);
    assert_eq!(told(&b, from), [], "not yet");
    b.pass(HAVE_REST);
    assert_eq!(told(&b, from), all(&[4, 5]));
    let from = b.verified(torrent, 7, false);
    assert_eq!(told(&b, from), []);
    b.verified(torrent, 8, true);
    assert_eq!(told(&b, from), all(&[7, 8]), "the last one at once");
    // The timer that is left over finds nothing to tell, and nothing is kept.
    let from = b.done.len();
    (0..3).for_each(|_| b.pass(HAVE_REST * (2 * PEERS)));
    assert_eq!(told(&b, from), []);
    assert!(b.s.torrents.get(torrent).unwrap().haves.is_empty());
}

#[test]
fn many_peers_have_their_turns_and_each_hears_once_of_all_that_it_lacks() {
    const PEERS: u32 = 100;
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let mut peers: Vec<PeerId> = (1..=PEERS).map(|n| b.peer(torrent, n as u8)).collect();
    b.has(peers[99], 20);
    let from = b.verified(torrent, 0, false);
    assert_eq!(told(&b, from).len(), HAVE_PEERS as usize, "a few at a time");
    let gone = peers.remove(50);
    b.tell(Event::Closed { peer: gone, why: Why::Eof });
    let mut most = 0;
    for piece in 1..30 {
        let before = b.done.len();
        b.verified(torrent, piece, false);
        if piece == 7 {
            let late = b.peer(torrent, 200);
            b.verified(torrent, 60, false);
            peers.push(late);
        }
        b.pass(HAVE_REST * HAVE_PEERS);
        most = most.max(told(&b, before).len());
    }
    let late = peers[99];
    (0..20).for_each(|_| b.pass(HAVE_REST * HAVE_PEERS));
    assert_eq!(most, HAVE_PEERS as usize, "and no more for each piece");
    let news = told(&b, from);
    for (n, peer) in peers.iter().enumerate() {
        let heard: Vec<u32> =
            news.iter().filter(|(to, _)| to == peer).flat_map(|(_, pieces)| pieces).copied().collect();
        let lacked: Vec<u32> =
            (0..30).chain([60]).filter(|n| *n >= if *peer == late { 8 } else { 0 }).collect();
        let due: BTreeSet<u32> = lacked.into_iter().filter(|piece| n != 98 || *piece >= 20).collect();
        assert_eq!(heard.len(), due.len(), "peer {n} hears of none twice: {heard:?}");
        assert_eq!(heard.into_iter().collect::<BTreeSet<u32>>(), due, "peer {n}");
    }
    assert!(news.len() < 600, "together: {}", news.len());
    assert!(b.s.torrents.get(torrent).unwrap().haves.is_empty());
}

#[test]
fn a_peer_that_has_nothing_more_for_us_is_of_no_interest_soon() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let (one, two, seed) = (b.peer(torrent, 1), b.peer(torrent, 2), b.source(torrent, 3));
    b.has(one, 2);
    b.has(two, 3);
    b.verified(torrent, 0, false);
    b.pass(HAVE_REST * 5);
    assert!(b.wants(one) && b.wants(two) && b.wants(seed));
    b.verified(torrent, 1, false);
    b.pass(HAVE_REST * 5);
    assert!(!b.wants(one) && b.wants(two) && b.wants(seed));
    // What it gets makes it interesting again, at once.
    b.tell(Event::Message { peer: one, message: Message::Have(9) });
    assert!(b.wants(one));
}

#[test]
fn who_stands_in_line_for_something_to_ask_for_and_leaves_is_forgotten() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers = [b.peer(torrent, 1), b.peer(torrent, 2)];
    for peer in peers {
        b.s.peers.get_mut(peer).unwrap().starved = true;
        b.s.torrents.get_mut(torrent).unwrap().starved.push_back(peer);
    }
    b.tell(Event::Closed { peer: peers[0], why: Why::Eof });
    assert_eq!(b.s.torrents.get(torrent).unwrap().starved, [peers[1]]);
}

#[test]
fn who_is_far_behind_hears_in_portions() {
    let mut haves = crate::session::haves::Haves::default();
    let peers = [PeerId::from_bits(1), PeerId::from_bits(2)];
    (0..10).for_each(|piece| haves.add(piece));
    assert_eq!((haves.next(&peers), haves.span(0)), (Some(peers[0]), 0..10));
    (10..3 * HAVES_MAX as u32).for_each(|piece| haves.add(piece));
    assert_eq!((haves.next(&peers), haves.span(10)), (Some(peers[1]), 10..10 + HAVES_MAX));
    // The round is over, and with it what both have heard of.
    assert_eq!((haves.next(&peers), haves.span(10).start), (Some(peers[0]), 10));
    assert_eq!(haves.pieces(10..12).collect::<Vec<_>>(), [10, 11]);
    assert_eq!(haves.span(0).start, 10, "what is forgotten, all have heard");
}
