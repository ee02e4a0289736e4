//! Torrents and our node of the DHT.

use super::*;
use crate::api::{Call, DhtSetup, Reply};
use crate::dht::ident;
use crate::limits::DHT_PORTS_A_SECOND;
use crate::proto::krpc::{self, Body, Method, Response, Values, put_value};
use crate::proto::wire::handshake::DHT_BIT;

/// A node that is reached at once.
const ROUTER: &str = "9.8.7.6:5";

fn setup(bootstrap: &[(&str, u16)]) -> Event<'static> {
    let bootstrap = bootstrap.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
    let setup = DhtSetup { v4: true, v6: false, loopback: false, bootstrap, saved: Vec::new() };
    Event::Command(Command::Dht(Box::new(setup)))
}

/// Queries that went out since `from`: where to, what, and with which transaction.
fn asked(b: &Bench, from: usize) -> Vec<(SocketAddr, String, Vec<u8>)> {
    let query = |action: &Action| match action {
        Action::Datagram { to, data } if data.first() == Some(&b'd') => {
            let message = krpc::decode(data).unwrap();
            let Body::Query(query) = message.body else { return None };
            let name = match query.method {
                Method::Ping => "ping",
                Method::FindNode { .. } => "find_node",
                Method::GetPeers { .. } => "get_peers",
                Method::AnnouncePeer { .. } => "announce_peer",
                _ => "other",
            };
            Some((*to, name.to_owned(), message.tid.to_vec()))
        }
        _ => None,
    };
    b.done[from..].iter().filter_map(query).collect()
}

/// The node at this address answers all it was asked since `from`, with these peers.
fn answer(b: &mut Bench, from: usize, peers: &[&str]) {
    let mut list = b"l".to_vec();
    peers.iter().for_each(|peer| put_value(peer.parse().unwrap(), &mut list));
    list.push(b'e');
    for (to, name, tid) in asked(b, from) {
        let id = ident::new_id(Some(to.ip()), &mut Rng::new([9; 32]));
        let mut response = Response::new(id);
        if name == "get_peers" {
            (response.token, response.values) = (Some(&b"token"[..]), Some(Values::encoded(&list)));
        }
        let body = Body::Response(response);
        let data = krpc::Message { tid: &tid, version: None, ip: None, body }.encode();
        b.tell(Event::Datagram { from: to, data: &data });
    }
}

fn private(name: &str) -> Arc<Spec> {
    let mut spec = Arc::into_inner(spec(name)).unwrap();
    spec.meta.private = true;
    Arc::new(spec)
}

#[test]
fn a_torrent_finds_peers_announces_itself_and_calls_them() {
    let mut b = Bench::new();
    b.tell(setup(&[("9.8.7.6", 5)]));
    answer(&mut b, 0, &[]);
    let from = b.done.len();
    b.open("a", Bitfield::new(PIECES));
    assert_eq!(asked(&b, from).iter().map(|(.., name, _)| name.as_str()).collect::<Vec<_>>(), ["get_peers"]);
    let next = b.done.len();
    answer(&mut b, from, &["5.5.5.5:55"]);
    let told: Vec<_> = asked(&b, next).into_iter().map(|(to, name, _)| (to.to_string(), name)).collect();
    assert_eq!(told, [(ROUTER.to_owned(), "announce_peer".to_owned())]);
    let calls = |action: &Action| matches!(action, Action::Connect { addr, .. } if addr.port() == 55);
    assert!(b.position(next, calls).is_some(), "the peer is called");
    // Again after 15 minutes at most.
    let next = b.done.len();
    for _ in 0..16 * 60 {
        let from = b.done.len();
        b.pass(Duration::from_secs(1));
        answer(&mut b, from, &[]);
    }
    assert!(asked(&b, next).iter().any(|(.., name, _)| name == "get_peers"));
}

#[test]
fn private_torrents_never_come_near_it() {
    let mut b = Bench::new();
    b.tell(setup(&[("9.8.7.6", 5)]));
    answer(&mut b, 0, &[]);
    for (spec, public) in [(private("a"), false), (spec("b"), true)] {
        let from = b.done.len();
        let torrent = b.add(spec, Bitfield::new(PIECES));
        assert_eq!(asked(&b, from).iter().any(|(.., name, _)| name == "get_peers"), public);
        let addr = SocketAddr::from(([7, 7, 7, 7 + u8::from(public)], 40_000));
        let peer = b.s.accept(addr, b.now).unwrap();
        let info_hash = b.s.torrents.get(torrent).unwrap().spec.meta.info_hash;
        let mut handshake = Handshake { reserved: [0; 8], info_hash, peer_id: [7 + u8::from(public); 20] };
        handshake.reserved[7] = DHT_BIT;
        let from = b.done.len();
        b.tell(Event::Handshake { peer, handshake });
        let bit = |a: &Action| matches!(a, Action::Handshake { handshake, .. } if handshake.has_dht());
        assert_eq!(b.position(from, bit).is_some(), public);
        let port = |a: &Action| matches!(a, Action::Send { message: Message::Port(6881), .. });
        assert_eq!(b.position(from, port).is_some(), public);
        let from = b.done.len();
        b.tell(Event::Message { peer, message: Message::Port(9999) });
        let node = SocketAddr::new(addr.ip(), 9999);
        let pinged: Vec<_> = asked(&b, from).into_iter().map(|(to, name, _)| (to, name)).collect();
        assert_eq!(pinged, if public { vec![(node, "ping".to_owned())] } else { vec![] });
    }
}

#[test]
fn a_download_without_peers_looks_again_soon() {
    let searches = |complete: bool| {
        let mut b = Bench::new();
        b.tell(setup(&[("9.8.7.6", 5)]));
        answer(&mut b, 0, &[]);
        let mut from = b.done.len();
        if complete {
            b.seed("a");
        } else {
            b.open("a", Bitfield::new(PIECES));
        }
        let mut count = 0;
        // The next regular search is up to a tenth earlier than after 15 minutes.
        for _ in 0..13 * 60 {
            let next = b.done.len();
            count += asked(&b, from).iter().filter(|(.., name, _)| name == "get_peers").count();
            answer(&mut b, from, &[]);
            from = next;
            b.pass(Duration::from_secs(1));
        }
        count
    };
    // At once, and about 1, 3 and 7 minutes later.
    assert_eq!((searches(false), searches(true)), (4, 1));
}

#[test]
fn no_datagram_tells_of_a_private_torrent() {
    let mut b = Bench::new();
    b.tell(setup(&[("9.8.7.6", 5)]));
    answer(&mut b, 0, &[]);
    let hidden = b.add(private("a"), Bitfield::new(PIECES));
    b.add(spec("b"), Bitfield::new(PIECES));
    let hash = b.s.torrents.get(hidden).unwrap().spec.meta.info_hash.0;
    let mut from = 0;
    for _ in 0..40 * 60 {
        let next = b.done.len();
        answer(&mut b, from, &["5.5.5.5:55"]);
        from = next;
        b.pass(Duration::from_secs(1));
    }
    let tells = |action: &&Action| matches!(action, Action::Datagram { data, .. } if data.windows(20).any(|part| part == hash));
    assert!(asked(&b, 0).iter().any(|(.., name, _)| name == "announce_peer"), "the other one is looked for");
    assert_eq!(b.done.iter().filter(tells).count(), 0);
}

#[test]
fn without_a_node_nothing_of_it_is_said() {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peer = b.peer(torrent, 1);
    b.tell(Event::Message { peer, message: Message::Port(9999) });
    b.tell(Event::Datagram { from: ROUTER.parse().unwrap(), data: b"d1:q4:pinge" });
    assert!(!b.done.iter().any(|action| matches!(action, Action::Datagram { .. })));
}

#[test]
fn names_are_looked_up_and_again_when_that_fails() {
    let mut b = Bench::new();
    b.tell(setup(&[("router.example", 5), ("dead.example", 6)]));
    let named = |b: &Bench, from: usize| -> Vec<String> {
        let name = |action: &Action| match action {
            Action::Call(call) => match &**call {
                Call::LookUp { host, .. } => Some(host.clone()),
                _ => None,
            },
            _ => None,
        };
        b.done[from..].iter().filter_map(name).collect()
    };
    assert_eq!(named(&b, 0), ["router.example", "dead.example"]);
    for host in ["router.example", "dead.example"] {
        let (port, result) =
            if host.starts_with('r') { (5, Err("no".to_owned())) } else { (6, Err("no".to_owned())) };
        b.tell(Event::Reply(Reply::LookedUp { host: host.to_owned(), port, result }));
    }
    assert!(asked(&b, 0).is_empty());
    let from = b.done.len();
    for _ in 0..5 * 60 {
        b.pass(Duration::from_secs(1));
    }
    assert!(named(&b, from).contains(&"router.example".to_owned()));
    let result = Ok(vec![ROUTER.parse().unwrap()]);
    let from = b.done.len();
    b.tell(Event::Reply(Reply::LookedUp { host: "router.example".to_owned(), port: 5, result }));
    assert_eq!(asked(&b, from).first().map(|(to, ..)| to.to_string()), Some(ROUTER.to_owned()));
}

/// Where pings went since `from`.
fn pinged(b: &Bench, from: usize) -> Vec<SocketAddr> {
    asked(b, from).into_iter().filter(|(.., name, _)| name == "ping").map(|(to, ..)| to).collect()
}

#[test]
fn port_message_with_privileged_port_is_not_pinged() {
    let mut b = Bench::new();
    b.tell(setup(&[]));
    let torrent = b.open("a", Bitfield::new(PIECES));
    for (n, port) in [(2, 0), (3, 22), (4, 1023)] {
        let peer = b.peer(torrent, n);
        let from = b.tell(Event::Message { peer, message: Message::Port(port) });
        assert_eq!(pinged(&b, from), [], "port {port}");
    }
    let peer = b.peer(torrent, 1);
    let from = b.tell(Event::Message { peer, message: Message::Port(1024) });
    assert_eq!(pinged(&b, from), [SocketAddr::from(([10, 0, 0, 1], 1024))]);
}

#[test]
fn port_messages_of_one_peer_lead_to_one_ping_a_minute() {
    let mut b = Bench::new();
    b.tell(setup(&[]));
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peer = b.peer(torrent, 1);
    let from = b.done.len();
    for n in 0..120 {
        b.tell(Event::Message { peer, message: Message::Port(2000 + n) });
        b.pass(Duration::from_secs(1));
    }
    let ports: Vec<u16> = pinged(&b, from).iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [2000, 2060]);
}

#[test]
fn port_messages_of_all_peers_share_one_rate() {
    let mut b = Bench::new();
    b.tell(setup(&[]));
    let torrent = b.open("a", Bitfield::new(PIECES));
    let peers: Vec<PeerId> = (1..=3 * DHT_PORTS_A_SECOND as u8).map(|n| b.peer(torrent, n)).collect();
    let from = b.done.len();
    for peer in peers {
        b.tell(Event::Message { peer, message: Message::Port(2000) });
    }
    assert_eq!(pinged(&b, from).len(), DHT_PORTS_A_SECOND as usize);
    b.pass(Duration::from_secs(1));
    let late = b.peer(torrent, 200);
    let from = b.tell(Event::Message { peer: late, message: Message::Port(2000) });
    assert_eq!(pinged(&b, from).len(), 1, "in the next second others have their turn");
}
