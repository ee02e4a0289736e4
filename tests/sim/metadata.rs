//! Magnet links: torrents that begin without metadata and get it from their peers (BEP 9).

use super::*;
use crate::world::Script;
use ptorrent::api::Command;
use ptorrent::proto::extended::{Extension, Handshake as Told, Ids};
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::wire::handshake::Handshake;
use ptorrent::proto::wire::message::Message;
use std::borrow::Cow;

const PIECES: u32 = 3000;
const PIECE: u32 = 16 << 10;

/// A torrent whose info dictionary has four pieces.
fn whole(change: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    spec(PIECES, PIECE, change)
}

/// A node that knows the info-hash of `of` and no more; `change` is how it wants the torrent then.
fn by_link(w: &mut World, of: &Arc<Spec>, disk: Disk, change: fn(&mut Spec)) -> NodeId {
    let node = w.add(Link::default(), disk, |_| {});
    let peers = of.peers.clone();
    let trackers = of.trackers.clone();
    let make = move |meta| {
        spec(1, PIECE, |spec| {
            (spec.meta, spec.trackers, spec.peers) = (meta, trackers.clone(), peers.clone());
            change(spec);
        })
    };
    let link = make(Metainfo::unknown(of.meta.info_hash, "link"));
    w.nodes[node].adopts = Some(Box::new(make));
    w.start(node, &link, Duration::from_secs(2));
    node
}

#[test]
fn metadata_comes_from_fifty_peers_of_which_ten_lie() {
    for seed in seed()..seed() + 3 {
        let mut w = World::new(seed);
        let spec = whole(|_| {});
        for n in 0..50 {
            let seed = seeder(&mut w, &spec, Link::default());
            w.nodes[seed].disk.lies_of_info = n % 5 == 0;
        }
        let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
        finish(&mut w, &[node], 10 * MINUTE);
        let seen = &w.nodes[node].seen;
        let states = [State::Metadata, State::Checking, State::Downloading, State::Seeding];
        assert_eq!(seen.states[..4], states);
        let banned = seen.errors.iter().filter(|(reason, _)| *reason == Reason::Hash).count();
        assert_eq!(seen.errors.len(), banned, "{:?}", seen.errors);
        figure(format_args!("complete after {:?}, {banned} liars banned", seen.complete));
    }
}

#[test]
fn liars_are_banned_and_the_last_honest_peer_is_enough() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    for n in 0..6 {
        let seed = seeder(&mut w, &spec, Link::default());
        w.nodes[seed].disk.lies_of_info = n != 3;
    }
    let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
    finish(&mut w, &[node], 10 * MINUTE);
}

#[test]
fn a_link_leads_to_others_that_came_by_link() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    let first = seeder(&mut w, &spec, Link::default());
    let nodes: Vec<_> = (0..12).map(|_| by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {})).collect();
    w.run(MINUTE, |w| nodes.iter().all(|n| w.nodes[*n].seen.states.contains(&State::Downloading)));
    assert!(w.run(20 * MINUTE, |w| nodes.iter().all(|n| complete(w, *n))));
    w.kill(first, NOW);
    let last = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
    finish(&mut w, &[last], 20 * MINUTE);
}

/// The connections that brought the metadata bring the pieces: what was said of them before it was known how many
/// there are counts.
#[test]
fn connections_outlast_the_metadata() {
    let mut w = World::new(seed());
    let spec = whole(|spec| spec.trackers = vec![]);
    let seed = seeder(&mut w, &spec, Link::default());
    let addr = w.nodes[seed].addr;
    let named = whole(|spec| {
        spec.trackers = vec![];
        spec.peers = vec![(addr.ip().to_string(), addr.port())];
    });
    let node = by_link(&mut w, &named, Disk::empty(PIECES, 2), |_| {});
    let done = w.run(30 * MINUTE, |w| complete(w, node));
    assert!(done, "{:?}", w.nodes[node].seen);
    // Only that both have everything in the end ends the one connection there was.
    assert!(w.nodes[node].seen.closed.iter().all(|why| *why == Why::BothSeeds));
    assert!(!w.nodes[node].seen.closed.contains(&Why::Replaced));
    wind_up(&mut w);
}

/// Names a size of the info dictionary that is not right, and sends none.
struct Boaster(Vec<u8>);

impl Boaster {
    fn new(info_hash: InfoHash, who: u8, size: i64) -> Boaster {
        let mut reserved = [0; 8];
        reserved[5] = 0x10;
        let mut open = Handshake { reserved, info_hash, peer_id: [who; 20] }.encode().to_vec();
        let body = format!("d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee").into_bytes();
        Message::Extended { id: 0, body: Cow::Owned(body) }.encode(&mut open);
        Boaster(open)
    }
}

impl Script for Boaster {
    fn open(&mut self) -> Vec<u8> {
        self.0.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

#[test]
fn sizes_that_are_not_right_hold_nobody_up_for_long() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    let hash = spec.meta.info_hash;
    for (n, size) in [1, 1 << 31, -1, 64 << 20, 64 << 20, 64 << 20, 65_536, 65_536].into_iter().enumerate() {
        let script = w.add_script(Link::default(), move || Box::new(Boaster::new(hash, 1 + n as u8, size)));
        w.list(script);
    }
    seeder(&mut w, &spec, Link::default());
    let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
    assert!(w.run(3 * MINUTE, |w| w.nodes[node].seen.states.contains(&State::Downloading)));
    finish(&mut w, &[node], 10 * MINUTE);
}

#[test]
fn a_seed_by_link_serves_what_is_on_its_disk() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    let first = seeder(&mut w, &spec, Link::default());
    let node = by_link(&mut w, &spec, Disk::full(PIECES, 2), |spec| spec.seed_only = true);
    assert!(w.run(MINUTE, |w| complete(w, node)), "{:?}", w.nodes[node].seen);
    assert_eq!(w.nodes[node].seen.states, [State::Metadata, State::Checking, State::Seeding]);
    w.kill(first, NOW);
    let last = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[last], 20 * MINUTE);
}

/// Who was connected before it was looked what is on the disk hears of that.
#[test]
fn peers_from_before_hear_what_is_here() {
    let mut w = World::new(seed());
    let all = whole(|_| {});
    // The one seed tells the metadata and has hardly any rate; the other peer lacks everything.
    let slow = Link { rate: 20 << 10, ..Link::default() };
    seeder(&mut w, &all, slow);
    let node = by_link(&mut w, &all, Disk::full(PIECES, 2), |_| {});
    let other = by_link(&mut w, &all, Disk::empty(PIECES, 2), |_| {});
    finish(&mut w, &[node, other], 20 * MINUTE);
}

#[test]
fn a_torrent_that_turns_out_private_drops_whom_no_tracker_named() {
    let mut w = World::new(seed());
    let hashes = vec![0; PIECES as usize * 20];
    let plan = Plan {
        private: true,
        ..Plan::bare("file", Content::Single(u64::from(PIECES * PIECE) - 5), PIECE, &hashes)
    };
    let spec = whole(|spec| spec.meta = Metainfo::parse(&build(&plan)).expect("a sound torrent"));
    let hash = spec.meta.info_hash;
    let stranger = w.add_script(Link::default(), move || Box::new(Boaster::new(hash, 9, 5)));
    let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
    w.run(Duration::from_secs(5), |_| false);
    w.dial(stranger, node);
    w.run(Duration::from_secs(5), |_| false);
    assert_eq!(w.nodes[node].seen.peers, 1);
    seeder(&mut w, &spec, Link::default());
    assert!(w.run(40 * MINUTE, |w| w.nodes[node].seen.states.contains(&State::Downloading)));
    assert!(w.nodes[node].seen.closed.contains(&Why::Private), "{:?}", w.nodes[node].seen.closed);
    finish(&mut w, &[node], 20 * MINUTE);
}

#[test]
fn a_link_can_be_paused_removed_and_ended_while_it_waits() {
    for end in 0..3 {
        let mut w = World::new(seed());
        let spec = whole(|_| {});
        let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
        w.run(Duration::from_secs(20), |_| false);
        assert_eq!(w.nodes[node].seen.state, Some(State::Metadata));
        w.command(node, Command::Pause { number: 0 });
        w.run(Duration::from_secs(20), |_| false);
        assert_eq!(w.nodes[node].seen.state, Some(State::Paused));
        match end {
            0 => {
                seeder(&mut w, &spec, Link::default());
                w.run(Duration::from_secs(20), |_| false);
                w.command(node, Command::Resume { number: 0 });
                finish(&mut w, &[node], 40 * MINUTE);
            }
            1 => {
                w.command(node, Command::Remove { number: 0 });
                w.run(Duration::from_secs(20), |_| false);
                assert_eq!(w.nodes[node].seen.state, Some(State::Stopped));
                wind_up(&mut w);
            }
            _ => wind_up(&mut w),
        }
    }
}

#[test]
fn trackers_are_not_told_that_a_link_has_everything() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    let node = by_link(&mut w, &spec, Disk::empty(PIECES, 2), |_| {});
    w.run(MINUTE, |_| false);
    let announces = &w.nodes[node].seen.announces;
    assert!(!announces.is_empty() && announces.iter().all(|(_, left)| *left > 0), "{announces:?}");
    wind_up(&mut w);
}

/// Asks for the metadata again and again.
struct Glutton(Vec<u8>, u32);

impl Glutton {
    fn new(info_hash: InfoHash) -> Glutton {
        let mut reserved = [0; 8];
        reserved[5] = 0x10;
        let mut open = Handshake { reserved, info_hash, peer_id: [3; 20] }.encode().to_vec();
        let mut ids = Ids::default();
        ids.name(Extension::Metadata, 7);
        let body = Told { ids, ..Told::default() }.encode();
        Message::Extended { id: 0, body: Cow::Owned(body) }.encode(&mut open);
        Glutton(open, 0)
    }
}

impl Script for Glutton {
    fn open(&mut self) -> Vec<u8> {
        self.0.clone()
    }
    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.1 += 1;
        let body = format!("d8:msg_typei0e5:piecei{}ee", self.1 % 4).into_bytes();
        Message::Extended { id: Extension::Metadata.id(), body: Cow::Owned(body) }.encode(&mut out);
        out
    }
}

#[test]
fn who_asks_for_metadata_for_ever_is_refused() {
    let mut w = World::new(seed());
    let spec = whole(|_| {});
    let node = seeder(&mut w, &spec, Link::default());
    let hash = spec.meta.info_hash;
    let glutton = w.add_script(Link::default(), move || Box::new(Glutton::new(hash)));
    w.run(Duration::from_secs(5), |_| false);
    w.dial(glutton, node);
    w.run(MINUTE, |_| false);
    let (sent, said) = (w.nodes[node].seen.bytes, &w.nodes[node].seen.messages);
    let len = u64::from(spec.meta.info_len);
    figure(format_args!("{sent} bytes sent of a dictionary of {len}: {said:?}"));
    assert!((2 * len..4 * len).contains(&sent), "{sent} of {len}");
    assert!(matches!(w.nodes[node].seen.closed[..], [Why::Protocol(_)]), "{:?}", w.nodes[node].seen.closed);
    wind_up(&mut w);
}
