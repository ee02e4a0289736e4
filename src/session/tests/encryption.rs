//! Which connections are encrypted, and what happens when that fails.

use super::*;
use crate::limits::{MSE_TIMEOUT, REDIAL};
use crate::proto::mse::{Method, Methods, request_name};
use std::io::ErrorKind;

const ADDR: &str = "10.0.0.9:6881";

fn bench(encryption: Encryption) -> (Bench, TorrentId) {
    let mut b = Bench::new();
    b.s.config.encryption = encryption;
    let torrent = b.open("a", Bitfield::new(PIECES));
    (b, torrent)
}

impl Bench {
    /// The call that was made since, reached: who, and whether it begins with an encrypted handshake.
    fn call(&mut self, from: usize) -> Option<(PeerId, Option<Methods>)> {
        let peer = self.done[from..].iter().find_map(|action| match action {
            Action::Connect { peer, addr } => {
                assert_eq!(addr.to_string(), ADDR);
                Some(*peer)
            }
            _ => None,
        })?;
        let from = self.tell(Event::Connected { peer });
        let said: Vec<&Action> = self.done[from..].iter().collect();
        let offers = match &said[..] {
            [Action::Encrypt { methods, .. }, Action::Handshake { .. }] => Some(*methods),
            [Action::Handshake { .. }] => None,
            other => panic!("{other:?}"),
        };
        Some((peer, offers))
    }

    fn named(&mut self, torrent: TorrentId) -> usize {
        let result = Ok(Response { peers: vec![ADDR.parse().unwrap()], ..Response::default() });
        self.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }))
    }

    fn shakes_hands(&mut self, torrent: TorrentId, peer: PeerId, id: u8) -> usize {
        let info_hash = self.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
        self.tell(Event::Handshake {
            peer,
            handshake: Handshake { reserved: [0; 8], info_hash, peer_id: [id; 20] },
        })
    }

    fn ends(&mut self, peer: PeerId, why: Why) -> usize {
        self.tell(Event::Closed { peer, why })
    }

    /// Time passes until the address is called again.
    fn later(&mut self) -> (PeerId, Option<Methods>) {
        let from = self.done.len();
        while self.position(from, |action| matches!(action, Action::Connect { .. })).is_none() {
            assert!(self.now < Time(10_000_000_000), "it is not called again");
            self.pass(Duration::from_secs(1));
        }
        self.call(from).unwrap()
    }

    fn closed(&self, from: usize) -> Option<Why> {
        self.done[from..].iter().find_map(|action| match action {
            Action::Close { why, .. } => Some(*why),
            _ => None,
        })
    }
}

#[test]
fn a_failed_encrypted_handshake_is_followed_by_one_in_the_clear_and_counts_once() {
    for why in [Why::Eof, Why::Io(ErrorKind::ConnectionReset), Why::Protocol("garbage")] {
        let (mut b, torrent) = bench(Encryption::Enabled);
        let from = b.named(torrent);
        let (first, offers) = b.call(from).unwrap();
        assert_eq!(offers, Some(Methods::ANY));
        let from = b.ends(first, why);
        let (second, offers) = b.call(from).expect("it is called again at once");
        assert_eq!(offers, None);
        let from = b.ends(second, why);
        assert!(b.call(from).is_none(), "a third call");
        // One failure: the next call comes after the first wait, and tries both ways again.
        let before = b.now;
        let (third, offers) = b.later();
        assert!(b.now.since(before) <= REDIAL * 5 / 4 + Duration::from_secs(1));
        assert_eq!(offers, Some(Methods::ANY));
        let from = b.ends(third, why);
        assert_eq!(b.call(from).unwrap().1, None);
    }
}

#[test]
fn who_cannot_be_reached_is_called_once() {
    let (mut b, torrent) = bench(Encryption::Enabled);
    let from = b.named(torrent);
    let peer = b.done[from..].iter().find_map(|action| match action {
        Action::Connect { peer, .. } => Some(*peer),
        _ => None,
    });
    let from = b.ends(peer.unwrap(), Why::Unreachable(ErrorKind::ConnectionRefused));
    assert!(b.call(from).is_none());
    assert_eq!(b.later().1, Some(Methods::ANY));
}

#[test]
fn silence_after_an_encrypted_handshake_ends_in_a_call_in_the_clear() {
    let (mut b, torrent) = bench(Encryption::Enabled);
    let from = b.named(torrent);
    b.call(from).unwrap();
    b.pass(MSE_TIMEOUT - Duration::from_millis(1));
    let from = b.done.len();
    b.pass(Duration::from_millis(1));
    assert_eq!(b.closed(from), Some(Why::Timeout));
    assert_eq!(b.call(from).unwrap().1, None);
}

#[test]
fn what_worked_is_done_again_first() {
    // In the clear.
    let (mut b, torrent) = bench(Encryption::Enabled);
    let from = b.named(torrent);
    let first = b.call(from).unwrap().0;
    let from = b.ends(first, Why::Eof);
    let second = b.call(from).unwrap().0;
    b.shakes_hands(torrent, second, 9);
    b.ends(second, Why::Eof);
    let (third, offers) = b.later();
    assert_eq!(offers, None);
    // It does so no more: the next call tries the other way.
    let from = b.ends(third, Why::Eof);
    assert!(b.call(from).is_none());
    assert_eq!(b.later().1, Some(Methods::ANY));
    // Encrypted.
    let (mut b, torrent) = bench(Encryption::Enabled);
    let from = b.named(torrent);
    let first = b.call(from).unwrap().0;
    b.tell(Event::Encrypted { peer: first, method: Method::Plain });
    b.shakes_hands(torrent, first, 9);
    b.ends(first, Why::Eof);
    let (second, offers) = b.later();
    assert_eq!(offers, Some(Methods::ANY));
    let from = b.ends(second, Why::Eof);
    assert!(b.call(from).is_none(), "it is encrypted, and has gone");
}

#[test]
fn an_address_that_is_connected_is_not_called_again_in_haste() {
    let (mut b, torrent) = bench(Encryption::Enabled);
    let from = b.named(torrent);
    let ours = b.call(from).unwrap().0;
    // It has called us meanwhile, and drops the other one of the two connections.
    let theirs = b.peer(torrent, 9);
    assert!(b.s.peers.contains(theirs));
    let from = b.ends(ours, Why::Eof);
    assert!(b.call(from).is_none());
    b.ends(theirs, Why::Eof);
    assert_eq!(b.later().1, None);
}

#[test]
fn required_takes_rc4_only_and_falls_back_to_nothing() {
    let (mut b, torrent) = bench(Encryption::Required);
    let from = b.named(torrent);
    let (first, offers) = b.call(from).unwrap();
    assert_eq!(offers, Some(Methods::RC4));
    let from = b.ends(first, Why::Eof);
    assert!(b.call(from).is_none());
    assert_eq!(b.later().1, Some(Methods::RC4));
    for (n, method, due) in [
        (1, None, Some(Why::Unencrypted)),
        (2, Some(Method::Plain), Some(Why::Unencrypted)),
        (3, Some(Method::Rc4), None),
    ] {
        let from = SocketAddr::from(([10, 0, 0, n], 40_000));
        let peer = b.s.accept(from, b.now).unwrap();
        if let Some(method) = method {
            b.tell(Event::Encrypted { peer, method });
        }
        let from = b.shakes_hands(torrent, peer, n);
        assert_eq!(b.closed(from), due, "{method:?}");
    }
}

#[test]
fn disabled_offers_nothing() {
    let (mut b, torrent) = bench(Encryption::Disabled);
    let from = b.named(torrent);
    let (first, offers) = b.call(from).unwrap();
    assert_eq!(offers, None);
    let from = b.ends(first, Why::Eof);
    assert!(b.call(from).is_none());
}

#[test]
fn a_torrent_is_found_by_its_requested_name_while_it_runs() {
    let (mut b, torrent) = bench(Encryption::Enabled);
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    let name = request_name(info_hash);
    assert_eq!((b.s.requested(&name), b.s.requested(&[0; 20])), (Some(info_hash), None));
    b.tell(Event::Command(Command::Pause { number: 0 }));
    assert_eq!(b.s.requested(&name), None);
    b.tell(Event::Command(Command::Remove { number: 0 }));
    assert!(b.s.by_request.is_empty());
}
