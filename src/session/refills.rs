//! Requests that a message without payload makes possible: an unchoke, a HAVE, an allowed-fast piece. They cost the sender
//! a few bytes and us a pick, which takes 17 us with a million pieces. So each peer causes one pick in
//! [`REFILL_REST`] in this way, and all peers together [`PICKS_A_TURN`]; the others wait in a queue. Blocks that arrive
//! are not counted: they pay for their picks. The search for another piece that makes a peer interesting, after it has
//! lost the last one (BEP 54), costs as much and has the same budget.

use super::Session;
use super::timers::Key;
use crate::api::PeerId;
use crate::base::time::Time;
use crate::limits::{PICKS_A_TURN, REFILL_REST};
use std::collections::VecDeque;

/// The budget of all peers, and the queue for it.
pub(super) struct Refills {
    queue: VecDeque<PeerId>,
    /// When the current turn began.
    turn: Option<Time>,
    /// Picks of the current turn.
    picks: u32,
    /// For [`super::timers`].
    armed: Time,
}

/// A peer's part in it.
#[derive(Debug, Default)]
pub(super) struct RefillState {
    last: Option<Time>,
    is_queued: bool,
    /// An interesting piece is to be searched for, from this one on.
    search_from: Option<u32>,
}

/// Whether [`REFILL_REST`] has passed since then.
fn is_over(since: Option<Time>, now: Time) -> bool {
    since.is_none_or(|since| now >= since + REFILL_REST)
}

impl Refills {
    pub(super) fn new() -> Refills {
        Refills { queue: VecDeque::new(), turn: None, picks: 0, armed: Time::NEVER }
    }

    /// Takes one pick from the budget, if no peer waits for one.
    fn take(&mut self, now: Time) -> bool {
        if is_over(self.turn, now) {
            (self.turn, self.picks) = (Some(now), 0);
        }
        let allowed = self.queue.is_empty() && self.picks < PICKS_A_TURN;
        self.picks += u32::from(allowed);
        allowed
    }
}

impl Session {
    /// A message made it possible that this peer has something to be asked for: it is asked now or, beyond the budget,
    /// a moment later.
    pub(super) fn refill_soon(&mut self, peer: PeerId, now: Time) {
        if self.peers.get(peer).is_some_and(|p| p.may_be_asked(now)) {
            self.enqueue_refill(peer, now);
        }
    }

    /// The piece that made this peer interesting is lost: another one is searched for, in the same way.
    pub(super) fn search_lure_soon(&mut self, peer: PeerId, from: u32, now: Time) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.refills.search_from = Some(from);
            self.enqueue_refill(peer, now);
        }
    }

    fn enqueue_refill(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer).filter(|p| !p.refills.is_queued) else { return };
        if is_over(p.refills.last, now) && self.refills.take(now) {
            return self.refill_in_turn(peer, now);
        }
        p.refills.is_queued = true;
        self.refills.queue.push_back(peer);
        self.timers.arm(&mut self.refills.armed, now + REFILL_REST, Key::Refills);
    }

    /// What is paid from the budget.
    fn refill_in_turn(&mut self, peer: PeerId, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        p.refills.last = Some(now);
        p.refills.is_queued = false;
        if let Some(from) = p.refills.search_from.take() {
            p.lure = t.picker.lure(p.pieces(), from);
            self.update_interest(peer, now);
        }
        self.refill(peer, now);
    }

    pub(super) fn on_refills_timer(&mut self, at: Time, now: Time) {
        if self.refills.armed != at {
            return;
        }
        self.refills.armed = Time::NEVER;
        (self.refills.turn, self.refills.picks) = (Some(now), 0);
        while self.refills.picks < PICKS_A_TURN {
            let Some(peer) = self.refills.queue.pop_front() else { return };
            // A closed peer leaves its id in the queue.
            if self.peers.contains(peer) {
                self.refills.picks += 1;
                self.refill_in_turn(peer, now);
            }
        }
        if !self.refills.queue.is_empty() {
            self.timers.arm(&mut self.refills.armed, now + REFILL_REST, Key::Refills);
        }
    }
}
