//! Calls on their way to the helpers. Each host has a line of its own, and hosts that answered lately have half of all
//! room to themselves: hosts that hang keep nobody's calls waiting but their own. That a host is dead is found out
//! once for all torrents: it rests, and who wants it is told at once.

use crate::api::{Call, Reply, TorrentId, TrackerFailure};
use crate::base::time::Time;
use crate::limits;
use crate::proto::tracker::Event;
use crate::proto::tracker::url::{Host, Url};
use std::collections::{BTreeMap, VecDeque};

/// A host and its port; 0 where only the name is looked up.
type Place = (Host, u16);

/// What a host has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    Unknown,
    /// It answered the last call.
    Good,
    /// It did not.
    Bad,
}

#[derive(Debug)]
struct Line {
    waiting: VecDeque<Call>,
    /// Calls that are out, and how many of them are slow.
    out: usize,
    slow: usize,
    /// It stands in a row.
    listed: bool,
    trust: Trust,
    /// Failures in a row, the last one, and until when nobody is to call after it.
    failures: u32,
    why: TrackerFailure,
    rest: Time,
}

/// Whose a call is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Who {
    Announce(TorrentId, u32),
    Resolve(Option<TorrentId>, String, u16),
}

#[derive(Debug)]
struct Out {
    place: Place,
    who: Who,
    since: Time,
    slow: bool,
}

/// Announces that will not go out, since their host rests.
#[derive(Debug)]
pub(super) struct Rested {
    /// Torrents, and their numbers of the tracker.
    pub(super) who: Vec<(TorrentId, u32)>,
    /// Until when.
    pub(super) until: Time,
    /// How the host failed.
    pub(super) why: TrackerFailure,
}

/// All calls, out and waiting.
#[derive(Default)]
pub(super) struct Calls {
    lines: BTreeMap<Place, Line>,
    /// Lines with a call that may go, in turn: of hosts that are good, and of others.
    good: VecDeque<Place>,
    others: VecDeque<Place>,
    out: Vec<Out>,
    /// Of those out, to hosts that were not known to be good.
    chancy: usize,
    /// For [`super::timers`].
    pub(super) armed: Time,
}

impl Calls {
    pub(super) fn new() -> Calls {
        Calls { armed: Time::NEVER, ..Calls::default() }
    }

    /// Puts a call in its line.
    pub(super) fn push(&mut self, call: Call) {
        let place = place(&call);
        let line = self.lines.entry(place.clone()).or_insert_with(Line::new);
        line.waiting.push_back(call);
        self.list(&place);
    }

    /// How many are out, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.out.len(), self.lines.values().map(|line| line.waiting.len()).sum())
    }

    /// The next call that is to go out, while there is room.
    pub(super) fn next(&mut self, now: Time) -> Option<Call> {
        loop {
            if self.out.len() >= limits::CALLS_OUT {
                return None;
            }
            let chance = self.chancy < limits::CALLS_CHANCY;
            let kept = self.out.len() - self.chancy < limits::CALLS_OUT - limits::CALLS_CHANCY;
            let place = match (self.good.is_empty(), self.others.is_empty()) {
                (false, no_other) if kept || no_other || !chance => self.good.pop_front()?,
                (_, false) if chance => self.others.pop_front()?,
                _ => return None,
            };
            let Some(line) = self.lines.get_mut(&place) else { continue };
            line.listed = false;
            if let Some(call) = line.take() {
                self.chancy += usize::from(line.trust != Trust::Good);
                self.out.push(Out { place: place.clone(), who: who(&call), since: now, slow: false });
                self.list(&place);
                return Some(call);
            }
        }
    }

    /// A call is over. When its host turns out to be dead, the announces that wait for it are given back.
    pub(super) fn done(&mut self, reply: &Reply, now: Time) -> Option<Rested> {
        let who = answered(reply);
        let at = self.out.iter().position(|out| out.who == who)?;
        let out = self.out.swap_remove(at);
        let line = self.lines.get_mut(&out.place)?;
        line.out -= 1;
        line.slow -= usize::from(out.slow);
        let before = line.trust;
        let rested = line.learn(reply, now);
        let after = line.trust;
        // Whatever of this host is out still counts as what the host is now.
        let still = self.out.iter().filter(|other| other.place == out.place).count();
        self.chancy -= if before == Trust::Good { 0 } else { still + 1 };
        self.chancy += if after == Trust::Good { 0 } else { still };
        self.list(&out.place);
        self.forget();
        rested
    }

    /// Our network is back: no host rests any more.
    pub(super) fn on_network_back(&mut self) {
        for line in self.lines.values_mut() {
            (line.failures, line.rest) = (0, Time::ZERO);
            if line.trust == Trust::Bad {
                line.trust = Trust::Unknown;
            }
        }
    }

    /// Until when this host rests, and why: it is not to be called.
    pub(super) fn resting(&self, url: &Url, now: Time) -> Option<(Time, TrackerFailure)> {
        let line = self.lines.get(&(url.host().clone(), url.port()))?;
        (line.rest > now).then(|| (line.rest, line.why.clone()))
    }

    /// Whether this host has kept a call waiting for so long that others are asked meanwhile.
    pub(super) fn is_slow(&self, url: &Url) -> bool {
        self.lines.get(&(url.host().clone(), url.port())).is_some_and(|line| line.slow > 0)
    }

    /// Announces of hosts that have become slow: those that are out for too long, and those that wait behind them.
    pub(super) fn overdue(&mut self, now: Time) -> Vec<(TorrentId, u32)> {
        let mut all = Vec::new();
        for out in &mut self.out {
            if let Who::Announce(torrent, tracker) = out.who
                && !out.slow
                && out.since + limits::ANNOUNCE_SLOW <= now
                && let Some(line) = self.lines.get_mut(&out.place)
            {
                out.slow = true;
                line.slow += 1;
                all.push((torrent, tracker));
                all.extend(line.waiting.iter().filter_map(announce_of));
            }
        }
        all
    }

    /// When [`Calls::overdue`] may have something.
    pub(super) fn deadline(&self) -> Time {
        let fresh = |out: &&Out| !out.slow && matches!(out.who, Who::Announce(..));
        let first = self.out.iter().filter(fresh).map(|out| out.since + limits::ANNOUNCE_SLOW).min();
        first.unwrap_or(Time::NEVER)
    }

    /// Takes back all that has not gone out: these announces. Names of UDP trackers are looked up still, as all
    /// torrents may need them to say good-bye.
    pub(super) fn clear(&mut self) -> Vec<(TorrentId, u32)> {
        let mut gone = Vec::new();
        for line in self.lines.values_mut() {
            gone.extend(line.waiting.iter().filter_map(announce_of));
            line.waiting.retain(|call| matches!(call, Call::LookUp { .. }));
        }
        gone
    }

    /// Takes back what a torrent wants and has not gone out: gives the trackers of its announces.
    pub(super) fn withdraw(&mut self, torrent: TorrentId) -> Vec<u32> {
        let announces = |call: &Call| announce_of(call).filter(|(of, _)| *of == torrent);
        let mut gone = Vec::new();
        for line in self.lines.values_mut() {
            gone.extend(line.waiting.iter().filter_map(announces).map(|(_, tracker)| tracker));
            line.waiting.retain(|call| match call {
                Call::Announce { torrent: of, .. } | Call::Resolve { torrent: of, .. } => *of != torrent,
                Call::LookUp { .. } => true,
            });
        }
        gone
    }

    /// Puts a line into the row of its kind, if a call of it may go.
    fn list(&mut self, place: &Place) {
        if let Some(line) = self.lines.get_mut(place).filter(|line| !line.listed && line.has_room()) {
            line.listed = true;
            let row = if line.trust == Trust::Good { &mut self.good } else { &mut self.others };
            row.push_back(place.clone());
        }
    }

    /// Keeps only what is worth it, and not too much of that.
    fn forget(&mut self) {
        let idle = |line: &Line| line.waiting.is_empty() && line.out == 0 && !line.listed;
        self.lines.retain(|_, line| !idle(line) || line.trust != Trust::Unknown);
        if self.lines.len() > limits::PLACES_MAX {
            let good = |line: &Line| idle(line) && line.trust == Trust::Good;
            let kept = self.lines.iter();
            let one = kept.clone().find(|(_, l)| good(l)).or_else(|| kept.clone().find(|(_, l)| idle(l)));
            one.map(|(place, _)| place.clone()).and_then(|place| self.lines.remove(&place));
        }
    }
}

impl Line {
    fn new() -> Line {
        Line {
            waiting: VecDeque::new(),
            out: 0,
            slow: 0,
            listed: false,
            trust: Trust::Unknown,
            failures: 0,
            why: TrackerFailure::Network(String::new()),
            rest: Time::ZERO,
        }
    }

    /// One call at a time to a host that has yet to answer, a few to a good one, and more when we say good-bye.
    fn has_room(&self) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let most = match self.trust {
            Trust::Good if is_farewell(next) => limits::ASKS_MAX,
            Trust::Good => limits::CALLS_PER_HOST,
            Trust::Unknown | Trust::Bad => 1,
        };
        self.out < most
    }

    fn take(&mut self) -> Option<Call> {
        let call = if self.has_room() { self.waiting.pop_front() } else { None };
        self.out += usize::from(call.is_some());
        call
    }

    /// What an answer tells of the host. One that was good may fail once without being dead.
    fn learn(&mut self, reply: &Reply, now: Time) -> Option<Rested> {
        let Reply::Announced { result, .. } = reply else { return None };
        let why = match result {
            Err(TrackerFailure::Unsupported(_)) => return None,
            Err(why @ TrackerFailure::Network(_)) => why,
            Ok(_)
            | Err(TrackerFailure::Refused(_) | TrackerFailure::Answer(_) | TrackerFailure::Compressed(_)) => {
                (self.trust, self.failures, self.rest) = (Trust::Good, 0, Time::ZERO);
                return None;
            }
        };
        if self.rest > now {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        self.why = why.clone();
        if std::mem::replace(&mut self.trust, Trust::Bad) == Trust::Good {
            return None;
        }
        let wait = limits::ANNOUNCE_RETRY * (1 << (self.failures - 1).min(10));
        self.rest = now + wait.min(limits::ANNOUNCE_RETRY_MAX);
        let (farewells, others) = std::mem::take(&mut self.waiting).into_iter().partition(keeps_waiting);
        self.waiting = farewells;
        let others: VecDeque<Call> = others;
        let who = others.iter().filter_map(announce_of).collect();
        Some(Rested { who, until: self.rest, why: self.why.clone() })
    }
}

fn place(call: &Call) -> Place {
    match call {
        Call::Announce { url, .. } => (url.host().clone(), url.port()),
        Call::Resolve { host, .. } | Call::LookUp { host, .. } => (Host::Name(host.clone()), 0),
    }
}

fn who(call: &Call) -> Who {
    match call {
        Call::Announce { torrent, tracker, .. } => Who::Announce(*torrent, *tracker),
        Call::Resolve { torrent, host, port } => Who::Resolve(Some(*torrent), host.clone(), *port),
        Call::LookUp { host, port } => Who::Resolve(None, host.clone(), *port),
    }
}

fn answered(reply: &Reply) -> Who {
    match reply {
        Reply::Announced { torrent, tracker, .. } => Who::Announce(*torrent, *tracker),
        Reply::Resolved { torrent, host, port, .. } => Who::Resolve(Some(*torrent), host.clone(), *port),
        Reply::LookedUp { host, port, .. } => Who::Resolve(None, host.clone(), *port),
    }
}

fn announce_of(call: &Call) -> Option<(TorrentId, u32)> {
    match call {
        Call::Announce { torrent, tracker, .. } => Some((*torrent, *tracker)),
        Call::Resolve { .. } | Call::LookUp { .. } => None,
    }
}

fn is_farewell(call: &Call) -> bool {
    matches!(call, Call::Announce { request, .. } if request.event == Event::Stopped)
}

/// Who says good-bye has no time for later; and what is no announce has nothing to do with a host that rests.
fn keeps_waiting(call: &Call) -> bool {
    is_farewell(call) || announce_of(call).is_none()
}
