//! Our node of the DHT (BEP 5, 32, 42, 43, 51) as a state machine: datagrams and the time go in, datagrams and found
//! peers come out. It speaks of addresses and info-hashes only and knows neither torrents nor sockets.
//!
//! IPv4 and IPv6 are two networks (BEP 32): what there is of each stands in [`Side`]. `answer.rs` answers others,
//! `join.rs` gets us into the network and keeps us there, `search.rs` is one search, `table.rs` whom we know.

mod answer;
mod calls;
pub mod ident;
mod join;
mod pace;
mod saved;
mod search;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub use crate::api::{DhtSearch as Searched, DhtSide as SideStats, DhtStats as Stats};

use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{
    DHT_ANNOUNCE, DHT_ANNOUNCE_RETRY, DHT_ANSWER_BURST, DHT_ANSWER_RATE, DHT_HOLES_MAX, DHT_HURRY, DHT_K,
    DHT_OUT_MAX, DHT_QUERY_BURST, DHT_QUERY_RATE, DHT_SEARCHES_MAX, DHT_SPACING, KRPC_PEERS_MAX,
};
use crate::proto::compact::{canonical, is_callable};
use crate::proto::id::{InfoHash, NodeId};
use crate::proto::krpc::{
    self, Body, Contact, Message, Method, Query, Response, Values, Want, nodes_v4, nodes_v6,
};
use calls::{Call, Calls, Late, Purpose};
use ident::{Scope, is_lawful, scope};
use join::Side;
use pace::{Allowance, Senders};
use search::{Goal, Search};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use store::{Store, Tokens};
use table::Place;

/// What a node must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// There is a socket for IPv4.
    pub v4: bool,
    /// There is a socket for IPv6.
    pub v6: bool,
    /// The TCP port at which our torrents are reached.
    pub port: u16,
    /// The datagrams go out from that same port, so that others may take the one that they see.
    pub implied_port: bool,
    /// Nodes of this machine count (127.0.0.0/8, ::1): for private networks.
    pub loopback: bool,
    /// Our address as others see it, where it is known from the start, for IPv4 and for IPv6.
    pub external: [Option<IpAddr>; 2],
}

/// What the node wants done, or tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Peers of a torrent that was [wanted](Node::want), each named once a search.
    Peers {
        /// The torrent.
        info_hash: InfoHash,
        /// Addresses of them.
        peers: Vec<SocketAddr>,
    },
    /// A search for a torrent has ended.
    Searched {
        /// The torrent.
        info_hash: InfoHash,
        /// What it took.
        search: Searched,
    },
    /// We know nobody, or too few: [`Node::add_router`] some addresses to begin with, if there are any.
    Bootstrap,
}

/// What we are wanted to look for.
#[derive(Clone, Copy)]
struct Wanted {
    announce: bool,
    /// When it is due in each family; NEVER while a search is under way.
    due: [Time; 2],
    /// The waits of [`Node::hurry`], by family.
    hurry: [Duration; 2],
}

#[derive(Default)]
struct Counts {
    packets: (u64, u64),
    bytes: (u64, u64),
    queries: (u64, u64),
}

/// Our node.
pub struct Node {
    config: Config,
    rng: Rng,
    sides: [Option<Side>; 2],
    store: Store,
    tokens: Tokens,
    calls: Calls,
    searches: BTreeMap<u32, Search>,
    next_search: u32,
    wanted: BTreeMap<InfoHash, Wanted>,
    /// When each is due, by family: one that we cannot join keeps nobody waiting.
    due: [BTreeSet<(Time, InfoHash)>; 2],
    /// By family: when the one is due that has the last turn.
    slots: [Time; 2],
    /// Our own queries.
    pace: Allowance,
    /// Searches wait for it.
    starved: bool,
    senders: Senders,
    answers: Allowance,
    /// To whom something was sent lately, the oldest first.
    holes: VecDeque<(Time, SocketAddr)>,
    counts: Counts,
    out: VecDeque<Output>,
}

impl Node {
    /// A node that knows nobody. All its chance comes from `seed`.
    pub fn new(config: Config, seed: [u8; 32], now: Time) -> Node {
        let mut rng = Rng::new(seed);
        let mut side = |there: bool, external| there.then(|| Side::new(external, &mut rng, now));
        let sides = [side(config.v4, config.external[0]), side(config.v6, config.external[1])];
        Node {
            tokens: Tokens::new(&mut rng, now),
            config,
            rng,
            sides,
            store: Store::default(),
            calls: Calls::default(),
            searches: BTreeMap::new(),
            next_search: 0,
            wanted: BTreeMap::new(),
            due: Default::default(),
            slots: [Time::ZERO; 2],
            pace: Allowance::new(DHT_QUERY_RATE, DHT_QUERY_BURST, now),
            starved: false,
            senders: Senders::default(),
            answers: Allowance::new(DHT_ANSWER_RATE, DHT_ANSWER_BURST, now),
            holes: VecDeque::new(),
            counts: Counts::default(),
            out: VecDeque::new(),
        }
    }

    /// Looks for peers of a torrent now and each 15 minutes (less often with many torrents), and tells others of us if
    /// `announce`; asked again, it looks at once.
    pub fn want(&mut self, info_hash: InfoHash, announce: bool, now: Time) {
        let announce = announce || self.wanted.get(&info_hash).is_some_and(|wanted| wanted.announce);
        let hurry = self.wanted.get(&info_hash).map_or([DHT_HURRY; 2], |wanted| wanted.hurry);
        self.forget(info_hash);
        let due = [0, 1].map(|at| {
            let search = self.sides[at].is_some() && !self.is_searching(info_hash, at);
            if search { now } else { Time::NEVER }
        });
        for (at, _) in due.iter().enumerate().filter(|(_, due)| **due == now) {
            self.due[at].insert((now, info_hash));
        }
        self.wanted.insert(info_hash, Wanted { announce, due, hurry });
        self.pump(now);
    }

    /// No longer.
    pub fn forget(&mut self, info_hash: InfoHash) {
        let Some(wanted) = self.wanted.remove(&info_hash) else { return };
        for (at, due) in wanted.due.into_iter().enumerate() {
            self.due[at].remove(&(due, info_hash));
        }
    }

    /// What a search in this family has just brought is not enough, or it is (`hungry`): while it is not, the next one
    /// comes sooner, each time less so, up to the usual wait.
    pub fn hurry(&mut self, info_hash: InfoHash, v6: bool, hungry: bool, now: Time) {
        let at = usize::from(v6);
        let Some(wait) = self.wanted.get(&info_hash).map(|wanted| wanted.hurry[at]) else { return };
        let (due, usual) = (now + self.jitter(wait), self.usual_wait());
        let Some(wanted) = self.wanted.get_mut(&info_hash) else { return };
        wanted.hurry[at] = if hungry { (2 * wait).min(usual) } else { DHT_HURRY };
        if hungry && wanted.due[at] != Time::NEVER && due < wanted.due[at] {
            self.due[at].remove(&(wanted.due[at], info_hash));
            wanted.due[at] = due;
            self.due[at].insert((due, info_hash));
        }
    }

    /// From one search of a torrent to its next one, at most.
    fn usual_wait(&self) -> Duration {
        DHT_ANNOUNCE.max(DHT_SPACING * u32::try_from(self.wanted.len()).unwrap_or(u32::MAX))
    }

    /// When a torrent that was searched is next: not all at one time again, and some time after the others. But where
    /// many were looked for out of turn, it does not wait for as many turns.
    fn next_slot(&mut self, side: usize, now: Time) -> Time {
        let most = now + DHT_ANNOUNCE + self.usual_wait();
        let due = (now + self.jitter(DHT_ANNOUNCE)).max(self.slots[side] + DHT_SPACING).min(most);
        self.slots[side] = due;
        due
    }

    fn is_searching(&self, info_hash: InfoHash, side: usize) -> bool {
        let is = |goal: Goal| matches!(goal, Goal::Peers { hash, .. } if hash == info_hash);
        self.searches.values().any(|search| search.side == side && is(search.goal))
    }

    /// A datagram came.
    pub fn datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Time) {
        let from = canonical(from);
        self.counts.packets.0 += 1;
        self.counts.bytes.0 += bytes.len() as u64;
        let at = usize::from(from.is_ipv6());
        if !self.is_usable(from) || self.sides[at].is_none() {
            return;
        }
        match krpc::decode(bytes) {
            Ok(message) => match &message.body {
                Body::Query(query) => self.on_query(from, message.tid, query, bytes.len(), now),
                Body::Response(response) => self.on_response(from, &message, response, now),
                Body::Error { code, text } => {
                    log::trace!("dht: {from} says {code} {}", text.escape_ascii());
                    self.on_error(from, message.tid, now);
                }
            },
            Err(krpc::Error { tid: Some(tid), what }) => self.refuse(from, (tid, bytes.len()), what, now),
            Err(krpc::Error { what, .. }) => log::trace!("dht: a datagram of {from} is dropped: {what}"),
        }
        self.pump(now);
    }

    /// A deadline has passed.
    pub fn tick(&mut self, now: Time) {
        while let Some(late) = self.calls.late(now) {
            match late {
                Late::Slow(call) => {
                    if let Purpose::Search(id) = call.purpose
                        && let Some(search) = self.searches.get_mut(&id)
                    {
                        search.on_slow(call.addr);
                    }
                }
                Late::Lost(call) => self.on_lost(&call, now),
            }
        }
        self.pump(now);
    }

    /// The next thing to do, or to hear; drained after every call.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to come back with [`Node::tick`].
    pub fn deadline(&self) -> Option<Time> {
        let starved = self.starved.then(|| self.pace.ready_at());
        let room = self.searches.len() < DHT_SEARCHES_MAX;
        let first =
            |at: usize| self.due[at].first().filter(|_| room && self.is_joined(at)).map(|(due, _)| *due);
        let wanted = [first(0), first(1)].into_iter().flatten().min();
        let sides = self.sides.iter().flatten().map(Side::deadline);
        [self.calls.deadline(), starved, wanted].into_iter().flatten().chain(sides).min()
    }

    /// How it stands.
    pub fn stats(&self, now: Time) -> Stats {
        let (stored_torrents, stored_peers) = self.store.len();
        Stats {
            sides: [0, 1].map(|at| self.sides[at].as_ref().map(|side| side.stats(now))),
            stored_torrents,
            stored_peers,
            packets: self.counts.packets,
            bytes: self.counts.bytes,
            queries: self.counts.queries,
            searches: self.searches.len(),
        }
    }

    /// Whether anything could be at this address, for us.
    fn is_usable(&self, addr: SocketAddr) -> bool {
        is_callable(addr) && (self.config.loopback || scope(addr.ip()) != Scope::Loopback)
    }

    /// The same of an address that a node at `from` names: it cannot see more of us than it is itself.
    fn is_credible(&self, named: SocketAddr, from: SocketAddr) -> bool {
        self.is_usable(named) && scope(named.ip()) <= scope(from.ip())
    }

    fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, now: Time) {
        if self.out.len() >= DHT_OUT_MAX {
            return;
        }
        self.counts.packets.1 += 1;
        self.counts.bytes.1 += bytes.len() as u64;
        if self.holes.len() == DHT_HOLES_MAX {
            self.holes.pop_front();
        }
        self.holes.push_back((now, to));
        self.out.push_back(Output::Send { to, bytes });
    }

    /// Asks a node something. False: not now, too much is under way.
    fn ask(
        &mut self,
        (addr, id): (SocketAddr, Option<NodeId>),
        method: Method<'_>,
        purpose: Purpose,
        now: Time,
    ) -> bool {
        let Some(side) = &self.sides[usize::from(addr.is_ipv6())] else { return false };
        let (own, read_only) = (side.id, side.read_only);
        if self.calls.is_full() {
            return false;
        }
        if purpose == Purpose::Announce {
            // A token is good for minutes and the search has cost far more: the next searches wait instead.
            self.pace.owe(1, now);
        } else if !self.pace.take(1, now) {
            return false;
        }
        let tid = self.calls.open((addr, id), purpose, &mut self.rng, now);
        let body = Body::Query(Query { id: own, read_only, method });
        let bytes = Message { tid: &tid, version: Some(VERSION), ip: None, body }.encode();
        self.send(addr, bytes, now);
        true
    }

    fn ping(&mut self, contact: Contact, now: Time) {
        if !self.calls.is_asking(contact.addr) {
            self.ask((contact.addr, Some(contact.id)), Method::Ping, Purpose::Ping, now);
        }
    }

    /// Pings a node that was heard of, if there is room for it in the table. Strangers, who may be made up, get what
    /// our own searches leave.
    fn consider(&mut self, contact: Contact, now: Time) {
        if !self.pace.has(DHT_QUERY_BURST / 2, now) {
            return;
        }
        let side = self.sides[usize::from(contact.addr.is_ipv6())].as_ref();
        if side.is_some_and(|side| side.table.wants(contact)) {
            self.ping(contact, now);
        }
    }

    fn on_response(&mut self, from: SocketAddr, message: &Message<'_>, response: &Response<'_>, now: Time) {
        let Some(call) = self.calls.close(message.tid, from) else { return };
        let contact = Contact { id: response.id, addr: from };
        if call.id.is_some_and(|id| id != contact.id) {
            // Somebody else is there by now.
            self.fail(&call, now);
            if call.purpose == Purpose::Ping {
                self.learn(contact, now);
            }
            return;
        }
        self.learn(contact, now);
        if let Some(ip) = message.ip {
            self.vote(from, ip.ip(), now);
        }
        let nodes = self.named_nodes(from, response);
        match call.purpose {
            Purpose::Search(id) => self.on_found(id, contact, response, nodes),
            Purpose::Upkeep => nodes.into_iter().take(DHT_K).for_each(|node| self.consider(node, now)),
            Purpose::Ping | Purpose::Announce => {}
        }
    }

    /// The nodes of an answer that could be used; they are of both families only if we asked for both.
    fn named_nodes(&self, from: SocketAddr, response: &Response<'_>) -> Vec<Contact> {
        let v4 = nodes_v4(response.nodes.unwrap_or_default()).take(crate::limits::KRPC_NODES_MAX);
        let v6 = nodes_v6(response.nodes6.unwrap_or_default()).take(crate::limits::KRPC_NODES_MAX);
        v4.chain(v6).filter(|node| self.is_credible(node.addr, from)).collect()
    }

    fn on_found(&mut self, id: u32, contact: Contact, response: &Response<'_>, nodes: Vec<Contact>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        let own = self.sides.iter().flatten().map(|side| side.id).collect::<Vec<_>>();
        let v6 = search.side == 1;
        let (same, other): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .filter(|node| !own.contains(&node.id))
            .partition(|node| node.addr.is_ipv6() == v6);
        search.on_nodes(contact.addr, same.into_iter());
        search.on_answer(contact, response.token);
        let goal = search.goal;
        if let (Goal::Peers { hash, .. }, Some(values)) = (goal, response.values) {
            self.on_values(id, hash, contact.addr, values);
        }
        // Nodes of the other family help to join there.
        if let Some(side) = self.sides[usize::from(!v6)].as_mut() {
            side.hear_of(&other);
        }
    }

    fn on_values(&mut self, id: u32, info_hash: InfoHash, from: SocketAddr, values: Values<'_>) {
        let peers: Vec<SocketAddr> =
            values.iter().take(KRPC_PEERS_MAX).filter(|peer| self.is_credible(*peer, from)).collect();
        let Some(search) = self.searches.get_mut(&id) else { return };
        let peers = search.on_peers(peers.into_iter());
        if !peers.is_empty() && self.wanted.contains_key(&info_hash) {
            self.out.push_back(Output::Peers { info_hash, peers });
        }
    }

    /// A node says that it does not want to.
    fn on_error(&mut self, from: SocketAddr, tid: &[u8], now: Time) {
        let Some(call) = self.calls.close(tid, from) else { return };
        // It is there; that it takes no announce of ours is no fault of its own.
        if call.purpose != Purpose::Announce {
            self.fail(&call, now);
        }
    }

    fn on_lost(&mut self, call: &Call, now: Time) {
        self.fail(call, now);
        let side = self.sides[usize::from(call.addr.is_ipv6())].as_ref();
        let alone = side.filter(|side| call.purpose == Purpose::Upkeep && side.is_alone(call.sent));
        // Is it that one, or are we cut off? Another one tells.
        if let Some(contact) = alone.and_then(|side| side.table.freshest()) {
            self.ping(contact, now);
        }
    }

    fn fail(&mut self, call: &Call, now: Time) {
        if let Purpose::Search(id) = call.purpose
            && let Some(search) = self.searches.get_mut(&id)
        {
            search.on_failure(call.addr);
        }
        let Some(side) = self.sides[usize::from(call.addr.is_ipv6())].as_mut() else { return };
        let Some(id) = call.id.filter(|_| !side.is_alone(call.sent)) else { return };
        if let Some(spare) = side.table.on_failure(Contact { id, addr: call.addr }) {
            self.ping(spare, now);
        }
    }

    /// A node answered us.
    fn learn(&mut self, contact: Contact, now: Time) {
        let Some(side) = self.sides[usize::from(contact.addr.is_ipv6())].as_mut() else { return };
        side.answered_at = now;
        if side.table.on_answer(contact, now) == Place::New && side.table.len() == 1 {
            side.neighbours_at = now;
        }
        side.upkeep_at = side.upkeep_at.min(now + crate::limits::DHT_UPKEEP);
    }

    fn start_search(&mut self, target: NodeId, goal: Goal, at: usize, now: Time) {
        let Some(side) = &self.sides[at] else { return };
        let mut search = Search::new(target, goal, at);
        let near = side.table.closest(target, 2 * DHT_K, false, now);
        near.iter().for_each(|contact| search.begin_with(*contact));
        if goal == Goal::Own || near.len() < DHT_K {
            side.saved.iter().for_each(|contact| search.begin_with(*contact));
        }
        if near.len() < DHT_K {
            side.routers.iter().for_each(|addr| search.begin_at(*addr));
        }
        self.next_search = self.next_search.wrapping_add(1);
        self.searches.insert(self.next_search, search);
    }

    /// Does what is due and what there is room for.
    fn pump(&mut self, now: Time) {
        for at in 0..2 {
            self.look_after(at, now);
        }
        self.start_wanted(now);
        self.starved = false;
        // The oldest search first, so that each ends.
        let ids: Vec<u32> = self.searches.keys().copied().collect();
        for id in ids {
            self.drive(id, now);
            if self.searches.get(&id).is_some_and(Search::is_done)
                && let Some(search) = self.searches.remove(&id)
            {
                self.on_search_done(&search, now);
            }
        }
    }

    fn start_wanted(&mut self, now: Time) {
        for at in [0, 1] {
            while self.searches.len() < DHT_SEARCHES_MAX
                && let Some(&(due, hash)) = self.due[at].first().filter(|(due, _)| *due <= now)
                && self.is_joined(at)
            {
                self.due[at].remove(&(due, hash));
                let Some(wanted) = self.wanted.get_mut(&hash) else { continue };
                wanted.due[at] = Time::NEVER;
                let goal = Goal::Peers { hash, announce: wanted.announce };
                self.start_search(hash.into(), goal, at, now);
            }
        }
    }

    fn drive(&mut self, id: u32, now: Time) {
        while let Some(search) = self.searches.get_mut(&id)
            && let Some((contact, named)) = search.next()
        {
            let (target, side) = (search.target, search.side);
            // A node that has just begun takes what it can get of the other family (BEP 32).
            let other = self.sides[1 - side].as_ref().is_some_and(|other| other.table.len() < DHT_K);
            let want = Want { v4: other, v6: other };
            let method = match search.goal {
                Goal::Own | Goal::Fill => Method::FindNode { target, want },
                Goal::Peers { hash, .. } => Method::GetPeers { info_hash: hash, want },
            };
            let to = (contact.addr, named.then_some(contact.id));
            if !self.ask(to, method, Purpose::Search(id), now) {
                self.starved = true;
                if let Some(search) = self.searches.get_mut(&id) {
                    search.put_back(contact.addr);
                }
                return;
            }
        }
    }

    fn on_search_done(&mut self, search: &Search, now: Time) {
        let (hash, announce) = match search.goal {
            Goal::Peers { hash, announce } => (hash, announce),
            Goal::Own => return self.on_own_search_done(search, now),
            Goal::Fill => return,
        };
        let wanted = self.wanted.get(&hash).copied();
        let mut announced = 0;
        if announce && wanted.is_some() {
            for (contact, token) in search.closest() {
                let (port, implied_port) = (self.config.port, self.config.implied_port);
                let method = Method::AnnouncePeer { info_hash: hash, port, implied_port, token };
                let to = (contact.addr, Some(contact.id));
                announced += usize::from(self.ask(to, method, Purpose::Announce, now));
            }
        }
        let (asked, answered, hops) = (search.asked, search.answered, search.hops);
        let searched =
            Searched { v6: search.side == 1, asked, answered, hops, peers: search.found(), announced };
        log::debug!("dht: {hash}: {searched:?}");
        if wanted.is_none() {
            return;
        }
        self.out.push_back(Output::Searched { info_hash: hash, search: searched });
        let due = if answered == 0 {
            now + self.jitter(DHT_ANNOUNCE_RETRY)
        } else {
            self.next_slot(search.side, now)
        };
        if let Some(wanted) = self.wanted.get_mut(&hash) {
            wanted.due[search.side] = due;
            self.due[search.side].insert((due, hash));
        }
    }

    /// Others say where they see us.
    fn vote(&mut self, from: SocketAddr, ip: IpAddr, now: Time) {
        let at = usize::from(from.is_ipv6());
        let Some(side) = self.sides[at].as_mut() else { return };
        let Some(ip) = side.votes.add(from.ip(), ip) else { return };
        if side.external == Some(ip) || ip.is_ipv6() != (at == 1) || scope(ip) != Scope::Global {
            return;
        }
        side.external = Some(ip);
        if !is_lawful(side.id, ip) {
            side.id = ident::new_id(Some(ip), &mut self.rng);
            log::debug!("dht: our address is {ip}, our id {}", side.id);
            side.table.rename(side.id);
            side.neighbours_at = now;
        }
    }

    /// A span, by chance up to a tenth less.
    fn jitter(&mut self, span: Duration) -> Duration {
        span - span.mul_f64(f64::from(self.rng.below(100)) / 1000.0)
    }
}

/// The `v` of our messages: client and version.
pub const VERSION: &[u8] = b"pT01";
