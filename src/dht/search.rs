//! One search: who is close to a place, and on the way whoever has peers of a torrent. Always the closest nodes not
//! yet asked are asked, until the K closest that are there have answered.

use super::ident::{Scope, is_lawful, network, scope};
use crate::limits::{
    DHT_ALPHA, DHT_ASKED_MAX, DHT_CANDIDATES_MAX, DHT_FOUND_MAX, DHT_K, DHT_PER_NETWORK, DHT_TOLD_MAX,
    DHT_UNLAWFUL_MAX,
};
use crate::proto::id::{InfoHash, NodeId};
use crate::proto::krpc::Contact;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What a search is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    /// Nodes near our own id: to join, and to know the neighbourhood.
    Own,
    /// Nodes for a bucket that has room.
    Fill,
    /// Peers of a torrent; with our own address told to the closest.
    Peers {
        /// Which.
        hash: InfoHash,
        /// Tell them.
        announce: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    /// Asked; it counts as if it were there.
    Asked,
    /// Asked, and long without an answer: others are asked in its place.
    Slow,
    Answered,
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: [u8; 20],
    contact: Contact,
    /// Where it is in the way from us: 1 for nodes of our table.
    hop: u32,
    /// Its id fits its address, or nobody knows its id yet.
    lawful: bool,
    /// Its id is known.
    named: bool,
    state: State,
    token: Option<Box<[u8]>>,
}

/// A search under way.
pub(super) struct Search {
    pub(super) target: NodeId,
    pub(super) goal: Goal,
    /// Which family: 0 for IPv4, 1 for IPv6.
    pub(super) side: usize,
    /// By distance, those without a known id first.
    candidates: Vec<Candidate>,
    flying: usize,
    unlawful: usize,
    /// Queries that were sent.
    pub(super) asked: usize,
    /// Answers that came.
    pub(super) answered: usize,
    /// The longest way to a node that answered.
    pub(super) hops: u32,
    found: BTreeSet<SocketAddr>,
}

impl Search {
    pub(super) fn new(target: NodeId, goal: Goal, side: usize) -> Search {
        let (candidates, found) = (Vec::new(), BTreeSet::new());
        Search {
            target,
            goal,
            side,
            candidates,
            flying: 0,
            unlawful: 0,
            asked: 0,
            answered: 0,
            hops: 0,
            found,
        }
    }

    /// A node of our table.
    pub(super) fn begin_with(&mut self, contact: Contact) {
        self.add(contact, 1, true);
    }

    /// An address to begin with, of which no id is known: it is asked first.
    pub(super) fn begin_at(&mut self, addr: SocketAddr) {
        self.add(Contact { id: self.target, addr }, 1, false);
    }

    /// What one node names, a bounded number.
    pub(super) fn on_nodes(&mut self, from: SocketAddr, nodes: impl Iterator<Item = Contact>) {
        let hop = self.find(from).map_or(1, |at| self.candidates[at].hop);
        for contact in nodes.take(DHT_TOLD_MAX) {
            self.add(contact, hop + 1, true);
        }
    }

    fn add(&mut self, contact: Contact, hop: u32, named: bool) {
        let ip = contact.addr.ip();
        let (global, net) = (scope(ip) == Scope::Global, network(ip));
        let mut same_net = 0;
        for other in &self.candidates {
            let (addr, id) = (other.contact.addr, other.contact.id);
            if addr == contact.addr || global && addr.ip() == ip || named && other.named && id == contact.id {
                return;
            }
            same_net += usize::from(network(addr.ip()) == net);
        }
        if global && named && same_net >= DHT_PER_NETWORK {
            return;
        }
        let distance = contact.id.distance(self.target);
        let lawful = !named || is_lawful(contact.id, ip);
        let at = self.candidates.partition_point(|other| (other.distance, other.named) < (distance, named));
        let state = State::New;
        self.candidates.insert(at, Candidate { distance, contact, hop, lawful, named, state, token: None });
        if self.candidates.len() > DHT_CANDIDATES_MAX {
            let last =
                self.candidates.iter().rposition(|other| matches!(other.state, State::New | State::Failed));
            self.candidates.remove(last.unwrap_or(DHT_CANDIDATES_MAX));
        }
    }

    fn find(&self, addr: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.contact.addr == addr)
    }

    /// Whom to ask next, and whether its id is known: None while enough are asked, or there is nobody left.
    pub(super) fn next(&mut self) -> Option<(Contact, bool)> {
        if self.flying >= DHT_ALPHA {
            return None;
        }
        let at = self.pick()?;
        let candidate = &mut self.candidates[at];
        candidate.state = State::Asked;
        self.flying += 1;
        self.asked += 1;
        self.unlawful += usize::from(!candidate.lawful);
        Some((candidate.contact, candidate.named))
    }

    fn pick(&self) -> Option<usize> {
        if self.asked >= DHT_ASKED_MAX {
            return None;
        }
        let mut there = 0;
        for (at, candidate) in self.candidates.iter().enumerate() {
            match candidate.state {
                State::New if candidate.lawful || self.unlawful < DHT_UNLAWFUL_MAX => return Some(at),
                // A node that chose its id does not stand for those that are really closest (BEP 42).
                State::Asked | State::Answered if candidate.lawful && candidate.named => there += 1,
                _ => {}
            }
            if there == DHT_K {
                break;
            }
        }
        None
    }

    /// A query could not be sent now: its node is to be asked later.
    pub(super) fn put_back(&mut self, addr: SocketAddr) {
        let Some(at) = self.find(addr) else { return };
        let candidate = &mut self.candidates[at];
        candidate.state = State::New;
        self.flying -= 1;
        self.asked -= 1;
        self.unlawful -= usize::from(!candidate.lawful);
    }

    /// A node answered, under this id.
    pub(super) fn on_answer(&mut self, contact: Contact, token: Option<&[u8]>) {
        let Some(at) = self.find(contact.addr) else { return };
        self.land(at);
        self.answered += 1;
        self.hops = self.hops.max(self.candidates[at].hop);
        if self.candidates[at].named {
            let candidate = &mut self.candidates[at];
            (candidate.state, candidate.token) = (State::Answered, token.map(Box::from));
            return;
        }
        // Now its place is known.
        let mut candidate = self.candidates.remove(at);
        candidate.contact = contact;
        candidate.distance = contact.id.distance(self.target);
        candidate.lawful = is_lawful(contact.id, contact.addr.ip());
        (candidate.named, candidate.state, candidate.token) = (true, State::Answered, token.map(Box::from));
        let at = self
            .candidates
            .partition_point(|other| (other.distance, other.named) < (candidate.distance, true));
        self.candidates.insert(at, candidate);
    }

    /// A node was too slow; it may still answer.
    pub(super) fn on_slow(&mut self, addr: SocketAddr) {
        if let Some(at) = self.find(addr)
            && self.candidates[at].state == State::Asked
        {
            self.land(at);
            self.candidates[at].state = State::Slow;
        }
    }

    /// A node does not answer, or answers nonsense.
    pub(super) fn on_failure(&mut self, addr: SocketAddr) {
        if let Some(at) = self.find(addr) {
            self.land(at);
            self.candidates[at].state = State::Failed;
        }
    }

    fn land(&mut self, at: usize) {
        if self.candidates[at].state == State::Asked {
            self.flying -= 1;
        }
    }

    /// Peers that somebody names: those that are new.
    pub(super) fn on_peers(&mut self, peers: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let room = DHT_FOUND_MAX.saturating_sub(self.found.len());
        peers.filter(|peer| self.found.insert(*peer)).take(room).collect()
    }

    /// How many peers were found.
    pub(super) fn found(&self) -> usize {
        self.found.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.flying == 0 && self.pick().is_none()
    }

    /// The K closest that gave a token; those whose id fits their address first.
    pub(super) fn closest(&self) -> Vec<(Contact, &[u8])> {
        let with = |lawful: bool| {
            let there = move |c: &&Candidate| c.state == State::Answered && c.lawful == lawful;
            self.candidates.iter().filter(there).filter_map(|c| Some((c.contact, c.token.as_deref()?)))
        };
        with(true).chain(with(false)).take(DHT_K).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ident::new_id;
    use super::*;
    use crate::base::rng::Rng;

    fn search() -> Search {
        Search::new(NodeId([0; 20]), Goal::Peers { hash: InfoHash([0; 20]), announce: true }, 0)
    }

    /// A local node (its id may be any) at this distance.
    fn local(distance: u8) -> Contact {
        let mut id = [1; 20];
        id[0] = distance;
        Contact { id: NodeId(id), addr: SocketAddr::from(([10, 0, 0, distance], 6881)) }
    }

    #[test]
    fn the_closest_are_asked_three_at_a_time_until_eight_have_answered() {
        let mut search = search();
        (1..=30).rev().for_each(|n| search.begin_with(local(n)));
        let mut asked = Vec::new();
        while let Some((node, _)) = search.next() {
            asked.push(node);
        }
        assert_eq!(asked, [local(1), local(2), local(3)]);
        for n in 1..=8 {
            assert!(!search.is_done());
            search.on_answer(local(n), Some(&[n]));
            search.next();
        }
        assert!(search.is_done() && search.asked == 8 && search.next().is_none());
        let closest = search.closest();
        assert_eq!((closest.len(), closest[7]), (8, (local(8), &[8][..])));
    }

    #[test]
    fn one_that_is_slow_or_silent_is_stood_in_for() {
        let mut search = search();
        (1..=9).for_each(|n| search.begin_with(local(n)));
        for _ in 0..3 {
            search.next();
        }
        search.on_slow(local(1).addr);
        assert_eq!(search.next(), Some((local(4), true)));
        search.on_failure(local(1).addr);
        search.on_failure(local(2).addr);
        assert_eq!(search.next(), Some((local(5), true)));
        for n in 3..=9 {
            search.on_answer(local(n), None);
            search.next();
        }
        assert!(search.is_done() && search.answered == 7);
        assert_eq!(search.closest(), []);
    }

    #[test]
    fn an_address_without_an_id_is_asked_first_and_finds_its_place() {
        let mut search = search();
        search.begin_with(local(1));
        let router = SocketAddr::from(([10, 9, 9, 9], 1));
        search.begin_at(router);
        assert_eq!(search.next().map(|(node, named)| (node.addr, named)), Some((router, false)));
        search.on_nodes(router, [local(2), local(3)].into_iter());
        search.on_answer(Contact { addr: router, ..local(200) }, Some(b"t"));
        assert_eq!(search.candidates.last().map(|c| c.contact.addr), Some(router));
        assert_eq!(search.hops, 1);
    }

    #[test]
    fn who_owns_one_network_and_chooses_ids_does_not_own_the_place() {
        let mut search = search();
        let mut rng = Rng::new([1; 32]);
        let forged = (1..=250u8).map(|n| {
            let mut id = [0; 20];
            id[19] = n;
            Contact { id: NodeId(id), addr: SocketAddr::from(([6, 6, 6, n], 6881)) }
        });
        forged.for_each(|node| search.begin_with(node));
        for n in 0..20 {
            let addr = SocketAddr::from(([7, n, 7, 7], 6881));
            search.begin_with(Contact { id: new_id(Some(addr.ip()), &mut rng), addr });
        }
        while let Some((node, _)) = search.next() {
            search.on_answer(node, Some(b"token"));
        }
        let closest = search.closest();
        assert!(
            closest.len() == DHT_K
                && closest
                    .iter()
                    .all(|(node, _)| node.addr.ip() != node.addr.ip() || is_lawful(node.id, node.addr.ip()))
        );
        assert_eq!(search.asked, DHT_K + DHT_PER_NETWORK);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn liars_cannot_keep_it_going() {
        let mut search = search();
        search.begin_with(local(255));
        let mut n = 0u32;
        // Each names eight that are closer still, all of them made up and lawful.
        while let Some((node, _)) = search.next() {
            let nodes: Vec<Contact> = (0..8)
                .map(|_| {
                    n += 1;
                    let mut id = [0; 20];
                    id[..4].copy_from_slice(&(u32::MAX - n).to_be_bytes());
                    Contact { id: NodeId(id), addr: SocketAddr::from(((10 << 24 | n).to_be_bytes(), 1)) }
                })
                .collect();
            search.on_nodes(node.addr, nodes.into_iter());
            search.on_failure(node.addr);
            assert!(search.candidates.len() <= DHT_CANDIDATES_MAX);
        }
        assert!(search.asked <= DHT_ASKED_MAX && search.is_done());
        let many = (0..5000u32).map(|n| SocketAddr::from((n.to_be_bytes(), 1)));
        assert_eq!(search.on_peers(many).len(), DHT_FOUND_MAX);
        assert_eq!(search.on_peers([SocketAddr::from(([1, 1, 1, 1], 1))].into_iter()), []);
    }
}
