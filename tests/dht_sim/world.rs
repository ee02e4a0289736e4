//! A network of nodes in virtual time: datagrams are late and get lost, nodes stand behind NATs, come and go, and
//! some of them lie. One seed makes it all.

use super::liar;
use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::dht::{Config, Node, Output, Searched};
use ptorrent::proto::id::InfoHash;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

/// How bad the network is.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    /// Datagrams of a thousand that get lost.
    pub(super) loss: u32,
    /// Nodes of a hundred that nobody reaches but whom they spoke to.
    pub(super) natted: u32,
    /// Nodes of a hundred that lie.
    pub(super) liars: u32,
    /// Nodes that leave, and as many that come, in an hour, of a hundred.
    pub(super) churn: u32,
}

pub(super) const FAIR: Weather = Weather { loss: 0, natted: 0, liars: 0, churn: 0 };

/// What stands at an address.
pub(super) enum Host {
    Honest(Box<Node>),
    Liar,
    Gone,
}

pub(super) struct Site {
    pub(super) addr: SocketAddr,
    pub(super) host: Host,
    natted: bool,
    /// Whom it spoke to, and when last.
    spoke_to: BTreeMap<SocketAddr, Time>,
    armed: Time,
}

enum Happening {
    Datagram { from: usize, to: SocketAddr, bytes: Vec<u8> },
    Wake(usize),
    Routers(usize),
    Churn,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) sites: Vec<Site>,
    by_addr: BTreeMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next: u64,
    pub(super) rng: Rng,
    weather: Weather,
    /// Addresses that bootstrap names stand for.
    pub(super) routers: Vec<SocketAddr>,
    /// What each search brought: site, torrent, peers.
    pub(super) found: BTreeMap<(usize, InfoHash), BTreeSet<SocketAddr>>,
    pub(super) searched: Vec<(usize, InfoHash, Searched)>,
    pub(super) datagrams: u64,
}

const NAT_HOLE: Duration = Duration::from_secs(120);

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> World {
        let rng = Rng::new([7; 32]).fork(&seed.to_be_bytes());
        World {
            now: Time(1_000_000),
            sites: Vec::new(),
            by_addr: BTreeMap::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next: 0,
            rng,
            weather,
            routers: Vec::new(),
            found: BTreeMap::new(),
            searched: Vec::new(),
            datagrams: 0,
        }
    }

    /// The address of the n-th site: all over the world, no two alike.
    fn addr(n: usize) -> SocketAddr {
        let [_, b, c, d] = (n as u32).wrapping_mul(0x009e_3779).to_be_bytes();
        SocketAddr::from(([11 + (n % 50) as u8, b, c, d], 6881))
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.next += 1;
        self.queue.push(Reverse((time, self.next)));
        self.happenings.insert(self.next, happening);
    }

    /// Puts somebody somewhere; the first are always honest and reachable.
    pub(super) fn add(&mut self) -> usize {
        let n = self.sites.len();
        let special = n >= 8;
        let liar = special && self.rng.below(100) < self.weather.liars;
        let natted = special && !liar && self.rng.below(100) < self.weather.natted;
        let host = if liar { Host::Liar } else { Host::Honest(Box::new(self.node(n))) };
        self.put(World::addr(n), host, natted)
    }

    /// A node that knows nobody.
    pub(super) fn node(&mut self, n: usize) -> Node {
        // One in ten has to learn its address from others.
        let external = (!n.is_multiple_of(10)).then(|| World::addr(n).ip());
        let config = Config {
            v4: true,
            v6: false,
            port: 6881,
            implied_port: n.is_multiple_of(2),
            loopback: false,
            external: [external, None],
        };
        Node::new(config, self.rng.seed(), self.now)
    }

    pub(super) fn put(&mut self, addr: SocketAddr, host: Host, natted: bool) -> usize {
        let n = self.sites.len();
        self.by_addr.insert(addr, n);
        self.sites.push(Site { addr, host, natted, spoke_to: BTreeMap::new(), armed: Time::NEVER });
        self.settle(n);
        n
    }

    pub(super) fn honest(&mut self, n: usize) -> Option<&mut Node> {
        match &mut self.sites[n].host {
            Host::Honest(node) => Some(node),
            _ => None,
        }
    }

    /// Somebody honest that is there, by chance.
    pub(super) fn anybody(&mut self) -> usize {
        loop {
            let n = self.rng.index(self.sites.len());
            if matches!(self.sites[n].host, Host::Honest(_)) {
                return n;
            }
        }
    }

    pub(super) fn is_natted(&self, n: usize) -> bool {
        self.sites[n].natted
    }

    /// Does something with a node.
    pub(super) fn tell(&mut self, n: usize, what: impl FnOnce(&mut Node, Time)) {
        let now = self.now;
        if let Some(node) = self.honest(n) {
            what(node, now);
        }
        self.settle(n);
    }

    /// Takes out what a node has to say, and when it wants to be woken.
    fn settle(&mut self, n: usize) {
        while let Some(output) = self.honest(n).and_then(Node::poll) {
            match output {
                Output::Send { to, bytes } => self.send(n, to, bytes),
                Output::Peers { info_hash, peers } => {
                    self.found.entry((n, info_hash)).or_default().extend(peers);
                }
                Output::Searched { info_hash, search } => self.searched.push((n, info_hash, search)),
                Output::Bootstrap => self.at(self.now + Duration::from_millis(300), Happening::Routers(n)),
            }
        }
        let deadline = self.honest(n).and_then(|node| node.deadline());
        if let Some(at) = deadline
            && at < self.sites[n].armed
        {
            self.sites[n].armed = at;
            self.at(at.max(self.now + Duration::from_micros(1)), Happening::Wake(n));
        }
    }

    pub(super) fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        assert!(bytes.len() <= 1024 && to.port() != 0);
        if self.sites[from].natted {
            let now = self.now;
            self.sites[from].spoke_to.insert(to, now);
        }
        if self.rng.below(1000) < self.weather.loss {
            return;
        }
        let late = Duration::from_millis(10 + u64::from(self.rng.below(190)));
        self.at(self.now + late, Happening::Datagram { from, to, bytes });
    }

    fn deliver(&mut self, from: usize, to: SocketAddr, bytes: &[u8]) {
        let Some(&n) = self.by_addr.get(&to) else { return };
        let (now, source) = (self.now, self.sites[from].addr);
        let site = &mut self.sites[n];
        if site.natted && site.spoke_to.get(&source).is_none_or(|at| now.since(*at) > NAT_HOLE) {
            return;
        }
        match &mut site.host {
            Host::Honest(node) => {
                node.datagram(source, bytes, now);
                self.settle(n);
            }
            Host::Liar => {
                for (to, bytes) in liar::answer(self, n, source, bytes) {
                    self.send(n, to, bytes);
                }
            }
            Host::Gone => {}
        }
    }

    /// Runs for so long.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(&Reverse((at, id))) = self.queue.peek().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at;
            match self.happenings.remove(&id) {
                Some(Happening::Datagram { from, to, bytes }) => self.deliver(from, to, &bytes),
                Some(Happening::Wake(n)) if self.sites[n].armed <= at => {
                    self.sites[n].armed = Time::NEVER;
                    self.tell(n, Node::tick);
                }
                Some(Happening::Routers(n)) => {
                    for router in self.routers.clone() {
                        if router != self.sites[n].addr {
                            self.tell(n, |node, now| node.add_router(router, now));
                        }
                    }
                }
                Some(Happening::Churn) => self.churn(),
                Some(Happening::Wake(_)) | None => {}
            }
        }
        self.now = end;
    }

    /// Lets nodes come and go from now on.
    pub(super) fn begin_churn(&mut self) {
        if self.weather.churn > 0 {
            self.at(self.now + Duration::from_secs(1), Happening::Churn);
        }
    }

    fn churn(&mut self) {
        let there = self.sites.iter().filter(|site| !matches!(site.host, Host::Gone)).count() as u32;
        let due = there * self.weather.churn / 100;
        // So many an hour; what is less than one a second comes by chance.
        let now = due / 3600 + u32::from(self.rng.below(3600) < due % 3600);
        for _ in 0..now {
            let n = self.rng.index(self.sites.len());
            if n >= 8 {
                self.sites[n].host = Host::Gone;
            }
            self.add();
        }
        self.begin_churn();
    }
}
