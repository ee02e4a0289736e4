//! Who has the places of the connection table.

use super::*;
use crate::limits::{CALLS_BEYOND, CLAIMS_OUT, CONNECT_TIMEOUT, INACTIVITY, REPLACE_AFTER};

const PLACES: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// A download with so few places.
fn narrow() -> (Bench, TorrentId) {
    let mut b = Bench::new();
    b.s.config.max_conn = PLACES;
    let torrent = b.open("a", Bitfield::new(PIECES));
    (b, torrent)
}

/// A tracker names addresses at which nobody may be.
fn name(b: &mut Bench, torrent: TorrentId, count: u8) {
    let peers = (0..count).map(|n| SocketAddr::from(([11, 0, 0, n], 6881))).collect();
    let result = Ok(Response { peers, interval: Duration::from_secs(9999), ..Response::default() });
    b.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
}

fn calls(b: &Bench, from: usize) -> Vec<PeerId> {
    let call = |action: &Action| match action {
        Action::Connect { peer, .. } => Some(*peer),
        _ => None,
    };
    b.done[from..].iter().filter_map(call).collect()
}

fn closed(b: &Bench, from: usize) -> Vec<PeerId> {
    let close = |action: &Action| match action {
        Action::Close { peer, .. } => Some(*peer),
        _ => None,
    };
    b.done[from..].iter().filter_map(close).collect()
}

#[test]
fn nobody_goes_for_the_sake_of_a_call_but_for_one_that_is_answered() {
    let (mut b, torrent) = narrow();
    let peers: Vec<PeerId> = (1..=PLACES as u8).map(|n| b.peer(torrent, n)).collect();
    name(&mut b, torrent, 200);
    let from = b.done.len();
    for _ in 0..REPLACE_AFTER.as_secs() - 1 {
        b.pass(SECOND);
    }
    assert_eq!(calls(&b, from), [], "nobody has been of no use for long");
    let spans = 1 + CONNECT_TIMEOUT.as_secs() * 3;
    assert!(REPLACE_AFTER.as_secs() + spans < INACTIVITY.as_secs());
    for _ in 0..spans {
        b.pass(SECOND);
        let out = b.s.half_open;
        assert!(out <= CLAIMS_OUT && b.s.peers.len() == PLACES + out, "{out}");
    }
    // Dead, all of them.
    let called = calls(&b, from);
    assert!((3 * CLAIMS_OUT..=4 * CLAIMS_OUT).contains(&called.len()), "{}", called.len());
    assert!(closed(&b, from).iter().all(|peer| called.contains(peer)));
    // Somebody is there.
    let answered = *called.last().unwrap();
    let from = b.tell(Event::Connected { peer: answered });
    let gone = closed(&b, from);
    assert!(gone.len() == 1 && peers.contains(&gone[0]), "{gone:?}");
    assert!(b.position(from, |a| matches!(a, Action::Handshake { peer, .. } if *peer == answered)).is_some());
}

#[test]
fn who_comes_in_is_not_kept_out_by_calls() {
    let (mut b, torrent) = narrow();
    name(&mut b, torrent, 200);
    let called = calls(&b, 0);
    assert_eq!(called.len(), PLACES);
    for n in 1..=PLACES as u8 {
        b.pass(SECOND);
        b.peer(torrent, n);
        assert!(b.s.peers.len() <= PLACES + CALLS_BEYOND);
    }
    let open = b.s.torrents.get(torrent).unwrap().peers.len();
    assert_eq!((open, closed(&b, 0)), (PLACES, called[..2].to_vec()));
    // Nobody makes room: all came a moment ago.
    let from = b.tell(Event::Connected { peer: called[5] });
    assert_eq!(closed(&b, from), [called[5]]);
    assert_eq!(b.s.accept(SocketAddr::from(([10, 0, 1, 1], 40_000)), b.now), None);
    assert_eq!(b.s.peers.len() - b.s.half_open, PLACES);
}
