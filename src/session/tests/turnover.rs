//! Who makes way at a full table when somebody waits.

use super::*;
use crate::limits::{
    HALF_OPEN_MAX, HALF_OPEN_OTHERS, KEEPALIVE, REPLACE_AFTER, TURNOVER_AFTER, TURNOVER_CHOKED_AFTER,
};
use crate::proto::network::Network;

const PLACES: usize = 50;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A table with room for so many.
fn table(places: usize) -> Bench {
    let mut b = Bench::new();
    b.s.config.max_conn = places;
    b
}

/// Somebody comes in from there, says these messages, and is told if it has a place.
fn come(b: &mut Bench, torrent: TorrentId, from: SocketAddr, says: &[Message<'static>]) -> Option<PeerId> {
    let peer = b.s.accept(from, b.now)?;
    b.take();
    let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
    let mut peer_id = [0; 20];
    peer_id[..8].copy_from_slice(&b.s.rng.u64().to_be_bytes());
    b.tell(Event::Handshake { peer, handshake: Handshake { reserved: [0; 8], info_hash, peer_id } });
    for message in says {
        b.tell(Event::Message { peer, message: message.clone() });
    }
    b.s.peers.contains(peer).then_some(peer)
}

fn all() -> Message<'static> {
    Message::Bitfield(Cow::Owned(Bitfield::full(PIECES).as_bytes().to_vec()))
}

/// Peers in networks of their own, but for the last byte.
fn apart(n: usize) -> SocketAddr {
    SocketAddr::from(([20, n as u8, 1, 1], 40_000))
}

fn v4(n: usize) -> SocketAddr {
    SocketAddr::from(([30, 1, 1, n as u8], 40_000))
}

fn v6(n: usize) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 1, 2, 0, 0, 3, n as u16], 40_000))
}

/// So long passes; nobody is silent.
fn pass(b: &mut Bench, span: Duration) {
    let until = b.now + span;
    while b.now < until {
        b.pass(KEEPALIVE.min(until.since(b.now)));
        for peer in b.s.peers.ids().collect::<Vec<_>>() {
            b.tell(Event::Message { peer, message: Message::KeepAlive });
        }
    }
}

fn chokers(b: &mut Bench, torrent: TorrentId, count: usize, at: fn(usize) -> SocketAddr) -> Vec<PeerId> {
    (1..=count).map(|n| come(b, torrent, at(n), &[all()]).expect("there is room")).collect()
}

fn closed(b: &Bench, from: usize) -> Vec<PeerId> {
    let close = |action: &Action| match action {
        Action::Close { peer, .. } => Some(*peer),
        _ => None,
    };
    b.done[from..].iter().filter_map(close).collect()
}

/// The whole network calls again and again, and so does a seeder until it is in. Tells how long that takes.
fn siege(b: &mut Bench, torrent: TorrentId, at: fn(usize) -> SocketAddr, span: Duration) -> Option<Duration> {
    let (start, mut inside) = (b.now, None);
    while b.now.since(start) < span {
        for n in [1, 2, 3] {
            come(b, torrent, at(100 + n), &[all()]);
        }
        match inside {
            None => inside = come(b, torrent, apart(1), &[all()]).map(|peer| (peer, b.now.since(start))),
            Some((peer, _)) => assert!(b.s.peers.contains(peer), "it is driven out again"),
        }
        pass(b, Duration::from_secs(10));
    }
    inside.map(|(_, after)| after)
}

#[test]
fn seeder_gets_in_though_one_network_fills_the_table_and_chokes_for_ever() {
    for at in [v4, v6] {
        let mut b = table(PLACES);
        let torrent = b.open("a", Bitfield::new(PIECES));
        chokers(&mut b, torrent, PLACES, at);
        let after = siege(&mut b, torrent, at, 30 * MINUTE).expect("it gets in");
        assert!(after <= 2 * MINUTE, "{after:?}");
    }
}

#[test]
fn peers_that_unchoke_and_give_nothing_make_way_too() {
    for at in [v4, v6] {
        let mut b = table(PLACES);
        let torrent = b.open("a", Bitfield::new(PIECES));
        let says = [all(), Message::Unchoke];
        let liars: Vec<_> =
            (1..=PLACES).map(|n| come(&mut b, torrent, at(n), &says).expect("there is room")).collect();
        let (start, mut inside) = (b.now, None);
        while inside.is_none() && b.now.since(start) < 10 * MINUTE {
            pass(&mut b, 20 * SECOND);
            // Before they are late they choke, so that nothing is asked of them, and are ready again.
            for liar in &liars {
                for message in [Message::Choke, Message::Unchoke] {
                    b.tell(Event::Message { peer: *liar, message });
                }
            }
            inside = come(&mut b, torrent, apart(1), &[all()]);
        }
        assert!(inside.is_some(), "the seeder does not get in");
    }
}

#[test]
fn seeder_that_we_call_gets_in_too() {
    let mut b = table(PLACES);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let chokers = chokers(&mut b, torrent, PLACES, v6);
    pass(&mut b, 2 * REPLACE_AFTER);
    let result = Ok(Response { peers: vec![apart(1)], ..Response::default() });
    let from = b.tell(Event::Reply(Reply::Announced { torrent, tracker: 0, result }));
    b.pass(SECOND);
    let call = b.done[from..].iter().find_map(|action| match action {
        Action::Connect { peer, .. } => Some(*peer),
        _ => None,
    });
    let seeder = call.expect("it is called");
    assert_eq!(closed(&b, from), [], "before it answers nobody goes");
    b.tell(Event::Connected { peer: seeder });
    let gone = closed(&b, from);
    assert!(gone.len() == 1 && chokers.contains(&gone[0]), "{gone:?}");
}

#[test]
fn nobody_is_thrown_out_while_nobody_waits() {
    let mut b = table(PLACES);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let from = b.done.len();
    chokers(&mut b, torrent, PLACES, v6);
    pass(&mut b, 60 * MINUTE);
    assert_eq!(closed(&b, from), []);
    // Nor while there is room.
    b.s.config.max_conn = PLACES + 1;
    assert!(come(&mut b, torrent, apart(1), &[all()]).is_some());
    assert_eq!(closed(&b, from), []);
}

#[test]
fn peer_that_gave_nothing_for_minutes_makes_way_and_a_useful_one_does_not() {
    let mut b = table(8);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers = chokers(&mut b, torrent, 8, apart);
    let (useful, useless) = peers.split_at(4);
    let mut gone = Vec::new();
    for second in 0..TURNOVER_AFTER.as_secs() + 100 {
        for peer in useful {
            b.s.peers.get_mut(*peer).unwrap().active = b.now;
        }
        let from = b.done.len();
        let newcomer = come(&mut b, torrent, apart(100 + second as usize % 100), &[all()]);
        gone.extend(closed(&b, from));
        if second < TURNOVER_AFTER.as_secs() {
            assert_eq!((newcomer, gone.len()), (None, 0), "{second}: they had no time to give anything");
        }
        pass(&mut b, SECOND);
    }
    gone.sort_unstable();
    assert_eq!(gone, useless);
}

#[test]
fn peer_that_unchokes_us_stays_though_it_is_not_asked() {
    let mut b = table(8);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers = chokers(&mut b, torrent, 8, apart);
    let from = b.done.len();
    pass(&mut b, 10 * MINUTE);
    b.s.peers.get_mut(peers[0]).unwrap().choking = false;
    for n in 0..20 {
        come(&mut b, torrent, apart(100 + n), &[all()]);
    }
    assert!(closed(&b, from).contains(&peers[1]) && b.s.peers.contains(peers[0]));
}

#[test]
fn only_peer_that_could_serve_stays() {
    let mut b = table(8);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let seeder = come(&mut b, torrent, apart(1), &[all()]).unwrap();
    for n in 2..=8 {
        come(&mut b, torrent, apart(n), &[Message::Interested]).unwrap();
    }
    for n in 0..60 {
        pass(&mut b, MINUTE);
        come(&mut b, torrent, apart(100 + n), &[Message::Interested]);
        assert!(b.s.peers.contains(seeder), "after {n} minutes");
    }
    assert!(closed(&b, 0).len() >= 8, "the others have changed");
    // With a second one it is one of many.
    for n in 0..20 {
        pass(&mut b, MINUTE);
        come(&mut b, torrent, apart(200 + n), &[all()]);
    }
    assert!(!b.s.peers.contains(seeder));
}

#[test]
fn newcomer_takes_no_place_of_a_network_with_fewer() {
    let mut b = table(8);
    let torrent = b.open("a", Bitfield::new(PIECES));
    chokers(&mut b, torrent, 6, apart);
    let crowd = [v4(1), v4(2)].map(|from| come(&mut b, torrent, from, &[all()]).unwrap());
    pass(&mut b, 10 * MINUTE);
    let from = b.done.len();
    assert!(come(&mut b, torrent, v4(3), &[all()]).is_some());
    let gone = closed(&b, from);
    assert!(gone.len() == 1 && crowd.contains(&gone[0]), "{gone:?}");
}

#[test]
fn peer_that_waits_for_an_upload_slot_is_given_more_time() {
    let mut b = table(8);
    let torrent = b.seed("a");
    b.s.config.max_upload = 0;
    (1..=8).for_each(|n| _ = come(&mut b, torrent, apart(n), &[Message::Interested]).unwrap());
    let from = b.done.len();
    pass(&mut b, TURNOVER_AFTER + MINUTE);
    assert_eq!(come(&mut b, torrent, apart(100), &[Message::Interested]), None);
    assert_eq!(closed(&b, from), []);
    pass(&mut b, TURNOVER_CHOKED_AFTER);
    assert!(come(&mut b, torrent, apart(100), &[Message::Interested]).is_some());
    assert_eq!(closed(&b, from).len(), 1);
}

#[test]
fn flood_of_one_network_does_not_drive_out_a_stranger_of_another() {
    let mut b = table(PLACES);
    let torrent = b.open("a", Bitfield::new(PIECES));
    chokers(&mut b, torrent, PLACES - 2, v6);
    let stranger = b.s.accept(apart(1), b.now).unwrap();
    for n in 0..200 {
        b.s.accept(v6(100 + n), b.now);
    }
    b.take();
    assert!(b.s.peers.contains(stranger) && b.s.peers.len() == PLACES);
}

#[test]
fn ports_of_the_loopback_device_are_no_crowd() {
    let mut b = table(8);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let local = |n: usize| SocketAddr::from(([127, 0, 0, 1], 40_000 + n as u16));
    chokers(&mut b, torrent, 8, local);
    pass(&mut b, REPLACE_AFTER + MINUTE);
    let from = b.done.len();
    come(&mut b, torrent, apart(1), &[all()]);
    assert_eq!(closed(&b, from), [], "each is one client, and has its minutes");
}

#[test]
fn connections_are_off_the_account_when_they_end() {
    let mut b = table(PLACES);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers = chokers(&mut b, torrent, PLACES, v6);
    let network = Network::of(v6(1));
    assert_eq!(b.s.networks.count(network), PLACES);
    for peer in peers {
        b.tell(Event::Closed { peer, why: Why::Eof });
    }
    let called = b.called(torrent, v6(7));
    assert_eq!((b.s.networks.count(network), b.s.half_open_networks.count(network)), (1, 0));
    b.tell(Event::Closed { peer: called, why: Why::Eof });
    assert_eq!((b.s.networks.count(network), b.s.half_open_networks.count(network)), (0, 0));
}

#[test]
fn calls_to_one_network_leave_room_for_calls_to_others() {
    let mut b = table(1000);
    let torrent = b.open("a", Bitfield::new(PIECES));
    let name = |b: &mut Bench, addrs: &[SocketAddr]| {
        let known = &mut b.s.torrents.get_mut(torrent).unwrap().known;
        addrs.iter().for_each(|addr| assert!(known.add(*addr, known::Source::Tracker, b.now)));
        b.s.arm_torrent(torrent, b.now);
    };
    let called = |b: &Bench, from: usize| -> Vec<SocketAddr> {
        let call = |action: &Action| match action {
            Action::Connect { addr, .. } => Some(*addr),
            _ => None,
        };
        let mut called: Vec<_> = b.done[from..].iter().filter_map(call).collect();
        called.sort_unstable();
        called
    };
    name(&mut b, &(1..=500).map(v6).collect::<Vec<_>>());
    for _ in 0..10 {
        b.pass(SECOND);
        assert_eq!(b.s.half_open, HALF_OPEN_MAX - HALF_OPEN_OTHERS);
    }
    let others: Vec<SocketAddr> = (1..=HALF_OPEN_OTHERS).map(apart).collect();
    let from = b.done.len();
    name(&mut b, &others);
    b.pass(SECOND);
    assert_eq!(called(&b, from), others);
    // The rest have their turn as those time out and are called again in between.
    for _ in 0..30 * 60 {
        b.pass(SECOND);
    }
    let mut theirs = called(&b, 0);
    theirs.retain(SocketAddr::is_ipv6);
    theirs.dedup();
    assert_eq!(theirs.len(), 500);
}
