//! Addresses we might call for one torrent: who named them, when each is due again, and who is never called again.
//! The torrent asks [`Known::next`] when it has room for a connection and tells how each ended.

use crate::api::Why;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::compact::{canonical, is_callable};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Who named an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    /// The user (`--peer`): called again for ever.
    User,
    /// A tracker, or the resume record.
    Tracker,
    /// The DHT, where anybody may name anybody.
    Dht,
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

/// The order in which ready candidates are called: few failures first, then the user's, then those never tried,
/// then by chance.
type Key = (u32, u8, u32);

#[derive(Debug)]
struct Candidate {
    source: Source,
    place: Place,
    attempts: u32,
    failures: u32,
    /// It has everything, and so have we.
    resting: bool,
    /// When its last connection ended.
    closed: Time,
}

/// The addresses that must not be used, the oldest forgotten first.
#[derive(Default)]
struct Bans {
    /// Port 0 stands for all ports of the address.
    set: BTreeSet<SocketAddr>,
    order: VecDeque<SocketAddr>,
}

impl Bans {
    /// Whether it is new.
    fn add(&mut self, addr: SocketAddr, max: usize) -> bool {
        if !self.set.insert(addr) {
            return false;
        }
        self.order.push_back(addr);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }

    fn has(&self, addr: SocketAddr) -> bool {
        self.set.contains(&addr) || self.set.contains(&SocketAddr::new(addr.ip(), 0))
    }
}

/// The candidates of one torrent, `limits::KNOWN_MAX` at most. Every operation is O(log n) but for a ban and
/// [`Known::set_seeding`], which are rare.
pub(super) struct Known {
    all: BTreeMap<SocketAddr, Candidate>,
    ready: BTreeSet<(Key, SocketAddr)>,
    waiting: BTreeSet<(Time, SocketAddr)>,
    bans: Bans,
    /// Addresses at which we met ourselves.
    ours: Bans,
    seeding: bool,
    rng: Rng,
}

impl Known {
    /// An empty table; `rng` decides among equals and spreads the calls.
    pub(super) fn new(rng: Rng) -> Known {
        Known {
            all: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            bans: Bans::default(),
            ours: Bans::default(),
            seeding: false,
            rng,
        }
    }

    /// Someone names an address. Tells whether it is new; not so when it is known, banned, ourselves or no address
    /// of a peer, or when the table is full of better ones.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source, now: Time) -> bool {
        let addr = canonical(addr);
        if !is_callable(addr) || self.bans.has(addr) || self.ours.has(addr) {
            return false;
        }
        if let Some(candidate) = self.all.get(&addr) {
            let (old, place, spent) = (candidate.source, candidate.place, candidate.spent());
            self.set_source(addr, old.min(source));
            if spent && place != Place::Out {
                self.give_another_try(addr, now);
            } else if let Place::Ready(_) = place {
                self.make_ready(addr);
            }
            return false;
        }
        if self.all.len() >= limits::KNOWN_MAX && !self.make_room(source) {
            return false;
        }
        let place = Place::Waiting(Time::NEVER);
        let (attempts, failures, resting, closed) = (0, 0, false, Time::ZERO);
        self.all.insert(addr, Candidate { source, place, attempts, failures, resting, closed });
        self.make_ready(addr);
        true
    }

    /// The best candidate that is due, if any. It counts as called until [`Known::on_closed`].
    pub(super) fn next(&mut self, now: Time) -> Option<SocketAddr> {
        while let Some(&(due, addr)) = self.waiting.first() {
            if due > now || due == Time::NEVER {
                break;
            }
            self.make_ready(addr);
        }
        let (_, addr) = *self.ready.first()?;
        self.place(addr, Place::Out);
        let candidate = self.all.get_mut(&addr)?;
        candidate.attempts = candidate.attempts.saturating_add(1);
        Some(addr)
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// When [`Known::next`] has something, the past when at once; None when it will not by itself. To be asked only
    /// with room for a connection.
    pub(super) fn deadline(&self) -> Option<Time> {
        if !self.ready.is_empty() {
            return Some(Time::ZERO);
        }
        self.waiting.first().map(|&(due, _)| due).filter(|&due| due != Time::NEVER)
    }

    /// There is a connection with this address, whoever called. An address that nobody named (the far port of an
    /// incoming connection) is not one to call and changes nothing.
    pub(super) fn on_connected(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if self.all.contains_key(&addr) {
            self.place(addr, Place::Out);
        }
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
            self.ours.add(addr, limits::OWN_ADDRESSES_MAX);
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
        let blameless = matches!(why, Why::Replaced | Why::Duplicate | Why::BothSeeds | Why::Stopping);
        candidate.failures = match (useful, blameless) {
            (true, _) => 0,
            (false, true) => candidate.failures,
            (false, false) => candidate.failures.saturating_add(1),
        };
        let (source, failures) = (candidate.source, candidate.failures);
        let until = if candidate.resting && seeding || candidate.spent() {
            Time::NEVER
        } else if why == Why::Duplicate {
            // The other connection may end at any time, and who the user named must not be forgotten over it.
            let wait =
                if source == Source::User { limits::REDIAL_DUPLICATE_USER } else { limits::REDIAL_DUPLICATE };
            now + self.jitter(wait)
        } else {
            now + self.jitter(back_off(source, failures))
        };
        self.place(addr, Place::Waiting(until));
    }

    /// Never again: neither this address (on whatever port, but for the loopback device, where every port is another
    /// client of the same user), nor any candidate with it. False: it was banned already.
    pub(super) fn ban(&mut self, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        let port = if addr.ip().is_loopback() { addr.port() } else { 0 };
        let new = self.bans.add(SocketAddr::new(addr.ip(), port), limits::BANS_MAX);
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

    /// Whether somebody named this address.
    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.all.contains_key(&canonical(addr))
    }

    /// Whether connections from this address are refused.
    pub(super) fn is_banned(&self, ip: IpAddr) -> bool {
        self.bans.set.contains(&SocketAddr::new(ip.to_canonical(), 0))
    }

    /// We have everything, or no longer so. Who has everything too is not called as long as we have.
    pub(super) fn set_seeding(&mut self, seeding: bool, now: Time) {
        let was = std::mem::replace(&mut self.seeding, seeding);
        if seeding || !was {
            return;
        }
        let asleep = self.waiting.split_off(&(Time::NEVER, LEAST));
        for (until, addr) in asleep {
            self.waiting.insert((until, addr));
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
        let due: Vec<SocketAddr> =
            self.waiting.range(..(Time::NEVER, LEAST)).map(|(_, addr)| *addr).collect();
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

    fn set_source(&mut self, addr: SocketAddr, source: Source) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.source = source;
        }
    }

    /// A spent address was named again: once more, but not before its longest back-off is over.
    fn give_another_try(&mut self, addr: SocketAddr, now: Time) {
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        candidate.failures = limits::REDIALS_MAX - 1;
        let until = now.max(candidate.closed + limits::REDIAL_MAX);
        self.place(addr, Place::Waiting(until));
    }

    /// Drops the candidate that is worth least, if it is worth less than a new one from `source`.
    fn make_room(&mut self, source: Source) -> bool {
        let mut worst = self.waiting.iter().rev().map(|&(_, addr)| addr);
        let mut victim = worst.find(|addr| self.all.get(addr).is_some_and(|c| c.source != Source::User));
        if victim.is_none() {
            let tried =
                |c: &Candidate| c.source != Source::User && (c.attempts > 0 || source == Source::User);
            victim = self.ready.last().map(|&(_, addr)| addr);
            victim = victim.filter(|addr| self.all.get(addr).is_some_and(tried));
        }
        let Some(addr) = victim else { return false };
        self.forget(addr);
        true
    }

    fn make_ready(&mut self, addr: SocketAddr) {
        let tie = self.rng.u32();
        let Some(candidate) = self.all.get(&addr) else { return };
        let class = match (candidate.source, candidate.attempts) {
            (Source::User, _) => 0,
            (_, 0) => 1,
            _ => 2,
        };
        self.place(addr, Place::Ready((candidate.failures, class, tie)));
    }

    /// Moves a candidate from where it stands to `to`.
    fn place(&mut self, addr: SocketAddr, to: Place) {
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        let from = std::mem::replace(&mut candidate.place, to);
        self.unlink(addr, from);
        match to {
            Place::Ready(key) => {
                self.ready.insert((key, addr));
            }
            Place::Waiting(until) => {
                self.waiting.insert((until, addr));
            }
            Place::Out => {}
        }
    }

    fn unlink(&mut self, addr: SocketAddr, from: Place) {
        match from {
            Place::Ready(key) => {
                self.ready.remove(&(key, addr));
            }
            Place::Waiting(until) => {
                self.waiting.remove(&(until, addr));
            }
            Place::Out => {}
        }
    }

    fn forget(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.all.remove(&addr) {
            self.unlink(addr, candidate.place);
        }
    }

    /// Up to a quarter more, so that those lost together are not called together.
    fn jitter(&mut self, span: Duration) -> Duration {
        span + span * self.rng.below(256) / 1024
    }
}

impl Candidate {
    /// Whether it failed so often that it is not called again unless someone names it again.
    fn spent(&self) -> bool {
        self.source != Source::User && self.failures >= limits::REDIALS_MAX
    }
}

/// How long after its `failures`-th failure in a row (0: a good connection that ended) an address waits.
fn back_off(source: Source, failures: u32) -> Duration {
    let (first, max) = match source {
        Source::User => (limits::REDIAL_USER, limits::REDIAL_USER_MAX),
        Source::Tracker | Source::Dht => (limits::REDIAL, limits::REDIAL_MAX),
    };
    (first * (1 << failures.saturating_sub(1).min(16))).min(max)
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
mod tests {
    use super::*;
    use std::io::ErrorKind::ConnectionRefused;

    /// What only the tests look at.
    impl Known {
        fn out(&self) -> usize {
            self.all.values().filter(|c| c.place == Place::Out).count()
        }

        fn callable(&self) -> usize {
            self.ready.len() + self.waiting.range(..(Time::NEVER, LEAST)).count()
        }

        fn banned(&self) -> usize {
            self.bans.set.len()
        }
    }

    const REFUSED: Why = Why::Unreachable(ConnectionRefused);

    fn table() -> Known {
        Known::new(Rng::new([5; 32]))
    }

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), 6881)
    }

    fn after(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn an_address_is_one_candidate_however_it_is_written() {
        let mut known = table();
        assert!(known.add("10.0.0.1:1".parse().unwrap(), Source::Tracker, Time::ZERO));
        assert!(!known.add("[::ffff:10.0.0.1]:1".parse().unwrap(), Source::Tracker, Time::ZERO));
        assert!(known.add("10.0.0.1:2".parse().unwrap(), Source::Tracker, Time::ZERO));
        for bad in ["10.0.0.9:0", "0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "[::]:1", "[ff02::1]:1"] {
            assert!(!known.add(bad.parse().unwrap(), Source::User, Time::ZERO), "{bad}");
        }
        assert_eq!(known.len(), 2);
    }

    #[test]
    fn the_users_and_the_untried_come_first() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        assert_eq!(known.next(Time::ZERO), Some(addr(1)));
        known.on_closed(addr(1), REFUSED, false, Time::ZERO);
        known.add(addr(2), Source::Tracker, Time::ZERO);
        known.add(addr(4), Source::Tracker, Time::ZERO);
        assert_eq!(known.next(Time::ZERO).map(|a| a == addr(2) || a == addr(4)), Some(true));
        known.add(addr(3), Source::User, after(3600));
        assert_eq!(known.next(after(3600)), Some(addr(3)));
        assert_eq!(known.next(after(3600)).map(|a| a == addr(2) || a == addr(4)), Some(true));
        assert_eq!(known.next(after(3600)), Some(addr(1)));
        assert_eq!(known.next(after(3600)), None);
    }

    #[test]
    fn a_named_again_address_takes_the_better_source() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        known.add(addr(2), Source::Tracker, Time::ZERO);
        known.add(addr(3), Source::Tracker, Time::ZERO);
        assert!(!known.add(addr(2), Source::User, Time::ZERO));
        assert_eq!(known.next(Time::ZERO), Some(addr(2)));
        assert_eq!(known.callable(), 2);
    }

    #[test]
    fn failures_back_off_until_the_address_is_spent() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        let (mut now, mut waits) = (Time::ZERO, Vec::new());
        while let Some(due) = known.deadline() {
            waits.push(due.since(now).as_secs());
            now = now.max(due);
            assert_eq!(known.next(now), Some(addr(1)));
            assert_eq!((known.next(now), known.out()), (None, 1));
            known.on_closed(addr(1), REFUSED, false, now);
        }
        assert_eq!(waits.len(), limits::REDIALS_MAX as usize);
        assert!(waits.windows(2).skip(1).all(|w| w[1] > w[0] * 3 / 2), "{waits:?}");
        assert_eq!((known.next(after(1_000_000)), known.len(), known.callable()), (None, 1, 0));
        known.add(addr(1), Source::Tracker, now);
        let due = known.deadline().unwrap();
        assert_eq!(due.since(now), limits::REDIAL_MAX);
        assert_eq!(known.next(due), Some(addr(1)));
        known.on_closed(addr(1), REFUSED, false, due);
        assert_eq!(known.deadline(), None);
    }

    #[test]
    fn the_users_peer_that_was_connected_already_is_called_again_soon() {
        let start = Time(1_000_000);
        for (source, soon) in [(Source::User, true), (Source::Tracker, false)] {
            let mut known = Known::new(Rng::new([1; 32]));
            known.add(addr(1), source, start);
            assert_eq!(known.next(start), Some(addr(1)));
            known.on_closed(addr(1), Why::Duplicate, false, start);
            assert_eq!(known.next(start), None);
            assert_eq!(known.next(start + Duration::from_secs(60)).is_some(), soon);
        }
    }

    #[test]
    fn the_users_peer_is_called_for_ever() {
        let mut known = table();
        known.add(addr(1), Source::User, Time::ZERO);
        let mut now = Time::ZERO;
        for why in [REFUSED, Why::Timeout, Why::Protocol("junk"), Why::Eof].iter().cycle().take(200) {
            now = now.max(known.deadline().unwrap());
            assert_eq!(known.next(now), Some(addr(1)));
            known.on_closed(addr(1), *why, false, now);
            assert!(known.deadline().unwrap().since(now) <= limits::REDIAL_USER_MAX * 5 / 4);
        }
        known.on_closed(addr(1), Why::Eof, true, now);
        assert!(known.deadline().unwrap().since(now) <= limits::REDIAL_USER * 5 / 4);
        known.on_closed(addr(1), Why::Corrupt, true, now);
        assert_eq!((known.deadline(), known.len()), (None, 0));
    }

    #[test]
    fn a_good_connection_clears_the_failures() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        for n in 0..40 {
            let now = after(n * 10_000);
            assert_eq!(known.next(now), Some(addr(1)), "{n}");
            known.on_connected(addr(1));
            known.on_closed(addr(1), Why::Eof, n % 3 == 0, now);
        }
    }

    #[test]
    fn a_ban_holds_for_all_ports_but_on_loopback() {
        let mut known = table();
        let [a, b] = ["[2001:db8::1]:1", "[2001:db8::1]:2"].map(|a| a.parse::<SocketAddr>().unwrap());
        let [c, d] = ["127.0.0.1:1", "127.0.0.1:2"].map(|a| a.parse::<SocketAddr>().unwrap());
        for addr in [a, b, c, d] {
            known.add(addr, Source::Tracker, Time::ZERO);
        }
        known.on_connected(b);
        known.on_closed(a, Why::Protocol("x"), true, Time::ZERO);
        known.on_closed(c, Why::Corrupt, true, Time::ZERO);
        assert!(known.is_banned(a.ip()) && !known.is_banned(c.ip()));
        assert!(!known.add(a, Source::User, Time::ZERO) && !known.add(c, Source::User, Time::ZERO));
        assert_eq!((known.next(Time::ZERO), known.next(Time::ZERO), known.out()), (Some(d), None, 2));
        known.on_closed(b, Why::Eof, true, Time::ZERO);
        assert_eq!((known.len(), known.out(), known.deadline()), (1, 1, None));
        for n in 0..2 * limits::BANS_MAX as u32 {
            known.ban(addr(n));
        }
        assert_eq!(known.banned(), limits::BANS_MAX);
    }

    #[test]
    fn we_are_not_called_again() {
        let mut known = table();
        known.add(addr(1), Source::User, Time::ZERO);
        assert_eq!(known.next(Time::ZERO), Some(addr(1)));
        known.on_closed(addr(1), Why::Myself, false, Time::ZERO);
        assert!(!known.add(addr(1), Source::User, after(9)) && known.len() == 0);
        assert!(!known.is_banned(addr(1).ip()));
        assert!(known.add(SocketAddr::new(addr(1).ip(), 7), Source::Tracker, after(9)));
    }

    #[test]
    fn seeds_are_not_called_while_we_seed() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        known.set_seeding(true, Time::ZERO);
        assert_eq!(known.next(Time::ZERO), Some(addr(1)));
        known.on_closed(addr(1), Why::BothSeeds, false, Time::ZERO);
        assert_eq!((known.deadline(), known.next(after(1 << 30))), (None, None));
        known.set_seeding(false, after(1));
        assert_eq!(known.next(after(3600)), Some(addr(1)));
    }

    #[test]
    fn who_made_room_is_called_later() {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        for n in 0..100 {
            let now = after(n * 1000);
            assert_eq!(known.next(now), Some(addr(1)));
            let why = if n % 2 == 0 { Why::Replaced } else { Why::Duplicate };
            known.on_closed(addr(1), why, false, now);
            assert_eq!(known.next(now), None);
        }
    }

    #[test]
    fn a_full_table_drops_the_worst_and_keeps_the_users() {
        let mut known = table();
        known.add(addr(0), Source::User, Time::ZERO);
        for n in 1..limits::KNOWN_MAX as u32 {
            assert!(known.add(addr(n), Source::Tracker, Time::ZERO));
        }
        assert!(!known.add(addr(99_999), Source::Tracker, Time::ZERO));
        assert!(known.add(addr(99_999), Source::User, Time::ZERO));
        let called = [known.next(Time::ZERO), known.next(Time::ZERO), known.next(Time::ZERO)];
        for addr in called.into_iter().flatten() {
            known.on_closed(addr, REFUSED, false, Time::ZERO);
        }
        assert!(known.add(addr(77_777), Source::Tracker, Time::ZERO));
        assert!(!known.add(addr(77_778), Source::Tracker, Time::ZERO));
        assert_eq!(known.len(), limits::KNOWN_MAX);
        assert_eq!(known.all.values().filter(|c| c.source == Source::User).count(), 2);
    }

    const WHYS: [Why; 14] = [
        Why::Eof,
        Why::Io(ConnectionRefused),
        REFUSED,
        Why::Timeout,
        Why::Stalled,
        Why::Protocol("x"),
        Why::UnknownTorrent,
        Why::Myself,
        Why::Duplicate,
        Why::BothSeeds,
        Why::Replaced,
        Why::Corrupt,
        Why::Stopping,
        Why::Eof,
    ];

    /// What the test itself remembers of an address.
    #[derive(Default, Clone)]
    struct Seen {
        out: bool,
        never: bool,
        closed: Option<Time>,
    }

    fn step(known: &mut Known, rng: &mut Rng, seen: &mut BTreeMap<SocketAddr, Seen>, now: Time) {
        let who = addr(rng.below(6000));
        let from = rng.below(6000);
        let out = |(a, s): (&SocketAddr, &Seen)| s.out.then_some(*a);
        let out: Option<SocketAddr> = seen.range(addr(from)..).find_map(out);
        match rng.below(8) {
            0..=2 => {
                known.add(who, if rng.below(100) == 0 { Source::User } else { Source::Tracker }, now);
            }
            3 if known.all.contains_key(&who) => {
                known.on_connected(who);
                seen.entry(who).or_default().out = true;
            }
            4..=5 => {
                let Some(who) = out else { return };
                let why = WHYS[rng.index(WHYS.len())];
                // We have few addresses, and only so many are remembered.
                let why = if why == Why::Myself && who > addr(30) { Why::Eof } else { why };
                let user = known.all.get(&who).is_some_and(|c| c.source == Source::User);
                known.on_closed(who, why, rng.below(2) == 0, now);
                let never =
                    matches!(why, Why::Corrupt | Why::Myself) || matches!(why, Why::Protocol(_)) && !user;
                seen.insert(who, Seen { out: false, never, closed: Some(now) });
            }
            _ => {
                let Some(got) = known.next(now) else { return };
                let s = seen.entry(got).or_default();
                assert!(!s.out && !s.never && !known.is_banned(got.ip()), "{got} {now:?}");
                assert!(s.closed.is_none_or(|at| now.since(at) >= limits::REDIAL_USER), "{got} {now:?}");
                s.out = true;
            }
        }
    }

    #[test]
    fn it_stays_bounded_and_calls_nobody_it_must_not() {
        for seed in 0..8 {
            let mut rng = Rng::new([seed; 32]);
            let (mut known, mut seen, mut now) =
                (Known::new(Rng::new(rng.seed())), BTreeMap::new(), Time::ZERO);
            for turn in 0..20_000 {
                now += Duration::from_millis(u64::from(rng.below(200)));
                if turn % 1000 == 0 {
                    known.set_seeding(rng.below(2) == 0, now);
                }
                step(&mut known, &mut rng, &mut seen, now);
                assert!(known.len() <= limits::KNOWN_MAX && known.banned() <= limits::BANS_MAX);
                assert_eq!(known.len(), known.ready.len() + known.waiting.len() + known.out());
            }
        }
    }
}
