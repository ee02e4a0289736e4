//! What a node of the DHT costs when everything in it is full: every bucket of both tables, peers of others, searches.

#[path = "fuzz/heap.rs"]
mod heap;

use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::dht::{Config, Node, Output};
use ptorrent::limits::{DHT_HASHES_MAX, DHT_K, DHT_PEERS_MAX};
use ptorrent::proto::id::{InfoHash, NodeId};
use ptorrent::proto::krpc::{self, Body, Message, Method, Query, Response, Want};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What such a node may cost.
const MOST: usize = 4 << 20;

struct Bench {
    node: Node,
    now: Time,
    rng: Rng,
}

impl Bench {
    fn query(&mut self, from: SocketAddr, id: NodeId, method: Method<'_>) -> Vec<Vec<u8>> {
        let body = Body::Query(Query { id, read_only: false, method });
        let bytes = Message { tid: b"aa", version: None, ip: None, body }.encode();
        self.give(from, &bytes)
    }

    /// What it sends back to there.
    fn give(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(60);
        self.node.datagram(from, bytes, self.now);
        let outputs = std::iter::from_fn(|| self.node.poll());
        outputs
            .filter_map(
                |o| if let Output::Send { to, bytes } = o { (to == from).then_some(bytes) } else { None },
            )
            .collect()
    }

    /// A node asks, is asked in turn, and answers.
    fn meet(&mut self, addr: SocketAddr, id: NodeId) {
        for sent in self.query(addr, id, Method::Ping) {
            let message = krpc::decode(&sent).unwrap();
            if let Body::Query(_) = message.body {
                let body = Body::Response(Response::new(id));
                let bytes = Message { tid: message.tid, version: None, ip: None, body }.encode();
                self.give(addr, &bytes);
            }
        }
    }

    /// A node that shares so many bits with ours. Local addresses may have any id.
    fn near(&mut self, own: NodeId, bits: usize) -> NodeId {
        let mut id = [0; 20];
        self.rng.fill(&mut id);
        for bit in 0..=bits {
            let mask = 0x80 >> (bit % 8);
            let wanted = if bit == bits { !own.0[bit / 8] } else { own.0[bit / 8] };
            id[bit / 8] = id[bit / 8] & !mask | wanted & mask;
        }
        NodeId(id)
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "the figure for whoever runs it")]
fn a_full_node_costs_little() {
    let (mut nodes, mut peers) = (0, (0, 0));
    let most = heap::peak(|| {
        let now = Time(1_000_000);
        let config =
            Config { v4: true, v6: true, port: 1, implied_port: false, loopback: false, external: [None; 2] };
        let mut bench = Bench { node: Node::new(config, [1; 32], now), now, rng: Rng::new([2; 32]) };
        let mut n = 0u32;
        let sides = bench.node.stats(now).sides;
        for (at, side) in sides.iter().enumerate() {
            let own = side.unwrap().id;
            // As many nodes again for the places of those that wait.
            for bits in (0..157).flat_map(|bits| [bits; 2 * DHT_K]) {
                n += 1;
                let ip: IpAddr = match at {
                    0 => Ipv4Addr::from_bits(10 << 24 | n).into(),
                    _ => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n) << 64 | 1).into(),
                };
                let id = bench.near(own, bits);
                bench.meet(SocketAddr::new(ip, 6881), id);
            }
        }
        for n in 0..DHT_PEERS_MAX as u32 {
            let mut hash = [0; 20];
            hash[..4].copy_from_slice(&(n % DHT_HASHES_MAX as u32).to_be_bytes());
            let info_hash = InfoHash(hash);
            let from = SocketAddr::from(((11 << 24 | n << 8 | 1).to_be_bytes(), 6881));
            let want = Want::default();
            let sent = bench.query(from, NodeId([7; 20]), Method::GetPeers { info_hash, want });
            let token = sent.iter().find_map(|sent| match krpc::decode(sent).unwrap().body {
                Body::Response(response) => Some(response.token.unwrap().to_vec()),
                _ => None,
            });
            let token = token.expect("an answer");
            let announce = Method::AnnouncePeer { info_hash, port: 6881, implied_port: false, token: &token };
            bench.query(from, NodeId([7; 20]), announce);
        }
        for n in 0..64 {
            bench.node.want(InfoHash([n; 20]), true, bench.now);
        }
        while bench.node.poll().is_some() {}
        let stats = bench.node.stats(bench.now);
        nodes = stats.sides.iter().flatten().map(|side| side.table.good + side.table.questionable).sum();
        peers = (stats.stored_torrents, stats.stored_peers);
    });
    eprintln!("{nodes} nodes, {} peers of {} torrents: {} KiB at most", peers.1, peers.0, most >> 10);
    assert!(nodes > 1500 && peers.1 > DHT_PEERS_MAX / 2, "{nodes} {peers:?}");
    assert!(most < MOST, "{most} bytes");
}
