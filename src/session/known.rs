//! Addresses we might call for one torrent: who named them, when each is due again, and who is never called again.
//! The torrent asks [`Known::next`] when it has room for a connection and tells how each ended.
//!
//! Each source has a table of its own, with a bound, and they take turns: so no source, however much it says, keeps
//! the others from being heard. Within one, a network with many candidates waits behind the others ([`networks`]), and
//! the canonical priority (BEP 40) decides among equals.

mod bans;
mod networks;

use super::outage::is_local;
use crate::api::Why;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::compact::{canonical, is_callable};
use crate::proto::network::Network;
use crate::proto::priority::priority;
use bans::Bans;
use networks::{LAST, Networks};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Who named an address, the most trusted first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    /// The user (`--peer`): called again for ever.
    User,
    /// A tracker, or the resume record.
    Tracker,
    /// It announced itself on the local network.
    Local,
    /// The DHT, where anybody may name anybody.
    Dht,
    /// A peer (BEP 11), who may name anybody too, and as many as it likes.
    Pex,
}

/// How many sources there are.
const SOURCES: usize = 5;

impl Source {
    /// The sources that are not the user, the least trusted first.
    const WORST_FIRST: [Source; 4] = [Source::Pex, Source::Dht, Source::Local, Source::Tracker];

    /// How many addresses of it are kept, of `max` in all.
    fn max(self, max: usize) -> usize {
        match self {
            Source::User | Source::Tracker => max,
            Source::Local => max / limits::KNOWN_LSD_PART,
            Source::Dht => max / limits::KNOWN_DHT_PART,
            Source::Pex => max / limits::KNOWN_PEX_PART,
        }
    }

    /// What a call costs it: the greater, the rarer its turns. The user's wait for nobody.
    fn cost(self) -> u64 {
        const SCALE: u64 = 840;
        let turns = limits::SOURCE_TURNS;
        match self {
            Source::User => 0,
            Source::Tracker => SCALE / turns[0],
            Source::Local => SCALE / turns[1],
            Source::Dht => SCALE / turns[2],
            Source::Pex => SCALE / turns[3],
        }
    }
}

/// Where a candidate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In `ready`, under this key.
    Ready(Key),
    /// In `waiting`, until then. `Time::NEVER`: until something wakes it, and the first to make room.
    Waiting(Time),
    /// Being called, or connected.
    Out,
}

/// The order in which ready candidates of one source are called: by the rank of their network, then few failures first,
/// then those never tried, then by their priority (BEP 40), or by chance as long as we do not know our own address.
type Key = (u32, u32, u8, u32);

/// How an address is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// With an encrypted handshake; if that fails, in the clear next.
    Untried,
    /// With one: it did well the last time.
    Encrypted,
    /// In the clear: the encrypted handshake has just failed.
    Second,
    /// In the clear: it did well the last time.
    Plain,
}

#[derive(Debug)]
struct Candidate {
    source: Source,
    way: Way,
    place: Place,
    attempts: u32,
    failures: u32,
    /// Calls in a row that our own network did not let out, or connections that it ended.
    local_failures: u32,
    /// So many more calls that fail do not count and are soon repeated: our network ended a good connection, which the
    /// other side may hold for a while and refuse another one for.
    reconnects: u32,
    /// The last call failed, or the connection was lost: it is called at once when somebody names it.
    lost: bool,
    /// It has everything, and so have we.
    resting: bool,
    /// When its last connection ended.
    closed: Time,
}

/// The candidates of one source that are not called or connected.
#[derive(Default)]
struct Side {
    ready: BTreeSet<(Key, SocketAddr)>,
    waiting: BTreeSet<(Time, SocketAddr)>,
    /// How many are of this source, wherever they stand.
    count: usize,
    /// What its calls have cost; who has spent least is next.
    spent: u64,
}

/// How many candidates each of so many torrents may keep.
pub(super) fn share(torrents: usize) -> usize {
    let each = limits::KNOWN_ALL_MAX / torrents.next_power_of_two();
    each.clamp(limits::KNOWN_MIN, limits::KNOWN_MAX)
}

/// The candidates of one torrent, [`share`] of them at most. Every operation is O(log n) but for a ban,
/// [`Known::set_seeding`] and [`Known::set_own`], which are rare.
pub(super) struct Known {
    /// How many there may be.
    max: usize,
    all: BTreeMap<SocketAddr, Candidate>,
    sides: [Side; SOURCES],
    /// What the source that called last had spent: who had nobody to call for a while begins there.
    spent: u64,
    /// Addresses with a connection of this torrent, and how many.
    occupied: BTreeMap<IpAddr, u32>,
    bans: Bans,
    networks: Networks,
    /// Addresses at which we met ourselves.
    ours: Bans,
    /// Our own address in each family, as others see it.
    own: [Option<SocketAddr>; 2],
    seeding: bool,
    rng: Rng,
}

impl Known {
    /// An empty table; `rng` decides among equals and spreads the calls.
    pub(super) fn new(rng: Rng) -> Known {
        Known {
            max: limits::KNOWN_MAX,
            all: BTreeMap::new(),
            sides: Default::default(),
            spent: 0,
            occupied: BTreeMap::new(),
            bans: Bans::default(),
            networks: Networks::default(),
            ours: Bans::default(),
            own: [None; 2],
            seeding: false,
            rng,
        }
    }

    /// How many there may be from now on: those that are too many are forgotten, the worst first, but nobody that the
    /// user named.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.all.len() > max
            && let Some(worst) = self.worst(Source::User)
        {
            self.forget(worst);
        }
    }

    /// Our own address as others see it: from now on priorities decide (BEP 40).
    pub(super) fn set_own(&mut self, own: SocketAddr) {
        let own = canonical(own);
        if self.own[usize::from(own.is_ipv6())].replace(own) == Some(own) {
            return;
        }
        let ready: Vec<SocketAddr> =
            self.sides.iter().flat_map(|side| &side.ready).map(|(_, addr)| *addr).collect();
        ready.into_iter().for_each(|addr| self.make_ready(addr));
    }

    /// Someone names an address. Tells whether it is new; not so when it is known, banned, ourselves or no address
    /// of a peer, or when the table is full of better ones.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source, now: Time) -> bool {
        let addr = canonical(addr);
        if !is_callable(addr) || self.bans.has(addr) || self.ours.has(addr) {
            return false;
        }
        if let Some(candidate) = self.all.get(&addr) {
            let old = candidate.source;
            self.set_source(addr, old.min(source));
            self.on_named_again(addr, now);
            return false;
        }
        if self.has_other_port(addr, source) || !self.make_room(addr, source) {
            return false;
        }
        let place = Place::Waiting(Time::NEVER);
        self.all.insert(addr, Candidate::new(source, place));
        self.sides[source as usize].count += 1;
        self.networks.add(addr);
        self.make_ready(addr);
        true
    }

    /// Whether this IP address is known under so many ports, or under one that has not failed yet and by somebody who
    /// may be making it up, that one more is of no use.
    fn has_other_port(&self, addr: SocketAddr, source: Source) -> bool {
        if source == Source::User || addr.ip().is_loopback() {
            return false;
        }
        let (first, last) = ports_of(addr.ip());
        let mut others = 0;
        for (_, candidate) in self.all.range(first..=last) {
            others += 1;
            if others >= limits::KNOWN_PORTS_MAX || source >= Source::Dht && candidate.failures == 0 {
                return true;
            }
        }
        false
    }

    /// The best candidate that is due, if any. It counts as called until [`Known::on_closed`].
    pub(super) fn next(&mut self, now: Time) -> Option<SocketAddr> {
        for side in 0..SOURCES {
            while let Some(&(due, addr)) = self.sides[side].waiting.first()
                && due <= now
                && due != Time::NEVER
            {
                self.make_ready(addr);
            }
        }
        loop {
            let source = self.whose_turn()?;
            let (_, addr) = *self.sides[source as usize].ready.first()?;
            // One connection an address; but what the user named is wanted, whatever else is there.
            if source != Source::User && self.is_occupied(addr.ip()) {
                let until = now + self.jitter(limits::REDIAL_DUPLICATE);
                self.place(addr, Place::Waiting(until));
                continue;
            }
            self.place(addr, Place::Out);
            let side = &mut self.sides[source as usize];
            self.spent = self.spent.max(side.spent);
            side.spent += source.cost();
            let candidate = self.all.get_mut(&addr)?;
            candidate.attempts = candidate.attempts.saturating_add(1);
            return Some(addr);
        }
    }

    /// The address that [`Known::next`] gave is not called before `until`, and has not been.
    pub(super) fn postpone(&mut self, addr: SocketAddr, until: Time) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.attempts = candidate.attempts.saturating_sub(1);
        }
        self.place(addr, Place::Waiting(until));
    }

    /// The source that has the next call: the user, or who has spent least.
    fn whose_turn(&self) -> Option<Source> {
        let ready = |source: &Source| !self.sides[*source as usize].ready.is_empty();
        if ready(&Source::User) {
            return Some(Source::User);
        }
        let mut best_first = Source::WORST_FIRST;
        best_first.reverse();
        best_first.into_iter().filter(ready).min_by_key(|source| self.sides[*source as usize].spent)
    }

    /// Whether the next call to this address begins with an encrypted handshake.
    pub(super) fn encrypts(&self, addr: SocketAddr) -> bool {
        let way = self.all.get(&canonical(addr)).map(|candidate| candidate.way);
        !matches!(way, Some(Way::Second | Way::Plain))
    }

    /// A call to this address went through its handshake, an encrypted one or not.
    pub(super) fn on_way(&mut self, addr: SocketAddr, encrypted: bool) {
        if let Some(candidate) = self.all.get_mut(&canonical(addr)) {
            candidate.way = if encrypted { Way::Encrypted } else { Way::Plain };
        }
    }

    /// A call reached this address and failed in its handshake, an encrypted one or not. True: it is called the other
    /// way before that counts, if `at_once`; else it is yet to be told that the connection ended.
    pub(super) fn on_failed_way(&mut self, addr: SocketAddr, encrypted: bool, at_once: bool) -> bool {
        let addr = canonical(addr);
        let banned = self.bans.has(addr);
        let Some(candidate) = self.all.get_mut(&addr) else { return false };
        let untried = candidate.way == Way::Untried && encrypted;
        candidate.way = if untried { Way::Second } else { Way::Untried };
        let again = untried && at_once && !banned;
        if again {
            self.make_ready(addr);
        }
        again
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// When [`Known::next`] has something, the past when at once; None when it will not by itself. To be asked only
    /// with room for a connection.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.sides.iter().any(|side| !side.ready.is_empty()) {
            return Some(Time::ZERO);
        }
        let due = self.sides.iter().filter_map(|side| side.waiting.first().map(|&(due, _)| due)).min();
        due.filter(|&due| due != Time::NEVER)
    }

    /// There is a connection with this address, whoever called. An address that nobody named (the far port of an
    /// incoming connection) is not one to call and changes nothing.
    pub(super) fn on_connected(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if self.all.contains_key(&addr) {
            self.place(addr, Place::Out);
        }
    }

    /// A connection with this IP address begins to take a place of the torrent; [`Known::vacate`] ends that.
    pub(super) fn occupy(&mut self, ip: IpAddr) {
        *self.occupied.entry(ip.to_canonical()).or_default() += 1;
    }

    pub(super) fn vacate(&mut self, ip: IpAddr) {
        if let Some(count) = self.occupied.get_mut(&ip.to_canonical()) {
            *count -= 1;
            if *count == 0 {
                self.occupied.remove(&ip.to_canonical());
            }
        }
    }

    /// Whether there is a connection with this IP address, and another one is not wanted: on the loopback device each
    /// port is another client.
    fn is_occupied(&self, ip: IpAddr) -> bool {
        !ip.is_loopback() && self.occupied.contains_key(&ip)
    }

    /// Whether the user named this very address.
    pub(super) fn is_users(&self, addr: SocketAddr) -> bool {
        self.all.get(&canonical(addr)).is_some_and(|c| c.source == Source::User)
    }

    /// The priority of a connection with this address (BEP 40), 0 where it is not known.
    pub(super) fn priority(&self, addr: SocketAddr) -> u32 {
        let own = self.own[usize::from(addr.is_ipv6())];
        own.and_then(|own| priority(own, addr)).unwrap_or(0)
    }

    /// The connection, or the attempt at one, ended. `useful`: payload moved, or it was up for long.
    pub(super) fn on_closed(&mut self, addr: SocketAddr, why: Why, useful: bool, now: Time) {
        let addr = canonical(addr);
        let source = self.all.get(&addr).map(|c| c.source);
        match why {
            Why::Corrupt => {
                self.ban(addr);
                return;
            }
            // Who the user named is never given up: something else may answer there for a while.
            Why::Protocol(_) if source != Some(Source::User) => {
                self.ban(addr);
                return;
            }
            _ => {}
        }
        if source.is_none() {
            return;
        }
        if why == Why::Myself {
            self.forget(addr);
            self.ours.add(addr);
            self.ours.trim(limits::OWN_ADDRESSES_MAX);
            return;
        }
        if self.bans.has(addr) {
            return self.forget(addr);
        }
        self.rest(addr, why, useful, now);
    }

    /// Decides when the address is called again.
    fn rest(&mut self, addr: SocketAddr, why: Why, useful: bool, now: Time) {
        let seeding = self.seeding;
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        candidate.closed = now;
        candidate.resting = why == Why::BothSeeds;
        let local = is_local(why);
        let wanted_gone =
            matches!(why, Why::Replaced | Why::Duplicate | Why::BothSeeds | Why::Stopping | Why::Busy);
        candidate.lost = !wanted_gone;
        candidate.local_failures = if local { candidate.local_failures.saturating_add(1) } else { 0 };
        let reconnects = !local && !useful && !wanted_gone && candidate.reconnects > 0;
        candidate.reconnects = match (local && useful, useful) {
            (true, _) => limits::RECONNECTS,
            (false, true) => 0,
            (false, false) => candidate.reconnects - u32::from(reconnects),
        };
        candidate.failures = match (useful, wanted_gone || local || reconnects) {
            (true, _) => 0,
            (false, true) => candidate.failures,
            (false, false) => candidate.failures.saturating_add(1),
        };
        let (source, failures, local_failures) =
            (candidate.source, candidate.failures, candidate.local_failures);
        let until = if candidate.resting && seeding || candidate.spent() {
            Time::NEVER
        } else if why == Why::Duplicate {
            // The other connection may end at any time, and who the user named must not be forgotten over it.
            let wait =
                if source == Source::User { limits::REDIAL_DUPLICATE_USER } else { limits::REDIAL_DUPLICATE };
            now + self.jitter(wait)
        } else if reconnects {
            now + self.jitter(limits::RECONNECT_WAIT)
        } else if local {
            now + self.jitter(local_back_off(source, local_failures))
        } else {
            now + self.jitter(back_off(source, failures))
        };
        self.place(addr, Place::Waiting(until));
    }

    /// Never again: neither this address (on whatever port, but for the loopback device, where every port is another
    /// client of the same user), nor any candidate with it. The others of a network with many bans are called last from
    /// then on, and not never: they may be all there is. False: it was banned already.
    pub(super) fn ban(&mut self, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        let port = if addr.ip().is_loopback() { addr.port() } else { 0 };
        let banned = SocketAddr::new(addr.ip(), port);
        let new = self.bans.add(banned);
        if new && self.networks.ban(banned) {
            self.put_last(addr);
        }
        if let Some(oldest) = self.bans.trim(limits::BANS_MAX) {
            self.networks.end_ban(oldest);
        }
        let (first, last) = ports_of(addr.ip());
        let gone: Vec<SocketAddr> = self
            .all
            .range(first..=last)
            .filter(|(a, c)| self.bans.has(**a) && (c.place != Place::Out || **a == addr))
            .map(|(a, _)| *a)
            .collect();
        for addr in gone {
            self.forget(addr);
        }
        new
    }

    /// The candidates of this address's network that are ready come after all others.
    fn put_last(&mut self, addr: SocketAddr) {
        let (first, last) = Network::of(addr).range();
        let ready = |c: &Candidate| matches!(c.place, Place::Ready(_));
        let theirs = self.all.range(first..=last).filter(|(_, c)| ready(c)).map(|(addr, _)| *addr);
        for addr in theirs.collect::<Vec<_>>() {
            self.make_ready(addr);
        }
    }

    /// How many banned addresses this network has.
    pub(super) fn bans_of(&self, network: Network) -> usize {
        self.networks.bans(network) as usize
    }

    /// Whether somebody named this address.
    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.all.contains_key(&canonical(addr))
    }

    /// Whether connections from this address are refused.
    pub(super) fn is_banned(&self, ip: IpAddr) -> bool {
        self.bans.has_host(ip.to_canonical())
    }

    /// We have everything, or no longer so. Who has everything too is not called as long as we have.
    pub(super) fn set_seeding(&mut self, seeding: bool, now: Time) {
        let was = std::mem::replace(&mut self.seeding, seeding);
        if seeding || !was {
            return;
        }
        let asleep = |side: &Side| side.waiting.range((Time::NEVER, LEAST)..).copied().collect::<Vec<_>>();
        let asleep: Vec<_> = self.sides.iter().flat_map(asleep).collect();
        for (_, addr) in asleep {
            let Some(candidate) = self.all.get_mut(&addr) else { continue };
            if std::mem::take(&mut candidate.resting) && !candidate.spent() {
                let (source, failures) = (candidate.source, candidate.failures);
                let until = now + self.jitter(back_off(source, failures));
                self.place(addr, Place::Waiting(until));
            }
        }
    }

    /// The torrent goes on after a pause: whose connections were good is called at once.
    pub(super) fn recall(&mut self) {
        let waiting = |side: &Side| side.waiting.range(..(Time::NEVER, LEAST)).copied().collect::<Vec<_>>();
        let due: Vec<_> = self.sides.iter().flat_map(waiting).map(|(_, addr)| addr).collect();
        for addr in due {
            if self.all.get(&addr).is_some_and(|c| c.failures == 0) {
                self.make_ready(addr);
            }
        }
    }

    /// Forgets the addresses that no tracker and no user named. Those that are connected are gone when they are closed.
    pub(super) fn keep_private(&mut self) {
        let foreign = |c: &Candidate| !matches!(c.source, Source::User | Source::Tracker);
        let gone: Vec<SocketAddr> =
            self.all.iter().filter(|(_, c)| foreign(c)).map(|(addr, _)| *addr).collect();
        gone.into_iter().for_each(|addr| self.forget(addr));
    }

    /// Another source named it: it moves there.
    fn set_source(&mut self, addr: SocketAddr, source: Source) {
        let Some(candidate) = self.all.get_mut(&addr).filter(|c| c.source != source) else { return };
        let (old, place) = (std::mem::replace(&mut candidate.source, source), candidate.place);
        self.unlink(addr, old, place);
        self.sides[old as usize].count -= 1;
        self.sides[source as usize].count += 1;
        self.link(addr, source, place);
    }

    /// Somebody names a known address: if it was lost it is called at once, whatever its back-off, but not within
    /// [`limits::REDIAL_NAMED`] of its last call. A call that failed for want of our own network does not
    /// count.
    fn on_named_again(&mut self, addr: SocketAddr, now: Time) {
        let seeding = self.seeding;
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        let Place::Waiting(due) = candidate.place else { return };
        if !candidate.lost || candidate.resting && seeding {
            return;
        }
        if candidate.spent() {
            candidate.failures = limits::REDIALS_MAX - 1;
        }
        let rest =
            if candidate.local_failures > 0 { Time::ZERO } else { candidate.closed + limits::REDIAL_NAMED };
        self.place(addr, Place::Waiting(due.min(now.max(rest))));
    }

    /// Our network is back in a family of addresses: what was lost since `since`, or could not be called at all, has
    /// not failed. It is called soon, the best source first.
    pub(super) fn on_network_back(&mut self, v6: bool, since: Time, now: Time) {
        let lost = |c: &Candidate| c.lost && (c.local_failures > 0 || c.closed >= since);
        let waits = |c: &Candidate| matches!(c.place, Place::Waiting(_)) && !(c.resting && self.seeding);
        let lost = self.all.iter().filter(|(addr, c)| addr.is_ipv6() == v6 && lost(c) && waits(c));
        let mut lost: Vec<(Source, u32, SocketAddr)> =
            lost.map(|(addr, c)| (c.source, c.failures, *addr)).collect();
        lost.sort_unstable();
        for (turn, (_, _, addr)) in (0..).zip(lost) {
            let Some(candidate) = self.all.get_mut(&addr) else { continue };
            (candidate.failures, candidate.local_failures) = (0, 0);
            let Place::Waiting(due) = candidate.place else { continue };
            self.place(addr, Place::Waiting(due.min(now + limits::RECALL_SPACING * turn)));
        }
    }

    /// Sees to it that there is room for this one from `source`, if need be by dropping the candidate that is worth
    /// least. False: all are worth as much, or its network has its share.
    fn make_room(&mut self, addr: SocketAddr, source: Source) -> bool {
        let of_source = source.max(self.max);
        let source_full = self.sides[source as usize].count >= of_source;
        if !source_full && self.all.len() < self.max {
            return true;
        }
        let room = if source_full { of_source } else { self.max };
        if source != Source::User && self.networks.has_share(addr, room) {
            return false;
        }
        let victim = if source_full {
            self.crowding(source, room).or_else(|| self.failed(source))
        } else {
            self.worst(source).or_else(|| self.crowding(source, room))
        };
        victim.inspect(|addr| self.forget(*addr)).is_some()
    }

    /// Of those that a source named the one that is called last, if its network has its share of this room.
    fn crowding(&self, source: Source, room: usize) -> Option<SocketAddr> {
        let last = self.sides[source as usize].ready.last().map(|(_, addr)| *addr);
        last.filter(|addr| source != Source::User && self.networks.has_share(*addr, room))
    }

    /// What may go for a new one from `source`: what sleeps for good, what a worse source named, what failed.
    fn worst(&self, source: Source) -> Option<SocketAddr> {
        let asleep = |of: &Source| {
            let last = self.sides[*of as usize].waiting.last();
            last.filter(|(until, _)| *until == Time::NEVER).map(|(_, addr)| *addr)
        };
        let worse = Source::WORST_FIRST.into_iter().filter(|of| *of > source);
        let mut worse = worse.filter_map(|of| {
            let side = &self.sides[of as usize];
            let ready = side.ready.last().map(|(_, addr)| *addr);
            self.failed(of).or(ready).or(side.waiting.last().map(|(_, addr)| *addr))
        });
        Source::WORST_FIRST
            .iter()
            .find_map(asleep)
            .or_else(|| worse.next())
            .or_else(|| Some(source).filter(|of| *of != Source::User).and_then(|of| self.failed(of)))
    }

    /// Of those that a source named one that was tried, the one of least use.
    fn failed(&self, source: Source) -> Option<SocketAddr> {
        let side = &self.sides[source as usize];
        let tried = |addr: &SocketAddr| self.all.get(addr).is_some_and(|c| c.attempts > 0);
        let last = |addr: Option<SocketAddr>| addr.filter(tried);
        last(side.waiting.last().map(|(_, addr)| *addr)).or(last(side.ready.last().map(|(_, addr)| *addr)))
    }

    fn make_ready(&mut self, addr: SocketAddr) {
        let chance = self.rng.u32();
        let known = self.own[usize::from(addr.is_ipv6())].is_some();
        let tie = if known { !self.priority(addr) } else { chance };
        let Some(candidate) = self.all.get(&addr) else { return };
        let rank = match (candidate.place, self.networks.rank(addr)) {
            // It keeps its turn, though others of its network have come after it.
            (Place::Ready((rank, ..)), now) if now != LAST => rank,
            (_, now) => now,
        };
        // Somebody is there for sure who failed in one way only.
        let tried = u8::from(candidate.attempts > 0 && candidate.way != Way::Second);
        self.place(addr, Place::Ready((rank, candidate.failures, tried, tie)));
    }

    /// Moves a candidate from where it stands to `to`.
    fn place(&mut self, addr: SocketAddr, to: Place) {
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        let (source, from) = (candidate.source, std::mem::replace(&mut candidate.place, to));
        self.unlink(addr, source, from);
        self.link(addr, source, to);
    }

    fn link(&mut self, addr: SocketAddr, source: Source, to: Place) {
        let spent = self.spent;
        let side = &mut self.sides[source as usize];
        if !matches!(to, Place::Waiting(_)) {
            self.networks.at_hand(addr);
        }
        match to {
            Place::Ready(key) => {
                if side.ready.is_empty() {
                    side.spent = side.spent.max(spent);
                }
                side.ready.insert((key, addr));
            }
            Place::Waiting(until) => {
                side.waiting.insert((until, addr));
            }
            Place::Out => {}
        }
    }

    fn unlink(&mut self, addr: SocketAddr, source: Source, from: Place) {
        let side = &mut self.sides[source as usize];
        if !matches!(from, Place::Waiting(_)) {
            self.networks.not_at_hand(addr);
        }
        match from {
            Place::Ready(key) => {
                side.ready.remove(&(key, addr));
            }
            Place::Waiting(until) => {
                side.waiting.remove(&(until, addr));
            }
            Place::Out => {}
        }
    }

    fn forget(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.all.remove(&addr) {
            self.unlink(addr, candidate.source, candidate.place);
            self.sides[candidate.source as usize].count -= 1;
            self.networks.remove(addr);
        }
    }

    /// Up to a quarter more, so that those lost together are not called together.
    fn jitter(&mut self, span: Duration) -> Duration {
        span + span * self.rng.below(256) / 1024
    }
}

impl Candidate {
    fn new(source: Source, place: Place) -> Candidate {
        Candidate {
            source,
            way: Way::Untried,
            place,
            attempts: 0,
            failures: 0,
            local_failures: 0,
            reconnects: 0,
            lost: false,
            resting: false,
            closed: Time::ZERO,
        }
    }

    /// Whether it failed so often that it is not called again unless someone names it again.
    fn spent(&self) -> bool {
        self.source != Source::User && self.failures >= limits::REDIALS_MAX
    }
}

/// How long after its `failures`-th failure in a row (0: a good connection that ended) an address waits.
fn back_off(source: Source, failures: u32) -> Duration {
    let (first, max) = match source {
        Source::User => (limits::REDIAL_USER, limits::REDIAL_USER_MAX),
        _ => (limits::REDIAL, limits::REDIAL_MAX),
    };
    (first * (1 << failures.saturating_sub(1).min(16))).min(max)
}

/// The same after so many calls in a row that our own network did not let out.
fn local_back_off(source: Source, local_failures: u32) -> Duration {
    let max = if source == Source::User { limits::REDIAL_USER_MAX } else { limits::REDIAL_MAX };
    (limits::REDIAL_LOCAL * (1 << local_failures.saturating_sub(1).min(16))).min(max)
}

/// Less than every address.
const LEAST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The first and the last of all addresses with this IP, in the order of `SocketAddr`.
fn ports_of(ip: IpAddr) -> (SocketAddr, SocketAddr) {
    match ip {
        IpAddr::V4(_) => (SocketAddr::new(ip, 0), SocketAddr::new(ip, u16::MAX)),
        IpAddr::V6(v6) => {
            let last = SocketAddrV6::new(v6, u16::MAX, u32::MAX, u32::MAX);
            (SocketAddr::new(ip, 0), last.into())
        }
    }
}

#[cfg(test)]
mod tests;
