//! Announces over UDP (BEP 15, 41), those of all torrents: who asks, what is under way, what is sent again and when,
//! and which answers are believed. The session brings in what happens and carries out what [`UdpTrackers::next`]
//! gives.
//!
//! A tracker, that is a host and a port, has one connection id for all torrents, asked for once at a time; announces
//! wait for it, then go out a few at a time, more as they are answered. So a tracker that hangs costs one datagram
//! now and then, however many torrents ask it.
//!
//! One whose name has addresses of both families hears each announce over both (BEP 7): who answered over one is asked
//! at an address of the other as if that were a tracker of its own, and the two answers become one.

mod place;
#[cfg(test)]
mod tests;

use crate::api::{TorrentId, TrackerFailure};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::compact;
use crate::proto::tracker::udp::{self, Answer, Family};
use crate::proto::tracker::url::{Host, Url};
use crate::proto::tracker::{Failure, Request, Response};
use place::{Connection, Place, Probe};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The number of an announce, never used again.
type AskId = u64;
/// The number of a tracker, never used again.
type PlaceId = u64;

/// An announce to make. One [`Out::Answer`] follows, unless it is cancelled.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Whose.
    pub(super) torrent: TorrentId,
    /// Which tracker, a number of the torrent's own.
    pub(super) tracker: u32,
    /// Where.
    pub(super) url: Url,
    /// What.
    pub(super) request: Request,
    /// Give up after this long and send again each second until then; None: the long schedule of BEP 15.
    pub(super) hurry: Option<Duration>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Out {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        data: Vec<u8>,
    },
    /// Send an announce, with the figures of this moment: it may have waited for long.
    Announce {
        /// Whose.
        torrent: TorrentId,
        /// Where to.
        to: SocketAddr,
        /// The connection id.
        connection: u64,
        /// The transaction id.
        transaction: u32,
        /// What, as it was when it was asked.
        request: Request,
        /// Path and query of the tracker's URL (BEP 41).
        target: String,
    },
    /// Look a tracker's name up; [`UdpTrackers::on_looked_up`] must follow.
    LookUp {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// What came of an announce.
    Answer {
        /// Whose.
        torrent: TorrentId,
        /// Which tracker.
        tracker: u32,
        /// The answer.
        result: Result<Response, TrackerFailure>,
    },
    /// The tracker takes long: others should be asked, while this announce goes on.
    Slow {
        /// Whose.
        torrent: TorrentId,
        /// Which tracker.
        tracker: u32,
    },
}

/// An announce that was not answered yet. With a flight it is under way, without it waits in a queue of its place.
struct Asked {
    ask: Ask,
    place: PlaceId,
    /// When it is said to be slow; never once that was said.
    slow: Time,
    /// When it is given up.
    until: Time,
    /// Sends that came to nothing.
    tries: u32,
    /// Its connection id was refused once.
    renewed: bool,
    /// What the tracker said over one address family: the other one is asked still.
    first: Option<Response>,
    flight: Option<Flight>,
    /// Its entry in `due`.
    due: Time,
}

/// An announce on its way.
#[derive(Clone, Copy)]
struct Flight {
    transaction: u32,
    to: SocketAddr,
    /// The connection id that it was sent with.
    connection: u64,
    /// When it is sent again.
    until: Time,
}

impl Asked {
    fn new(ask: Ask, place: PlaceId, slow: Time, until: Time) -> Asked {
        let (tries, renewed, first, flight, due) = (0, false, None, None, Time::NEVER);
        Asked { ask, place, slow, until, tries, renewed, first, flight, due }
    }

    fn kind(&self) -> usize {
        usize::from(self.tries > 0)
    }
}

/// What a transaction id belongs to.
#[derive(Clone, Copy)]
enum Of {
    Probe(PlaceId),
    Ask(AskId),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Place(PlaceId),
    Ask(AskId),
}

/// All announces over UDP.
pub(super) struct UdpTrackers {
    rng: Rng,
    places: BTreeMap<PlaceId, Place>,
    by_host: BTreeMap<(Host, u16), PlaceId>,
    asks: BTreeMap<AskId, Asked>,
    by_who: BTreeMap<(TorrentId, u32), AskId>,
    /// What is under way, by the id that its answer carries.
    transactions: BTreeMap<u32, Of>,
    /// What happens when: one entry at most for each place and announce.
    due: BTreeSet<(Time, Due)>,
    /// Places whose name is to be looked up, when fewer look-ups are out.
    look_ups: VecDeque<PlaceId>,
    looking: usize,
    outs: VecDeque<Out>,
    next_id: u64,
}

impl UdpTrackers {
    /// Nothing is asked yet. Transaction ids come from `rng`.
    pub(super) fn new(rng: Rng) -> UdpTrackers {
        UdpTrackers {
            rng,
            places: BTreeMap::new(),
            by_host: BTreeMap::new(),
            asks: BTreeMap::new(),
            by_who: BTreeMap::new(),
            transactions: BTreeMap::new(),
            due: BTreeSet::new(),
            look_ups: VecDeque::new(),
            looking: 0,
            outs: VecDeque::new(),
            next_id: 0,
        }
    }

    /// The next thing to do; to be drained after every other call.
    pub(super) fn next(&mut self) -> Option<Out> {
        self.outs.pop_front()
    }

    /// When [`UdpTrackers::on_tick`] is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes an announce on.
    pub(super) fn ask(&mut self, ask: Ask, now: Time) {
        let who = (ask.torrent, ask.tracker);
        if let Some(old) = self.by_who.get(&who).copied().and_then(|id| self.forget(id)) {
            self.pump(old.place, now);
        }
        let (place, id) = (self.place_of(ask.url.host(), ask.url.port(), now), self.id());
        let hanging = self.places.get(&place).is_some_and(|p| p.silent >= limits::UDP_SLOW_AFTER);
        let slow = match ask.hurry {
            Some(_) => Time::NEVER,
            None if hanging => now,
            None => now + wait(0, false) + wait(1, false),
        };
        let until = now + ask.hurry.unwrap_or(limits::UDP_PATIENCE);
        self.enter(id, Asked::new(ask, place, slow, until), now);
    }

    /// Puts an announce in line.
    fn enter(&mut self, id: AskId, asked: Asked, now: Time) {
        let place = asked.place;
        let Some(p) = self.places.get_mut(&place) else { return };
        let hurried = asked.ask.hurry.is_some();
        p.enqueue(id, 0, hurried);
        p.asks += 1;
        p.hurried += usize::from(hurried);
        let lazy = hurried && p.probe.is_some() && p.due > now + limits::UDP_RESEND_HURRIED;
        self.by_who.insert((asked.ask.torrent, asked.ask.tracker), id);
        self.asks.insert(id, asked);
        self.keep_bound();
        self.check_slow(id, now);
        self.arm_ask(id);
        if lazy {
            self.probe(place, now);
        }
        self.pump(place, now);
    }

    /// A torrent ends: forgets its announces and gives the numbers of their trackers; no answers will follow. One that
    /// has just gone out has a moment left, so that nothing is said twice.
    pub(super) fn cancel(&mut self, torrent: TorrentId, now: Time) -> Vec<u32> {
        let of_it = self.by_who.range((torrent, 0)..=(torrent, u32::MAX)).map(|(_, id)| *id);
        let of_it: Vec<AskId> = of_it.collect();
        let gone: Vec<Asked> = of_it.into_iter().filter_map(|id| self.forget_late(id, now)).collect();
        for asked in &gone {
            self.pump(asked.place, now);
        }
        gone.into_iter().map(|asked| asked.ask.tracker).collect()
    }

    /// The same for all torrents at once: nothing that waited goes out any more.
    pub(super) fn clear(&mut self, now: Time) -> Vec<(TorrentId, u32)> {
        let all: Vec<AskId> = self.asks.keys().copied().collect();
        let gone = all.into_iter().filter_map(|id| self.forget_late(id, now));
        gone.map(|asked| (asked.ask.torrent, asked.ask.tracker)).collect()
    }

    /// Forgets an announce, but hurries one that is on its way for the first time.
    fn forget_late(&mut self, id: AskId, now: Time) -> Option<Asked> {
        if self.asks.get(&id)?.first.is_some() {
            // The tracker knows of it already.
            let asked = self.forget(id)?;
            self.tell(asked, Err(no_answer()));
            return None;
        }
        let asked = self.asks.get_mut(&id)?;
        let Some(flight) = asked.flight.as_mut().filter(|_| asked.tries == 0) else { return self.forget(id) };
        if asked.ask.hurry.replace(limits::COMPLETED_TIMEOUT).is_none() {
            flight.until = flight.until.min(now + limits::UDP_RESEND_HURRIED);
            (asked.slow, asked.until) = (Time::NEVER, now + limits::COMPLETED_TIMEOUT);
            if let Some(p) = self.places.get_mut(&asked.place) {
                p.hurried += 1;
            }
            self.arm_ask(id);
        }
        None
    }

    /// A datagram came that may be an answer. What is not due here, from there, is ignored.
    pub(super) fn on_datagram(&mut self, from: SocketAddr, data: &[u8], now: Time) {
        let Ok((transaction, answer)) = udp::answer(data) else { return };
        let from = compact::canonical(from);
        match self.transactions.get(&transaction) {
            Some(Of::Probe(place)) => self.on_probe_answer(*place, transaction, from, answer, now),
            Some(Of::Ask(id)) => self.on_ask_answer(*id, from, answer, now),
            None => log::debug!("an answer from {from} that nobody waits for"),
        }
    }

    /// A datagram to this address could not be sent: there is no way there, or we may not.
    pub(super) fn on_unreachable(&mut self, to: SocketAddr, why: io::ErrorKind, now: Time) {
        let to = compact::canonical(to);
        let failure = || TrackerFailure::Network(format!("cannot send to it: {why}"));
        let concerned: Vec<PlaceId> =
            self.places.iter().filter(|(_, p)| p.concerns(to)).map(|(id, _)| *id).collect();
        for id in concerned {
            let flying: Vec<AskId> = self.flights(id).filter(|(_, to_)| *to_ == to).map(|f| f.0).collect();
            let Some(p) = self.places.get_mut(&id) else { continue };
            p.connection = p.connection.filter(|c| c.addr != to);
            let probing = p.probe.as_mut().is_some_and(|probe| probe.bury(to));
            for ask in flying {
                self.on_timeout(ask, now);
            }
            if probing && !self.probe(id, now) {
                self.fail_waiting(id, &failure(), now);
            }
        }
    }

    /// Our network is back: what is under way goes out again at once, and with a new connection id, as the old one may
    /// be of an address that we no longer have.
    pub(super) fn on_network_back(&mut self, now: Time) {
        let places: Vec<PlaceId> = self.places.keys().copied().collect();
        for id in places {
            self.end_probe(id);
            let flying: Vec<AskId> = self.flights(id).map(|(ask, _)| ask).collect();
            for ask in flying {
                self.recall(ask);
            }
            let Some(p) = self.places.get_mut(&id) else { continue };
            (p.connection, p.silent, p.lame) = (None, 0, Time::ZERO);
            p.window = limits::UDP_WINDOW_START;
            self.pump(id, now);
        }
    }

    /// Takes an announce that is on its way back into the queue, as if it had not been sent.
    fn recall(&mut self, id: AskId) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let (kind, place) = (asked.kind(), asked.place);
        let Some(flight) = asked.flight.take() else { return };
        asked.tries = 0;
        self.transactions.remove(&flight.transaction);
        if let Some(p) = self.places.get_mut(&place) {
            p.flying[kind] -= 1;
            p.enqueue(id, 0, true);
        }
        self.arm_ask(id);
    }

    /// The addresses of a tracker's name, or why there are none.
    pub(super) fn on_looked_up(
        &mut self,
        host: &str,
        port: u16,
        result: Result<Vec<SocketAddr>, String>,
        now: Time,
    ) {
        self.looking = self.looking.saturating_sub(1);
        if let Some(id) = self.by_host.get(&(Host::Name(host.to_owned()), port)).copied()
            && let Some(p) = self.places.get_mut(&id)
        {
            p.looking = false;
            match result.and_then(callable) {
                Ok(addrs) => {
                    p.adopt(addrs, now + limits::NAME_KEPT);
                    self.pump(id, now);
                }
                Err(why) => self.fail_waiting(id, &TrackerFailure::Network(why), now),
            }
        }
        while self.looking < limits::UDP_LOOK_UPS_OUT
            && let Some(next) = self.look_ups.pop_front()
        {
            self.look_up_now(next);
        }
    }

    /// Does what the time has come for.
    pub(super) fn on_tick(&mut self, now: Time) {
        while let Some((at, due)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            match due {
                Due::Place(id) => {
                    if let Some(p) = self.places.get_mut(&id) {
                        p.due = Time::NEVER;
                    }
                    self.on_probe_timeout(id, now);
                }
                Due::Ask(id) => self.on_ask_due(id, now),
            }
        }
    }

    fn on_ask_due(&mut self, id: AskId, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        asked.due = Time::NEVER;
        if asked.until <= now {
            return self.finish(id, Err(no_answer()), now);
        }
        let timeout = asked.flight.is_some_and(|flight| flight.until <= now);
        self.check_slow(id, now);
        if timeout {
            self.on_timeout(id, now);
        }
        self.arm_ask(id);
    }

    /// Tells that an announce is slow, if the time for that has come.
    fn check_slow(&mut self, id: AskId, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        if asked.slow <= now {
            asked.slow = Time::NEVER;
            let Ask { torrent, tracker, .. } = asked.ask;
            self.outs.push_back(Out::Slow { torrent, tracker });
        }
    }

    /// An announce was not answered in time: it goes out again, or back into the queue.
    fn on_timeout(&mut self, id: AskId, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let (Some(flight), Some(p)) = (asked.flight, self.places.get_mut(&asked.place)) else { return };
        p.flying[asked.kind()] -= 1;
        asked.tries += 1;
        p.window = (p.window / 2).max(1);
        let (place, tries, hurried) = (asked.place, asked.tries, asked.ask.hurry.is_some());
        p.demote(flight.to);
        if tries > limits::UDP_RESENDS_MAX && !hurried {
            p.flying[asked.kind()] += 1;
            return self.finish(id, Err(no_answer()), now);
        }
        let alive = p.connected(now).is_some_and(|c| c.id == flight.connection && c.addr == flight.to);
        if alive && p.has_room(1, hurried) {
            p.flying[1] += 1;
            self.send(id, flight, now);
        } else {
            asked.flight = None;
            self.transactions.remove(&flight.transaction);
            // Without room the others come first; without a connection it is the one to go on with.
            p.enqueue(id, 1, !alive || hurried);
            self.arm_ask(id);
        }
        self.grow_silent(place, tries, now);
        self.pump(place, now);
    }

    /// A tracker has not answered so many times in a row; from some point on all who wait for it look elsewhere.
    fn grow_silent(&mut self, place: PlaceId, times: u32, now: Time) {
        let Some(p) = self.places.get_mut(&place) else { return };
        let before = p.silent;
        p.silent = p.silent.max(times);
        if before < limits::UDP_SLOW_AFTER && p.silent >= limits::UDP_SLOW_AFTER {
            for id in p.waiting.iter().flatten().copied().collect::<Vec<_>>() {
                if let Some(asked) = self.asks.get_mut(&id)
                    && asked.slow != Time::NEVER
                {
                    asked.slow = now;
                    self.check_slow(id, now);
                    self.arm_ask(id);
                }
            }
        }
    }

    fn on_ask_answer(&mut self, id: AskId, from: SocketAddr, answer: Answer<'_>, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let Some(flight) = asked.flight.filter(|flight| flight.to == from) else {
            return log::debug!("an answer from {from} to what was sent elsewhere");
        };
        let result = match answer {
            Answer::Announced(said) => Ok(said.response(Family::of(from))),
            Answer::Refused(words) if is_about_connection(words) && !asked.renewed => {
                asked.renewed = true;
                return self.renew(id, flight, now);
            }
            Answer::Refused(words) => Err(refused(&Failure::new(words), &asked.ask.url)),
            Answer::Connected { .. } | Answer::Scraped(_) => return,
        };
        if let Some(p) = self.places.get_mut(&asked.place) {
            p.silent = 0;
            p.window = (p.window + 1).min(limits::UDP_WINDOW_MAX);
        }
        match (result, self.beside(id, from, now)) {
            (Ok(first), Some(other)) => self.ask_beside(id, first, other, now),
            (result, _) => self.finish(id, result, now),
        }
    }

    /// An address of the same tracker in the other family, unless that has failed lately.
    fn beside(&self, id: AskId, from: SocketAddr, now: Time) -> Option<SocketAddr> {
        // What is asked as the other family is a place of one address, which has no other.
        let mut addrs = self.places.get(&self.asks.get(&id)?.place)?.addrs.iter();
        let other = addrs.find(|addr| addr.is_ipv4() != from.is_ipv4()).copied()?;
        let place = self.by_host.get(&(Host::Ip(other.ip()), other.port()));
        let lame = place.and_then(|place| self.places.get(place)).is_some_and(|p| p.lame > now);
        (!lame).then_some(other)
    }

    /// Says the same over the other address family, which has a little time: the first answer waits for it.
    fn ask_beside(&mut self, id: AskId, first: Response, other: SocketAddr, now: Time) {
        let place = self.place_of(&Host::Ip(other.ip()), other.port(), now);
        let Some(asked) = self.forget(id) else { return };
        let until = asked.until.min(now + limits::FAMILY_GRACE);
        let ask = Ask { hurry: Some(limits::FAMILY_GRACE), ..asked.ask };
        let first = Some(first);
        self.enter(id, Asked { first, ..Asked::new(ask, place, Time::NEVER, until) }, now);
        self.pump(asked.place, now);
    }

    /// The tracker does not know our connection id any more: another one, once.
    fn renew(&mut self, id: AskId, flight: Flight, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let (place, kind) = (asked.place, asked.kind());
        asked.flight = None;
        self.transactions.remove(&flight.transaction);
        if let Some(p) = self.places.get_mut(&place) {
            p.flying[kind] -= 1;
            p.connection = p.connection.filter(|c| c.id != flight.connection);
            p.enqueue(id, kind, true);
        }
        self.arm_ask(id);
        self.pump(place, now);
    }

    /// Sends what waits for a tracker, as far as that may be now.
    fn pump(&mut self, id: PlaceId, now: Time) {
        loop {
            let Some(p) = self.places.get_mut(&id) else { return };
            if p.waiting.iter().all(VecDeque::is_empty) {
                return;
            }
            let Some(connection) = p.connected(now) else { return self.connect(id, now) };
            let asks = &self.asks;
            let hurried = |ask: &AskId| asks.get(ask).is_some_and(|a| a.ask.hurry.is_some());
            let Some(ask) = p.take(hurried) else { return };
            let Some(asked) = self.asks.get(&ask) else { continue };
            p.flying[asked.kind()] += 1;
            let transaction = self.transaction(Of::Ask(ask));
            let Connection { id: connection, addr: to, .. } = connection;
            self.send(ask, Flight { transaction, to, connection, until: now }, now);
        }
    }

    /// Sends an announce, and sets when it is sent again.
    fn send(&mut self, id: AskId, flight: Flight, now: Time) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let until = now + wait(asked.tries, asked.ask.hurry.is_some());
        asked.flight = Some(Flight { until, ..flight });
        let Flight { to, connection, transaction, .. } = flight;
        let Ask { torrent, ref request, ref url, .. } = asked.ask;
        let (request, target) = (request.clone(), url.target().to_owned());
        self.outs.push_back(Out::Announce { torrent, to, connection, transaction, request, target });
        self.arm_ask(id);
    }

    /// Sees to it that a tracker is asked for a connection id, once its address is known.
    fn connect(&mut self, id: PlaceId, now: Time) {
        let Some(p) = self.places.get_mut(&id) else { return };
        if p.probe.is_some() || p.looking {
            return;
        }
        if p.known <= now {
            p.looking = true;
            self.look_ups.push_back(id);
            if self.looking < limits::UDP_LOOK_UPS_OUT
                && let Some(next) = self.look_ups.pop_front()
            {
                self.look_up_now(next);
            }
            return;
        }
        // What was sent in vain goes on where it was in its schedule (BEP 15, the example of a lost announce).
        let oldest = if p.waiting[0].is_empty() { p.waiting[1].front() } else { None };
        let tries = oldest.and_then(|ask| self.asks.get(ask)).map_or(0, |asked| asked.tries);
        p.probe = Some(Probe::new(tries));
        if !self.probe(id, now) {
            let failure = TrackerFailure::Network("its address cannot be called".to_owned());
            self.fail_waiting(id, &failure, now);
        }
    }

    fn look_up_now(&mut self, id: PlaceId) {
        let Some(Place { host: Host::Name(host), port, .. }) = self.places.get(&id) else { return };
        self.looking += 1;
        self.outs.push_back(Out::LookUp { host: host.clone(), port: *port });
    }

    /// Asks for a connection id at the address whose turn it is. False: none is left to ask.
    fn probe(&mut self, id: PlaceId, now: Time) -> bool {
        let Some(p) = self.places.get_mut(&id) else { return true };
        let hurried = p.hurried > 0;
        let Some(probe) = &mut p.probe else { return true };
        let Some(to) = probe.turn(&p.addrs) else { return false };
        let at = now + wait(probe.tries, hurried);
        // The same id for each address as long as it is tried, so that late answers count.
        let transaction = match probe.sent.iter().find(|(addr, _)| *addr == to) {
            Some((_, transaction)) => *transaction,
            None => {
                let transaction = self.transaction(Of::Probe(id));
                if let Some(probe) = self.places.get_mut(&id).and_then(|p| p.probe.as_mut()) {
                    probe.sent.push((to, transaction));
                }
                transaction
            }
        };
        let mut data = Vec::new();
        udp::connect(&mut data, transaction);
        self.outs.push_back(Out::Send { to, data });
        self.arm_place(id, at);
        true
    }

    fn on_probe_timeout(&mut self, id: PlaceId, now: Time) {
        let Some(p) = self.places.get_mut(&id) else { return };
        let Some(probe) = &mut p.probe else { return };
        if p.asks == 0 {
            return self.end_probe(id);
        }
        probe.tries += 1;
        let tries = probe.tries;
        if tries > limits::UDP_RESENDS_MAX || !self.probe(id, now) {
            return self.fail_waiting(id, &no_answer(), now);
        }
        self.grow_silent(id, tries, now);
    }

    fn on_probe_answer(
        &mut self,
        id: PlaceId,
        transaction: u32,
        from: SocketAddr,
        answer: Answer<'_>,
        now: Time,
    ) {
        let Some(p) = self.places.get_mut(&id) else { return };
        let Some(probe) = &p.probe else { return };
        if !probe.sent.contains(&(from, transaction)) {
            return log::debug!("an answer from {from} to what was sent elsewhere");
        }
        match answer {
            Answer::Connected { connection } => {
                let until = now + limits::UDP_CONNECTION_KEPT;
                p.connection = Some(Connection { id: connection, addr: from, until });
                p.prefer(from);
                if p.waiting[1].is_empty() && p.flying[1] == 0 {
                    p.silent = 0;
                }
                self.end_probe(id);
                self.pump(id, now);
            }
            Answer::Refused(words) => {
                p.demote(from);
                let failure = TrackerFailure::Refused(Failure::new(words));
                self.fail_waiting(id, &failure, now);
            }
            Answer::Announced(_) | Answer::Scraped(_) => {}
        }
    }

    fn end_probe(&mut self, id: PlaceId) {
        let Some(p) = self.places.get_mut(&id) else { return };
        let sent = p.probe.take().map(|probe| probe.sent).unwrap_or_default();
        for (_, transaction) in sent {
            self.transactions.remove(&transaction);
        }
        self.arm_place(id, Time::NEVER);
    }

    /// Nobody who waits for this tracker will be served.
    fn fail_waiting(&mut self, id: PlaceId, failure: &TrackerFailure, now: Time) {
        self.end_probe(id);
        let Some(p) = self.places.get_mut(&id) else { return };
        for ask in p.waiting.iter_mut().flat_map(std::mem::take).collect::<Vec<_>>() {
            let url = self.asks.get(&ask).map(|asked| &asked.ask.url);
            let failure = match (failure, url) {
                (TrackerFailure::Refused(failure), Some(url)) => refused(failure, url),
                (failure, _) => failure.clone(),
            };
            self.finish(ask, Err(failure), now);
        }
    }

    /// An announce is over.
    fn finish(&mut self, id: AskId, result: Result<Response, TrackerFailure>, now: Time) {
        let Some(asked) = self.forget(id) else { return };
        let place = asked.place;
        if let Some(p) = self.places.get_mut(&place).filter(|_| asked.first.is_some() && result.is_err()) {
            p.lame = now + limits::FAMILY_RETRY;
        }
        self.tell(asked, result);
        self.pump(place, now);
    }

    /// Tells what came of an announce. What one address family fails at does no harm when the other did it.
    fn tell(&mut self, asked: Asked, result: Result<Response, TrackerFailure>) {
        let Asked { ask: Ask { torrent, tracker, .. }, first, .. } = asked;
        let result = match (first, result) {
            (Some(mut first), Ok(more)) => {
                first.merge(more);
                Ok(first)
            }
            (Some(first), Err(_)) => Ok(first),
            (None, result) => result,
        };
        self.outs.push_back(Out::Answer { torrent, tracker, result });
    }

    /// Takes an announce out, whatever its state.
    fn forget(&mut self, id: AskId) -> Option<Asked> {
        let asked = self.asks.remove(&id)?;
        self.by_who.remove(&(asked.ask.torrent, asked.ask.tracker));
        self.due.remove(&(asked.due, Due::Ask(id)));
        if let Some(flight) = asked.flight {
            self.transactions.remove(&flight.transaction);
        }
        if let Some(p) = self.places.get_mut(&asked.place) {
            p.asks -= 1;
            p.hurried -= usize::from(asked.ask.hurry.is_some());
            match asked.flight {
                Some(_) => p.flying[asked.kind()] -= 1,
                None => p.waiting[asked.kind()].retain(|other| *other != id),
            }
        }
        Some(asked)
    }

    /// The announces of a place that are under way, and where they went.
    fn flights(&self, id: PlaceId) -> impl Iterator<Item = (AskId, SocketAddr)> + '_ {
        let of_it = self.asks.iter().filter(move |(_, asked)| asked.place == id);
        of_it.filter_map(|(id, asked)| Some((*id, asked.flight?.to)))
    }

    /// Too many wait: the tracker with most of them loses the one that came last.
    fn keep_bound(&mut self) {
        if self.asks.len() <= limits::UDP_ASKS_MAX {
            return;
        }
        let crowded = self.places.values().filter(|p| p.waiting.iter().any(|w| !w.is_empty()));
        let last = crowded.max_by_key(|p| p.asks).and_then(|p| p.waiting.iter().flatten().max().copied());
        let Some(asked) = last.and_then(|id| self.forget(id)) else { return };
        self.tell(asked, Err(TrackerFailure::Network("too many announces wait for it".to_owned())));
    }

    /// The place of a host and port. Those that nobody asks any more are kept for their names and ids, a few.
    fn place_of(&mut self, host: &Host, port: u16, now: Time) -> PlaceId {
        let key = (host.clone(), port);
        if let Some(id) = self.by_host.get(&key) {
            if let Some(p) = self.places.get_mut(id) {
                p.used = now;
            }
            return *id;
        }
        if self.places.len() >= limits::UDP_PLACES_KEPT {
            let idle = self.places.iter().filter(|(_, p)| p.asks == 0 && !p.looking);
            if let Some(id) = idle.min_by_key(|(_, p)| p.used).map(|(id, _)| *id) {
                self.end_probe(id);
                if let Some(p) = self.places.remove(&id) {
                    self.by_host.remove(&(p.host, p.port));
                }
            }
        }
        let id = self.id();
        self.by_host.insert(key.clone(), id);
        self.places.insert(id, Place::new(key.0, key.1, now));
        id
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A transaction id that nobody can guess and nothing under way has.
    fn transaction(&mut self, of: Of) -> u32 {
        loop {
            let transaction = self.rng.u32();
            if let std::collections::btree_map::Entry::Vacant(entry) = self.transactions.entry(transaction) {
                entry.insert(of);
                return transaction;
            }
        }
    }

    fn arm_ask(&mut self, id: AskId) {
        let Some(asked) = self.asks.get_mut(&id) else { return };
        let resend = asked.flight.map_or(Time::NEVER, |flight| flight.until);
        let at = resend.min(asked.slow).min(asked.until);
        if at != asked.due {
            self.due.remove(&(asked.due, Due::Ask(id)));
            self.due.insert((at, Due::Ask(id)));
            asked.due = at;
        }
    }

    fn arm_place(&mut self, id: PlaceId, at: Time) {
        let Some(p) = self.places.get_mut(&id) else { return };
        self.due.remove(&(p.due, Due::Place(id)));
        p.due = at;
        if at != Time::NEVER {
            self.due.insert((at, Due::Place(id)));
        }
    }
}

/// How long an answer is waited for after so many tries (BEP 15).
fn wait(tries: u32, hurried: bool) -> Duration {
    if hurried {
        return limits::UDP_RESEND_HURRIED;
    }
    limits::UDP_RESEND * (1 << tries.min(limits::UDP_RESENDS_MAX))
}

fn no_answer() -> TrackerFailure {
    TrackerFailure::Network("no answer".to_owned())
}

/// A tracker's words for why it refuses, with nothing secret in them.
fn refused(failure: &Failure, url: &Url) -> TrackerFailure {
    TrackerFailure::Refused(Failure { words: url.hide_in(&failure.words), retry: failure.retry })
}

/// Whether a tracker's words are about the connection id: there is no code for it.
fn is_about_connection(words: &[u8]) -> bool {
    String::from_utf8_lossy(words).to_ascii_lowercase().contains("connection")
}

/// The addresses that datagrams can go to.
fn callable(addrs: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let addrs: Vec<_> =
        addrs.into_iter().map(compact::canonical).filter(|a| compact::is_callable(*a)).collect();
    if addrs.is_empty() { Err("it has no address that can be called".to_owned()) } else { Ok(addrs) }
}
