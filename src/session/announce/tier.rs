//! One tier of trackers (BEP 12): the order in which they are tried, and when. Each tier is announced to by itself.

use super::{Completed, Tracker};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use crate::proto::tracker::Event;

/// Trackers by number, in the order in which they are tried, and the state of their announces.
pub(super) struct Tier {
    order: Vec<usize>,
    /// When to announce next; while it fails, when to look for a tracker again.
    pub(super) due: Time,
    /// When to ask because the swarm is dry.
    dry: Option<Time>,
    /// How many announces in a row were made because it was.
    thirst: u32,
    /// The tracker that answered last, and when one was asked.
    pub(super) current: Option<usize>,
    asked: Time,
    /// The tracker that failed, or was passed over, a moment ago.
    pub(super) fell: Option<usize>,
    pub(super) completed: Completed,
    /// What its tracker had to say beside the peers.
    pub(super) warning: Option<String>,
}

impl Tier {
    /// The order is drawn now.
    pub(super) fn new(mut order: Vec<usize>, rng: &mut Rng, now: Time) -> Tier {
        rng.shuffle(&mut order);
        Tier {
            order,
            due: now,
            dry: None,
            thirst: 0,
            current: None,
            asked: now,
            fell: None,
            completed: Completed::No,
            warning: None,
        }
    }

    /// Its trackers, in the order in which they are tried.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The torrent starts again: no tracker knows us.
    pub(super) fn restart(&mut self, now: Time) {
        (self.due, self.current) = (now, None);
    }

    /// When it is to be looked at again, should nothing happen.
    pub(super) fn deadline(&self, trackers: &[Tracker]) -> Option<Time> {
        let next = self.dry.map_or(self.due, |dry| dry.min(self.due));
        (next != Time::NEVER && !self.is_waiting(trackers)).then_some(next)
    }

    /// An answer is due that the others of the tier are not asked before.
    pub(super) fn is_waiting(&self, trackers: &[Tracker]) -> bool {
        self.order.iter().any(|at| trackers[*at].out.is_some_and(|out| !out.slow))
    }

    /// The tracker to announce to now, and the event; `is_dry` when peers are wanted before the interval is over.
    pub(super) fn poll(&mut self, trackers: &[Tracker], is_dry: bool, now: Time) -> Option<(usize, Event)> {
        self.dry = if is_dry { self.dry_due(trackers) } else { None };
        if !is_dry {
            self.thirst = 0;
        }
        let thirsty = self.dry.is_some_and(|at| at <= now && self.due > now);
        if self.due > now && !thirsty {
            return None;
        }
        let Some(at) = self.choose(trackers, now) else {
            let free = self.order.iter().map(|at| &trackers[*at]).filter(|t| t.out.is_none());
            self.due = free.map(|t| t.retry).min().unwrap_or(Time::NEVER);
            self.dry = None;
            return None;
        };
        let event = match trackers[at].started {
            false => Event::Started,
            true if self.must_complete(trackers) => Event::Completed,
            true => Event::None,
        };
        if event == Event::None && trackers[at].not_before > now {
            self.due = trackers[at].not_before;
            self.dry = None;
            return None;
        }
        self.thirst = if thirsty { self.thirst.saturating_add(1) } else { self.thirst };
        Some((at, event))
    }

    /// An announce goes out to one of its trackers.
    pub(super) fn on_asked(&mut self, now: Time) {
        (self.asked, self.fell) = (now, None);
    }

    /// This one answered: it is the first to be tried from now on.
    pub(super) fn on_answer(&mut self, at: usize) {
        if let Some(place) = self.order.iter().position(|other| *other == at) {
            self.order[..=place].rotate_right(1);
        }
        (self.current, self.fell) = (Some(at), None);
    }

    /// A call came to nothing: the next tracker is asked, unless this one was passed over and another has answered.
    pub(super) fn step_down(&mut self, at: usize, was_slow: bool, trackers: &[Tracker], now: Time) {
        if self.current == Some(at) {
            (self.current, self.warning) = (None, None);
        }
        let content = was_slow && self.current.is_some() && !self.must_complete(trackers);
        if !content || self.due == Time::NEVER {
            (self.due, self.fell) = (now, Some(at));
        }
    }

    /// `completed` is due, and no tracker of the tier is being told.
    pub(super) fn must_complete(&self, trackers: &[Tracker]) -> bool {
        let told = |at: &usize| trackers[*at].out.is_some_and(|out| out.event == Event::Completed);
        self.completed == Completed::Due && !self.order.iter().any(told)
    }

    /// The first tracker that is not known to be failing. For `completed` rather the one that followed the download,
    /// and after a failure the same host by another protocol.
    fn choose(&self, trackers: &[Tracker], now: Time) -> Option<usize> {
        let can = |at: usize| trackers[at].out.is_none() && trackers[at].retry <= now;
        let loyal = self.current.filter(|at| self.must_complete(trackers) && can(*at));
        let host = |at: usize| trackers[at].url.host();
        let beside = |at: usize| self.fell.is_some_and(|fell| at != fell && host(at) == host(fell));
        let mut order = self.order.iter().copied().filter(|at| can(*at));
        loyal.or_else(|| order.clone().find(|at| beside(*at))).or_else(|| order.next())
    }

    /// When a dry swarm lets us ask again: sooner than the interval, more rarely the longer it stays dry.
    fn dry_due(&self, trackers: &[Tracker]) -> Option<Time> {
        let tracker = &trackers[self.current?];
        let wait = limits::ANNOUNCE_INTERVAL_MIN * (1 << self.thirst.min(10));
        Some(tracker.not_before.max(self.asked + wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(seed: u8) -> Tier {
        Tier::new(vec![0, 1, 2], &mut Rng::new([seed; 32]), Time::ZERO)
    }

    #[test]
    fn the_order_of_a_tier_is_drawn() {
        let mut firsts = [0; 3];
        (0..30).for_each(|seed| firsts[tier(seed).order[0]] += 1);
        assert!(firsts.iter().all(|&n| n > 3), "{firsts:?}");
    }

    #[test]
    fn a_tracker_that_answers_is_first_and_the_others_keep_their_order() {
        let mut tier = tier(0);
        tier.order = vec![0, 1, 2];
        tier.on_answer(2);
        assert_eq!((tier.order(), tier.current), (&[2, 0, 1][..], Some(2)));
    }
}
