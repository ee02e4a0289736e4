//! The info dictionary for others (BEP 9). It is not in memory, so that a disk worker reads it; all peers together get so
//! much a second, one peer a part of that, and no more of it than it can need.

use super::super::Session;
use super::super::download::Checked;
use super::super::timers::Key;
use crate::api::{Action, DiskError, Job, PeerId, TorrentId};
use crate::base::rate::Bucket;
use crate::base::time::Time;
use crate::limits::{
    METADATA_COPIES, METADATA_PEER_BURST, METADATA_PEER_REST, METADATA_RATE, METADATA_READS_OUT,
    METADATA_REFUSALS_MAX, METADATA_REQUESTS_MAX,
};
use crate::proto::extended::Extension;
use crate::proto::extended::metadata::{Metadata, pieces, write};
use std::collections::{BTreeSet, VecDeque};

/// What goes out, to all peers.
pub(in super::super) struct Serving {
    pace: Bucket,
    /// Pieces that are being read.
    out: usize,
    /// Peers whose requests wait, in turn.
    line: VecDeque<PeerId>,
    /// Peers that have used up their rate, by the moment at which they may have more.
    resting: BTreeSet<(Time, PeerId)>,
    /// For [`super::super::timers`].
    armed: Time,
}

impl Serving {
    pub(in super::super) fn new(now: Time) -> Serving {
        Serving {
            pace: Bucket::new(METADATA_RATE, now),
            out: 0,
            line: VecDeque::new(),
            resting: BTreeSet::new(),
            armed: Time::NEVER,
        }
    }

    /// A peer with requests waits for its turn, or until its rate allows one.
    fn enqueue(&mut self, peer: PeerId, asks: &Asks, now: Time) {
        match asks.ready_at() {
            at if at > now => _ = self.resting.insert((at, peer)),
            _ => self.line.push_back(peer),
        }
    }

    /// Peers whose rest is over stand in line again. Gives the end of the next one's rest.
    fn wake(&mut self, now: Time) -> Time {
        while let Some((at, peer)) = self.resting.first().copied() {
            if at > now {
                return at;
            }
            self.resting.pop_first();
            self.line.push_back(peer);
        }
        Time::NEVER
    }
}

/// What one peer asked for.
#[derive(Debug, Default)]
pub(in super::super) struct Asks {
    waiting: VecDeque<u32>,
    /// How many requests were taken.
    taken: u32,
    /// How many were not.
    refused: u32,
    /// When all that was served would have been served at the peer's rate.
    paid_at: Time,
}

impl Asks {
    /// When the peer may have the next piece: some at once, then at its rate.
    fn ready_at(&self) -> Time {
        let burst = METADATA_PEER_REST * METADATA_PEER_BURST;
        Time(self.paid_at.0.saturating_sub(burst.as_micros() as u64))
    }

    /// One more piece is served.
    fn pay(&mut self, now: Time) {
        self.paid_at = self.paid_at.max(now) + METADATA_PEER_REST;
    }
}

impl Session {
    pub(super) fn on_metadata_request(&mut self, peer: PeerId, piece: u32, now: Time) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        let count = pieces(t.spec.meta.info_len);
        let full = p.asks.waiting.len() >= METADATA_REQUESTS_MAX;
        if piece >= count || full || p.asks.taken >= count.saturating_mul(METADATA_COPIES) {
            p.asks.refused += 1;
            if p.asks.refused > METADATA_REFUSALS_MAX {
                return Err("requests for metadata over and over");
            }
            self.reject_metadata(peer, piece, now);
            return Ok(());
        }
        p.asks.taken += 1;
        p.asks.waiting.push_back(piece);
        if p.asks.waiting.len() == 1 {
            let Some(p) = self.peers.get(peer) else { return Ok(()) };
            self.serving.enqueue(peer, &p.asks, now);
        }
        self.pump_serving(now);
        Ok(())
    }

    fn reject_metadata(&mut self, peer: PeerId, piece: u32, now: Time) {
        self.send_extended(peer, Extension::Metadata, write(&Metadata::Reject { piece }), now);
    }

    /// Has the next pieces read, as many as may be.
    fn pump_serving(&mut self, now: Time) {
        let rested = self.serving.wake(now);
        if rested != Time::NEVER {
            self.timers.arm(&mut self.serving.armed, rested, Key::Metadata);
        }
        while self.serving.out < METADATA_READS_OUT && !self.serving.line.is_empty() {
            if self.serving.pace.blocks(now) == 0 {
                let due = self.serving.pace.ready_at(now);
                return self.timers.arm(&mut self.serving.armed, due, Key::Metadata);
            }
            let Some(peer) = self.serving.line.pop_front() else { return };
            // A peer that is gone left its name here.
            let Some((t, p)) = self.swarm(peer) else { continue };
            let (Some(piece), Some(torrent)) = (p.asks.waiting.pop_front(), p.torrent) else { continue };
            let spec = t.spec.clone();
            p.asks.pay(now);
            if !p.asks.waiting.is_empty() {
                let Some(p) = self.peers.get(peer) else { continue };
                self.serving.enqueue(peer, &p.asks, now);
            }
            self.serving.out += 1;
            self.serving.pace.take(crate::proto::extended::metadata::PIECE.into());
            let lane = self.lanes.idlest();
            self.actions.push_back(Action::Job { lane, job: Job::Info { torrent, spec, peer, piece } });
        }
    }

    pub(in super::super) fn on_metadata_timer(&mut self, at: Time, now: Time) {
        if self.serving.armed == at {
            self.serving.armed = Time::NEVER;
            self.pump_serving(now);
        }
    }

    /// A worker has read a piece.
    pub(in super::super) fn on_info(
        &mut self,
        torrent: TorrentId,
        peer: PeerId,
        piece: u32,
        result: Result<Box<[u8]>, DiskError>,
        now: Time,
    ) {
        self.serving.out = self.serving.out.saturating_sub(1);
        if let Some((t, p)) = self.swarm(peer)
            && p.torrent == Some(torrent)
        {
            match result {
                Ok(data) => {
                    let message = Metadata::Data { piece, total: t.spec.meta.info_len, data: &data };
                    let body = write(&message);
                    // What goes out beside payload counts all the same.
                    self.throttle.take_upload(body.len() as u64);
                    self.send_extended(peer, Extension::Metadata, body, now);
                }
                Err(error) => {
                    log::warn!("{torrent} {error}");
                    self.reject_metadata(peer, piece, now);
                }
            }
        }
        self.pump_serving(now);
    }
}
