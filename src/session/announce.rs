//! When one torrent announces, where and with which event: tracker tiers (BEP 12), intervals, retries. The torrent
//! carries out what [`Announcer::poll`] gives and brings each answer to [`Announcer::on_reply`].

use crate::api::TrackerFailure;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Event, Request, Response};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
    /// A call is out, with this event.
    out: Option<Event>,
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

/// The state of one torrent's announces. It speaks to one tracker at a time, the first by BEP 12 that works; at the
/// end to all that know us.
pub(super) struct Announcer {
    /// Numbers into `trackers`: tiers in order, each in the order in which it is tried.
    tiers: Vec<Vec<usize>>,
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
    /// twice, and those past `limits::TRACKERS_MAX`, are left out. `key` is the process's secret of BEP 7.
    pub(super) fn new(trackers: &[Vec<Url>], key: u32, rng: &mut Rng, now: Time) -> Announcer {
        let mut all: Vec<Tracker> = Vec::new();
        let mut tiers = Vec::new();
        for urls in trackers {
            let mut tier = Vec::new();
            for url in urls {
                if all.len() < limits::TRACKERS_MAX && all.iter().all(|t| t.url != *url) {
                    tier.push(all.len());
                    all.push(Tracker::new(url.clone()));
                }
            }
            rng.shuffle(&mut tier);
            tiers.push(tier);
        }
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        Announcer {
            tiers,
            trackers: all,
            key,
            rng: Rng::new(seed),
            due: now,
            dry: None,
            thirst: 0,
            current: None,
            asked: now,
            incomplete: false,
            completed: Completed::No,
            stopping: false,
            warning: None,
            failure: None,
        }
    }

    /// The next announce that is due. To be called until it gives None, after every change and at
    /// [`Announcer::deadline`].
    pub(super) fn poll(&mut self, now: Time, facts: &Facts) -> Option<Announce> {
        if self.stopping {
            return self.poll_stop(facts, now);
        }
        self.incomplete |= facts.left > 0;
        if self.trackers.iter().any(|t| t.out.is_some()) {
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
            self.due = self.trackers.iter().map(|t| t.retry).min().unwrap_or(Time::NEVER);
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
        let event = self.trackers.get_mut(at)?.out.take()?;
        Some(match result {
            Ok(response) => self.on_answer(at, event, response, now),
            Err(failure) => self.on_failure(at, event, failure, now),
        })
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

    /// The torrent ends: `completed` if that is due, then `stopped`, to those that know us and to no other. Each call
    /// is short, but one that was out before may last: the caller waits only as long as it likes.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// The torrent goes on after [`Announcer::stop`]: `started` is due, also where `stopped` is still on its way.
    pub(super) fn restart(&mut self, now: Time) {
        (self.stopping, self.due, self.current) = (false, now, None);
        for tracker in &mut self.trackers {
            (tracker.started, tracker.stopped) = (false, false);
        }
    }

    /// Whether, after [`Announcer::stop`], all is said that can be.
    pub(super) fn stopping_done(&self) -> bool {
        let said = |t: &Tracker| t.out.is_none() && (!t.started || t.stopped);
        self.stopping && self.trackers.iter().all(said)
    }

    /// How many trackers believe that we are there still.
    pub(super) fn unreached(&self) -> u32 {
        self.trackers.iter().filter(|t| t.started).count() as u32
    }

    /// When [`Announcer::poll`] is to be called again though nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.stopping || self.trackers.iter().any(|t| t.out.is_some()) {
            return None;
        }
        let next = self.dry.map_or(self.due, |dry| dry.min(self.due));
        (next != Time::NEVER && !self.trackers.is_empty()).then_some(next)
    }

    /// What the trackers have to say that explains why nothing moves.
    pub(super) fn status(&self) -> Option<String> {
        if let Some(words) = &self.warning {
            return Some(format!("the tracker says: {words}"));
        }
        let (at, failure) = self.failure.as_ref()?;
        Some(match failure {
            TrackerFailure::Refused(_) => failure.to_string(),
            _ => format!("tracker {}: {failure}", self.trackers[*at].url),
        })
    }

    /// The first tracker in the order of BEP 12 that is not known to be failing; for `completed` rather the one that
    /// followed the download.
    fn choose(&self, now: Time) -> Option<usize> {
        let can = |at: &usize| self.trackers[*at].retry <= now;
        let loyal = self.current.filter(|at| self.completed == Completed::Due && can(at));
        loyal.or_else(|| self.tiers.iter().flatten().copied().find(can))
    }

    fn event_for(&self, at: usize) -> Event {
        match (self.trackers[at].started, self.completed) {
            (false, _) => Event::Started,
            (true, Completed::Due) => Event::Completed,
            (true, _) => Event::None,
        }
    }

    /// When a dry swarm lets us ask again: sooner than the interval, more rarely the longer it stays dry.
    fn dry_due(&self) -> Option<Time> {
        let tracker = &self.trackers[self.current?];
        let wait = limits::ANNOUNCE_INTERVAL_MIN * (1 << self.thirst.min(10));
        Some(tracker.not_before.max(self.asked + wait))
    }

    fn announce(&mut self, at: usize, event: Event, facts: &Facts, timeout: Duration, now: Time) -> Announce {
        let tracker = &mut self.trackers[at];
        tracker.out = Some(event);
        tracker.not_before = now + limits::ANNOUNCE_INTERVAL_MIN;
        self.asked = now;
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

    /// One after another to each tracker, to all trackers at once.
    fn poll_stop(&mut self, facts: &Facts, now: Time) -> Option<Announce> {
        let ready = |t: &Tracker| t.started && !t.stopped && t.out.is_none();
        let heir = self.current.filter(|at| self.completed == Completed::Due && ready(&self.trackers[*at]));
        if let Some(at) = heir {
            return Some(self.announce(at, Event::Completed, facts, limits::COMPLETED_TIMEOUT, now));
        }
        let at = self.trackers.iter().position(ready)?;
        Some(self.announce(at, Event::Stopped, facts, limits::STOP_TIMEOUT, now))
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
        (self.current, self.failure) = (Some(at), None);
        self.due = if self.completed == Completed::Due { now } else { now + interval.max(least) };
        self.move_to_front(at);
        self.warning = response.warning;
        let news = self.warning.clone().map(|words| {
            let url = self.trackers[at].url.to_string();
            (words.clone(), News::Warning { url, words })
        });
        Outcome { peers: response.peers, external_ip: response.external_ip, news: self.unsaid(at, news) }
    }

    fn on_failure(&mut self, at: usize, event: Event, failure: TrackerFailure, now: Time) -> Outcome {
        let quarter = self.rng.below(256);
        let tracker = &mut self.trackers[at];
        tracker.failures = tracker.failures.saturating_add(1);
        let wait = limits::ANNOUNCE_RETRY * (1 << (tracker.failures - 1).min(10));
        let wait = wait.min(limits::ANNOUNCE_RETRY_MAX);
        let unsupported = matches!(failure, TrackerFailure::Unsupported(_));
        tracker.retry = if unsupported { Time::NEVER } else { now + wait + wait * quarter / 1024 };
        match (event, self.stopping) {
            (Event::Stopped, _) => tracker.stopped = true,
            // There is no time for another try: what is left is to leave.
            (Event::Completed, true) => self.completed = Completed::Said,
            _ => {}
        }
        self.due = now;
        if self.current == Some(at) {
            (self.current, self.warning) = (None, None);
        }
        let alone = self.current.is_none() && self.trackers.iter().all(|t| t.retry > now);
        let url = self.trackers[at].url.to_string();
        let news = News::Failed { url, failure: failure.clone(), alone };
        // One kind of URL less is no news as long as others can be spoken to.
        let quiet = unsupported && self.trackers.iter().any(|t| t.retry != Time::NEVER);
        let news = if quiet { None } else { self.unsaid(at, Some((failure.to_string(), news))) };
        self.remember(at, failure);
        Outcome { news, ..Outcome::default() }
    }

    /// Keeps the failure that says most for [`Announcer::status`]: a tracker's own words before a dead one, and
    /// anything before a URL that we cannot use.
    fn remember(&mut self, at: usize, failure: TrackerFailure) {
        let weight = |f: &TrackerFailure| match f {
            TrackerFailure::Unsupported(_) => 0,
            TrackerFailure::Network(_) | TrackerFailure::Answer(_) => 1,
            TrackerFailure::Refused(_) => 2,
        };
        let old = self.failure.as_ref().filter(|(of, _)| *of != at).map_or(0, |(_, f)| weight(f));
        if self.current.is_none() && weight(&failure) >= old {
            self.failure = Some((at, failure));
        }
    }

    /// The news, unless it is what was said last about this tracker.
    fn unsaid(&mut self, at: usize, news: Option<(String, News)>) -> Option<News> {
        let (line, news) = news.unzip();
        let said = std::mem::replace(&mut self.trackers[at].said, line);
        news.filter(|_| said != self.trackers[at].said)
    }

    /// BEP 12: the tracker that answered becomes the first of its tier.
    fn move_to_front(&mut self, at: usize) {
        for tier in &mut self.tiers {
            if let Some(place) = tier.iter().position(|&t| t == at) {
                tier[..=place].rotate_right(1);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn urls(names: &[&str]) -> Vec<Url> {
        names
            .iter()
            .map(|name| Url::parse(&format!("http://{name}/announce?passkey=0123456789")).unwrap())
            .collect()
    }

    fn facts(left: u64) -> Facts {
        Facts {
            info_hash: InfoHash([1; 20]),
            peer_id: [2; 20],
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left,
            peers_wanted: 1000,
            dry: false,
        }
    }

    fn fine(secs: u64) -> Result<Response, TrackerFailure> {
        Ok(Response { interval: Duration::from_secs(secs), ..Response::default() })
    }

    fn dead() -> Result<Response, TrackerFailure> {
        Err(TrackerFailure::Network("cannot connect".into()))
    }

    /// One torrent, and what was said to whom when.
    struct World {
        announcer: Announcer,
        names: Vec<String>,
        now: Time,
        facts: Facts,
        said: Vec<(String, Event, Time, Request)>,
        news: Vec<News>,
    }

    impl World {
        fn new(tiers: &[&[&str]]) -> World {
            let trackers: Vec<Vec<Url>> = tiers.iter().map(|names| urls(names)).collect();
            let announcer = Announcer::new(&trackers, 77, &mut Rng::new([3; 32]), Time::ZERO);
            let names = tiers.concat().iter().map(|name| name.to_string()).collect();
            World { announcer, names, now: Time::ZERO, facts: facts(100), said: vec![], news: vec![] }
        }

        /// Runs until `until`; `answer` is the trackers.
        fn run(
            &mut self,
            until: Time,
            mut answer: impl FnMut(&str, &Request, Time) -> Result<Response, TrackerFailure>,
        ) {
            loop {
                while let Some(announce) = self.announcer.poll(self.now, &self.facts) {
                    let name = self.names[announce.tracker as usize].clone();
                    assert!(announce.url.to_string().contains(&name));
                    let event = announce.request.event;
                    self.said.push((name.clone(), event, self.now, announce.request.clone()));
                    let result = answer(&name, &announce.request, self.now);
                    self.now += Duration::from_millis(100);
                    let outcome = self.announcer.on_reply(announce.tracker, result, self.now).unwrap();
                    self.news.extend(outcome.news);
                }
                match self.announcer.deadline() {
                    Some(at) if at <= until => {
                        assert!(at > self.now || self.announcer.poll(self.now, &self.facts).is_none());
                        self.now = self.now.max(at);
                    }
                    _ => break,
                }
            }
            self.now = self.now.max(until);
        }

        fn events(&self) -> Vec<(&str, Event)> {
            self.said.iter().map(|(name, event, ..)| (name.as_str(), *event)).collect()
        }

        fn leave(&mut self, answer: impl FnMut(&str, &Request, Time) -> Result<Response, TrackerFailure>) {
            self.announcer.stop();
            self.run(self.now, answer);
            assert!(self.announcer.stopping_done());
        }
    }

    fn after(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_plain_life_is_started_intervals_completed_stopped() {
        let mut world = World::new(&[&["a"]]);
        world.run(after(3700), |_, _, _| fine(1800));
        world.facts.left = 0;
        world.announcer.on_complete(world.now);
        world.announcer.on_complete(world.now);
        world.run(after(3700), |_, _, _| fine(1800));
        world.announcer.on_complete(world.now);
        world.run(after(5600), |_, _, _| fine(1800));
        world.leave(|_, _, _| fine(1800));
        let events: Vec<Event> = world.said.iter().map(|s| s.1).collect();
        let (none, started, completed) = (Event::None, Event::Started, Event::Completed);
        assert_eq!(events, [started, none, none, completed, none, Event::Stopped]);
        assert!(world.said.iter().all(|s| s.3.key == 77));
        let wants: Vec<u32> = world.said.iter().map(|s| s.3.numwant).collect();
        assert_eq!((wants[0], wants[5]), (limits::NUMWANT_MAX, 0));
        assert_eq!((world.announcer.unreached(), world.announcer.deadline()), (0, None));
    }

    #[test]
    fn who_was_complete_at_the_start_does_not_say_completed() {
        let mut world = World::new(&[&["a"]]);
        world.facts.left = 0;
        world.run(after(10), |_, _, _| fine(1800));
        world.announcer.on_complete(world.now);
        world.run(after(4000), |_, _, _| fine(1800));
        assert!(world.said.iter().all(|s| s.1 != Event::Completed));
    }

    #[test]
    fn the_end_of_a_download_is_told_even_at_once_before_leaving() {
        for failures in 0..2 {
            let mut world = World::new(&[&["a"]]);
            let first = world.announcer.poll(world.now, &world.facts).unwrap();
            world.announcer.on_complete(world.now);
            world.announcer.stop();
            assert!(world.announcer.poll(world.now, &world.facts).is_none());
            assert!(!world.announcer.stopping_done());
            let result = if failures == 0 { fine(1800) } else { dead() };
            world.announcer.on_reply(first.tracker, result, world.now);
            world.leave(|_, r, _| {
                assert_eq!(r.numwant, 0);
                fine(1800)
            });
            let expected: &[_] =
                if failures == 0 { &[("a", Event::Completed), ("a", Event::Stopped)] } else { &[] };
            assert_eq!(world.events(), expected);
        }
    }

    #[test]
    fn completed_is_not_lost_when_a_tracker_fails() {
        let mut world = World::new(&[&["a"], &["b"]]);
        world.run(after(10), |_, _, _| fine(1800));
        world.facts.left = 0;
        world.announcer.on_complete(world.now);
        let mut down = 0;
        world.run(after(1000), |name, _, _| {
            down += 1;
            if name == "a" || down < 6 { dead() } else { fine(1800) }
        });
        let done: Vec<_> =
            world.said.iter().filter(|s| s.1 == Event::Completed).map(|s| s.0.as_str()).collect();
        assert_eq!(done.last(), Some(&"b"), "{:?}", world.events());
        world.run(after(9000), |_, _, _| fine(1800));
        assert_eq!(world.said.iter().filter(|s| s.1 == Event::Completed && s.0 == "b").count(), 1);
    }

    #[test]
    fn tiers_are_tried_as_bep_12_says() {
        let mut world = World::new(&[&["a", "b", "c"], &["d"]]);
        world.run(after(10), |name, _, _| if name == "d" { fine(1800) } else { dead() });
        let order: Vec<String> = world.said.iter().map(|s| s.0.clone()).collect();
        assert_eq!((order.len(), order[3].as_str()), (4, "d"));
        let mut first = order[..3].to_vec();
        first.sort();
        assert_eq!(first, ["a", "b", "c"]);
        // The next round starts in the first tier again; who answers there stays first.
        let alive = order[2].clone();
        world.said.clear();
        world.run(after(4000), |name, _, _| if name == alive { fine(1800) } else { dead() });
        assert_eq!(world.said[0].0, order[0]);
        world.said.clear();
        world.run(after(8000), |_, _, _| fine(1800));
        assert!(world.said.iter().all(|s| s.0 == alive) && world.said.len() == 2);
        assert_eq!(world.announcer.unreached(), 2);
        world.said.clear();
        world.leave(|name, _, _| if name == "d" { dead() } else { fine(1800) });
        assert_eq!((world.said.len(), world.announcer.unreached()), (2, 1));
    }

    #[test]
    fn the_order_within_a_tier_is_drawn_and_tiers_keep_theirs() {
        let mut firsts = [0; 3];
        for seed in 0..30 {
            let tiers = [urls(&["a", "b", "c"]), urls(&["d"])];
            let announcer = Announcer::new(&tiers, 0, &mut Rng::new([seed; 32]), Time::ZERO);
            firsts[announcer.tiers[0][0]] += 1;
            assert_eq!(announcer.tiers[1], [3]);
        }
        assert!(firsts.iter().all(|&n| n > 3), "{firsts:?}");
    }

    #[test]
    fn a_url_that_comes_twice_is_one_tracker_and_too_many_are_left_out() {
        let many: Vec<String> = (0..2 * limits::TRACKERS_MAX).map(|n| format!("t{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let tiers = [urls(&["a", "a"]), urls(&["a"]), urls(&many)];
        let announcer = Announcer::new(&tiers, 0, &mut Rng::new([1; 32]), Time::ZERO);
        assert_eq!((announcer.trackers.len(), announcer.tiers[0].len()), (limits::TRACKERS_MAX, 1));
        let none = Announcer::new(&[], 0, &mut Rng::new([1; 32]), Time::ZERO);
        assert_eq!((none.deadline(), none.status()), (None, None));
    }

    #[test]
    fn failures_back_off_to_half_an_hour_and_success_resets() {
        let mut world = World::new(&[&["a"]]);
        world.run(after(5 * 3600), |_, _, _| dead());
        let gaps: Vec<u64> = world.said.windows(2).map(|w| w[1].2.since(w[0].2).as_secs()).collect();
        assert!(gaps[0] >= 60 && gaps.windows(2).take(4).all(|w| w[1] > w[0] * 3 / 2), "{gaps:?}");
        let max = limits::ANNOUNCE_RETRY_MAX.as_secs();
        assert!(gaps[6..].iter().all(|&gap| gap >= max && gap <= max * 5 / 4 + 1), "{gaps:?}");
        assert!(world.said.iter().all(|s| s.1 == Event::Started));
        assert_eq!(world.news.len(), 1);
        world.run(after(6 * 3600), |_, _, _| fine(600));
        world.said.clear();
        world.run(after(6 * 3600 + 750), |_, _, _| dead());
        assert!(world.said[1].2.since(world.said[0].2) <= limits::ANNOUNCE_RETRY * 3 / 2);
        assert_eq!(world.news.len(), 2);
    }

    #[test]
    fn a_hostile_interval_neither_hammers_nor_loses_us() {
        for secs in [0, 1, 59, 60, 86_400, u64::MAX] {
            let mut world = World::new(&[&["a"]]);
            world.facts.dry = true;
            world.run(after(86_400), |_, _, _| {
                let hostile = Duration::from_secs(secs);
                Ok(Response { interval: hostile, min_interval: Some(hostile), ..Response::default() })
            });
            assert!(world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= MINUTE), "{secs}");
            assert!(world.said.len() >= 4, "{secs}: {}", world.said.len());
        }
    }

    #[test]
    fn the_min_interval_holds_even_when_dry() {
        let mut world = World::new(&[&["a"]]);
        world.facts.dry = true;
        let min = Duration::from_secs(900);
        world.run(after(7200), |_, _, _| {
            Ok(Response { interval: MINUTE * 30, min_interval: Some(min), ..Response::default() })
        });
        assert!(world.said.len() > 5 && world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= min));
        let mut world = World::new(&[&["a"]]);
        world.run(after(7200), |_, _, _| {
            Ok(Response { interval: MINUTE, min_interval: Some(min), ..Response::default() })
        });
        assert!(world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= min));
    }

    #[test]
    fn a_dry_swarm_is_asked_sooner_but_ever_more_rarely() {
        let mut world = World::new(&[&["a"]]);
        world.run(after(300), |_, _, _| fine(1800));
        assert_eq!(world.said.len(), 1);
        world.facts.dry = true;
        world.run(after(1799), |_, _, _| fine(1800));
        assert!((3..=5).contains(&world.said.len()), "{:?}", world.events());
        assert_eq!(world.said[1].2, after(300));
        world.facts.dry = false;
        let before = world.said.len();
        world.run(world.now + MINUTE * 15, |_, _, _| fine(1800));
        assert!(world.said.len() <= before + 1);
    }

    #[test]
    fn the_tracker_id_goes_back_and_stays() {
        let mut world = World::new(&[&["a"]]);
        let mut first = true;
        world.run(after(7200), |_, _, _| {
            let tracker_id = std::mem::take(&mut first).then(|| b"\xffid".to_vec());
            Ok(Response { tracker_id, interval: MINUTE * 30, ..Response::default() })
        });
        let ids: Vec<_> = world.said.iter().map(|s| s.3.tracker_id.clone()).collect();
        assert_eq!(ids[0], None);
        assert!(ids.len() > 3 && ids[1..].iter().all(|id| id.as_deref() == Some(b"\xffid")));
    }

    #[test]
    fn a_tracker_that_we_cannot_speak_to_is_passed_over_quietly() {
        let unsupported = || Err(TrackerFailure::Unsupported("no UDP yet".into()));
        let mut world = World::new(&[&["u"], &["a"]]);
        world.run(after(7200), |name, _, _| if name == "u" { unsupported() } else { fine(1800) });
        assert_eq!(world.said.iter().filter(|s| s.0 == "u").count(), 1);
        assert_eq!((world.news.len(), world.announcer.status()), (0, None));
        let mut world = World::new(&[&["u", "v"]]);
        world.run(after(7200), |_, _, _| unsupported());
        assert_eq!((world.said.len(), world.news.len(), world.announcer.deadline()), (2, 1, None));
        assert!(matches!(&world.news[0], News::Failed { alone: true, .. }));
        assert!(world.announcer.status().unwrap().contains("no UDP yet"));
    }

    #[test]
    fn what_the_tracker_says_is_shown_and_told_once_a_change() {
        let mut world = World::new(&[&["a"]]);
        let refused = |words: &str| Err(TrackerFailure::Refused(words.into()));
        world.run(after(3600), |_, _, _| refused("unregistered torrent"));
        assert_eq!(world.announcer.status().unwrap(), "the tracker says: unregistered torrent");
        world.run(after(7200), |_, _, _| refused("try later"));
        assert_eq!(world.news.len(), 2);
        let warn = |_: &str, _: &Request, _: Time| {
            let warning = Some("old client".to_string());
            Ok(Response { warning, interval: MINUTE, ..Response::default() })
        };
        world.run(after(14_400), warn);
        assert_eq!(world.news.len(), 3);
        assert!(matches!(&world.news[2], News::Warning { words, .. } if words == "old client"));
        assert_eq!(world.announcer.status().unwrap(), "the tracker says: old client");
        world.run(after(20_000), |_, _, _| fine(1800));
        assert_eq!(world.announcer.status(), None);
        assert!(world.news.iter().all(|news| !format!("{news:?}").contains("0123456789")));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_dropped() {
        let mut world = World::new(&[&["a"]]);
        assert!(world.announcer.on_reply(0, fine(1), Time::ZERO).is_none());
        assert!(world.announcer.on_reply(9, fine(1), Time::ZERO).is_none());
        assert_eq!(world.announcer.unreached(), 0);
    }

    #[test]
    fn any_luck_keeps_the_rules() {
        for seed in 0..50 {
            let mut rng = Rng::new([seed; 32]);
            let mut world = World::new(&[&["a", "b"], &["c", "d", "e"], &["f"]]);
            let (mut knows, mut completed) = (std::collections::BTreeSet::new(), 0);
            let mut luck = |name: &str, request: &Request, _: Time| {
                assert!(request.event != Event::Started || !knows.contains(name), "started twice");
                assert!(request.event == Event::Started || knows.contains(name), "{:?} first", request.event);
                let result = match rng.below(4) {
                    0 => dead(),
                    1 => Err(TrackerFailure::Answer("junk".into())),
                    _ => fine(rng.u64() >> rng.below(64)),
                };
                if result.is_ok() {
                    completed += u32::from(request.event == Event::Completed);
                    knows.insert(name.to_string());
                }
                result
            };
            for step in 1..40 {
                world.facts.dry = step % 3 == 0;
                world.run(after(step * 1000), &mut luck);
                if step == 20 {
                    world.facts.left = 0;
                    world.announcer.on_complete(world.now);
                }
            }
            world.leave(&mut luck);
            assert_eq!(completed, 1);
            for name in &world.names {
                let at: Vec<Time> =
                    world.said.iter().filter(|s| s.0 == *name && s.1 == Event::None).map(|s| s.2).collect();
                assert!(at.windows(2).all(|w| w[1].since(w[0]) >= MINUTE));
                let stops = world.said.iter().filter(|s| s.0 == *name && s.1 == Event::Stopped).count();
                assert_eq!(stops, usize::from(knows.contains(name)));
            }
        }
    }
}
