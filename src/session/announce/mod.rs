//! When one torrent announces, where and with which event: tracker tiers (BEP 12), intervals, retries. Each tier is
//! announced to by itself, since trackers do not know the same peers: within a tier the first tracker that answers. The
//! torrent carries out what [`Announcer::poll`] gives and brings each answer to [`Announcer::on_reply`]; a tracker that
//! takes its time is passed over by [`Announcer::on_slow`], and its answer counts still when it comes.

mod stop;
#[cfg(test)]
mod tests;
mod tier;
mod words;

use crate::api::TrackerFailure;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Event, Failure, Request, Response, Retry};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tier::Tier;

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
    /// Bytes of the whole torrent that are missing, whether they are wanted or not.
    pub(super) left: u64,
    /// True if bytes are missing and the user wants none of them (BEP 21).
    pub(super) is_partial_seed: bool,
    /// How many more peers are of use; 0 when full, or when seeding with enough.
    pub(super) peers_wanted: u32,
    /// Peers are wanted and no known address is left to call: ask before the interval is over.
    pub(super) dry: bool,
}

impl Facts {
    /// Updates an announce that has waited to the present figures.
    pub(super) fn update(&self, request: &mut Request) {
        (request.uploaded, request.downloaded, request.left) = (self.uploaded, self.downloaded, self.left);
        request.event = self.event(request.event);
    }

    /// The event to announce: a partial seed says that it is one in each announce without another event (BEP 21).
    fn event(&self, event: Event) -> Event {
        match event {
            Event::None | Event::Paused if self.is_partial_seed => Event::Paused,
            Event::None | Event::Paused => Event::None,
            other => other,
        }
    }
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
    /// What the user should be told, when it is something else than the last time; or the log, each time.
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
        /// No other tracker of the torrent is known to work. If false, it is for the log alone.
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
    /// The last of them was one of the network.
    unreached: bool,
    /// Not to be called before, because it failed; never when it cannot be spoken to at all.
    retry: Time,
    /// No announce without an event before.
    not_before: Time,
    id: Option<Vec<u8>>,
    /// What the user was told of it last, not to be told twice.
    said: Option<News>,
}

/// A call that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    event: Event,
    /// It takes its time: others are asked meanwhile.
    slow: bool,
    /// It went out before our network was back: should it fail, that is no failure of the tracker.
    outdated: bool,
}

/// The state of one torrent's announces. In each tier it speaks to one tracker at a time, beside those that are slow: one
/// call of each tracker at most. At the end it speaks to all that know us.
pub(super) struct Announcer {
    tiers: Vec<Tier>,
    trackers: Vec<Tracker>,
    key: u32,
    rng: Rng,
    /// True if bytes were missing at the first announce, so that the end of the download is announced. None before it. A
    /// seed that loses a piece and downloads it again announces no `completed`.
    was_incomplete: Option<bool>,
    /// It became complete after that.
    completed: bool,
    stopping: bool,
    failure: Option<(usize, TrackerFailure)>,
}

/// Whether `completed` has been said in a tier; that happens once.
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
        let mut all = Vec::new();
        let numbers = trackers.iter().map(|urls| number(&mut all, urls)).filter(|tier| !tier.is_empty());
        let tiers = numbers.map(|tier| Tier::new(tier, rng, now)).collect();
        Announcer {
            tiers,
            trackers: all,
            key,
            rng: Rng::new(rng.seed()),
            was_incomplete: None,
            completed: false,
            stopping: false,
            failure: None,
        }
    }

    /// Tiers that were found later come after all others. What is out goes on, and the numbers of trackers stay what they
    /// are. One that is found after the end of the download is not told of it. Gives how many trackers are new.
    pub(super) fn add(&mut self, trackers: &[Vec<Url>], now: Time) -> usize {
        let before = self.trackers.len();
        for urls in trackers {
            let tier = number(&mut self.trackers, urls);
            if !tier.is_empty() {
                self.tiers.push(Tier::new(tier, &mut self.rng, now));
            }
        }
        self.trackers.len() - before
    }

    /// The next announce that is due. To be called until it gives None, after every change and at
    /// [`Announcer::deadline`].
    pub(super) fn poll(&mut self, now: Time, facts: &Facts) -> Option<Announce> {
        if self.stopping {
            return self.poll_stop(facts, now);
        }
        self.was_incomplete.get_or_insert(facts.left > 0);
        if self.is_busy() {
            return None;
        }
        let trackers = &self.trackers;
        let mut ready = self.tiers.iter_mut().filter(|tier| !tier.is_waiting(trackers));
        let (at, event) = ready.find_map(|tier| tier.poll(trackers, facts.dry, now))?;
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

    /// The tracker has not answered for so long that the next one of its tier is asked; its own call goes on, and its
    /// answer counts when it comes. [`Announcer::poll`] is to be called after.
    pub(super) fn on_slow(&mut self, tracker: u32, now: Time) {
        let at = tracker as usize;
        let Some(out) = self.trackers.get_mut(at).and_then(|t| t.out.as_mut()).filter(|out| !out.slow) else {
            return;
        };
        out.slow = true;
        if let Some(tier) = self.tier_of(at) {
            (tier.fell, tier.due) = (Some(at), now);
        }
        self.remember(at, TrackerFailure::Network("no answer yet".into()));
    }

    /// What [`Announcer::poll`] gave will not be carried out.
    pub(super) fn withdraw(&mut self, tracker: u32) {
        if let Some(tracker) = self.trackers.get_mut(tracker as usize) {
            tracker.out = None;
        }
    }

    /// The whole torrent is complete: `completed` is due at once, once in each tier. Without effect for a torrent that
    /// was complete at the first announce.
    pub(super) fn on_complete(&mut self, now: Time) {
        if self.was_incomplete != Some(true) || std::mem::replace(&mut self.completed, true) {
            return;
        }
        for tier in &mut self.tiers {
            tier.completed = Completed::Due;
            tier.due = if tier.current.is_some() { now } else { tier.due };
        }
    }

    /// True if this tracker is the one that answered last in its tier.
    pub(super) fn is_current(&self, tracker: u32) -> bool {
        self.tiers.iter().any(|tier| tier.current == Some(tracker as usize))
    }

    /// Our network is back: the back-off of trackers that could not be reached ends, and tiers without a tracker are
    /// announced to again. So are the others, as soon as their intervals allow, if the torrent has lost all its peers
    /// (`is_alone`).
    pub(super) fn on_network_back(&mut self, is_alone: bool, now: Time) {
        let spread = limits::NETWORK_BACK_SPREAD * self.rng.below(256) / 256;
        for tracker in &mut self.trackers {
            if let Some(out) = &mut tracker.out {
                out.outdated = true;
            } else if tracker.unreached {
                (tracker.failures, tracker.unreached) = (0, false);
                (tracker.retry, tracker.not_before) = (now, now);
            }
        }
        for tier in &mut self.tiers {
            let due = match tier.current {
                None => now + spread,
                Some(at) if is_alone => self.trackers[at].not_before.max(now + spread),
                Some(_) => continue,
            };
            tier.due = tier.due.min(due);
        }
    }

    /// When [`Announcer::poll`] is to be called again though nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.stopping || self.is_busy() {
            return None;
        }
        self.tiers.iter().filter_map(|tier| tier.deadline(&self.trackers)).min()
    }

    /// So many answers are waited for that no other tier is asked before one has come, or is slow.
    fn is_busy(&self) -> bool {
        let waiting = self.tiers.iter().filter(|tier| tier.is_waiting(&self.trackers));
        waiting.count() >= limits::ANNOUNCE_TIERS_OUT
    }

    /// Some tracker answered last time.
    fn has_current(&self) -> bool {
        self.tiers.iter().any(|tier| tier.current.is_some())
    }

    fn tier_of(&mut self, at: usize) -> Option<&mut Tier> {
        self.tiers.iter_mut().find(|tier| tier.order().contains(&at))
    }

    fn announce(&mut self, at: usize, event: Event, facts: &Facts, timeout: Duration, now: Time) -> Announce {
        let tracker = &mut self.trackers[at];
        tracker.out = Some(Out { event, slow: false, outdated: false });
        tracker.not_before = now + limits::ANNOUNCE_INTERVAL_MIN;
        let id = tracker.id.clone();
        let url = tracker.url.clone();
        if let Some(tier) = self.tier_of(at) {
            tier.on_asked(now);
        }
        let numwant = if self.stopping { 0 } else { facts.peers_wanted.min(limits::NUMWANT_MAX) };
        let request = Request {
            info_hash: facts.info_hash,
            peer_id: facts.peer_id,
            port: facts.port,
            uploaded: facts.uploaded,
            downloaded: facts.downloaded,
            left: facts.left,
            event: facts.event(event),
            numwant,
            key: self.key,
            tracker_id: id,
        };
        Announce { tracker: at as u32, url, request, timeout }
    }

    fn on_answer(&mut self, at: usize, event: Event, response: Response, now: Time) -> Outcome {
        let interval = response.interval.clamp(limits::ANNOUNCE_INTERVAL_MIN, limits::ANNOUNCE_INTERVAL_MAX);
        let least = response.min_interval.unwrap_or_default();
        let least = least.clamp(limits::ANNOUNCE_INTERVAL_MIN, limits::ANNOUNCE_INTERVAL_MAX);
        let tracker = &mut self.trackers[at];
        (tracker.failures, tracker.retry, tracker.not_before) = (0, Time::ZERO, now + least);
        tracker.unreached = false;
        if response.tracker_id.is_some() {
            tracker.id = response.tracker_id;
        }
        match event {
            Event::Started => (tracker.started, tracker.stopped) = (true, false),
            Event::Stopped => (tracker.started, tracker.stopped) = (false, true),
            Event::Completed | Event::None | Event::Paused => {}
        }
        self.failure = None;
        let news =
            response.warning.clone().map(|words| News::Warning { url: tracker.url.to_string(), words });
        let news = tracker.unsaid(news);
        if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.order().contains(&at)) {
            tier.completed = if event == Event::Completed { Completed::Said } else { tier.completed };
            tier.on_answer(at);
            let must_complete = tier.must_complete(&self.trackers);
            tier.due = if must_complete { now } else { now + interval.max(least) };
            tier.warning = response.warning;
        }
        Outcome { peers: response.peers, external_ip: response.external_ip, news }
    }

    /// Not to be called again for a while, which grows; or until its host has had its rest; or as long as it says.
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
        tracker.unreached = matches!(failure, TrackerFailure::Network(_));
        let said = if let TrackerFailure::Refused(Failure { retry, .. }) = &failure {
            *retry
        } else {
            Retry::Unsaid
        };
        // All torrents of a host that comes back must not call at the same moment.
        let chance = wait * self.rng.below(256) / 1024;
        tracker.retry = match (said, rest) {
            _ if out.outdated && tracker.unreached => {
                (tracker.failures, tracker.not_before) = (0, now);
                now + limits::NETWORK_BACK_SPREAD
            }
            (Retry::Never, _) => Time::NEVER,
            _ if unsupported => Time::NEVER,
            (Retry::After(wait), _) => now + wait + chance,
            (Retry::Unsaid, rest) => rest.unwrap_or(now + wait) + chance,
        };
        tracker.stopped |= out.event == Event::Stopped;
        let stopping = self.stopping;
        if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.order().contains(&at)) {
            if out.event == Event::Completed && stopping {
                // There is no time for another try: what is left is to leave.
                tier.completed = Completed::Said;
            }
            tier.step_down(at, out.slow, &self.trackers, now);
        }
        let alone = !self.has_current() && self.trackers.iter().all(|t| t.out.is_none() && t.retry > now);
        // One kind of URL less is no news as long as others can be spoken to.
        let is_quiet = unsupported && self.trackers.iter().any(|t| t.retry != Time::NEVER);
        let tracker = &mut self.trackers[at];
        let news = News::Failed { url: tracker.url.to_string(), failure: failure.clone(), alone };
        let news = match (is_quiet, alone) {
            (true, _) => None,
            (false, true) => tracker.unsaid(Some(news)),
            (false, false) => Some(news),
        };
        self.remember(at, failure);
        Outcome { news, ..Outcome::default() }
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
            unreached: false,
            retry: Time::ZERO,
            not_before: Time::ZERO,
            id: None,
            said: None,
        }
    }
}
