//! When peers hear of new pieces.

use super::*;
use crate::limits::HAVE_REST;

/// The pieces that peers were told of since `from`, and how many messages there were.
fn told(b: &Bench, from: usize) -> (Vec<u32>, usize) {
    let have = |action: &Action| match action {
        Action::Send { message: Message::Have(piece), .. } => Some(*piece),
        _ => None,
    };
    let mut pieces: Vec<u32> = b.done[from..].iter().filter_map(have).collect();
    let count = pieces.len();
    pieces.sort_unstable();
    pieces.dedup();
    (pieces, count)
}

impl Bench {
    fn verified(&mut self, torrent: TorrentId, piece: u32, last: bool) -> usize {
        let from = self.done.len();
        self.s.torrents.get_mut(torrent).unwrap().picker.set_have(piece);
        self.s.announce_piece(torrent, piece, last, self.now);
        self.take();
        from
    }
}

#[test]
fn many_peers_hear_of_the_pieces_of_a_moment_together_and_of_the_last_at_once() {
    const PEERS: u32 = 40;
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    for n in 1..=PEERS {
        b.peer(torrent, n as u8);
    }
    let from = b.verified(torrent, 3, false);
    assert_eq!(told(&b, from), (vec![3], PEERS as usize), "after a rest at once");
    let from = b.verified(torrent, 4, false);
    b.pass(HAVE_REST * (PEERS / 2));
    b.verified(torrent, 5, false);
    assert_eq!(told(&b, from).1, 0, "not yet");
    // One that is lost again meanwhile is not told of.
    b.verified(torrent, 6, false);
    b.s.torrents.get_mut(torrent).unwrap().picker.lose(6, true, 0);
    b.pass(HAVE_REST * (PEERS / 2));
    assert_eq!(told(&b, from), (vec![4, 5], 2 * PEERS as usize));
    let from = b.verified(torrent, 7, false);
    assert_eq!(told(&b, from).1, 0);
    b.verified(torrent, 8, true);
    assert_eq!(told(&b, from), (vec![7, 8], 2 * PEERS as usize));
    // The timer that is left over finds nothing to tell.
    let from = b.done.len();
    b.pass(HAVE_REST * (2 * PEERS));
    assert_eq!(told(&b, from).1, 0);
}
