//! Getting into the network and staying there: bootstrap, the neighbourhood of our id, upkeep of the table, and
//! whether others reach us.

use super::calls::Purpose;
use super::ident::{Scope, Votes, new_id, scope};
use super::search::{Goal, Search};
use super::table::Table;
use super::{Node, Output, SideStats};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{
    DHT_ALONE, DHT_HOLE, DHT_JOIN_OTHER_MAX, DHT_JOIN_RETRY, DHT_JOIN_RETRY_MAX, DHT_K, DHT_NEIGHBOURS,
    DHT_READ_ONLY, DHT_ROUTERS_MAX, DHT_SAVED_MAX, DHT_UNREACHED, DHT_UPKEEP,
};
use crate::proto::compact::canonical;
use crate::proto::id::NodeId;
use crate::proto::krpc::{Contact, Method, Want};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Our part in the network of one family.
pub(super) struct Side {
    pub(super) id: NodeId,
    pub(super) table: Table,
    pub(super) votes: Votes,
    /// Our address as others see it.
    pub(super) external: Option<IpAddr>,
    /// Addresses to begin with.
    pub(super) routers: Vec<SocketAddr>,
    /// Nodes of the last run, and others that may be there.
    pub(super) saved: Vec<Contact>,
    /// When the last answer came.
    pub(super) answered_at: Time,
    /// When joining is due again, and how long the wait is then.
    join_at: Time,
    join_wait: Duration,
    /// When our neighbourhood is due.
    pub(super) neighbours_at: Time,
    /// When the table is looked after.
    pub(super) upkeep_at: Time,
    /// When a stranger's query came last, or it began to matter.
    reached: Time,
    pub(super) read_only: bool,
}

impl Side {
    pub(super) fn new(external: Option<IpAddr>, rng: &mut Rng, now: Time) -> Side {
        let id = new_id(external, rng);
        Side {
            id,
            table: Table::new(id),
            votes: Votes::default(),
            external,
            routers: Vec::new(),
            saved: Vec::new(),
            answered_at: Time::ZERO,
            join_at: now,
            join_wait: DHT_JOIN_RETRY,
            neighbours_at: Time::NEVER,
            upkeep_at: Time::NEVER,
            reached: now,
            read_only: false,
        }
    }

    pub(super) fn deadline(&self) -> Time {
        self.join_at.min(self.neighbours_at).min(self.upkeep_at)
    }

    pub(super) fn stats(&self, now: Time) -> SideStats {
        let table = self.table.count(now);
        SideStats { id: self.id, table, external: self.external, read_only: self.read_only }
    }

    /// Whether nobody had answered for long when a query was sent: then it is we who are cut off, and no node is to
    /// blame.
    pub(super) fn is_alone(&self, sent: Time) -> bool {
        self.answered_at + DHT_ALONE < sent
    }

    /// Nodes that others name on the way, while we know few.
    pub(super) fn hear_of(&mut self, nodes: &[Contact]) {
        if self.table.len() < DHT_K {
            let room = DHT_SAVED_MAX.saturating_sub(self.saved.len());
            let new = nodes.iter().filter(|node| !self.saved.contains(node)).take(room).copied();
            let new: Vec<_> = new.collect();
            self.saved.extend(new);
        }
    }
}

impl Node {
    /// A node may be at this address: of a PORT message, of a .torrent. It is asked, and if it answers it is known.
    pub fn add_node(&mut self, addr: SocketAddr, now: Time) {
        let addr = canonical(addr);
        if self.is_usable(addr) && !self.calls.is_asking(addr) {
            self.ask((addr, None), Method::Ping, Purpose::Ping, now);
            self.pump(now);
        }
    }

    /// An address to begin with, after [`Output::Bootstrap`]: it is asked for nodes while we know few.
    pub fn add_router(&mut self, addr: SocketAddr, now: Time) {
        let addr = canonical(addr);
        if !self.is_usable(addr) {
            return;
        }
        let at = usize::from(addr.is_ipv6());
        let Some(side) = self.sides[at].as_mut() else { return };
        if !side.routers.contains(&addr) {
            if side.routers.len() == DHT_ROUTERS_MAX {
                side.routers.remove(0);
            }
            side.routers.push(addr);
        }
        if side.table.len() >= DHT_K {
            return;
        }
        match self.own_search(at) {
            Some(search) => search.begin_at(addr),
            None => self.search_neighbours(at, now),
        }
        self.pump(now);
    }

    /// Our network is back in a family: if we know few there, we join at once.
    pub fn on_network_back(&mut self, v6: bool, now: Time) {
        if let Some(side) = self.sides[usize::from(v6)].as_mut()
            && side.table.len() < DHT_K
        {
            (side.join_at, side.join_wait) = (now, DHT_JOIN_RETRY);
        }
        self.pump(now);
    }

    fn own_search(&mut self, at: usize) -> Option<&mut Search> {
        self.searches.values_mut().find(|search| search.goal == Goal::Own && search.side == at)
    }

    fn search_neighbours(&mut self, at: usize, now: Time) {
        if self.own_search(at).is_none()
            && let Some(id) = self.sides[at].as_ref().map(|side| side.id)
        {
            self.start_search(id, Goal::Own, at, now);
        }
    }

    /// Whether anybody of this family is known.
    pub(super) fn is_joined(&self, at: usize) -> bool {
        let searching = || self.searches.values().any(|search| search.goal == Goal::Own && search.side == at);
        // The first search of our own id brings the nodes that others start from.
        self.sides[at].as_ref().is_some_and(|side| match side.table.len() {
            0 => false,
            n => n >= DHT_K || !searching(),
        })
    }

    /// Does what is due in one family.
    pub(super) fn look_after(&mut self, at: usize, now: Time) {
        let Some(side) = self.sides[at].as_ref() else { return };
        let (join, neighbours, upkeep) =
            (side.join_at <= now, side.neighbours_at <= now, side.upkeep_at <= now);
        if join {
            self.join(at, now);
        }
        if neighbours {
            let again = now + self.jitter(DHT_NEIGHBOURS);
            if let Some(side) = self.sides[at].as_mut() {
                side.neighbours_at = again;
            }
            self.search_neighbours(at, now);
        }
        if upkeep {
            self.keep_up(at, now);
        }
    }

    /// Begins with whoever is known, and asks for more addresses: at first only when there is nobody of the last run.
    fn join(&mut self, at: usize, now: Time) {
        let joined = self.sides[1 - at].as_ref().is_some_and(|other| other.table.len() >= DHT_K);
        let longest = if joined { DHT_JOIN_OTHER_MAX } else { DHT_JOIN_RETRY_MAX };
        let Some(side) = self.sides[at].as_mut() else { return };
        let first = side.join_wait == DHT_JOIN_RETRY;
        let wait = side.join_wait.min(longest);
        side.join_wait = 2 * wait;
        let enough = side.table.len() >= DHT_K;
        let others = !first || side.saved.is_empty() && side.table.len() == 0;
        let again = now + self.jitter(wait);
        if let Some(side) = self.sides[at].as_mut() {
            side.join_at = if enough { Time::NEVER } else { again };
        }
        if enough {
            return;
        }
        self.search_neighbours(at, now);
        if others && !self.out.contains(&Output::Bootstrap) {
            self.out.push_back(Output::Bootstrap);
        }
    }

    pub(super) fn on_own_search_done(&mut self, search: &Search, now: Time) {
        let Some(side) = self.sides[search.side].as_mut() else { return };
        side.saved.clear();
        let count = side.table.len();
        log::debug!("dht: {count} nodes after {} queries, {} answers", search.asked, search.answered);
        if count >= DHT_K {
            side.join_wait = DHT_JOIN_RETRY;
            side.join_at = Time::NEVER;
        } else if side.join_at == Time::NEVER {
            side.join_at = now + DHT_JOIN_RETRY;
        }
        side.upkeep_at = side.upkeep_at.min(now);
    }

    /// Fills a bucket that has room, or asks the node that was not heard of for longest; one thing at a time, so that
    /// an idle node costs a trickle.
    fn keep_up(&mut self, at: usize, now: Time) {
        self.judge_reach(at, now);
        let busy = self.searches.values().any(|search| search.side == at && search.goal == Goal::Fill);
        let Some(side) = self.sides[at].as_mut() else { return };
        if side.table.len() == 0 && side.join_at == Time::NEVER {
            (side.join_at, side.join_wait) = (now + DHT_JOIN_RETRY, DHT_JOIN_RETRY);
        }
        let (stale, thin) = (side.table.stalest(now), side.table.thin(now));
        let next = stale.map(|(_, due)| due).into_iter().chain(thin.map(|(_, due)| due)).min();
        side.upkeep_at = next.map_or(Time::NEVER, |next| next.max(now + DHT_UPKEEP));
        if let Some((bucket, due)) = thin
            && due <= now
            && !busy
        {
            let place = side.table.seek(bucket, &mut self.rng, now);
            return self.start_search(place, Goal::Fill, at, now);
        }
        if let Some((contact, due)) = stale
            && due <= now
            && !self.calls.is_asking(contact.addr)
        {
            let target = side.table.seek(side.table.place_of(contact.id), &mut self.rng, now);
            let method = Method::FindNode { target, want: Want::default() };
            self.ask((contact.addr, Some(contact.id)), method, Purpose::Upkeep, now);
        }
    }

    /// Nobody reached us for long: others need not keep us (BEP 43). After some hours we try anew.
    fn judge_reach(&mut self, at: usize, now: Time) {
        let Some(side) = self.sides[at].as_mut() else { return };
        let quiet = now.since(side.reached);
        if !side.read_only && quiet >= DHT_UNREACHED && side.table.len() >= DHT_K {
            log::info!("dht: nobody reaches us: read-only");
            side.read_only = true;
        } else if side.read_only && quiet >= DHT_READ_ONLY {
            (side.read_only, side.reached) = (false, now);
        }
    }

    /// A query came. One from an address that we sent nothing to shows that others reach us.
    pub(super) fn on_reached(&mut self, from: SocketAddr, now: Time) {
        while self.holes.front().is_some_and(|(at, _)| now.since(*at) > DHT_HOLE) {
            self.holes.pop_front();
        }
        let Some(side) = self.sides[usize::from(from.is_ipv6())].as_mut() else { return };
        if now.since(side.reached) < DHT_UNREACHED / 2 && !side.read_only {
            return;
        }
        // Between us and a local address nothing hides us.
        let stranger =
            scope(from.ip()) != Scope::Global || self.holes.iter().all(|(_, to)| to.ip() != from.ip());
        if stranger {
            (side.reached, side.read_only) = (now, false);
        }
    }
}
