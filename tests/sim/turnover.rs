//! A full connection table: peers that promise everything and choke for ever, and one that would give.

use super::*;
use crate::hostile::hello;
use crate::world::Script;
use ptorrent::base::bits::Bitfield;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::wire::message::Message;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Has everything, wants everything, never unchokes, and keeps the connection alive.
struct Choker {
    hello: Vec<u8>,
}

impl Choker {
    fn new(info_hash: InfoHash, pieces: u32, who: u8) -> Choker {
        let mut hello = hello(info_hash, who);
        Message::Bitfield(Cow::Borrowed(Bitfield::full(pieces).as_bytes())).encode(&mut hello);
        Message::Interested.encode(&mut hello);
        Choker { hello }
    }
}

impl Script for Choker {
    fn open(&mut self) -> Vec<u8> {
        self.hello.clone()
    }

    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        let mut alive = Vec::new();
        Message::KeepAlive.encode(&mut alive);
        alive
    }
}

/// Sixty chokers of one network fill the table of a leecher and call again each second; then a seeder of another network
/// calls it, as one does that the user named.
fn siege(address: impl Fn(u8) -> IpAddr) {
    const PIECES: u32 = 32;
    let mut w = World::new(seed());
    let theirs = spec(PIECES, 64 << 10, |spec| spec.trackers = vec![]);
    let leech = leecher(&mut w, &theirs, Link::default());
    let hash = theirs.meta.info_hash;
    let chokers: Vec<NodeId> = (0..60)
        .map(|who| {
            let node = w.add_script(Link::default(), move || Box::new(Choker::new(hash, PIECES, who)));
            w.move_to(node, address(who));
            node
        })
        .collect();
    let besiege = |w: &mut World, seconds: u32| {
        for _ in 0..seconds {
            for node in &chokers {
                if !complete(w, leech) && w.connections(*node) == 0 {
                    w.dial(*node, leech);
                }
            }
            w.run(Duration::from_secs(1), |_| false);
        }
    };
    w.run(Duration::from_secs(3), |_| false);
    besiege(&mut w, 30);
    assert_eq!(w.nodes[leech].seen.peers, 50, "they fill the table");
    let home = w.nodes[leech].addr;
    let ours = spec(PIECES, 64 << 10, |spec| {
        spec.trackers = vec![];
        spec.peers = vec![(home.ip().to_string(), home.port())];
    });
    let seed = seeder(&mut w, &ours, Link::default());
    w.move_to(seed, Ipv4Addr::new(20, 1, 1, 1).into());
    let start = w.now;
    while !complete(&w, leech) && w.now.since(start) < 10 * MINUTE {
        besiege(&mut w, 1);
    }
    let seen = &w.nodes[leech].seen;
    assert!(complete(&w, leech), "{:?} of {:?}", seen.downloaded, seen.peers);
    figure(format_args!("complete {:?} after the seeder came", w.now.since(start)));
    assert!(seen.peers_max <= 50);
    wind_up(&mut w);
}

#[test]
fn chokers_of_one_ipv6_network_do_not_keep_a_seeder_out() {
    siege(|who| Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 3, who.into()).into());
}

#[test]
fn chokers_of_one_ipv4_network_do_not_keep_a_seeder_out() {
    siege(|who| Ipv4Addr::new(30, 1, 1, who).into());
}
