//! The DHT node as a fuzz target: the input is a sequence of datagrams, answers to what the node asked, searches and
//! waits.

use super::events::Events;
use ptorrent::base::time::Time;
use ptorrent::dht::{Config, Node, Output};
use ptorrent::limits::{DHT_OUT_MAX, KRPC_SEND_MAX};
use ptorrent::proto::id::{InfoHash, NodeId};
use ptorrent::proto::krpc::{self, Body, Message, Method, Query, Response, Values, Want};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How many queries of the node are kept to be answered.
const ASKED_MAX: usize = 64;
/// How often the clock may stop in one wait: enough for every timer to run several times.
const STOPS_MAX: usize = 64;
const WAITS: [u64; 8] = [1, 100, 1_500, 6_000, 60_000, 300_000, 1_800_000, 21_600_000];

struct Bench {
    node: Node,
    now: Time,
    asked: VecDeque<(SocketAddr, Vec<u8>)>,
    token: Vec<u8>,
}

pub(crate) fn fuzz_node(input: &[u8]) {
    let mut events = Events::new(input);
    let mode = events.byte();
    let config = Config {
        v4: mode & 1 == 0,
        v6: mode & 2 == 0,
        port: 6881,
        implied_port: mode & 4 == 0,
        loopback: mode & 8 != 0,
        external: [None; 2],
    };
    let now = Time(1_000_000);
    let node = Node::new(config, [mode; 32], now);
    let mut bench = Bench { node, now, asked: VecDeque::new(), token: Vec::new() };
    bench.drain();
    while let Some(kind) = events.kind() {
        bench.step(kind, &mut events);
        bench.drain();
    }
}

impl Bench {
    fn step(&mut self, kind: u8, events: &mut Events<'_>) {
        match kind % 8 {
            0 => self.node.datagram(addr(events), events.bytes(), self.now),
            1 => self.query(events),
            2 => self.answer(events),
            3 => self.wait(events),
            4 => match events.below(3) {
                0 => self.node.want(info_hash(events), true, self.now),
                1 => self.node.hurry(info_hash(events), false, true, self.now),
                _ => self.node.forget(info_hash(events)),
            },
            5 => self.node.add_node(addr(events), self.now),
            6 => self.node.add_router(addr(events), self.now),
            // The node asked for something and is told that it cannot be had.
            _ => {
                let Some((from, query)) = self.asked.pop_front() else { return };
                let Ok(Message { tid, .. }) = krpc::decode(&query) else { return };
                let body = Body::Error { code: i64::from(events.byte()), text: b"no" };
                let bytes = Message { tid, version: None, ip: None, body }.encode();
                self.node.datagram(from, &bytes, self.now);
            }
        }
    }

    fn query(&mut self, events: &mut Events<'_>) {
        let (from, id) = (addr(events), id(events));
        let want = Want { v4: true, v6: events.byte() & 1 == 0 };
        let token = self.token.clone();
        let method = match events.below(6) {
            0 => Method::Ping,
            1 => Method::FindNode { target: id, want },
            2 => Method::GetPeers { info_hash: info_hash(events), want },
            3 => Method::AnnouncePeer {
                info_hash: info_hash(events),
                port: u16::from(events.byte()) << 4,
                implied_port: false,
                token: &token,
            },
            4 => Method::Sample { target: id, want },
            _ => Method::Unknown(b"vote"),
        };
        let query = Query { id, read_only: events.byte() & 1 == 1, method };
        let bytes = Message { tid: b"aa", version: None, ip: None, body: Body::Query(query) }.encode();
        self.node.datagram(from, &bytes, self.now);
    }

    fn answer(&mut self, events: &mut Events<'_>) {
        let Some((from, query)) = self.asked.pop_front() else { return };
        let Ok(Message { tid, .. }) = krpc::decode(&query) else { return };
        let mut response = Response::new(id(events));
        let (nodes, values) = (events.bytes(), [b"l", events.bytes(), b"e"].concat());
        let ip = (events.byte() & 1 == 1).then(|| addr(events));
        // Lists of nodes hold whole entries: 26 bytes over IPv4, 38 over IPv6.
        response.nodes = Some(&nodes[..nodes.len() / 26 * 26]);
        response.nodes6 = Some(&nodes[..nodes.len() / 38 * 38]);
        response.token = Some(b"token");
        response.values = krpc_list(&values).then(|| Values::encoded(&values));
        let bytes = Message { tid, version: None, ip, body: Body::Response(response) }.encode();
        self.node.datagram(from, &bytes, self.now);
    }

    /// Stops at each deadline, as the reactor does.
    fn wait(&mut self, events: &mut Events<'_>) {
        let until = self.now + Duration::from_millis(WAITS[events.below(WAITS.len())]);
        for _ in 0..STOPS_MAX {
            let Some(at) = self.node.deadline().filter(|at| *at <= until) else { break };
            self.now = at.max(self.now + Duration::from_micros(1));
            self.node.tick(self.now);
            self.drain();
        }
        self.now = self.now.max(until);
        self.node.tick(self.now);
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.node.poll() {
            outputs += 1;
            assert!(outputs <= 2 * DHT_OUT_MAX, "one event leads to {outputs} outputs");
            let Output::Send { to, bytes } = output else { continue };
            assert!(bytes.len() <= KRPC_SEND_MAX && to.port() != 0, "{} bytes to {to}", bytes.len());
            let message = krpc::decode(&bytes).expect("the node sends what it can read");
            match message.body {
                Body::Query(_) if self.asked.len() < ASKED_MAX => self.asked.push_back((to, bytes)),
                Body::Response(response) => {
                    self.token =
                        response.token.map_or_else(|| std::mem::take(&mut self.token), <[u8]>::to_vec);
                }
                _ => {}
            }
        }
        let stats = self.node.stats(self.now);
        assert!(stats.searches <= ptorrent::limits::DHT_SEARCHES_MAX);
        assert!(stats.stored_peers <= ptorrent::limits::DHT_PEERS_MAX);
    }
}

/// Whether these bytes are one bencoded list.
fn krpc_list(bytes: &[u8]) -> bool {
    ptorrent::proto::bencode::decode(bytes).is_ok()
}

fn addr(events: &mut Events<'_>) -> SocketAddr {
    match (events.byte(), events.byte()) {
        (host, network @ 0..=63) => SocketAddr::from(([127, 0, network, host], 6881)),
        (host, network @ 64..=127) => {
            SocketAddr::from(([0x2001, 0xdb9, network.into(), 0, 0, 0, 0, host.into()], 6881))
        }
        (host, network) => SocketAddr::from(([network, 7, host, 9], 6881)),
    }
}

fn id(events: &mut Events<'_>) -> NodeId {
    let mut id = [events.byte(); 20];
    id[19] = events.byte();
    NodeId(id)
}

fn info_hash(events: &mut Events<'_>) -> InfoHash {
    InfoHash([events.byte(); 20])
}
