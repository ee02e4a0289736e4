//! When one torrent announces, where and with which event: tracker tiers (BEP 12), intervals, retries. The torrent
//! carries out what [`Announcer::poll`] gives and brings each answer to [`Announcer::on_reply`]; a tracker that takes
//! its time is passed over by [`Announcer::on_slow`], and its answer counts still when it comes.

mod stop;
#[cfg(test)]
mod tests;
mod tiers;
mod words;

use crate::api::TrackerFailure;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Event, Request, Response};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tiers::Tiers;

/// What an announce says about the torrent as it is now.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The torrent.
    pub(super) info_hash: InfoHash,
    /// Our id in handshakes.
    pub(super) peer_id: [u8; 20],
    /// The port that others can reach us at.
    pub(super) port: u16,
    /// Payload bytes sent in this run.
    pub(super) uploaded: u64,
    /// Payload bytes received in this run.
    pub(super) downloaded: u64,
    /// Bytes still missing.
    pub(super) left: u64,
    /// How many more peers are of use; 0 when full, or when seeding with enough.
    pub(super) peers_wanted: u32,
    /// Peers are wanted and no known address is left to call: ask before the interval is over.
    pub(super) dry: bool,
}

/// An announce to carry out. Exactly one [`Announcer::on_reply`] must follow.
#[derive(Clone, Debug)]
pub(super) struct Announce {
    /// The tracker's number within the torrent.
    pub(super) tracker: u32,
    /// Where.
    pub(super) url: Url,
    /// What.
    pub(super) request: Request,
    /// Give up after this long.
    pub(super) timeout: Duration,
}

/// What an answer brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Peers that the tracker named.
    pub(super) peers: Vec<SocketAddr>,
    /// Our address as the tracker sees it (BEP 24).
    pub(super) external_ip: Option<IpAddr>,
    /// What the user should be told, when it is something else than the last time.
    pub(super) news: Option<News>,
}

/// Something about a tracker that the user was not told yet. URLs are redacted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// The announce went well, but the tracker has words for the user.
    Warning {
        /// The tracker.
        url: String,
        /// Its words, printable.
        words: String,
    },
    /// The tracker failed.
    Failed {
        /// The tracker.
        url: String,
        /// How.
        failure: TrackerFailure,
        /// No other tracker of the torrent is known to work.
        alone: bool,
    },
}

#[derive(Debug)]
struct Tracker {
    url: Url,
    /// It answered our `started`, so it must hear `stopped`.
    started: bool,
    stopped: bool,
    out: Option<Out>,
    /// Failures in a row.
    failures: u32,
    /// Not to be called before, because it failed; never when it cannot be spoken to at all.
    retry: Time,
    /// No announce without an event before.
    not_before: Time,
    id: Option<Vec<u8>>,
    /// The last line about it, not to be said twice.
    said: Option<String>,
}

/// A call that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    event: Event,
    /// It takes its time: others are asked meanwhile.
    slow: bool,
}

/// The state of one torrent's announces. It speaks to one tracker at a time, the first by BEP 12 that works, beside
/// those that are slow: one call of each tracker at most. At the end it speaks to all that know us.
pub(super) struct Announcer {
    tiers: Tiers,
    trackers: Vec<Tracker>,
    key: u32,
    rng: Rng,
    /// When to announce next; while it fails, when to look for a tracker again.
    due: Time,
    /// When to ask because the swarm is dry.
    dry: Option<Time>,
    /// How many announces in a row were made because it was.
    thirst: u32,
    /// The tracker that answered last, and when it was asked.
    current: Option<usize>,
    asked: Time,
    /// The tracker that failed, or was passed over, a moment ago.
    fell: Option<usize>,
    /// The download was incomplete at some announce, so its end is news.
    incomplete: bool,
    completed: Completed,
    stopping: bool,
    warning: Option<String>,
    failure: Option<(usize, TrackerFailure)>,
}

/// Whether `completed` has been said; that happens once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Completed {
    No,
    Due,
    Said,
}

impl Announcer {
    /// For a torrent with these tiers of trackers. The order within a tier is drawn now (BEP 12); a URL that comes
    /// twice, and those past `limits::TRACKERS_MAX`, are left out. `key` is the torrent's secret of BEP 7.
    pub(super) fn new(trackers: &[Vec<Url>], key: u32, rng: &mut Rng, now: Time) -> Announcer {
        let mut all: Vec<Tracker> = Vec::new();
        let tiers = trackers.iter().map(|urls| number(&mut all, urls)).collect();
        let tiers = Tiers::new(tiers, rng);
        Announcer {
            tiers,
            trackers: all,
            key,
            rng: Rng::new(rng.seed()),
            due: now,
            dry: None,
            thirst: 0,
            current: None,
            asked: now,
            fell: None,
            incomplete: false,
            completed: Completed::No,
            stopping: false,
            warning: None,
            failure: None,
        }
    }

    /// Tiers that were found later come after all others. What is out goes on, and the numbers of trackers stay what they
    /// are. Gives how many trackers are new.
    pub(super) fn add(&mut self, trackers: &[Vec<Url>], now: Time) -> usize {
        let before = self.trackers.len();
        for urls in trackers {
            let tier = number(&mut self.trackers, urls);
            self.tiers.push(tier, &mut self.rng);
        }
        let count = self.trackers.len() - before;
        // With one that works there is no hurry.
        if count > 0 && self.current.is_none() {
            self.due = now;
        }
        count
    }

    /// The next announce that is due. To be called until it gives None, after every change and at
    /// [`Announcer::deadline`].
    pub(super) fn poll(&mut self, now: Time, facts: &Facts) -> Option<Announce> {
        if self.stopping {
            return self.poll_stop(facts, now);
        }
        self.incomplete |= facts.left > 0;
        if self.is_waiting() {
            return None;
        }
        self.dry = if facts.dry { self.dry_due() } else { None };
        if !facts.dry {
            self.thirst = 0;
        }
        let thirsty = self.dry.is_some_and(|at| at <= now && self.due > now);
        if self.due > now && !thirsty {
            return None;
        }
        let Some(at) = self.choose(now) else {
            let free = self.trackers.iter().filter(|t| t.out.is_none());
            self.due = free.map(|t| t.retry).min().unwrap_or(Time::NEVER);
            self.dry = None;
            return None;
        };
        let event = self.event_for(at);
        if event == Event::None && self.trackers[at].not_before > now {
            self.due = self.trackers[at].not_before;
            self.dry = None;
            return None;
        }
        self.thirst = if thirsty { self.thirst.saturating_add(1) } else { self.thirst };
        Some(self.announce(at, event, facts, limits::ANNOUNCE_TIMEOUT, now))
    }

    /// Brings the answer to what [`Announcer::poll`] gave. None when nothing was asked of that tracker.
    pub(super) fn on_reply(
        &mut self,
        tracker: u32,
        result: Result<Response, TrackerFailure>,
        now: Time,
    ) -> Option<Outcome> {
        let at = tracker as usize;
        let out = self.trackers.get_mut(at)?.out.take()?;
        Some(match result {
            Ok(response) => self.on_answer(at, out.event, response, now),
            Err(failure) => self.on_failure(at, out, failure, None, now),
        })
    }

    /// What [`Announcer::poll`] gave will not be carried out: the tracker's host failed for another torrent, and rests.
    /// None when nothing was asked of that tracker.
    pub(super) fn on_rest(
        &mut self,
        tracker: u32,
        until: Time,
        why: TrackerFailure,
        now: Time,
    ) -> Option<Outcome> {
        let at = tracker as usize;
        let out = self.trackers.get_mut(at)?.out.take()?;
        Some(self.on_failure(at, out, why, Some(until), now))
    }

    /// The tracker has not answered for so long that the next one is asked; its own call goes on, and its answer
    /// counts when it comes. [`Announcer::poll`] is to be called after.
    pub(super) fn on_slow(&mut self, tracker: u32, now: Time) {
        let at = tracker as usize;
        let Some(out) = self.trackers.get_mut(at).and_then(|t| t.out.as_mut()).filter(|out| !out.slow) else {
            return;
        };
        out.slow = true;
        self.fell = Some(at);
        self.due = now;
        self.remember(at, TrackerFailure::Network("no answer yet".into()));
    }

    /// What [`Announcer::poll`] gave will not be carried out.
    pub(super) fn withdraw(&mut self, tracker: u32) {
        if let Some(tracker) = self.trackers.get_mut(tracker as usize) {
            tracker.out = None;
        }
    }

    /// The download became complete: `completed` is due at once, once. Without effect for who was complete at the
    /// first announce.
    pub(super) fn on_complete(&mut self, now: Time) {
        if self.incomplete && self.completed == Completed::No {
            self.completed = Completed::Due;
            if self.current.is_some() {
                self.due = now;
            }
        }
    }

    /// When [`Announcer::poll`] is to be called again though nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.stopping || self.is_waiting() {
            return None;
        }
        let next = self.dry.map_or(self.due, |dry| dry.min(self.due));
        (next != Time::NEVER && !self.trackers.is_empty()).then_some(next)
    }

    /// An answer is due that the others are not asked before.
    fn is_waiting(&self) -> bool {
        self.trackers.iter().any(|t| t.out.is_some_and(|out| !out.slow))
    }

    /// The first tracker in the order of BEP 12 that is not known to be failing. For `completed` rather the one that
    /// followed the download, and after a failure the same host by another protocol.
    fn choose(&self, now: Time) -> Option<usize> {
        let can = |at: usize| self.trackers[at].out.is_none() && self.trackers[at].retry <= now;
        let loyal = self.current.filter(|at| self.must_complete() && can(*at));
        let host = |at: usize| self.trackers[at].url.host();
        let sibling =
            || self.fell.and_then(|fell| self.tiers.beside(fell, |at| can(at) && host(at) == host(fell)));
        loyal.or_else(sibling).or_else(|| self.tiers.first(can))
    }

    fn event_for(&self, at: usize) -> Event {
        match self.trackers[at].started {
            false => Event::Started,
            true if self.must_complete() => Event::Completed,
            true => Event::None,
        }
    }

    /// `completed` is due, and nobody is being told.
    fn must_complete(&self) -> bool {
        let telling = |t: &Tracker| t.out.is_some_and(|out| out.event == Event::Completed);
        self.completed == Completed::Due && !self.trackers.iter().any(telling)
    }

    /// When a dry swarm lets us ask again: sooner than the interval, more rarely the longer it stays dry.
    fn dry_due(&self) -> Option<Time> {
        let tracker = &self.trackers[self.current?];
        let wait = limits::ANNOUNCE_INTERVAL_MIN * (1 << self.thirst.min(10));
        Some(tracker.not_before.max(self.asked + wait))
    }

    fn announce(&mut self, at: usize, event: Event, facts: &Facts, timeout: Duration, now: Time) -> Announce {
        let tracker = &mut self.trackers[at];
        tracker.out = Some(Out { event, slow: false });
        tracker.not_before = now + limits::ANNOUNCE_INTERVAL_MIN;
        (self.asked, self.fell) = (now, None);
        let numwant = if self.stopping { 0 } else { facts.peers_wanted.min(limits::NUMWANT_MAX) };
        let request = Request {
            info_hash: facts.info_hash,
            peer_id: facts.peer_id,
            port: facts.port,
            uploaded: facts.uploaded,
            downloaded: facts.downloaded,
            left: facts.left,
            event,
            numwant,
            key: self.key,
            tracker_id: tracker.id.clone(),
        };
        Announce { tracker: at as u32, url: tracker.url.clone(), request, timeout }
    }

    fn on_answer(&mut self, at: usize, event: Event, response: Response, now: Time) -> Outcome {
        let interval = response.interval.clamp(limits::ANNOUNCE_INTERVAL_MIN, limits::ANNOUNCE_INTERVAL_MAX);
        let least = response.min_interval.unwrap_or_default();
        let least = least.clamp(limits::ANNOUNCE_INTERVAL_MIN, limits::ANNOUNCE_INTERVAL_MAX);
        let tracker = &mut self.trackers[at];
        (tracker.failures, tracker.retry, tracker.not_before) = (0, Time::ZERO, now + least);
        if response.tracker_id.is_some() {
            tracker.id = response.tracker_id;
        }
        match event {
            Event::Started => (tracker.started, tracker.stopped) = (true, false),
            Event::Completed => self.completed = Completed::Said,
            Event::Stopped => (tracker.started, tracker.stopped) = (false, true),
            Event::None => {}
        }
        (self.current, self.failure, self.fell) = (Some(at), None, None);
        self.due = if self.must_complete() { now } else { now + interval.max(least) };
        self.tiers.move_to_front(at);
        self.warning = response.warning;
        let news = self.warning.clone().map(|words| {
            let url = self.trackers[at].url.to_string();
            (words.clone(), News::Warning { url, words })
        });
        Outcome { peers: response.peers, external_ip: response.external_ip, news: self.unsaid(at, news) }
    }

    /// Not to be called again for a while, which grows; or until its host has had its rest.
    fn on_failure(
        &mut self,
        at: usize,
        out: Out,
        failure: TrackerFailure,
        rest: Option<Time>,
        now: Time,
    ) -> Outcome {
        let tracker = &mut self.trackers[at];
        tracker.failures = tracker.failures.saturating_add(u32::from(rest.is_none()));
        let wait = limits::ANNOUNCE_RETRY * (1 << tracker.failures.saturating_sub(1).min(10));
        let wait = wait.min(limits::ANNOUNCE_RETRY_MAX);
        let unsupported = matches!(failure, TrackerFailure::Unsupported(_));
        // All torrents of a host that comes back must not call at the same moment.
        let chance = wait * self.rng.below(256) / 1024;
        tracker.retry = if unsupported { Time::NEVER } else { rest.unwrap_or(now + wait) + chance };
        match (out.event, self.stopping) {
            (Event::Stopped, _) => self.trackers[at].stopped = true,
            // There is no time for another try: what is left is to leave.
            (Event::Completed, true) => self.completed = Completed::Said,
            _ => {}
        }
        self.step_down(at, out, now);
        let alone = self.current.is_none() && self.trackers.iter().all(|t| t.out.is_none() && t.retry > now);
        let url = self.trackers[at].url.to_string();
        let news = News::Failed { url, failure: failure.clone(), alone };
        // One kind of URL less is no news as long as others can be spoken to.
        let quiet = unsupported && self.trackers.iter().any(|t| t.retry != Time::NEVER);
        let news = if quiet { None } else { self.unsaid(at, Some((failure.to_string(), news))) };
        self.remember(at, failure);
        Outcome { news, ..Outcome::default() }
    }

    /// A call came to nothing: the next tracker is asked, unless this one was passed over and another has answered.
    fn step_down(&mut self, at: usize, out: Out, now: Time) {
        if self.current == Some(at) {
            (self.current, self.warning) = (None, None);
        }
        let content = out.slow && self.current.is_some() && !self.must_complete();
        if !content || self.due == Time::NEVER {
            (self.due, self.fell) = (now, Some(at));
        }
    }
}

/// Gives the trackers of a tier their numbers, those that are not there yet and for which there is room.
fn number(all: &mut Vec<Tracker>, urls: &[Url]) -> Vec<usize> {
    let mut tier = Vec::new();
    for url in urls {
        if all.len() < limits::TRACKERS_MAX && all.iter().all(|t| t.url != *url) {
            tier.push(all.len());
            all.push(Tracker::new(url.clone()));
        }
    }
    tier
}

impl Tracker {
    fn new(url: Url) -> Tracker {
        Tracker {
            url,
            started: false,
            stopped: false,
            out: None,
            failures: 0,
            retry: Time::ZERO,
            not_before: Time::ZERO,
            id: None,
            said: None,
        }
    }
}
