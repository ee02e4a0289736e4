//! What waits for a free buffer, or for room in a channel.
//!
//! The quotas of the session add up to the size of the pool, and channels have room for all that can be outstanding,
//! so nothing waits here. But these counts follow what peers, servers and disks do, and a wrong one must not end the
//! process or lose a buffer: what finds no buffer waits for the next one that comes home, in order.

use super::{Lane, Reactor};
use crate::api::{Job, PeerId, TorrentId, WebOrder};
use crate::proto::layout::Block;
use crossbeam_channel::{Sender, TrySendError};
use std::collections::VecDeque;

/// Something that waits.
pub(super) enum Deferred {
    /// [`Action::Read`](crate::api::Action::Read): a buffer for each block.
    Read { lane: u8, torrent: TorrentId, peer: PeerId, blocks: Vec<Block> },
    /// [`Action::Lend`](crate::api::Action::Lend).
    Lend { slot: u8, count: u32 },
    /// [`Action::Web`](crate::api::Action::Web): it comes after what was lent before.
    Web { slot: u8, order: WebOrder },
    /// A connection whose next block is let in: a buffer for that.
    Block(PeerId),
}

/// The two channels of a disk worker, and jobs that found no room in them.
pub(super) struct Worker {
    urgent: Outgoing<Job>,
    checks: Outgoing<Job>,
}

impl Worker {
    pub(super) fn new(lane: Lane) -> Worker {
        Worker { urgent: Outgoing::new(lane.urgent), checks: Outgoing::new(lane.checks) }
    }

    /// Gives the worker a job, after those that wait.
    pub(super) fn give(&mut self, job: Job) {
        let to = if matches!(job, Job::Check { .. }) { &mut self.checks } else { &mut self.urgent };
        to.send(job);
    }

    fn retry(&mut self) {
        self.urgent.flush();
        self.checks.flush();
    }
}

/// A channel to another thread whose sender never waits.
struct Outgoing<T> {
    channel: Sender<T>,
    backlog: VecDeque<T>,
}

impl<T> Outgoing<T> {
    fn new(channel: Sender<T>) -> Outgoing<T> {
        Outgoing { channel, backlog: VecDeque::new() }
    }

    fn send(&mut self, value: T) {
        self.backlog.push_back(value);
        self.flush();
        if !self.backlog.is_empty() {
            unexpected("a channel has no room for what may be outstanding");
        }
    }

    fn flush(&mut self) {
        while let Some(value) = self.backlog.pop_front() {
            match self.channel.try_send(value) {
                Ok(()) => {}
                Err(TrySendError::Full(value)) => return self.backlog.push_front(value),
                // The thread has died by a panic, which is reported when it is joined.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// Something waits that should not have to. Tests stop here; the unit tests of the reactor make it happen.
fn unexpected(what: &str) {
    log::error!("{what}: waiting");
    if !cfg!(test) {
        debug_assert!(false, "{what}");
    }
}

impl Reactor {
    /// Carries out an action that needs free buffers, after those that wait.
    pub(super) fn act_with_buffers(&mut self, action: Deferred) {
        self.deferred.push_back(action);
        if self.deferred.len() == 1 {
            self.retry_deferred();
        }
        if !self.deferred.is_empty() {
            unexpected("there are fewer buffers than the session may use");
        }
    }

    /// Carries out what waited, as far as there are buffers and room now.
    pub(super) fn retry_deferred(&mut self) {
        self.workers.iter_mut().for_each(Worker::retry);
        while let Some(next) = self.deferred.pop_front() {
            if let Err(next) = self.try_deferred(next) {
                return self.deferred.push_front(next);
            }
        }
    }

    /// Carries out one action whole, or as much of it as is possible now: the rest is given back.
    fn try_deferred(&mut self, action: Deferred) -> Result<(), Deferred> {
        match action {
            Deferred::Read { lane, torrent, peer, blocks } => {
                if self.pool.free() < blocks.len() {
                    return Err(Deferred::Read { lane, torrent, peer, blocks });
                }
                let blocks =
                    blocks.into_iter().filter_map(|block| Some((block, self.pool.take()?))).collect();
                self.give(lane, Job::Read { torrent, peer, blocks });
                Ok(())
            }
            Deferred::Lend { slot, count } => {
                for lent in 0..count {
                    let rest = Deferred::Lend { slot, count: count - lent };
                    let Some(buf) = self.pool.take() else { return Err(rest) };
                    if let Err(WebOrder::Lend(buf)) = (self.links.web)(slot, WebOrder::Lend(buf)) {
                        self.pool.put(buf);
                        return Err(rest);
                    }
                }
                Ok(())
            }
            Deferred::Web { slot, order } => {
                (self.links.web)(slot, order).map_err(|order| Deferred::Web { slot, order })
            }
            Deferred::Block(peer) => {
                if self.pool.free() == 0 {
                    return Err(Deferred::Block(peer));
                }
                self.resumed.push(peer);
                Ok(())
            }
        }
    }
}
