//! Between the torrents and our node of the DHT: what is wanted, what is found, names to be looked up, the table to
//! be kept. Private torrents never come near it.

use super::known::Source;
use super::{Key, Session};
use crate::api::{Action, Call, DhtSetup, PeerId, Report, TorrentId};
use crate::base::time::Time;
use crate::dht::{Config, Node, Output};
use crate::limits::{
    DHT_NAMES_MAX, DHT_PORT_REST, DHT_PORTS_A_SECOND, DHT_REPORTS_MAX, DHT_SAVE, PEER_PORT_MIN,
};
use crate::proto::compact::canonical;
use crate::proto::id::InfoHash;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Our node, and what belongs to it.
pub(super) struct Dht {
    node: Node,
    /// Hosts to begin with: those of the program, then those that torrents name.
    names: Vec<(String, u16)>,
    /// Of these, what is being looked up.
    looking: Vec<(String, u16)>,
    /// What the program looks up.
    asked: BTreeSet<InfoHash>,
    reports: VecDeque<Report>,
    /// Pings after PORT messages in the second that began then.
    port_pings: (u32, Time),
    /// When the table is to be kept.
    save_at: Time,
    /// For [`super::timers`].
    armed: Time,
}

impl Dht {
    pub(super) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    pub(super) fn report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Whether a PORT message may lead to a ping now, and counts it.
    fn may_ping(&mut self, now: Time) -> bool {
        if now.since(self.port_pings.1) >= Duration::from_secs(1) {
            self.port_pings = (0, now);
        }
        self.port_pings.0 += 1;
        self.port_pings.0 <= DHT_PORTS_A_SECOND
    }

    fn tell(&mut self, report: Report) {
        if self.reports.len() < DHT_REPORTS_MAX {
            self.reports.push_back(report);
        }
    }
}

impl Session {
    /// The program wants a node; there is one in a process.
    pub(super) fn on_dht(&mut self, setup: DhtSetup, now: Time) {
        if self.dht.is_some() {
            return;
        }
        let DhtSetup { v4, v6, loopback, bootstrap, saved } = setup;
        // One port for both: who sees our datagrams come from elsewhere (NAT) may know better.
        let config =
            Config { v4, v6, port: self.config.port, implied_port: true, loopback, external: [None; 2] };
        let mut node = Node::new(config, self.rng.seed(), now);
        node.load(&saved, now);
        node.tick(now);
        let dht = Dht {
            node,
            names: bootstrap,
            looking: Vec::new(),
            asked: BTreeSet::new(),
            reports: VecDeque::new(),
            port_pings: (0, now),
            save_at: now + DHT_SAVE,
            armed: Time::NEVER,
        };
        self.dht = Some(Box::new(dht));
        for id in self.torrents.ids().collect::<Vec<_>>() {
            self.join_dht(id, now);
        }
    }

    /// Whether peers of this torrent are looked for in the DHT.
    pub(super) fn uses_dht(&self, info_hash: InfoHash) -> bool {
        let torrent = self.by_hash.get(&info_hash).and_then(|id| self.torrents.get(*id));
        self.dht.is_some() && torrent.is_some_and(|t| !t.spec.meta.private)
    }

    /// A torrent runs: its peers are looked for, and the nodes that it names are asked.
    pub(super) fn join_dht(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(id).filter(|t| t.swarming() && !t.spec.meta.private) else { return };
        let Some(dht) = self.dht.as_mut() else { return };
        dht.node.want(t.spec.meta.info_hash, true, now);
        let nodes = t.spec.meta.nodes.clone();
        for (host, port) in nodes {
            self.begin_at(host, port, now);
        }
    }

    /// Our network is back in a family.
    pub(super) fn on_dht_network_back(&mut self, v6: bool, now: Time) {
        if let Some(dht) = self.dht.as_mut() {
            dht.node.on_network_back(v6, now);
        }
    }

    /// It stops.
    pub(super) fn leave_dht(&mut self, id: TorrentId) {
        let Some(info_hash) = self.torrents.get(id).map(|t| t.spec.meta.info_hash) else { return };
        if self.by_hash.get(&info_hash).is_none_or(|other| *other == id)
            && let Some(dht) = self.dht.as_mut()
        {
            dht.node.forget(info_hash);
        }
    }

    /// A host to begin with: asked at once if it is an address, else looked up.
    fn begin_at(&mut self, host: String, port: u16, now: Time) {
        let Some(dht) = self.dht.as_mut() else { return };
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return dht.node.add_router(SocketAddr::new(ip, port), now);
        }
        let name = (host, port);
        if dht.looking.contains(&name) || dht.looking.len() >= DHT_NAMES_MAX {
            return;
        }
        dht.looking.push(name.clone());
        self.call(Call::LookUp { host: name.0, port }, now);
    }

    /// A name was looked up. False: not for us.
    pub(super) fn on_dht_looked_up(
        &mut self,
        host: &str,
        port: u16,
        result: &Result<Vec<SocketAddr>, String>,
        now: Time,
    ) -> bool {
        let Some(dht) = self.dht.as_mut() else { return false };
        let Some(at) = dht.looking.iter().position(|name| name.0 == host && name.1 == port) else {
            return false;
        };
        dht.looking.swap_remove(at);
        match result {
            Ok(addrs) => addrs.iter().for_each(|addr| dht.node.add_router(*addr, now)),
            Err(why) => {
                log::info!("dht: {host}: {why}");
                self.outage.on_unreached();
            }
        }
        true
    }

    pub(super) fn on_dht_datagram(&mut self, from: SocketAddr, data: &[u8], now: Time) {
        if let Some(dht) = self.dht.as_mut().filter(|_| self.stopping.is_none()) {
            dht.node.datagram(from, data, now);
        }
    }

    /// A peer tells the port of its node (BEP 5). It is pinged at the peer's own address alone, never at a privileged
    /// port, and at a bounded rate: a peer must not make us send where and as often as it likes.
    pub(super) fn on_port(&mut self, peer: PeerId, port: u16, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        let again = p.port_at.is_some_and(|at| now.since(at) < DHT_PORT_REST);
        if t.spec.meta.private || port < PEER_PORT_MIN || again {
            return;
        }
        p.port_at = Some(now);
        let addr = canonical(SocketAddr::new(p.addr.ip(), port));
        if let Some(dht) = self.dht.as_mut()
            && dht.may_ping(now)
        {
            dht.node.add_node(addr, now);
        }
    }

    pub(super) fn on_dht_look_up(&mut self, info_hash: InfoHash, now: Time) {
        if let Some(dht) = self.dht.as_mut() {
            dht.asked.insert(info_hash);
            dht.node.want(info_hash, false, now);
        }
    }

    pub(super) fn on_dht_status(&mut self, now: Time) {
        if let Some(dht) = self.dht.as_mut() {
            let stats = Report::DhtStats(Box::new(dht.node.stats(now)));
            dht.tell(stats);
        }
    }

    pub(super) fn on_dht_timer(&mut self, now: Time) {
        let Some(dht) = self.dht.as_mut() else { return };
        dht.armed = Time::NEVER;
        if self.stopping.is_some() {
            return;
        }
        dht.node.tick(now);
        if dht.save_at <= now {
            dht.save_at = now + DHT_SAVE;
            self.save_dht();
        }
    }

    /// The program is given the table to keep.
    pub(super) fn save_dht(&mut self) {
        let Some(dht) = self.dht.as_mut() else { return };
        if let Some(table) = dht.node.save() {
            dht.reports.push_back(Report::DhtTable(table));
        }
    }

    /// Carries out what the node wants.
    pub(super) fn pump_dht(&mut self, now: Time) {
        while let Some(output) = self.dht.as_mut().and_then(|dht| dht.node.poll()) {
            match output {
                Output::Send { to, bytes } => {
                    self.actions.push_back(Action::Datagram { to, data: bytes.into_boxed_slice() });
                }
                Output::Peers { info_hash, peers } => self.on_dht_peers(info_hash, peers, now),
                Output::Searched { info_hash, search } => {
                    self.look_sooner(info_hash, search.v6, now);
                    if let Some(dht) = self.dht.as_mut().filter(|dht| dht.asked.contains(&info_hash)) {
                        dht.tell(Report::DhtSearched { info_hash, search });
                    }
                }
                Output::Bootstrap => {
                    let names = self.dht.as_ref().map(|dht| dht.names.clone()).unwrap_or_default();
                    for (host, port) in names {
                        self.begin_at(host, port, now);
                    }
                }
            }
        }
        if self.stopping.is_none()
            && let Some(dht) = self.dht.as_mut()
        {
            let at = dht.node.deadline().unwrap_or(Time::NEVER).min(dht.save_at);
            self.timers.arm(&mut dht.armed, at, Key::Dht);
        }
    }

    /// A download that has nobody does not wait for its turn of 15 minutes.
    fn look_sooner(&mut self, info_hash: InfoHash, v6: bool, now: Time) {
        let torrent = self.by_hash.get(&info_hash).and_then(|id| self.torrents.get(*id));
        let Some(hungry) = torrent.map(|t| t.hungry() && t.peers.is_empty()) else { return };
        if let Some(dht) = self.dht.as_mut() {
            dht.node.hurry(info_hash, v6, hungry, now);
        }
    }

    fn on_dht_peers(&mut self, info_hash: InfoHash, peers: Vec<SocketAddr>, now: Time) {
        if let Some(id) = self.by_hash.get(&info_hash).copied()
            && let Some(t) = self.torrents.get_mut(id).filter(|t| t.swarming() && !t.spec.meta.private)
        {
            log::debug!("{id} the DHT names {} peers", peers.len());
            for addr in &peers {
                t.known.add(*addr, Source::Dht, now);
            }
            self.on_torrent_timer(id, now);
        }
        if let Some(dht) = self.dht.as_mut().filter(|dht| dht.asked.contains(&info_hash)) {
            dht.tell(Report::DhtPeers { info_hash, peers });
        }
    }
}
