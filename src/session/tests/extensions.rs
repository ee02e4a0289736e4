//! The extension protocol (BEP 10).

use super::*;
use crate::limits::{EXTENDED_HANDSHAKES_MAX, REQUESTS_IN_TOLD};
use crate::proto::extended::{self, Extension};
use crate::proto::wire::handshake::EXTENSION_BIT;

const BITS: [u8; 8] = [0, 0, 0, 0, 0, EXTENSION_BIT, 0, 0];

/// What it was sent of the extension protocol since `from`: ids and bodies.
fn told(b: &Bench, from: usize, to: PeerId) -> Vec<(u8, Vec<u8>)> {
    let extended = |action: &Action| match action {
        Action::Send { peer, message: Message::Extended { id, body } } if *peer == to => {
            Some((*id, body.to_vec()))
        }
        _ => None,
    };
    b.done[from..].iter().filter_map(extended).collect()
}

fn extended<'a>(peer: PeerId, id: u8, body: &'a [u8]) -> Event<'a> {
    Event::Message { peer, message: Message::Extended { id, body: Cow::Borrowed(body) } }
}

fn spoken(b: &Bench, peer: PeerId) -> &crate::session::extensions::Spoken {
    &b.s.peers.get(peer).unwrap().spoken
}

/// Every piece is here now.
fn complete(b: &mut Bench, torrent: TorrentId) {
    for piece in 0..PIECES {
        let verdict = crate::api::Verdict::Good { differed: vec![] };
        b.tell(Event::Done { lane: 0, done: Done::Piece { torrent, piece, verdict } });
    }
}

#[test]
fn our_handshake_tells_who_we_are_and_what_we_take() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let before = b.done.len();
    let peer = b.peer_with(torrent, 1, 1, BITS);
    let bit = |a: &Action| matches!(a, Action::Handshake { handshake, .. } if handshake.has_extensions());
    assert!(b.position(before, bit).is_some());
    let said = told(&b, before, peer);
    let [(0, body)] = &said[..] else { panic!("not one handshake: {said:?}") };
    let ours = extended::Handshake::decode(body).unwrap();
    assert_eq!(ours.client(), Some(format!("ptorrent {}", env!("CARGO_PKG_VERSION"))));
    assert_eq!((ours.p, ours.reqq), (Some(6881), Some(REQUESTS_IN_TOLD)));
    assert_eq!(ours.yourip, Some([10, 0, 0, 1].into()));
    assert_eq!(ours.upload_only, Some(false));
    for extension in Extension::ALL {
        let id = b.s.offers(torrent, extension).then(|| extension.id());
        assert_eq!(ours.ids.named(extension), id, "{extension:?}");
    }
    let before = b.done.len();
    let plain = b.peer(torrent, 2);
    assert!(told(&b, before, plain).is_empty(), "it does not speak it");
}

#[test]
fn a_later_handshake_updates_and_0_disables() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, BITS);
    assert!(!b.s.send_extended(peer, Extension::UploadOnly, vec![1], b.now), "it did not name it");
    b.tell(extended(peer, 0, b"d1:md11:upload_onlyi200ee4:reqqi77e1:v6:Thing\x1be"));
    assert_eq!(
        (spoken(&b, peer).reqq, spoken(&b, peer).client.as_deref()),
        (Some(77), Some("Thing\u{fffd}"))
    );
    let before = b.tell(extended(peer, 0, b"d13:metadata_sizei5e11:upload_onlyi1ee"));
    assert_eq!((spoken(&b, peer).reqq, spoken(&b, peer).metadata_size), (Some(77), Some(5)));
    assert!(spoken(&b, peer).upload_only);
    assert!(b.s.send_extended(peer, Extension::UploadOnly, vec![1], b.now));
    b.take();
    assert_eq!(told(&b, before, peer), [(200, vec![1])]);
    b.tell(extended(peer, 0, b"d1:md11:upload_onlyi0eee"));
    assert!(!b.s.send_extended(peer, Extension::UploadOnly, vec![1], b.now));
}

#[test]
fn what_is_unknown_is_passed_over_and_what_is_wrong_is_not() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, BITS);
    for id in [5, 77, 255] {
        b.tell(extended(peer, id, &[0xff; 9000]));
    }
    for body in [&b"garbage"[..], b"", b"le", b"d1:m"] {
        b.tell(extended(peer, 0, body));
    }
    assert!(b.s.peers.contains(peer));
    b.tell(extended(peer, Extension::UploadOnly.id(), &[1]));
    assert!(spoken(&b, peer).upload_only);
    b.tell(extended(peer, Extension::UploadOnly.id(), &[0]));
    assert!(!spoken(&b, peer).upload_only);
    for (n, body) in [(2, &[][..]), (3, &[1, 1][..]), (4, &[1; 9000][..])] {
        let peer = b.peer_with(torrent, n, n, BITS);
        b.tell(extended(peer, Extension::UploadOnly.id(), body));
        assert!(!b.s.peers.contains(peer), "{} bytes", body.len());
    }
    let plain = b.peer(torrent, 5);
    b.tell(extended(plain, 0, b"de"));
    assert!(!b.s.peers.contains(plain), "it has not said that it speaks it");
    for n in 4..=EXTENDED_HANDSHAKES_MAX {
        assert!(b.s.peers.contains(peer), "{n}");
        b.tell(extended(peer, 0, b"de"));
    }
    assert!(!b.s.peers.contains(peer), "handshakes without end");
}

#[test]
fn peers_hear_when_we_want_nothing_more() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let (with, without) = (b.peer_with(torrent, 1, 1, BITS), b.peer_with(torrent, 2, 2, BITS));
    let plain = b.peer(torrent, 3);
    b.tell(extended(with, 0, b"d1:md11:upload_onlyi9eee"));
    let before = b.done.len();
    complete(&mut b, torrent);
    assert_eq!(told(&b, before, with), [(9, vec![1])]);
    let again = told(&b, before, without);
    let [(0, body)] = &again[..] else { panic!("not one handshake: {again:?}") };
    assert_eq!(extended::Handshake::decode(body).unwrap().upload_only, Some(true));
    assert!(told(&b, before, plain).is_empty());
    let late = b.peer_with(torrent, 4, 4, BITS);
    let said = told(&b, before, late);
    assert_eq!(extended::Handshake::decode(&said[0].1).unwrap().upload_only, Some(true));
}

fn closed(b: &Bench, from: usize, peer: PeerId) -> Option<Why> {
    b.done[from..].iter().find_map(|action| match action {
        Action::Close { peer: closed, why } if *closed == peer => Some(*why),
        _ => None,
    })
}

#[test]
fn two_that_want_nothing_more_part() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let (early, plain) = (b.peer_with(torrent, 1, 1, BITS), b.peer_with(torrent, 2, 2, BITS));
    b.tell(extended(early, 0, b"d11:upload_onlyi1ee"));
    assert!(b.s.peers.contains(early), "it may have what we want");
    let before = b.done.len();
    complete(&mut b, torrent);
    assert_eq!(closed(&b, before, early), Some(Why::BothSeeds));
    assert!(b.s.peers.contains(plain));
    let before = b.tell(extended(plain, Extension::UploadOnly.id(), &[1]));
    assert_eq!(closed(&b, before, plain), Some(Why::BothSeeds));
    let late = b.peer_with(torrent, 3, 3, BITS);
    let before = b.tell(extended(late, 0, b"d11:upload_onlyi1ee"));
    assert_eq!(closed(&b, before, late), Some(Why::BothSeeds));
}

#[test]
fn what_a_peer_keeps_bounds_what_it_is_asked() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, BITS);
    b.tell(extended(peer, 0, b"d4:reqqi2ee"));
    let full = Bitfield::full(PIECES);
    b.tell(Event::Message { peer, message: Message::Bitfield(Cow::Borrowed(full.as_bytes())) });
    b.tell(Event::Message { peer, message: Message::Unchoke });
    assert_eq!(b.s.peers.get(peer).unwrap().asked.len(), 2);
    let other = b.source(torrent, 2);
    assert!(b.s.peers.get(other).unwrap().asked.len() > 2);
}

#[test]
fn who_called_us_is_called_where_it_listens() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 1, 1, BITS);
    b.tell(extended(peer, 0, b"d1:pi7777ee"));
    b.tell(extended(peer, 0, b"d1:pi7778ee"));
    let home = SocketAddr::from(([10, 0, 0, 1], 7777));
    let dialled = |b: &Bench, from: usize| {
        let connect = |action: &Action| match action {
            Action::Connect { addr, .. } => Some(*addr),
            _ => None,
        };
        b.done[from..].iter().filter_map(connect).collect::<Vec<_>>()
    };
    b.pass(Duration::from_secs(120));
    assert!(dialled(&b, 0).is_empty(), "it is connected");
    b.tell(Event::Closed { peer, why: Why::Eof });
    b.pass(Duration::from_secs(120));
    b.pass(Duration::from_secs(1));
    assert_eq!(dialled(&b, 0), [home], "once, and at the first port that it named");

    let mut private = Arc::into_inner(spec("b")).unwrap();
    private.meta.private = true;
    let torrent = b.add(Arc::new(private), Bitfield::new(PIECES));
    let peer = b.peer_with(torrent, 2, 2, BITS);
    b.tell(extended(peer, 0, b"d1:pi7777ee"));
    b.tell(Event::Closed { peer, why: Why::Eof });
    let from = b.done.len();
    b.pass(Duration::from_secs(120));
    b.pass(Duration::from_secs(1));
    assert!(
        !dialled(&b, from).iter().any(|addr| addr.ip() != home.ip()),
        "a private one knows its trackers alone"
    );
}

#[test]
fn privileged_port_in_an_extended_handshake_is_not_called() {
    let mut b = Bench::new();
    b.s.config.pex = true;
    let torrent = b.open("a", Bitfield::new(PIECES));
    let (peer, other) = (b.peer_with(torrent, 1, 1, BITS), b.peer_with(torrent, 2, 2, BITS));
    let mut said = Vec::new();
    for port in [80, 1023] {
        b.tell(extended(peer, 0, format!("d1:pi{port}ee").as_bytes()));
        said.push(spoken(&b, peer).port);
    }
    assert_eq!(said, [None, None]);
    let from = b.tell(extended(other, 0, b"d1:md6:ut_pexi9eee"));
    b.pass(Duration::from_secs(10));
    assert_eq!(told(&b, from, other).iter().filter(|(id, _)| *id == 9).count(), 0, "nobody else hears of it");
    b.tell(Event::Closed { peer, why: Why::Eof });
    for _ in 0..200 {
        b.pass(Duration::from_secs(1));
    }
    assert!(!b.done.iter().any(|action| matches!(action, Action::Connect { .. })));
    let peer = b.peer_with(torrent, 1, 1, BITS);
    b.tell(extended(peer, 0, b"d1:pi1024ee"));
    assert_eq!(spoken(&b, peer).port, Some(1024));
}
