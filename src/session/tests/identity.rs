//! Each torrent is known by an identity of its own.

use super::*;
use crate::api::Call;
use crate::session::identity::Identity;

/// The peer ids that were said to a peer.
fn said_to(b: &Bench, peer: PeerId) -> Vec<[u8; 20]> {
    let id = |action: &Action| match action {
        Action::Handshake { peer: to, handshake } if *to == peer => Some(handshake.peer_id),
        _ => None,
    };
    b.done.iter().filter_map(id).collect()
}

/// Peer id and key of the announces of a torrent.
fn announced(b: &Bench, of: TorrentId) -> Vec<([u8; 20], u32)> {
    let said = |action: &Action| match action {
        Action::Call(call) => match &**call {
            Call::Announce { torrent, request, .. } if *torrent == of => Some((request.peer_id, request.key)),
            _ => None,
        },
        _ => None,
    };
    b.done.iter().filter_map(said).collect()
}

#[test]
fn torrents_share_neither_peer_id_nor_key() {
    let mut b = Bench::new();
    let torrents = [b.seed("a"), b.seed("b")];
    let mut ids = Vec::new();
    for torrent in torrents {
        let announces = announced(&b, torrent);
        let (id, key) = announces[0];
        assert!(announces.iter().all(|said| *said == (id, key)), "{announces:?}");
        // Peers that come in and peers that are called hear the same, and hear it again later.
        let came = b.peer(torrent, 1 + ids.len() as u8);
        let called = b.called(torrent, SocketAddr::from(([10, 0, 1, 1 + ids.len() as u8], 6881)));
        assert_eq!((said_to(&b, came), said_to(&b, called)), (vec![id], vec![id]));
        b.pass(Duration::from_secs(2000));
        assert!(announced(&b, torrent).iter().all(|said| *said == (id, key)));
        ids.push((id, key));
    }
    assert!(ids[0].0 != ids[1].0 && ids[0].1 != ids[1].1, "{ids:?}");
    assert_eq!(ids[0].0[..8], ids[1].0[..8], "the client is the same");
}

#[test]
fn connection_to_ourselves_is_closed_by_the_identity_of_its_torrent() {
    let mut b = Bench::new();
    let (a, other) = (b.seed("a"), b.seed("b"));
    let id = |b: &Bench, torrent| b.s.torrents.get(torrent).unwrap().identity.peer_id();
    let (ours, others) = (id(&b, a), id(&b, other));
    let mut come = |n: u8, peer_id| {
        let peer = b.s.accept(SocketAddr::from(([10, 0, 0, n], 40_000)), b.now).unwrap();
        let info_hash = b.s.torrents.get(a).unwrap().spec.meta.info_hash;
        let handshake = Handshake { reserved: [0; 8], info_hash, peer_id };
        let from = b.tell(Event::Handshake { peer, handshake });
        b.position(from, |action| matches!(action, Action::Close { .. })).is_some()
    };
    assert!(come(1, ours));
    // Another client may have the id that we have in another swarm: here it is somebody.
    assert!(!come(2, others));
}

#[test]
fn peer_that_waits_with_its_id_is_answered_once() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    let come = |b: &mut Bench, n: u8, info_hash| {
        let peer = b.s.accept(SocketAddr::from(([10, 0, 0, n], 40_000)), b.now).unwrap();
        b.tell(Event::InfoHash { peer, info_hash });
        peer
    };
    let peer = come(&mut b, 1, info_hash);
    assert_eq!(said_to(&b, peer).len(), 1);
    b.tell(Event::Handshake { peer, handshake: Handshake { reserved: [0; 8], info_hash, peer_id: [1; 20] } });
    assert_eq!(said_to(&b, peer).len(), 1, "not again");
    assert!(b.s.torrents.get(torrent).unwrap().peers.contains(&peer));
    // A banned address gets no answer.
    b.s.torrents.get_mut(torrent).unwrap().known.ban(SocketAddr::from(([10, 0, 0, 3], 40_000)));
    let peer = come(&mut b, 3, info_hash);
    assert!(said_to(&b, peer).is_empty() && !b.s.peers.contains(peer));
    // A torrent that we do not have is no reason to wait for the rest.
    let peer = come(&mut b, 2, InfoHash([9; 20]));
    assert!(said_to(&b, peer).is_empty() && !b.s.peers.contains(peer));
}

#[test]
fn peers_hear_another_id_when_our_network_ended_connections_and_trackers_the_same() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let [first, second] = [1, 2].map(|n| b.peer(torrent, n));
    let id = said_to(&b, first);
    assert_eq!(said_to(&b, second), id);
    for peer in [first, second] {
        b.tell(Event::Closed { peer, why: Why::AddressGone });
    }
    // A remote that holds the old connection for a minute takes the new one for somebody else.
    let [third, fourth] = [3, 4].map(|n| b.peer(torrent, n));
    let new = said_to(&b, third);
    assert!(new != id && said_to(&b, fourth) == new, "one change for all of them");
    b.pass(Duration::from_secs(2000));
    assert!(announced(&b, torrent).iter().all(|(said, _)| [*said] == id[..]));
    let identity = b.s.torrents.get(torrent).unwrap().identity;
    assert!(identity.is_ours(&id[0]) && identity.is_ours(&new[0]));
}

#[test]
fn torrent_that_is_added_again_has_the_identity_that_it_had() {
    let identity = |info_hash, secret| {
        let identity = Identity::of(info_hash, secret);
        (identity.peer_id(), identity.key())
    };
    let (one, other) = (InfoHash([1; 20]), InfoHash([2; 20]));
    assert_eq!(identity(one, [7; 32]), identity(one, [7; 32]));
    assert!(identity(one, [7; 32]) != identity(other, [7; 32]));
    assert!(identity(one, [7; 32]) != identity(one, [8; 32]), "each run has its own");
}
