//! The info dictionary of a torrent from its peers (BEP 9): which piece is asked of whom, and what becomes of those who
//! lie. No peer proves anything before the whole is hashed, neither what it sends nor the size that it names.
//!
//! One size is tried at a time, the one that most addresses name; all who name it are asked side by side. When the
//! whole turns out wrong, whoever gave all of it has lied; of several it is not known who, so from then on each try is
//! one peer's alone, until it is right. A size that failed, or that brings nothing for a while, comes after the others.
//! A size is tried as soon as the budget of all torrents has room for it ([`super::budget`]).

use super::budget::Room;
use crate::api::PeerId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{
    METADATA_AHEAD, METADATA_PACE_MIN, METADATA_REST, METADATA_REST_MAX, METADATA_SIZES_MAX, METADATA_SLOW,
    METADATA_STALL, METADATA_SUSPECTS_MAX, METADATA_TIMEOUT, METADATA_TURN,
};
use crate::proto::extended::metadata::{PIECE, piece_len, pieces};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a message of a peer comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Taken {
    /// Nothing that was asked for: nothing has changed.
    Ignored,
    /// Nothing but what [`Fetch::next`] will say.
    Noted,
    /// All of it is there: [`Fetch::whole`] has it.
    Whole,
    /// It is not what this peer was asked for.
    Wrong(&'static str),
}

/// A peer that says how long the dictionary is.
#[derive(Debug)]
struct Source {
    addr: SocketAddr,
    size: u32,
    /// Pieces that it was asked for and has not sent, with the moment.
    asked: Vec<(u32, Time)>,
    /// Pieces that it was asked for in vain: they may still come.
    late: Vec<u32>,
    /// How many pieces it is asked for at a time.
    ahead: usize,
    /// It is not asked before this.
    rest: Time,
    /// How often in a row it refused, or was silent.
    refusals: u32,
}

/// The dictionary as far as it is there, if it has that size.
#[derive(Debug)]
struct Plan {
    size: u32,
    pieces: Vec<Option<Box<[u8]>>>,
    /// When each piece was asked for last.
    asked: Vec<Time>,
    left: usize,
    /// All before this one are there.
    first: usize,
    /// Who gave some of it.
    from: Vec<SocketAddr>,
    /// The one peer that this try is made with.
    only: Option<PeerId>,
    /// When it began.
    since: Time,
    /// When something came last.
    moved: Time,
}

impl Plan {
    fn new(size: u32, only: Option<PeerId>, now: Time) -> Plan {
        let count = pieces(size) as usize;
        Plan {
            size,
            pieces: (0..count).map(|_| None).collect(),
            asked: vec![Time::ZERO; count],
            left: count,
            first: 0,
            from: Vec::new(),
            only,
            since: now,
            moved: now,
        }
    }

    /// The next piece to ask this peer for. One that another peer keeps us waiting for is asked of both.
    fn next(&self, source: &Source, now: Time) -> Option<u32> {
        let free = |at: &usize| {
            let asked = self.asked[*at];
            self.pieces[*at].is_none() && (asked == Time::ZERO || now >= asked + METADATA_SLOW)
        };
        let mut missing = (self.first..self.pieces.len()).filter(free).map(|at| at as u32);
        missing.find(|piece| !source.asked.iter().any(|(asked, _)| asked == piece))
    }
}

/// How a size has done.
#[derive(Clone, Copy, Default, Debug)]
struct Record {
    /// How often the whole was wrong.
    wrong: u32,
    /// How often nothing came of it.
    stalls: u32,
}

/// The fetching of one torrent's info dictionary.
pub(in super::super) struct Fetch {
    sources: BTreeMap<PeerId, Source>,
    plan: Option<Plan>,
    sizes: BTreeMap<u32, Record>,
    /// Who took part in a try that was wrong.
    suspects: Vec<SocketAddr>,
    /// It is being hashed.
    checking: bool,
    /// There is no room for the size that would be tried.
    waits: bool,
    /// No size is tried before this: it made way for others.
    rest: Time,
    /// The smallest size that a peer named and that is too large.
    too_large: Option<u32>,
    rng: Rng,
}

impl Fetch {
    /// With nobody to ask. `rng` decides among equals.
    pub(in super::super) fn new(rng: Rng) -> Fetch {
        Fetch {
            sources: BTreeMap::new(),
            plan: None,
            sizes: BTreeMap::new(),
            suspects: Vec::new(),
            checking: false,
            waits: false,
            rest: Time::ZERO,
            too_large: None,
            rng,
        }
    }

    /// A peer takes requests, and says how many bytes there are.
    pub(in super::super) fn offer(&mut self, peer: PeerId, addr: SocketAddr, size: u32) {
        if let Some(source) = self.sources.get_mut(&peer) {
            if source.size != size {
                (source.size, source.asked, source.late) = (size, Vec::new(), Vec::new());
            }
            return;
        }
        let (asked, late, ahead, rest, refusals) = (Vec::new(), Vec::new(), 1, Time::ZERO, 0);
        self.sources.insert(peer, Source { addr, size, asked, late, ahead, rest, refusals });
    }

    /// A peer names a size that is not taken.
    pub(in super::super) fn refuse(&mut self, peer: PeerId, size: u32) {
        self.too_large = Some(self.too_large.map_or(size, |other| other.min(size)));
        self.lost(peer);
    }

    /// The smallest size that was refused, if no peer names another one.
    pub(in super::super) fn too_large(&self) -> Option<u32> {
        self.too_large.filter(|_| self.sources.is_empty())
    }

    /// Bytes of the budget that it has: the size that is tried, whatever has come of it.
    pub(in super::super) fn reserved(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.size.into())
    }

    /// Whether it waits for room in the budget.
    pub(in super::super) fn waits(&self) -> bool {
        self.waits && self.plan.is_none()
    }

    /// Others wait for room. If too little has come for the time, what there is is dropped, and others have a while.
    pub(in super::super) fn give_way(&mut self, now: Time) {
        let Some(plan) = self.plan.as_ref().filter(|plan| !self.checking && plan.left > 0) else { return };
        let came = u64::from(PIECE) * (plan.pieces.len() - plan.left) as u64;
        let due = plan.since + METADATA_TURN + Duration::from_secs(came / METADATA_PACE_MIN);
        if now >= due || now >= plan.moved + METADATA_STALL {
            let size = plan.size;
            self.record(size).stalls += 1;
            self.drop_plan();
            self.rest = now + METADATA_REST;
        }
    }

    /// What came was wrong, and others wait for room: they have a while.
    pub(in super::super) fn let_others(&mut self, now: Time) {
        self.rest = now + METADATA_REST;
    }

    /// Forgets what has come, unless it is being hashed.
    pub(in super::super) fn drop_plan(&mut self) {
        if !self.checking {
            self.plan = None;
            self.give_up_requests();
        }
    }

    /// What peers were asked for may still come, and is not waited for.
    fn give_up_requests(&mut self) {
        for source in self.sources.values_mut() {
            source.late.extend(source.asked.drain(..).map(|(piece, _)| piece));
            let excess = source.late.len().saturating_sub(4 * METADATA_AHEAD);
            source.late.drain(..excess);
        }
    }

    /// A peer is gone, or takes no more requests.
    pub(in super::super) fn lost(&mut self, peer: PeerId) {
        let Some(source) = self.sources.remove(&peer) else { return };
        self.free(&source.asked);
        self.end_single(peer);
    }

    /// Whether anybody can be asked, now or later.
    pub(in super::super) fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Bytes that are there, of how many; None while no size is believed.
    pub(in super::super) fn progress(&self) -> Option<(u64, u64)> {
        let plan = self.plan.as_ref()?;
        let left = u64::from(PIECE) * plan.left as u64;
        Some((u64::from(plan.size).saturating_sub(left), plan.size.into()))
    }

    /// The next request to send, to whom. To be asked until there is none, each second and after each message.
    pub(in super::super) fn next(&mut self, now: Time, room: Room) -> Option<(PeerId, u32)> {
        self.expire(now);
        if self.checking {
            return None;
        }
        self.choose(now, room);
        let plan = self.plan.as_mut()?;
        let fit = |(peer, source): &(&PeerId, &mut Source)| {
            source.size == plan.size
                && plan.only.is_none_or(|only| only == **peer)
                && source.rest <= now
                && source.asked.len() < source.ahead
        };
        let mut fit: Vec<_> = self.sources.iter_mut().filter(fit).collect();
        fit.sort_by_key(|(_, source)| (source.asked.len(), source.refusals));
        for (peer, source) in fit {
            if let Some(piece) = plan.next(source, now) {
                plan.asked[piece as usize] = now;
                source.asked.push((piece, now));
                return Some((*peer, piece));
            }
        }
        None
    }

    /// A piece is in.
    pub(in super::super) fn on_data(
        &mut self,
        peer: PeerId,
        piece: u32,
        total: u32,
        data: &[u8],
        now: Time,
    ) -> Taken {
        let Some(source) = self.sources.get_mut(&peer) else { return Taken::Ignored };
        let asked = source.asked.iter().position(|(asked, _)| *asked == piece);
        let late = source.late.iter().position(|late| *late == piece);
        match (asked, late) {
            (Some(at), _) => _ = source.asked.swap_remove(at),
            (None, Some(at)) => _ = source.late.swap_remove(at),
            // Asked for before it changed the size that it names, or never: worth nothing, and no harm.
            (None, None) => return Taken::Ignored,
        }
        if total != 0 && total != source.size || data.len() != piece_len(piece, source.size) as usize {
            return Taken::Wrong("a metadata piece of another size than it said");
        }
        source.refusals = 0;
        source.rest = Time::ZERO;
        source.ahead = (source.ahead + 1).min(METADATA_AHEAD);
        // It is at work: what it has not sent yet comes behind this.
        source.asked.iter_mut().for_each(|(_, asked)| *asked = now);
        let (addr, size) = (source.addr, source.size);
        let Some(plan) = self.plan.as_mut().filter(|plan| plan.size == size && !self.checking) else {
            return Taken::Noted;
        };
        if plan.only.is_some_and(|only| only != peer) || plan.pieces[piece as usize].is_some() {
            return Taken::Noted;
        }
        plan.pieces[piece as usize] = Some(data.into());
        plan.left -= 1;
        plan.moved = now;
        while plan.pieces.get(plan.first).is_some_and(Option::is_some) {
            plan.first += 1;
        }
        if !plan.from.contains(&addr) {
            plan.from.push(addr);
        }
        if plan.left == 0 { Taken::Whole } else { Taken::Noted }
    }

    /// A peer refuses a piece: others are asked, and it is later.
    pub(in super::super) fn on_reject(&mut self, peer: PeerId, piece: u32, now: Time) -> Taken {
        let Some(source) = self.sources.get_mut(&peer) else { return Taken::Ignored };
        let Some(at) = source.asked.iter().position(|(asked, _)| *asked == piece) else {
            return Taken::Ignored;
        };
        source.asked.swap_remove(at);
        self.free(&[(piece, now)]);
        self.rest(peer, now);
        Taken::Noted
    }

    /// The pieces of the dictionary, in order, to be hashed: [`Fetch::on_verdict`] tells what came of it.
    pub(in super::super) fn whole(&mut self) -> Option<Vec<Box<[u8]>>> {
        let plan = self.plan.as_mut().filter(|plan| plan.left == 0)?;
        self.checking = true;
        std::mem::take(&mut plan.pieces).into_iter().collect()
    }

    /// The whole is not what the info-hash says. Gives who is guilty; nobody, where that is not known.
    pub(in super::super) fn on_wrong(&mut self) -> Vec<SocketAddr> {
        self.checking = false;
        let Some(plan) = self.plan.take() else { return Vec::new() };
        self.record(plan.size).wrong += 1;
        self.sources.values_mut().for_each(|source| source.late.clear());
        if let [guilty] = plan.from[..] {
            return vec![guilty];
        }
        for addr in plan.from {
            if !self.suspects.contains(&addr) && self.suspects.len() < METADATA_SUSPECTS_MAX {
                self.suspects.push(addr);
            }
        }
        Vec::new()
    }

    /// Takes back what peers leave unanswered.
    fn expire(&mut self, now: Time) {
        let silent = |source: &Source| source.asked.iter().any(|(_, asked)| now >= *asked + METADATA_TIMEOUT);
        let silent: Vec<PeerId> =
            self.sources.iter().filter(|(_, source)| silent(source)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            let Some(source) = self.sources.get_mut(&peer) else { continue };
            let asked = std::mem::take(&mut source.asked);
            source.late.extend(asked.iter().map(|(piece, _)| *piece));
            let excess = source.late.len().saturating_sub(4 * METADATA_AHEAD);
            source.late.drain(..excess);
            self.free(&asked);
            self.rest(peer, now);
        }
    }

    /// Lets a peer alone for a while, longer each time.
    fn rest(&mut self, peer: PeerId, now: Time) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.ahead = 1;
            source.rest = now + (METADATA_REST * (1 << source.refusals.min(8))).min(METADATA_REST_MAX);
            source.refusals = source.refusals.saturating_add(1);
        }
        self.end_single(peer);
    }

    /// A try that was this peer's alone is over.
    fn end_single(&mut self, peer: PeerId) {
        if !self.checking {
            self.plan.take_if(|plan| plan.only == Some(peer));
        }
    }

    /// These pieces may be asked of others at once.
    fn free(&mut self, asked: &[(u32, Time)]) {
        if let Some(plan) = &mut self.plan {
            for (piece, _) in asked {
                if let Some(asked) = plan.asked.get_mut(*piece as usize) {
                    *asked = Time::ZERO;
                }
            }
        }
    }

    fn record(&mut self, size: u32) -> &mut Record {
        if self.sizes.len() >= METADATA_SIZES_MAX && !self.sizes.contains_key(&size) {
            self.sizes.pop_last();
        }
        self.sizes.entry(size).or_default()
    }

    /// Makes a plan where there is none, or another one where this leads nowhere.
    fn choose(&mut self, now: Time, room: Room) {
        self.waits = false;
        if now < self.rest {
            return;
        }
        if let Some(plan) = &mut self.plan {
            let size = plan.size;
            let offered = self.sources.values().any(|source| source.size == size);
            let others = self.sources.values().any(|source| source.size != size);
            let stalled = now >= plan.moved + METADATA_STALL;
            if offered && !stalled || !others {
                return;
            }
            if offered {
                plan.moved = now;
                self.record(size).stalls += 1;
            }
        }
        let Some(size) = self.best_size() else { return };
        if self.plan.as_ref().is_some_and(|plan| plan.size == size) {
            return;
        }
        let only = if self.sizes.get(&size).is_some_and(|record| record.wrong > 0) {
            let Some(only) = self.best_single(size, now) else { return };
            Some(only)
        } else {
            None
        };
        self.give_up_requests();
        self.waits = !room.holds(size);
        self.plan = (!self.waits).then(|| Plan::new(size, only, now));
    }

    /// The size that failed least, then the one that most addresses name, then the smallest.
    fn best_size(&self) -> Option<u32> {
        let mut votes: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for source in self.sources.values() {
            let voters = votes.entry(source.size).or_default();
            if !voters.contains(&source.addr.ip()) || source.addr.ip().is_loopback() {
                voters.push(source.addr.ip());
            }
        }
        let failed = |size: &u32| self.sizes.get(size).map_or(0, |record| record.wrong + record.stalls);
        let best =
            votes.iter().min_by_key(|(size, voters)| (failed(size), usize::MAX - voters.len(), **size));
        best.map(|(size, _)| *size)
    }

    /// Whom to try alone: nobody's suspect first, then who refused least, then by chance.
    fn best_single(&mut self, size: u32, now: Time) -> Option<PeerId> {
        let fit = self.sources.iter().filter(|(_, source)| source.size == size && source.rest <= now);
        let rank = |source: &Source| (self.suspects.contains(&source.addr), source.refusals);
        let best = fit.clone().map(|(_, source)| rank(source)).min()?;
        let best: Vec<PeerId> =
            fit.filter(|(_, source)| rank(source) == best).map(|(peer, _)| *peer).collect();
        let at = self.rng.index(best.len());
        best.get(at).copied()
    }
}

#[cfg(test)]
mod tests;
