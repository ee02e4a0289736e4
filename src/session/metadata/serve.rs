//! The info dictionary for others (BEP 9). It is not in memory, so that a disk worker reads it; all peers together get so
//! much a second, and one peer no more of it than it can need.

use super::super::Session;
use super::super::download::Checked;
use super::super::timers::Key;
use crate::api::{Action, DiskError, Job, PeerId, TorrentId};
use crate::base::rate::Bucket;
use crate::base::time::Time;
use crate::limits::{
    METADATA_COPIES, METADATA_RATE, METADATA_READS_OUT, METADATA_REFUSALS_MAX, METADATA_REQUESTS_MAX,
};
use crate::proto::extended::Extension;
use crate::proto::extended::metadata::{Metadata, pieces, write};
use std::collections::VecDeque;

/// What goes out, to all peers.
pub(in super::super) struct Serving {
    pace: Bucket,
    /// Pieces that are being read.
    out: usize,
    /// Peers whose requests wait, in turn.
    line: VecDeque<PeerId>,
    /// For [`super::super::timers`].
    armed: Time,
}

impl Serving {
    pub(in super::super) fn new(now: Time) -> Serving {
        Serving { pace: Bucket::new(METADATA_RATE, now), out: 0, line: VecDeque::new(), armed: Time::NEVER }
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
            self.serving.line.push_back(peer);
        }
        self.pump_serving(now);
        Ok(())
    }

    fn reject_metadata(&mut self, peer: PeerId, piece: u32, now: Time) {
        self.send_extended(peer, Extension::Metadata, write(&Metadata::Reject { piece }), now);
    }

    /// Has the next pieces read, as many as may be.
    fn pump_serving(&mut self, now: Time) {
        while self.serving.out < METADATA_READS_OUT && !self.serving.line.is_empty() {
            if self.serving.pace.blocks(now) == 0 {
                let due = self.serving.pace.ready_at(now);
                return self.timers.arm(&mut self.serving.armed, due, Key::Metadata);
            }
            let Some(peer) = self.serving.line.pop_front() else { return };
            // A peer that is gone left its name here.
            let Some((t, p)) = self.swarm(peer) else { continue };
            let (Some(piece), Some(torrent)) = (p.asks.waiting.pop_front(), p.torrent) else { continue };
            let (spec, more) = (t.spec.clone(), !p.asks.waiting.is_empty());
            if more {
                self.serving.line.push_back(peer);
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
