//! The end of a torrent's announces: all that know us are told, at the same time.

use super::{Announce, Announcer, Completed, Facts, Tracker};
use crate::base::time::Time;
use crate::limits;
use crate::proto::tracker::Event;

impl Announcer {
    /// The torrent ends: `completed` if that is due, then `stopped`, to those that know us and to no other. Each call
    /// is short, but one that was out before may last: the caller waits only as long as it likes.
    pub(in crate::session) fn stop(&mut self) {
        self.stopping = true;
    }

    /// The torrent goes on after [`Announcer::stop`]: `started` is due, also where `stopped` is still on its way.
    pub(in crate::session) fn restart(&mut self, now: Time) {
        self.stopping = false;
        self.tiers.iter_mut().for_each(|tier| tier.restart(now));
        for tracker in &mut self.trackers {
            (tracker.started, tracker.stopped) = (false, false);
        }
    }

    /// Whether [`Announcer::stop`] was called.
    pub(in crate::session) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether, after [`Announcer::stop`], all is said that can be. Who is slow is not waited for.
    pub(in crate::session) fn stopping_done(&self) -> bool {
        let said = |t: &Tracker| match t.out {
            Some(out) => out.slow,
            None => !t.started || t.stopped,
        };
        self.stopping && self.trackers.iter().all(said)
    }

    /// How many trackers believe that we are there still.
    pub(in crate::session) fn unreached(&self) -> u32 {
        self.trackers.iter().filter(|t| t.started).count() as u32
    }

    /// One after another to each tracker, to all trackers at once.
    pub(super) fn poll_stop(&mut self, facts: &Facts, now: Time) -> Option<Announce> {
        let ready = |t: &Tracker| t.started && !t.stopped && t.out.is_none();
        let due = self.tiers.iter().filter(|tier| tier.completed == Completed::Due);
        let mut heirs = due.filter_map(|tier| tier.current);
        if let Some(at) = heirs.find(|at| ready(&self.trackers[*at])) {
            return Some(self.announce(at, Event::Completed, facts, limits::COMPLETED_TIMEOUT, now));
        }
        let at = self.trackers.iter().position(ready)?;
        Some(self.announce(at, Event::Stopped, facts, limits::STOP_TIMEOUT, now))
    }
}
