//! How peers are found: by each other (BEP 11), on the local network (BEP 14), and not at all otherwise where a torrent
//! is private (BEP 27); and which of thousands are called.

use super::world::Script;
use super::*;
use ptorrent::api::{Command, DhtSetup};
use ptorrent::limits::{HALF_OPEN_MAX, KNOWN_MAX, PEX_HEARD, PEX_REST, SOURCE_TURNS};
use ptorrent::proto::extended::pex::{self, Added, Pex};
use ptorrent::proto::extended::{Extension, HANDSHAKE, Handshake as Extensions, Ids};
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::wire::handshake::{DHT_BIT, EXTENSION_BIT, Handshake};
use ptorrent::proto::wire::message::Message;
use ptorrent::session::Config;
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};

fn everything(config: &mut Config) {
    (config.pex, config.lsd) = (true, true);
}

/// A peer without anything, which stays with the others as long as nobody has more.
fn empty(w: &mut World, spec: &Arc<Spec>, config: impl FnOnce(&mut Config)) -> NodeId {
    let node = w.add(Link::default(), Disk::empty(spec.meta.layout.pieces(), 2), config);
    w.start(node, spec, NOW);
    node
}

/// Addresses at which nobody is.
fn ghosts(count: u32) -> Vec<SocketAddr> {
    (0..count).map(|n| SocketAddr::from((Ipv4Addr::from_bits(0x0b00_0000 + n * 257), 6881))).collect()
}

fn private(spec: &mut Spec) {
    let hashes = vec![0; 16 * 20];
    let mut plan = Plan::bare("private", Content::Single(16 << 18), 1 << 18, &hashes);
    plan.private = true;
    spec.meta = Metainfo::parse(&build(&plan)).expect("a sound torrent");
}

/// The messages of peer exchange that a node sent, to peers that take them under the id that we give too.
fn told(w: &World, node: NodeId) -> Vec<Vec<Added>> {
    let said = w.nodes[node].seen.extended.iter().filter(|(id, _)| *id == Extension::Pex.id());
    said.map(|(_, body)| Pex::decode(body).expect("a message").added().collect()).collect()
}

#[test]
fn peer_exchange_grows_a_swarm_from_one_known_peer_to_all() {
    let mut w = World::new(seed());
    let alone = spec(16, 1 << 18, |s| s.trackers.clear());
    let first = empty(&mut w, &alone, |c| c.pex = true);
    let ip = w.nodes[first].addr.ip().to_string();
    let by_it = spec(16, 1 << 18, |s| {
        s.trackers.clear();
        s.peers.push((ip, 6881));
    });
    let others: Vec<NodeId> = (0..30).map(|_| empty(&mut w, &by_it, |c| c.pex = true)).collect();
    let known = |w: &World| others.iter().all(|n| w.nodes[*n].seen.peers == 30);
    assert!(
        w.run(10 * MINUTE, known),
        "{:?}",
        others.iter().map(|n| w.nodes[*n].seen.peers).collect::<Vec<_>>()
    );
    // Then there is nothing to tell.
    w.run(3 * MINUTE, |_| false);
    let before: usize = others.iter().map(|n| told(&w, *n).len()).sum();
    w.run(10 * MINUTE, |_| false);
    assert_eq!(others.iter().map(|n| told(&w, *n).len()).sum::<usize>(), before);
    assert!(others.iter().all(|n| told(&w, *n).iter().all(|added| added.len() <= 50)));
    // Somebody leaves, and all hear of it within two minutes.
    w.kill(others[0], NOW);
    w.run(2 * MINUTE + 3 * PEX_REST, |_| false);
    let gone = w.nodes[others[0]].addr;
    let heard = |n: &NodeId| {
        let dropped = |body: &[u8]| Pex::decode(body).expect("a message").dropped().any(|addr| addr == gone);
        w.nodes[*n].seen.extended.iter().any(|(id, body)| *id == Extension::Pex.id() && dropped(body))
    };
    assert!(others[1..].iter().all(heard));
}

#[test]
fn without_peer_exchange_nobody_is_told() {
    let mut w = World::new(seed());
    let spec = spec(16, 1 << 18, |_| {});
    let nodes: Vec<NodeId> = (0..4).map(|n| empty(&mut w, &spec, |c| c.pex = n > 0)).collect();
    w.run(5 * MINUTE, |_| false);
    assert_eq!(told(&w, nodes[0]).len(), 0);
    assert!(nodes[1..].iter().all(|n| !told(&w, *n).is_empty()));
    let offers = |n: NodeId| w.nodes[n].seen.extended.iter().any(|(_, body)| contains(body, b"ut_pex"));
    assert!(!offers(nodes[0]) && offers(nodes[1]));
}

#[test]
fn neighbours_find_each_other() {
    let mut w = World::new(seed());
    let spec = spec(32, 1 << 18, |s| s.trackers.clear());
    let seed = w.add(Link::default(), Disk::full(32, 2), |c| c.lsd = true);
    w.start(seed, &spec, NOW);
    let leech = w.add(Link::default(), Disk::empty(32, 2), |c| c.lsd = true);
    w.start(leech, &spec, Duration::from_secs(100));
    // Deaf, so that it is not found.
    let deaf = empty(&mut w, &spec, |_| {});
    assert!(w.run(3 * MINUTE, |w| complete(w, leech)));
    w.run(60 * MINUTE, |_| false);
    assert_eq!((w.nodes[deaf].seen.local, w.nodes[deaf].seen.downloaded), (0, 0));
    // Each five minutes, in two families.
    assert!((24..=28).contains(&w.nodes[seed].seen.local), "{}", w.nodes[seed].seen.local);
    wind_up(&mut w);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Says, unasked, where a node of the DHT and other peers are.
struct Teller {
    open: Vec<u8>,
    /// What it says whenever it hears something.
    again: Vec<u8>,
}

impl Teller {
    fn new(info_hash: InfoHash, names: &[SocketAddr], flood: bool) -> Teller {
        let mut reserved = [0; 8];
        (reserved[5], reserved[7]) = (EXTENSION_BIT, DHT_BIT);
        let mut open = Handshake { reserved, info_hash, peer_id: [77; 20] }.encode().to_vec();
        let mut ids = Ids::default();
        ids.name(Extension::Pex, Extension::Pex.id());
        let body = Cow::Owned(Extensions { ids, ..Extensions::default() }.encode());
        Message::Extended { id: HANDSHAKE, body }.encode(&mut open);
        Message::Port(6881).encode(&mut open);
        let mut again = Vec::new();
        for names in names.chunks(1000) {
            let added: Vec<Added> = names.iter().map(|addr| Added { addr: *addr, flags: 0x10 }).collect();
            let body = Cow::Owned(pex::encode(&added, &[]));
            let message = Message::Extended { id: Extension::Pex.id(), body };
            message.encode(if flood { &mut again } else { &mut open });
        }
        Teller { open, again }
    }
}

impl Script for Teller {
    fn open(&mut self) -> Vec<u8> {
        self.open.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        self.again.clone()
    }
}

/// Two leechers and a peer that tells of others: whether anything of a torrent got out of its tracker's hands.
fn leaks(change: impl Fn(&mut Spec)) -> [bool; 5] {
    let mut w = World::new(seed());
    let spec = spec(16, 1 << 18, &change);
    let hash = spec.meta.info_hash;
    let ghost = ghosts(1)[0];
    let teller = w.add_script(Link::default(), move || Box::new(Teller::new(hash, &[ghost], false)));
    w.list(teller);
    let nodes: Vec<NodeId> = (0..3).map(|_| empty(&mut w, &spec, everything)).collect();
    for node in &nodes {
        let bootstrap = vec![("11.255.0.1".to_owned(), 6881)];
        let setup = DhtSetup { v4: true, bootstrap, ..DhtSetup::default() };
        w.command(*node, Command::Dht(Box::new(setup)));
    }
    w.run(30 * MINUTE, |_| false);
    let any = |what: &dyn Fn(&world::Seen) -> bool| nodes.iter().any(|n| what(&w.nodes[*n].seen));
    assert!(any(&|seen| seen.peers == 3), "they meet by the tracker");
    [
        any(&|seen| seen.local > 0),
        any(&|seen| seen.extended.iter().any(|(id, body)| *id == 1 || contains(body, b"ut_pex"))),
        any(&|seen| seen.messages.contains_key("port") || seen.reserved[7] & 1 != 0),
        any(&|seen| seen.dialled.contains(&ghost)),
        // Of the ports that the teller says only those of public torrents are asked.
        any(&|seen| seen.datagrams.contains(&SocketAddr::new(w.nodes[teller].addr.ip(), 6881))),
    ]
}

#[test]
fn a_private_torrent_leaks_nothing() {
    // What shows that the test looks in the right places.
    assert_eq!(leaks(|_| {}), [true; 5]);
    assert_eq!(leaks(private), [false; 5]);
}

#[test]
fn thousands_of_candidates_keep_the_connections_full() {
    let mut w = World::new(seed());
    // Each has something that the others want, and it takes long.
    let spec = spec(40, 16 << 20, |_| {});
    w.ghosts = ghosts(10_000);
    let full = 20;
    // It is there first, so that all others hear of it: who calls it is not kept out by its own calls.
    let leech = w.add(Link::default(), Disk::empty(40, 2), |c| c.max_conn = full);
    w.start(leech, &spec, NOW);
    let slow = Link { rate: 64 << 10, ..Link::default() };
    let part = |w: &mut World, piece: u32| {
        let node = w.add(slow, Disk::empty(40, 2), |c| c.max_conn = 60);
        w.nodes[node].disk.set_good(piece..piece + 1);
        w.start(node, &spec, Duration::from_secs(5));
        node
    };
    let nodes: Vec<NodeId> = (0..40).map(|piece| part(&mut w, piece)).collect();
    let peers = |w: &World| w.nodes[leech].seen.peers as usize;
    assert!(w.run(5 * MINUTE, |w| peers(w) == full), "{}", peers(&w));
    for round in 0..2 {
        nodes[8 * round..8 * round + 8].iter().for_each(|node| w.kill(*node, NOW));
        w.run(Duration::from_secs(5), |_| false);
        assert!(w.run(5 * MINUTE, |w| peers(w) == full), "{} after round {round}", peers(&w));
    }
    // And so it stays, but for who is of no use for a while and makes room for somebody who is there.
    let counts: Vec<usize> = (0..120)
        .map(|_| {
            w.run(Duration::from_secs(1), |_| false);
            peers(&w)
        })
        .collect();
    assert!(counts.iter().sum::<usize>() >= counts.len() * (full - 1), "{counts:?}");
    let seen = &w.nodes[leech].seen;
    assert!(
        seen.calling_max <= HALF_OPEN_MAX && seen.peers_max <= full,
        "{} {}",
        seen.calling_max,
        seen.peers_max
    );
    assert!(seen.dialled.len() <= KNOWN_MAX + 40, "{}", seen.dialled.len());
}

#[test]
fn a_flood_of_named_peers_costs_a_share_of_the_calls() {
    let mut w = World::new(seed());
    let spec = spec(64, 1 << 18, |_| {});
    let hash = spec.meta.info_hash;
    let names = ghosts(10_000);
    let flooder = w.add_script(Link::default(), move || Box::new(Teller::new(hash, &names, true)));
    w.list(flooder);
    let leech = empty(&mut w, &spec, everything);
    w.run(10 * MINUTE, |_| false);
    // Of all that it said one message was heard: the others came too soon, and then it was heard no more.
    let dialled = w.nodes[leech].seen.dialled.len();
    assert_eq!(dialled, 1 + PEX_HEARD, "itself and whom it named");
    seeder(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 60 * MINUTE);
    assert!(SOURCE_TURNS.is_sorted_by(|a, b| a >= b));
}

#[test]
fn an_address_has_one_connection() {
    let mut w = World::new(seed());
    let spec = spec(16, 1 << 18, |s| s.trackers.clear());
    let node = empty(&mut w, &spec, |_| {});
    let hash = spec.meta.info_hash;
    let count = std::cell::Cell::new(0);
    let script = w.add_script(Link::default(), move || {
        count.set(count.get() + 1);
        Box::new(hostile::Idler::new(hash, count.get()))
    });
    w.run(MINUTE, |_| false);
    (0..5).for_each(|_| w.dial(script, node));
    w.run(Duration::from_secs(30), |_| false);
    assert_eq!(w.nodes[node].seen.peers, 1, "five ids, one address");
    // The first one says nothing any more: the next may be the same peer, started anew.
    w.run(MINUTE, |_| false);
    w.dial(script, node);
    w.run(Duration::from_secs(30), |_| false);
    let duplicates = w.nodes[node].seen.closed.iter().filter(|why| **why == Why::Duplicate).count();
    assert_eq!((w.nodes[node].seen.peers, duplicates), (1, 5));
}
