//! The rate limits of both directions, kept where work is asked for: blocks of ours that are read, requests that are
//! sent. Nothing is ever left in a socket for them. Peers take turns, so that each has its share.

use super::Session;
use super::timers::Key;
use super::web::slot_of;
use crate::api::PeerId;
use crate::base::buf::BLOCK;
use crate::base::rate::Bucket;
use crate::base::time::Time;
use crate::limits::ASK_AT_ONCE;
use std::collections::VecDeque;

/// The limits, and who waits for them.
pub(super) struct Throttle {
    down: Bucket,
    up: Bucket,
    /// Peers with room for requests, in turn.
    line: VecDeque<PeerId>,
    /// For [`super::timers`].
    requests_armed: Time,
    reads_armed: Time,
}

impl Throttle {
    pub(super) fn new(download: u64, upload: u64, now: Time) -> Throttle {
        Throttle {
            down: Bucket::new(download, now),
            up: Bucket::new(upload, now),
            line: VecDeque::new(),
            requests_armed: Time::NEVER,
            reads_armed: Time::NEVER,
        }
    }

    /// The limit of what comes in, in bytes a second; 0: there is none.
    pub(super) fn download_rate(&self) -> u64 {
        self.down.rate()
    }

    /// A thread of web seeds waits for its turn.
    pub(super) fn stand_in_line(&mut self, id: PeerId) {
        self.line.push_back(id);
    }

    pub(super) fn limits_requests(&self) -> bool {
        self.down.is_limited()
    }

    /// Requests that came to nothing; should their blocks come all the same, they are taken again.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.down.give_back(bytes);
    }

    pub(super) fn take_download(&mut self, bytes: u64) {
        self.down.take(bytes);
    }

    pub(super) fn take_upload(&mut self, bytes: u64) {
        self.up.take(bytes);
    }

    /// How many blocks one peer may have read in this turn: one under a limit, for then turns are what makes it fair.
    pub(super) fn reads(&mut self, now: Time) -> u32 {
        let blocks = self.up.blocks(now);
        if self.up.is_limited() { blocks.min(1) } else { blocks }
    }

    /// The same for requests: the more there is for each in the line, the fewer turns are needed.
    fn requests(&mut self, now: Time) -> u32 {
        let blocks = self.down.blocks(now);
        if blocks == 0 { 0 } else { (blocks / (self.line.len() as u32).max(1)).clamp(1, ASK_AT_ONCE) }
    }
}

impl Session {
    /// The peer may have room for requests: it has its turn when the limit allows.
    pub(super) fn stand_in_line(&mut self, peer: PeerId, now: Time) {
        let room = self.room(peer, now) > 0;
        if let Some(p) = self.peers.get_mut(peer)
            && room
            && !p.in_line
        {
            p.in_line = true;
            self.throttle.line.push_back(peer);
            self.pump_requests(now);
        }
    }

    /// How many more requests a peer may have open under the limit: no more than a second's worth of all that may
    /// come in, two at least.
    fn room(&self, peer: PeerId, now: Time) -> u32 {
        let Some(p) = self.peers.get(peer).filter(|p| p.may_be_asked(now)) else { return 0 };
        let second = u32::try_from(self.throttle.down.rate() / u64::from(BLOCK)).unwrap_or(u32::MAX);
        p.depth.min(second.max(2)).saturating_sub(p.asked.len() as u32)
    }

    pub(super) fn pump_requests(&mut self, now: Time) {
        while !self.throttle.line.is_empty() {
            let allowed = self.throttle.requests(now);
            if allowed == 0 {
                let due = self.throttle.down.ready_at(now);
                return self.timers.arm(&mut self.throttle.requests_armed, due, Key::Requests);
            }
            let Some(peer) = self.throttle.line.pop_front() else { return };
            if slot_of(peer).is_some() {
                let (bytes, more) = self.on_web_turn(peer, allowed, now);
                self.throttle.down.take(bytes);
                if more {
                    self.throttle.line.push_back(peer);
                }
                continue;
            }
            let room = self.room(peer, now);
            // A peer that is gone left its name here.
            let Some(p) = self.peers.get_mut(peer) else { continue };
            p.in_line = false;
            let bytes = self.ask(peer, room.min(allowed), now);
            self.throttle.down.take(bytes);
            if bytes > 0
                && self.room(peer, now) > 0
                && let Some(p) = self.peers.get_mut(peer)
            {
                p.in_line = true;
                self.throttle.line.push_back(peer);
            }
        }
    }

    pub(super) fn on_requests_timer(&mut self, at: Time, now: Time) {
        if self.throttle.requests_armed == at {
            self.throttle.requests_armed = Time::NEVER;
            self.pump_requests(now);
        }
    }

    /// Reads begin again when the limit allows.
    pub(super) fn wait_for_reads(&mut self, now: Time) {
        let due = self.throttle.up.ready_at(now);
        self.timers.arm(&mut self.throttle.reads_armed, due, Key::Reads);
    }

    pub(super) fn on_reads_timer(&mut self, at: Time, now: Time) {
        if self.throttle.reads_armed == at {
            self.throttle.reads_armed = Time::NEVER;
            self.pump_reads(now);
        }
    }
}
